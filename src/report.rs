//! What came of a turn: one entry a call, in call order, whatever happened.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::call::ToolCall;
use crate::effect::{Effect, Lane};
use crate::error::{Error, ErrorKind};
use crate::outcome::{Abort, Limit, NotStarted, Outcome, Rejected};
use crate::output::Output;
use crate::text::{Shown, Span};

/// How one call went.
///
/// Times are offsets from the start of the batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallReport {
    /// What the model asked.
    pub call: ToolCall,
    /// How it ended.
    pub outcome: Outcome,
    /// What the tool may change.
    pub effect: Effect,
    /// Which threads it ran on.
    pub lane: Lane,
    /// How often the handler was started: 2 retries are 3 attempts, 0 means it never ran.
    pub attempts: u32,
    /// When the call was handed in.
    pub submitted: Duration,
    /// When its handler first started.
    pub started: Option<Duration>,
    /// When it was settled.
    pub ended: Duration,
    /// What else is to be known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
}

/// Something to be known of a call beside its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "note", content = "detail", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Note {
    /// The output is the tool's fallback; what had happened instead.
    Fallback(Box<Outcome>),
    /// The output was cut; how many bytes it had.
    Cut(u64),
    /// An earlier call of the turn has the same id; its index.
    DuplicateId(usize),
    /// The result is that of an identical call, which ran once for both; its index.
    CoalescedWith(usize),
    /// The arguments were edited when the call was approved; what ran.
    Edited(String),
    /// Progress events that were dropped because they came too fast.
    ProgressDropped(u64),
    /// The outcome was replaced by the program after the run.
    Replaced,
}

impl CallReport {
    /// How long the call waited before its handler started, or was settled without starting.
    pub fn queue_wait(&self) -> Duration {
        self.started.unwrap_or(self.ended).saturating_sub(self.submitted)
    }

    /// How long the handler ran, with its retries and the waits between them; until the call was
    /// settled, where the handler went on. Zero when it never started.
    pub fn run_time(&self) -> Duration {
        self.started.map_or(Duration::ZERO, |started| self.ended.saturating_sub(started))
    }

    /// Whether the model is told of a failure.
    pub fn is_error(&self) -> bool {
        !self.outcome.is_success()
    }

    /// What the model is told: the tool's output, or a sentence that says what happened and what
    /// to do. Never empty for a failure.
    pub fn content(&self) -> Output {
        match &self.outcome {
            Outcome::Succeeded(output) => output.clone(),
            failure => Output::text(self.failure_text(failure)),
        }
    }

    fn failure_text(&self, outcome: &Outcome) -> String {
        let name = Name(self.call.name());
        match outcome {
            Outcome::Succeeded(output) => output.to_text(),
            Outcome::Failed(error) => match error.model_text() {
                text if text == error.kind().default_text() => format!("{name} {text}"),
                text => text.to_owned(),
            },
            Outcome::Panicked(_) => {
                format!("{name} failed: internal error; {}", self.advice("what it did"))
            }
            Outcome::TimedOut { limit, after, still_running } => {
                let after = Span(*after);
                let what = match limit {
                    Limit::Timeout => format!("{name} timed out after {after}"),
                    Limit::Deadline => {
                        format!("{name} was stopped by the deadline of the turn after {after}")
                    }
                };
                match self.effect {
                    Effect::ReadOnly => format!("{what}; it only reads, you may call it again"),
                    Effect::Idempotent => {
                        format!("{what}; calling it again with the same arguments is safe")
                    }
                    Effect::Mutating if *still_running => {
                        format!("{what} and may still complete; do not repeat it, check first")
                    }
                    Effect::Mutating => {
                        format!("{what} and may have taken effect; do not repeat it, check first")
                    }
                }
            }
            Outcome::Cancelled { started, abort } => {
                let why = match abort {
                    Some(abort) => format!("cancelled: {abort}"),
                    None => "cancelled".to_owned(),
                };
                if *started {
                    format!("{name} was {why}; {}", self.advice("it"))
                } else {
                    format!("not run: {why}")
                }
            }
            Outcome::NotStarted(reason) => not_started_text(reason, name),
            Outcome::Rejected(reason) => rejected_text(reason, name),
        }
    }

    fn advice(&self, what: &str) -> String {
        match self.effect {
            Effect::ReadOnly => "it only reads, you may call it again".to_owned(),
            Effect::Idempotent => "calling it again with the same arguments is safe".to_owned(),
            Effect::Mutating => {
                format!("{what} may have taken effect, do not repeat it, check first")
            }
        }
    }
}

fn not_started_text(reason: &NotStarted, name: Name<'_>) -> String {
    match reason {
        NotStarted::Deadline => {
            format!("not run: no time was left for {name}; you may call it again")
        }
        NotStarted::Timeout => {
            format!("not run: {name} could not be prepared in time; you may call it again")
        }
        NotStarted::Aborted(abort) => format!("not run: {abort}"),
        NotStarted::NotNeeded => "not run: other results were enough".to_owned(),
        NotStarted::Shutdown => "not run: the program is shutting down".to_owned(),
        NotStarted::NoThread => {
            format!("not run: the system is out of threads; you may call {name} again later")
        }
        NotStarted::KeyHeld { index, tool } => {
            let holder = match index {
                Some(index) => format!("call {index} ({})", Name(tool)),
                None => format!("an earlier call of {}", Name(tool)),
            };
            format!(
                "not run: {holder} did not end and still works on the same thing; check first, then you may call {name} again"
            )
        }
        NotStarted::GroupPaused => {
            format!(
                "not run: the backend of {name} asked to slow down; you may call it again later"
            )
        }
        NotStarted::Withheld(stop) => format!(
            "not run: your message was cut short or stopped ({}); call {name} again in a complete message",
            Name(stop)
        ),
        NotStarted::StreamBroken => {
            format!("not run: your message broke off; call {name} again in a complete message")
        }
        NotStarted::Deferred => "not run yet: a decision is pending".to_owned(),
    }
}

fn rejected_text(reason: &Rejected, name: Name<'_>) -> String {
    match reason {
        Rejected::UnknownTool { nearest, available, more } => {
            let mut text = format!("there is no tool {name}");
            if let Some(nearest) = nearest {
                text += &format!("; did you mean {nearest}?");
            }
            if available.is_empty() {
                return text + " There are no tools.";
            }
            if nearest.is_none() {
                text += ".";
            }
            text += &format!(" The tools are: {}", available.join(", "));
            if *more > 0 {
                text += &format!(" and {more} more");
            }
            text
        }
        Rejected::BadArguments(why) => format!("{name} was not run: {why}"),
        Rejected::TooManyCalls(limit) => {
            format!(
                "not run: at most {limit} calls a message are run; call {name} in another message"
            )
        }
        Rejected::Denied(why) if why.is_empty() => format!("{name} was not approved; do not retry"),
        Rejected::Denied(why) => format!("{name} was not approved: {why}"),
        Rejected::Busy => format!("not run: too much is going on; you may call {name} again later"),
        Rejected::AbandonedLimit => {
            format!("not run: too many earlier calls hang; you may call {name} again later")
        }
        Rejected::TooDeep(limit) => format!("not run: calls may be nested {limit} deep"),
        Rejected::WouldDeadlock(what) => {
            format!("not run: {name} would wait for {what}, which waits for it")
        }
        Rejected::CircuitOpen => {
            format!("not run: {name} failed repeatedly; try another way, or call it again later")
        }
    }
}

/// A name of the model's, fit for a sentence: escaped and at most 64 characters.
#[derive(Clone, Copy)]
struct Name<'a>(&'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("with an empty name");
        }
        Shown::new(self.0, 64).fmt(f)
    }
}

impl fmt::Display for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.satisfied, self.index) {
            (true, _) => f.write_str("other results were enough"),
            (false, Some(index)) => write!(f, "call {index} ({}) failed", Name(&self.cause)),
            (false, None) => f.write_str(&self.cause),
        }
    }
}

/// What came of one turn. Exactly one entry a call, in call order, on every path.
#[must_use = "a report holds the results; the model waits for every one of them"]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    calls: Vec<CallReport>,
    wall: Duration,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    aborted: Option<Abort>,
}

/// One result, for those who write their own messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CallResult<'a> {
    /// The call's id as the provider sent it, empty where it sent none.
    pub id: &'a str,
    /// The tool's name as the model wrote it.
    pub name: &'a str,
    /// What the model is told.
    pub content: Output,
    /// Whether it is a failure.
    pub is_error: bool,
}

impl Report {
    pub(crate) fn new(calls: Vec<CallReport>, wall: Duration, aborted: Option<Abort>) -> Self {
        Self { calls, wall, aborted }
    }

    /// The calls, in call order.
    pub fn calls(&self) -> &[CallReport] {
        &self.calls
    }

    /// How long the whole batch took.
    pub fn wall(&self) -> Duration {
        self.wall
    }

    /// How long the calls would have taken one after another: the sum of their run times.
    pub fn sequential(&self) -> Duration {
        self.calls.iter().map(CallReport::run_time).sum()
    }

    /// The estimated time saved: sequential less wall time, or zero.
    pub fn saved(&self) -> Duration {
        self.sequential().saturating_sub(self.wall)
    }

    /// Sequential by wall time; 1.0 for a batch that took no time.
    pub fn speedup(&self) -> f64 {
        if self.wall.is_zero() {
            return 1.0;
        }
        self.sequential().as_secs_f64() / self.wall.as_secs_f64()
    }

    /// What ended the batch before all its calls were done, if a policy did.
    pub fn aborted(&self) -> Option<&Abort> {
        self.aborted.as_ref()
    }

    /// Whether every call succeeded.
    pub fn all_succeeded(&self) -> bool {
        self.calls.iter().all(|call| call.outcome.is_success())
    }

    /// The calls that failed.
    pub fn failures(&self) -> impl Iterator<Item = &CallReport> {
        self.calls.iter().filter(|call| call.is_error())
    }

    /// The results in call order, for those who write their own messages.
    pub fn results(&self) -> impl ExactSizeIterator<Item = CallResult<'_>> {
        self.calls.iter().map(|call| CallResult {
            id: call.call.id(),
            name: call.call.name(),
            content: call.content(),
            is_error: call.is_error(),
        })
    }

    /// The report, or an error when a policy aborted the batch because of a failure.
    ///
    /// # Errors
    /// An aborted batch; [`Error::is_aborted`] holds.
    pub fn into_result(self) -> Result<Self, Error> {
        match &self.aborted {
            Some(abort) if !abort.satisfied => {
                Err(Error::new(ErrorKind::Aborted, format_args!("the batch was aborted: {abort}")))
            }
            _ => Ok(self),
        }
    }

    /// Replaces the outcome of the call at `index` before the reply is written, and notes it.
    /// Returns what it was; `None`, and nothing is changed, when there is no such call.
    pub fn replace(&mut self, index: usize, outcome: Outcome) -> Option<Outcome> {
        let call = self.calls.get_mut(index)?;
        if !call.notes.contains(&Note::Replaced) {
            call.notes.push(Note::Replaced);
        }
        Some(std::mem::replace(&mut call.outcome, outcome))
    }

    /// Passes every text the model would be told through `redact`, before the reply is written:
    /// outputs (media excepted) and the sentences of failures.
    pub fn redact(&mut self, mut redact: impl FnMut(&str) -> String) {
        for call in &mut self.calls {
            call.outcome.redact(&mut redact);
        }
    }
}

impl std::ops::Index<usize> for Report {
    type Output = CallReport;

    fn index(&self, index: usize) -> &CallReport {
        &self.calls[index]
    }
}

impl<'a> IntoIterator for &'a Report {
    type Item = &'a CallReport;
    type IntoIter = std::slice::Iter<'a, CallReport>;

    fn into_iter(self) -> Self::IntoIter {
        self.calls.iter()
    }
}
