//! One call on its way: what its worker needs, and what the scheduler's actions name it by.

use std::any::Any;
use std::cell::RefCell;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crate::bound::{Allowance, ResultLimit};
use crate::call::ToolCall;
use crate::cancel::{Callback, CancelToken, LateToken};
use crate::effect::Effect;
use crate::error::bounded;
use crate::executor::ahead::Ahead;
use crate::executor::approval::Approver;
use crate::executor::around::Around;
use crate::executor::attempt;
use crate::executor::collector::{self, Options};
use crate::executor::core::{Actions, Core, Tooling, tell_settled};
use crate::executor::lanes::{self, LostWorker, Task};
use crate::executor::observer::{EventKind, Watch, Watched};
use crate::executor::recorder::Recorder;
use crate::executor::say;
use crate::executor::scheduler::{Action, BatchId, CallRef, Fate, Grant, Scheduler, Track};
use crate::report::Report;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::tool::{CallContext, Closers, Definition, Host, Lane};
use crate::turn::Turn;

/// What the calls of one run share.
pub(crate) struct RunShared {
    pub(crate) core: Arc<Core>,
    pub(crate) tooling: Arc<Tooling>,
    pub(crate) context: Option<Arc<dyn Any + Send + Sync>>,
    pub(crate) approver: Option<Arc<Approver>>,
    /// The beginning of the calls' idempotency keys; made up when it is asked for.
    pub(crate) seed: OnceLock<Arc<str>>,
    pub(crate) depth: usize,
    pub(crate) batch: BatchId,
    pub(crate) around: Option<Arc<Around>>,
    pub(crate) recorder: Option<Arc<dyn Recorder>>,
    #[cfg(feature = "tracing")]
    pub(crate) caller: crate::executor::spans::Caller,
    pub(crate) watch: Option<Watch>,
    pub(crate) observer: Option<Arc<Watched>>,
    pub(crate) ahead: Ahead,
    /// What is left for its calls' results.
    pub(crate) allowance: Allowance,
}

/// One call on its way.
pub(crate) struct Job {
    pub(crate) run: Arc<RunShared>,
    /// None for a call that never runs, such as one of an unknown tool.
    pub(crate) definition: Option<Arc<Definition>>,
    /// Its tool's place in its set.
    pub(crate) tool: usize,
    track: Track,
    pub(crate) call: ToolCall,
    pub(crate) index: usize,
    /// Whether it ended in an earlier run, and isn't told of or counted again.
    pub(crate) known: bool,
    pub(crate) cancel: LateToken,
    closers: Closers,
    /// The attempt that runs, and how many batches it waits for.
    waiting: Mutex<(u32, usize)>,
    /// Progress that an observer wasn't told.
    progress_dropped: AtomicU64,
}

crate::sync::local! {
    /// The call that runs on this thread.
    static CURRENT: RefCell<Option<(CallContext, Arc<Job>)>> = const { RefCell::new(None) };
}

impl RunShared {
    /// Whether it holds values of the user's.
    fn has_values(&self) -> bool {
        let has_caller = cfg!(feature = "tracing");
        let has_values = self.context.is_some() || self.approver.is_some();
        has_caller || has_values || self.around.is_some() || self.observer.is_some()
    }
}

/// Marks a thread as running a call until it is dropped; then it runs again what lay below, where
/// a call that waited within rayon had this one on top of it.
struct Entered(Option<(CallContext, Arc<Job>)>);

impl Drop for Entered {
    fn drop(&mut self) {
        let below = self.0.take();
        let left = CURRENT.try_with(|current| current.replace(below));
        drop(left);
    }
}

impl Job {
    pub(crate) fn new(
        run: Arc<RunShared>,
        definition: Option<Arc<Definition>>,
        tool: usize,
        track: Track,
        call: ToolCall,
        index: usize,
        known: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            run,
            definition,
            tool,
            track,
            call,
            index,
            known,
            cancel: LateToken::default(),
            closers: Closers::default(),
            waiting: Mutex::new((1, 0)),
            progress_dropped: AtomicU64::new(0),
        })
    }

    /// Runs one attempt if the scheduler grants it; returns what the thread can go on with.
    pub(crate) fn run_attempt(
        self: Arc<Self>,
        call: CallRef,
        grant: Option<Grant>,
    ) -> Option<Task> {
        let handler = self.definition.as_ref().and_then(|definition| definition.handler.clone());
        let next = handler.and_then(|handler| self.run_with(call, grant, &*handler));
        match next {
            // A worker of a pool counts as free already.
            None if !self.track.is_compute() => attempt::let_go(self),
            _ => self.leave_behind(),
        }
        next
    }

    /// Lets go of the call on a thread whose next one has begun: where that drops what a run was
    /// given, which may take long, another thread does it.
    // Not inlined, because what it takes of the stack would lie below every handler.
    #[inline(never)]
    fn leave_behind(self: Arc<Self>) {
        let Some(job) = Arc::into_inner(self) else { return };
        let core = Arc::clone(&job.run.core);
        let Self { run, definition, closers, cancel, .. } = job;
        // Two calls may come here at once: only who has the last handle of something drops it.
        let (run, tooling) = match Arc::into_inner(run) {
            Some(run) if !run.has_values() => (None, Arc::into_inner(run.tooling)),
            run => (run, None),
        };
        let (definition, closers) = (definition.and_then(Arc::into_inner), closers.take());
        let has_tools = tooling.is_some() || definition.is_some();
        let has_values = run.is_some() || has_tools || !closers.is_empty();
        let careful = attempt::Careful::new((run, tooling, definition, closers, cancel));
        if has_values {
            core.run_callbacks(vec![Box::new(move || drop(careful))]);
        } else {
            drop(careful);
        }
        attempt::let_go(core);
    }

    /// As [`run_attempt`](Self::run_attempt), with the handler given.
    pub(crate) fn run_with(
        self: &Arc<Self>,
        call: CallRef,
        grant: Option<Grant>,
        handler: &dyn crate::tool::Invoke,
    ) -> Option<Task> {
        let core = Arc::clone(&self.run.core);
        let definition = self.definition.as_ref()?;
        let grant = grant
            .or_else(|| core.with(|scheduler, now, out| self.start(call, scheduler, now, out)))?;
        if grant.attempt > 1 {
            *self.waiting.lock() = (grant.attempt, 0);
        }
        let host = Arc::clone(self) as Arc<dyn Host>;
        let cx = CallContext::new(host, grant.attempt, grant.signal_at);
        let below = CURRENT.with(|current| current.replace(Some((cx.clone(), Arc::clone(self)))));
        let entered = Entered(below);
        let recorder = self.run.recorder.as_ref().filter(|_| definition.effect == Effect::Mutating);
        let recorded =
            recorder.map_or(Ok(()), |recorder| recorder.starting(self.index, &self.call));
        let recorder = recorder.filter(|_| recorded.is_ok());
        let result = match recorded {
            Ok(()) => attempt::invoke(handler, &self.run, definition, &self.call, &cx),
            Err(error) => Ok(Err(error)),
        };
        drop(entered);
        let (finish, taken) = attempt::finish(result, definition, &core.settings, grant.attempt);
        if let Some(recorder) = recorder {
            recorder.ended(self.index, &finish.outcome);
        }
        let line = attempt::finish_line(&self.call, &finish.outcome);
        // A logger may block: then the thread takes no other task before it has logged.
        let is_quiet = log::max_level() < log::Level::Debug && line.is_none();
        let waiting = (is_quiet && self.track == Track::Blocking).then(|| core.blocking.take());
        lanes::leave();
        let (fate, next) = core.with(|scheduler, now, out| {
            let failed = finish.retry.and(self.run.watch.as_ref());
            let failed = failed.map(|_| Arc::new(finish.outcome.clone()));
            let fate = scheduler.finished(call, finish, now, out);
            if let (Fate::Retried, Some(outcome)) = (&fate, failed) {
                self.tell(now, || EventKind::Retrying { outcome });
            }
            tell_settled(now, out);
            if let Some(closed) = scheduler.close(call.batch, now) {
                self.run.ahead.close(closed);
            }
            let next = waiting.flatten().or_else(|| claim(self.track, out));
            (fate, next.map(|next| next.granted(scheduler, now, out)))
        });
        let next = next.and_then(|next| next.map_err(attempt::let_go).ok());
        match fate {
            Fate::Retried => self.run.ahead.expect(1),
            Fate::Settled | Fate::Late(_) => core.run_callbacks(self.over()),
        }
        // Only now, because a logger that blocks must not hold up the result. Nor what comes next.
        let is_free = next.is_none() && self.track == Track::Blocking;
        let say = if is_free { say::say_or_later } else { say::later };
        if let Some((level, line)) = line {
            say(level, format_args!("{line}"));
        }
        if let Fate::Late(outcome) = fate {
            self.run.allowance.give_back(&taken);
            let name = outcome.name();
            self.tell(Instant::now(), || EventKind::Late { outcome: outcome.into() });
            say(
                log::Level::Debug,
                format_args!("late result of {:?} dropped: {name}", self.call.name()),
            );
        } else {
            taken.keep();
        }
        next
    }

    /// Computes the call's keys; returns what the thread can go on with.
    pub(crate) fn prepare(self: Arc<Self>, call: CallRef) -> Option<Task> {
        let core = Arc::clone(&self.run.core);
        let prepared = match &self.definition {
            Some(definition) => attempt::prepare(definition, &self.call).map_err(|mut outcome| {
                core.settings.redact(&mut outcome);
                outcome
            }),
            None => Ok(Default::default()),
        };
        let next = core.with(|scheduler, now, out| {
            scheduler.prepared(call, prepared, now, out);
            claim(Track::Blocking, out)
        });
        attempt::let_go(self);
        attempt::let_go(core);
        next
    }

    /// Asks whether an attempt may begin now.
    pub(crate) fn start(
        &self,
        call: CallRef,
        scheduler: &mut Scheduler<Arc<Self>>,
        now: Instant,
        out: &mut Actions,
    ) -> Option<Grant> {
        let grant = scheduler.started(call, now, out)?;
        self.tell(now, || EventKind::Started { attempt: grant.attempt });
        Some(grant)
    }

    /// Tells the run's observer, if it has one.
    pub(crate) fn tell(&self, now: Instant, kind: impl FnOnce() -> EventKind) -> bool {
        let watch = self.run.watch.as_ref().filter(|_| !self.known);
        watch.is_none_or(|watch| {
            watch.send(&self.run.core.observation, now, self.index, &self.call, kind())
        })
    }

    /// How much progress an observer wasn't told, if any.
    pub(crate) fn progress_dropped(&self) -> Option<u64> {
        Some(self.progress_dropped.load(Ordering::Relaxed)).filter(|dropped| *dropped > 0)
    }

    pub(crate) fn lane(&self) -> Lane {
        if self.track.is_compute() { Lane::Compute } else { Lane::Blocking }
    }

    fn call_ref(&self) -> CallRef {
        CallRef { batch: self.run.batch, index: self.index }
    }

    /// The closers, to be run once by whoever takes them.
    pub(crate) fn take_closers(&self) -> Vec<Box<dyn FnOnce() + Send>> {
        self.closers.take()
    }

    /// The call is over: a context that outlives it says that it is cancelled. The callbacks are to be
    /// run elsewhere.
    pub(crate) fn over(&self) -> Vec<Callback> {
        self.closers.close();
        self.cancel.signal()
    }

    /// Lets others have the call's permits while it waits for a batch.
    pub(crate) fn lend(self: &Arc<Self>) -> Lent {
        // Several threads of one tool may wait at once; the last to come back resumes.
        let attempt = self.run.core.with(|scheduler, now, out| {
            let (attempt, count) = &mut *self.waiting.lock();
            *count += 1;
            if *count == 1 {
                scheduler.lend(self.call_ref(), now, out);
            }
            *attempt
        });
        Lent(Arc::clone(self), attempt)
    }

    /// Makes a run part of this call.
    fn adopt(&self, options: &mut Options, cx: &CallContext) {
        options.nest(self.call_ref(), cx, &self.run);
    }
}

/// The permits of a call that waits for a batch; it takes them back when this is dropped.
pub(crate) struct Lent(Arc<Job>, u32);

impl Drop for Lent {
    fn drop(&mut self) {
        let Self(job, lent_by) = self;
        job.run.core.with(|scheduler, now, out| {
            let (attempt, count) = &mut *job.waiting.lock();
            // What a thread of an earlier attempt lent was taken back when that ended.
            if attempt == lent_by {
                *count -= 1;
                if *count == 0 {
                    scheduler.resume(job.call_ref(), now, out);
                }
            }
        });
    }
}

/// Takes a task of a track from what is to be done, for the thread that asks.
fn claim(track: Track, actions: &mut Actions) -> Option<Task> {
    let at = actions.iter().position(|action| match action {
        Action::Start(_, of, _) => *of == track && !track.is_scoped(),
        Action::Prepare(..) => track == Track::Blocking,
        _ => false,
    })?;
    match actions.remove(at) {
        Action::Start(call, _, job) => Some(Task::Call(call, job)),
        Action::Prepare(call, job) => Some(Task::Prepare(call, job)),
        _ => None,
    }
}

/// The call that runs on this thread on `core`, if one does.
pub(crate) fn current(core: &Arc<Core>) -> Option<(CallContext, Arc<Job>)> {
    let current = CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()?;
    Arc::ptr_eq(&current.1.run.core, core).then_some(current)
}

/// Counts this thread as lost where it is a worker that compute tools run on and is about to wait
/// for a batch. A call's own thread counts already.
pub(crate) fn lose_worker(core: &Arc<Core>) -> Option<LostWorker> {
    if current(core).is_some() { None } else { core.compute.lose_worker() }
}

/// Makes a run part of the call that runs on this thread, if one does.
pub(crate) fn nest(core: &Arc<Core>, options: &mut Options) -> Option<Arc<Job>> {
    let (cx, parent) = current(core)?;
    parent.adopt(options, &cx);
    Some(parent)
}

impl Host for Job {
    fn call(&self) -> &ToolCall {
        &self.call
    }

    fn index(&self) -> usize {
        self.index
    }

    fn cancel(&self) -> &CancelToken {
        self.cancel.get()
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    fn returned(&self) {
        self.run.ahead.returned();
    }

    fn seed(&self) -> &str {
        let random = || format!("{:016x}", self.run.core.settings.random()).into();
        self.run.seed.get_or_init(random)
    }

    fn value(&self) -> Option<&(dyn Any + Send + Sync)> {
        self.run.context.as_deref()
    }

    fn result_limit(&self) -> (&ResultLimit, &Allowance) {
        (&self.run.tooling.result_limits[self.tool], &self.run.allowance)
    }

    fn is_settled(&self) -> bool {
        self.run.core.with(|scheduler, _, _| scheduler.is_settled(self.call_ref()))
    }

    fn run_nested(self: Arc<Self>, turn: &Turn, cx: &CallContext) -> Report {
        let mut options = Options::new(&self.run.core.settings);
        self.adopt(&mut options, cx);
        options.in_scope = self.run.tooling.scoped;
        let _lent = self.lend();
        collector::run(&self.run.core, &self.run.tooling, turn, options)
    }

    fn closers(&self) -> &Closers {
        &self.closers
    }

    fn progress(&self, text: &str) {
        if self.run.watch.is_none() {
            return;
        }
        let text = self.run.core.settings.secrets.redacted(&bounded(&text));
        let told = self.run.core.with(|scheduler, now, _| {
            scheduler.is_settled(self.call_ref()) || self.tell(now, || EventKind::Progress { text })
        });
        if !told {
            self.progress_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}
