//! What a handler gets beside its arguments.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::bound::{Allowance, ResultLimit};
use crate::call::ToolCall;
use crate::cancel::{CancelToken, OnCancel};
use crate::error::{ToolError, ToolErrorKind};
use crate::report::Report;
use crate::sync::Mutex;
use crate::time::Deadline;
use crate::turn::Turn;

/// What a handler gets beside its arguments: the time it has left, cancellation, the run's
/// context, and nested batches. Cheap to clone; a clone that outlives the call says it is
/// cancelled.
#[derive(Clone)]
pub struct CallContext {
    host: Arc<dyn Host>,
    attempt: u32,
    /// When the call is signalled to stop; its end is a grace later.
    signal_at: Deadline,
}

/// What an executor knows of a call and does for its handler.
pub(crate) trait Host: Send + Sync {
    fn call(&self) -> &ToolCall;
    /// The call's place in its turn.
    fn index(&self) -> usize;
    fn cancel(&self) -> &CancelToken;
    /// Whether that token is cancelled, which need not be made to know it.
    fn is_cancelled(&self) -> bool;
    /// What the idempotency keys of the run begin with.
    fn seed(&self) -> &str;
    /// The run's value for its handlers.
    fn value(&self) -> Option<&(dyn Any + Send + Sync)>;
    /// How large the result may be, and what is left for it.
    fn result_limit(&self) -> (&ResultLimit, &Allowance);
    /// Whether the call is over, so that no result of it is wanted.
    fn is_settled(&self) -> bool;
    /// Runs a batch for the call `cx` is of, and lends the call's permits meanwhile.
    fn run_nested(self: Arc<Self>, turn: &Turn, cx: &CallContext) -> Report;
    /// The closers of the call.
    fn closers(&self) -> &Closers;
    /// The handler has returned; what it gave is still to become an output.
    fn returned(&self);
    /// Offers progress to the observer; doesn't block.
    fn progress(&self, text: &str);
}

/// The closers of one call: run once, when the call is about to be walked away from.
#[derive(Default)]
pub(crate) struct Closers(Mutex<ClosersState>);

#[derive(Default)]
struct ClosersState {
    next: u64,
    closed: bool,
    waiting: Vec<(u64, Box<dyn FnOnce() + Send>)>,
}

impl Closers {
    /// Takes all closers; the caller runs them, without a lock.
    pub(crate) fn take(&self) -> Vec<Box<dyn FnOnce() + Send>> {
        let mut state = self.0.lock();
        state.closed = true;
        std::mem::take(&mut state.waiting).into_iter().map(|(_, closer)| closer).collect()
    }

    /// The call is over: whoever still works for it and registers a closer is too late.
    pub(crate) fn close(&self) {
        self.0.lock().closed = true;
    }
}

/// Takes a closer of [`CallContext::on_cancel`] back when dropped.
#[must_use = "dropping the guard takes the closer back"]
pub struct Closer {
    cx: CallContext,
    id: Option<u64>,
}

impl fmt::Debug for Closer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Closer")
    }
}

impl Drop for Closer {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let mut state = self.cx.host.closers().0.lock();
        let at = state.waiting.iter().position(|(other, _)| *other == id);
        let closer = at.map(|at| state.waiting.swap_remove(at));
        drop(state);
        drop(closer);
    }
}

impl CallContext {
    pub(crate) fn new(host: Arc<dyn Host>, attempt: u32, signal_at: Deadline) -> Self {
        Self { host, attempt, signal_at }
    }

    pub(crate) fn returned(&self) {
        self.host.returned();
    }

    pub(crate) fn result_limit(&self) -> (&ResultLimit, &Allowance) {
        self.host.result_limit()
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.host.is_settled()
    }

    /// What the model asked.
    pub fn call(&self) -> &ToolCall {
        self.host.call()
    }

    /// The call's place in its turn, from 0.
    pub fn index(&self) -> usize {
        self.host.index()
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Time left until the call is told to stop, and none once it was; [`Duration::MAX`] where
    /// nothing limits it. Hand it to whatever the handler waits for.
    pub fn remaining(&self) -> Duration {
        if self.is_cancelled() {
            return Duration::ZERO;
        }
        self.signal_at.remaining(Instant::now()).unwrap_or(Duration::MAX)
    }

    /// When the call is told to stop at the latest, as it was known when the attempt began. A
    /// cancel may tell it sooner, and so may the deadline of a batch that was begun before its
    /// message was complete.
    pub fn deadline(&self) -> Deadline {
        self.signal_at
    }

    /// Whether the call should stop: its time is over, its batch was cancelled or aborted, or it
    /// was settled already.
    pub fn is_cancelled(&self) -> bool {
        self.host.is_cancelled()
    }

    /// An error when the call should stop: `cx.check()?` in a loop makes it cooperative.
    ///
    /// # Errors
    /// Of the kind [`ToolErrorKind::Cancelled`], when the call is cancelled.
    pub fn check(&self) -> Result<(), ToolError> {
        if self.is_cancelled() { Err(ToolError::of_kind(ToolErrorKind::Cancelled)) } else { Ok(()) }
    }

    /// The token that tells the call to stop, to be handed on.
    pub fn cancel_token(&self) -> &CancelToken {
        self.host.cancel()
    }

    /// Sleeps, and wakes at once when the call should stop.
    ///
    /// # Errors
    /// Of the kind [`ToolErrorKind::Cancelled`], when it was woken.
    pub fn sleep(&self, span: Duration) -> Result<(), ToolError> {
        self.cancel_token().sleep(span);
        self.check()
    }

    /// Receives from a channel of [`crossbeam_channel`](crate::crossbeam_channel), and gives up at
    /// once when the call should stop.
    ///
    /// # Errors
    /// Of the kind [`ToolErrorKind::Cancelled`] when the call should stop, of the kind
    /// [`ToolErrorKind::Unavailable`] when the channel is empty and disconnected.
    pub fn recv<T>(&self, channel: &Receiver<T>) -> Result<T, ToolError> {
        let (woken, _guard) = self.woken();
        crossbeam_channel::select! {
            recv(channel) -> value => {
                value.map_err(|_| ToolError::of_kind(ToolErrorKind::Unavailable))
            }
            recv(woken) -> _ => Err(ToolError::of_kind(ToolErrorKind::Cancelled)),
        }
    }

    /// As [`recv`](Self::recv), for at most `span`; `None` when nothing came.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_timeout<T>(
        &self,
        channel: &Receiver<T>,
        span: Duration,
    ) -> Result<Option<T>, ToolError> {
        let (woken, _guard) = self.woken();
        crossbeam_channel::select! {
            recv(channel) -> value => match value {
                Ok(value) => Ok(Some(value)),
                Err(_) => Err(ToolError::of_kind(ToolErrorKind::Unavailable)),
            },
            recv(woken) -> _ => Err(ToolError::of_kind(ToolErrorKind::Cancelled)),
            default(span) => Ok(None),
        }
    }

    /// Receives once the call should stop.
    fn woken(&self) -> (Receiver<()>, OnCancel) {
        let (wake, woken) = crossbeam_channel::bounded(1);
        let wake = move || wake.try_send(()).unwrap_or_default();
        (woken, self.cancel_token().wake_on_cancel(wake))
    }

    /// Runs `closer` when the call is about to be walked away from: told to stop, and still
    /// running near the end of its grace. It runs on another thread, and should interrupt what
    /// the handler is blocked in: shut a connection, kill a process. Where that moment has come
    /// already, or the call is over, it runs at once, here. Dropping the guard takes it back.
    pub fn on_cancel(&self, closer: impl FnOnce() + Send + 'static) -> Closer {
        let mut state = self.host.closers().0.lock();
        if state.closed {
            drop(state);
            closer();
            return Closer { cx: self.clone(), id: None };
        }
        state.next += 1;
        let id = state.next;
        state.waiting.push((id, Box::new(closer)));
        Closer { cx: self.clone(), id: Some(id) }
    }

    /// A key that is the same for every attempt of this call and for no other call: hand it to a
    /// backend that recognises repeated requests.
    pub fn idempotency_key(&self) -> String {
        let arguments = crate::text::digest([self.call().arguments()]);
        format!("{}-{}-{}", self.host.seed(), self.index(), &arguments[..16])
    }

    /// The value that the run was given with `context(value)`, if it is a `T`. It is never shown
    /// to the model.
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.host.value()?.downcast_ref()
    }

    /// Runs a batch of calls from within this call, on the same executor. While it waits this call
    /// lends its permits, so that caps can't deadlock; the batch ends by this call's deadline.
    ///
    /// A call of it that is [deferred](crate::Approval::Defer) ends as that, and nobody can decide it
    /// later: what to make of it is for this tool.
    pub fn run(&self, turn: &Turn) -> Report {
        Arc::clone(&self.host).run_nested(turn, self)
    }

    /// Tells an observer how far the call is. Doesn't block; dropped with a count when it comes
    /// too fast, and when the call was settled.
    pub fn progress(&self, text: impl AsRef<str>) {
        self.host.progress(text.as_ref());
    }
}

impl fmt::Debug for CallContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallContext")
            .field("tool", &self.call().name())
            .field("index", &self.index())
            .field("attempt", &self.attempt)
            .field("cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}
