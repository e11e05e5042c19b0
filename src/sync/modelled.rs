//! Modelled ones, with the real ones' faces as far as they are used.
//!
//! Time isn't modelled. A wait for work may give up at any moment, as an idle thread's does. A wait
//! for a deadline never ends by itself: who depends on being woken and isn't, is found.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use shuttle::rand::Rng;
pub(crate) use shuttle::sync::atomic;
pub(crate) use shuttle::thread;
pub(crate) use shuttle::thread_local as local;

#[derive(Default)]
pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

pub(crate) struct MutexGuard<'a, T> {
    lock: &'a Mutex<T>,
    held: Option<shuttle::sync::MutexGuard<'a, T>>,
}

impl<T> MutexGuard<'_, T> {
    pub(crate) fn unlocked(guard: &mut Self, run: impl FnOnce()) {
        guard.held = None;
        run();
        *guard = guard.lock.lock();
    }
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        MutexGuard { lock: self, held: Some(held) }
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mutex")
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.held.as_deref().expect("a guard is without its lock only while it waits")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.as_deref_mut().expect("a guard is without its lock only while it waits")
    }
}

/// Gives up now and then, and ends for nothing as often as it likes.
pub(crate) fn rest<T>(guard: &mut MutexGuard<'_, T>, _: Duration) -> bool {
    MutexGuard::unlocked(guard, thread::yield_now);
    shuttle::rand::thread_rng().gen_ratio(1, 4)
}

#[derive(Debug, Default)]
pub(crate) struct Condvar(shuttle::sync::Condvar);

pub(crate) struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub(crate) fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let Some(held) = guard.held.take() else { return };
        guard.held = Some(self.0.wait(held).unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn wait_until<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        _: Instant,
    ) -> WaitTimeoutResult {
        self.wait(guard);
        WaitTimeoutResult(false)
    }

    /// Gives up now and then, and wakes for nothing as often as it likes.
    pub(crate) fn wait_for<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        span: Duration,
    ) -> WaitTimeoutResult {
        WaitTimeoutResult(rest(guard, span))
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }
}

/// A channel of a queue, a lock and a condition.
pub(crate) mod channel {
    use std::collections::VecDeque;
    use std::sync::Arc;
    use std::time::Instant;

    pub(crate) use crossbeam_channel::{
        RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError,
    };

    use super::{Condvar, Mutex};

    struct Queue<T> {
        waiting: Mutex<VecDeque<T>>,
        changed: Condvar,
        room: usize,
    }

    /// Ends are counted by nobody: a channel is never disconnected.
    pub(crate) struct Sender<T>(Arc<Queue<T>>);
    pub(crate) struct Receiver<T>(Arc<Queue<T>>);

    pub(crate) fn bounded<T>(room: usize) -> (Sender<T>, Receiver<T>) {
        let (waiting, changed) = (Mutex::new(VecDeque::new()), Condvar::new());
        let queue = Arc::new(Queue { waiting, changed, room });
        (Sender(Arc::clone(&queue)), Receiver(queue))
    }

    impl<T> Clone for Sender<T> {
        fn clone(&self) -> Self {
            Self(Arc::clone(&self.0))
        }
    }

    impl<T> Clone for Receiver<T> {
        fn clone(&self) -> Self {
            Self(Arc::clone(&self.0))
        }
    }

    impl<T> Sender<T> {
        pub(crate) fn send(&self, value: T) -> Result<(), SendError<T>> {
            self.0.waiting.lock().push_back(value);
            self.0.changed.notify_one();
            Ok(())
        }

        pub(crate) fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
            let mut waiting = self.0.waiting.lock();
            if waiting.len() >= self.0.room {
                return Err(TrySendError::Full(value));
            }
            waiting.push_back(value);
            drop(waiting);
            self.0.changed.notify_one();
            Ok(())
        }
    }

    impl<T> Receiver<T> {
        fn pop(&self) -> Option<T> {
            self.0.waiting.lock().pop_front()
        }

        pub(crate) fn recv(&self) -> Result<T, RecvError> {
            let mut waiting = self.0.waiting.lock();
            loop {
                match waiting.pop_front() {
                    Some(value) => return Ok(value),
                    None => self.0.changed.wait(&mut waiting),
                }
            }
        }

        pub(crate) fn recv_deadline(&self, _: Instant) -> Result<T, RecvTimeoutError> {
            self.recv().map_err(|_| RecvTimeoutError::Disconnected)
        }

        pub(crate) fn try_recv(&self) -> Result<T, TryRecvError> {
            self.pop().ok_or(TryRecvError::Empty)
        }
    }
}
