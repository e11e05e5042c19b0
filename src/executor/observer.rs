//! Tells an observer what happens, on a thread of its own.
//!
//! Events are sent under the scheduler's lock, so their order is that of what happened; sending
//! doesn't block. The thread starts with the first event, and where events come faster than they
//! are told a second one that guards it: an observer that panics or takes over a second is switched
//! off, and another thread takes the queue over. The guard looks several times, so that a machine
//! that stood still for a second blames nobody.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use log::Level;

use crate::call::ToolCall;
use crate::executor::say::{later, warn};
use crate::executor::scheduler::BatchId;
use crate::outcome::Outcome;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Condvar, Mutex, thread};

/// How long an observer may take for one event.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it must be found at that event meanwhile.
const LOOKS: u32 = 4;
/// How long the thread is kept when nothing happens.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Most progress events that wait to be told.
const PROGRESS_LIMIT: usize = 1024;

/// Something that happened to a call.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Event {
    /// Which batch of its executor it is, counted from 1.
    pub batch: u64,
    /// The call's index in its turn.
    pub index: usize,
    /// The tool's name as the model wrote it.
    pub tool: String,
    /// When it happened, from the start of the batch.
    pub at: Duration,
    /// What happened.
    pub kind: EventKind,
}

/// What happened to a call, in the order it can happen.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum EventKind {
    /// It was handed in.
    Queued,
    /// An attempt started.
    Started {
        /// Which one, from 1.
        attempt: u32,
    },
    /// The handler says how far it is.
    Progress {
        /// What it says.
        text: String,
    },
    /// An attempt failed and another will follow.
    Retrying {
        /// How the attempt ended.
        outcome: Arc<Outcome>,
    },
    /// It was settled: the one end of every call.
    Finished {
        /// How.
        outcome: Arc<Outcome>,
    },
    /// A result came after the call had been settled; it was dropped.
    Late {
        /// How the call would have ended.
        outcome: Arc<Outcome>,
    },
}

/// An observer, and whether it is still told anything.
pub(crate) struct Watched {
    tell: Box<dyn Fn(&Event) + Send + Sync>,
    off: AtomicBool,
}

impl Watched {
    pub(crate) fn new(tell: impl Fn(&Event) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { tell: Box::new(tell), off: AtomicBool::new(false) })
    }
}

/// The observer of one run.
pub(crate) struct Watch {
    observer: Arc<Watched>,
    batch: BatchId,
    opened: Instant,
}

impl Watch {
    pub(crate) fn new(observer: Arc<Watched>, batch: BatchId, opened: Instant) -> Self {
        Self { observer, batch, opened }
    }

    /// Sends an event; whether it wasn't dropped.
    pub(crate) fn send(
        &self,
        to: &Observation,
        now: Instant,
        index: usize,
        call: &ToolCall,
        kind: EventKind,
    ) -> bool {
        if self.observer.off.load(Ordering::Relaxed) {
            return true;
        }
        let event = Event {
            batch: self.batch.number(),
            index,
            tool: call.name().to_owned(),
            at: now.saturating_duration_since(self.opened),
            kind,
        };
        to.send(Arc::clone(&self.observer), event)
    }
}

/// The queue of events, and the thread that tells them.
#[derive(Default)]
pub(crate) struct Observation(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    filled: Condvar,
    overtaken: Condvar,
    progress: AtomicUsize,
    switched_off: AtomicU64,
}

#[derive(Default)]
struct State {
    queue: VecDeque<(Arc<Watched>, Event)>,
    /// Which thread tells; an older one that comes back ends.
    teller: u64,
    telling: bool,
    /// Whom it tells, since when.
    busy: Option<(Weak<Watched>, Instant)>,
    guard: Guard,
    closed: bool,
}

impl State {
    /// Whether nothing is being told or will be.
    fn is_told(&self) -> bool {
        self.busy.is_none() && (self.queue.is_empty() || !self.telling)
    }
}

#[derive(Default, PartialEq, Eq)]
enum Guard {
    #[default]
    None,
    /// Waits to be needed.
    Idle,
    Watches,
}

impl Observation {
    fn send(&self, observer: Arc<Watched>, event: Event) -> bool {
        let is_progress = matches!(event.kind, EventKind::Progress { .. });
        if is_progress && self.0.progress.load(Ordering::Relaxed) >= PROGRESS_LIMIT {
            return false;
        }
        let mut state = self.0.state.lock();
        self.0.progress.fetch_add(usize::from(is_progress), Ordering::Relaxed);
        state.queue.push_back((observer, event));
        if !state.telling {
            self.0.start_teller(&mut state);
        }
        if state.busy.is_some() {
            self.0.call_guard(&mut state);
        }
        drop(state);
        self.0.filled.notify_one();
        true
    }

    /// How many observers were switched off.
    pub(crate) fn switched_off(&self) -> u64 {
        self.0.switched_off.load(Ordering::Relaxed)
    }

    /// Lets the threads go as soon as nothing is left to be told. Doesn't wait.
    pub(crate) fn close(&self) {
        self.0.state.lock().closed = true;
        self.0.filled.notify_all();
        self.0.overtaken.notify_all();
    }
}

impl Shared {
    fn switch_off(&self, observer: &Watched, why: &str) {
        if !observer.off.swap(true, Ordering::Relaxed) {
            self.switched_off.fetch_add(1, Ordering::Relaxed);
            later(Level::Error, format_args!("an observer {why}; it is told nothing more"));
        }
    }

    fn start_teller(self: &Arc<Self>, state: &mut State) {
        state.teller += 1;
        let (shared, teller) = (Arc::clone(self), state.teller);
        state.telling = spawn(Box::new(move || shared.tell(teller)));
    }

    /// Something waits behind what is being told.
    fn call_guard(self: &Arc<Self>, state: &mut State) {
        match state.guard {
            Guard::None => {
                let shared = Arc::clone(self);
                if spawn(Box::new(move || shared.guard())) {
                    state.guard = Guard::Watches;
                }
            }
            Guard::Idle => {
                self.overtaken.notify_one();
            }
            Guard::Watches => {}
        }
    }

    /// A teller's life.
    fn tell(self: &Arc<Self>, teller: u64) {
        let mut state = self.state.lock();
        while state.teller == teller {
            let Some((observer, event)) = state.queue.pop_front() else {
                let idle =
                    !state.closed && !self.filled.wait_for(&mut state, KEEP_ALIVE).timed_out();
                if !idle && state.queue.is_empty() && state.teller == teller {
                    state.telling = false;
                    return;
                }
                continue;
            };
            if matches!(event.kind, EventKind::Progress { .. }) {
                self.progress.fetch_sub(1, Ordering::Relaxed);
            }
            state.busy = Some((Arc::downgrade(&observer), Instant::now()));
            if !state.queue.is_empty() {
                self.call_guard(&mut state);
            }
            drop(state);
            if !observer.off.load(Ordering::Relaxed) {
                let told = catch_unwind(AssertUnwindSafe(|| (observer.tell)(&event)));
                if let Err(payload) = told {
                    // Its drop may panic, too.
                    std::mem::forget(payload);
                    self.switch_off(&observer, "panicked");
                }
            }
            let_go((observer, event));
            state = self.state.lock();
            if state.teller == teller {
                state.busy = None;
            }
        }
    }

    /// A guard's life: where an observer takes too long, it lets another teller go on.
    fn guard(self: &Arc<Self>) {
        let mut state = self.state.lock();
        let (mut at, mut looks) = (None, 0);
        loop {
            let since = state.busy.as_ref().map(|(_, since)| *since);
            looks = if at == since { looks + 1 } else { 0 };
            at = since;
            match &state.busy {
                Some((observer, since)) if looks >= LOOKS && since.elapsed() >= PATIENCE => {
                    let slow = observer.upgrade();
                    drop(state);
                    // Before there is another teller: that one must not tell it anything.
                    if let Some(slow) = slow {
                        self.switch_off(&slow, "took over a second for one event");
                        let_go(slow);
                    }
                    state = self.state.lock();
                    // It may have come back meanwhile.
                    if state.busy.as_ref().map(|(_, since)| *since) == at {
                        state.busy = None;
                        self.start_teller(&mut state);
                    }
                }
                Some(_) => {
                    self.overtaken.wait_for(&mut state, PATIENCE / LOOKS);
                }
                None => {
                    let span = if state.closed { PATIENCE } else { KEEP_ALIVE };
                    state.guard = Guard::Idle;
                    let idle = (state.closed && state.is_told())
                        || self.overtaken.wait_for(&mut state, span).timed_out();
                    state.guard = Guard::Watches;
                    if idle && state.is_told() {
                        state.guard = Guard::None;
                        return;
                    }
                }
            }
        }
    }
}

/// Drops what may be the last handle to an observer; not under the lock.
fn let_go<T>(last: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(last))) {
        // Its drop may panic, too.
        std::mem::forget(payload);
        later(Level::Error, format_args!("an observer panicked when it was dropped"));
    }
}

/// Starts a thread for observers; whether the system gave one.
fn spawn(life: Box<dyn FnOnce() + Send>) -> bool {
    let spawned = thread::Builder::new().name("toolpool-observer".to_owned()).spawn(life);
    if let Err(error) = &spawned {
        warn(format_args!("no thread for an observer: {error}"));
    }
    spawned.is_ok()
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched")
    }
}
