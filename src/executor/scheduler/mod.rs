//! Which call runs when: a state machine without threads, clock, channel or user code.
//!
//! Events are methods; each is given the time, and appends what has to be done to a list of
//! [`Action`]s, to be carried out after unlocking. A call is settled in one place
//! ([`settle`](Scheduler::settle)); whoever comes first wins.
//!
//! - `open`, `batch`: the open batches, what is known of a batch and of a call
//! - `admit`: from handing a call in until it waits for permits
//! - `dispatch`: permits, and whose turn it is
//! - `due`: what happens when its time comes
//! - `settle`: how a call, a batch and the executor end
//! - `expire`: waits for something that may never come
//! - `keys`, `pools`: who waits for what

mod admit;
mod batch;
mod breaker;
mod dispatch;
mod due;
mod ended;
mod expire;
mod keys;
mod pools;
mod settle;
mod sorted;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) use batch::{BatchSpec, CallSpec, Closed, Ending, Prepared, Terms, Track};
pub(crate) use pools::{PoolKey, PoolSpec};
pub(crate) use sorted::Sorted;

use batch::{Batch, Slot, Zombie};
use keys::KeyTable;
use pools::Room;

use crate::bound::Secrets;
use crate::outcome::Outcome;
use crate::policy::{Decision, Settled};
use crate::report::Note;
use crate::time::Deadline;

/// A batch's number; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BatchId(u64);

impl BatchId {
    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

/// A call: its batch, and its place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CallRef {
    pub(crate) batch: BatchId,
    pub(crate) index: usize,
}

/// What is to be done, in order, once the lock is free.
pub(crate) enum Action<P> {
    /// Look at a call's arguments on a Blocking-lane thread; answer with `prepared`.
    Prepare(CallRef, P),
    /// Run a call's handler; ask `started` first.
    Start(CallRef, Track, P),
    /// Tell a running call to stop.
    Signal(P),
    /// Tell what an earlier attempt left behind that its call is over.
    Over(P),
    /// Run a call's closers.
    Close(P),
    /// A call of an observed batch was settled.
    Settled(P, Arc<Outcome>),
    /// Wake the thread that collects a batch: there is something for it to do, or soon will be.
    Wake(BatchId),
    /// A batch that nobody waits for is over; to be dropped outside the lock.
    Drop(Box<Closed<P>>),
}

/// What `started` allows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grant {
    /// From 1.
    pub(crate) attempt: u32,
    pub(crate) signal_at: Deadline,
}

/// How an attempt ended, as its worker sees it.
#[derive(Debug)]
pub(crate) struct Finish {
    pub(crate) outcome: Outcome,
    pub(crate) notes: Vec<Note>,
    /// After which wait another attempt would be made.
    pub(crate) retry: Option<Duration>,
    /// How long the backend asked to be left alone.
    pub(crate) pause: Option<Duration>,
}

/// What became of a finished attempt.
#[derive(Debug)]
pub(crate) enum Fate {
    /// It settled its call.
    Settled,
    /// Another attempt follows.
    Retried,
    /// Its call had been settled before; the outcome is given back.
    Late(Box<Outcome>),
}

/// The limits of an executor.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) max_parallel: usize,
    pub(crate) blocking: usize,
    pub(crate) compute: usize,
    pub(crate) max_queued: usize,
    pub(crate) max_abandoned: usize,
    /// A key may have one in it.
    pub(crate) secrets: Secrets,
}

/// Figures of the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) running: usize,
    /// Running calls that wait in a nested batch.
    pub(crate) lent: usize,
    pub(crate) queued: usize,
    pub(crate) abandoned: usize,
    pub(crate) late: u64,
    pub(crate) batches: usize,
}

pub(crate) struct Scheduler<P> {
    limits: Limits,
    last_batch: u64,
    batches: Sorted<BatchId, Box<Batch<P>>>,
    /// Batches with ready calls; the one that started a call last is last.
    rotation: VecDeque<BatchId>,
    /// The batches that are nested in a call.
    nested: Sorted<CallRef, Vec<BatchId>>,
    room: Room,
    keys: KeyTable,
    zombies: Sorted<CallRef, Zombie>,
    /// Exclusive calls whose turn it is in their batch, first come.
    exclusive: VecDeque<CallRef>,
    exclusive_running: Option<CallRef>,
    /// An exclusive call is over: those that waited for it go before the next one.
    others_first: bool,
    /// Calls that started and aren't over, abandoned keyless ones excepted.
    active: usize,
    /// Running calls that wait in a nested batch.
    lent: usize,
    queued: usize,
    /// Calls that a thread was asked for and hasn't begun with.
    starting: usize,
    abandoned: usize,
    /// Those of them that have keys.
    abandoned_keyed: Sorted<CallRef>,
    /// The limit of abandoned threads was reached since the queue was last looked at.
    turn_away: bool,
    late: u64,
    is_shut_down: bool,
    /// Only what is nested in a running call is still begun.
    is_draining: bool,
}

impl<P: Clone> Scheduler<P> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            last_batch: 0,
            batches: Sorted::new(),
            rotation: VecDeque::new(),
            nested: Sorted::new(),
            room: Room::new(&limits),
            keys: KeyTable::default(),
            zombies: Sorted::new(),
            exclusive: VecDeque::new(),
            exclusive_running: None,
            others_first: false,
            active: 0,
            lent: 0,
            queued: 0,
            starting: 0,
            abandoned: 0,
            abandoned_keyed: Sorted::new(),
            turn_away: false,
            late: 0,
            is_shut_down: false,
            is_draining: false,
            limits,
        }
    }

    /// Opens a batch; its calls are handed in with `submit` until it is sealed. None of them
    /// starts after a shutdown or a drain, or in a batch nested in a call that is settled already.
    pub(crate) fn open(&mut self, spec: BatchSpec, now: Instant) -> BatchId {
        self.last_batch += 1;
        let id = BatchId(self.last_batch);
        let mut batch = Box::new(Batch::new(spec, now));
        let is_closed = self.is_shut_down || self.is_draining && batch.parent.is_none();
        batch.ending = is_closed.then_some(Ending::Shutdown);
        if let Some(parent) = batch.parent {
            if self.slot(parent).is_none_or(Slot::is_settled) {
                batch.ending.get_or_insert(Ending::Cancelled);
            }
            self.nested.get_or_insert_with(parent, Vec::new).push(id);
        }
        self.batches.insert(id, batch);
        id
    }

    /// Whether every call is settled and no more can come.
    pub(crate) fn is_done(&self, id: BatchId) -> bool {
        self.batches.get(id).is_none_or(|batch| batch.is_done())
    }

    /// Whether the batch will be done within a few calls.
    pub(crate) fn is_nearly_done(&self, id: BatchId, now: Instant) -> bool {
        self.batches.get(id).is_some_and(|batch| batch.is_nearly_done(now))
    }

    /// The first settled call that a custom policy hasn't seen, with what it is to be shown.
    pub(crate) fn next_undecided(&mut self, id: BatchId) -> Option<Undecided> {
        let batch = self.batches.get_mut(id)?;
        // It counts as undecided until `decided`, so that nothing starts meanwhile.
        let index = *batch.undecided.front()?;
        let slot = &mut batch.slots[index];
        Some(Undecided {
            index,
            name: slot.call.name().to_owned(),
            outcome: slot.outcome.as_mut()?.share(),
            succeeded: batch.succeeded,
            failed: batch.failed(),
            pending: batch.pending + batch.deferred,
        })
    }

    /// Takes a batch that is done out of the scheduler; nothing where it isn't. Threads that are
    /// still out for it keep their keys and their tools' permits until they return.
    pub(crate) fn close(&mut self, id: BatchId, now: Instant) -> Option<Closed<P>> {
        if !self.batches.get(id)?.is_done() {
            return None;
        }
        let batch = self.batches.remove(id)?;
        if batch.in_rotation {
            self.rotation.retain(|other| *other != id);
        }
        if let Some(parent) = batch.parent
            && let Some(siblings) = self.nested.get_mut(parent)
        {
            siblings.retain(|other| *other != id);
            if siblings.is_empty() {
                self.nested.remove(parent);
            }
        }
        for (index, slot) in batch.slots.iter().enumerate() {
            if slot.thread != batch::Thread::None {
                self.zombies.insert(CallRef { batch: id, index }, zombie(slot));
            }
        }
        let wall = now.saturating_duration_since(batch.opened);
        Some(Closed { batch, wall, id })
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            running: self.room.working(),
            lent: self.lent,
            queued: self.queued + self.starting,
            abandoned: self.abandoned,
            late: self.late,
            batches: self.batches.len(),
        }
    }

    pub(crate) fn is_shut_down(&self) -> bool {
        self.is_shut_down
    }

    /// From now on no batch begins but those nested in running calls.
    pub(crate) fn drain(&mut self) {
        self.is_draining = true;
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.is_shut_down || self.is_draining
    }

    /// Whether a call was settled, or its batch closed.
    pub(crate) fn is_settled(&self, call: CallRef) -> bool {
        self.slot(call).is_none_or(Slot::is_settled)
    }

    /// Whether the batch hasn't been closed.
    pub(crate) fn is_open(&self, id: BatchId) -> bool {
        self.batches.get(id).is_some()
    }

    /// The batches that are open.
    pub(crate) fn batches(&self) -> impl Iterator<Item = BatchId> {
        self.batches.iter().map(|(id, _)| id)
    }

    fn slot_mut(&mut self, call: CallRef) -> Option<&mut Slot<P>> {
        self.batches.get_mut(call.batch)?.slots.get_mut(call.index)
    }

    fn slot(&self, call: CallRef) -> Option<&Slot<P>> {
        self.batches.get(call.batch)?.slots.get(call.index)
    }
}

fn zombie<P>(slot: &Slot<P>) -> Zombie {
    Zombie {
        terms: slot.terms.clone(),
        has_pool_permits: slot.has_pool_permits,
        lent: slot.lent,
        ticket: slot.ticket().cloned(),
        tool: slot.call.name().to_owned(),
    }
}

/// What a custom policy is shown.
pub(crate) struct Undecided {
    pub(crate) index: usize,
    name: String,
    outcome: Arc<Outcome>,
    succeeded: usize,
    failed: usize,
    pending: usize,
}

impl Undecided {
    pub(crate) fn settled(&self) -> Settled<'_> {
        Settled {
            index: self.index,
            name: &self.name,
            outcome: &self.outcome,
            succeeded: self.succeeded,
            failed: self.failed,
            pending: self.pending,
        }
    }
}

/// What a policy's decision means for a batch.
fn ending(decision: Decision, index: usize, name: &str) -> Option<crate::outcome::Abort> {
    let satisfied = match decision {
        Decision::Continue => return None,
        Decision::Abort => false,
        Decision::Enough => true,
    };
    Some(crate::outcome::Abort { index: Some(index), cause: name.to_owned(), satisfied })
}
