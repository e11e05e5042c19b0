//! Wakes a collector ahead of its batch's last result: to be woken takes longer than to settle it.

use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::channel::Sender;

/// What a batch's workers know of its collector. A hint: where it is wrong, the collector is woken
/// for nothing, or not ahead.
pub(crate) struct Ahead {
    collector: Sender<()>,
    /// Calls that were handed in and whose handlers haven't returned.
    running: AtomicUsize,
    asleep: AtomicBool,
}

impl Ahead {
    pub(crate) fn new(collector: Sender<()>) -> Self {
        Self { collector, running: AtomicUsize::new(0), asleep: AtomicBool::new(false) }
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
}
