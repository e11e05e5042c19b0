//! The timeline as text: a bar a call.

use std::fmt;
use std::time::Duration;

use crate::outcome::{NotStarted, Outcome};
use crate::report::{CallReport, Report};
use crate::text::{Shown, Span};

const COLUMNS: usize = 100;
const NAME_COLUMNS: usize = 24;
const LEAST_BAR: usize = 10;

/// A report as a Gantt chart in text; printed with `{}`.
///
/// A line a call, in call order: its name, its wait (`░`) and its run (`█`) placed in time, how long
/// it ran, and for a failure the outcome's name. Names are escaped and cut, so nothing a model
/// writes can act on a terminal.
///
/// ```
/// # let report: toolpool::Report = serde_json::from_value(serde_json::json!({
/// #     "wall": {"secs": 0, "nanos": 602_000_000},
/// #     "calls": [
/// #         {"call": {"name": "get_customer", "arguments": "{}"}, "effect": "read_only",
/// #          "lane": "blocking", "attempts": 1, "submitted": {"secs": 0, "nanos": 0},
/// #          "started": {"secs": 0, "nanos": 0}, "ended": {"secs": 0, "nanos": 400_000_000},
/// #          "outcome": {"kind": "succeeded", "detail": {"type": "text", "text": "Ada"}}},
/// #         {"call": {"name": "get_tickets", "arguments": "{}"}, "effect": "read_only",
/// #          "lane": "blocking", "attempts": 1, "submitted": {"secs": 0, "nanos": 0},
/// #          "started": {"secs": 0, "nanos": 100_000_000},
/// #          "ended": {"secs": 0, "nanos": 602_000_000},
/// #          "outcome": {"kind": "panicked", "detail": null}}
/// #     ]
/// # })).unwrap();
/// assert_eq!(report.timeline().columns(80).to_string(), "\
/// 2 calls, 1 failed: wall 602 ms, sequential 902 ms, saved 300 ms, speed-up 1.5×
/// get_customer ██████████████████████            400 ms
/// get_tickets  ░░░░░████████████████████████████ 502 ms ✗ panicked (waited 100 ms)
/// ");
/// ```
#[derive(Debug, Clone)]
pub struct Timeline<'a> {
    report: &'a Report,
    columns: usize,
    ascii: bool,
}

impl Report {
    /// The report drawn as text, a bar a call.
    pub fn timeline(&self) -> Timeline<'_> {
        Timeline { report: self, columns: COLUMNS, ascii: false }
    }
}

impl Timeline<'_> {
    /// How wide it may be, in characters; from 40 to 1000, what is outside is taken for the
    /// nearest. Defaults to 100.
    #[must_use]
    pub fn columns(mut self, columns: usize) -> Self {
        self.columns = columns.clamp(40, 1000);
        self
    }

    /// Draws with ASCII characters only. Defaults to block characters.
    #[must_use]
    pub fn ascii(mut self) -> Self {
        self.ascii = true;
        self
    }

    fn signs(&self) -> Signs {
        if self.ascii {
            Signs { wait: '.', run: '#', failed: 'x', times: 'x' }
        } else {
            Signs { wait: '░', run: '█', failed: '✗', times: '×' }
        }
    }
}

struct Signs {
    wait: char,
    run: char,
    failed: char,
    times: char,
}

impl fmt::Display for Timeline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in wrapped(&self.header(), self.columns) {
            writeln!(f, "{}", line.trim_end())?;
        }
        if let Some(abort) = self.report.aborted() {
            let what = if abort.satisfied { "ended early" } else { "aborted" };
            let line = format!("{what}: {abort}");
            writeln!(f, "{}", Shown::new(&line, self.columns).ascii(self.ascii))?;
        }
        let calls = self.report.calls();
        let name_limit = NAME_COLUMNS.min(self.columns / 4);
        let shown = |call: &CallReport| {
            Shown::new(call.call.name(), name_limit).ascii(self.ascii).to_string()
        };
        let names: Vec<_> = calls.iter().map(shown).collect();
        let labels: Vec<_> = calls.iter().map(|call| self.label(call)).collect();
        let name_width = widest(&names);
        let room = self.columns - name_width - LEAST_BAR - 2;
        let label_width = widest(&labels).min(room);
        let bar_width = self.columns - name_width - label_width - 2;
        let end = calls.iter().map(|call| call.ended).fold(self.report.wall(), Duration::max);
        for ((call, name), label) in calls.iter().zip(&names).zip(&labels) {
            let bar = self.bar(call, end, bar_width);
            let label = Shown::new(label, label_width).to_string();
            writeln!(f, "{name:name_width$} {bar:bar_width$} {label}")?;
        }
        Ok(())
    }
}

impl Timeline<'_> {
    fn header(&self) -> String {
        let report = self.report;
        let count = report.calls().len();
        let mut header = format!("{count} call{}", if count == 1 { "" } else { "s" });
        let deferred = Outcome::NotStarted(NotStarted::Deferred);
        let waiting = report.failures().filter(|call| call.outcome == deferred).count();
        let failed = report.failures().count() - waiting;
        for (calls, what) in [(failed, "failed"), (waiting, "deferred")] {
            if calls > 0 {
                header += &format!(", {calls} {what}");
            }
        }
        header += &format!(": wall {}", Span(report.wall()));
        if let Some(ended) = report.message_ended() {
            header += &format!(", message {}", Span(ended));
        }
        header += &format!(
            ", sequential {}, saved {}, speed-up {:.1}{}",
            Span(report.one_by_one()),
            Span(report.saved()),
            report.speedup(),
            self.signs().times,
        );
        header
    }

    fn label(&self, call: &CallReport) -> String {
        let mut label = match call.started {
            None if call.is_error() => "not run".to_owned(),
            _ => Span(call.run_time()).to_string(),
        };
        if call.is_error() {
            label += &format!(" {} {}", self.signs().failed, call.outcome.name());
        }
        if matches!(call.outcome, Outcome::TimedOut { still_running: true, .. }) {
            label += ", still running";
        }
        if call.attempts > 1 {
            label += &format!(", {} attempts", call.attempts);
        }
        let wait = call.queue_wait();
        if wait >= Duration::from_millis(1) {
            label += &format!(" (waited {})", Span(wait));
        }
        label
    }

    /// The call placed in time, `width` characters being all of it. What ran has one at least.
    fn bar(&self, call: &CallReport, all: Duration, width: usize) -> String {
        let cell = |at: Duration| {
            let all = all.as_nanos().max(1);
            let cell = (at.as_nanos() * width as u128 + all / 2) / all;
            usize::try_from(cell).unwrap_or(width).min(width)
        };
        let signs = self.signs();
        let began = cell(call.submitted);
        let (started, ended) = match call.started {
            None => (cell(call.ended), 0),
            Some(started) => {
                let started = cell(started).min(width - 1);
                (started, cell(call.ended).max(started + 1))
            }
        };
        let sign = |at| match at {
            _ if at >= started && at < ended => signs.run,
            _ if at >= began && at < started => signs.wait,
            _ => ' ',
        };
        (0..started.max(ended)).map(sign).collect()
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn widest(texts: &[String]) -> usize {
    texts.iter().map(|text| width(text)).max().unwrap_or(0)
}

/// The text in lines of at most `columns` characters, broken after commas.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in text.split_inclusive(", ") {
        match lines.last_mut() {
            Some(line) if width(line) + width(part.trim_end()) <= columns => {
                line.push_str(part);
            }
            _ => lines.push(part.to_owned()),
        }
    }
    lines
}
