//! Cooperative cancellation: a flag that can be waited for, with children and callbacks.
//!
//! No lock is held while a callback runs, and a parent keeps no dropped child.

use std::fmt;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use log::Level;

use crate::logging::log;
use crate::sync::atomic::{AtomicBool, Ordering, fence};
use crate::sync::{Condvar, Mutex};
use crate::time::Deadline;

pub(crate) type Callback = Box<dyn FnOnce() + Send>;

enum OnCancelled {
    /// Of ours: wakes a waiter, never blocks.
    Wake(Callback),
    /// The user's.
    Run(Callback),
}

/// Says that work should stop. Clones share one state; [`child`](CancelToken::child) makes a token
/// that its parent cancels too.
///
/// Cancelling is final and may be done from any thread, any number of times.
///
/// ```
/// use toolpool::CancelToken;
///
/// let batch = CancelToken::new();
/// let call = batch.child();
/// batch.cancel();
/// assert!(call.is_cancelled());
/// ```
///
/// # Ctrl-C
/// With the crate `ctrlc`, whose handler runs on a thread of its own:
///
/// ```text
/// let hangup = CancelToken::new();
/// let pressed = hangup.clone();
/// ctrlc::set_handler(move || pressed.cancel())?;
/// let report = executor.turn(&turn).cancel(&hangup).run(); // complete, and soon there
/// ```
///
/// A bare signal handler must not cancel: that takes locks and runs callbacks, on its thread.
#[derive(Clone)]
pub struct CancelToken(Arc<Inner>);

struct Inner {
    cancelled: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
    /// And this one's place there.
    parent: Option<(Weak<Inner>, usize)>,
}

#[derive(Default)]
struct State {
    next_id: u64,
    /// A child keeps its place; one that was dropped leaves it to the next.
    children: Vec<Option<Weak<Inner>>>,
    free: Vec<usize>,
    callbacks: Vec<(u64, OnCancelled)>,
}

impl CancelToken {
    /// A token that nothing but its own [`cancel`](Self::cancel) cancels.
    pub fn new() -> Self {
        Self(Arc::new(Inner::new(None)))
    }

    /// A token that is cancelled with this one, or on its own. Born cancelled if this one is.
    pub fn child(&self) -> Self {
        let mut state = self.0.state.lock();
        if self.is_cancelled() {
            let child = Inner::new(None);
            child.cancelled.store(true, Ordering::Release);
            return Self(Arc::new(child));
        }
        let at = state.free.pop().unwrap_or(state.children.len());
        let child = Arc::new(Inner::new(Some((Arc::downgrade(&self.0), at))));
        let place = Some(Arc::downgrade(&child));
        match state.children.get_mut(at) {
            Some(free) => *free = place,
            None => state.children.push(place),
        }
        Self(child)
    }

    /// Cancels this token and its children, wakes who waits, and runs the callbacks on this thread.
    ///
    /// A run that it cancels ends when its tools have returned, and at the latest after their
    /// [grace](crate::ExecutorBuilder::grace) if they ignore it: 10 % of the call's timeout and 500 ms
    /// at most, unless set.
    pub fn cancel(&self) {
        for callback in self.signal() {
            run(callback);
        }
    }

    /// As [`cancel`](Self::cancel), with the callbacks given back to be run elsewhere.
    pub(crate) fn signal(&self) -> Vec<Callback> {
        let mut callbacks = Vec::new();
        let mut next = Some(Arc::clone(&self.0));
        let mut pending = Vec::new();
        while let Some(inner) = next.or_else(|| pending.pop()) {
            next = None;
            let mut state = inner.state.lock();
            inner.cancelled.store(true, Ordering::Release);
            let registered = std::mem::take(&mut state.callbacks);
            let children = std::mem::take(&mut state.children);
            drop(state);
            inner.changed.notify_all();
            if registered.is_empty() && children.is_empty() {
                continue;
            }
            pending.extend(children.iter().flatten().filter_map(Weak::upgrade));
            for (_, registered) in registered {
                match registered {
                    OnCancelled::Wake(wake) => wake(),
                    OnCancelled::Run(callback) => callbacks.push(callback),
                }
            }
        }
        callbacks
    }

    /// Runs `wake`, which must neither block nor panic, when the token is cancelled.
    pub(crate) fn wake_on_cancel(&self, wake: impl FnOnce() + Send + 'static) -> OnCancel {
        self.register(OnCancelled::Wake(Box::new(wake)))
    }

    /// Whether the token was cancelled. Costs one atomic load.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Acquire)
    }

    /// Runs `callback` when the token is cancelled, on the thread that cancels; at once if it
    /// already is. Dropping the guard takes the callback back. A panic in it is logged.
    pub fn on_cancel(&self, callback: impl FnOnce() + Send + 'static) -> OnCancel {
        self.register(OnCancelled::Run(Box::new(callback)))
    }

    fn register(&self, registered: OnCancelled) -> OnCancel {
        let mut state = self.0.state.lock();
        if self.is_cancelled() {
            drop(state);
            match registered {
                OnCancelled::Wake(wake) => wake(),
                OnCancelled::Run(callback) => run(callback),
            }
            return OnCancel(None);
        }
        let id = state.take_id();
        state.callbacks.push((id, registered));
        OnCancel(Some((Arc::downgrade(&self.0), id)))
    }

    /// Waits until the token is cancelled (`true`) or `deadline` is there (`false`).
    pub fn wait(&self, deadline: Deadline) -> bool {
        let mut state = self.0.state.lock();
        while !self.is_cancelled() {
            match deadline {
                Deadline::At(at) => {
                    if self.0.changed.wait_until(&mut state, at).timed_out() {
                        return self.is_cancelled();
                    }
                }
                Deadline::Never => self.0.changed.wait(&mut state),
            }
        }
        true
    }

    /// Sleeps for `span` unless the token is cancelled first: `true` when it slept it all.
    pub fn sleep(&self, span: Duration) -> bool {
        !self.wait(Deadline::after(Instant::now(), span))
    }
}

/// A token that is made when it is first asked for.
#[derive(Default)]
pub(crate) struct LateToken {
    cancelled: AtomicBool,
    token: OnceLock<CancelToken>,
}

impl LateToken {
    pub(crate) fn get(&self) -> &CancelToken {
        let token = self.token.get_or_init(CancelToken::new);
        // Either this sees that it was cancelled, or who cancels sees the token: of two who each
        // write one thing and then read the other's, the one whose fence is later sees both.
        fence(Ordering::SeqCst);
        if self.cancelled.load(Ordering::Acquire) && !token.is_cancelled() {
            token.cancel();
        }
        token
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
            || self.token.get().is_some_and(CancelToken::is_cancelled)
    }

    /// As [`CancelToken::signal`].
    pub(crate) fn signal(&self) -> Vec<Callback> {
        self.cancelled.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        self.token.get().map(CancelToken::signal).unwrap_or_default()
    }
}

impl Default for CancelToken {
    fn default() -> Self {
        Self::new()
    }
}

/// A panic leaves it as it was: callbacks run when its state has been changed.
impl UnwindSafe for CancelToken {}
impl RefUnwindSafe for CancelToken {}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken").field("cancelled", &self.is_cancelled()).finish()
    }
}

impl Inner {
    fn new(parent: Option<(Weak<Inner>, usize)>) -> Self {
        Self {
            cancelled: AtomicBool::new(false),
            state: Mutex::default(),
            changed: Condvar::new(),
            parent,
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some((parent, at)) = self.parent.take()
            && let Some(parent) = parent.upgrade()
        {
            let mut state = parent.state.lock();
            // Once the parent is cancelled it has no children.
            if let Some(place) = state.children.get_mut(at) {
                *place = None;
                state.free.push(at);
            }
        }
    }
}

impl State {
    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

fn run(callback: Callback) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(callback)) {
        // Its drop may panic, too: the other callbacks are still to run.
        std::mem::forget(payload);
        log(Level::Warn, format_args!("a cancellation callback panicked"));
    }
}

/// Takes a callback of [`CancelToken::on_cancel`] back when dropped.
#[must_use = "dropping the guard takes the callback back"]
pub struct OnCancel(Option<(Weak<Inner>, u64)>);

impl fmt::Debug for OnCancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnCancel")
    }
}

impl Drop for OnCancel {
    fn drop(&mut self) {
        let Some((token, id)) = self.0.take() else { return };
        let Some(token) = token.upgrade() else { return };
        let mut state = token.state.lock();
        let at = state.callbacks.iter().position(|(other, _)| *other == id);
        let callback = at.map(|at| state.callbacks.swap_remove(at));
        drop(state);
        drop(callback);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_child_leaves_nothing_in_its_parent() {
        let parent = CancelToken::new();
        for _ in 0..1000 {
            let _ = parent.child();
        }
        assert_eq!(parent.0.state.lock().children.len(), 1); // the place they had after each other
    }

    #[test]
    fn callbacks_run_once_and_can_be_taken_back() {
        let token = CancelToken::new();
        let (sent, got) = crossbeam_channel::unbounded();
        let kept = token.on_cancel({
            let sent = sent.clone();
            move || sent.send("kept").unwrap_or_default()
        });
        drop(token.on_cancel({
            let sent = sent.clone();
            move || sent.send("dropped").unwrap_or_default()
        }));
        token.cancel();
        token.cancel();
        drop(kept);
        let _late = token.on_cancel(move || sent.send("late").unwrap_or_default());
        assert_eq!(got.try_iter().collect::<Vec<_>>(), ["kept", "late"]);
    }

    #[test]
    fn waiting_ends_at_the_cancel_or_at_the_deadline() {
        let token = CancelToken::new();
        assert!(!token.wait(Deadline::after(Instant::now(), Duration::from_millis(1))));
        let waiter = std::thread::spawn({
            let token = token.child();
            move || token.sleep(Duration::from_secs(60))
        });
        token.cancel();
        assert!(matches!(waiter.join(), Ok(false)));
    }

    #[test]
    fn cancelling_often_from_everywhere_is_cancelling_once() {
        let token = CancelToken::new();
        let (sent, got) = crossbeam_channel::unbounded();
        let again = token.clone();
        let _guard = token.on_cancel(move || {
            again.cancel();
            sent.send(()).unwrap_or_default();
        });
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| token.cancel());
            }
        });
        assert_eq!(got.try_iter().count(), 1);
        assert!(token.child().is_cancelled(), "a child of a cancelled token is born cancelled");
    }

    #[test]
    fn fault_059_a_child_cancels_neither_its_parent_nor_its_siblings() {
        let parent = CancelToken::new();
        let (one, other) = (parent.child(), parent.child());
        let grandchild = one.child();
        one.cancel();
        assert!(grandchild.is_cancelled());
        assert!(!parent.is_cancelled() && !other.is_cancelled());
        drop(parent);
        other.cancel();
        assert!(other.is_cancelled(), "a child outlives its parent");
    }

    #[test]
    fn a_sleeper_wakes_at_the_cancel() {
        let token = CancelToken::new();
        let sleeper = std::thread::spawn({
            let token = token.clone();
            move || {
                token.sleep(Duration::from_secs(3600));
                Instant::now()
            }
        });
        std::thread::sleep(Duration::from_millis(20));
        let cancelled = Instant::now();
        token.cancel();
        let woken = sleeper.join().unwrap();
        assert!(woken.saturating_duration_since(cancelled) < Duration::from_secs(10));
    }

    #[test]
    fn a_panic_in_a_callback_keeps_the_others_running() {
        let token = CancelToken::new();
        let (sent, got) = crossbeam_channel::unbounded();
        struct DropsBadly;
        impl Drop for DropsBadly {
            fn drop(&mut self) {
                panic!("nor this");
            }
        }
        let _panics = token.on_cancel(|| panic!("no"));
        let _drops_badly = token.on_cancel(|| std::panic::panic_any(DropsBadly));
        let _runs = token.on_cancel(move || sent.send(()).unwrap_or_default());
        token.cancel();
        assert_eq!(got.try_iter().count(), 1);
    }
}
