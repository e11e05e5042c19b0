//! One run of a turn, with settings of its own.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::cancel::CancelToken;
use crate::error::Error;
use crate::executor::collector::{self, Options};
use crate::executor::{Executor, job, scoped};
use crate::policy::FailurePolicy;
use crate::report::Report;
use crate::tool::ScopedToolSet;
use crate::turn::Turn;

/// One run of a turn with settings of its own; made by [`Executor::turn`].
///
/// ```
/// use std::time::Duration;
/// use toolpool::{CallContext, Executor, FailurePolicy, Tool, ToolCall, ToolSet, Turn};
///
/// struct User(&'static str);
///
/// let whoami = Tool::new("whoami", "Who is asking", |_: (), cx: &CallContext| {
///     Ok(cx.get::<User>().map_or("nobody", |user| user.0))
/// });
/// let executor = Executor::new(ToolSet::new().with(whoami))?;
/// let turn = Turn::from_calls([ToolCall::new("1", "whoami", "")]);
/// let report = executor
///     .turn(&turn)
///     .context(User("ada"))
///     .deadline(Duration::from_secs(2))
///     .policy(FailurePolicy::abort_on_first())
///     .run();
/// assert_eq!(report[0].content().to_text(), "ada");
/// # Ok::<(), toolpool::Error>(())
/// ```
#[must_use = "nothing runs until `run`"]
pub struct Run<'a> {
    executor: &'a Executor,
    turn: &'a Turn,
    options: Options,
}

impl<'a> Run<'a> {
    pub(super) fn new(executor: &'a Executor, turn: &'a Turn) -> Self {
        Self { executor, turn, options: Options::new(&executor.core.settings) }
    }

    /// How long the batch may take, counted from [`run`](Self::run). Defaults to the executor's.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.options.deadline = Some(deadline);
        self
    }

    /// Lets the batch take as long as its calls' timeouts let it. Defaults to the executor's
    /// deadline.
    pub fn no_deadline(mut self) -> Self {
        self.options.deadline = None;
        self
    }

    /// What one failed call does to the others. Defaults to the executor's.
    ///
    /// A policy that requires a tool that isn't there aborts the batch before anything starts.
    pub fn policy(mut self, policy: FailurePolicy) -> Self {
        self.options.policy = policy;
        self.options.own_policy = true;
        self
    }

    /// Cancels the batch when `token` is cancelled; may be given several times. Defaults to none.
    pub fn cancel(mut self, token: &CancelToken) -> Self {
        self.options.cancel.push(token.clone());
        self
    }

    /// At most `cap` calls of this turn at once; 1 runs them one after another. Defaults to no cap
    /// of its own.
    pub fn max_parallel(mut self, cap: usize) -> Self {
        self.options.max_parallel = cap.max(1);
        self
    }

    /// A value that handlers read with [`CallContext::get`](crate::CallContext::get): who is
    /// asking, a connection, a span. It is never shown to the model. Defaults to none.
    pub fn context<T: Any + Send + Sync>(mut self, value: T) -> Self {
        self.options.context = Some(Arc::new(value));
        self
    }

    /// Runs the calls and waits for them; see [`Executor::run`].
    pub fn run(self) -> Report {
        let Self { executor, turn, options } = self;
        match job::current(&executor.core) {
            Some((cx, parent)) => parent.run_nested(&cx, turn, &executor.tooling, options),
            None => collector::run(&executor.core, &executor.tooling, turn, options),
        }
    }

    /// Runs the calls with tools that borrow; see [`Executor::run_scoped`].
    ///
    /// # Errors
    /// A tool that can't be used, as [`ToolSet::check`](crate::ToolSet::check) tells it.
    pub fn run_scoped(self, tools: ScopedToolSet<'_>) -> Result<Report, Error> {
        tools.set.check()?;
        Ok(scoped::run(&self.executor.core, tools, self.turn, self.options))
    }
}

impl fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("calls", &self.turn.calls().len()).finish_non_exhaustive()
    }
}
