//! A turn that waits for decisions from outside, kept as data.

use serde::{Deserialize, Serialize};

use crate::call::ToolCall;
use crate::error::Error;
use crate::executor::Executor;
use crate::executor::approval::{self, Planned};
use crate::executor::collector::{self, Options};
use crate::outcome::{NotStarted, Outcome, Rejected};
use crate::output::Output;
use crate::report::{CallReport, Report};
use crate::turn::Turn;

/// A turn some of whose calls wait for a decision or a result from outside. It can be stored as
/// JSON, and resumed by [`Executor::resume`] with the finished results kept.
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
/// let report = executor.resume(suspended, [(1, Resolution::Allow)])?;
/// assert_eq!(report[0].content().to_text(), "seen");
/// assert_eq!(report[1].content().to_text(), "paid");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspended {
    turn: Turn,
    report: Report,
}

/// What becomes of a call that was deferred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "resolution", content = "detail", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Resolution {
    /// It runs as the model asked.
    Allow,
    /// It runs with these arguments instead, as JSON text.
    Edit(String),
    /// It doesn't run; the model is told the reason.
    Deny(String),
    /// It was done outside; this is its result.
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
    /// The report of a turn some of whose calls were deferred, to be stored and resumed later.
    ///
    /// # Errors
    /// The report itself, when no call was deferred.
    pub fn into_suspended(self, turn: &Turn) -> Result<Suspended, Box<Self>> {
        if self.calls().iter().any(is_deferred) {
            Ok(Suspended { turn: turn.clone(), report: self })
        } else {
            Err(Box::new(self))
        }
    }
}

fn is_deferred(call: &CallReport) -> bool {
    call.outcome == Outcome::NotStarted(NotStarted::Deferred)
}

impl Executor {
    /// Goes on with a suspended turn: runs the calls that are allowed now, and gives a report of
    /// the whole turn. Calls that aren't resolved stay deferred.
    ///
    /// # Errors
    /// A resolution for a call that doesn't wait for one.
    pub fn resume(
        &self,
        suspended: Suspended,
        resolutions: impl IntoIterator<Item = (usize, Resolution)>,
    ) -> Result<Report, Error> {
        let Suspended { turn: _, mut report } = suspended;
        let (tools, settings) = (&self.tooling.set, &self.core.settings);
        let mut planned = Vec::new();
        let mut places = Vec::new();
        for (index, resolution) in resolutions {
            let waits = report.calls().get(index).is_some_and(is_deferred);
            if !waits || places.contains(&index) {
                return Err(Error::input(format_args!(
                    "call {index} doesn't wait for a resolution"
                )));
            }
            let call = report[index].call.clone();
            let plan = |call: &ToolCall| {
                approval::plan(std::slice::from_ref(call), 0, tools, settings).pop()
            };
            match resolution {
                Resolution::Answer(output) => report.settle(index, Outcome::Succeeded(output)),
                Resolution::Deny(why) => {
                    report.settle(index, Outcome::Rejected(Rejected::Denied(why)));
                }
                Resolution::Allow => {
                    planned.extend(plan(&call));
                    places.push(index);
                }
                Resolution::Edit(arguments) => {
                    let mut edited = Planned { call, admitted: Ok(0), note: None };
                    approval::edit(&mut edited, 0, arguments, tools, settings);
                    planned.push(edited);
                    places.push(index);
                }
            }
        }
        let options = Options::new(settings);
        let resumed = collector::run_planned(&self.core, &self.tooling, planned, options);
        report.merge(resumed, &places);
        Ok(report)
    }
}
