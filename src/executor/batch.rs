//! A batch whose calls are handed in while the model is still writing.

use std::fmt;
use std::sync::Arc;

use log::Level;

use crate::call::ToolCall;
use crate::executor::Executor;
use crate::executor::approval::{self, Planned};
use crate::executor::attempt;
use crate::executor::collector::{self, Collector, Options};
use crate::executor::core::{Core, Tooling};
use crate::executor::job::{self, Job, Lent};
use crate::executor::lanes::LostWorker;
use crate::executor::say;
use crate::executor::scheduler::Ending;
use crate::outcome::{NotStarted, Outcome};
use crate::report::Report;
use crate::turn::Turn;

/// The calls of one turn while they run; calls may be pushed while the model is still writing.
///
/// A call of a read-only tool starts as soon as it is pushed. All others wait for
/// [`finish`](Self::finish), which is given the whole message, and run only if its stop reason
/// allows it. From the first call on that needs approval, all wait for `finish`. A custom policy is
/// asked there of the calls that have ended by then; until then it holds up no other.
///
/// A batch begun in a tool is a nested one: it has the tool's context, ends by the tool's deadline,
/// and while the tool waits in [`finish`](Self::finish) others may have the tool's permits. Until
/// then its calls wait for permits of their own, beside the tool's.
///
/// Dropping a batch cancels it and doesn't wait.
///
/// ```
/// use toolpool::{Executor, Tool, ToolCall, ToolSet, Turn};
///
/// let tools = ToolSet::new().with(Tool::new("look", "Looks", || Ok("seen")).read_only());
/// let executor = Executor::new(tools)?;
/// let mut batch = executor.begin();
/// let call = ToolCall::new("call_1", "look", "");
/// batch.push(call.clone()); // runs from now on
/// let turn = Turn::from_calls([call]); // the message is complete
/// let report = batch.finish(&turn);
/// assert_eq!(report[0].content().to_text(), "seen");
/// # Ok::<(), toolpool::Error>(())
/// ```
#[must_use = "dropping a batch cancels it"]
pub struct Batch {
    core: Arc<Core>,
    tooling: Arc<Tooling>,
    collector: Collector,
    options: Options,
    /// The call it was begun in.
    parent: Option<Arc<Job>>,
    /// The first of these were handed in; the others wait for approval.
    pushed: Vec<ToolCall>,
    waits: bool,
}

impl Batch {
    pub(super) fn new(executor: &Executor, mut options: Options) -> Self {
        let parent = job::nest(&executor.core, &mut options);
        let (core, tooling) = (Arc::clone(&executor.core), Arc::clone(&executor.tooling));
        let collector = Collector::open(&core, &tooling, options.clone().without_deadline());
        core.leave(collector.id);
        Self { core, tooling, collector, options, parent, pushed: Vec::new(), waits: false }
    }

    /// Hands in the next call of the message, which is complete. Doesn't block.
    pub fn push(&mut self, call: ToolCall) {
        let (tools, settings) = (&self.tooling.set, &self.core.settings);
        let index = self.pushed.len();
        let planned = approval::plan(std::slice::from_ref(&call), index, tools, settings);
        self.waits = self.waits || planned.iter().any(|one| approval::is_needed(one, tools));
        self.pushed.push(call);
        if !self.waits {
            self.collector.push(planned, true);
        }
    }

    /// The calls that were pushed.
    pub fn calls(&self) -> &[ToolCall] {
        &self.pushed
    }

    /// The message is complete: lets the waiting calls run if its stop reason allows it, and waits
    /// for the report. `turn` holds all its calls; those that weren't pushed are run, too. The
    /// deadline is counted from here, and begins once approval was asked for.
    ///
    /// A turn that doesn't begin with the pushed calls is another message: the batch is cancelled,
    /// and the turn is answered as one that broke off.
    pub fn finish(mut self, turn: &Turn) -> Report {
        let (tools, settings) = (&self.tooling.set, &self.core.settings);
        if !is_same(&self.pushed, turn.calls()) {
            say::later(
                Level::Error,
                format_args!("a batch was finished with a message that doesn't hold its calls"),
            );
            return self.disown(turn);
        }
        if let Some(stop) = turn.calls().iter().find_map(ToolCall::withheld_reason) {
            return self.end(turn.calls(), NotStarted::Withheld(stop.to_owned()));
        }
        let first = self.collector.calls();
        let mut planned = approval::plan(&turn.calls()[first..], first, tools, settings);
        self.options.ask(&mut planned, first, &self.core, tools);
        self.core.attend(self.collector.id);
        let _waiting = self.wait();
        self.collector.complete(planned, &self.options);
        self.report()
    }

    /// The message broke off: cancels what runs, starts nothing else, and gives a complete report
    /// of the calls that were pushed.
    pub fn broken(self) -> Report {
        let pushed = self.pushed.clone();
        self.end(&pushed, NotStarted::StreamBroken)
    }

    /// Cancels the batch without waiting, and answers a turn of which nothing is run.
    fn disown(self, turn: &Turn) -> Report {
        let Self { core, tooling, collector, options, .. } = self;
        attempt::let_go(collector);
        let mut planned = approval::plan(turn.calls(), 0, &tooling.set, &core.settings);
        withhold(&mut planned, &NotStarted::StreamBroken);
        collector::run_planned(&core, &tooling, planned, options)
    }

    fn end(mut self, calls: &[ToolCall], reason: NotStarted) -> Report {
        let (tools, settings) = (&self.tooling.set, &self.core.settings);
        self.core.attend(self.collector.id);
        let id = self.collector.id;
        let ended = self.core.with(|scheduler, now, out| {
            scheduler.end(id, Ending::Withheld(reason.clone()), now, out);
            now
        });
        self.collector.message_ended(ended);
        let first = self.collector.calls();
        let mut planned = approval::plan(&calls[first..], first, tools, settings);
        withhold(&mut planned, &reason);
        self.collector.push(planned, true);
        let _waiting = self.wait();
        self.report()
    }

    fn report(self) -> Report {
        let report = self.collector.finish();
        attempt::let_go(self.options);
        report
    }

    /// While this thread waits others may have the permits of the call it runs, or the one that
    /// the batch was begun in.
    fn wait(&self) -> (Option<Lent>, Option<LostWorker>) {
        let current = job::current(&self.core).map(|(_, job)| job);
        let lost = job::lose_worker(&self.core);
        (current.or(self.parent.clone()).map(|job| job.lend()), lost)
    }
}

/// Ends those planned calls that would run or be answered from outside.
fn withhold(planned: &mut [Planned], reason: &NotStarted) {
    for call in planned {
        if matches!(call.admitted, Ok(_) | Err(Outcome::NotStarted(NotStarted::Deferred))) {
            call.admitted = Err(Outcome::NotStarted(reason.clone()));
        }
    }
}

/// Whether a message begins with the calls that were pushed. A stop reason may have been put on
/// them since.
fn is_same(pushed: &[ToolCall], calls: &[ToolCall]) -> bool {
    pushed.len() <= calls.len()
        && pushed.iter().zip(calls).all(|(pushed, call)| {
            pushed.name() == call.name() && pushed.arguments() == call.arguments()
        })
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("calls", &self.pushed.len()).finish_non_exhaustive()
    }
}
