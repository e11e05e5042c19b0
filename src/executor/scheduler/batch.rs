//! What the scheduler knows of a batch and of each of its calls.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ended::Ended;
use super::keys::Ticket;
use super::pools::PoolSpec;
use super::{BatchId, CallRef};
use crate::call::ToolCall;
use crate::outcome::{Abort, NotStarted, Outcome};
use crate::output::Output;
use crate::policy::FailurePolicy;
use crate::report::Note;
use crate::time::Deadline;

/// With how few calls still to settle a batch's collector is woken ahead; and with how few after it
/// has slept for long, when its core takes longer to wake and a wake-up more costs little beside
/// what the batch took.
const NEARLY_DONE: usize = 3;
const NEARLY_DONE_AFTER_LONG: usize = 9;
const LONG: Duration = Duration::from_millis(1);

/// Which threads run a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Track {
    Blocking,
    Compute,
    /// Threads of the batch's own scope.
    Scoped,
    /// Workers of a pool, for the batch's own scope.
    ScopedCompute,
}

impl Track {
    pub(super) const COUNT: usize = 4;

    pub(super) fn at(self) -> usize {
        self as usize
    }

    pub(crate) fn is_scoped(self) -> bool {
        matches!(self, Self::Scoped | Self::ScopedCompute)
    }

    pub(crate) fn is_compute(self) -> bool {
        matches!(self, Self::Compute | Self::ScopedCompute)
    }
}

/// What a tool's settings mean for the scheduler; shared by the calls of one tool.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) track: Track,
    /// Timeout of one call, from its first start.
    pub(crate) timeout: Option<Duration>,
    pub(crate) grace: Option<Duration>,
    /// The tool's own limits, then its group's.
    pub(crate) pools: Vec<PoolSpec>,
    /// What is given instead of a failure.
    pub(crate) fallback: Option<Output>,
    /// Whether the call's arguments have to be looked at before it is ordered.
    pub(crate) prepare: bool,
    pub(crate) exclusive: bool,
}

impl Terms {
    /// What is given instead of an outcome.
    pub(crate) fn fallback_of(&self, outcome: &Outcome) -> Option<&Output> {
        let failed =
            matches!(outcome, Outcome::Failed(_) | Outcome::Panicked(_) | Outcome::TimedOut { .. });
        self.fallback.as_ref().filter(|_| failed)
    }

    /// How long before its end a call that is given `span` is told to stop.
    pub(super) fn grace_of(&self, span: Duration) -> Duration {
        match self.grace {
            Some(grace) => grace.min(span / 2),
            None => (span / 10).min(Duration::from_millis(500)),
        }
    }
}

/// A call to be scheduled. `payload` is the caller's and comes back in actions.
pub(crate) struct CallSpec<P> {
    pub(crate) call: ToolCall,
    pub(crate) terms: Arc<Terms>,
    /// Not to be started before its batch is released.
    pub(crate) held: bool,
    /// How it ends without being scheduled at all.
    pub(crate) settled: Option<Outcome>,
    pub(crate) payload: P,
}

/// Options of a batch.
pub(crate) struct BatchSpec {
    pub(crate) deadline: Deadline,
    pub(crate) max_parallel: usize,
    pub(crate) policy: FailurePolicy,
    pub(crate) parent: Option<CallRef>,
    /// Whether `Settled` is to say how.
    pub(crate) observed: bool,
}

/// Where a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Handed in, not looked at.
    New,
    /// Behind an exclusive call, or an exclusive call that waits for those before it.
    Behind,
    /// To be prepared, after the earlier ones.
    Unprepared,
    Preparing,
    /// Waits for keys.
    Blocked,
    /// Its turn, but its batch isn't released.
    Held,
    /// Waits for permits.
    Ready,
    /// An exclusive call that waits until nothing else runs.
    Exclusive,
    /// Handed to a thread that hasn't begun.
    Starting,
    Running,
    /// Between two attempts.
    Backoff,
    /// An identical call runs for it.
    Joined,
    Settled,
}

/// Whether a thread is out for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thread {
    None,
    Preparing,
    Running,
}

pub(super) struct Slot<P> {
    pub(super) call: ToolCall,
    pub(super) payload: P,
    pub(super) terms: Arc<Terms>,
    pub(super) state: State,
    pub(super) thread: Thread,
    pub(super) held: bool,
    /// Whether it has the executor's and the lane's permit.
    pub(super) has_thread_permits: bool,
    /// Whether it has its tool's and its group's permits.
    pub(super) has_pool_permits: bool,
    pub(super) lent: bool,
    /// Whether it counts among its batch's open calls.
    pub(super) open: bool,
    /// Whether it counts among the executor's active calls.
    pub(super) active: bool,
    /// Whether it counts among its pools' users.
    pub(super) joined: bool,
    /// The time at which it is looked at next.
    pub(super) due_at: Option<Instant>,
    /// Whether it is looked at again after its own timeout, because it waits for what may never
    /// come.
    pub(super) expiring: bool,
    /// What only a call has that is prepared: most aren't, and many may be queued.
    pub(super) preparation: Option<Box<Preparation>>,
    pub(super) attempts: u32,
    pub(super) submitted: Instant,
    pub(super) started: Option<Instant>,
    pub(super) signal_at: Deadline,
    pub(super) close_at: Deadline,
    pub(super) end_at: Deadline,
    /// Whether its end is the batch's deadline rather than its own timeout.
    pub(super) end_is_deadline: bool,
    pub(super) signalled: bool,
    pub(super) closed: bool,
    pub(super) ended: Option<Instant>,
    pub(super) outcome: Option<Ended>,
    /// How the last attempt ended, when another is to follow.
    pub(super) last: Option<Box<Outcome>>,
    pub(super) notes: Vec<Note>,
}

impl<P> Slot<P> {
    pub(super) fn new(spec: CallSpec<P>, now: Instant) -> (Self, Option<Outcome>) {
        let slot = Self {
            call: spec.call,
            payload: spec.payload,
            terms: spec.terms,
            state: State::New,
            thread: Thread::None,
            held: spec.held,
            has_thread_permits: false,
            has_pool_permits: false,
            lent: false,
            open: false,
            active: false,
            joined: false,
            due_at: None,
            expiring: false,
            preparation: None,
            attempts: 0,
            submitted: now,
            started: None,
            signal_at: Deadline::Never,
            close_at: Deadline::Never,
            end_at: Deadline::Never,
            end_is_deadline: false,
            signalled: false,
            closed: false,
            ended: None,
            outcome: None,
            last: None,
            notes: Vec::new(),
        };
        (slot, spec.settled)
    }

    pub(super) fn is_settled(&self) -> bool {
        self.state == State::Settled
    }

    pub(super) fn ticket(&self) -> Option<&Ticket> {
        self.preparation.as_ref()?.ticket.as_ref()
    }
}

/// What is known of a call that is prepared before it is ordered.
#[derive(Debug)]
pub(super) struct Preparation {
    pub(super) since: Instant,
    /// Time that it took, which the call's timeout counts.
    pub(super) spent: Duration,
    /// Its place in the queues of its keys, while it is in them.
    pub(super) ticket: Option<Ticket>,
    /// Keys still to be waited for.
    pub(super) blocked: usize,
    /// Identical calls that it runs for, too.
    pub(super) followers: Vec<usize>,
}

impl Preparation {
    pub(super) fn begun(since: Instant) -> Box<Self> {
        let (ticket, followers) = (None, Vec::new());
        Box::new(Self { since, spent: Duration::ZERO, ticket, blocked: 0, followers })
    }
}

/// What preparing a call told.
#[derive(Debug, Clone, Default)]
pub(crate) struct Prepared {
    pub(crate) keys: Vec<crate::tool::KeyUse>,
    /// What identical calls have in common, for a tool that is coalesced.
    pub(crate) identity: Option<String>,
}

/// Calls of one batch that need the same permits, by index.
pub(super) struct Class {
    pub(super) terms: Arc<Terms>,
    pub(super) ready: BinaryHeap<Reverse<usize>>,
}

/// Why a batch ends before its calls are done.
#[derive(Debug, Clone)]
pub(crate) enum Ending {
    Cancelled,
    Aborted(Abort),
    Shutdown,
    /// The model's message ended in a way that forbids running its calls.
    Withheld(NotStarted),
}

impl Ending {
    /// How a call ends that hadn't started.
    pub(super) fn unstarted(&self) -> Outcome {
        match self {
            Self::Cancelled => Outcome::Cancelled { started: false, abort: None },
            Self::Aborted(abort) if abort.satisfied => Outcome::NotStarted(NotStarted::NotNeeded),
            Self::Aborted(abort) => Outcome::NotStarted(NotStarted::Aborted(abort.clone())),
            Self::Shutdown => Outcome::NotStarted(NotStarted::Shutdown),
            Self::Withheld(reason) => Outcome::NotStarted(reason.clone()),
        }
    }

    /// How a call ends that ran.
    pub(super) fn started(&self) -> Outcome {
        let abort = match self {
            Self::Aborted(abort) => Some(abort.clone()),
            _ => None,
        };
        Outcome::Cancelled { started: true, abort }
    }
}

/// Something to look at when its time comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    Deadline,
    /// A call's next step towards its end: signal, close, end.
    Call(usize),
    /// The end of a backoff, or another try at preparing.
    Retry(usize),
    /// A call waits for something that may never come.
    Expire(usize),
}

pub(super) struct Batch<P> {
    pub(super) slots: Vec<Slot<P>>,
    pub(super) classes: Vec<Class>,
    pub(super) opened: Instant,
    pub(super) deadline: Deadline,
    pub(super) max_parallel: usize,
    pub(super) policy: FailurePolicy,
    pub(super) parent: Option<CallRef>,
    pub(super) observed: bool,
    pub(super) sealed: bool,
    pub(super) released: bool,
    /// No thread waits for it: it is dropped when its last call settles.
    pub(super) detached: bool,
    pub(super) pending: usize,
    pub(super) succeeded: usize,
    /// Calls that wait for a decision from outside: neither failed nor still to settle.
    pub(super) deferred: usize,
    /// Calls that have a permit of the batch's own cap.
    pub(super) running: usize,
    /// How many slots are in ready heaps.
    pub(super) ready: usize,
    pub(super) in_rotation: bool,
    pub(super) ending: Option<Ending>,
    pub(super) abort: Option<Abort>,
    pub(super) due: BinaryHeap<Reverse<(Instant, Due)>>,
    /// Until when its collector sleeps.
    pub(super) armed: Deadline,
    /// Settled calls that a custom policy hasn't seen, in call order.
    pub(super) undecided: VecDeque<usize>,
    /// Keyed calls in call order that are still to be prepared.
    pub(super) unordered: VecDeque<usize>,
    /// The keyed call that is being prepared; one at a time, in call order.
    pub(super) preparing: Option<usize>,
    /// From the first exclusive call that isn't over.
    pub(super) behind: VecDeque<usize>,
    /// Admitted calls that aren't over, abandoned keyless ones excepted.
    pub(super) open: usize,
    pub(super) identical: HashMap<String, usize>,
}

impl<P> Batch<P> {
    pub(super) fn new(spec: BatchSpec, now: Instant) -> Self {
        let mut due = BinaryHeap::new();
        if let Deadline::At(at) = spec.deadline {
            due.push(Reverse((at, Due::Deadline)));
        }
        Self {
            slots: Vec::new(),
            classes: Vec::new(),
            opened: now,
            deadline: spec.deadline,
            max_parallel: spec.max_parallel,
            policy: spec.policy,
            parent: spec.parent,
            observed: spec.observed,
            sealed: false,
            released: false,
            detached: false,
            pending: 0,
            succeeded: 0,
            deferred: 0,
            running: 0,
            ready: 0,
            in_rotation: false,
            ending: None,
            abort: None,
            due,
            // Who opens a batch is awake, and asks what is due before it sleeps.
            armed: Deadline::At(now),
            undecided: VecDeque::new(),
            unordered: VecDeque::new(),
            preparing: None,
            behind: VecDeque::new(),
            open: 0,
            identical: HashMap::new(),
        }
    }

    /// How many calls have failed.
    pub(super) fn failed(&self) -> usize {
        self.slots.len() - self.pending - self.succeeded - self.deferred
    }

    /// Whether nothing is left to do for it.
    pub(super) fn is_done(&self) -> bool {
        self.sealed && self.pending == 0 && self.undecided.is_empty()
    }

    /// Whether so few calls are left that its collector is woken ahead.
    pub(super) fn is_nearly_done(&self, now: Instant) -> bool {
        let is_long = now.saturating_duration_since(self.opened) >= LONG;
        let few = if is_long { NEARLY_DONE_AFTER_LONG } else { NEARLY_DONE };
        self.sealed && self.pending < few
    }

    /// Whether its policy has still to say what a settled call means for the others. As long as the
    /// batch grows nobody asks it, and only calls that read start by then.
    pub(super) fn awaits_decision(&self) -> bool {
        (self.sealed || self.released) && !self.undecided.is_empty()
    }

    /// Puts a slot into the ready heap of its class.
    pub(super) fn push_ready(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        slot.state = State::Ready;
        let terms = &slot.terms;
        let class = self.classes.iter_mut().find(|class| Arc::ptr_eq(&class.terms, terms));
        match class {
            Some(class) => class.ready.push(Reverse(index)),
            None => self.classes.push(Class {
                terms: Arc::clone(terms),
                ready: BinaryHeap::from([Reverse(index)]),
            }),
        }
        self.ready += 1;
    }

    /// Notes a time to look at; whether the collector has to be woken for it.
    #[must_use]
    pub(super) fn push_due(&mut self, at: Instant, due: Due) -> bool {
        self.due.push(Reverse((at, due)));
        self.arm(at)
    }

    /// Has the collector look at `at`; whether it has to be woken for it.
    #[must_use]
    pub(super) fn arm(&mut self, at: Instant) -> bool {
        let is_earlier = Deadline::At(at) < self.armed;
        if is_earlier {
            self.armed = Deadline::At(at);
        }
        is_earlier
    }
}

/// What is left of a call whose batch is over while its thread is still out.
pub(super) struct Zombie {
    pub(super) terms: Arc<Terms>,
    pub(super) has_pool_permits: bool,
    pub(super) lent: bool,
    pub(super) ticket: Option<Ticket>,
    pub(super) tool: String,
}

/// How one call of a closed batch went.
pub(crate) struct SlotReport<P> {
    pub(crate) payload: P,
    pub(crate) call: ToolCall,
    pub(crate) outcome: Outcome,
    pub(crate) attempts: u32,
    pub(crate) submitted: Duration,
    pub(crate) started: Option<Duration>,
    pub(crate) ended: Duration,
    pub(crate) notes: Vec<Note>,
}

/// How a closed batch went.
pub(crate) struct Closed<P> {
    /// Whole, because a custom policy is dropped with what the user put into it, so never under the
    /// lock.
    pub(super) batch: Box<Batch<P>>,
    pub(crate) wall: Duration,
    pub(crate) id: BatchId,
}

impl<P> Closed<P> {
    pub(crate) fn abort(&self) -> Option<&Abort> {
        self.batch.abort.as_ref()
    }

    /// How its calls went, in call order.
    pub(crate) fn into_calls(self) -> impl ExactSizeIterator<Item = SlotReport<P>> {
        let Self { mut batch, wall, .. } = self;
        let (slots, opened) = (std::mem::take(&mut batch.slots), batch.opened);
        let offset = move |at: Instant| at.saturating_duration_since(opened);
        slots.into_iter().map(move |slot| SlotReport {
            submitted: offset(slot.submitted),
            started: slot.started.map(offset),
            ended: slot.ended.map_or(wall, offset),
            outcome: slot
                .outcome
                .map(Ended::into_outcome)
                .unwrap_or(Outcome::Cancelled { started: slot.started.is_some(), abort: None }),
            call: slot.call,
            payload: slot.payload,
            attempts: slot.attempts,
            notes: slot.notes,
        })
    }
}
