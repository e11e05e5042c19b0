//! Cached OS threads: a thread a running call, kept for a while when it is idle.
//!
//! `idle` counts the threads that wait and have no task promised. Whoever sends a task takes one
//! off first, or makes a thread, so every task has a thread that will come for it. Which of those
//! that wait gets which task is open: a new thread may take the task that was meant for an idle
//! one. So a thread that gives up waiting leaves only if, under the lock, one is left that has no
//! task promised.

use std::sync::Arc;
use std::time::Duration;

use super::Task;
use crate::executor::say;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::channel::{self, Receiver, Sender};
use crate::sync::{Mutex, thread};

pub(crate) struct BlockingLane {
    state: Mutex<State>,
    sender: Sender<Task>,
    tasks: Receiver<Task>,
    settings: LaneSettings,
    named: AtomicU64,
}

/// What a lane's threads are like.
#[derive(Debug, Clone)]
pub(crate) struct LaneSettings {
    pub(crate) keep_alive: Duration,
    pub(crate) stack_size: usize,
    pub(crate) priority: Option<i32>,
}

#[derive(Debug, Default)]
struct State {
    idle: usize,
    threads: usize,
    closed: bool,
}

impl BlockingLane {
    pub(crate) fn new(settings: LaneSettings) -> Arc<Self> {
        let (sender, tasks) = channel::unbounded();
        Arc::new(Self {
            state: Mutex::default(),
            sender,
            tasks,
            settings,
            named: AtomicU64::new(0),
        })
    }

    /// Hands a task to an idle thread, or to a new one; gives it back when there is no thread.
    pub(crate) fn submit(self: &Arc<Self>, task: Task) -> Result<(), Task> {
        let mut state = self.state.lock();
        if state.idle > 0 {
            state.idle -= 1;
        } else {
            state.threads += 1;
            drop(state);
            if let Err(error) = self.spawn() {
                say::warn(format_args!("no thread for a call: {error}"));
                self.state.lock().threads -= 1;
                return Err(task);
            }
            say::catch_up();
        }
        self.sender.send(task).map_err(|unsent| unsent.0)
    }

    fn spawn(self: &Arc<Self>) -> std::io::Result<()> {
        let lane = Arc::clone(self);
        let number = self.named.fetch_add(1, Ordering::Relaxed);
        thread::Builder::new()
            .name(format!("toolpool-blocking-{number}"))
            .stack_size(self.settings.stack_size)
            .spawn(move || lane.work())
            .map(drop)
    }

    /// A thread's life. It comes for a task that was promised to it.
    fn work(&self) {
        if let Some(nice) = self.settings.priority {
            set_priority(nice);
        }
        loop {
            match self.wait() {
                None | Some(Task::Exit) => break,
                Some(task) => task.run(),
            }
            let mut state = self.state.lock();
            if state.closed {
                state.threads -= 1;
                return;
            }
            state.idle += 1;
        }
        self.state.lock().threads -= 1;
    }

    /// The next task; nothing when none came for a while and none is promised to this thread.
    fn wait(&self) -> Option<Task> {
        loop {
            if let Ok(task) = self.tasks.recv_timeout(self.settings.keep_alive) {
                return Some(task);
            }
            let mut state = self.state.lock();
            if state.idle > 0 {
                state.idle -= 1;
                return None;
            }
        }
    }

    /// Ends the idle threads now, and the others when they are done. Doesn't wait.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        for _ in 0..std::mem::take(&mut state.idle) {
            let _ = self.sender.send(Task::Exit);
        }
    }

    /// How many threads there are, idle ones included.
    pub(crate) fn threads(&self) -> usize {
        self.state.lock().threads
    }
}

#[cfg(target_os = "linux")]
fn set_priority(nice: i32) {
    // On Linux a priority is a thread's, whatever the call's name says.
    if let Err(error) = rustix::process::setpriority_process(None, nice) {
        say::warn(format_args!("can't set the priority of a tool's thread: {error}"));
    }
}

#[cfg(not(target_os = "linux"))]
fn set_priority(_nice: i32) {
    say::warn(format_args!("tool_priority has no effect on this system"));
}
