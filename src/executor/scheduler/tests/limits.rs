//! Caps, turns, rates, pauses, threads that can't be had, and how it all grows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::random::Random;
use super::rig::{
    Rig, breaking, broken, busy, call, done, failed, indices, keyed, ms, pooled, terms, writes,
};
use crate::error::ToolErrorKind;
use crate::executor::scheduler::batch::Slot;
use crate::executor::scheduler::{BatchId, PoolKey, PoolSpec, Terms, Track};
use crate::outcome::{Limit, NotStarted, Outcome, Rejected};

#[test]
fn fault_033_a_batch_without_calls_is_done() {
    let mut rig = Rig::new();
    let id = rig.batch(&terms(), 0);
    assert!(rig.scheduler.is_done(id));
    assert!(rig.close(id).slots.is_empty());
}

#[test]
fn fault_034_ten_thousand_calls_through_a_cap_of_eight() {
    let mut rig = Rig::with(|limits| limits.max_parallel = 8);
    let id = rig.batch(&terms(), 10_000);
    let mut order = Vec::new();
    loop {
        let begun = rig.begin();
        assert!(rig.counts().running <= 8);
        if begun.is_empty() {
            break;
        }
        order.extend(indices(&begun));
        for at in begun {
            rig.finish(at, done());
        }
    }
    assert_eq!(order, (0..10_000).collect::<Vec<_>>());
    assert!(rig.close(id).slots.iter().all(|slot| slot.outcome.is_success()));
    assert!(rig.is_clean());
}

#[test]
fn fault_035_caps_compose_and_no_permit_is_lost() {
    let (tool, group) = (PoolKey::Tool(1), PoolKey::Group(1));
    let spec = |key, cap| PoolSpec { key, cap, rate: None, breaker: None };
    let narrow = Terms { pools: vec![spec(tool, 1), spec(group, 2)], ..terms() };
    let wide = Terms { pools: vec![spec(group, 2)], ..terms() };
    let mut rig = Rig::with(|limits| limits.max_parallel = 4);
    let id = rig.open();
    rig.submit(id, &narrow, 3);
    rig.submit(id, &wide, 3);
    rig.submit(id, &terms(), 6);
    rig.seal(id);
    let mut ends = [broken(), Outcome::Panicked(None), done()].into_iter().cycle();
    let mut random = Random::new(35);
    let mut running = indices(&rig.begin());
    assert_eq!(running, [0, 3, 6, 7], "as many as there is room for, the first that fit");
    for _ in 0..12 {
        let index = running.swap_remove(random.below(running.len()));
        rig.finish(call(id, index), ends.next().unwrap());
        running.extend(indices(&rig.begin()));
        let of = |calls: std::ops::Range<usize>| {
            running.iter().filter(|index| calls.contains(index)).count()
        };
        assert!(of(0..3) <= 1 && of(0..6) <= 2 && of(0..12) <= 4, "{running:?}");
    }
    rig.close(id);
    assert!(rig.is_clean());
}

#[test]
fn fault_010_our_permits_come_back_at_the_timeout_and_others_with_the_thread() {
    let mut rig = Rig::with(|limits| limits.max_parallel = 1);
    let limited = pooled(PoolKey::Tool(1), 1, None);
    let id = rig.open();
    rig.submit(id, &limited, 1);
    rig.begin();
    rig.submit(id, &limited, 1);
    rig.submit(id, &terms(), 1);
    rig.pass(ms(100), &[id]);
    assert_eq!(indices(&rig.begin()), [2], "the executor has room, the tool hasn't");
    rig.pass(ms(50), &[id]);
    rig.finish(call(id, 0), done());
    assert_eq!(rig.counts().late, 1);
    let timed_out =
        Outcome::TimedOut { limit: Limit::Timeout, after: ms(100), still_running: true };
    assert_eq!(rig.outcome(call(id, 0)), Some(&timed_out), "the late result changes nothing");
    rig.finish(call(id, 2), done());
    assert_eq!(indices(&rig.begin()), [1]);
}

#[test]
fn a_tools_permits_that_are_lost_to_abandoned_calls_arent_waited_for_for_ever() {
    let mut rig = Rig::new();
    let id = rig.batch(&pooled(PoolKey::Tool(1), 2, None), 3);
    assert_eq!(rig.begin().len(), 2);
    rig.pass(ms(200), &[id]);
    let held = NotStarted::KeyHeld { index: Some(0), tool: "tool".to_owned() };
    assert_eq!(rig.outcome(call(id, 2)), Some(&Outcome::NotStarted(held)));
    // A later batch doesn't wait for ever either, and not at all once a permit is back.
    rig.close(id);
    let next = rig.batch(&pooled(PoolKey::Tool(1), 2, None), 1);
    rig.pass(ms(99), &[next]);
    rig.finish(call(id, 1), done());
    assert_eq!(rig.begin(), [call(next, 0)]);
}

/// While a batch has calls that could start, no other starts two between two of its own.
#[test]
fn fault_043_batches_take_turns() {
    for seed in 0..50 {
        let mut random = Random::new(seed);
        let cap = random.within(1..5);
        let mut rig = Rig::with(|limits| limits.max_parallel = cap);
        let mut left: BTreeMap<BatchId, usize> = BTreeMap::new();
        let mut since: BTreeMap<(BatchId, BatchId), usize> = BTreeMap::new();
        let mut running = Vec::new();
        for n in [128, 3, 1, 40, 3] {
            let id = rig.batch(&terms(), n);
            // Who is alone takes all there is.
            let begun = rig.begin();
            left.insert(id, n - begun.len());
            running.extend(begun);
        }
        while left.values().any(|n| *n > 0) || !running.is_empty() {
            for at in rig.begin() {
                running.push(at);
                *left.get_mut(&at.batch).unwrap() -= 1;
                for (other, n) in &left {
                    since.insert((at.batch, *other), 0);
                    let before = since.entry((*other, at.batch)).or_default();
                    *before += 1;
                    let fair = *n == 0 || *other == at.batch || *before <= 2;
                    assert!(fair, "seed {seed}: {other:?} waits while {:?} goes on", at.batch);
                }
            }
            let at = running.swap_remove(random.below(running.len()));
            rig.finish(at, done());
        }
    }
}

#[test]
fn fault_043_three_calls_beside_128_wait_for_three_turns() {
    let mut rig = Rig::with(|limits| limits.max_parallel = 4);
    let large = rig.batch(&terms(), 128);
    let mut running = rig.begin();
    let small = rig.batch(&terms(), 3);
    let mut others = 0;
    while rig.scheduler.batches.get(small).unwrap().ready > 0 {
        rig.finish(running.remove(0), done());
        let begun = rig.begin();
        others += begun.iter().filter(|at| at.batch == large).count();
        running.extend(begun);
    }
    assert!(others <= 3, "{others} of the large batch went first");
}

#[test]
fn a_batch_has_a_cap_of_its_own() {
    let mut rig = Rig::new();
    let id = rig.open_as(|spec| spec.max_parallel = 1);
    rig.submit(id, &terms(), 3);
    for index in 0..3 {
        assert_eq!(indices(&rig.begin()), [index]);
        rig.finish(call(id, index), done());
    }
}

#[test]
fn fault_045_a_slow_call_delays_no_quick_one() {
    let mut rig = Rig::with(|limits| limits.max_parallel = 2);
    let id = rig.batch(&terms(), 50);
    rig.begin();
    for index in 1..49 {
        rig.finish(call(id, index), done());
        assert_eq!(indices(&rig.begin()), [index + 1]);
    }
}

#[test]
fn fault_046_without_any_thread_every_call_is_answered() {
    let mut rig = Rig::new();
    let id = rig.batch(&terms(), 5);
    let mut refused = 0;
    while let [first, ..] = rig.starts()[..] {
        for index in first.index..5 {
            rig.event(|s, now, out| s.start_failed(call(id, index), now, out));
            refused += 1;
        }
        rig.pass(ms(20), &[id]);
        assert!(refused < 50, "it is tried for ever");
    }
    assert_eq!(rig.ends(id), [Some("no_thread"); 5]);
    rig.close(id);
    assert!(rig.is_clean());
    // And when threads are to be had again, all is well.
    let next = rig.batch(&terms(), 2);
    assert_eq!(rig.begin().len(), 2);
    assert_eq!(rig.ends(next), [None, None]);
}

#[test]
fn fault_046_calls_wait_for_the_threads_that_there_are() {
    let mut rig = Rig::new();
    let id = rig.batch(&terms(), 3);
    let starts = rig.starts();
    assert!(rig.granted(starts[0]));
    for at in &starts[1..] {
        rig.event(|s, now, out| s.start_failed(*at, now, out));
    }
    assert!(rig.starts().is_empty(), "not at once again");
    assert_eq!(rig.next_due(id), Some(ms(20)));
    rig.pass(ms(20), &[id]);
    let again = rig.starts();
    assert_eq!(indices(&again), [1, 2]);
    for at in again {
        rig.event(|s, now, out| s.start_failed(at, now, out));
    }
    rig.finish(call(id, 0), done());
    assert_eq!(indices(&rig.begin()), [1, 2], "the thread that is free now does it");
}

#[test]
fn another_lanes_calls_dont_wait_for_a_refused_thread() {
    let mut rig = Rig::with(|limits| limits.max_parallel = 2);
    let id = rig.batch(&terms(), 2);
    rig.submit(id, &Terms { track: Track::Compute, ..terms() }, 1);
    let starts = rig.starts();
    assert!(rig.granted(starts[0]));
    rig.event(|s, now, out| s.start_failed(starts[1], now, out));
    assert_eq!(indices(&rig.begin()), [2]);
}

#[test]
fn a_rate_is_kept_in_time_and_nobody_oversleeps_it() {
    let mut rig = Rig::new();
    let limited = pooled(PoolKey::Group(1), usize::MAX, Some((2, ms(100))));
    let id = rig.batch(&limited, 5);
    assert_eq!(indices(&rig.begin()), [0, 1]);
    let mut begun = Vec::new();
    for n in 1..=15 {
        rig.pass(ms(10), &[id]);
        begun.extend(rig.begin().iter().map(|at| (at.index, n)));
    }
    assert_eq!(begun, [(2, 5), (3, 10), (4, 15)], "one every 50 ms");
}

#[test]
fn a_rate_is_remembered_after_the_last_call_and_forgotten_when_full() {
    let mut rig = Rig::new();
    let mut run = |key, waits: u64| {
        let id = rig.batch(&pooled(PoolKey::Tool(key), usize::MAX, Some((1, ms(50)))), 1);
        rig.pass(ms(waits), &[id]);
        assert_eq!(rig.begin(), [call(id, 0)]);
        rig.finish(call(id, 0), done());
        rig.close(id);
        rig.scheduler.room.pools.len()
    };
    assert_eq!((run(1, 0), run(2, 0), run(1, 50)), (1, 2, 2));
    for tool in 3..100 {
        assert!(run(tool, 10) <= 6, "those of the last 50 ms");
    }
}

#[test]
fn a_collector_is_woken_when_another_batch_makes_room_for_a_later_start() {
    let mut rig = Rig::new();
    let limited = pooled(PoolKey::Group(1), 1, Some((1, ms(50))));
    let first = rig.batch(&limited, 1);
    rig.begin();
    let second = rig.batch(&limited, 1);
    assert_eq!(rig.next_due(second), None, "the permit is taken: it sleeps without end");
    rig.wakes.clear();
    rig.now += ms(10);
    rig.finish(call(first, 0), done());
    assert!(rig.wakes.contains(&second), "and there will be a token in 40 ms");
    assert_eq!(rig.next_due(second), Some(ms(40)));
    rig.pass(ms(40), &[second]);
    assert_eq!(rig.begin(), [call(second, 0)]);
}

#[test]
fn a_group_that_is_told_to_wait_rests_as_a_whole() {
    let mut rig = Rig::new();
    let limited = pooled(PoolKey::Group(1), usize::MAX, None);
    let id = rig.batch(&limited, 1);
    rig.begin();
    rig.finish_as(call(id, 0), broken(), None, Some(ms(70)));
    // The last call that knew the group is over, and the pause isn't.
    rig.close(id);
    let next = rig.batch(&limited, 2);
    let other = rig.batch(&terms(), 1);
    assert_eq!(rig.begin(), [call(other, 0)]);
    rig.pass(ms(70), &[next]);
    assert_eq!(rig.begin().len(), 2);
}

#[test]
fn a_pause_longer_than_a_calls_patience_ends_its_wait() {
    let mut rig = Rig::new();
    let limited = pooled(PoolKey::Group(1), 1, None);
    let id = rig.batch(&limited, 2);
    rig.begin();
    rig.now += ms(10);
    rig.finish_as(call(id, 0), broken(), None, Some(ms(5000)));
    rig.pass(ms(99), &[id]);
    assert_eq!(rig.outcome(call(id, 1)), None);
    rig.pass(ms(1), &[id]);
    let paused = Outcome::NotStarted(NotStarted::GroupPaused);
    assert_eq!(rig.outcome(call(id, 1)), Some(&paused));
}

#[test]
fn who_may_run_without_end_waits_with_an_end() {
    let mut rig = Rig::new();
    let patient = |terms: Terms| Terms { timeout: Some(Duration::MAX), ..terms };
    let limited = patient(pooled(PoolKey::Group(1), usize::MAX, None));
    let id = rig.batch(&limited, 2);
    rig.begin();
    rig.finish_as(call(id, 0), broken(), None, Some(Duration::MAX));
    let id = rig.batch(&limited, 1);
    let other = rig.open();
    rig.submit(other, &keyed(), 1);
    rig.submit(other, &patient(keyed()), 1);
    rig.seal(other);
    rig.prepare(other, &[&[writes("k")], &[writes("k")]]);
    rig.begin();
    rig.pass(ms(59_000), &[id, other]);
    assert_eq!(rig.ends(id), [None]);
    assert_eq!(rig.ends(other), [Some("timed_out"), None]);
    rig.pass(ms(2000), &[id, other]);
    assert_eq!(rig.ends(id), [Some("group_paused")]);
    assert_eq!(rig.ends(other), [Some("timed_out"), Some("key_held")]);
}

#[test]
fn a_pause_beyond_all_measure_is_a_pause() {
    let mut rig = Rig::new();
    let id = rig.batch(&pooled(PoolKey::Group(1), 1, None), 2);
    rig.begin();
    rig.finish_as(call(id, 0), broken(), None, Some(Duration::MAX));
    assert!(rig.starts().is_empty(), "the backend asked to be left alone");
    rig.pass(ms(200), &[id]);
    assert_eq!(rig.ends(id), [Some("failed"), Some("group_paused")]);
}

#[test]
fn fault_161_a_group_that_fails_again_and_again_is_left_alone_and_tried_with_one_call() {
    let mut rig = Rig::new();
    let fragile = breaking(3, ms(70));
    let open = Some("circuit_open");
    let down = || failed(ToolErrorKind::Unavailable);
    let id = rig.batch(&fragile, 4);
    assert_eq!(rig.begin().len(), 4);
    rig.finish(call(id, 0), down());
    rig.finish(call(id, 1), Outcome::Panicked(None));
    // What the backend says no to, it has answered.
    rig.finish(call(id, 2), failed(ToolErrorKind::NotFound));
    rig.finish(call(id, 3), down());
    rig.close(id);

    let full = Terms { pools: vec![PoolSpec { cap: 2, ..fragile.pools[0] }], ..terms() };
    let id = rig.batch(&full, 5);
    assert_eq!(indices(&rig.begin()), [0, 1]);
    rig.finish(call(id, 0), down());
    assert_eq!(indices(&rig.begin()), [2], "two in a row aren't three");
    rig.finish(call(id, 1), down());
    assert_eq!(rig.ends(id)[2..], [None, open, open], "what runs goes on");
    let other = rig.batch(&terms(), 1);
    assert_eq!(rig.begin(), [call(other, 0)]);
    let late = rig.batch(&fragile, 1);
    assert_eq!(rig.ends(late), [open]);
    rig.finish(call(id, 2), failed(ToolErrorKind::Cancelled));
    rig.close(id);

    // Nobody has used the group meanwhile. One call tries it, and the others wait for it.
    rig.pass(ms(70), &[]);
    let id = rig.batch(&fragile, 3);
    assert_eq!(indices(&rig.begin()), [0]);
    rig.finish(call(id, 0), down());
    assert_eq!(rig.ends(id), [Some("failed"), open, open]);
    rig.pass(ms(69), &[]);
    let early = rig.batch(&fragile, 1);
    assert_eq!(rig.ends(early), [open]);
    rig.pass(ms(1), &[]);
    let id = rig.batch(&fragile, 3);
    assert_eq!(indices(&rig.begin()), [0]);
    rig.finish(call(id, 0), done());
    assert_eq!(indices(&rig.begin()), [1, 2]);
    rig.finish(call(id, 1), down());
    rig.finish(call(id, 2), down());
    rig.close(id);
    assert_eq!(rig.scheduler.room.pools.len(), 1, "the group's failures are remembered");

    // Failures that are further apart than the rest aren't in a row.
    rig.pass(ms(70), &[]);
    let id = rig.batch(&fragile, 2);
    rig.begin();
    rig.finish(call(id, 0), down());
    assert_eq!(rig.ends(id), [Some("failed"), None]);
    rig.finish(call(id, 1), done());
    assert_eq!(rig.scheduler.room.pools.len(), 0);
}

#[test]
fn fault_161_a_trial_that_comes_to_nothing_is_made_by_the_next_call() {
    let mut rig = Rig::new();
    let fragile = breaking(1, ms(50));
    let id = rig.batch(&fragile, 1);
    rig.begin();
    // Its timeout is a failure, whatever comes of it later.
    rig.pass(ms(100), &[id]);
    assert_eq!(rig.ends(id), [Some("timed_out")]);
    rig.finish(call(id, 0), done());
    assert_eq!(rig.ends(id), [Some("timed_out")]);
    let late = rig.batch(&fragile, 1);
    assert_eq!(rig.ends(late), [Some("circuit_open")]);
    rig.pass(ms(50), &[]);

    let (first, second) = (rig.batch(&fragile, 1), rig.batch(&fragile, 2));
    assert_eq!(rig.starts(), [call(first, 0)]);
    // The thread for the trial didn't come in time.
    rig.cancel(first);
    assert_eq!(rig.begin(), [call(second, 0)]);
    // Its trial is cancelled, which says nothing of the backend.
    rig.cancel(second);
    rig.finish(call(second, 0), failed(ToolErrorKind::Cancelled));
    let third = rig.batch(&fragile, 2);
    assert_eq!(rig.begin(), [call(third, 0)]);
    // Between two attempts the circuit is open again, so there is no second one.
    rig.finish_as(call(third, 0), failed(ToolErrorKind::Unavailable), Some(ms(10)), None);
    assert_eq!(rig.ends(third), [None, Some("circuit_open")]);
    rig.pass(ms(10), &[third]);
    let Some(Outcome::Failed(error)) = rig.outcome(call(third, 0)) else { panic!() };
    assert!(error.operator_text().ends_with("not tried again, because the circuit is open"));
}

#[test]
fn fault_131_past_the_limit_of_abandoned_threads_new_and_queued_calls_are_refused() {
    let mut rig = Rig::with(|limits| (limits.max_parallel, limits.max_abandoned) = (2, 2));
    let id = rig.batch(&terms(), 4);
    rig.begin();
    rig.pass(ms(100), &[id]);
    let refused = Some("abandoned_limit");
    assert_eq!(rig.ends(id), [Some("timed_out"), Some("timed_out"), refused, refused]);
    let next = rig.batch(&terms(), 1);
    assert_eq!(rig.ends(next), [refused]);
    rig.finish(call(id, 0), done());
    let last = rig.batch(&terms(), 1);
    assert_eq!(rig.begin(), [call(last, 0)], "there is room again");
}

#[test]
fn a_full_queue_refuses_the_surplus_and_not_what_can_start() {
    let mut rig = Rig::with(|limits| (limits.max_parallel, limits.max_queued) = (2, 3));
    let id = rig.batch(&terms(), 7);
    assert_eq!(indices(&rig.begin()), [0, 1]);
    let busy = Some(&Outcome::Rejected(Rejected::Busy));
    assert_eq!(rig.counts().queued, 3);
    assert!((2..5).all(|index| rig.outcome(call(id, index)).is_none()));
    assert!((5..7).all(|index| rig.outcome(call(id, index)) == busy));
}

/// Hands `n` calls in and drains them, the keys of each its own.
fn drain(terms: &Terms, n: usize) {
    let mut rig = Rig::with(|limits| limits.max_parallel = 8);
    let deadline = rig.at(ms(1_000_000));
    let id = rig.open_as(|spec| spec.deadline = deadline);
    rig.submit(id, terms, n);
    rig.seal(id);
    if terms.prepare {
        for index in 0..n {
            rig.prepare_as(id, &[writes(&format!("key/{}", index % 1000))], None);
        }
    }
    let mut ended = 0;
    while ended < n {
        for at in rig.begin() {
            rig.finish(at, done());
            ended += 1;
        }
    }
    rig.close(id);
    assert!(rig.is_clean());
}

#[test]
fn fault_137_ten_times_the_calls_take_about_ten_times_as_long() {
    let n = if cfg!(debug_assertions) { 2_000 } else { 10_000 };
    for terms in [terms(), keyed(), pooled(PoolKey::Tool(1), 4, None)] {
        // Neighbours share caches; a quadratic one is never below 25.
        let is_linear = (0..3).any(|_| {
            let [small, large] = [n, 10 * n].map(|n| busy(|| drain(&terms, n)));
            println!("{n} calls: {small:.1?}, {} calls: {large:.1?}", 10 * n);
            large.as_secs_f64() < 25.0 * small.as_secs_f64()
        });
        assert!(is_linear);
    }
}

/// Twenty thousand calls on one key: what else may be slow.
#[test]
fn fault_137_waiting_calls_cost_no_more_than_once() {
    let took = busy(|| {
        let mut rig = Rig::with(|limits| limits.max_parallel = 1);
        let deadline = rig.at(ms(1000));
        let id = rig.open_as(|spec| spec.deadline = deadline);
        rig.submit(id, &keyed(), 20_000);
        for _ in 0..20_000 {
            rig.prepare_as(id, &[writes("one key")], None);
        }
        rig.begin();
        for _ in 0..100 {
            rig.now += ms(1);
            rig.tick(id);
        }
        rig.cancel(id);
        rig.pass(ms(1000), &[id]);
        rig.finish(call(id, 0), done());
        rig.seal(id);
        rig.close(id);
        assert!(rig.is_clean());
    });
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn a_queued_call_takes_less_than_a_kibibyte() {
    let slot = size_of::<Slot<Arc<()>>>();
    // Beside it: a place among those that are ready and one in the order of times, the call
    // itself, and the queue of a key of its own.
    let beside = 2 * size_of::<usize>() + 40;
    println!("a slot has {slot} bytes, a queued call about {}", slot + beside);
    assert!(slot + beside <= 512, "a slot has {slot} bytes");
}

#[test]
fn a_call_that_no_worker_takes_up_ends_after_its_own_timeout() {
    let mut rig = Rig::new();
    let id = rig.batch(&Terms { track: Track::Compute, ..terms() }, 2);
    let [taken, late] = rig.starts().try_into().unwrap();
    rig.pass(ms(60), &[id]);
    assert!(rig.granted(taken));
    rig.pass(ms(39), &[id]);
    assert_eq!(rig.ends(id), [None, None]);
    rig.pass(ms(1), &[id]);
    assert_eq!(rig.outcome(late), Some(&Outcome::NotStarted(NotStarted::Timeout)));
    assert!(!rig.granted(late), "and may begin no more");
    rig.pass(ms(59), &[id]);
    rig.finish(taken, done());
    assert_eq!(rig.ends(id), [Some("succeeded"), Some("timeout")], "its time began when it did");
    rig.close(id);
    assert!(rig.is_clean());
}

#[test]
fn what_was_being_prepared_when_too_many_threads_hang_is_refused() {
    let mut rig = Rig::with(|limits| limits.max_abandoned = 1);
    let hung = rig.batch(&terms(), 1);
    assert_eq!(rig.begin().len(), 1);
    let id = rig.batch(&keyed(), 1);
    rig.pass(ms(90), &[hung, id]);
    let other = rig.batch(&keyed(), 1);
    rig.pass(ms(10), &[hung, other]);
    assert_eq!((rig.counts().abandoned, rig.ends(hung)), (1, vec![Some("timed_out")]));
    rig.prepare(other, &[&[writes("k")]]);
    assert_eq!(rig.outcome(call(other, 0)), Some(&Outcome::Rejected(Rejected::AbandonedLimit)));
}
