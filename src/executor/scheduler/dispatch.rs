//! Permits, and whose turn it is.

use std::time::{Duration, Instant};

use super::batch::{Due, State, Terms, Thread, Track};
use super::{Action, BatchId, CallRef, Grant, Scheduler};
use crate::outcome::{NotStarted, Outcome};
use crate::time::Deadline;

/// How long to wait before another try, where the system refused a thread.
const THREAD_RETRY: Duration = Duration::from_millis(20);

impl<P: Clone> Scheduler<P> {
    /// Starts what can be started: batches take turns, a batch's calls go by their index.
    pub(super) fn dispatch(&mut self, now: Instant, out: &mut Vec<Action<P>>) {
        let only_nested = self.dispatch_exclusive(now, out);
        while self.total.is_free() {
            let turn = (0..self.rotation.len()).find_map(|at| {
                let id = self.rotation[at];
                Some((at, id, self.startable(id, only_nested, now)?))
            });
            let Some((at, id, class)) = turn else { break };
            self.rotation.remove(at);
            let Some(batch) = self.batches.get_mut(&id) else { continue };
            let index = batch.classes[class].ready.pop().map(|index| index.0);
            if batch.ready > 1 {
                self.rotation.push_back(id);
            } else {
                batch.in_rotation = false;
            }
            if let Some(index) = index {
                batch.ready -= 1;
                self.start(CallRef { batch: id, index }, now, out);
            }
        }
    }

    /// Starts an exclusive call when nothing else runs. While one waits or runs, only batches
    /// nested in running calls may start something: then it is true.
    fn dispatch_exclusive(&mut self, now: Instant, out: &mut Vec<Action<P>>) -> bool {
        while let Some(&call) = self.exclusive.front() {
            if self.slot(call).is_none_or(|slot| slot.state != State::Exclusive) {
                self.exclusive.pop_front();
                continue;
            }
            let Some(terms) = self.slot(call).map(|slot| slot.terms.clone()) else { continue };
            let idle = self.exclusive_running.is_none() && self.active == 0;
            if idle && self.total.is_free() && self.has_room(&terms, now) {
                self.exclusive.pop_front();
                self.exclusive_running = Some(call);
                self.start(call, now, out);
            }
            break;
        }
        self.exclusive_running.is_some() || !self.exclusive.is_empty()
    }

    /// The class of the batch's next call that may start now.
    fn startable(&mut self, id: BatchId, only_nested: bool, now: Instant) -> Option<usize> {
        let batch = self.batches.get_mut(&id)?;
        let barred = (only_nested && batch.depth == 0)
            || batch.running >= batch.max_parallel
            || !batch.undecided.is_empty();
        if barred {
            return None;
        }
        let mut first: Option<(usize, usize)> = None;
        for at in 0..batch.classes.len() {
            let class = &mut batch.classes[at];
            while class.ready.peek().is_some_and(|i| batch.slots[i.0].state != State::Ready) {
                class.ready.pop();
            }
            let Some(index) = class.ready.peek().map(|index| index.0) else { continue };
            if first.is_none_or(|(_, best)| index < best) {
                let terms = &batch.classes[at].terms;
                let track = terms.track.at();
                let room = !self.starved[track] && self.tracks[track].is_free();
                let pools =
                    || terms.pools.iter().all(|p| self.pools.ready_at(p.key, now).has_passed(now));
                if room && pools() {
                    first = Some((at, index));
                }
            }
        }
        first.map(|(at, _)| at)
    }

    fn has_room(&self, terms: &Terms, now: Instant) -> bool {
        let track = terms.track.at();
        !self.starved[track]
            && self.tracks[track].is_free()
            && terms.pools.iter().all(|pool| self.pools.ready_at(pool.key, now).has_passed(now))
    }

    fn start(&mut self, call: CallRef, now: Instant, out: &mut Vec<Action<P>>) {
        let Some(batch) = self.batches.get_mut(&call.batch) else { return };
        let slot = &mut batch.slots[call.index];
        slot.state = State::Starting;
        slot.has_thread_permits = true;
        slot.has_pool_permits = true;
        let track = slot.terms.track;
        batch.running += 1;
        self.total.take();
        self.tracks[track.at()].take();
        for pool in &slot.terms.pools {
            self.pools.take(pool.key, now);
        }
        slot.active = true;
        self.active += 1;
        self.queued -= 1;
        // Looked at as if it began now: then its worker need not wake the collector for it.
        if slot.attempts == 0 {
            slot.set_times(batch.deadline, now);
        }
        let payload = slot.payload.clone();
        if slot.due_at.is_none()
            && let Deadline::At(at) = slot.signal_at
        {
            slot.due_at = Some(at);
            if batch.push_due(at, Due::Call(call.index)) {
                out.push(Action::Wake(call.batch));
            }
        }
        out.push(Action::Start(call, track, payload));
    }

    /// A thread is about to run a call's handler: it may only if this grants it.
    pub(crate) fn started(
        &mut self,
        call: CallRef,
        now: Instant,
        out: &mut Vec<Action<P>>,
    ) -> Option<Grant> {
        let batch = self.batches.get_mut(&call.batch)?;
        let deadline = batch.deadline;
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
        slot.state = State::Running;
        slot.thread = Thread::Running;
        slot.attempts += 1;
        if slot.attempts == 1 {
            slot.started = Some(now);
            slot.set_times(deadline, now);
        }
        let grant = Grant { attempt: slot.attempts, signal_at: slot.signal_at };
        self.working[slot.terms.track.at()] += 1;
        if slot.due_at.is_none()
            && let Deadline::At(at) = slot.signal_at
        {
            slot.due_at = Some(at);
            if batch.push_due(at, Due::Call(call.index)) {
                out.push(Action::Wake(call.batch));
            }
        }
        Some(grant)
    }

    /// The system gave no thread for a call that was to start.
    pub(crate) fn start_failed(&mut self, call: CallRef, now: Instant, out: &mut Vec<Action<P>>) {
        let Some(slot) = self.slot(call) else { return };
        if slot.state != State::Starting {
            return;
        }
        let track = slot.terms.track.at();
        if self.working[track] == 0 {
            self.settle(call, Outcome::NotStarted(NotStarted::NoThread), now, out);
            return self.dispatch(now, out);
        }
        self.give_permits(call);
        self.starved[track] = true;
        if let Some(slot) = self.slot_mut(call) {
            slot.active = false;
        }
        self.active -= 1;
        self.queued += 1;
        if self.exclusive_running == Some(call) {
            self.exclusive_running = None;
        }
        self.take_turn(call, now, out);
        self.retry_soon(call, now, out);
    }

    pub(super) fn retry_soon(&mut self, call: CallRef, now: Instant, out: &mut Vec<Action<P>>) {
        let Some(batch) = self.batches.get_mut(&call.batch) else { return };
        if let Some(at) = now.checked_add(THREAD_RETRY)
            && batch.push_due(at, Due::Retry(call.index))
        {
            out.push(Action::Wake(call.batch));
        }
    }

    /// A running call waits in a nested batch: others may have its permits.
    pub(crate) fn lend(&mut self, call: CallRef, now: Instant, out: &mut Vec<Action<P>>) {
        let Some(slot) = self.slot_mut(call) else { return };
        if slot.state != State::Running || slot.lent {
            return;
        }
        slot.lent = true;
        let track = slot.terms.track.at();
        self.give_permits(call);
        self.working[track] -= 1;
        self.dispatch(now, out);
    }

    /// The nested batch is over; the call goes on at once, whatever the caps say.
    pub(crate) fn resume(&mut self, call: CallRef) {
        if let Some(batch) = self.batches.get_mut(&call.batch) {
            let slot = &mut batch.slots[call.index];
            if !std::mem::take(&mut slot.lent) {
                return;
            }
            slot.has_pool_permits = true;
            for pool in &slot.terms.pools {
                self.pools.retake(pool.key);
            }
            if slot.state == State::Running {
                slot.has_thread_permits = true;
                batch.running += 1;
                self.total.take();
                self.tracks[slot.terms.track.at()].take();
                self.working[slot.terms.track.at()] += 1;
            }
        } else if let Some(zombie) = self.zombies.get_mut(&call)
            && std::mem::take(&mut zombie.lent)
        {
            zombie.has_pool_permits = true;
            for pool in &zombie.terms.pools {
                self.pools.retake(pool.key);
            }
        }
    }

    /// Gives back all permits that a call still has.
    pub(super) fn give_permits(&mut self, call: CallRef) {
        self.give_thread_permits(call);
        if let Some(batch) = self.batches.get_mut(&call.batch) {
            let slot = &mut batch.slots[call.index];
            if std::mem::take(&mut slot.has_pool_permits) {
                for pool in &slot.terms.pools {
                    self.pools.give(pool.key);
                }
            }
        }
    }

    /// Gives back the executor's and the lane's permit, which are for threads of ours.
    pub(super) fn give_thread_permits(&mut self, call: CallRef) {
        if let Some(batch) = self.batches.get_mut(&call.batch) {
            let slot = &mut batch.slots[call.index];
            if std::mem::take(&mut slot.has_thread_permits) {
                batch.running -= 1;
                self.total.give();
                self.tracks[slot.terms.track.at()].give();
                self.starved[slot.terms.track.at()] = false;
            }
        }
    }

    /// Changes the Compute lane's cap, when its pool is known.
    pub(crate) fn set_compute_cap(&mut self, cap: usize) {
        self.tracks[Track::Compute.at()].cap = cap;
    }
}
