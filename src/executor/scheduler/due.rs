//! What happens when its time comes: a call is told to stop, closed and walked away from, a batch
//! reaches its deadline, a backoff ends.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use super::batch::{Batch, Due, Slot, State};
use super::{Action, BatchId, CallRef, Scheduler, Track};
use crate::outcome::{NotStarted, Outcome};
use crate::time::Deadline;

/// What a call is given where it has no timeout of its own.
pub(super) const DEFAULT_SPAN: Duration = Duration::from_secs(60);

impl<P> Slot<P> {
    /// Sets when the call is told to stop, closed and walked away from, if it begins at `now`.
    pub(super) fn set_times(&mut self, deadline: Deadline, now: Instant) {
        let spent = self.preparation.as_ref().map_or(Duration::ZERO, |prepared| prepared.spent);
        let left = self.terms.timeout.map(|timeout| timeout.saturating_sub(spent));
        let own = left.map_or(Deadline::Never, |left| Deadline::after(now, left));
        self.end_is_deadline = deadline < own;
        self.end_at = own.min(deadline);
        let grace =
            self.end_at.remaining(now).map_or(Duration::ZERO, |left| self.terms.grace_of(left));
        self.signal_at = self.end_at.earlier_by(grace);
        self.close_at = self.end_at.earlier_by(grace / 4);
    }

    /// Brings the end forward: told to stop now, walked away from after the grace.
    pub(super) fn hasten(&mut self, now: Instant) {
        let span = self.terms.timeout.unwrap_or(DEFAULT_SPAN);
        let grace = self.terms.grace_of(span);
        let end = Deadline::after(now, grace);
        if end < self.end_at {
            self.end_at = end;
            self.close_at = end.earlier_by(grace / 4);
        }
        self.signal_at = self.signal_at.min(Deadline::At(now));
    }

    /// Brings the end forward to a deadline that was set after the call began.
    fn clip(&mut self, deadline: Deadline, now: Instant) {
        if deadline >= self.end_at {
            return;
        }
        self.end_at = deadline;
        self.end_is_deadline = true;
        let left = deadline.remaining(now).unwrap_or_default();
        let grace = self.terms.grace_of(left);
        self.signal_at = self.signal_at.min(deadline.earlier_by(grace));
        self.close_at = self.close_at.min(deadline.earlier_by(grace / 4));
    }

    /// When its next step towards its end is due.
    pub(super) fn next_step(&self) -> Deadline {
        if !self.signalled {
            self.signal_at
        } else if !self.closed {
            self.close_at
        } else {
            self.end_at
        }
    }
}

impl<P> Batch<P> {
    /// Has a call's next step looked at when it is due; whether the collector has to be woken.
    #[must_use]
    pub(super) fn push_step(&mut self, index: usize) -> bool {
        let slot = &mut self.slots[index];
        slot.due_at = slot.next_step().instant();
        slot.due_at.is_some_and(|at| self.push_due(at, Due::Call(index)))
    }

    /// The next time that was noted and at which something is left to do.
    pub(super) fn next_noted(&mut self) -> Deadline {
        while let Some(&Reverse((at, due))) = self.due.peek() {
            if !self.is_stale(at, due) {
                return Deadline::At(at);
            }
            self.due.pop();
        }
        Deadline::Never
    }

    fn pop_due(&mut self, now: Instant) -> Option<Due> {
        if !self.next_noted().has_passed(now) {
            return None;
        }
        self.due.pop().map(|due| due.0.1)
    }

    /// Whether nothing is left to do at a time that was noted.
    fn is_stale(&self, at: Instant, due: Due) -> bool {
        match due {
            Due::Deadline => self.deadline != Deadline::At(at),
            Due::Call(index) => self.slots[index].due_at != Some(at),
            Due::Retry(index) => {
                !matches!(self.slots[index].state, State::Backoff | State::Unprepared)
            }
            Due::Expire(index) => !self.slots[index].expiring,
        }
    }
}

impl<P: Clone> Scheduler<P> {
    /// Does what has become due in a batch.
    pub(crate) fn tick(&mut self, id: BatchId, now: Instant, out: &mut Vec<Action<P>>) {
        self.tick_all(&[id], now, out);
    }

    /// Does what has become due in these batches.
    pub(crate) fn tick_all(&mut self, ids: &[BatchId], now: Instant, out: &mut Vec<Action<P>>) {
        loop {
            for &id in ids {
                while let Some(due) = self.batches.get_mut(id).and_then(|it| it.pop_due(now)) {
                    match due {
                        Due::Deadline => self.reach_deadline(id, now, out),
                        Due::Call(index) => self.step(CallRef { batch: id, index }, now, out),
                        Due::Retry(index) => self.retry(CallRef { batch: id, index }, now, out),
                        Due::Expire(index) => self.expire(CallRef { batch: id, index }, now, out),
                    }
                }
            }
            // It may turn calls away, which makes something due at once.
            self.dispatch(now, out);
            let mut is_due = |id: &BatchId| {
                self.batches.get_mut(*id).is_some_and(|batch| batch.next_noted().has_passed(now))
            };
            if !ids.iter().any(&mut is_due) {
                return;
            }
        }
    }

    /// When a batch has to be looked at again, if nothing happens before. The collector sleeps
    /// until then, or until it is woken.
    pub(crate) fn next_due(&mut self, id: BatchId, now: Instant) -> Deadline {
        let Some(batch) = self.batches.get_mut(id) else { return Deadline::Never };
        let mut next = batch.next_noted();
        for class in 0..batch.classes.len() {
            if batch.first_ready(class).is_some() {
                let free = self.room.free_at(&batch.classes[class].terms, now);
                if !free.has_passed(now) {
                    next = next.min(free);
                }
            }
        }
        for call in self.exclusive.iter().filter(|call| call.batch == id) {
            let free = self.room.free_at(&batch.slots[call.index].terms, now);
            if !free.has_passed(now) {
                next = next.min(free);
            }
        }
        batch.armed = next;
        next
    }

    /// Sets a batch's deadline, for one whose time begins after it was opened. A deadline that is
    /// later than the one before doesn't give running calls more time.
    pub(crate) fn set_deadline(
        &mut self,
        id: BatchId,
        deadline: Deadline,
        now: Instant,
        out: &mut Vec<Action<P>>,
    ) {
        let Some(batch) = self.batches.get_mut(id) else { return };
        batch.deadline = deadline;
        let mut wake = deadline.instant().is_some_and(|at| batch.push_due(at, Due::Deadline));
        for index in 0..batch.slots.len() {
            let slot = &mut batch.slots[index];
            // Between two attempts, too: the next one has no times of its own.
            if slot.attempts > 0 && !slot.is_settled() {
                slot.clip(deadline, now);
                wake |= batch.push_step(index);
            }
        }
        if wake {
            out.push(Action::Wake(id));
        }
        // Where the one before was reached this very moment, nothing was prepared any more.
        self.prepare_next(id, now, out);
    }

    fn reach_deadline(&mut self, id: BatchId, now: Instant, out: &mut Vec<Action<P>>) {
        let Some(batch) = self.batches.get(id) else { return };
        let outcome = |(index, slot): (usize, &Slot<P>)| match slot.state {
            State::Settled => None,
            State::Running => {
                Some((index, self.end_outcome(CallRef { batch: id, index }, now).into()))
            }
            _ => Some((index, slot.unfinished(now).into())),
        };
        let outcomes: Vec<_> = batch.slots.iter().enumerate().filter_map(outcome).collect();
        self.settle_together(id, &mut outcomes.into_iter(), now, out);
    }

    /// How a running call ends whose time is over.
    fn end_outcome(&self, call: CallRef, now: Instant) -> Outcome {
        let batch = self.batches.get(call.batch);
        let slot = batch.and_then(|batch| batch.slots.get(call.index));
        match (batch.and_then(|batch| batch.ending.as_ref()), slot) {
            (None, Some(slot)) => slot.timed_out(now, true),
            (Some(ending), _) => ending.started(),
            (None, None) => Outcome::Cancelled { started: true, abort: None },
        }
    }

    /// A call's next step towards its end: told to stop, closed, walked away from.
    fn step(&mut self, call: CallRef, now: Instant, out: &mut Vec<Action<P>>) {
        let Some(batch) = self.batches.get_mut(call.batch) else { return };
        let slot = &mut batch.slots[call.index];
        slot.due_at = None;
        match slot.state {
            State::Preparing => {
                let outcome = Outcome::NotStarted(NotStarted::Timeout);
                return self.settle(call, outcome, now, out);
            }
            State::Running => {}
            // The caller's pool may be busy with something else for as long as it likes.
            State::Starting if slot.attempts == 0 && slot.terms.track == Track::Compute => {
                let Some(end) = slot.end_at.instant() else { return };
                if end <= now {
                    let outcome = Outcome::NotStarted(NotStarted::Timeout);
                    return self.settle(call, outcome, now, out);
                }
                slot.due_at = Some(end);
                if batch.push_due(end, Due::Call(call.index)) {
                    out.push(Action::Wake(call.batch));
                }
                return;
            }
            // No time is left for another attempt.
            State::Backoff | State::Ready | State::Exclusive | State::Starting
                if slot.attempts > 0 =>
            {
                let outcome = slot.unfinished(now);
                return self.settle(call, outcome, now, out);
            }
            _ => return,
        }
        if slot.end_at.has_passed(now) {
            let outcome = self.end_outcome(call, now);
            return self.settle(call, outcome, now, out);
        }
        if !slot.signalled && slot.signal_at.has_passed(now) {
            slot.signalled = true;
            out.push(Action::Signal(slot.payload.clone()));
        }
        if !slot.closed && slot.close_at.has_passed(now) {
            slot.closed = true;
            out.push(Action::Close(slot.payload.clone()));
        }
        if batch.push_step(call.index) {
            out.push(Action::Wake(call.batch));
        }
    }

    fn retry(&mut self, call: CallRef, now: Instant, out: &mut Vec<Action<P>>) {
        match self.slot(call).map(|slot| slot.state) {
            Some(State::Backoff) => self.take_turn(call, now, out),
            Some(State::Unprepared) => self.prepare_next(call.batch, now, out),
            _ => {}
        }
    }
}
