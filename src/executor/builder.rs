//! How an executor is set up.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::bound::check_directory;
use crate::error::Error;
use crate::executor::Executor;
use crate::executor::approval::{Approval, ApprovalRequest};
use crate::executor::around::Around;
use crate::executor::core::Core;
use crate::executor::lanes::{BlockingLane, ComputeLane, ComputePool, LaneSettings};
use crate::executor::observer::{Event, Watched};
use crate::executor::scheduler::{Limits, Scheduler};
use crate::executor::settings::Settings;
use crate::policy::FailurePolicy;
use crate::tool::{CallContext, Lane, ToolSet};

/// With less no thread can be started.
const LEAST_STACK: usize = 16 << 10;

/// Settings of an [`Executor`].
///
/// A tool's own setting goes before the executor's, and a run's own before both.
///
/// In the worst case an executor has as many threads as `blocking_threads`, plus one for each call
/// that waits in a nested batch, one for each batch whose keys are being computed, one for each
/// closer or callback that is running, one for the batches that nobody waits for, and
/// `max_abandoned`; beside them the Compute lane's pools. Each has a stack of `stack_size`, of
/// which the system maps what is used. An observer has a thread and one that watches it; lines that
/// can't be logged where they arise share one for the whole process.
///
/// A batch's results take at most `max_batch_result_bytes` of text, and up to 1 KiB more for each
/// call, and `max_batch_media_bytes` of images and documents. Errors, which have 2 KiB at most, and
/// fallbacks aren't counted, and a result that identical calls share counts once.
#[must_use = "a builder does nothing until `build`"]
pub struct ExecutorBuilder {
    tools: ToolSet,
    settings: Settings,
    pool: Option<ComputePool>,
}

impl ExecutorBuilder {
    pub(super) fn new(tools: ToolSet) -> Self {
        Self { tools, settings: Settings::default(), pool: None }
    }

    /// How long a batch may take, counted from `run`, however many calls it has; with zero no call
    /// starts. Defaults to 300 s.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.settings.deadline = Some(deadline);
        self
    }

    /// Lets a batch take as long as its calls' timeouts let it. Defaults to a deadline of 300 s.
    pub fn no_deadline(mut self) -> Self {
        self.settings.deadline = None;
        self
    }

    /// How long one call may take, from its start, where its tool doesn't say; [`Duration::MAX`] for
    /// as long as its batch may take; with zero no call starts. Defaults to 60 s.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.settings.call_timeout = Some(timeout);
        self
    }

    /// How long before its end a call is told to stop, within its timeout and at most half of
    /// it. Defaults to 10 % of the timeout, at most 500 ms.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.settings.grace = Some(grace);
        self
    }

    /// What one failed call does to the others of its batch. Defaults to
    /// [`FailurePolicy::inline`].
    pub fn policy(mut self, policy: FailurePolicy) -> Self {
        self.settings.policy = policy;
        self
    }

    /// Where tools run that don't say. Defaults to [`Lane::Blocking`].
    ///
    /// With [`Lane::Compute`] everything runs on one rayon pool, of 64 threads unless
    /// [`rayon_threads`](Self::rayon_threads) says otherwise. Know what that means: a worker that
    /// waits inside rayon runs other queued calls on top of its stack, so that a short call may
    /// come back only when a long one does, and a call that holds a lock across `par_iter` may
    /// deadlock with itself.
    pub fn default_lane(mut self, lane: Lane) -> Self {
        self.settings.default_lane = lane;
        self
    }

    /// At most `cap` calls at once on the whole executor. Defaults to no cap of its own: the
    /// lanes' caps add up.
    pub fn max_parallel(mut self, cap: usize) -> Self {
        self.settings.max_parallel = cap;
        self
    }

    /// At most `cap` calls at once on the Blocking lane. Defaults to 64.
    pub fn blocking_threads(mut self, cap: usize) -> Self {
        self.settings.blocking_threads = cap;
        self
    }

    /// Workers of the Compute lane's pool. Defaults to one a core, or to 64 where
    /// [`default_lane`](Self::default_lane) is [`Lane::Compute`].
    pub fn rayon_threads(mut self, threads: usize) -> Self {
        self.settings.compute_threads = Some(threads);
        self
    }

    /// Runs the Compute lane on a pool of the caller's, a `rayon::ThreadPool`. When its workers are
    /// lost to calls that hang, calls go on in a pool of the executor's own. Defaults to an own
    /// pool, built at the first call that needs it.
    pub fn rayon_pool(mut self, pool: Arc<rayon_core::ThreadPool>) -> Self {
        self.pool = Some(pool);
        self
    }

    /// Runs at most the first `limit` calls of a turn; the others are refused with a result that
    /// says so. Defaults to 128.
    pub fn max_calls(mut self, limit: usize) -> Self {
        self.settings.max_calls = limit;
        self
    }

    /// Refuses arguments of more than `bytes`. Defaults to 1 MiB.
    pub fn max_argument_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_argument_bytes = bytes;
        self
    }

    /// Refuses arguments that nest deeper. Defaults to 64; more than 127 has no effect on tools
    /// that decode with serde, which stops there, and more than 10 000 none at all.
    pub fn max_argument_depth(mut self, depth: usize) -> Self {
        self.settings.max_argument_depth = depth;
        self
    }

    /// Lets arguments pass in which a key stands twice in one object; which of the two a tool
    /// sees is then up to its decoding. Defaults to refusing them.
    pub fn allow_duplicate_keys(mut self) -> Self {
        self.settings.allow_duplicate_keys = true;
        self
    }

    /// Cuts results of more than `bytes`: head and tail are kept, with a note between that the
    /// model can read. A limit smaller than the note leaves the note alone. Defaults to 64 KiB.
    pub fn max_result_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_result_bytes = bytes;
        self
    }

    /// Refuses an image or a document of more than `bytes`, decoded. Defaults to 5 MiB.
    pub fn max_media_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_media_bytes = bytes;
        self
    }

    /// Keeps the first `count` images and documents of a result; of the others the model is told how
    /// many there were. A result so has at most `count` times
    /// [`max_media_bytes`](Self::max_media_bytes) of them. Defaults to 20.
    pub fn max_media(mut self, count: usize) -> Self {
        self.settings.max_media = count;
        self
    }

    /// Cuts results when those of one batch have more than `bytes` of text together: who ends last is
    /// cut to what is left, but never below 1 KiB, and the note in it says why. Identical calls that
    /// share a result count once. Defaults to 1 MiB, or to the largest
    /// [`max_result_bytes`](Self::max_result_bytes) where that is more; a megabyte may be some 250 000
    /// tokens, so a model with a smaller window wants less.
    pub fn max_batch_result_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_batch_result_bytes = Some(bytes);
        self
    }

    /// Leaves images and documents out when those of one batch have more than `bytes`, decoded,
    /// together; the model is told how many of a result's there were. Defaults to 20 MiB, or to
    /// [`max_media_bytes`](Self::max_media_bytes) where that is more.
    pub fn max_batch_media_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_batch_media_bytes = Some(bytes);
        self
    }

    /// Puts the whole of each cut result into a file in `directory`, which the note in the result and
    /// [`Note::KeptIn`](crate::Note::KeptIn) name. To read it the model needs a tool of yours. The
    /// directory must be there and writable when the executor is built; nobody removes the files.
    /// [Secrets](Self::secret) are taken out of them, what
    /// [`Report::redact`](crate::Report::redact) takes out of a report is not. Where one can't be
    /// written later, the log says why and the note names none. Defaults to none.
    pub fn keep_cut_results_in(mut self, directory: impl Into<PathBuf>) -> Self {
        self.settings.spill = Some(directory.into());
        self
    }

    /// Refuses calls as busy while this many are queued, over all batches. Defaults to 131 072.
    pub fn max_queued(mut self, limit: usize) -> Self {
        self.settings.max_queued = limit;
        self
    }

    /// Refuses calls while this many threads are still out for calls that were walked away from.
    /// Defaults to 256.
    pub fn max_abandoned(mut self, limit: usize) -> Self {
        self.settings.max_abandoned = limit;
        self
    }

    /// How deep batches may be nested in calls, 0 for not at all. Calls of a deeper one are refused as
    /// [`Rejected::TooDeep`](crate::Rejected::TooDeep). Defaults to 3.
    pub fn max_depth(mut self, depth: usize) -> Self {
        self.settings.max_depth = depth;
        self
    }

    /// Stack of each thread, in bytes, 16 KiB at least. Defaults to 2 MiB.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.settings.stack_size = bytes;
        self
    }

    /// How long an idle thread of the Blocking lane is kept. Defaults to 10 s.
    pub fn keep_alive(mut self, span: Duration) -> Self {
        self.settings.keep_alive = span;
        self
    }

    /// Runs the Blocking lane's tools at a lower priority: `nice` from 1 to 19. Then deadlines are
    /// met on a machine that the tools saturate. Linux only; processes that a tool starts inherit
    /// it. Anything else is refused by [`build`](Self::build). Needs the feature `priority`, which is
    /// on by default. Defaults to the caller's priority.
    #[cfg(feature = "priority")]
    pub fn tool_priority(mut self, nice: i32) -> Self {
        self.settings.tool_priority = Some(nice);
        self
    }

    /// Shows the model the text of every error of every tool, not only of those written for it.
    /// Defaults to no.
    pub fn reveal_errors(mut self) -> Self {
        self.settings.reveal_errors = true;
        self
    }

    /// Who decides on the calls that need approval, unless a run says otherwise; see
    /// [`Run::approval`](crate::Run::approval). Defaults to nobody: such calls are refused.
    pub fn approval(
        mut self,
        approver: impl Fn(&[ApprovalRequest<'_>]) -> Vec<Approval> + Send + Sync + 'static,
    ) -> Self {
        self.settings.approver = Some(Arc::new(approver));
        self
    }

    /// Who is told what happens, unless a run says otherwise: every call's events in their order,
    /// exactly one of them an end, on a thread that is started for it. An observer holds up no
    /// call: one that panics, or takes over a second, is told nothing more, and the log says so.
    /// Events wait in memory, those of an end with a copy of the result, and all observers of an
    /// executor are told by one thread: a slow one is told late, and so are the others. Defaults to
    /// nobody.
    ///
    /// ```
    /// use toolpool::{EventKind, Executor, Tool, ToolSet};
    ///
    /// let executor = Executor::builder(ToolSet::new().with(Tool::new("ping", "", || Ok("pong"))))
    ///     .observer(|event| {
    ///         if let EventKind::Finished { outcome } = &event.kind {
    ///             println!("{} {}", event.tool, outcome.name());
    ///         }
    ///     })
    ///     .build()?;
    /// # Ok::<(), toolpool::Error>(())
    /// ```
    pub fn observer(mut self, observer: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.settings.observer = Some(Watched::new(observer));
        self
    }

    /// Runs code of the caller's around every handler. `capture` is called on the thread that
    /// runs a turn, and returns what is then called on the worker around each attempt: it gets
    /// the call's context and must call the function it is given, once. So thread-locals or a
    /// span of the caller's reach its tools. Defaults to nothing.
    ///
    /// ```
    /// use std::cell::Cell;
    /// use toolpool::{Executor, Tool, ToolCall, ToolSet, Turn};
    ///
    /// thread_local!(static TENANT: Cell<u32> = const { Cell::new(0) });
    ///
    /// let tools = ToolSet::new().with(Tool::new("tenant", "", || Ok(TENANT.get())));
    /// let executor = Executor::builder(tools)
    ///     .around(|| {
    ///         let tenant = TENANT.get();
    ///         move |_cx, run| {
    ///             TENANT.set(tenant);
    ///             run();
    ///             TENANT.set(0);
    ///         }
    ///     })
    ///     .build()?;
    /// TENANT.set(7);
    /// let report = executor.run(&Turn::from_calls([ToolCall::new("1", "tenant", "")]));
    /// assert_eq!(report[0].content().to_text(), "7");
    /// # Ok::<(), toolpool::Error>(())
    /// ```
    pub fn around<W>(mut self, capture: impl Fn() -> W + Send + Sync + 'static) -> Self
    where
        W: Fn(&CallContext, &mut dyn FnMut()) + Send + Sync + 'static,
    {
        self.settings.around = Some(Arc::new(move || Arc::new(capture()) as Arc<Around>));
        self
    }

    /// A text that must not get out, such as a key that tools use: wherever it stands in an
    /// output, an error or a panic's message it is replaced before the model, an observer or the
    /// log is told, and before the text is cut. May be given several times; short texts would be
    /// found everywhere, so give whole secrets. Defaults to none.
    pub fn secret(mut self, secret: impl Into<String>) -> Self {
        self.settings.secrets.add(secret.into());
        self
    }

    /// The executor. Starts no thread.
    ///
    /// # Errors
    /// A tool that can't be used; a policy that requires a tool that isn't there; a cap of zero
    /// with which nothing could ever run; a priority that isn't from 1 to 19; an empty secret; a
    /// directory for cut results in which no file can be made.
    pub fn build(self) -> Result<Executor, Error> {
        let Self { tools, mut settings, pool } = self;
        tools.check()?;
        settings.policy.check(|name| tools.look_up(name))?;
        let limits = [
            ("max_parallel", settings.max_parallel),
            ("blocking_threads", settings.blocking_threads),
            ("rayon_threads", settings.compute_threads.unwrap_or(1)),
            ("max_calls", settings.max_calls),
            ("max_argument_bytes", settings.max_argument_bytes),
            ("max_argument_depth", settings.max_argument_depth),
            ("max_queued", settings.max_queued),
            ("max_abandoned", settings.max_abandoned),
        ];
        if settings.secrets.has_empty() {
            return Err(Error::config("an empty text can't be a secret"));
        }
        if let Some(nice) = settings.tool_priority.filter(|nice| !(1..=19).contains(nice)) {
            return Err(Error::config(format_args!("tool_priority is {nice}, not from 1 to 19")));
        }
        if let Some(directory) = &mut settings.spill {
            // So that what a note says holds when the program goes elsewhere.
            let absolute = std::path::absolute(&*directory);
            *directory =
                absolute.and_then(|at| check_directory(&at).map(|()| at)).map_err(|error| {
                    let directory = directory.display();
                    Error::config(format_args!(
                        "keep_cut_results_in({directory}): no file can be made there: {error}"
                    ))
                })?;
        }
        if let Some((name, _)) = limits.into_iter().find(|(_, limit)| *limit == 0) {
            return Err(Error::config(format_args!("{name} is 0, so nothing could ever run")));
        }
        if settings.stack_size < LEAST_STACK {
            return Err(Error::config(format_args!(
                "stack_size is {} bytes; a thread needs {LEAST_STACK} at least",
                settings.stack_size
            )));
        }
        let threads = pool
            .as_ref()
            .map_or_else(|| settings.compute_threads(), |pool| pool.current_num_threads());
        let scheduler = Scheduler::new(Limits {
            max_parallel: settings.max_parallel,
            blocking: settings.blocking_threads,
            compute: threads,
            max_queued: settings.max_queued,
            max_abandoned: settings.max_abandoned,
            secrets: settings.secrets.clone(),
        });
        let blocking = BlockingLane::new(LaneSettings {
            keep_alive: settings.keep_alive,
            stack_size: settings.stack_size,
            priority: settings.tool_priority,
        });
        let compute = ComputeLane::new(threads, settings.stack_size, pool);
        let core = Core::new(scheduler, blocking, compute, settings);
        Ok(Executor::from_parts(core, tools))
    }
}

impl fmt::Debug for ExecutorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}
