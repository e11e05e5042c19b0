//! What must hold whatever happens, told from what the world has seen.

use std::time::Duration;

use super::plan::{self, PolicyPlan};
use super::rig::Ended;
use super::world::{Batch, Call, Thread, World};
use crate::executor::scheduler::batch::{Due, SlotReport, State};
use crate::executor::scheduler::{CallRef, Grant, PoolKey, Track};
use crate::outcome::{NotStarted, Outcome};
use crate::report::Note;
use crate::time::Deadline;
use crate::tool::{Access, KeyUse};

/// A start is asked for: there is room for it.
pub(super) fn on_start(world: &World, at: CallRef, track: Track, payload: usize) {
    let call = &world.calls[payload];
    let batch = &world.batches[&at.batch];
    assert_eq!(call.at, at);
    assert_eq!(call.plan.terms.track, track);
    assert!(call.settled.is_none(), "{at:?} is started after it was settled");
    assert!(!call.starting && !call.is_out(), "{at:?} is started twice");
    assert!(!batch.closed && batch.ended_after.is_none(), "{at:?} is started in an ended batch");
    assert!(!call.plan.held || batch.released, "{at:?} is started before it is released");
    let full = full(world, call);
    assert!(full.is_none(), "{at:?} is started beyond a cap: {full:?}");
}

/// A call is to be prepared: it is its turn.
pub(super) fn on_prepare(world: &World, at: CallRef) {
    let batch = &world.batches[&at.batch];
    let call = &world.calls[batch.calls[at.index]];
    assert!(call.settled.is_none(), "{at:?} is prepared after it was settled");
    assert!(!batch.closed && batch.ended_after.is_none(), "{at:?} is prepared in an ended batch");
    let mut earlier = before(world, batch, at.index).filter(|other| other.plan.terms.prepare);
    let unprepared = earlier.find(|other| other.ticket.is_none() && other.settled.is_none());
    assert!(unprepared.is_none(), "{at:?} is prepared before {:?}", unprepared.map(|c| c.at));
}

/// A handler may run.
pub(super) fn on_grant(world: &World, at: CallRef, grant: &Grant) {
    let batch = &world.batches[&at.batch];
    let call = &world.calls[batch.calls[at.index]];
    assert!(call.settled.is_none(), "{at:?} runs after it was settled");
    assert!(!batch.closed && batch.ended_after.is_none(), "{at:?} runs in an ended batch");
    let inner = world.scheduler.batches.get(at.batch).unwrap();
    assert!(inner.ending.is_none(), "{at:?} runs after the batch's end was decided");
    let undecided = batch.deciding.is_some() || !inner.undecided.is_empty();
    // Nobody asks it while the batch grows.
    let grows = !inner.sealed && !inner.released;
    assert!(grows || !undecided, "{at:?} runs before the policy has answered");
    assert!(!world.is_shut_down, "{at:?} runs after the shutdown");
    assert_eq!(grant.attempt, call.grants + 1);
    assert!(grant.signal_at <= batch.deadline, "{at:?} may run beyond the batch's deadline");
    assert!(!batch.deadline.has_passed(world.now), "{at:?} runs at or after the deadline");

    for other in world.calls.iter().filter(|other| other.at != at && other.is_inside()) {
        let conflict = conflict(call, other);
        assert!(!conflict, "{at:?} runs while {:?} has a key it needs", other.at);
    }
    for other in before(world, batch, at.index).filter(|other| other.settled.is_none()) {
        assert!(!conflict(call, other), "{at:?} runs before {:?} of the same key", other.at);
        assert!(!other.plan.terms.exclusive, "{at:?} runs before the exclusive {:?}", other.at);
        assert!(!call.plan.terms.exclusive, "the exclusive {at:?} runs before {:?}", other.at);
    }
    for other in world.calls.iter().filter(|other| other.at != at) {
        let is_abandoned = other.settled.is_some();
        let runs = other.starting || matches!(other.thread, Thread::Running { .. });
        if call.plan.terms.exclusive && runs {
            let tolerated = is_abandoned && keys(other).is_empty();
            assert!(tolerated, "the exclusive {at:?} runs beside {:?}", other.at);
        }
        let has_begun = other.grants > 0 && other.settled.is_none();
        if other.plan.terms.exclusive && (other.starting || has_begun) {
            let nested = is_within(world, batch, other.at);
            assert!(nested, "{at:?} runs beside the exclusive {:?}", other.at);
        }
    }
}

pub(super) fn on_settled(world: &World, payload: usize) {
    let call = &world.calls[payload];
    let at = call.at;
    assert!(call.settled.is_none(), "{at:?} is settled twice");
    assert!(!world.batches[&at.batch].closed, "{at:?} is settled after its batch was closed");
}

/// The report of a batch is complete and tells the truth.
pub(super) fn on_close(world: &World, closed: &Ended) {
    let batch = &world.batches[&closed.id];
    assert!(!batch.closed);
    let payloads: Vec<_> = closed.slots.iter().map(|slot| slot.payload).collect();
    assert_eq!(payloads, batch.calls, "the slots aren't those of the calls, in their order");
    for slot in &closed.slots {
        let call = &world.calls[slot.payload];
        assert_eq!(slot.call.id(), slot.payload.to_string());
        told_truly(batch, call, slot);
        in_time(world, batch, call);
    }
    aborted_truly(batch, closed);
}

fn told_truly(batch: &Batch, call: &Call, slot: &SlotReport<usize>) {
    let at = call.at;
    let outcome = &slot.outcome;
    assert!(call.settled.is_some(), "{at:?} was never settled");
    assert_eq!(slot.attempts, call.grants, "{at:?}");
    assert_eq!(slot.started, call.first_granted.map(|at| at - batch.opened), "{at:?}");
    assert!(slot.submitted <= slot.started.unwrap_or(slot.ended), "{at:?}");
    assert!(slot.started.is_none_or(|started| started <= slot.ended), "{at:?}");
    let coalesced = slot.notes.iter().any(|note| matches!(note, Note::CoalescedWith(_)));
    let fallback = slot.notes.iter().any(|note| matches!(note, Note::Fallback(_)));
    assert!(!coalesced || call.plan.identity.is_some(), "{at:?} is coalesced");
    assert!(!fallback || call.plan.terms.fallback.is_some(), "{at:?} has no fallback");
    let ran = call.grants > 0;
    let fits = match outcome {
        Outcome::Succeeded(_) => call.succeeded || fallback || coalesced,
        Outcome::Failed(_) | Outcome::Panicked(_) => ran || coalesced,
        Outcome::TimedOut { .. } => ran || coalesced,
        Outcome::Cancelled { started, .. } => {
            (*started == ran || coalesced) && batch.ended_after.is_some() || closed_by_policy(batch)
        }
        Outcome::NotStarted(_) | Outcome::Rejected(_) => !ran,
    };
    assert!(fits, "{at:?} ran {} times, and is said to be {outcome:?}", call.grants);
    if matches!(call.thread, Thread::Running { .. }) {
        assert_eq!((call.signals, call.closes), (1, 1), "{at:?} was left without a word");
    }
}

fn closed_by_policy(batch: &Batch) -> bool {
    !matches!(batch.plan.policy, PolicyPlan::Inline)
}

fn in_time(world: &World, batch: &Batch, call: &Call) {
    let (Some(settled), false) = (call.settled, world.late) else { return };
    if let Deadline::At(deadline) = batch.deadline {
        assert!(settled <= deadline.max(call.submitted), "{:?} is settled too late", call.at);
    }
    if let (Some(timeout), Some(granted)) = (call.plan.terms.timeout, call.first_granted) {
        assert!(settled <= granted + timeout, "{:?} ran beyond its timeout", call.at);
    }
    if let (Some(timeout), Some(began), None, None) =
        (call.plan.terms.timeout, call.prepare_began, call.ticket, call.first_granted)
    {
        let until = began + timeout + Duration::from_millis(20);
        assert!(settled <= until, "{:?} was prepared beyond its timeout", call.at);
    }
}

/// The batch was aborted if and only if its policy says so of the calls in the order in which
/// they settled.
fn aborted_truly(batch: &Batch, closed: &Ended) {
    let until = batch.ended_after.unwrap_or(usize::MAX);
    let mut failed = 0;
    let mut expected = None;
    for (n, index) in batch.settle_order.iter().enumerate().take_while(|(n, _)| *n < until) {
        let outcome = &closed.slots[*index].outcome;
        // Before the end of the message only one that was deferred can be among the withheld.
        let deferred = [NotStarted::Deferred, plan::withheld()].map(Outcome::NotStarted);
        let is_deferred = deferred.contains(outcome);
        let is_failure = !outcome.is_success() && !is_deferred;
        failed += usize::from(is_failure);
        let required = |tool| closed.slots[*index].call.name() == format!("tool_{tool}");
        let aborts = match batch.plan.policy {
            PolicyPlan::Inline | PolicyPlan::Quorum(_) => false,
            PolicyPlan::AbortAfter(tolerated) => failed > tolerated,
            PolicyPlan::Require(tool) => is_failure && required(tool),
        };
        if aborts {
            expected = Some((n, *index, false));
            break;
        }
    }
    if let Some((index, satisfied)) = batch.decided {
        expected = Some((0, index, satisfied));
    }
    let id = closed.id;
    match (&closed.abort, expected) {
        (None, None) => {}
        (Some(abort), Some((_, index, satisfied))) => {
            let cause = abort.index.expect("a call is the cause");
            assert_eq!(abort.satisfied, satisfied, "{id:?}");
            // Identical calls settle together, and the policy sees the first of them first.
            let together = closed.slots[index].notes.iter();
            let together = together.clone().any(|note| *note == Note::CoalescedWith(cause));
            assert!(cause == index || together, "{id:?} was aborted by {cause}, not {index}");
            let failed = !closed.slots[cause].outcome.is_success();
            assert!(failed || batch.decided.is_some(), "{id:?} was aborted by a success");
        }
        (abort, expected) => panic!("{id:?} was aborted: {abort:?}, expected: {expected:?}"),
    }
}

/// Nothing can happen at this moment: so nothing could be started, nothing is forgotten, and every
/// call that waits has a reason to.
pub(super) fn at_rest(world: &mut World) {
    let now = world.now;
    let mut out = Vec::new();
    world.scheduler.dispatch(now, &mut out);
    assert!(out.is_empty(), "something could have been done before");
    for (id, batch) in world.batches.iter().filter(|(_, batch)| !batch.closed) {
        let inner = world.scheduler.batches.get_mut(*id).unwrap();
        let due = inner.next_noted();
        let sleeps = batch.sleeps_until;
        assert!(due >= sleeps, "{id:?} sleeps until {sleeps:?}, and something is due at {due:?}");
    }
    for call in world.calls.iter().filter(|call| call.settled.is_none()) {
        let waits = !matches!(call.thread, Thread::Running { .. });
        assert!(!waits || reason(world, call).is_some(), "{:?} waits without a reason", call.at);
    }
    let count = |of: &dyn Fn(&Call) -> bool| world.calls.iter().filter(|call| of(call)).count();
    let runs = |call: &Call| matches!(call.thread, Thread::Running { .. });
    let counts = world.scheduler.counts();
    assert_eq!(
        counts.running,
        count(&|call| call.settled.is_none() && runs(call) && !call.lent),
        "running"
    );
    assert_eq!(counts.abandoned, count(&|call| call.settled.is_some() && call.is_out()));
    assert_eq!(counts.queued, count(&|call| call.settled.is_none() && !runs(call)), "queued");
}

/// Why a call that hasn't settled isn't running.
fn reason(world: &World, call: &Call) -> Option<&'static str> {
    let batch = &world.batches[&call.at.batch];
    let inner = world.scheduler.batches.get(call.at.batch).unwrap();
    let state = inner.slots[call.at.index].state;
    let terms = &call.plan.terms;
    let now = world.now;
    let is_open =
        |other: &Call| other.settled.is_none() || (other.is_out() && !keys(other).is_empty());
    let behind = before(world, batch, call.at.index).any(|other| match terms.exclusive {
        true => is_open(other),
        false => other.plan.terms.exclusive && other.settled.is_none(),
    });
    if behind {
        return Some("an exclusive call of its batch");
    }
    if matches!(call.thread, Thread::Preparing { .. }) {
        return Some("it is being prepared");
    }
    if terms.prepare && call.ticket.is_none() {
        let mut earlier = before(world, batch, call.at.index);
        let waits = |other: &Call| {
            other.plan.terms.prepare && other.ticket.is_none() && other.settled.is_none()
        };
        let refused = inner.due.iter().any(|due| due.0.1 == Due::Retry(call.at.index));
        return (earlier.any(waits) || refused).then_some("an earlier call isn't prepared");
    }
    if call.plan.held && !batch.released {
        return Some("it is held");
    }
    if call.retry_at.is_some_and(|at| at > now) {
        return Some("it backs off");
    }
    let identical = |other: &Call| other.plan.identity == call.plan.identity;
    if state == State::Joined
        && before(world, batch, call.at.index).any(|c| identical(c) && c.settled.is_none())
    {
        return Some("an identical call runs");
    }
    let ahead = |other: &Call| {
        let earlier = other.ticket < call.ticket && other.ticket.is_some();
        other.at != call.at
            && conflict(call, other)
            && (other.is_inside() || (earlier && other.settled.is_none()))
    };
    if world.calls.iter().any(ahead) {
        return Some("a key");
    }
    if full(world, call).is_some() {
        return Some("a cap");
    }
    if matches!(world.scheduler.room.free_at(terms, now), Deadline::At(at) if at > now) {
        return Some("a rate, a pause or a thread");
    }
    if world.scheduler.room.free_at(terms, now) == Deadline::Never {
        let tries = |other: &Call| {
            other.at != call.at
                && uses_pools(other)
                && other.settled.is_none()
                && share(call, other)
        };
        return world.calls.iter().any(tries).then_some("a trial of its group");
    }
    if batch.deciding.is_some() || !inner.undecided.is_empty() {
        return Some("a decision");
    }
    let runs = |other: &Call| matches!(other.thread, Thread::Running { .. });
    let is_alone = |other: &Call| {
        let tolerated = other.settled.is_some() && keys(other).is_empty();
        other.at == call.at || !runs(other) || tolerated
    };
    if terms.exclusive && !world.calls.iter().all(is_alone) {
        return Some("not alone");
    }
    let bars = |other: &Call| {
        let state = world.scheduler.slot(other.at).map(|slot| slot.state);
        other.plan.terms.exclusive
            && other.settled.is_none()
            && (other.grants > 0 || state == Some(State::Exclusive))
    };
    if batch.parent.is_none() && world.calls.iter().any(|other| other.at != call.at && bars(other))
    {
        return Some("an exclusive call");
    }
    None
}

/// The run is over: all is as it was before.
pub(super) fn at_end(world: &World) {
    let open: Vec<_> =
        world.batches.iter().filter(|(_, batch)| !batch.closed).map(|(id, _)| id).collect();
    assert!(open.is_empty(), "{open:?} can't go on: a deadlock, or a lost wakeup");
    assert!(!world.calls.iter().any(Call::is_out));
    assert!(world.calls.iter().all(|call| call.settled.is_some()));
    let scheduler = &world.scheduler;
    assert_eq!(scheduler.batches.len(), 0);
    assert!(scheduler.rotation.is_empty(), "rotation");
    assert!(scheduler.nested.is_empty(), "nested");
    assert!(scheduler.zombies.is_empty(), "zombies");
    assert!(scheduler.keys.is_empty(), "keys");
    assert!(scheduler.exclusive.is_empty() && scheduler.exclusive_running.is_none(), "exclusive");
    assert_eq!((scheduler.active, scheduler.queued, scheduler.starting), (0, 0, 0));
    assert_eq!(scheduler.abandoned, 0);
    assert!(scheduler.abandoned_keyed.is_empty());
    assert_eq!(scheduler.room.total.used, 0);
    for track in [Track::Blocking, Track::Compute, Track::Scoped, Track::ScopedCompute] {
        assert_eq!(scheduler.room.threads(track), 0, "{track:?}");
    }
    assert_eq!(scheduler.room.working(), 0);
    assert_eq!(scheduler.room.pools.used(), 0, "pools");
}

/// The cap that leaves no room for a call.
fn full(world: &World, call: &Call) -> Option<String> {
    let others = || world.calls.iter().filter(|other| other.at != call.at);
    let threads = || others().filter(|other| uses_thread(other));
    let total = threads().count();
    if total >= world.limits.max_parallel {
        return Some(format!("{total} run on the executor"));
    }
    let track = call.plan.terms.track;
    let cap = match track {
        Track::Blocking | Track::Scoped => world.limits.blocking,
        Track::ScopedCompute => usize::MAX,
        Track::Compute => world.limits.compute,
    };
    let on_track = threads().filter(|other| other.plan.terms.track == track).count();
    if on_track >= cap {
        return Some(format!("{on_track} run on {track:?}"));
    }
    let in_batch = threads().filter(|other| other.at.batch == call.at.batch).count();
    if in_batch >= world.batches[&call.at.batch].plan.max_parallel {
        return Some(format!("{in_batch} run in its batch"));
    }
    let in_pool = |key: PoolKey| {
        let has = |other: &&Call| other.plan.terms.pools.iter().any(|pool| pool.key == key);
        others().filter(has).filter(|other| uses_pools(other)).count()
    };
    let pools = &call.plan.terms.pools;
    let full = pools.iter().find(|pool| in_pool(pool.key) >= pool.cap)?;
    Some(format!("{} run of {:?}", in_pool(full.key), full.key))
}

fn uses_thread(call: &Call) -> bool {
    let runs = matches!(call.thread, Thread::Running { .. });
    call.starting || (runs && call.settled.is_none() && !call.lent)
}

/// What is someone else's is used until the thread is back.
/// Whether both are of a group with a circuit breaker.
fn share(one: &Call, other: &Call) -> bool {
    let mut breakers = one.plan.terms.pools.iter().filter(|pool| pool.breaker.is_some());
    breakers.any(|pool| other.plan.terms.pools.iter().any(|its| its.key == pool.key))
}

fn uses_pools(call: &Call) -> bool {
    call.starting || (matches!(call.thread, Thread::Running { .. }) && !call.lent)
}

/// The calls of a batch that were handed in before this one.
fn before<'a>(world: &'a World, batch: &'a Batch, index: usize) -> impl Iterator<Item = &'a Call> {
    batch.calls[..index].iter().map(|call| &world.calls[*call])
}

fn keys(call: &Call) -> &[KeyUse] {
    &call.plan.keys
}

/// Whether two calls must not overlap.
fn conflict(one: &Call, other: &Call) -> bool {
    keys(one).iter().any(|a| {
        let writes = |b: &&KeyUse| a.access == Access::Write || b.access == Access::Write;
        keys(other).iter().filter(writes).any(|b| a.key == b.key)
    })
}

/// Whether a batch runs within a call, or within one that runs within it.
fn is_within(world: &World, batch: &Batch, call: CallRef) -> bool {
    let mut parent = batch.parent;
    while let Some(at) = parent.map(|parent| world.calls[parent].at) {
        if at == call {
            return true;
        }
        parent = world.batches[&at.batch].parent;
    }
    false
}
