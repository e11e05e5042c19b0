//! Runs calls: the threads and channels around a pure scheduler.
//!
//! - `scheduler`: which call runs when; no threads, no clock
//! - `core`: the scheduler's lock, and what is done once it is free
//! - `collector`: a batch from the caller's side
//! - `job`, `attempt`: a call from a worker's side; all user code runs there
//! - `lanes`: the threads
//! - `admission`: whether a call may be scheduled at all
//!
//! `README.md` beside this file has the states, the messages, the order of locks and the argument
//! why no result is lost.

mod admission;
mod ahead;
mod approval;
mod around;
mod attempt;
mod batch;
mod builder;
mod collector;
mod core;
mod job;
#[cfg(feature = "agent")]
mod journaled;
mod lanes;
#[cfg(all(test, shuttle))]
mod model {
    mod tests;
}
mod observer;
mod recorder;
mod run;
mod say;
mod scheduler;
mod scoped;
mod settings;
#[cfg(feature = "tracing")]
mod spans;
mod stand_in;
mod stats;
mod suspended;

#[cfg(feature = "agent")]
pub(crate) use approval::Approver;
pub use approval::{Approval, ApprovalRequest};
pub use batch::Batch;
pub use builder::ExecutorBuilder;
pub use observer::{Event, EventKind};
#[cfg(feature = "agent")]
pub(crate) use recorder::Recorder;
pub use run::Run;
pub use stats::{Stats, ToolStats};
pub use suspended::{Resolution, Resumed, Suspended};

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use crate::call::ToolCall;
use crate::error::Error;
#[cfg(feature = "agent")]
use crate::outcome::Outcome;
use crate::report::Report;
use crate::tool::{ScopedToolSet, ToolSet};
use crate::turn::Turn;

use self::core::{Core, Tooling};

/// Owns the threads and the limits, and runs turns on them. Shared by any number of threads and
/// turns; cheap to clone.
///
/// ```
/// use std::time::Duration;
/// use toolpool::{Executor, Tool, ToolCall, ToolSet, Turn};
///
/// let tools = ToolSet::new()
///     .with(Tool::new("ping", "Says pong", || Ok("pong")).read_only());
/// let executor = Executor::builder(tools).deadline(Duration::from_secs(10)).build()?;
///
/// let turn = Turn::from_calls([ToolCall::new("1", "ping", ""), ToolCall::new("2", "pong", "")]);
/// let report = executor.run(&turn);
/// assert_eq!(report[0].content().to_text(), "pong");
/// assert!(report[1].is_error()); // an unknown tool is the model's problem, not the program's
/// # Ok::<(), toolpool::Error>(())
/// ```
///
/// Dropping the last handle never blocks: idle threads end at once, others when their calls do.
///
/// In the child of a `fork` that executes no other program, an executor of the parent's has none of
/// its threads: leave it alone there, and build another.
#[derive(Clone)]
pub struct Executor {
    core: Arc<Core>,
    tooling: Arc<Tooling>,
    _handle: Arc<Handle>,
}

/// Lets the threads go when the last handle is dropped.
struct Handle(Arc<Core>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.blocking.close();
        self.0.observation.close();
    }
}

impl Executor {
    /// Settings for an executor that runs `tools`.
    pub fn builder(tools: impl Into<ToolSet>) -> ExecutorBuilder {
        ExecutorBuilder::new(tools.into())
    }

    /// An executor with default settings.
    ///
    /// # Errors
    /// A tool that can't be used, as [`ToolSet::check`] tells it.
    pub fn new(tools: impl Into<ToolSet>) -> Result<Self, Error> {
        Self::builder(tools).build()
    }

    fn from_parts(core: Arc<Core>, tools: ToolSet) -> Self {
        let tooling = Tooling::new(tools, &core.settings, false);
        Self { _handle: Arc::new(Handle(Arc::clone(&core))), core, tooling }
    }

    /// Runs a turn's calls in parallel and waits for them: one result a call, in call order, by
    /// the deadline. A turn that was cut short or refused runs nothing and has a result a call
    /// that says so.
    ///
    /// On a thread that runs one of this executor's own calls it is a nested batch, as
    /// [`CallContext::run`](crate::CallContext::run) is. A thread that a tool starts itself isn't one:
    /// there only [`CallContext::run`](crate::CallContext::run) knows whose batch it is and lends
    /// that call's permits, where this may wait for the very call it is part of.
    pub fn run(&self, turn: &Turn) -> Report {
        self.turn(turn).run()
    }

    /// A run of a turn with settings of its own.
    pub fn turn<'a>(&'a self, turn: &'a Turn) -> Run<'a> {
        Run::new(self, turn)
    }

    /// A batch whose calls are handed in while the model is still writing; see [`Batch`].
    pub fn begin(&self) -> Batch {
        self.batch().begin()
    }

    /// A begun batch with settings of its own.
    pub fn batch(&self) -> Run<'_, ()> {
        Run::new(self, ())
    }

    /// An executor with other tools, and the same threads, caps, groups and keys. The same failure
    /// policy, too: a tool that it requires and that isn't among these isn't missed.
    ///
    /// # Errors
    /// A tool that can't be used, as [`ToolSet::check`] tells it.
    pub fn with_tools(&self, tools: impl Into<ToolSet>) -> Result<Self, Error> {
        let tools = tools.into();
        tools.check()?;
        Ok(Self {
            tooling: Tooling::new(tools, &self.core.settings, false),
            core: Arc::clone(&self.core),
            _handle: Arc::clone(&self._handle),
        })
    }

    /// What the model is told of a call of `tool` that ended like this in an earlier run.
    #[cfg(feature = "agent")]
    pub(crate) fn or_fallback(&self, tool: &str, outcome: Outcome) -> Outcome {
        let terms = self.tooling.set.position(tool).map(|at| &self.tooling.terms[at]);
        match terms.and_then(|terms| terms.fallback_of(&outcome)) {
            Some(fallback) => Outcome::Succeeded(fallback.clone()),
            None => outcome,
        }
    }

    /// The tools.
    pub fn tools(&self) -> &ToolSet {
        &self.tooling.set
    }

    /// Runs a turn with tools that borrow from the caller's stack, on threads of a
    /// [`std::thread::scope`], of which there are at most as many as the Blocking lane may have, or of a
    /// rayon scope for tools on the Compute lane.
    ///
    /// The turn's calls find these tools alone: the executor's own, and those of its set, aren't among
    /// them.
    ///
    /// Policies, limits and timeouts hold as in [`run`](Self::run), with one exception: a scope
    /// waits for its threads. A tool that doesn't return holds up the return of this function
    /// past every deadline, although the others' results, and its own, carry the right times.
    ///
    /// A borrowed tool can't nest borrowed tools: [`CallContext::run`](crate::CallContext::run) in
    /// it refuses its calls. [`run`](Self::run), with the executor's own tools, works.
    ///
    /// # Errors
    /// A tool that can't be used, as [`ToolSet::check`] tells it.
    ///
    /// ```
    /// use toolpool::{Executor, ScopedTool, ScopedToolSet, ToolCall, ToolSet, Turn};
    ///
    /// let table = vec!["zero", "one", "two"];
    /// let tools = ScopedToolSet::new()
    ///     .with(ScopedTool::new("count", "How many", || Ok(table.len())));
    /// let executor = Executor::new(ToolSet::new())?;
    /// let turn = Turn::from_calls([ToolCall::new("1", "count", "")]);
    /// let report = executor.run_scoped(&turn, tools)?;
    /// assert_eq!(report[0].content().to_text(), "3");
    /// # Ok::<(), toolpool::Error>(())
    /// ```
    pub fn run_scoped(&self, turn: &Turn, tools: ScopedToolSet<'_>) -> Result<Report, Error> {
        self.turn(turn).run_scoped(tools)
    }

    /// Figures of the moment, and of each tool since the executor was built.
    pub fn stats(&self) -> Stats {
        stats::collect(&self.core)
    }

    /// Takes no further turn, for all handles, and waits until the open ones are over, `timeout` at
    /// most; returns whether they are. What runs goes on, with the runs that it makes from within. New
    /// turns are answered with [`NotStarted::Shutdown`](crate::NotStarted::Shutdown), those of a running
    /// agent, too. A server that ends drains and then [shuts down](Self::shutdown):
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let executor = toolpool::Executor::new(toolpool::ToolSet::new())?;
    /// if !executor.drain(Duration::from_secs(30)) {
    ///     eprintln!("turns are cut short");
    /// }
    /// executor.shutdown(Duration::from_secs(5));
    /// # Ok::<(), toolpool::Error>(())
    /// ```
    pub fn drain(&self, timeout: Duration) -> bool {
        self.core.drain(timeout)
    }

    /// Shuts the executor down, for all its handles: nothing starts any more, every open batch is
    /// settled, what runs is told to stop. Waits for running calls until `timeout`, but not for
    /// one it is called from; returns whether all had ended. Runs from now on are answered with
    /// [`NotStarted::Shutdown`](crate::NotStarted::Shutdown).
    pub fn shutdown(&self, timeout: Duration) -> bool {
        self.core.shut_down(timeout)
    }
}

/// A panic leaves it as it was: no code of a user's runs while its state is changed.
impl UnwindSafe for Executor {}
impl RefUnwindSafe for Executor {}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor").field("tools", &self.tooling.set).finish_non_exhaustive()
    }
}

/// Runs calls with default settings: the whole of this crate in one line.
///
/// For more than one turn build an [`Executor`], which keeps its threads.
///
/// # Errors
/// A tool that can't be used, as [`ToolSet::check`] tells it. Failures of calls are no errors:
/// they are in the report.
///
/// ```
/// use toolpool::{Tool, ToolCall, ToolSet, execute_tool_calls};
///
/// let tools = ToolSet::new().with(Tool::new("ping", "Says pong", || Ok("pong")));
/// let report = execute_tool_calls(&tools, &[ToolCall::new("call_1", "ping", "{}")])?;
/// for result in report.results() {
///     println!("{}: {}", result.id, result.content.to_text());
/// }
/// # Ok::<(), toolpool::Error>(())
/// ```
pub fn execute_tool_calls(tools: &ToolSet, calls: &[ToolCall]) -> Result<Report, Error> {
    let executor = Executor::new(tools.clone())?;
    Ok(executor.run(&Turn::from_calls(calls.iter().cloned())))
}
