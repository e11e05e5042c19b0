//! Cached OS threads: a thread a running call, kept for a while when it is idle.
//!
//! Tasks stand in one queue, and every task in it has a thread that waits or is on its way: who
//! hands one in makes a thread where there is none. Few threads are woken at a time, and each that
//! comes wakes another as long as tasks are left. So many tasks that each take long all get their
//! threads, and many that take no time are done by those that are awake already.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::Task;
use crate::executor::say;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::sync::thread::{self, Thread};
use crate::sync::{Mutex, MutexGuard, rest};

/// How many threads are on their way at once, new ones excepted.
const COMING: usize = 4;

/// How many idle threads look out for a task before they sleep, and how often each of them looks.
/// To be woken takes longer, and what follows a turn is often the next one.
const LOOKING: usize = 16;
const LOOKS: usize = 12;

pub(crate) struct BlockingLane {
    state: Mutex<State>,
    settings: LaneSettings,
    named: AtomicU64,
    /// How many tasks are queued, to be read without the lock.
    queued: AtomicUsize,
}

/// What a lane's threads are like.
#[derive(Debug, Clone)]
pub(crate) struct LaneSettings {
    pub(crate) keep_alive: Duration,
    pub(crate) stack_size: usize,
    pub(crate) priority: Option<i32>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Task>,
    /// Threads that wait; the one that came last is woken first.
    idle: Vec<Arc<Sleeper>>,
    /// Threads that were woken or made and haven't come yet.
    coming: usize,
    threads: usize,
    /// Tasks that are about to be submitted and that no thread was called for yet.
    announced: usize,
    /// Idle threads that look out for a task.
    looking: usize,
    closed: bool,
}

/// A thread that waits for a task.
struct Sleeper {
    thread: Thread,
    /// Set and unset under the lane's lock.
    woken: AtomicBool,
}

impl Sleeper {
    /// Looks out for being woken for a moment, and leaves the core to others meanwhile.
    fn look_out(&self) {
        for _ in 0..LOOKS {
            if self.woken.load(Ordering::Relaxed) {
                return;
            }
            thread::yield_now();
        }
    }
}

/// Wakes threads that were told so under the lane's lock, which is free by now.
fn wake(sleepers: impl IntoIterator<Item = Arc<Sleeper>>) {
    for sleeper in sleepers {
        sleeper.thread.unpark();
    }
}

impl State {
    /// The next thread to wake, if tasks are left for it.
    fn next(&mut self) -> Option<Arc<Sleeper>> {
        self.next_of(self.queue.len())
    }

    /// The next thread to wake, if of so many tasks some are left for it.
    fn next_of(&mut self, tasks: usize) -> Option<Arc<Sleeper>> {
        if self.coming >= COMING.min(tasks) {
            return None;
        }
        let sleeper = self.idle.pop()?;
        sleeper.woken.store(true, Ordering::Relaxed);
        self.coming += 1;
        Some(sleeper)
    }

    /// The next threads to wake, as far as of so many tasks some are left for them.
    fn next_few(&mut self, tasks: usize) -> [Option<Arc<Sleeper>>; COMING] {
        let mut woken = [const { None }; COMING];
        for sleeper in &mut woken {
            *sleeper = self.next_of(tasks);
        }
        woken
    }
}

impl BlockingLane {
    pub(crate) fn new(settings: LaneSettings) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            settings,
            named: AtomicU64::new(0),
            queued: AtomicUsize::new(0),
        })
    }

    /// Hands tasks to idle threads, or to new ones; gives as many back as the system gave no
    /// thread for. They need not be the same ones.
    #[must_use]
    pub(crate) fn submit(self: &Arc<Self>, tasks: Vec<Task>) -> Vec<Task> {
        let mut state = self.state.lock();
        state.queue.extend(tasks);
        state.announced = 0;
        let queued = state.queue.len();
        self.queued.store(queued, Ordering::Relaxed);
        let missing = queued.saturating_sub(state.idle.len() + state.coming);
        state.threads += missing;
        let woken = state.next_few(queued);
        state.coming += missing;
        drop(state);
        wake(woken.into_iter().flatten());
        let mut refused = Vec::new();
        for _ in 0..missing {
            refused.extend(self.spawn());
        }
        if missing > refused.len() {
            say::catch_up();
        }
        refused
    }

    /// Wakes an idle thread for tasks that are about to be submitted, because to be woken takes
    /// longer than to get them ready. It calls others, and looks out for its task.
    pub(crate) fn call_ahead(&self, tasks: usize) {
        let mut state = self.state.lock();
        let woken = state.next_of(tasks.min(1));
        state.announced = tasks.saturating_sub(1);
        drop(state);
        wake(woken);
    }

    /// Makes a thread; where the system gives none, the task that is left without one.
    fn spawn(self: &Arc<Self>) -> Option<Task> {
        let lane = Arc::clone(self);
        // Of the one type that all threads start with, so that they start by the same code.
        let life: Box<dyn FnOnce() + Send> = Box::new(move || lane.work());
        let number = self.named.fetch_add(1, Ordering::Relaxed);
        let spawned = thread::Builder::new()
            .name(format!("toolpool-blocking-{number}"))
            .stack_size(self.settings.stack_size)
            .spawn(life);
        let Err(error) = spawned else { return None };
        say::warn(format_args!("no thread for a call: {error}"));
        let mut state = self.state.lock();
        state.threads -= 1;
        state.coming -= 1;
        let is_served = state.queue.len() <= state.idle.len() + state.coming;
        let task = if is_served { None } else { state.queue.pop_back() };
        self.queued.store(state.queue.len(), Ordering::Relaxed);
        let woken = state.next();
        drop(state);
        wake(woken);
        task
    }

    /// The next task, and who is to be woken for those behind it.
    fn next(&self, state: &mut State) -> Option<(Task, Option<Arc<Sleeper>>)> {
        let task = state.queue.pop_front()?;
        self.queued.store(state.queue.len(), Ordering::Relaxed);
        Some((task, state.next()))
    }

    /// A task for a thread of the lane that is about to be done with its own.
    pub(crate) fn take(&self) -> Option<Task> {
        // One that comes in this very moment has a thread on its way.
        if self.queued.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let (task, woken) = self.next(&mut self.state.lock())?;
        wake(woken);
        Some(task)
    }

    /// A thread's life.
    fn work(&self) {
        if let Some(nice) = self.settings.priority {
            set_priority(nice);
        }
        let me = Arc::new(Sleeper { thread: thread::current(), woken: AtomicBool::new(false) });
        let mut state = self.state.lock();
        state.coming -= 1;
        loop {
            if let Some((task, woken)) = self.next(&mut state) {
                drop(state);
                wake(woken);
                task.run();
                state = self.state.lock();
            } else if state.closed || !self.wait(&me, &mut state) {
                break;
            }
        }
        state.threads -= 1;
    }

    /// Waits until there may be a task; whether there may be one.
    fn wait(&self, me: &Arc<Sleeper>, state: &mut MutexGuard<'_, State>) -> bool {
        state.idle.push(Arc::clone(me));
        if state.looking < LOOKING {
            state.looking += 1;
            MutexGuard::unlocked(state, || me.look_out());
            state.looking -= 1;
        }
        let mut timed_out = false;
        loop {
            if me.woken.swap(false, Ordering::Relaxed) {
                state.coming -= 1;
                if state.announced > 0 {
                    let announced = std::mem::take(&mut state.announced);
                    let others = state.next_few(announced);
                    MutexGuard::unlocked(state, || wake(others.into_iter().flatten()));
                }
                return true;
            }
            if timed_out {
                state.idle.retain(|other| !Arc::ptr_eq(other, me));
                return !state.queue.is_empty();
            }
            timed_out = rest(state, self.settings.keep_alive);
        }
    }

    /// Ends the idle threads now, and the others when they are done. Doesn't wait.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let idle = std::mem::take(&mut state.idle);
        for sleeper in &idle {
            sleeper.woken.store(true, Ordering::Relaxed);
        }
        state.coming += idle.len();
        drop(state);
        wake(idle);
    }

    /// How many threads there are, idle ones included.
    pub(crate) fn threads(&self) -> usize {
        self.state.lock().threads
    }
}

#[cfg(all(feature = "priority", target_os = "linux"))]
fn set_priority(nice: i32) {
    // On Linux a priority is a thread's, whatever the call's name says.
    if let Err(error) = rustix::process::setpriority_process(None, nice) {
        say::warn(format_args!("can't set the priority of a tool's thread: {error}"));
    }
}

#[cfg(not(all(feature = "priority", target_os = "linux")))]
fn set_priority(_nice: i32) {
    say::warn(format_args!("tool_priority has no effect on this system"));
}
