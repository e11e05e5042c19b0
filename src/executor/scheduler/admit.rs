//! From handing a call in until it waits for permits: barriers, preparing, keys, holding.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::batch::{Due, Preparation, Slot, State, Thread};
use super::ended::Ended;
use super::keys;
use super::pools::THREAD_RETRY;
use super::{Action, BatchId, CallRef, CallSpec, Prepared, Scheduler, Track};
use crate::error::bounded;
use crate::outcome::{NotStarted, Outcome, Rejected};
use crate::report::Note;
use crate::time::Deadline;
use crate::tool::{Access, KeyUse};

impl<P: Clone> Scheduler<P> {
    /// Hands calls in, in call order. Those that come settled are settled before any starts.
    pub(crate) fn submit(
        &mut self,
        id: BatchId,
        calls: impl IntoIterator<Item = CallSpec<P>>,
        now: Instant,
        out: &mut Vec<Action<P>>,
    ) {
        let Some(batch) = self.batches.get_mut(id) else { return };
        let first = batch.slots.len();
        let mut settled = Vec::new();
        let calls = calls.into_iter();
        let expected = calls.size_hint().0;
        match first {
            // Most batches are handed in at once.
            0 => batch.slots.reserve_exact(expected),
            _ => batch.slots.reserve(expected),
        }
        for (n, spec) in calls.enumerate() {
            let (slot, outcome) = Slot::new(spec, now);
            batch.slots.push(slot);
            batch.pending += 1;
            if let Some(outcome) = outcome {
                settled.push((first + n, outcome.into()));
            }
        }
        let last = batch.slots.len();
        if batch.ending.is_none() && batch.deadline.has_passed(now) {
            let late = (first..last)
                .map(|index| (index, Outcome::NotStarted(NotStarted::Deadline).into()));
            settled.extend(late);
        }
        if !settled.is_empty() {
            self.settle_together(id, &mut settled.into_iter(), now, out);
        }
        let mut full = false;
        for index in first..last {
            if self.queued >= self.limits.max_queued && !full {
                // Those that can start at once don't take up the queue.
                self.dispatch(now, out);
                full = self.queued >= self.limits.max_queued;
            }
            self.admit(CallRef { batch: id, index }, now, out);
        }
        self.dispatch(now, out);
    }

    /// No more calls will come.
    pub(crate) fn seal(&mut self, id: BatchId, out: &mut Vec<Action<P>>) {
        let Some(batch) = self.batches.get_mut(id) else { return };
        batch.sealed = true;
        if batch.is_done() {
            out.push(Action::Wake(id));
        }
    }

    /// Lets the held calls run.
    pub(crate) fn release(&mut self, id: BatchId, now: Instant, out: &mut Vec<Action<P>>) {
        let Some(batch) = self.batches.get_mut(id) else { return };
        batch.released = true;
        let held = |(index, slot): (usize, &Slot<P>)| (slot.state == State::Held).then_some(index);
        let held: Vec<usize> = batch.slots.iter().enumerate().filter_map(held).collect();
        for index in held {
            self.take_turn(CallRef { batch: id, index }, now, out);
        }
        self.dispatch(now, out);
    }

    fn admit(&mut self, call: CallRef, now: Instant, out: &mut Vec<Action<P>>) {
        let Some(batch) = self.batches.get_mut(call.batch) else { return };
        let slot = &mut batch.slots[call.index];
        if slot.state != State::New {
            return;
        }
        let terms = Arc::clone(&slot.terms);
        let refused = if let Some(ending) = &batch.ending {
            Some(ending.unstarted())
        } else if terms.timeout.is_some_and(|timeout| timeout.is_zero()) {
            Some(Outcome::NotStarted(NotStarted::Timeout))
        } else if self.abandoned >= self.limits.max_abandoned {
            Some(Outcome::Rejected(Rejected::AbandonedLimit))
        } else if self.queued >= self.limits.max_queued {
            Some(Outcome::Rejected(Rejected::Busy))
        } else if terms.exclusive && batch.parent.is_some() {
            let what = "the end of the call it is part of".to_owned();
            Some(Outcome::Rejected(Rejected::WouldDeadlock(what)))
        } else {
            None
        };
        if let Some(outcome) = refused {
            return self.settle(call, outcome, now, out);
        }
        slot.state = State::Behind;
        slot.joined = true;
        self.queued += 1;
        for pool in &terms.pools {
            self.room.pools.join(pool, now);
        }
        if terms.exclusive || !batch.behind.is_empty() {
            batch.behind.push_back(call.index);
            self.pass_barrier(call.batch, now, out);
        } else {
            self.proceed(call, now, out);
        }
    }

    /// Lets the calls behind an exclusive one proceed as far as they may.
    pub(super) fn pass_barrier(&mut self, id: BatchId, now: Instant, out: &mut Vec<Action<P>>) {
        while let Some(batch) = self.batches.get_mut(id)
            && let Some(&index) = batch.behind.front()
        {
            let call = CallRef { batch: id, index };
            let slot = &batch.slots[index];
            if slot.terms.exclusive && !slot.is_settled() {
                if slot.state != State::Behind {
                    return;
                }
                if batch.open > 0 {
                    return self.watch(call, now, out);
                }
                // What it may change, no earlier call knows.
                batch.identical.clear();
                return self.proceed(call, now, out);
            }
            batch.behind.pop_front();
            if slot.state == State::Behind {
                self.proceed(call, now, out);
            }
        }
    }

    fn proceed(&mut self, call: CallRef, now: Instant, out: &mut Vec<Action<P>>) {
        let Some(batch) = self.batches.get_mut(call.batch) else { return };
        let slot = &mut batch.slots[call.index];
        slot.open = true;
        batch.open += 1;
        if slot.terms.prepare {
            slot.state = State::Unprepared;
            batch.unordered.push_back(call.index);
            self.prepare_next(call.batch, now, out);
        } else {
            self.take_turn(call, now, out);
        }
    }

    /// Has the next keyed call prepared, unless one is being prepared.
    pub(super) fn prepare_next(&mut self, id: BatchId, now: Instant, out: &mut Vec<Action<P>>) {
        let Some(batch) = self.batches.get_mut(id) else { return };
        // At the deadline its calls are settled one after another.
        if batch.ending.is_some() || batch.deadline.has_passed(now) {
            return;
        }
        while batch.preparing.is_none()
            && let Some(index) = batch.unordered.pop_front()
        {
            let slot = &mut batch.slots[index];
            if slot.state != State::Unprepared {
                continue;
            }
            slot.state = State::Preparing;
            slot.thread = Thread::Preparing;
            let since = slot.preparation.get_or_insert_with(|| Preparation::begun(now)).since;
            slot.end_at = slot.terms.timeout.map_or(Deadline::Never, |t| Deadline::after(since, t));
            let payload = slot.payload.clone();
            batch.preparing = Some(index);
            if let Deadline::At(at) = slot.end_at {
                slot.due_at = Some(at);
                if batch.push_due(at, Due::Call(index)) {
                    out.push(Action::Wake(id));
                }
            }
            out.push(Action::Prepare(CallRef { batch: id, index }, payload));
        }
    }

    /// A call was prepared, or can't be: then `Err` is how it ends.
    pub(crate) fn prepared(
        &mut self,
        call: CallRef,
        prepared: Result<Prepared, Outcome>,
        now: Instant,
        out: &mut Vec<Action<P>>,
    ) {
        if self.zombie_returned(call, now, out) {
            return self.dispatch(now, out);
        }
        let Some(batch) = self.batches.get_mut(call.batch) else { return };
        let slot = &mut batch.slots[call.index];
        slot.thread = Thread::None;
        if slot.is_settled() {
            self.abandoned -= 1;
            self.over(call, now, out);
        } else {
            batch.preparing = None;
            if let Some(preparation) = &mut slot.preparation {
                preparation.spent = now.saturating_duration_since(preparation.since);
            }
            slot.due_at = None;
            let too_many = self.abandoned >= self.limits.max_abandoned;
            match prepared {
                Err(outcome) => self.settle(call, outcome, now, out),
                Ok(_) if too_many => {
                    self.settle(call, Outcome::Rejected(Rejected::AbandonedLimit), now, out);
                }
                Ok(_) if slot.end_at.has_passed(now) => {
                    self.settle(call, Outcome::NotStarted(NotStarted::Timeout), now, out);
                }
                Ok(prepared) => self.order(call, prepared, now, out),
            }
        }
        self.prepare_next(call.batch, now, out);
        self.dispatch(now, out);
    }

    /// No thread could be had to prepare a call.
    pub(crate) fn prepare_failed(&mut self, call: CallRef, now: Instant, out: &mut Vec<Action<P>>) {
        if self.zombie_returned(call, now, out) {
            return self.dispatch(now, out);
        }
        let Some(batch) = self.batches.get_mut(call.batch) else { return };
        let slot = &mut batch.slots[call.index];
        slot.thread = Thread::None;
        slot.due_at = None;
        if slot.is_settled() {
            self.abandoned -= 1;
            self.over(call, now, out);
        } else if self.room.threads(Track::Blocking) == 0 {
            self.settle(call, Outcome::NotStarted(NotStarted::NoThread), now, out);
        } else {
            batch.preparing = None;
            slot.state = State::Unprepared;
            batch.unordered.push_front(call.index);
            if let Some(at) = now.checked_add(THREAD_RETRY)
                && batch.push_due(at, Due::Retry(call.index))
            {
                out.push(Action::Wake(call.batch));
            }
        }
        self.dispatch(now, out);
    }

    /// Enters a prepared call into the queues of its keys, or lets an identical one run for it.
    fn order(&mut self, call: CallRef, prepared: Prepared, now: Instant, out: &mut Vec<Action<P>>) {
        let keys = keys::merged(prepared.keys);
        if let Some(identity) = prepared.identity {
            if self.join_identical(call, &identity, &keys, now, out) {
                return;
            }
            if let Some(batch) = self.batches.get_mut(call.batch) {
                batch.identical.insert(identity, call.index);
            }
        }
        if keys.is_empty() {
            return self.take_turn(call, now, out);
        }
        let shared = match self.shared(call, &keys) {
            Ok(shared) => shared,
            Err(key) => {
                let key = self.limits.secrets.redacted(&bounded(&key));
                let what =
                    format!("the key {key:?}, which isn't free before its own caller is done");
                let outcome = Outcome::Rejected(Rejected::WouldDeadlock(what));
                return self.settle(call, outcome, now, out);
            }
        };
        let (ticket, blocked) = self.keys.enter(call, keys, &shared);
        let Some(slot) = self.slot_mut(call) else { return };
        if let Some(preparation) = &mut slot.preparation {
            preparation.ticket = Some(ticket);
            preparation.blocked = blocked;
        }
        if blocked == 0 {
            return self.take_turn(call, now, out);
        }
        slot.state = State::Blocked;
        self.watch(call, now, out);
    }

    /// Joins an earlier identical call of the batch, unless a write came between.
    fn join_identical(
        &mut self,
        call: CallRef,
        identity: &str,
        keys: &[KeyUse],
        now: Instant,
        out: &mut Vec<Action<P>>,
    ) -> bool {
        let Some(batch) = self.batches.get_mut(call.batch) else { return false };
        let Some(&leader) = batch.identical.get(identity) else { return false };
        let first = &mut batch.slots[leader];
        match (first.outcome.as_deref(), first.ticket()) {
            (None, Some(ticket)) if self.keys.written_after(ticket.number(), keys) => false,
            (None, _) => {
                let Some(preparation) = &mut first.preparation else { return false };
                preparation.followers.push(call.index);
                batch.slots[call.index].state = State::Joined;
                true
            }
            (Some(outcome), _) if keys.is_empty() && outcome.is_success() => {
                let Some(ended) = first.outcome.as_mut().map(Ended::share) else { return false };
                batch.slots[call.index].notes.push(Note::CoalescedWith(leader));
                self.settle_as(call, Ended::Shared(ended), now, out);
                true
            }
            (Some(_), _) => false,
        }
    }

    /// The keys that a call reads as one of its ancestors does: it has them at once, whoever waits
    /// for them. An error names a key for which to wait would be to wait for ever.
    fn shared(&self, call: CallRef, keys: &[KeyUse]) -> Result<Vec<Arc<str>>, String> {
        let ancestors = self.ancestors(call);
        if ancestors.is_empty() {
            return Ok(Vec::new());
        }
        let mut shared = Vec::new();
        let mut own = Vec::new();
        for wanted in keys {
            let held = self.keys.holders(&wanted.key).find(|(who, _)| ancestors.contains(who));
            match held {
                Some((_, Access::Read)) if wanted.access == Access::Read => {
                    shared.push(Arc::clone(&wanted.key));
                }
                Some(_) => return Err(wanted.key.to_string()),
                None => own.push(wanted),
            }
        }
        match self.circle(call.batch, &own, &ancestors) {
            Some(key) => Err(key),
            None => Ok(shared),
        }
    }

    /// The calls that a call is nested in, innermost first.
    fn ancestors(&self, call: CallRef) -> Vec<CallRef> {
        let mut ancestors = Vec::new();
        let mut batch = self.batches.get(call.batch);
        while let Some(parent) = batch.and_then(|batch| batch.parent) {
            ancestors.push(parent);
            batch = self.batches.get(parent.batch);
        }
        ancestors
    }

    /// The one of the keys for which to wait would be, directly or by what those who have it wait
    /// for, to wait for one of `goals`.
    fn circle<'a>(
        &'a self,
        own_batch: BatchId,
        keys: &[&'a KeyUse],
        goals: &[CallRef],
    ) -> Option<String> {
        let ticket = self.keys.next_ticket();
        let within_exclusive = self.exclusive_running.is_some_and(|call| goals.contains(&call));
        // Up to which ticket a queue has been followed already.
        let mut followed = HashMap::new();
        for wanted in keys {
            let mut pending = Vec::new();
            self.follow(ticket, wanted, &mut followed, &mut pending);
            while let Some(call) = pending.pop() {
                if goals.contains(&call) {
                    return Some(wanted.key.to_string());
                }
                let Some(slot) = self.slot(call) else { continue };
                let has_begun = matches!(slot.state, State::Starting | State::Running);
                let waits = !has_begun && !slot.is_settled();
                let parent = self.batches.get(call.batch).and_then(|batch| batch.parent);
                // A goal began its batch, and waits for another one before it can finish that.
                let waits_for = |goal: CallRef| {
                    let lent = self.slot(goal).is_some_and(|slot| slot.lent);
                    lent && call.batch != own_batch && goals.contains(&goal)
                };
                if slot.state == State::Held && parent.is_some_and(waits_for) {
                    return Some(wanted.key.to_string());
                }
                let is_top = parent.is_none();
                if waits && (slot.terms.exclusive || (within_exclusive && is_top)) {
                    // It waits for all that runs, or for an exclusive call: a goal is among it.
                    return Some(wanted.key.to_string());
                }
                if let (State::Blocked, Some(ticket)) = (slot.state, slot.ticket()) {
                    for key in ticket.keys.iter() {
                        self.follow(ticket.number(), key, &mut followed, &mut pending);
                    }
                }
                for id in self.nested.get(call).into_iter().flatten() {
                    let slots = self.batches.get(*id).map_or(&[][..], |batch| &batch.slots);
                    let open = slots.iter().enumerate().filter(|(_, slot)| !slot.is_settled());
                    pending.extend(open.map(|(index, _)| CallRef { batch: *id, index }));
                }
            }
        }
        None
    }

    /// Adds those to `pending` that `wanted` waits for under `ticket`, each once.
    fn follow<'a>(
        &'a self,
        ticket: u64,
        wanted: &'a KeyUse,
        followed: &mut HashMap<(&'a str, Access), u64>,
        pending: &mut Vec<CallRef>,
    ) {
        let from = followed.entry((&wanted.key, wanted.access)).or_insert(0);
        pending.extend(self.keys.ahead(*from, ticket, wanted));
        *from = (*from).max(ticket);
    }

    /// A call needs nothing any more but permits, and its batch's release.
    pub(super) fn take_turn(&mut self, call: CallRef, now: Instant, out: &mut Vec<Action<P>>) {
        let Some(batch) = self.batches.get_mut(call.batch) else { return };
        let slot = &mut batch.slots[call.index];
        if slot.held && !batch.released {
            slot.state = State::Held;
            return self.watch_behind_held(call, now, out);
        }
        if slot.terms.exclusive {
            slot.state = State::Exclusive;
            self.exclusive.push_back(call);
            return self.watch(call, now, out);
        }
        let has_pools = !slot.terms.pools.is_empty();
        batch.push_ready(call.index);
        if !batch.in_rotation {
            batch.in_rotation = true;
            self.rotation.push_back(call.batch);
        }
        if has_pools {
            self.watch(call, now, out);
        }
    }

    /// A key less to wait for.
    pub(super) fn unblock(&mut self, call: CallRef, now: Instant, out: &mut Vec<Action<P>>) {
        let Some(slot) = self.slot_mut(call) else { return };
        if slot.state != State::Blocked {
            return;
        }
        let Some(preparation) = &mut slot.preparation else { return };
        preparation.blocked -= 1;
        if preparation.blocked == 0 {
            self.take_turn(call, now, out);
        }
    }
}
