//! How calls and batches end: in time, by cancelling, by a policy, by a shutdown.

use std::time::Duration;

use super::rig::{Rig, broken, call, done, indices, keyed, ms, terms, writes};
use crate::error::{ToolError, ToolErrorKind};
use crate::executor::scheduler::{Ending, Fate, Terms};
use crate::outcome::{Limit, NotStarted, Outcome};
use crate::output::Output;
use crate::policy::{Decision, FailurePolicy};
use crate::report::Note;
use crate::time::Deadline;

fn timed_out(limit: Limit, after: Duration, still_running: bool) -> Outcome {
    Outcome::TimedOut { limit, after, still_running }
}

#[test]
fn fault_007_a_call_that_never_returns_is_walked_away_from_in_steps() {
    let mut rig = Rig::new();
    let id = rig.batch(&terms(), 1);
    rig.begin();
    rig.pass(ms(89), &[id]);
    assert_eq!((rig.signals.len(), rig.closes.len()), (0, 0));
    rig.pass(ms(1), &[id]);
    assert_eq!((rig.signals.len(), rig.closes.len()), (1, 0), "told to stop a grace before");
    rig.pass(ms(8), &[id]);
    assert_eq!((rig.signals.len(), rig.closes.len()), (1, 1), "closed a quarter of it before");
    assert_eq!(rig.outcome(call(id, 0)), None);
    rig.pass(ms(2), &[id]);
    assert_eq!(rig.outcome(call(id, 0)), Some(&timed_out(Limit::Timeout, ms(100), true)));
    assert_eq!((rig.counts().abandoned, rig.counts().running), (1, 0));
    assert_eq!((rig.signals.len(), rig.closes.len()), (1, 1));
    rig.close(id);
    assert!(matches!(rig.finish(call(id, 0), done()), Fate::Late(_)));
    assert!(rig.is_clean());
}

#[test]
fn fault_009_a_hundred_calls_that_never_return() {
    let mut rig = Rig::with(|limits| limits.max_parallel = 16);
    let id = rig.open();
    let deadline = rig.at(ms(150));
    rig.event(|s, now, out| s.set_deadline(id, deadline, now, out));
    rig.submit(id, &terms(), 100);
    rig.seal(id);
    assert_eq!(rig.begin().len(), 16);
    rig.pass(ms(100), &[id]);
    assert_eq!(rig.begin().len(), 16, "the hung ones were replaced");
    rig.pass(ms(50), &[id]);
    let closed = rig.close(id);
    let ended = |limit, range: std::ops::Range<usize>| {
        let is = |outcome: &Outcome| matches!(outcome, Outcome::TimedOut { limit: l, .. } if *l == limit);
        closed.slots[range].iter().all(|slot| is(&slot.outcome))
    };
    assert!(ended(Limit::Timeout, 0..16) && ended(Limit::Deadline, 16..32));
    let late = Outcome::NotStarted(NotStarted::Deadline);
    assert!(closed.slots[32..].iter().all(|slot| slot.outcome == late));
    let next = rig.batch(&terms(), 1);
    assert_eq!(rig.begin(), [call(next, 0)]);
}

#[test]
fn fault_011_a_result_at_the_very_end_counts_once() {
    for tick_first in [false, true] {
        let mut rig = Rig::new();
        let id = rig.batch(&terms(), 1);
        rig.begin();
        rig.now += ms(100);
        if tick_first {
            rig.tick(id);
        }
        let fate = rig.finish(call(id, 0), done());
        assert_eq!(matches!(fate, Fate::Late(_)), tick_first);
        rig.tick(id);
        let closed = rig.close(id);
        assert_eq!(closed.slots[0].outcome.is_success(), !tick_first);
    }
}

#[test]
fn fault_051_a_deadline_in_the_past_starts_nothing() {
    for policy in [FailurePolicy::inline(), FailurePolicy::abort_on_first()] {
        let mut rig = Rig::new();
        let now = rig.now;
        let id = rig.open_as(|spec| {
            spec.deadline = Deadline::At(now);
            spec.policy = policy;
        });
        rig.submit(id, &keyed(), 4);
        rig.seal(id);
        assert!(rig.starts().is_empty() && rig.prepares().is_empty());
        assert_eq!(rig.ends(id), [Some("deadline"); 4], "and not because of each other");
        assert!(rig.scheduler.is_done(id));
    }
}

#[test]
fn fault_052_times_beyond_all_measure_are_no_times() {
    let mut rig = Rig::new();
    let endless = Terms { timeout: Some(Duration::MAX), grace: Some(Duration::MAX), ..terms() };
    let id = rig.batch(&endless, 1);
    rig.begin();
    assert_eq!(rig.next_due(id), None);
    assert!(matches!(
        rig.finish_as(call(id, 0), broken(), Some(Duration::MAX), Some(Duration::MAX)),
        Fate::Settled
    ));
    rig.close(id);
    assert!(rig.is_clean());
}

#[test]
fn fault_053_a_timeout_is_clipped_to_the_deadline() {
    let mut rig = Rig::new();
    let deadline = rig.at(ms(40));
    let id = rig.open_as(|spec| spec.deadline = deadline);
    rig.submit(id, &terms(), 1);
    rig.begin();
    rig.pass(ms(36), &[id]);
    assert_eq!(rig.signals.len(), 1, "the grace is within the deadline");
    rig.pass(ms(4), &[id]);
    assert_eq!(rig.outcome(call(id, 0)), Some(&timed_out(Limit::Deadline, ms(40), true)));
}

#[test]
fn fault_054_and_067_waiting_for_a_permit_takes_none_of_a_calls_own_time() {
    let mut rig = Rig::with(|limits| limits.max_parallel = 1);
    let id = rig.batch(&terms(), 2);
    rig.begin();
    rig.pass(ms(60), &[id]);
    rig.finish(call(id, 0), done());
    rig.begin();
    rig.pass(ms(100), &[id]);
    let closed = rig.close(id);
    let slot = &closed.slots[1];
    assert_eq!(slot.outcome, timed_out(Limit::Timeout, ms(100), true));
    assert_eq!((slot.submitted, slot.started, slot.ended), (ms(0), Some(ms(60)), ms(160)));
}

#[test]
fn a_batchs_time_may_begin_after_it_was_opened() {
    let mut rig = Rig::new();
    let id = rig.open();
    rig.submit(id, &terms(), 1);
    rig.begin();
    assert_eq!(rig.next_due(id), Some(ms(90)));
    let deadline = rig.at(ms(20));
    rig.wakes.clear();
    rig.event(|s, now, out| s.set_deadline(id, deadline, now, out));
    assert_eq!(rig.wakes, [id]);
    assert_eq!(rig.next_due(id), Some(ms(18)));
    rig.pass(ms(20), &[id]);
    assert_eq!(rig.outcome(call(id, 0)), Some(&timed_out(Limit::Deadline, ms(20), true)));
}

#[test]
fn a_deadline_that_is_set_between_two_attempts_holds_for_the_next() {
    let mut rig = Rig::new();
    let id = rig.batch(&terms(), 1);
    rig.begin();
    rig.finish_as(call(id, 0), broken(), Some(ms(5)), None);
    let deadline = rig.at(ms(25));
    rig.event(|s, now, out| s.set_deadline(id, deadline, now, out));
    rig.pass(ms(5), &[id]);
    assert_eq!(rig.begin(), [call(id, 0)]);
    rig.pass(ms(19), &[id]);
    assert_eq!(rig.signals, [0], "told to stop before the deadline");
    rig.pass(ms(1), &[id]);
    assert_eq!(rig.outcome(call(id, 0)), Some(&timed_out(Limit::Deadline, ms(25), true)));
}

#[test]
fn fault_055_a_cancelled_batch_tells_truly_what_had_started() {
    let mut rig = Rig::with(|limits| limits.max_parallel = 2);
    let id = rig.batch(&terms(), 4);
    let starts = rig.starts();
    assert!(rig.granted(starts[0]));
    rig.cancel(id);
    rig.cancel(id);
    assert!(!rig.granted(starts[1]), "what was on its way doesn't start any more");
    assert_eq!(rig.ends(id), [None, Some("cancelled"), Some("cancelled"), Some("cancelled")]);
    assert_eq!(rig.signals, [0], "told once");
    rig.pass(ms(10), &[id]);
    let closed = rig.close(id);
    let started: Vec<_> = closed
        .slots
        .iter()
        .map(|slot| matches!(slot.outcome, Outcome::Cancelled { started: true, .. }))
        .collect();
    assert_eq!(started, [true, false, false, false]);
    rig.cancel(id);
    rig.finish(call(id, 0), done());
    assert!(rig.is_clean());
}

#[test]
fn fault_057_an_answer_within_the_grace_is_accepted() {
    let cancelled = || Outcome::Failed(ToolError::of_kind(ToolErrorKind::Cancelled));
    let mut rig = Rig::new();
    let id = rig.batch(&terms(), 3);
    rig.begin();
    rig.now += ms(50);
    rig.cancel(id);
    rig.pass(ms(5), &[id]);
    rig.finish(call(id, 0), done());
    rig.finish(call(id, 1), cancelled());
    rig.pass(ms(5), &[id]);
    assert_eq!(rig.ends(id), [Some("succeeded"), Some("cancelled"), Some("cancelled")]);

    // The same at a call's own end: who gives way is told to have run out of time.
    let own = rig.batch(&terms(), 2);
    rig.begin();
    rig.pass(ms(95), &[own]);
    rig.finish(call(own, 0), cancelled());
    rig.finish(call(own, 1), broken());
    assert_eq!(rig.outcome(call(own, 0)), Some(&timed_out(Limit::Timeout, ms(95), false)));
    assert_eq!(rig.outcome(call(own, 1)), Some(&broken()));
}

#[test]
fn fault_064_a_thousand_timeouts_fire_each_at_its_own_time() {
    let mut rig = Rig::new();
    let id = rig.open();
    for n in 0..1000 {
        let timeout = Some(ms(1 + (n * 7919) % 1000));
        rig.submit(id, &Terms { timeout, grace: Some(Duration::ZERO), ..terms() }, 1);
    }
    rig.seal(id);
    rig.begin();
    rig.pass(ms(1000), &[id]);
    let closed = rig.close(id);
    for (n, slot) in closed.slots.iter().enumerate() {
        assert_eq!(slot.ended, ms(1 + (n as u64 * 7919) % 1000));
    }
}

#[test]
fn fault_065_a_thousand_calls_end_at_one_deadline_in_one_pass() {
    let mut rig = Rig::new();
    let deadline = rig.at(ms(50));
    let id = rig.open_as(|spec| spec.deadline = deadline);
    rig.submit(id, &terms(), 1000);
    rig.seal(id);
    rig.begin();
    rig.now += ms(50);
    rig.tick(id);
    assert!(rig.scheduler.is_done(id));
    assert_eq!(rig.counts().abandoned, 1000);
}

#[test]
fn fault_066_a_timeout_of_zero_ends_that_call_alone() {
    let mut rig = Rig::new();
    let id = rig.open();
    rig.submit(id, &Terms { timeout: Some(Duration::ZERO), ..terms() }, 1);
    rig.submit(id, &terms(), 1);
    assert_eq!(rig.ends(id), [Some("timeout"), None]);
    assert_eq!(indices(&rig.begin()), [1]);
}

#[test]
fn fault_069_and_077_an_abort_cancels_what_runs_and_starts_nothing() {
    let mut rig = Rig::with(|limits| limits.max_parallel = 2);
    let id = rig.open_as(|spec| spec.policy = FailurePolicy::abort_on_first());
    rig.submit(id, &terms(), 3);
    rig.seal(id);
    rig.begin();
    rig.finish(call(id, 1), broken());
    assert!(rig.starts().is_empty());
    rig.pass(ms(10), &[id]);
    let closed = rig.close(id);
    let abort = closed.abort.clone().expect("it was aborted");
    assert_eq!((abort.index, abort.satisfied), (Some(1), false));
    let running = Outcome::Cancelled { started: true, abort: Some(abort.clone()) };
    assert_eq!(closed.slots[0].outcome, running);
    assert_eq!(closed.slots[2].outcome, Outcome::NotStarted(NotStarted::Aborted(abort)));
}

#[test]
fn fault_070_of_failures_in_the_same_instant_the_first_call_is_the_cause() {
    let mut rig = Rig::new();
    let id = rig.open_as(|spec| spec.policy = FailurePolicy::abort_after(1));
    rig.submit(id, &terms(), 4);
    rig.seal(id);
    rig.begin();
    rig.pass(ms(100), &[id]);
    let closed = rig.close(id);
    assert_eq!(closed.abort.and_then(|abort| abort.index), Some(1), "the second failure");
}

#[test]
fn fault_073_a_loser_of_a_race_is_late() {
    let mut rig = Rig::new();
    let policy = FailurePolicy::custom(|_| Decision::Enough);
    let id = rig.open_as(|spec| spec.policy = policy);
    rig.submit(id, &Terms { grace: Some(Duration::ZERO), ..terms() }, 2);
    rig.seal(id);
    rig.begin();
    rig.finish(call(id, 1), done());
    rig.event(|s, now, out| s.decided(call(id, 1), Decision::Enough, now, out));
    rig.tick(id);
    let closed = rig.close(id);
    assert!(matches!(rig.finish(call(id, 0), done()), Fate::Late(_)));
    assert!(closed.slots[1].outcome.is_success() && !closed.slots[0].outcome.is_success());
    assert!(closed.abort.is_some_and(|abort| abort.satisfied));
}

#[test]
fn fault_075_a_policy_sees_the_last_attempt_only() {
    let mut rig = Rig::new();
    let id = rig.open_as(|spec| spec.policy = FailurePolicy::abort_on_first());
    rig.submit(id, &terms(), 1);
    rig.seal(id);
    for _ in 0..2 {
        rig.begin();
        let fate = rig.finish_as(call(id, 0), broken(), Some(ms(5)), None);
        assert!(matches!(fate, Fate::Retried));
        assert_eq!((rig.counts().running, rig.scheduler.room.total.used), (0, 0));
        rig.pass(ms(5), &[id]);
    }
    rig.begin();
    rig.finish(call(id, 0), done());
    let closed = rig.close(id);
    assert!(closed.abort.is_none());
    assert_eq!(closed.slots[0].attempts, 3);
}

#[test]
fn fault_026_all_attempts_share_one_timeout_and_keep_their_keys() {
    let mut rig = Rig::new();
    let id = rig.batch(&keyed(), 2);
    rig.prepare(id, &[&[writes("k")], &[writes("k")]]);
    rig.begin();
    rig.now += ms(60);
    rig.finish_as(call(id, 0), broken(), Some(ms(20)), None);
    assert!(rig.starts().is_empty(), "the key isn't free between two attempts");
    rig.pass(ms(20), &[id]);
    assert_eq!(indices(&rig.begin()), [0]);
    rig.pass(ms(20), &[id]);
    assert_eq!(rig.outcome(call(id, 0)), Some(&timed_out(Limit::Timeout, ms(100), true)));
}

#[test]
fn fault_027_a_retry_that_doesnt_fit_isnt_made() {
    let mut rig = Rig::new();
    let id = rig.batch(&terms(), 2);
    rig.begin();
    rig.now += ms(60);
    assert!(matches!(rig.finish_as(call(id, 0), broken(), Some(ms(30)), None), Fate::Settled));
    // One that would have fitted, and comes to wait for a thread.
    rig.finish_as(call(id, 1), broken(), Some(ms(10)), None);
    rig.pass(ms(40), &[id]);
    for index in 0..2 {
        let Some(Outcome::Failed(error)) = rig.outcome(call(id, index)) else {
            panic!("{:?}", rig.outcome(call(id, index)))
        };
        assert_eq!(error.model_text(), "broken");
        assert!(error.operator_text().contains("exhausted"), "{}", error.operator_text());
    }
}

#[test]
fn a_fallback_takes_the_place_of_a_failure_and_is_marked() {
    let mut rig = Rig::new();
    let fallback = Some(Output::text("none known"));
    let id = rig.batch(&Terms { fallback, ..terms() }, 2);
    rig.begin();
    rig.finish(call(id, 0), broken());
    rig.cancel(id);
    rig.pass(ms(10), &[id]);
    let closed = rig.close(id);
    assert!(closed.slots[0].outcome.is_success());
    assert_eq!(closed.slots[0].notes, [Note::Fallback(Box::new(broken()))]);
    assert_eq!(closed.slots[1].outcome.name(), "cancelled", "which isn't the tool's failure");
}

#[test]
fn fault_141_a_shutdown_ends_every_open_batch() {
    let mut rig = Rig::with(|limits| limits.max_parallel = 1);
    let ids = [rig.batch(&terms(), 2), rig.batch(&terms(), 1)];
    rig.begin();
    rig.event(|s, now, out| s.shut_down(now, out));
    rig.pass(ms(10), &ids);
    assert_eq!(rig.ends(ids[0]), [Some("cancelled"), Some("shutdown")]);
    assert_eq!(rig.ends(ids[1]), [Some("shutdown")]);
}

#[test]
fn fault_143_after_a_shutdown_nothing_runs() {
    let mut rig = Rig::new();
    rig.event(|s, now, out| s.shut_down(now, out));
    let id = rig.open_as(|spec| spec.policy = FailurePolicy::abort_on_first());
    rig.submit(id, &terms(), 2);
    assert_eq!(rig.ends(id), [Some("shutdown"); 2]);
}

#[test]
fn fault_145_a_batch_that_nobody_waits_for_is_cancelled_and_dropped() {
    let mut rig = Rig::new();
    let id = rig.batch(&terms(), 1);
    rig.submit(id, &keyed(), 2);
    rig.begin();
    rig.event(|s, now, out| s.detach(id, now, out));
    assert!(rig.dropped.is_empty());
    rig.pass(ms(10), &[id]);
    assert_eq!(rig.dropped.len(), 1);
    assert_eq!(rig.dropped[0].slots.len(), 3);
    // Both threads are still out: the handler's, and the one that was to tell the keys.
    assert_eq!(rig.counts().abandoned, 2);
    rig.event(|s, now, out| s.prepare_failed(call(id, 1), now, out));
    rig.finish(call(id, 0), done());
    assert!(rig.is_clean());
}

#[test]
fn a_message_that_may_not_run_starts_none_of_its_held_calls() {
    let mut rig = Rig::new();
    let id = rig.open();
    let terms = std::sync::Arc::new(terms());
    rig.submit_with(id, &terms, 1, false);
    rig.submit_with(id, &terms, 2, true);
    assert_eq!(indices(&rig.begin()), [0], "the others wait for the end of the message");
    let reason = NotStarted::Withheld("max_tokens".to_owned());
    rig.event(|s, now, out| s.end(id, Ending::Withheld(reason), now, out));
    rig.finish(call(id, 0), done());
    assert_eq!(rig.ends(id), [Some("succeeded"), Some("withheld"), Some("withheld")]);

    let other = rig.open();
    rig.submit_with(other, &terms, 2, true);
    assert!(rig.starts().is_empty());
    rig.event(|s, now, out| s.release(other, now, out));
    assert_eq!(rig.begin().len(), 2);
}
