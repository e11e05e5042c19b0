//! Who may say no: asked once a turn, on the caller's thread, outside the deadline, without a lock.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use log::Level;
use serde::{Deserialize, Serialize};

use crate::call::{CallState, ToolCall};
use crate::executor::admission;
use crate::executor::say;
use crate::executor::settings::Settings;
use crate::outcome::{NotStarted, Outcome, Rejected};
use crate::report::Note;
use crate::tool::{ToolInfo, ToolSet};

/// A call that needs approval.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ApprovalRequest<'a> {
    /// The call's index in its turn.
    pub index: usize,
    /// What the model asked. Its arguments are readable and within the limits.
    pub call: &'a ToolCall,
    /// The tool it asks for.
    pub tool: ToolInfo<'a>,
}

/// What becomes of a call that needs approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "approval", content = "detail", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Approval {
    /// It runs exactly as it was shown.
    Allow,
    /// It runs with these arguments instead, as JSON text; noted in the report. Arguments that can't
    /// be read approve nothing, and are logged as an error.
    Edit(String),
    /// It doesn't run; the model is told the reason.
    Deny(String),
    /// It is decided later: see [`Report::into_suspended`](crate::Report::into_suspended).
    Defer,
}

/// Decides on the calls of a turn that need approval: one answer a request, in their order.
pub(crate) type Approver = dyn Fn(&[ApprovalRequest<'_>]) -> Vec<Approval> + Send + Sync;

/// A call before it is handed in.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) call: ToolCall,
    /// The place of its tool, or how the call ends instead.
    pub(super) admitted: Result<usize, Outcome>,
    pub(super) note: Option<Note>,
    /// Whether it ended in an earlier run: nobody is told of it again.
    pub(super) known: bool,
}

impl Planned {
    /// A call of which is known how it ended.
    pub(super) fn known(call: ToolCall, outcome: Outcome) -> Self {
        Self { call, admitted: Err(outcome), note: None, known: true }
    }
}

/// Looks at calls, the first of which is the turn's `first`.
pub(super) fn plan(
    calls: &[ToolCall],
    first: usize,
    tools: &ToolSet,
    settings: &Settings,
) -> Vec<Planned> {
    let planned = calls.iter().enumerate().map(|(n, call)| {
        let admitted = admit(call, first + n, tools, settings);
        Planned { call: call.clone(), admitted, note: None, known: false }
    });
    planned.collect()
}

/// The place of a call's tool, if it may run here.
fn admit(
    call: &ToolCall,
    index: usize,
    tools: &ToolSet,
    settings: &Settings,
) -> Result<usize, Outcome> {
    let at = admission::admit(call, index, tools, settings)?;
    match tools.definitions()[at].is_deferred() {
        true => Err(Outcome::NotStarted(NotStarted::Deferred)),
        false => Ok(at),
    }
}

/// Whether a planned call has to be approved before it runs.
pub(super) fn is_needed(planned: &Planned, tools: &ToolSet) -> bool {
    planned.admitted.as_ref().is_ok_and(|at| tools.definitions()[*at].needs_approval)
}

/// Asks for the approval of those planned calls that need it, unless they end in another way because
/// nothing can run any more. Whatever goes wrong is a no.
pub(super) fn ask(
    planned: &mut [Planned],
    first: usize,
    tools: &ToolSet,
    approver: Option<&Arc<Approver>>,
    settings: &Settings,
    is_over: &dyn Fn() -> Option<Outcome>,
) {
    let needing: Vec<usize> =
        (0..planned.len()).filter(|n| is_needed(&planned[*n], tools)).collect();
    if needing.is_empty() {
        return;
    }
    let approver = approver.or(settings.approver.as_ref());
    if approver.is_some()
        && let Some(outcome) = is_over()
    {
        needing.iter().for_each(|&n| planned[n].admitted = Err(outcome.clone()));
        return;
    }
    let requests = needing.iter().filter_map(|&n| {
        let call = &planned[n].call;
        Some(ApprovalRequest { index: first + n, call, tool: tools.get(call.name())? })
    });
    let requests: Vec<_> = requests.collect();
    let answers = match approver {
        None => {
            let name = requests.first().map_or("", |request| request.call.name());
            let count = requests.len();
            say::later(
                Level::Warn,
                format_args!("nobody can approve {count} calls, {name:?} first: name an approver"),
            );
            Err("nobody can approve it")
        }
        Some(approver) => {
            let answers = catch_unwind(AssertUnwindSafe(|| approver(&requests)));
            match answers {
                Ok(answers) if answers.len() == requests.len() => Ok(answers),
                Ok(answers) => {
                    let (given, asked) = (answers.len(), requests.len());
                    say::later(
                        Level::Error,
                        format_args!("the approver gave {given} answers to {asked} requests"),
                    );
                    Err("its approval failed")
                }
                Err(payload) => {
                    // Its drop may panic, too.
                    std::mem::forget(payload);
                    say::later(
                        Level::Error,
                        format_args!("the approver panicked; no call is approved"),
                    );
                    Err("its approval failed")
                }
            }
        }
    };
    let denied = |why: &str| Err(Outcome::Rejected(Rejected::Denied(why.to_owned())));
    match answers {
        Err(why) => needing.iter().for_each(|&n| planned[n].admitted = denied(why)),
        Ok(answers) => {
            for (&n, answer) in needing.iter().zip(answers) {
                let plan = &mut planned[n];
                match answer {
                    Approval::Allow => {}
                    Approval::Deny(why) => plan.admitted = denied(&why),
                    Approval::Defer => {
                        plan.admitted = Err(Outcome::NotStarted(NotStarted::Deferred));
                    }
                    Approval::Edit(arguments) => {
                        if edit(plan, first + n, arguments, tools, settings).is_err() {
                            let name = plan.call.name();
                            say::later(
                                Level::Error,
                                format_args!("the edited arguments of {name:?} can't be read"),
                            );
                            plan.admitted = denied("its approval failed");
                        }
                    }
                }
            }
        }
    }
}

/// Replaces a call's arguments; they are looked at like the model's. Nothing is changed where they
/// can't be read, and that is why.
pub(super) fn edit(
    plan: &mut Planned,
    index: usize,
    arguments: String,
    tools: &ToolSet,
    settings: &Settings,
) -> Result<(), String> {
    let edited = plan.call.with_arguments(arguments);
    if let CallState::Malformed(why) = edited.state() {
        return Err(why.to_string());
    }
    plan.note = Some(Note::Edited(edited.arguments().to_owned()));
    plan.admitted = admit(&edited, index, tools, settings);
    plan.call = edited;
    Ok(())
}
