//! What came of a turn: one entry a call, in call order, whatever happened.

mod words;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::call::ToolCall;
use crate::effect::{Effect, Lane};
use crate::error::{Error, ErrorKind};
use crate::json::canonical;
use crate::outcome::{Abort, Outcome};
use crate::output::Output;

/// How one call went.
///
/// Times are offsets from the start of the batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CallReport {
    /// What the model asked.
    pub call: ToolCall,
    /// How it ended.
    pub outcome: Outcome,
    /// What the tool may change; [`Effect::Mutating`] where there is no such tool.
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
    /// The whole of the cut output is in this file; see
    /// [`keep_cut_results_in`](crate::ExecutorBuilder::keep_cut_results_in).
    KeptIn(String),
    /// Images and documents of the output were left out, because it or its batch had too many; how
    /// many.
    MediaLeftOut(u64),
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
    /// That of a call that no executor was given.
    #[cfg(feature = "agent")]
    pub(crate) fn never_run(call: ToolCall, outcome: Outcome) -> Self {
        Self {
            call,
            outcome,
            effect: Effect::Mutating,
            lane: Lane::Blocking,
            attempts: 0,
            submitted: Duration::ZERO,
            started: None,
            ended: Duration::ZERO,
            notes: Vec::new(),
        }
    }

    /// Whether it is that of the call. A stream may have told another id, whoever parsed it may have
    /// spelled the arguments in another way, and an approver may have edited them.
    pub(crate) fn is_of(&self, call: &ToolCall) -> bool {
        let (ran, asked) = (self.call.arguments(), call.arguments());
        let is_edited = || self.notes.iter().any(|note| matches!(note, Note::Edited(_)));
        self.call.name() == call.name()
            && (ran == asked || is_edited() || canonical(ran) == canonical(asked))
    }

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
            // Its key function did.
            Outcome::Panicked(_) if self.attempts == 0 => {
                Output::text(words::not_begun(self.call.name()))
            }
            failure => Output::text(words::of(self.call.name(), self.effect, failure)),
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message_ended: Option<Duration>,
    /// What the calls' idempotency keys began with, of a turn that was resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seed: Option<String>,
}

/// One result, for those who write their own messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
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
        Self { calls, wall, aborted, message_ended: None, seed: None }
    }

    /// Settles a call after the run.
    pub(crate) fn settle(&mut self, index: usize, outcome: Outcome) {
        if let Some(call) = self.calls.get_mut(index) {
            call.outcome = outcome;
        }
    }

    /// Notes something of a call after the run.
    pub(crate) fn note(&mut self, index: usize, notes: Vec<Note>) {
        if let Some(call) = self.calls.get_mut(index) {
            call.notes.extend(notes);
        }
    }

    /// Takes over the calls at these places from a later run of the same turn, whose times follow
    /// this one's.
    pub(crate) fn merge(&mut self, later: Self, places: &[usize]) {
        for (index, mut call) in later.calls.into_iter().enumerate() {
            let Some(place) = self.calls.get_mut(index).filter(|_| places.contains(&index)) else {
                continue;
            };
            call.submitted = call.submitted.saturating_add(self.wall);
            call.started = call.started.map(|started| started.saturating_add(self.wall));
            call.ended = call.ended.saturating_add(self.wall);
            let mut notes = std::mem::take(&mut place.notes);
            call.notes.retain(|note| !notes.contains(note));
            notes.append(&mut call.notes);
            *place = CallReport { notes, ..call };
        }
        self.wall = self.wall.saturating_add(later.wall);
        self.aborted = self.aborted.take().or(later.aborted);
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
        let times = self.calls.iter().map(CallReport::run_time);
        times.fold(Duration::ZERO, Duration::saturating_add)
    }

    /// How long the batch would have taken, had its calls run one after another once the message
    /// was complete.
    pub(crate) fn one_by_one(&self) -> Duration {
        self.message_ended.unwrap_or_default().saturating_add(self.sequential())
    }

    /// The estimated time saved: that of the calls one after another less the wall time, or zero.
    /// For a batch that began before the message ended, both include the wait for it.
    pub fn saved(&self) -> Duration {
        self.one_by_one().saturating_sub(self.wall)
    }

    pub(crate) fn with_message_ended(mut self, ended: Option<Duration>) -> Self {
        self.message_ended = ended;
        self
    }

    pub(crate) fn with_seed(self, seed: String) -> Self {
        Self { seed: Some(seed), ..self }
    }

    pub(crate) fn take_seed(&mut self) -> Option<String> {
        self.seed.take()
    }

    /// When the model's message ended, complete or not, for a batch that began before.
    pub fn message_ended(&self) -> Option<Duration> {
        self.message_ended
    }

    /// The estimated time saved by starting calls before the message was complete: had all waited
    /// for it, the longest run would have begun then. Zero for a batch that didn't begin before.
    pub fn saved_by_early_start(&self) -> Duration {
        let Some(ended) = self.message_ended else { return Duration::ZERO };
        let longest = self.calls.iter().map(CallReport::run_time).max().unwrap_or_default();
        ended.saturating_add(longest).saturating_sub(self.wall)
    }

    /// How many times longer the calls would have taken one after another; 1.0 for a batch that
    /// took no time. Counted as for [`saved`](Self::saved).
    pub fn speedup(&self) -> f64 {
        if self.wall.is_zero() {
            return 1.0;
        }
        self.one_by_one().as_secs_f64() / self.wall.as_secs_f64()
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
    /// outputs (the bytes of media excepted) and what the sentences of failures are made of. What
    /// the operator reads, the details of an error and what a fallback stands for, is redacted,
    /// too. The calls themselves stay as the model wrote them.
    pub fn redact(&mut self, mut redact: impl FnMut(&str) -> String) {
        for call in &mut self.calls {
            call.outcome.redact(&mut redact);
            for note in &mut call.notes {
                if let Note::Fallback(instead) = note {
                    instead.redact(&mut redact);
                }
            }
        }
        if let Some(abort) = &mut self.aborted {
            abort.cause = redact(&abort.cause);
        }
    }
}

impl std::ops::Index<usize> for Report {
    type Output = CallReport;

    /// The call at `index` in the turn.
    ///
    /// # Panics
    /// Where the turn has no such call.
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

#[cfg(test)]
mod tests;
