//! Waits for something that may never come: a key, a permit or an exclusive turn that needs an
//! abandoned call to return, a key that a call has first whose message is still being written, a
//! group that was paused. Such a wait is as long as the call's own timeout, and then the call isn't
//! started.

use std::time::{Duration, Instant};

use super::batch::{Due, Slot, State};
use super::due::DEFAULT_SPAN;
use super::keys::Ticket;
use super::{Action, CallRef, PoolKey, Scheduler, Terms};
use crate::outcome::{NotStarted, Outcome, Rejected};
use crate::tool::{Access, KeyUse};

/// What a pause without end is taken for.
const LONGEST_PAUSE: Duration = Duration::from_secs(u32::MAX as u64);

/// What a call waits for at its tool's or its group's limits.
enum Stuck {
    Paused,
    /// All permits are with abandoned calls; one of them.
    Lost(CallRef),
}

/// Until when a call waits for what may never come: as long as it may run, and where that has no end
/// for the default span.
fn patience(terms: &Terms, now: Instant) -> Option<Instant> {
    let own = terms.timeout.and_then(|timeout| now.checked_add(timeout));
    own.or_else(|| now.checked_add(DEFAULT_SPAN))
}

impl<P: Clone> Scheduler<P> {
    /// Gives a waiting call its own timeout if it waits for what may never come.
    pub(super) fn watch(&mut self, call: CallRef, now: Instant, out: &mut Vec<Action<P>>) {
        let Some(slot) = self.slot(call) else { return };
        if slot.expiring {
            return;
        }
        let Some(at) = patience(&slot.terms, now) else { return };
        if self.stuck(call, slot, at).is_none() {
            return;
        }
        let Some(batch) = self.batches.get_mut(call.batch) else { return };
        batch.slots[call.index].expiring = true;
        if batch.push_due(at, Due::Expire(call.index)) {
            out.push(Action::Wake(call.batch));
        }
    }

    fn watch_all(&mut self, calls: Vec<CallRef>, now: Instant, out: &mut Vec<Action<P>>) {
        for call in calls {
            self.watch(call, now, out);
        }
    }

    /// A watched call has waited for as long as it may.
    pub(super) fn expire(&mut self, call: CallRef, now: Instant, out: &mut Vec<Action<P>>) {
        let Some(slot) = self.slot_mut(call) else { return };
        slot.expiring = false;
        if let Some(slot) = self.slot(call)
            && let Some(reason) = self.stuck(call, slot, now)
        {
            self.settle_waiting(call, Outcome::NotStarted(reason), now, out);
        }
    }

    /// Whether what a call waits for may never come, or not until `at`.
    fn stuck(&self, call: CallRef, slot: &Slot<P>, at: Instant) -> Option<NotStarted> {
        let holder = match slot.state {
            State::Blocked => {
                let ticket = slot.ticket()?;
                self.keys.abandoned_holder(ticket).or_else(|| self.held_holder(call, ticket))
            }
            // It waits for the calls of its own batch alone.
            State::Behind if slot.terms.exclusive => {
                let first = CallRef { index: 0, ..call };
                self.abandoned_keyed.range(first..call).next().map(|(call, ())| call)
            }
            State::Exclusive => self.abandoned_keyed.first().map(|(call, ())| call),
            _ => None,
        };
        if let Some(holder) = holder {
            return Some(self.key_held(holder, call));
        }
        if !matches!(slot.state, State::Ready | State::Exclusive) {
            return None;
        }
        match self.stuck_at_pools(&slot.terms, at)? {
            Stuck::Paused => Some(NotStarted::GroupPaused),
            Stuck::Lost(holder) => Some(self.key_held(holder, call)),
        }
    }

    /// A call of another batch that has a key which `ticket` waits for, and waits itself for the
    /// rest of its message.
    fn held_holder(&self, call: CallRef, ticket: &Ticket) -> Option<CallRef> {
        // A look at the first is enough to find a writer, which has its key alone.
        let mut first = ticket.keys.iter().filter_map(|wanted| {
            let (holder, access) = self.keys.holders(&wanted.key).next()?;
            let conflicts = wanted.access == Access::Write || access == Access::Write;
            conflicts.then_some(holder)
        });
        first.find(|holder| holder.batch != call.batch && self.is_held(*holder))
    }

    /// Whether a call has keys, and waits for the rest of its message, or behind one that does. Not in
    /// a batch that ends: there no call waits for long.
    fn is_held(&self, call: CallRef) -> bool {
        let Some(batch) = self.batches.get(call.batch) else { return false };
        if batch.released || batch.ending.is_some() {
            return false;
        }
        let holds =
            |slot: &Slot<P>| slot.held && matches!(slot.state, State::Held | State::Blocked);
        let slot = &batch.slots[call.index];
        if holds(slot) || slot.state != State::Blocked {
            return holds(slot);
        }
        let Some(ticket) = slot.ticket() else { return false };
        ticket.keys.iter().any(|wanted| {
            let first = self.keys.holders(&wanted.key).next().map(|(first, _)| first);
            first.is_some_and(|first| first.batch == call.batch && holds(&batch.slots[first.index]))
        })
    }

    fn stuck_at_pools(&self, terms: &Terms, at: Instant) -> Option<Stuck> {
        let pools = &self.room.pools;
        terms.pools.iter().find_map(|pool| match pools.paused_until(pool.key) {
            Some(until) if until > at => Some(Stuck::Paused),
            _ => pools.lost_to(pool.key).map(Stuck::Lost),
        })
    }

    fn key_held(&self, holder: CallRef, waiter: CallRef) -> NotStarted {
        let tool = match self.slot(holder) {
            Some(slot) => slot.call.name().to_owned(),
            None => self.zombies.get(holder).map(|z| z.tool.clone()).unwrap_or_default(),
        };
        let index = (holder.batch == waiter.batch).then_some(holder.index);
        NotStarted::KeyHeld { index, tool }
    }

    /// A call with keys was walked away from: who waits for them won't wait for ever.
    pub(super) fn watch_keys(&mut self, holder: CallRef, now: Instant, out: &mut Vec<Action<P>>) {
        let Some(ticket) = self.slot(holder).and_then(Slot::ticket).cloned() else { return };
        let mut waiting: Vec<CallRef> = Vec::new();
        for KeyUse { key, .. } in ticket.keys.iter() {
            waiting.extend(self.keys.waiting(key));
        }
        waiting.extend(&self.exclusive);
        self.watch_all(waiting, now, out);
        if let Some(batch) = self.batches.get(holder.batch)
            && let Some(&index) = batch.behind.front()
        {
            self.watch(CallRef { index, ..holder }, now, out);
        }
    }

    /// A call has its keys and waits for the rest of its message: who waits for the call won't do
    /// so for ever. Only the first that has a key is looked at, so the others need no watch.
    pub(super) fn watch_behind_held(
        &mut self,
        holder: CallRef,
        now: Instant,
        out: &mut Vec<Action<P>>,
    ) {
        if !self.is_held(holder) {
            return;
        }
        let Some(ticket) = self.slot(holder).and_then(Slot::ticket).cloned() else { return };
        let mut waiting: Vec<CallRef> = Vec::new();
        for KeyUse { key, .. } in ticket.keys.iter() {
            if self.keys.holders(key).next().is_some_and(|(first, _)| first == holder) {
                waiting.extend(self.keys.waiting(key));
            }
        }
        self.watch_all(waiting, now, out);
    }

    /// A call has left its keys: who has one of them first now, and waits for the rest of its
    /// message, is waited for no longer than others are.
    pub(super) fn watch_new_firsts(
        &mut self,
        left: &Ticket,
        now: Instant,
        out: &mut Vec<Action<P>>,
    ) {
        for wanted in left.keys.iter() {
            let first = self.keys.holders(&wanted.key).next().map(|(call, _)| call);
            let is_new = |call: &CallRef| {
                let ticket = self.slot(*call).and_then(Slot::ticket);
                self.is_held(*call) && ticket.is_some_and(|own| own.number() > left.number())
            };
            if let Some(first) = first.filter(is_new) {
                self.watch_behind_held(first, now, out);
            }
        }
    }

    /// Watches the calls that wait for permits of a pool.
    pub(super) fn watch_pool(&mut self, key: PoolKey, now: Instant, out: &mut Vec<Action<P>>) {
        let is_stuck = |terms: &Terms| {
            terms.pools.iter().any(|pool| pool.key == key)
                && patience(terms, now).is_some_and(|at| self.stuck_at_pools(terms, at).is_some())
        };
        let waiting = self.waiting_for_permits(is_stuck);
        self.watch_all(waiting, now, out);
    }

    /// The calls of such terms that wait for permits only, and all exclusive ones; some of them may be
    /// over.
    pub(super) fn waiting_for_permits(&self, wanted: impl Fn(&Terms) -> bool) -> Vec<CallRef> {
        let mut waiting = Vec::new();
        for id in &self.rotation {
            let Some(batch) = self.batches.get(*id) else { continue };
            for class in batch.classes.iter().filter(|class| wanted(&class.terms)) {
                let ready = class.ready.iter().map(|index| index.0);
                waiting.extend(ready.map(|index| CallRef { batch: *id, index }));
            }
        }
        waiting.extend(&self.exclusive);
        waiting
    }

    /// The backend asked to be left alone: the whole group rests.
    pub(super) fn pause(
        &mut self,
        terms: &Terms,
        wait: Duration,
        now: Instant,
        out: &mut Vec<Action<P>>,
    ) {
        let until = now.checked_add(wait).or_else(|| now.checked_add(LONGEST_PAUSE));
        let Some(until) = until else { return };
        for pool in &terms.pools {
            if matches!(pool.key, PoolKey::Group(_)) {
                self.room.pools.pause(pool.key, until);
                self.watch_pool(pool.key, now, out);
            }
        }
    }

    /// Refuses the calls that haven't started, because too many threads were left running.
    pub(super) fn turn_away_queued(&mut self, now: Instant, out: &mut Vec<Action<P>>) {
        if self.abandoned < self.limits.max_abandoned {
            return;
        }
        let mut queued = Vec::new();
        for (id, batch) in self.batches.iter() {
            for (index, slot) in batch.slots.iter().enumerate() {
                let is_queued = matches!(
                    slot.state,
                    State::Behind
                        | State::Unprepared
                        | State::Blocked
                        | State::Held
                        | State::Ready
                        | State::Exclusive
                );
                if is_queued && slot.attempts == 0 {
                    queued.push(CallRef { batch: id, index });
                }
            }
        }
        for call in queued {
            self.settle(call, Outcome::Rejected(Rejected::AbandonedLimit), now, out);
        }
    }
}
