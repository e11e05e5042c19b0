//! The state under the lock, and what is done once it is free.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cancel::Callback;
use crate::executor::job::{self, Job};
use crate::executor::lanes::{BlockingLane, ComputeLane, Task};
use crate::executor::observer::{EventKind, Observation};
use crate::executor::say;
use crate::executor::scheduler::{
    Action, BatchId, CallRef, PoolKey, PoolSpec, Scheduler, Terms, Track,
};
use crate::executor::settings::Settings;
use crate::executor::stand_in::StandIn;
use crate::executor::stats::ToolCounts;
use crate::sync::channel::Sender;
use crate::sync::{Condvar, Mutex};
use crate::time::Deadline;
use crate::tool::{Definition, Lane, ToolSet};

/// What wakes a batch's collector, and what it is asked to do itself.
pub(crate) enum Message {
    Wake,
    /// Nothing yet, but be awake.
    Rouse,
    /// Start a scoped call: only the collector has the scope.
    Start(CallRef, Arc<Job>),
}

type Actions = Vec<Action<Arc<Job>>>;

/// What all handles of an executor share.
pub(crate) struct Core {
    scheduler: Mutex<Scheduler<Arc<Job>>>,
    /// Locked after the scheduler, never before.
    collectors: Mutex<HashMap<BatchId, Sender<Message>>>,
    pub(crate) blocking: Arc<BlockingLane>,
    pub(crate) compute: Arc<ComputeLane>,
    pub(crate) settings: Settings,
    pub(crate) tools: ToolCounts,
    /// How often something happened since the shutdown, and who waits for it.
    idle: (Mutex<u64>, Condvar),
    stand_in: StandIn,
    pub(crate) observation: Observation,
}

/// A set of tools, with what their settings and the executor's mean for the scheduler.
pub(crate) struct Tooling {
    pub(crate) set: ToolSet,
    pub(crate) terms: Vec<Arc<Terms>>,
    /// Of a call that never runs.
    pub(crate) no_terms: Arc<Terms>,
}

impl Tooling {
    pub(crate) fn new(set: ToolSet, settings: &Settings, scoped: bool) -> Arc<Self> {
        let terms = set.definitions().iter().map(|definition| {
            let mut terms = terms(definition, settings);
            if scoped {
                terms.track = Track::Scoped;
            }
            Arc::new(terms)
        });
        Arc::new(Self {
            terms: terms.collect(),
            no_terms: Arc::new(Terms {
                track: Track::Blocking,
                timeout: None,
                grace: None,
                pools: Vec::new(),
                fallback: None,
                prepare: false,
                exclusive: false,
            }),
            set,
        })
    }
}

fn terms(definition: &Definition, settings: &Settings) -> Terms {
    let mut pools = Vec::new();
    if let Some(cap) = definition.max_parallel {
        pools.push(PoolSpec { key: PoolKey::Tool(definition.id), cap, rate: None });
    }
    if let Some(group) = &definition.group {
        pools.push(PoolSpec {
            key: PoolKey::Group(group.id()),
            cap: group.cap().unwrap_or(usize::MAX),
            rate: group.rate_limit(),
        });
    }
    Terms {
        track: match definition.lane.unwrap_or(settings.default_lane) {
            Lane::Blocking => Track::Blocking,
            Lane::Compute => Track::Compute,
        },
        timeout: definition.timeout.or(settings.call_timeout),
        grace: definition.grace.or(settings.grace),
        pools,
        fallback: definition.fallback.clone(),
        prepare: !definition.keys.is_empty() || definition.coalesce,
        exclusive: definition.exclusive,
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
            collectors: Mutex::default(),
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
        let (value, actions, ending) = self.locked(event);
        if ending {
            self.note_event();
        }
        self.perform(actions, None);
        value
    }

    /// As [`with`](Self::with), on a worker that is free now: it may go on with a start itself.
    pub(crate) fn with_next<T>(
        &self,
        event: impl FnOnce(&mut Scheduler<Arc<Job>>, Instant, &mut Actions) -> T,
        track: Option<Track>,
    ) -> (T, Option<Task>) {
        let (value, actions, ending) = self.locked(event);
        if ending {
            self.note_event();
        }
        let next = self.perform(actions, track);
        (value, next)
    }

    fn locked<T>(
        &self,
        event: impl FnOnce(&mut Scheduler<Arc<Job>>, Instant, &mut Actions) -> T,
    ) -> (T, Actions, bool) {
        let mut actions = Vec::new();
        let mut scheduler = self.scheduler.lock();
        let now = Instant::now();
        let value = event(&mut scheduler, now, &mut actions);
        for action in &actions {
            if let Action::Settled(job, outcome) = action {
                job.tell(now, || EventKind::Finished { outcome: Arc::clone(outcome) });
            }
        }
        let ending = scheduler.is_shut_down();
        (value, actions, ending)
    }

    /// Wakes who waits for a shut-down executor to come to rest.
    fn note_event(&self) {
        *self.idle.0.lock() += 1;
        self.idle.1.notify_all();
    }

    /// Does what the scheduler asks for. A worker that is free on `mine` is left the first task of
    /// its lane.
    fn perform(&self, actions: Actions, mine: Option<Track>) -> Option<Task> {
        let mut next = None;
        for action in actions {
            match action {
                Action::Start(call, track, job) => {
                    if mine == Some(track) && next.is_none() && track != Track::Scoped {
                        next = Some(Task::Call(call, job));
                    } else {
                        self.start(call, track, job);
                    }
                }
                Action::Prepare(call, job) => {
                    if mine == Some(Track::Blocking) && next.is_none() {
                        next = Some(Task::Prepare(call, job));
                    } else if self.blocking.submit(Task::Prepare(call, job)).is_err() {
                        self.with(|scheduler, now, out| scheduler.prepare_failed(call, now, out));
                    }
                }
                Action::Signal(job) => self.run_callbacks(job.cancel.signal()),
                Action::Close(job) => self.run_callbacks(job.take_closers()),
                Action::Settled(..) => {}
                Action::Wake(id) => self.wake(id, Message::Wake),
                Action::Rouse(id) => self.send(id, Message::Rouse),
                Action::Drop(closed) => {
                    self.collectors.lock().remove(&closed.id);
                    self.stand_in.remove(closed.id);
                    drop(closed);
                }
            }
        }
        next
    }

    fn start(&self, call: CallRef, track: Track, job: Arc<Job>) {
        let refused = match track {
            Track::Blocking => self.blocking.submit(Task::Call(call, job)).is_err(),
            Track::Compute => self.compute.submit(Task::Call(call, job)).is_err(),
            Track::Scoped => {
                self.wake(call.batch, Message::Start(call, job));
                false
            }
        };
        if refused {
            self.start_failed(call);
        }
    }

    pub(crate) fn start_failed(&self, call: CallRef) {
        self.with(|scheduler, now, out| scheduler.start_failed(call, now, out));
    }

    /// Runs user code that must hold up nobody, each piece on a thread of its own if need be.
    pub(crate) fn run_callbacks(&self, callbacks: Vec<Callback>) {
        for callback in callbacks {
            if self.blocking.submit(Task::Errand(callback)).is_err() {
                say::warn(format_args!(
                    "a cancellation callback was not run: the system gave no thread"
                ));
            }
        }
    }

    fn wake(&self, id: BatchId, message: Message) {
        self.send(id, message);
        self.stand_in.wake(id);
    }

    fn send(&self, id: BatchId, message: Message) {
        let collector = self.collectors.lock().get(&id).cloned();
        if let Some(collector) = collector {
            let _ = collector.send(message);
        }
    }

    /// Shuts down and waits for what runs; whether all of it ended. See
    /// [`Executor::shutdown`](crate::Executor::shutdown).
    pub(crate) fn shut_down(self: &Arc<Self>, timeout: Duration) -> bool {
        let until = Deadline::after(Instant::now(), timeout);
        let own = usize::from(job::current(self).is_some());
        self.with(|scheduler, now, out| scheduler.shut_down(now, out));
        self.blocking.close();
        loop {
            // What happens from here on is seen before the wait.
            let seen = *self.idle.0.lock();
            // Open batches whose collectors are elsewhere are looked after here, too.
            let ((busy, due), actions, _) = self.locked(|scheduler, now, out| {
                let open: Vec<_> = scheduler.batches().collect();
                let mut due = until;
                for id in open {
                    scheduler.tick(id, now, out);
                    due = due.min(scheduler.next_due(id, now));
                }
                let counts = scheduler.counts();
                (counts.running + counts.abandoned > own, due)
            });
            self.perform(actions, None);
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

    pub(crate) fn collect(&self, id: BatchId, collector: Sender<Message>) {
        self.collectors.lock().insert(id, collector);
    }

    pub(crate) fn uncollect(&self, id: BatchId) {
        self.collectors.lock().remove(&id);
    }

    /// Nobody waits for the batch for now: a thread stands in and does what becomes due in it.
    pub(crate) fn leave(self: &Arc<Self>, id: BatchId) {
        if self.stand_in.add(id) {
            let core = Arc::clone(self);
            let errand = Task::Errand(Box::new(move || core.stand_in.stand(&core)));
            if self.blocking.submit(errand).is_err() {
                say::warn(format_args!(
                    "no thread watches an open batch's deadlines: the system gave none"
                ));
                self.stand_in.failed();
            }
        }
    }

    /// Somebody waits for the batch again.
    pub(crate) fn attend(&self, id: BatchId) {
        self.stand_in.remove(id);
    }
}
