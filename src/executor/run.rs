//! One run of a turn, with settings of its own.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::cancel::CancelToken;
use crate::error::Error;
use crate::executor::approval::{Approval, ApprovalRequest};
use crate::executor::batch::Batch;
use crate::executor::collector::{self, Options};
use crate::executor::job::Lent;
use crate::executor::observer::{Event, Watched};
use crate::executor::suspended::Resumed;
use crate::executor::{Executor, job, scoped};
use crate::policy::FailurePolicy;
use crate::report::Report;
use crate::time::Deadline;
use crate::tool::ScopedToolSet;
use crate::turn::Turn;

/// One run of a turn with settings of its own, made by [`Executor::turn`]; or of a batch that is
/// still to grow, made by [`Executor::batch`]; or of a suspended turn, made by
/// [`Executor::resume`].
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
pub struct Run<'a, Of = &'a Turn> {
    executor: &'a Executor,
    of: Of,
    pub(super) options: Options,
}

impl<'a, Of> Run<'a, Of> {
    pub(super) fn new(executor: &'a Executor, of: Of) -> Self {
        Self { executor, of, options: Options::new(&executor.core.settings) }
    }

    /// On a thread that runs a call this becomes part of it, and lends the call's permits until
    /// what is returned is dropped.
    fn nest(&mut self) -> Option<Lent> {
        job::nest(&self.executor.core, &mut self.options).map(|parent| parent.lend())
    }

    /// How long the batch may take, counted from [`run`](Self::run); with zero no call starts.
    /// Defaults to the executor's.
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

    /// Whatever the deadline says, the batch ends not later than this. Defaults to never.
    pub fn until(mut self, latest: impl Into<Deadline>) -> Self {
        self.options.latest = self.options.latest.min(latest.into());
        self
    }

    /// What the [idempotency keys](crate::CallContext::idempotency_key) of the calls begin with.
    /// They go on with the call's index and its arguments, so a turn that is run again with the
    /// same seed, after a restart perhaps, has the same keys. Defaults to a seed of its own for
    /// every run, and for every suspended turn, however often it is resumed.
    pub fn idempotency_seed(mut self, seed: impl Into<Arc<str>>) -> Self {
        self.options.seed = Some(seed.into());
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

    /// Cancels the batch when `token` is cancelled; may be given several times. Then nothing else
    /// starts, and what runs is told to stop. Tools that ignore it are walked away from after their
    /// [grace](crate::ExecutorBuilder::grace), 10 % of the call's timeout and 500 ms at most unless
    /// set, so the run is over by then. Defaults to none.
    pub fn cancel(mut self, token: &CancelToken) -> Self {
        self.options.cancel.push(token.clone());
        self
    }

    /// At most `cap` calls of this turn at once; 1, and 0, run them one after another. Defaults to
    /// no cap of its own.
    pub fn max_parallel(mut self, cap: usize) -> Self {
        self.options.max_parallel = cap.max(1);
        self
    }

    /// A value that handlers read with [`CallContext::get`](crate::CallContext::get): who is
    /// asking, a connection, a span. It is never shown to the model. Defaults to none.
    pub fn context<T: Any + Send + Sync>(self, value: T) -> Self {
        self.shared_context(Some(Arc::new(value)))
    }

    pub(crate) fn shared_context(mut self, value: Option<Arc<dyn Any + Send + Sync>>) -> Self {
        self.options.context = value.or(self.options.context);
        self
    }

    /// Who decides on the calls that need approval: asked once a turn, on the thread that runs it,
    /// before the deadline begins. It gives one answer a request, in their order; a panic or
    /// another number of answers is a no to all. While it waits nothing of the turn runs. The turns
    /// that this one's tools run ask it, too, from their threads. Defaults to that of the turn it is
    /// nested in, and then to the executor's, which is nobody: then such calls are refused.
    pub fn approval(
        mut self,
        approver: impl Fn(&[ApprovalRequest<'_>]) -> Vec<Approval> + Send + Sync + 'static,
    ) -> Self {
        self.options.approver = Some(Arc::new(approver));
        self
    }

    /// Who is told what happens, on a thread of its own; see
    /// [`ExecutorBuilder::observer`](crate::ExecutorBuilder::observer). Defaults to the
    /// executor's.
    pub fn observer(mut self, observer: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.options.observer = Some(Watched::new(observer));
        self
    }
}

impl<'a> Run<'a, &'a Turn> {
    /// Runs the calls and waits for them; see [`Executor::run`].
    pub fn run(mut self) -> Report {
        let _lent = self.nest();
        collector::run(&self.executor.core, &self.executor.tooling, self.of, self.options)
    }

    /// Runs the calls with tools that borrow; see [`Executor::run_scoped`].
    ///
    /// # Errors
    /// A tool that can't be used, as [`ToolSet::check`](crate::ToolSet::check) tells it.
    pub fn run_scoped(mut self, tools: ScopedToolSet<'_>) -> Result<Report, Error> {
        tools.set.check()?;
        let _lent = self.nest();
        Ok(scoped::run(&self.executor.core, tools, self.of, self.options))
    }
}

impl Run<'_, ()> {
    /// Begins the batch. Its deadline is counted from [`Batch::finish`].
    pub fn begin(self) -> Batch {
        Batch::new(self.executor, self.options)
    }
}

impl Run<'_, Resumed> {
    /// Runs the calls that may run now, and gives a report of the whole turn; see
    /// [`Executor::resume`].
    pub fn run(mut self) -> Report {
        let _lent = self.nest();
        let Self { executor, of, options } = self;
        of.run(|planned| {
            collector::run_planned(&executor.core, &executor.tooling, planned, options)
        })
    }
}

impl<Of> fmt::Debug for Run<'_, Of> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").finish_non_exhaustive()
    }
}
