//! How a call, a batch and the executor end.

use std::time::{Duration, Instant};

use super::batch::{Due, Ending, Slot, State, Terms, Thread};
use super::ended::Ended;
use super::{Action, BatchId, CallRef, Fate, Finish, Scheduler, ending};
use crate::error::{ToolError, ToolErrorKind};
use crate::outcome::{Limit, NotStarted, Outcome};
use crate::policy::{Decision, Settled};
use crate::report::Note;
use crate::time::Deadline;

impl<P> Slot<P> {
    /// What is given instead, where the tool failed and has a fallback.
    fn or_fallback(&mut self, outcome: Ended) -> Ended {
        match self.terms.fallback_of(&outcome) {
            Some(fallback) => {
                self.notes.push(Note::Fallback(Box::new(outcome.into_outcome())));
                Outcome::Succeeded(fallback.clone()).into()
            }
            None => outcome,
        }
    }

    /// Whether it waits for a decision from outside.
    fn is_deferred(&self) -> bool {
        matches!(self.outcome.as_deref(), Some(Outcome::NotStarted(NotStarted::Deferred)))
    }

    /// How a call ends at `now` that isn't running: as its last attempt did, if there was one.
    pub(super) fn unfinished(&self, now: Instant) -> Outcome {
        match self.last_attempt(NO_TIME) {
            Some(last) => last,
            None if self.attempts > 0 => self.timed_out(now, false),
            None => Outcome::NotStarted(NotStarted::Deadline),
        }
    }

    /// How its last attempt ended, if one did, and why there is no other one.
    pub(super) fn last_attempt(&self, why: &str) -> Option<Outcome> {
        let last = self.last.as_deref()?.clone();
        Some(match last {
            Outcome::Failed(error) => Outcome::Failed(not_retried(error, why)),
            last => last,
        })
    }

    pub(super) fn timed_out(&self, now: Instant, still_running: bool) -> Outcome {
        let limit = if self.end_is_deadline { Limit::Deadline } else { Limit::Timeout };
        let after = self.started.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        Outcome::TimedOut { limit, after, still_running }
    }
}

/// How many calls of a batch its policy has seen, where several settle at once.
struct Seen {
    succeeded: usize,
    failed: usize,
}

impl<P: Clone> Scheduler<P> {
    /// Ends a call, once: whoever comes first wins. What follows for its permits, its keys and
    /// its batch follows here.
    pub(super) fn settle(
        &mut self,
        call: CallRef,
        outcome: Outcome,
        now: Instant,
        out: &mut Vec<Action<P>>,
    ) {
        self.settle_as(call, outcome.into(), now, out);
    }

    /// As [`settle`](Self::settle), with an end that others may have, too.
    pub(super) fn settle_as(
        &mut self,
        call: CallRef,
        ended: Ended,
        now: Instant,
        out: &mut Vec<Action<P>>,
    ) {
        let mut one = std::iter::once((call.index, ended));
        self.settle_together(call.batch, &mut one, now, out);
    }

    /// Ends several calls of a batch at once: its policy is asked when all of them are settled.
    pub(super) fn settle_together(
        &mut self,
        id: BatchId,
        calls: &mut dyn Iterator<Item = (usize, Ended)>,
        now: Instant,
        out: &mut Vec<Action<P>>,
    ) {
        let Some(batch) = self.batches.get(id) else { return };
        let mut seen = Seen { succeeded: batch.succeeded, failed: batch.failed() };
        let mut first = None;
        let mut others = Vec::new();
        for (index, ended) in calls {
            let call = CallRef { batch: id, index };
            let Some(followers) = self.settle_one(call, ended, now, out) else { continue };
            match first {
                None => first = Some(call),
                Some(_) => others.push(call),
            }
            for index in followers {
                let follower = CallRef { batch: id, index };
                if self.settle_follower(follower, call.index, now, out) {
                    others.push(follower);
                }
            }
        }
        for call in first.into_iter().chain(others) {
            self.decide(call, &mut seen, now, out);
            // Nobody needs any more what runs within it.
            for nested in self.nested.get(call).cloned().into_iter().flatten() {
                self.end_batch(nested, Ending::Cancelled, now, out);
            }
        }
        self.finish_batch(id, now, out);
    }

    /// Settles a call and gives back what it has; returns the calls that it ran for, too, or
    /// nothing where it was settled before.
    fn settle_one(
        &mut self,
        call: CallRef,
        ended: Ended,
        now: Instant,
        out: &mut Vec<Action<P>>,
    ) -> Option<Vec<usize>> {
        let batch = self.batches.get_mut(call.batch)?;
        let slot = &mut batch.slots[call.index];
        if slot.is_settled() {
            return None;
        }
        let was = std::mem::replace(&mut slot.state, State::Settled);
        if was == State::Running || was == State::Starting {
            self.room.pools.ended(&slot.terms, call, Some(&ended), now);
        }
        let mut ended = slot.or_fallback(ended);
        slot.ended = Some(now);
        batch.pending -= 1;
        batch.succeeded += usize::from(ended.is_success());
        if batch.observed {
            out.push(Action::Settled(slot.payload.clone(), ended.share()));
        }
        slot.outcome = Some(ended);
        batch.deferred += usize::from(slot.is_deferred());
        let followers = match &mut slot.preparation {
            Some(preparation) => std::mem::take(&mut preparation.followers),
            None => Vec::new(),
        };
        match was {
            State::New => {}
            State::Starting => self.starting -= 1,
            State::Running => {
                if slot.lent {
                    self.lent -= 1;
                } else {
                    self.room.end_work(slot.terms.track);
                }
            }
            State::Ready => {
                batch.ready -= 1;
                self.queued -= 1;
            }
            State::Preparing => {
                batch.preparing = None;
                self.queued -= 1;
            }
            _ => self.queued -= 1,
        }
        if slot.thread == Thread::None {
            if slot.attempts > 0 && was != State::Running && !slot.signalled {
                slot.signalled = true;
                out.push(Action::Over(slot.payload.clone()));
            }
            self.give_permits(call);
            self.over(call, now, out);
        } else {
            self.abandon(call, now, out);
        }
        if was == State::Preparing {
            self.prepare_next(call.batch, now, out);
        }
        Some(followers)
    }

    /// Ends a call that waits: as its last attempt did, if there was one.
    pub(super) fn settle_waiting(
        &mut self,
        call: CallRef,
        outcome: Outcome,
        now: Instant,
        out: &mut Vec<Action<P>>,
    ) {
        let Some(slot) = self.slot(call) else { return };
        let outcome = if slot.attempts > 0 { slot.unfinished(now) } else { outcome };
        self.settle(call, outcome, now, out);
    }

    /// A settled call whose thread is still out: our permits come back, what it holds of others
    /// stays held.
    fn abandon(&mut self, call: CallRef, now: Instant, out: &mut Vec<Action<P>>) {
        self.give_thread_permits(call);
        self.abandoned += 1;
        self.turn_away |= self.abandoned >= self.limits.max_abandoned;
        let Some(batch) = self.batches.get_mut(call.batch) else { return };
        let slot = &mut batch.slots[call.index];
        if !slot.signalled {
            slot.signalled = true;
            out.push(Action::Signal(slot.payload.clone()));
        }
        if !slot.closed {
            slot.closed = true;
            out.push(Action::Close(slot.payload.clone()));
        }
        let pools: Vec<_> = match slot.has_pool_permits {
            true => slot.terms.pools.iter().map(|pool| pool.key).collect(),
            false => Vec::new(),
        };
        match slot.ticket() {
            Some(ticket) => {
                self.keys.abandon(ticket);
                self.abandoned_keyed.insert(call, ());
                if self.exclusive_running == Some(call) {
                    self.exclusive_running = None;
                    self.others_first = true;
                }
                // If it is exclusive itself, it holds up its own batch no longer.
                self.pass_barrier(call.batch, now, out);
                self.watch_keys(call, now, out);
            }
            None => self.release_open(call, now, out),
        }
        for key in pools {
            if self.room.pools.abandon(key, call) {
                self.watch_pool(key, now, out);
            }
        }
    }

    /// A call is settled and no thread is out for it: all it held is free.
    pub(super) fn over(&mut self, call: CallRef, now: Instant, out: &mut Vec<Action<P>>) {
        self.give_permits(call);
        let Some(slot) = self.slot_mut(call) else { return };
        let ticket = slot.preparation.as_mut().and_then(|preparation| preparation.ticket.take());
        if std::mem::take(&mut slot.joined) {
            let terms = slot.terms.clone();
            self.part_pools(&terms, now);
        }
        self.leave_keys(ticket, now, out);
        self.release_open(call, now, out);
    }

    fn leave_keys(
        &mut self,
        ticket: Option<super::keys::Ticket>,
        now: Instant,
        out: &mut Vec<Action<P>>,
    ) {
        let Some(ticket) = ticket else { return };
        let mut admitted = Vec::new();
        self.keys.leave(&ticket, &mut admitted);
        for call in admitted {
            self.unblock(call, now, out);
        }
        self.watch_new_firsts(&ticket, now, out);
    }

    fn part_pools(&mut self, terms: &Terms, now: Instant) {
        for pool in &terms.pools {
            self.room.pools.part(pool.key, now);
        }
    }

    /// A call no longer bars an exclusive one.
    fn release_open(&mut self, call: CallRef, now: Instant, out: &mut Vec<Action<P>>) {
        let Some(batch) = self.batches.get_mut(call.batch) else { return };
        let slot = &mut batch.slots[call.index];
        if slot.active {
            slot.active = false;
            self.active -= 1;
        }
        if std::mem::take(&mut slot.open) {
            batch.open -= 1;
        }
        if self.exclusive_running == Some(call) {
            self.exclusive_running = None;
            self.others_first = true;
        }
        if !batch.behind.is_empty() {
            self.pass_barrier(call.batch, now, out);
        }
    }

    /// An identical call ran for this one; whether it was still to be settled.
    fn settle_follower(
        &mut self,
        call: CallRef,
        leader: usize,
        now: Instant,
        out: &mut Vec<Action<P>>,
    ) -> bool {
        let Some(batch) = self.batches.get_mut(call.batch) else { return false };
        let Some(ended) = batch.slots[leader].outcome.as_mut().map(Ended::share) else {
            return false;
        };
        let slot = &mut batch.slots[call.index];
        if slot.is_settled() {
            return false;
        }
        slot.notes.push(Note::CoalescedWith(leader));
        self.settle_one(call, Ended::Shared(ended), now, out);
        true
    }

    /// Asks the batch's policy what the settled call means for the others.
    fn decide(&mut self, call: CallRef, seen: &mut Seen, now: Instant, out: &mut Vec<Action<P>>) {
        let Some(batch) = self.batches.get_mut(call.batch) else { return };
        if batch.ending.is_some() || batch.slots[call.index].is_deferred() {
            return;
        }
        if batch.policy.as_custom().is_some() {
            if let Err(at) = batch.undecided.binary_search(&call.index) {
                batch.undecided.insert(at, call.index);
            }
            out.push(Action::Wake(call.batch));
            return;
        }
        let slot = &batch.slots[call.index];
        let Some(outcome) = &slot.outcome else { return };
        if outcome.is_success() {
            seen.succeeded += 1;
        } else {
            seen.failed += 1;
        }
        let decision = batch.policy.decide(&Settled {
            index: call.index,
            name: slot.call.name(),
            outcome,
            succeeded: seen.succeeded,
            failed: seen.failed,
            pending: batch.slots.len() - seen.succeeded - seen.failed,
        });
        if let Some(abort) = ending(decision, call.index, slot.call.name()) {
            self.end_batch(call.batch, Ending::Aborted(abort), now, out);
        }
    }

    /// What a custom policy decided of the call that `next_undecided` named.
    pub(crate) fn decided(
        &mut self,
        call: CallRef,
        decision: Decision,
        now: Instant,
        out: &mut Vec<Action<P>>,
    ) {
        let Some(batch) = self.batches.get_mut(call.batch) else { return };
        if let Ok(at) = batch.undecided.binary_search(&call.index) {
            batch.undecided.remove(at);
        }
        let name = batch.slots[call.index].call.name();
        if let Some(abort) = ending(decision, call.index, name) {
            self.end(call.batch, Ending::Aborted(abort), now, out);
        }
        self.finish_batch(call.batch, now, out);
        self.dispatch(now, out);
    }

    /// Ends a batch before its calls are done.
    pub(crate) fn end(
        &mut self,
        id: BatchId,
        ending: Ending,
        now: Instant,
        out: &mut Vec<Action<P>>,
    ) {
        self.end_batch(id, ending, now, out);
        self.dispatch(now, out);
    }

    fn end_batch(&mut self, id: BatchId, ending: Ending, now: Instant, out: &mut Vec<Action<P>>) {
        let Some(batch) = self.batches.get_mut(id) else { return };
        if batch.ending.is_some() {
            return;
        }
        batch.undecided.clear();
        if let Ending::Aborted(abort) = &ending {
            batch.abort = Some(abort.clone());
        }
        batch.ending = Some(ending.clone());
        for index in 0..batch.slots.len() {
            self.end_call(CallRef { batch: id, index }, &ending, now, out);
        }
        self.finish_batch(id, now, out);
    }

    fn end_call(&mut self, call: CallRef, ending: &Ending, now: Instant, out: &mut Vec<Action<P>>) {
        let Some(batch) = self.batches.get_mut(call.batch) else { return };
        let slot = &mut batch.slots[call.index];
        match slot.state {
            // It waits for its result from outside, which nobody may go and get any more.
            State::Settled if slot.is_deferred() && matches!(ending, Ending::Withheld(_)) => {
                batch.deferred -= 1;
                slot.outcome = Some(ending.unstarted().into());
            }
            State::Settled => {}
            State::Running => {
                slot.hasten(now);
                if !slot.signalled {
                    slot.signalled = true;
                    out.push(Action::Signal(slot.payload.clone()));
                }
                if batch.push_step(call.index) {
                    out.push(Action::Wake(call.batch));
                }
            }
            // Between two attempts, or on the way to one: it ran, and nothing of it runs now.
            _ if slot.attempts > 0 => self.settle(call, ending.started(), now, out),
            _ => self.settle(call, ending.unstarted(), now, out),
        }
    }

    /// No more starts anywhere; every open batch ends.
    pub(crate) fn shut_down(&mut self, now: Instant, out: &mut Vec<Action<P>>) {
        self.is_shut_down = true;
        let open: Vec<BatchId> = self.batches().collect();
        for id in open {
            self.end_batch(id, Ending::Shutdown, now, out);
        }
    }

    /// Nobody waits for the batch any more: it is cancelled, and dropped when it is done.
    pub(crate) fn detach(&mut self, id: BatchId, now: Instant, out: &mut Vec<Action<P>>) {
        if let Some(batch) = self.batches.get_mut(id) {
            batch.detached = true;
            batch.sealed = true;
        }
        self.end_batch(id, Ending::Cancelled, now, out);
        self.finish_batch(id, now, out);
        self.dispatch(now, out);
    }

    fn finish_batch(&mut self, id: BatchId, now: Instant, out: &mut Vec<Action<P>>) {
        let Some(batch) = self.batches.get(id) else { return };
        if !batch.is_done() {
            // A thread takes some microseconds to wake: so it is awake when the last call ends.
            if !batch.detached && batch.is_nearly_done(now) {
                out.push(Action::Wake(id));
            }
            return;
        }
        if !batch.detached {
            out.push(Action::Wake(id));
        } else if let Some(closed) = self.close(id, now) {
            out.push(Action::Drop(Box::new(closed)));
        }
    }

    /// A worker is done with an attempt, and the thread is back.
    pub(crate) fn finished(
        &mut self,
        call: CallRef,
        finish: Finish,
        now: Instant,
        out: &mut Vec<Action<P>>,
    ) -> Fate {
        self.resume(call, now, out);
        if let Some(wait) = finish.pause {
            let zombie = self.zombies.get(call).map(|zombie| &zombie.terms);
            if let Some(terms) = self.slot(call).map(|slot| &slot.terms).or(zombie).cloned() {
                self.pause(&terms, wait, now, out);
            }
        }
        if self.zombie_returned(call, now, out) {
            self.late += 1;
            self.dispatch(now, out);
            return Fate::Late(Box::new(finish.outcome));
        }
        let Some(batch) = self.batches.get_mut(call.batch) else {
            return Fate::Late(Box::new(finish.outcome));
        };
        let slot = &mut batch.slots[call.index];
        if slot.thread != Thread::Running {
            return Fate::Late(Box::new(finish.outcome));
        }
        slot.thread = Thread::None;
        if slot.is_settled() {
            self.late += 1;
            self.abandoned -= 1;
            self.abandoned_keyed.remove(call);
            self.over(call, now, out);
            self.dispatch(now, out);
            return Fate::Late(Box::new(finish.outcome));
        }
        slot.notes.extend(finish.notes);
        let fate = match finish.retry {
            Some(wait) if batch.ending.is_none() && slot.retry_fits(wait, now) => {
                self.room.pools.ended(&slot.terms, call, Some(&finish.outcome), now);
                slot.last = Some(Box::new(finish.outcome));
                self.back_off(call, wait, now, out);
                Fate::Retried
            }
            retry => {
                let outcome =
                    slot.conclude(finish.outcome, retry.is_some(), batch.ending.as_ref(), now);
                self.settle(call, outcome, now, out);
                Fate::Settled
            }
        };
        self.dispatch(now, out);
        fate
    }

    fn back_off(&mut self, call: CallRef, wait: Duration, now: Instant, out: &mut Vec<Action<P>>) {
        self.give_permits(call);
        let Some(batch) = self.batches.get_mut(call.batch) else { return };
        let slot = &mut batch.slots[call.index];
        slot.state = State::Backoff;
        self.room.end_work(slot.terms.track);
        self.queued += 1;
        if std::mem::take(&mut slot.active) {
            self.active -= 1;
        }
        if let Some(at) = now.checked_add(wait)
            && batch.push_due(at, Due::Retry(call.index))
        {
            out.push(Action::Wake(call.batch));
        }
    }

    /// The thread of a call is back whose batch is over.
    pub(super) fn zombie_returned(
        &mut self,
        call: CallRef,
        now: Instant,
        out: &mut Vec<Action<P>>,
    ) -> bool {
        let Some(zombie) = self.zombies.remove(call) else { return false };
        self.abandoned -= 1;
        if self.abandoned_keyed.remove(call).is_some() {
            self.active -= 1;
        }
        if zombie.has_pool_permits {
            for pool in &zombie.terms.pools {
                self.room.pools.give(pool.key);
                self.room.pools.forget(pool.key, call);
            }
        }
        self.part_pools(&zombie.terms, now);
        self.leave_keys(zombie.ticket, now, out);
        true
    }
}

impl<P> Slot<P> {
    /// Whether another attempt after `wait` would begin before the call is told to stop.
    fn retry_fits(&self, wait: Duration, now: Instant) -> bool {
        !self.signalled && Deadline::after(now, wait) < self.signal_at
    }

    /// How an attempt's outcome ends its call: a failure that came of our telling it to stop is
    /// ours, not the tool's.
    fn conclude(
        &self,
        outcome: Outcome,
        wanted_retry: bool,
        ending: Option<&Ending>,
        now: Instant,
    ) -> Outcome {
        let Outcome::Failed(error) = outcome else { return outcome };
        let gave_way = self.closed
            || (self.signalled
                && matches!(error.kind(), ToolErrorKind::Cancelled | ToolErrorKind::TimedOut));
        match ending {
            None if !gave_way && wanted_retry => Outcome::Failed(not_retried(error, NO_TIME)),
            _ if !gave_way => Outcome::Failed(error),
            Some(ending) => ending.started(),
            None => self.timed_out(now, false),
        }
    }
}

/// Why a failed call isn't tried again.
const NO_TIME: &str = "retry budget exhausted by deadline";

/// The last error of a call that would have been retried.
fn not_retried(error: ToolError, why: &str) -> ToolError {
    let details = format!("{}; {why}", error.operator_text());
    error.with_details(details)
}
