//! Batch work: one conversation a row, many at a time, that survives crashes.
//!
//! [`Rows`] lets an [`Agent`] answer a prompt for every row of an iterator, on threads of its own.
//! The provider's limits are heeded for all of them together: when it asks one to slow down, all
//! wait. With a journal a run that was killed goes on where it was: rows that are done aren't done
//! again, and a call that changes something is never repeated silently.
//!
//! ```
//! use toolpool::agent::Agent;
//! use toolpool::model::ScriptedModel;
//! use toolpool::rows::{Row, Rows};
//! use toolpool::{ToolSet, Wire};
//!
//! # let model = ScriptedModel::new(Wire::OpenAi)
//! #     .body(r#"{"choices":[{"finish_reason":"stop","message":{"content":"blue"}}]}"#)
//! #     .body(r#"{"choices":[{"finish_reason":"stop","message":{"content":"blue"}}]}"#);
//! let agent = Agent::builder(model, ToolSet::new()).system("Answer in one word.").build()?;
//! let rows = Rows::builder(&agent).threads(2).requests_per_minute(50).build()?;
//!
//! let questions = ["sky", "sea"].map(|of| Row::new(of, format!("What colour is the {of}?")));
//! let report = rows.run(questions, |result| {
//!     println!("{}: {:?}", result.key, result.answer());
//! })?;
//! assert_eq!((report.done, report.failed), (2, 0));
//! # Ok::<(), toolpool::Error>(())
//! ```
//!
//! # The journal
//!
//! An append-only file of JSON lines, each on the disk before the run goes on. Written down are: a
//! turn of the model before its calls run; an intent before a mutating call starts, and its result
//! when it ends; the messages of an answered turn; how a row ended. After a crash a row goes on
//! after its last answered turn. Of a turn whose calls had begun, results that are known are taken,
//! calls that hadn't started run, and a mutating call that had started and has no result is treated
//! as [`UnknownOutcome`] says. Calls that only read or are idempotent may run again. A row that
//! failed stays failed, unless the next run says [`retry_failed`](RowsBuilder::retry_failed). So does
//! one with a call that is deferred, because a row can't be resumed with decisions: it fails, and a run
//! with `retry_failed` asks for approval again.
//!
//! A journal belongs to one prompt, model and set of tools, and refuses others. One process uses it
//! at a time. What a mutating tool does in a nested batch belongs to the call around it.
//!
//! Needs the feature `agent`, which is on by default.

mod builder;
mod journal;
mod log;
mod pace;
mod paced;
mod record;
mod row;
mod state;

pub use builder::{RowsBuilder, UnknownOutcome};
pub use row::{Row, RowResult, RowsReport, Stopped};

use std::collections::HashSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, TrySendError};

use crate::agent::{Agent, AgentError, Conversation, End, Open};
use crate::error::{Error, ErrorKind, ToolError, ToolErrorKind};
use crate::outcome::Outcome;
use crate::turn::Usage;

use self::builder::Settings;
use self::journal::{Journal, States};
use self::log::RowLog;
use self::paced::Shared;
use self::record::Record;
use self::state::RowState;

/// Answers a prompt for every row of an iterator. See the [module](self).
pub struct Rows {
    agent: Agent,
    journal: Option<Arc<Journal>>,
    /// What the journal knew when it was opened.
    known: States,
    shared: Arc<Shared>,
    settings: Settings,
}

/// A row to work on, and what is known of it from an earlier run.
struct Job {
    row: Row,
    state: RowState,
}

/// What became of a row; nothing for one that was left to a later run.
type Done = Option<RowResult>;

impl Rows {
    /// Settings for batch work with this agent. Its stats count here, too.
    pub fn builder(agent: &Agent) -> RowsBuilder {
        RowsBuilder::new(agent.clone())
    }

    /// Works on all rows, and tells on this thread how each ended, in the order in which they end;
    /// rows that a journal knows to be done are told, too. The iterator is asked for a row, on this
    /// thread as well, when a thread is about to be free.
    ///
    /// Failures of rows are results; the run goes on.
    ///
    /// # Errors
    /// A journal that can't be written any more, and a system that gives no thread.
    pub fn run(
        mut self,
        rows: impl IntoIterator<Item = Row>,
        mut tell: impl FnMut(&RowResult),
    ) -> Result<RowsReport, Error> {
        let mut report = RowsReport::default();
        let mut known = std::mem::take(&mut self.known);
        let this = &self;
        let before = self.agent.stats();
        let threads = self.settings.threads;
        let (jobs, waiting) = crossbeam_channel::bounded::<Job>(threads);
        let (done, results) = crossbeam_channel::unbounded::<Done>();
        thread::scope(|scope| {
            let shared = Arc::clone(&self.shared);
            let unwinding = OnUnwind(move || shared.stop(Stopped::Cancelled));
            for n in 0..threads {
                let (waiting, done) = (waiting.clone(), done.clone());
                let thread = thread::Builder::new().name(format!("toolpool-row-{n}"));
                let started = thread.spawn_scoped(scope, move || this.work(&waiting, &done));
                if let Err(error) = started {
                    if n == 0 {
                        let why = format_args!("no thread for rows could be started: {error}");
                        return Err(Error::new(ErrorKind::Io, why));
                    }
                    break;
                }
            }
            drop((waiting, done));
            let mut take = |report: &mut RowsReport, result: Done| {
                self.take(report, result, &mut tell);
            };
            let mut seen = HashSet::new();
            for row in rows {
                if self.shared.stopped().is_some() {
                    break;
                }
                let state = known.remove(&row.key).unwrap_or_default();
                if !seen.insert(row.key.clone()) {
                    let why = "an earlier row has the same key".to_owned();
                    take(&mut report, self.counted(RowResult::new(row.key, Err(why))));
                    continue;
                }
                if let Some(result) = self.known(&row, &state) {
                    take(&mut report, self.counted(result));
                    continue;
                }
                let mut job = Job { row, state };
                // A full queue means that all threads are busy, so a result will come.
                while let Err(TrySendError::Full(back)) = jobs.try_send(job) {
                    job = back;
                    match results.recv() {
                        Ok(result) => take(&mut report, result),
                        Err(_) => break,
                    }
                }
                // Where rows come slowly, the queue is never full.
                results.try_iter().for_each(|result| take(&mut report, result));
            }
            drop(jobs);
            results.iter().for_each(|result| take(&mut report, result));
            drop(unwinding);
            Ok(())
        })?;
        if let Some(error) = self.journal.as_ref().and_then(|journal| journal.take_error()) {
            return Err(error);
        }
        report.stopped = self.shared.stopped();
        report.stats = difference(self.agent.stats(), &before);
        Ok(report)
    }

    fn take(&self, report: &mut RowsReport, result: Done, tell: &mut impl FnMut(&RowResult)) {
        let Some(result) = result else {
            report.unfinished += 1;
            return;
        };
        match result.is_done() {
            true => report.done += 1,
            false => report.failed += 1,
        }
        report.resumed += u64::from(result.resumed);
        report.unknown += u64::from(!result.unknown.is_empty());
        report.usage += result.usage;
        tell(&result);
    }

    /// Counts a failure of this run, on the thread that it happened on, so that no row begins
    /// after the last that was allowed. One of a run that was stopped already is left to a later
    /// run, unless the journal has the row's end.
    fn counted(&self, result: RowResult) -> Done {
        let fails = !result.is_done() && !result.resumed;
        let counts = !fails || self.shared.fails() || result.end.is_ok();
        counts.then_some(result)
    }

    fn work(&self, jobs: &Receiver<Job>, done: &Sender<Done>) {
        for job in jobs {
            let key = job.row.key.clone();
            let result = catch_unwind(AssertUnwindSafe(|| match self.shared.stopped() {
                Some(_) => None,
                None => self.process(job),
            }));
            let result = result.unwrap_or_else(|payload| {
                std::mem::forget(payload);
                self.counted(RowResult::new(key, Err("the row panicked".to_owned())))
            });
            if done.send(result).is_err() {
                return;
            }
        }
    }

    /// How a row ended in an earlier run.
    fn known(&self, row: &Row, state: &RowState) -> Done {
        let changed = state.prompt.as_ref().is_some_and(|prompt| *prompt != row.digest());
        let ended = match (&state.end, &state.failed) {
            _ if changed => Err("the journal began the row with another prompt".to_owned()),
            (Some(end), _) => Ok(end.clone()),
            (None, Some(why)) if !self.settings.retry_failed => Err(why.clone()),
            _ => return None,
        };
        let unknown = state.unknown.values().cloned().collect();
        Some(RowResult { resumed: !changed, unknown, ..RowResult::new(row.key.clone(), ended) })
    }

    fn process(&self, job: Job) -> Done {
        let Job { row, mut state } = job;
        let unknown = std::mem::take(&mut state.unknown);
        let log = self.journal.as_ref().map(|journal| RowLog::new(journal, &row, unknown));
        let mut conversation = self.agent.conversation();
        conversation.user(&row.prompt);
        let earlier = state.usage;
        let ended = match state.into_conversation(&mut conversation) {
            // A model of the caller's may panic here; what is known of the row stays known.
            Ok(open) => catch_unwind(AssertUnwindSafe(|| {
                self.converse(&row, &mut conversation, open, log.as_ref())
            }))
            .unwrap_or_else(|payload| {
                // Its drop may panic, too.
                std::mem::forget(payload);
                Err(Failure::Row("the model panicked".to_owned()))
            }),
            Err(why) => Err(Failure::Row(why.to_string())),
        };
        let mut usage = conversation.usage();
        usage = less(usage, earlier);
        let stopped = self.shared.stopped().is_some();
        let key = row.key.clone();
        let result = |end| {
            let unknown = log.as_ref().map(RowLog::unknown).unwrap_or_default();
            RowResult { usage, unknown, ..RowResult::new(key, end) }
        };
        let why = match ended {
            Ok(End::Cancelled) => {
                self.shared.stop(Stopped::Cancelled);
                return None;
            }
            Err(Failure::Journal) => return None,
            Err(Failure::Row(_)) if stopped => return None,
            Ok(end) if end.is_recorded() => {
                return self.counted(result(Ok(end)));
            }
            Ok(end) => end.to_string(),
            Err(Failure::Row(why)) => why,
        };
        let prompt = row.digest();
        let failed = self.counted(result(Err(why.clone())))?;
        if let Some(journal) = &self.journal {
            let record = Record::Failed { row: row.key, prompt, why };
            if journal.append(&record).is_err() {
                self.shared.stop(Stopped::Journal);
                return None;
            }
        }
        Some(failed)
    }

    fn converse(
        &self,
        row: &Row,
        conversation: &mut Conversation,
        open: Option<state::OpenTurn>,
        log: Option<&RowLog>,
    ) -> Result<End, Failure> {
        let mut run = self.agent.on(conversation).context(row.clone()).cancel(&self.shared.cancel);
        if let Some(log) = log {
            run = run.log(log);
        }
        let ended = match open {
            None => run.run(),
            Some(open) => run.reopen(self.reopened(open)?),
        };
        ended.map_err(|error: AgentError| {
            if self.journal.as_ref().is_some_and(|journal| journal.is_broken()) {
                self.shared.stop(Stopped::Journal);
                return Failure::Journal;
            }
            Failure::Row(error.to_string())
        })
    }

    /// A turn whose calls had begun, with what is known of them.
    fn reopened(&self, open: state::OpenTurn) -> Result<Open, Failure> {
        let (mut known, mut begun) = (Vec::new(), Vec::new());
        for (index, outcome) in open.calls {
            let tool = open.turn.calls().get(index).map_or("", |call| call.name());
            match (outcome, self.settings.unknown) {
                (Some(outcome), _) => {
                    known.push((index, self.agent.executor().or_fallback(tool, outcome)));
                }
                (None, UnknownOutcome::Retry) => begun.push((index, unknown(tool))),
                (None, UnknownOutcome::Tell) => known.push((index, unknown(tool))),
                (None, UnknownOutcome::Fail) => {
                    let why =
                        format!("the program stopped while {tool} ran; its outcome is unknown");
                    return Err(Failure::Row(why));
                }
            }
        }
        Ok(Open { turn: open.turn, known, begun })
    }
}

/// What the model is told of a call that had begun.
fn unknown(tool: &str) -> Outcome {
    let text = format!(
        "outcome unknown: the program stopped while {tool} ran; it may have taken effect, check before \
         repeating it"
    );
    Outcome::Failed(ToolError::new(ToolErrorKind::Other, text))
}

/// Runs when a panic passes through: rows that wait would hold it up.
struct OnUnwind<F: Fn()>(F);

impl<F: Fn()> Drop for OnUnwind<F> {
    fn drop(&mut self) {
        if thread::panicking() {
            (self.0)();
        }
    }
}

/// Why a row has no end.
enum Failure {
    Row(String),
    /// The journal failed, and with it the run.
    Journal,
}

impl End {
    /// Whether the journal has it with the row's last turn. The others leave the row to be gone
    /// on with.
    pub(super) fn is_recorded(&self) -> bool {
        matches!(
            self,
            Self::Answer(_)
                | Self::ToolEnded { .. }
                | Self::Refused(_)
                | Self::CutShort { .. }
                | Self::Repeated { .. }
        )
    }
}

fn less(usage: Usage, earlier: Usage) -> Usage {
    Usage {
        input_tokens: usage.input_tokens.saturating_sub(earlier.input_tokens),
        output_tokens: usage.output_tokens.saturating_sub(earlier.output_tokens),
        cache_read_tokens: usage.cache_read_tokens.saturating_sub(earlier.cache_read_tokens),
        cache_write_tokens: usage.cache_write_tokens.saturating_sub(earlier.cache_write_tokens),
        reasoning_tokens: usage.reasoning_tokens.saturating_sub(earlier.reasoning_tokens),
    }
}

fn difference(
    mut stats: crate::agent::AgentStats,
    before: &crate::agent::AgentStats,
) -> crate::agent::AgentStats {
    stats.turns -= before.turns;
    stats.calling_turns -= before.calling_turns;
    stats.calls -= before.calls;
    stats.failed_calls -= before.failed_calls;
    stats.wall -= before.wall;
    stats.sequential -= before.sequential;
    stats.saved -= before.saved;
    stats.saved_by_early_start -= before.saved_by_early_start;
    stats.usage = less(stats.usage, before.usage);
    stats
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows")
            .field("agent", &self.agent)
            .field("journal", &self.journal.as_ref().map(|journal| journal.path()))
            .field("threads", &self.settings.threads)
            .finish_non_exhaustive()
    }
}
