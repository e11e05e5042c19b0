//! Permits, and whose turn it is.

use std::time::Instant;

use super::batch::{Batch, Due, State, Thread};
use super::pools::Room;
use super::{Action, BatchId, CallRef, Grant, PoolKey, Scheduler};
use crate::outcome::{NotStarted, Outcome};
use crate::time::Deadline;

/// Which calls an exclusive one holds up. Those of nested batches go on in any case: what it waits
/// for waits for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bar {
    None,
    /// All but those with keys, because a nested call may wait for them.
    Keyless,
    All,
}

impl<P: Clone> Scheduler<P> {
    /// Starts what can be started: batches take turns, a batch's calls go by their index.
    pub(super) fn dispatch(&mut self, now: Instant, out: &mut Vec<Action<P>>) {
        if std::mem::take(&mut self.turn_away) {
            self.turn_away_queued(now, out);
        }
        self.short_circuit(now, out);
        let mut others_first = std::mem::take(&mut self.others_first);
        loop {
            let bar = if others_first { Bar::None } else { self.dispatch_exclusive(now, out) };
            let mut turn = None;
            if self.room.total.is_free() {
                turn = (0..self.rotation.len()).find_map(|at| {
                    let id = self.rotation[at];
                    Some((at, id, self.startable(id, bar, now, out)?))
                });
            }
            let Some((at, id, class)) = turn else {
                if std::mem::take(&mut others_first) {
                    continue;
                }
                return;
            };
            self.rotation.remove(at);
            let Some(batch) = self.batches.get_mut(id) else { continue };
            let index = batch.classes[class].ready.pop().map(|index| index.0);
            batch.ready -= 1;
            batch.in_rotation = batch.ready > 0;
            if batch.in_rotation {
                self.rotation.push_back(id);
            }
            if let Some(index) = index {
                self.start(CallRef { batch: id, index }, now, out);
            }
        }
    }

    /// Starts an exclusive call when nothing else runs; which others may start meanwhile.
    fn dispatch_exclusive(&mut self, now: Instant, out: &mut Vec<Action<P>>) -> Bar {
        let is_waiting = |call: &CallRef| {
            let batch = self.batches.get(call.batch);
            batch.is_some_and(|batch| batch.slots[call.index].state == State::Exclusive)
        };
        self.exclusive.retain(is_waiting);
        for at in 0..self.exclusive.len() {
            let call = self.exclusive[at];
            if self.exclusive_running.is_some_and(|running| running != call) {
                continue;
            }
            let Some(batch) = self.batches.get_mut(call.batch) else { continue };
            // Its policy may take its time, and a thread that was lost may never come back.
            if batch.awaits_decision() || self.room.is_lost(&batch.slots[call.index].terms) {
                continue;
            }
            match self.room.free_at(&batch.slots[call.index].terms, now) {
                // A pool that is full may be so because of a call that is still active.
                Deadline::Never if self.active > 0 => {}
                Deadline::Never => continue,
                Deadline::At(at) if at > now => {
                    if batch.arm(at) {
                        out.push(Action::Wake(call.batch));
                    }
                    continue;
                }
                Deadline::At(_) if self.active == 0 => {
                    self.exclusive.remove(at);
                    self.exclusive_running = Some(call);
                    self.start(call, now, out);
                }
                Deadline::At(_) => {}
            }
            return self.bar();
        }
        if self.exclusive_running.is_some() { Bar::All } else { Bar::None }
    }

    /// Which calls are held up by an exclusive call that could start if nothing else ran.
    fn bar(&self) -> Bar {
        if self.exclusive_running.is_some() {
            Bar::All
        } else if !self.abandoned_keyed.is_empty() {
            // It can't start before that thread is back, which may be never.
            Bar::None
        } else if self.active > 0 && self.room.total.used == 0 {
            // All it waits for waits in nested batches.
            Bar::Keyless
        } else {
            Bar::All
        }
    }

    /// The class of the batch's next call that may start now. If it has none, its collector is
    /// made to look again when there will be one.
    fn startable(
        &mut self,
        id: BatchId,
        bar: Bar,
        now: Instant,
        out: &mut Vec<Action<P>>,
    ) -> Option<usize> {
        let batch = self.batches.get_mut(id)?;
        let is_nested = batch.parent.is_some();
        if batch.running >= batch.max_parallel
            || batch.awaits_decision()
            || (bar == Bar::All && !is_nested)
        {
            return None;
        }
        let mut first: Option<(usize, usize)> = None;
        let mut later = Deadline::Never;
        for at in 0..batch.classes.len() {
            let Some(index) = batch.first_ready(at) else { continue };
            let terms = &batch.classes[at].terms;
            if first.is_some_and(|(_, best)| best < index)
                || (bar == Bar::Keyless && !is_nested && !terms.prepare)
            {
                continue;
            }
            match self.room.free_at(terms, now) {
                free if free.has_passed(now) => first = Some((at, index)),
                free => later = later.min(free),
            }
        }
        if first.is_none()
            && let Deadline::At(at) = later
            && batch.arm(at)
        {
            out.push(Action::Wake(id));
        }
        first.map(|(at, _)| at)
    }

    fn start(&mut self, call: CallRef, now: Instant, out: &mut Vec<Action<P>>) {
        let Some(batch) = self.batches.get_mut(call.batch) else { return };
        let slot = &mut batch.slots[call.index];
        slot.state = State::Starting;
        slot.has_thread_permits = true;
        slot.has_pool_permits = true;
        let track = slot.terms.track;
        batch.running += 1;
        self.room.take_thread(track);
        for pool in &slot.terms.pools {
            self.room.pools.take(pool.key, call, now);
        }
        slot.active = true;
        self.active += 1;
        self.queued -= 1;
        self.starting += 1;
        // Looked at as if it began now: then its worker need not wake the collector for it.
        if slot.attempts == 0 {
            slot.set_times(batch.deadline, now);
        }
        out.push(Action::Start(call, track, slot.payload.clone()));
        self.look_at_end(call, out);
    }

    /// Has a call looked at when it is to be told to stop, unless that is so already.
    fn look_at_end(&mut self, call: CallRef, out: &mut Vec<Action<P>>) {
        let Some(batch) = self.batches.get_mut(call.batch) else { return };
        let slot = &mut batch.slots[call.index];
        if let Deadline::At(at) = slot.signal_at
            && slot.due_at.is_none_or(|due| at < due)
        {
            slot.due_at = Some(at);
            if batch.push_due(at, Due::Call(call.index)) {
                out.push(Action::Wake(call.batch));
            }
        }
    }

    /// A thread is about to run a call's handler: it may only if this grants it.
    pub(crate) fn started(
        &mut self,
        call: CallRef,
        now: Instant,
        out: &mut Vec<Action<P>>,
    ) -> Option<Grant> {
        let batch = self.batches.get_mut(call.batch)?;
        let (deadline, awaits_decision) = (batch.deadline, batch.awaits_decision());
        let slot = &mut batch.slots[call.index];
        if slot.state != State::Starting {
            return None;
        }
        if deadline.has_passed(now) || (slot.attempts > 0 && slot.signal_at.has_passed(now)) {
            let outcome = slot.unfinished(now);
            self.settle(call, outcome, now, out);
            self.dispatch(now, out);
            return None;
        }
        if awaits_decision {
            // It starts again when the policy has answered, if it may.
            self.put_back(call, now, out);
            self.dispatch(now, out);
            return None;
        }
        slot.state = State::Running;
        slot.thread = Thread::Running;
        slot.attempts += 1;
        if slot.attempts == 1 {
            slot.started = Some(now);
            slot.set_times(deadline, now);
        }
        let grant = Grant { attempt: slot.attempts, signal_at: slot.signal_at };
        self.starting -= 1;
        self.room.begin_work(slot.terms.track);
        self.look_at_end(call, out);
        Some(grant)
    }

    /// The system gave no thread for a call that was to start.
    pub(crate) fn start_failed(&mut self, call: CallRef, now: Instant, out: &mut Vec<Action<P>>) {
        let Some(slot) = self.slot(call) else { return };
        if slot.state != State::Starting {
            return;
        }
        let track = slot.terms.track;
        if self.room.threads(track) > 1 {
            self.put_back(call, now, out);
            self.room.starve(track, now);
        } else {
            self.settle_waiting(call, Outcome::NotStarted(NotStarted::NoThread), now, out);
        }
        self.dispatch(now, out);
    }

    /// A start comes to nothing: the call waits for its turn again.
    fn put_back(&mut self, call: CallRef, now: Instant, out: &mut Vec<Action<P>>) {
        self.give_permits(call);
        let Some(slot) = self.slot_mut(call) else { return };
        let is_first = slot.attempts == 0;
        slot.active = false;
        let terms = slot.terms.clone();
        for pool in &terms.pools {
            self.room.pools.put_back(pool.key);
        }
        self.room.pools.ended(&terms, call, None, now);
        self.active -= 1;
        self.starting -= 1;
        self.queued += 1;
        // Between two attempts it stays alone.
        if is_first && self.exclusive_running == Some(call) {
            self.exclusive_running = None;
        }
        self.take_turn(call, now, out);
    }

    /// A running call waits in a nested batch: others may have its permits.
    pub(crate) fn lend(&mut self, call: CallRef, now: Instant, out: &mut Vec<Action<P>>) {
        let Some(slot) = self.slot_mut(call) else { return };
        if slot.state != State::Running || slot.lent {
            return;
        }
        slot.lent = true;
        let (track, terms) = (slot.terms.track, slot.terms.clone());
        self.lent += 1;
        // What it waits for may need the same backend.
        self.room.pools.ended(&terms, call, None, now);
        self.give_permits(call);
        self.room.end_work(track);
        self.dispatch(now, out);
    }

    /// The nested batch is over; the call goes on at once, whatever the caps say.
    pub(crate) fn resume(&mut self, call: CallRef, now: Instant, out: &mut Vec<Action<P>>) {
        let mut lost = Vec::new();
        if let Some(batch) = self.batches.get_mut(call.batch) {
            let slot = &mut batch.slots[call.index];
            if !std::mem::take(&mut slot.lent) {
                return;
            }
            slot.has_pool_permits = true;
            retake_pools(&mut self.room, &slot.terms, call, slot.is_settled(), &mut lost);
            if slot.state == State::Running {
                slot.has_thread_permits = true;
                batch.running += 1;
                self.lent -= 1;
                self.room.take_thread(slot.terms.track);
                self.room.begin_work(slot.terms.track);
            }
        } else if let Some(zombie) = self.zombies.get_mut(call)
            && std::mem::take(&mut zombie.lent)
        {
            zombie.has_pool_permits = true;
            retake_pools(&mut self.room, &zombie.terms, call, true, &mut lost);
        }
        for key in lost {
            self.watch_pool(key, now, out);
        }
    }

    /// Gives back all permits that a call still has.
    pub(super) fn give_permits(&mut self, call: CallRef) {
        self.give_thread_permits(call);
        if let Some(batch) = self.batches.get_mut(call.batch) {
            let slot = &mut batch.slots[call.index];
            if std::mem::take(&mut slot.has_pool_permits) {
                for pool in &slot.terms.pools {
                    self.room.pools.give(pool.key);
                    self.room.pools.forget(pool.key, call);
                }
            }
        }
    }

    /// Gives back the executor's and the lane's permit, which are for threads of ours.
    pub(super) fn give_thread_permits(&mut self, call: CallRef) {
        if let Some(batch) = self.batches.get_mut(call.batch) {
            let slot = &mut batch.slots[call.index];
            if std::mem::take(&mut slot.has_thread_permits) {
                batch.running -= 1;
                self.room.give_thread(slot.terms.track);
            }
        }
    }
}

/// Adds to `lost` the pools that have no permit left which isn't with an abandoned call.
fn retake_pools(
    room: &mut Room,
    terms: &super::Terms,
    call: CallRef,
    abandoned: bool,
    lost: &mut Vec<PoolKey>,
) {
    for pool in &terms.pools {
        room.pools.retake(pool.key);
        if abandoned && room.pools.abandon(pool.key, call) {
            lost.push(pool.key);
        }
    }
}

impl<P> Batch<P> {
    /// The first call of a class that still waits for permits.
    pub(super) fn first_ready(&mut self, class: usize) -> Option<usize> {
        let ready = &mut self.classes[class].ready;
        while ready.peek().is_some_and(|index| self.slots[index.0].state != State::Ready) {
            ready.pop();
        }
        ready.peek().map(|index| index.0)
    }
}
