//! What a batch's workers do for its collector, which takes long to wake: they wake it ahead, and
//! close the batch meanwhile.

use std::sync::Arc;

use crate::executor::job::Job;
use crate::executor::scheduler::Closed;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::channel::Sender;

/// What a batch's workers know of its collector, and have for it.
pub(crate) struct Ahead {
    collector: Sender<()>,
    /// Calls that were handed in and whose handlers haven't returned. A hint, as `asleep` is: where
    /// it is wrong, the collector is woken for nothing, or not ahead.
    running: AtomicUsize,
    asleep: AtomicBool,
    /// The batch, once it is closed. Locked after the scheduler.
    closed: Mutex<Option<Closed<Arc<Job>>>>,
}

impl Ahead {
    pub(crate) fn new(collector: Sender<()>) -> Self {
        Self {
            collector,
            running: AtomicUsize::new(0),
            asleep: AtomicBool::new(false),
            closed: Mutex::new(None),
        }
    }

    /// So many handlers more are to return.
    pub(crate) fn expect(&self, handlers: usize) {
        self.running.fetch_add(handlers, Ordering::Relaxed);
    }

    /// A handler has returned. With the last one a collector that sleeps is woken.
    pub(crate) fn returned(&self) {
        let is_last = self.running.fetch_sub(1, Ordering::Relaxed) == 1;
        if is_last && self.asleep.load(Ordering::Relaxed) {
            let _ = self.collector.try_send(());
        }
    }

    /// Sleeps: the collector's.
    pub(crate) fn asleep(&self, sleep: impl FnOnce()) {
        self.asleep.store(true, Ordering::Relaxed);
        sleep();
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// The batch is over. Said under the scheduler's lock, so that a batch that isn't there any more
    /// is found here; the collector takes it out in any case, because its calls hold this.
    pub(crate) fn close(&self, closed: Closed<Arc<Job>>) {
        *self.closed.lock() = Some(closed);
    }

    /// Takes the batch out, if a worker has closed it.
    pub(crate) fn take_closed(&self) -> Option<Closed<Arc<Job>>> {
        self.closed.lock().take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::channel::bounded;

    #[test]
    fn the_last_handler_to_return_wakes_a_collector_that_sleeps() {
        let (collector, wakes) = bounded(1);
        let ahead = Ahead::new(collector);
        ahead.expect(2);
        ahead.asleep(|| {
            ahead.returned();
            assert!(wakes.try_recv().is_err(), "one is still to return");
            ahead.expect(1); // another attempt
            ahead.returned();
            assert!(wakes.try_recv().is_err(), "one is still to return");
            ahead.returned();
            assert!(wakes.try_recv().is_ok());
        });
        ahead.expect(1);
        ahead.returned();
        assert!(wakes.try_recv().is_err(), "it is awake");
    }
}
