//! Who looks after the deadlines of batches that no thread waits for at the moment: those that
//! still grow, and those that were dropped.

use std::time::Instant;

use crate::executor::core::Core;
use crate::executor::scheduler::{BatchId, Sorted};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::channel::{self, Receiver, Sender};
use crate::time::Deadline;

/// The unattended batches, and the one thread that stands in for their collectors.
pub(super) struct StandIn {
    state: Mutex<State>,
    /// How many batches there are, to be read without the lock.
    count: AtomicUsize,
    waker: Sender<()>,
    woken: Receiver<()>,
}

struct State {
    batches: Sorted<BatchId>,
    standing: bool,
}

impl Default for StandIn {
    fn default() -> Self {
        let (waker, woken) = channel::bounded(1);
        let state = Mutex::new(State { batches: Sorted::new(), standing: false });
        Self { state, count: AtomicUsize::new(0), waker, woken }
    }
}

impl StandIn {
    /// Adds a batch; whether a thread has to be found to stand in.
    pub(super) fn add(&self, id: BatchId) -> bool {
        let mut state = self.state.lock();
        state.batches.insert(id, ());
        self.count.store(state.batches.len(), Ordering::SeqCst);
        let first = !std::mem::replace(&mut state.standing, true);
        drop(state);
        let _ = self.waker.try_send(());
        first
    }

    pub(super) fn remove(&self, id: BatchId) {
        let mut state = self.state.lock();
        let is_last = state.batches.remove(id).is_some() && state.batches.is_empty();
        self.count.store(state.batches.len(), Ordering::SeqCst);
        if is_last {
            let _ = self.waker.try_send(());
        }
    }

    /// No thread could be found.
    pub(super) fn failed(&self) {
        self.state.lock().standing = false;
    }

    /// Something about a batch has changed.
    pub(super) fn wake(&self, id: BatchId) {
        let is_here = || self.state.lock().batches.get(id).is_some();
        if self.count.load(Ordering::SeqCst) > 0 && is_here() {
            let _ = self.waker.try_send(());
        }
    }

    /// Stands in until no batch is left.
    pub(super) fn stand(&self, core: &Core) {
        loop {
            let batches: Vec<BatchId> = {
                let mut state = self.state.lock();
                if state.batches.is_empty() {
                    state.standing = false;
                    return;
                }
                state.batches.iter().map(|(id, ())| id).collect()
            };
            let (due, over) = core.with(|scheduler, now, out| {
                let mut due = Deadline::Never;
                let mut over = Vec::new();
                scheduler.tick_all(&batches, now, out);
                for id in batches {
                    due = due.min(scheduler.next_due(id, now));
                    if !scheduler.is_open(id) {
                        over.push(id);
                    }
                }
                (due, over)
            });
            if !over.is_empty() {
                let mut state = self.state.lock();
                for id in over {
                    state.batches.remove(id);
                }
                self.count.store(state.batches.len(), Ordering::SeqCst);
                continue;
            }
            match due {
                Deadline::At(at) if at <= Instant::now() => {}
                Deadline::At(at) => drop(self.woken.recv_deadline(at)),
                Deadline::Never => drop(self.woken.recv()),
            }
        }
    }
}
