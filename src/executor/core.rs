//! The state under the lock, and what is done once it is free.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::bound::{Allowance, ResultLimit};
use crate::cancel::Callback;
use crate::executor::attempt::{self, Careful};
use crate::executor::job::{self, Job};
use crate::executor::lanes::{BlockingLane, ComputeLane, Task};
use crate::executor::observer::{EventKind, Observation};
use crate::executor::say;
use crate::executor::scheduler::{
    Action, BatchId, CallRef, Counts, PoolKey, PoolSpec, Scheduler, Sorted, Terms, Track,
};
use crate::executor::settings::Settings;
use crate::executor::stand_in::StandIn;
use crate::executor::stats::ToolCounts;
use crate::sync::channel::{self, Receiver, Sender};
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::time::Deadline;
use crate::tool::{Definition, Lane, ToolSet};

/// Scoped calls that are to be started by their collector: only that has the scope.
pub(crate) type ScopedStarts = Arc<Mutex<Vec<(CallRef, Arc<Job>)>>>;

/// Wakes a collector. Holds one wake: one is as good as many.
pub(crate) type WakeChannel = (Sender<()>, Receiver<()>);

/// How many channels are kept for the next batches.
const SPARE_CHANNELS: usize = 16;

/// How a batch's collector is reached.
struct Reach {
    wake: Sender<()>,
    starts: Option<ScopedStarts>,
}

struct Collectors {
    open: Sorted<BatchId, Reach>,
    /// The channels of batches that are over. One may hold a late wake: a collector that is woken
    /// for nothing looks and waits on.
    spare: Vec<WakeChannel>,
}

pub(crate) type Actions = Vec<Action<Arc<Job>>>;

/// What all handles of an executor share.
pub(crate) struct Core {
    scheduler: Mutex<Scheduler<Arc<Job>>>,
    /// Locked after the scheduler, never before.
    collectors: Mutex<Collectors>,
    pub(crate) blocking: Arc<BlockingLane>,
    pub(crate) compute: Arc<ComputeLane>,
    pub(crate) settings: Settings,
    pub(crate) tools: ToolCounts,
    /// How often something happened since it began to close, and who waits for it.
    idle: (Mutex<u64>, Condvar),
    stand_in: StandIn,
    pub(crate) observation: Observation,
}

/// A set of tools, with what their settings and the executor's mean for the scheduler.
pub(crate) struct Tooling {
    pub(crate) set: ToolSet,
    pub(crate) terms: Vec<Arc<Terms>>,
    pub(crate) result_limits: Vec<ResultLimit>,
    /// Bytes of text, and of images and documents, that a batch's results may have together.
    together: (usize, usize),
    /// Of a call that never runs.
    pub(crate) no_terms: Arc<Terms>,
    /// Whether its tools borrow and run in a scope.
    pub(crate) scoped: bool,
}

impl Tooling {
    pub(crate) fn new(set: ToolSet, settings: &Settings, scoped: bool) -> Arc<Self> {
        let terms = set.definitions().iter().map(|definition| {
            let mut terms = terms(definition, settings);
            if scoped {
                terms.track = match terms.track {
                    Track::Compute => Track::ScopedCompute,
                    _ => Track::Scoped,
                };
            }
            Arc::new(terms)
        });
        let limits = set.definitions().iter();
        let limits: Vec<_> =
            limits.map(|definition| settings.result_limit(definition.max_result_bytes)).collect();
        let longest = limits.iter().map(|limit| limit.text).max().unwrap_or_default();
        let text = settings.max_batch_result_bytes.unwrap_or(longest.max(1 << 20));
        let media =
            settings.max_batch_media_bytes.unwrap_or(settings.max_media_bytes.max(20 << 20));
        Arc::new(Self {
            terms: terms.collect(),
            result_limits: limits,
            together: (text, media),
            no_terms: Arc::new(Terms {
                track: Track::Blocking,
                timeout: None,
                grace: None,
                pools: Vec::new(),
                fallback: None,
                prepare: false,
                exclusive: false,
            }),
            scoped,
            set,
        })
    }

    /// What a new batch's results may have.
    pub(crate) fn allowance(&self) -> Allowance {
        Allowance::new(self.together.0, self.together.1)
    }
}

fn terms(definition: &Definition, settings: &Settings) -> Terms {
    let mut pools = Vec::new();
    if let Some(cap) = definition.max_parallel {
        pools.push(PoolSpec { key: PoolKey::Tool(definition.id), cap, rate: None, breaker: None });
    }
    if let Some(group) = &definition.group {
        pools.push(PoolSpec {
            key: PoolKey::Group(group.id()),
            cap: group.cap().unwrap_or(usize::MAX),
            rate: group.rate_limit(),
            breaker: group.breaker(),
        });
    }
    let mut fallback = definition.fallback.clone();
    if let Some(output) = &mut fallback {
        output.redact(&mut |text| settings.secrets.redacted(text));
    }
    Terms {
        track: match definition.lane.unwrap_or(settings.default_lane) {
            Lane::Blocking => Track::Blocking,
            Lane::Compute => Track::Compute,
        },
        timeout: definition.timeout.or(settings.call_timeout),
        grace: definition.grace.or(settings.grace),
        pools,
        fallback,
        prepare: !definition.keys.is_empty() || definition.coalesce,
        exclusive: definition.exclusive,
    }
}

/// Tells the observers of the calls that were settled.
pub(crate) fn tell_settled(now: Instant, actions: &mut Actions) {
    actions.retain(|action| {
        let Action::Settled(job, outcome) = action else { return true };
        job.tell(now, || EventKind::Finished { outcome: Arc::clone(outcome) });
        false
    });
}

/// The scheduler under its lock, at one point in time.
struct Visit<'a> {
    scheduler: MutexGuard<'a, Scheduler<Arc<Job>>>,
    now: Instant,
    actions: Actions,
}

impl Visit<'_> {
    /// What follows, and whether somebody may wait for a closing executor to come to rest.
    fn leave(mut self) -> (Actions, bool) {
        tell_settled(self.now, &mut self.actions);
        (self.actions, self.scheduler.is_closing())
    }
}

impl Core {
    pub(crate) fn new(
        scheduler: Scheduler<Arc<Job>>,
        blocking: Arc<BlockingLane>,
        compute: Arc<ComputeLane>,
        settings: Settings,
    ) -> Arc<Self> {
        Arc::new(Self {
            scheduler: Mutex::new(scheduler),
            collectors: Mutex::new(Collectors { open: Sorted::new(), spare: Vec::new() }),
            blocking,
            compute,
            settings,
            tools: ToolCounts::default(),
            idle: Default::default(),
            stand_in: StandIn::default(),
            observation: Observation::default(),
        })
    }

    /// An event: under the lock, with the time; what follows from it is done once it is free.
    pub(crate) fn with<T>(
        &self,
        event: impl FnOnce(&mut Scheduler<Arc<Job>>, Instant, &mut Actions) -> T,
    ) -> T {
        let mut visit = self.visit();
        let value = event(&mut visit.scheduler, visit.now, &mut visit.actions);
        self.perform(self.conclude(visit));
        value
    }

    fn visit(&self) -> Visit<'_> {
        let scheduler = self.scheduler.lock();
        Visit { scheduler, now: Instant::now(), actions: Vec::new() }
    }

    /// Ends a visit; what follows is still to be done.
    fn conclude(&self, visit: Visit<'_>) -> Actions {
        let (actions, ending) = visit.leave();
        if ending {
            self.note_event();
        }
        actions
    }

    /// Wakes who waits for a shut-down executor to come to rest.
    fn note_event(&self) {
        *self.idle.0.lock() += 1;
        self.idle.1.notify_all();
    }

    /// Does what the scheduler asks for. A call that ends for want of a thread may let the next
    /// one start: so what follows is done here in turn, and not within what it follows from.
    fn perform(&self, mut actions: Actions) {
        while !actions.is_empty() {
            let mut blocking = Vec::new();
            let mut refused = Vec::new();
            for action in actions {
                match action {
                    Action::Start(call, Track::Blocking, job) => {
                        blocking.push(Task::Call(call, job));
                    }
                    Action::Start(call, Track::Compute, job) => {
                        refused.extend(self.compute.submit(Task::Call(call, job)).err());
                    }
                    Action::Start(call, Track::Scoped | Track::ScopedCompute, job) => {
                        if let Some(reach) = self.collectors.lock().open.get(call.batch)
                            && let Some(starts) = &reach.starts
                        {
                            starts.lock().push((call, job));
                        }
                        self.wake(call.batch);
                    }
                    Action::Prepare(call, job) => blocking.push(Task::Prepare(call, job)),
                    Action::Signal(job) => {
                        blocking.extend(job.cancel.signal().into_iter().map(Task::Errand));
                    }
                    Action::Over(job) => blocking.extend(job.over().into_iter().map(Task::Errand)),
                    Action::Close(job) => {
                        blocking.extend(job.take_closers().into_iter().map(Task::Errand));
                    }
                    Action::Settled(..) => {}
                    Action::Wake(id) => self.wake(id),
                    // What it holds of the user's may take long to drop.
                    Action::Drop(closed) => {
                        self.stand_in.remove(closed.id);
                        blocking.push(Task::Drop(Careful::new(closed)));
                    }
                }
            }
            if !blocking.is_empty() {
                refused.extend(self.blocking.submit(blocking));
            }
            actions = self.refused(refused);
        }
    }

    /// Has tasks done by threads of the Blocking lane.
    fn hand_off(&self, tasks: Vec<Task>) {
        let refused = self.blocking.submit(tasks);
        self.perform(self.refused(refused));
    }

    /// What follows from the system giving no thread for these tasks.
    fn refused(&self, tasks: Vec<Task>) -> Actions {
        let mut actions = Actions::new();
        for task in tasks {
            match task {
                Task::Call(call, _) | Task::Granted(call, ..) => {
                    let mut visit = self.visit();
                    visit.scheduler.start_failed(call, visit.now, &mut visit.actions);
                    actions.extend(self.conclude(visit));
                }
                Task::Prepare(call, _) => {
                    let mut visit = self.visit();
                    visit.scheduler.prepare_failed(call, visit.now, &mut visit.actions);
                    actions.extend(self.conclude(visit));
                }
                Task::Errand(errand) => {
                    say::warn(format_args!(
                        "a closer or a cancellation callback was not run: the system gave no thread"
                    ));
                    attempt::let_go(errand);
                }
                Task::Drop(closed) => drop(closed),
                Task::StandIn(_) => {
                    say::warn(format_args!(
                        "no thread watches an open batch's deadlines: the system gave none"
                    ));
                    self.stand_in.failed();
                }
            }
        }
        actions
    }

    pub(crate) fn start_failed(&self, call: CallRef) {
        self.with(|scheduler, now, out| scheduler.start_failed(call, now, out));
    }

    /// Runs user code that must hold up nobody, each piece on a thread of its own if need be.
    pub(crate) fn run_callbacks(&self, callbacks: Vec<Callback>) {
        if !callbacks.is_empty() {
            self.hand_off(callbacks.into_iter().map(Task::Errand).collect());
        }
    }

    fn wake(&self, id: BatchId) {
        let collector = self.collectors.lock().open.get(id).map(|reach| reach.wake.clone());
        if let Some(collector) = collector {
            let _ = collector.try_send(());
        }
        self.stand_in.wake(id);
    }

    /// Shuts down and waits for what runs; whether all of it ended. See
    /// [`Executor::shutdown`](crate::Executor::shutdown).
    pub(crate) fn shut_down(self: &Arc<Self>, timeout: Duration) -> bool {
        let until = Deadline::after(Instant::now(), timeout);
        let own = self.callers();
        self.with(|scheduler, now, out| scheduler.shut_down(now, out));
        self.blocking.close();
        self.wait_while(until, &|counts| counts.running + counts.lent + counts.abandoned > own)
    }

    /// [`Executor::drain`](crate::Executor::drain).
    pub(crate) fn drain(self: &Arc<Self>, timeout: Duration) -> bool {
        let until = Deadline::after(Instant::now(), timeout);
        let own = self.callers();
        self.with(|scheduler, _, _| scheduler.drain());
        self.wait_while(until, &|counts| counts.batches > own)
    }

    /// How many calls this one is called from: the one that runs here, and those that it is nested in.
    fn callers(self: &Arc<Self>) -> usize {
        job::current(self).map_or(0, |(_, job)| 1 + job.run.depth)
    }

    /// Waits until the closing executor is no longer busy; whether it came to that.
    fn wait_while(&self, until: Deadline, is_busy: &dyn Fn(&Counts) -> bool) -> bool {
        loop {
            // What happens from here on is seen before the wait.
            let seen = *self.idle.0.lock();
            // Open batches whose collectors are elsewhere are looked after here, too.
            let mut visit = self.visit();
            let now = visit.now;
            let open: Vec<_> = visit.scheduler.batches().collect();
            let mut due = until;
            visit.scheduler.tick_all(&open, now, &mut visit.actions);
            for id in open {
                due = due.min(visit.scheduler.next_due(id, now));
            }
            let busy = is_busy(&visit.scheduler.counts());
            // It would only wake itself.
            let (actions, _) = visit.leave();
            self.perform(actions);
            if !busy {
                return true;
            }
            if until.has_passed(Instant::now()) {
                return false;
            }
            let mut idle = self.idle.0.lock();
            if *idle != seen {
                continue;
            }
            match due {
                Deadline::At(at) => drop(self.idle.1.wait_until(&mut idle, at)),
                Deadline::Never => self.idle.1.wait(&mut idle),
            }
        }
    }

    /// Looks after the batches that nobody waits for, until there is none.
    pub(crate) fn stand_in(&self) {
        self.stand_in.stand(self);
    }

    /// How the collector of a new batch is woken.
    pub(crate) fn collect(&self, id: BatchId, starts: Option<ScopedStarts>) -> WakeChannel {
        let mut collectors = self.collectors.lock();
        let (wake, wakes) = collectors.spare.pop().unwrap_or_else(|| channel::bounded(1));
        collectors.open.insert(id, Reach { wake: wake.clone(), starts });
        (wake, wakes)
    }

    /// Nobody waits for the batch any more. Its channel is kept for the next one.
    pub(crate) fn uncollect(&self, id: BatchId, wakes: &Receiver<()>) {
        let mut collectors = self.collectors.lock();
        if let Some(reach) = collectors.open.remove(id)
            && collectors.spare.len() < SPARE_CHANNELS
        {
            collectors.spare.push((reach.wake, wakes.clone()));
        }
    }

    /// Nobody waits for the batch for now: a thread stands in and does what becomes due in it.
    pub(crate) fn leave(self: &Arc<Self>, id: BatchId) {
        if self.stand_in.add(id) {
            self.hand_off(vec![Task::StandIn(Arc::clone(self))]);
        }
    }

    /// Somebody waits for the batch again.
    pub(crate) fn attend(&self, id: BatchId) {
        self.stand_in.remove(id);
    }
}
