//! A turn that waits for decisions from outside, kept as data.

use std::borrow::Borrow;
use std::collections::HashSet;

use log::Level;
use serde::{Deserialize, Serialize};

use crate::bound::{self, Taken};
use crate::call::ToolCall;
use crate::error::Error;
use crate::executor::approval::{self, Planned};
use crate::executor::attempt;
use crate::executor::say;
use crate::executor::settings::Random;
use crate::executor::{Executor, Run};
use crate::outcome::{NotStarted, Outcome, Rejected};
use crate::output::Output;
use crate::report::{CallReport, Report};
use crate::turn::Turn;

/// A turn some of whose calls wait for a decision or a result from outside. It can be stored as
/// JSON, and resumed by [`Executor::resume`] with the finished results kept.
///
/// Whoever resumes it twice runs its calls twice, so mark it as taken in your store first. The calls
/// have the same [idempotency keys](crate::CallContext::idempotency_key) then, so that a backend which
/// heeds them does once what was asked twice.
///
/// ```
/// use toolpool::{Approval, Executor, Resolution, Suspended, Tool, ToolCall, ToolSet, Turn};
///
/// let tools = ToolSet::new()
///     .with(Tool::new("look", "Looks", || Ok("seen")).read_only())
///     .with(Tool::new("pay", "Pays", || Ok("paid")).needs_approval());
/// let executor = Executor::builder(tools)
///     .approval(|requests| requests.iter().map(|_| Approval::Defer).collect())
///     .build()?;
/// let turn = Turn::from_calls([ToolCall::new("1", "look", ""), ToolCall::new("2", "pay", "")]);
///
/// let suspended = executor.run(&turn).into_suspended(&turn).expect("a call was deferred");
/// let stored = serde_json::to_string(&suspended)?;
///
/// let suspended: Suspended = serde_json::from_str(&stored)?;
/// assert_eq!(suspended.pending().map(|(index, _)| index).collect::<Vec<_>>(), [1]);
/// let report = executor.resume(&suspended, [(1, Resolution::Allow)])?.run();
/// assert_eq!(report[0].content().to_text(), "seen");
/// assert_eq!(report[1].content().to_text(), "paid");
/// assert_eq!(suspended.turn().reply(&report).len(), 3); // the message, and both results
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspended {
    turn: Box<Turn>,
    report: Report,
    /// What the calls' idempotency keys begin with. The report alone doesn't tell it from another:
    /// where nothing ran its times are short, and may be the same twice.
    seed: String,
}

/// What becomes of a call that was deferred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "resolution", content = "detail", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Resolution {
    /// It runs as the model asked; not for a [deferred tool](crate::Tool::deferred), which has no
    /// handler.
    Allow,
    /// It runs with these arguments instead, as JSON text.
    Edit(String),
    /// It doesn't run; the model is told the reason.
    Deny(String),
    /// It was done outside; this is its result, to which the limits of results apply.
    Answer(Output),
}

impl Suspended {
    /// The turn.
    pub fn turn(&self) -> &Turn {
        &self.turn
    }

    /// What is known so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The calls that wait, with their indices.
    pub fn pending(&self) -> impl Iterator<Item = (usize, &ToolCall)> {
        let calls = self.report.calls().iter().enumerate();
        calls.filter(|(_, call)| is_deferred(call)).map(|(index, call)| (index, &call.call))
    }
}

impl Report {
    /// The report of a turn some of whose calls were deferred, to be stored and resumed later. Where
    /// it comes of a resumed turn, of which calls still wait, `turn` is [`Suspended::turn`], and the
    /// calls keep their idempotency keys.
    ///
    /// # Errors
    /// The report itself, when no call was deferred; also when it is of another turn, which is logged as
    /// an error.
    pub fn into_suspended(mut self, turn: &Turn) -> Result<Suspended, Box<Self>> {
        let (calls, asked) = (self.calls(), turn.calls());
        if !calls.iter().any(is_deferred) {
            return Err(Box::new(self));
        }
        let mut pairs = calls.iter().zip(asked);
        if calls.len() != asked.len() || !pairs.all(|(report, call)| report.is_of(call)) {
            say::later(
                Level::Error,
                format_args!("a turn can't be suspended with another's report"),
            );
            return Err(Box::new(self));
        }
        let seed = self.take_seed().unwrap_or_else(|| format!("{:016x}", Random::default().next()));
        Ok(Suspended { turn: Box::new(turn.clone()), report: self, seed })
    }
}

fn is_deferred(call: &CallReport) -> bool {
    call.outcome == Outcome::NotStarted(NotStarted::Deferred)
}

/// A suspended turn with decisions: what [`Executor::resume`] is about to run.
#[derive(Debug)]
pub struct Resumed {
    report: Report,
    /// The calls that may run now.
    planned: Vec<(usize, Planned)>,
}

impl Resumed {
    /// Has the calls run, and gives the report of the whole turn. All calls are handed in, so that
    /// each keeps its place; those that don't run now are known.
    pub(super) fn run(self, run: impl FnOnce(Vec<Planned>) -> Report) -> Report {
        let Self { mut report, planned } = self;
        let known = |call: &CallReport| Planned::known(call.call.clone(), call.outcome.clone());
        let mut all: Vec<_> = report.calls().iter().map(known).collect();
        let mut places = Vec::new();
        for (index, call) in planned {
            all[index] = call;
            places.push(index);
        }
        report.merge(run(all), &places);
        report
    }
}

impl Executor {
    /// Goes on with a suspended turn: a run of the calls that are allowed now, whose settings are
    /// those of any [`Run`]. Its report is of the whole turn, with the finished results kept.
    ///
    /// The calls keep their places in the turn. Resumed twice they run twice, with the same
    /// [idempotency keys](crate::CallContext::idempotency_key) unless one of the runs has a
    /// [seed](Run::idempotency_seed) of its own: a backend that heeds them does it once. For one that
    /// doesn't, mark the turn as taken in your store first.
    ///
    /// The failure policy sees the whole turn, a call that failed before it was suspended or is
    /// denied now included. The decisions are the approval: nobody is asked again, and a call without
    /// a decision stays deferred.
    ///
    /// # Errors
    /// A resolution for a call that doesn't wait for one, or two for one call; edited arguments that
    /// are no JSON object; and a call of a [deferred tool](crate::Tool::deferred), which has no handler,
    /// that is to run.
    pub fn resume(
        &self,
        suspended: impl Borrow<Suspended>,
        resolutions: impl IntoIterator<Item = (usize, Resolution)>,
    ) -> Result<Run<'_, Resumed>, Error> {
        let suspended = suspended.borrow();
        let mut report = suspended.report.clone().with_seed(suspended.seed.clone());
        let (tools, settings) = (&self.tooling.set, &self.core.settings);
        let mut planned: Vec<(usize, Planned)> = Vec::new();
        let mut resolved = HashSet::new();
        let allowance = self.tooling.allowance();
        let mut answers = Vec::new();
        for (index, resolution) in resolutions {
            if !resolved.insert(index) {
                return Err(Error::input(format_args!("call {index} has two resolutions")));
            }
            if !report.calls().get(index).is_some_and(is_deferred) {
                return Err(Error::input(format_args!(
                    "no call with the index {index} waits for a resolution"
                )));
            }
            let call = &report[index].call;
            let at = tools.position(call.name());
            let has_no_handler = at.is_some_and(|at| tools.definitions()[at].is_deferred());
            if has_no_handler && matches!(resolution, Resolution::Allow | Resolution::Edit(_)) {
                return Err(Error::input(format_args!(
                    "the call with the index {index} can't run: {} has no handler; answer or deny it",
                    call.name()
                )));
            }
            let mut outcome = match resolution {
                Resolution::Answer(output) => {
                    let limits = &self.tooling.result_limits;
                    let own = at.and_then(|at| limits.get(at).cloned());
                    let limit = own.unwrap_or_else(|| settings.result_limit(None));
                    match bound::output(output, &limit, &allowance) {
                        Ok(bounded) => {
                            let (output, notes, taken) = attempt::delivered(bounded);
                            report.note(index, notes);
                            answers.push(taken);
                            Outcome::Succeeded(output)
                        }
                        Err(error) => Outcome::Failed(error),
                    }
                }
                Resolution::Deny(why) => Outcome::Rejected(Rejected::Denied(why)),
                Resolution::Allow => {
                    let call = approval::plan(std::slice::from_ref(call), index, tools, settings);
                    planned.extend(call.into_iter().map(|call| (index, call)));
                    continue;
                }
                Resolution::Edit(arguments) => {
                    let outcome = report[index].outcome.clone();
                    let mut edited =
                        Planned { known: false, ..Planned::known(call.clone(), outcome) };
                    approval::edit(&mut edited, index, arguments, tools, settings).map_err(
                        |why| {
                            Error::input(format_args!(
                                "the edited arguments of the call with the index {index} can't be \
                             read: {why}"
                            ))
                        },
                    )?;
                    planned.push((index, edited));
                    continue;
                }
            };
            settings.redact(&mut outcome);
            report.settle(index, outcome);
        }
        answers.into_iter().for_each(Taken::keep);
        Ok(Run::new(self, Resumed { report, planned }).idempotency_seed(suspended.seed.as_str()))
    }
}
