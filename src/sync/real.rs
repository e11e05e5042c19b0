//! The system's.

pub(crate) use crossbeam_channel as channel;
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
pub(crate) use std::sync::atomic;
pub(crate) use std::thread;
pub(crate) use std::thread_local as local;

use std::time::{Duration, Instant};

/// Waits, without the lock, to be unparked, for `span` at most; whether it took that long. It may
/// end for nothing.
pub(crate) fn rest<T>(guard: &mut MutexGuard<'_, T>, span: Duration) -> bool {
    MutexGuard::unlocked(guard, || {
        let began = Instant::now();
        thread::park_timeout(span);
        began.elapsed() >= span
    })
}
