//! Keys, exclusive calls and identical calls: who waits for whom.

use std::collections::BTreeSet;

use super::rig::{
    Rig, broken, busy, call, done, exclusive, indices, keyed, ms, pooled, reads, terms, writes,
};
use crate::executor::scheduler::{PoolKey, Terms};
use crate::outcome::{NotStarted, Outcome};
use crate::policy::{Decision, FailurePolicy};
use crate::report::Note;

#[test]
fn fault_037_reads_of_a_key_overlap_and_writes_dont() {
    let mut rig = Rig::new();
    let id = rig.batch(&keyed(), 4);
    rig.prepare(id, &[&[reads("k")], &[reads("k")], &[writes("k")], &[reads("k")]]);
    assert_eq!(indices(&rig.begin()), [0, 1], "two reads at once");
    rig.finish(call(id, 0), done());
    assert!(rig.starts().is_empty(), "the write waits for both");
    rig.finish(call(id, 1), done());
    assert_eq!(indices(&rig.begin()), [2], "and the later read for the write");
    rig.finish(call(id, 2), broken());
    assert_eq!(indices(&rig.begin()), [3]);
}

#[test]
fn fault_038_keys_in_opposite_order_lock_nobody() {
    let mut rig = Rig::new();
    let id = rig.batch(&keyed(), 2);
    rig.prepare(id, &[&[writes("a"), writes("b")], &[writes("b"), writes("a")]]);
    assert_eq!(indices(&rig.begin()), [0]);
    rig.finish(call(id, 0), done());
    assert_eq!(indices(&rig.begin()), [1]);
}

#[test]
fn fault_039_a_stream_of_readers_doesnt_keep_a_writer_waiting() {
    let mut rig = Rig::new();
    let id = rig.batch(&keyed(), 40);
    let mut keys = vec![reads("k"); 40];
    keys[5] = writes("k");
    for key in &keys {
        rig.prepare_as(id, std::slice::from_ref(key), None);
    }
    assert_eq!(indices(&rig.begin()), [0, 1, 2, 3, 4], "only those that came before it");
    for index in 0..5 {
        rig.finish(call(id, index), done());
    }
    assert_eq!(indices(&rig.begin()), [5]);
    rig.finish(call(id, 5), done());
    assert_eq!(rig.begin().len(), 34, "and then all others");
}

#[test]
fn fault_040_a_key_that_an_abandoned_call_holds_isnt_waited_for_for_ever() {
    let mut rig = Rig::new();
    let id = rig.batch(&keyed(), 2);
    rig.prepare(id, &[&[writes("k")], &[writes("k")]]);
    rig.begin();
    rig.pass(ms(100), &[id]);
    assert!(matches!(
        rig.outcome(call(id, 0)),
        Some(Outcome::TimedOut { still_running: true, .. })
    ));
    assert_eq!(rig.outcome(call(id, 1)), None, "it waits for its own timeout from then on");
    rig.pass(ms(99), &[id]);
    assert_eq!(rig.outcome(call(id, 1)), None);
    rig.pass(ms(1), &[id]);
    let held = NotStarted::KeyHeld { index: Some(0), tool: "tool".to_owned() };
    assert_eq!(rig.outcome(call(id, 1)), Some(&Outcome::NotStarted(held)));

    // Another batch meets it as well, even one that comes when the first is over.
    rig.close(id);
    let other = rig.batch(&keyed(), 1);
    rig.prepare(other, &[&[writes("k")]]);
    rig.pass(ms(50), &[other]);
    assert!(rig.starts().is_empty());
    rig.finish(call(id, 0), done());
    assert_eq!(rig.begin(), [call(other, 0)], "its return frees the key");
    rig.finish(call(other, 0), done());
    rig.close(other);
    assert!(rig.is_clean());
}

#[test]
fn fault_041_a_call_that_waits_for_a_key_holds_up_no_other() {
    let mut rig = Rig::new();
    let id = rig.batch(&keyed(), 4);
    rig.prepare(id, &[&[writes("a")], &[writes("a")], &[writes("b")], &[writes("a")]]);
    rig.submit(id, &terms(), 1);
    assert_eq!(indices(&rig.begin()), [0, 2, 4]);
    rig.finish(call(id, 0), done());
    assert_eq!(indices(&rig.begin()), [1], "on one key they go in call order");
}

#[test]
fn fault_050_ten_thousand_keys_on_a_call() {
    let keys: Vec<_> = (0..10_000).map(|n| writes(&format!("{n}\0"))).collect();
    let long = [writes(""), writes(&"x".repeat(1 << 20))];
    let both = [&keys[..], &long].concat();
    let took = busy(|| {
        let mut rig = Rig::new();
        let id = rig.batch(&keyed(), 2);
        rig.prepare(id, &[&both, &keys]);
        assert_eq!(indices(&rig.begin()), [0]);
        rig.finish(call(id, 0), done());
        assert_eq!(indices(&rig.begin()), [1]);
        rig.finish(call(id, 1), done());
        rig.close(id);
        assert!(rig.is_clean());
    });
    assert!(took < ms(1000), "{took:?}");
}

#[test]
fn a_later_keyed_call_waits_until_the_earlier_ones_told_their_keys() {
    let mut rig = Rig::new();
    let id = rig.batch(&keyed(), 2);
    rig.submit(id, &terms(), 1);
    assert_eq!(indices(&rig.begin()), [2], "a call without keys doesn't");
    assert_eq!(rig.prepares().len(), 1, "one at a time");
    // It takes too long, so the next one is prepared, and its late answer changes nothing.
    rig.pass(ms(100), &[id]);
    assert_eq!(rig.outcome(call(id, 0)), Some(&Outcome::NotStarted(NotStarted::Timeout)));
    rig.prepare(id, &[&[writes("k")]]);
    assert_eq!(indices(&rig.begin()), [1]);
    rig.event(|s, now, out| s.prepared(call(id, 0), Ok(Default::default()), now, out));
    assert!(rig.starts().is_empty());
}

#[test]
fn an_exclusive_call_runs_alone_among_all_batches() {
    let mut rig = Rig::new();
    let first = rig.batch(&terms(), 1);
    rig.begin();
    let second = rig.open();
    rig.submit(second, &terms(), 1);
    rig.submit(second, &exclusive(), 1);
    rig.submit(second, &terms(), 1);
    assert_eq!(rig.begin(), [call(second, 0)]);
    let third = rig.batch(&exclusive(), 1);
    rig.finish(call(second, 0), done());
    assert!(rig.starts().is_empty());
    let late = rig.batch(&terms(), 1);
    assert!(rig.starts().is_empty(), "nothing starts meanwhile");
    rig.finish(call(first, 0), done());
    assert_eq!(rig.begin(), [call(third, 0)], "it came first to wait for this");
    rig.finish(call(third, 0), done());
    assert_eq!(rig.begin(), [call(late, 0)], "who waited for one goes before the next");
    rig.finish(call(late, 0), done());
    assert_eq!(rig.begin(), [call(second, 1)]);
    rig.finish(call(second, 1), done());
    assert_eq!(rig.begin(), [call(second, 2)]);
}

#[test]
fn an_exclusive_call_waits_for_no_abandoned_one_without_keys() {
    let mut rig = Rig::new();
    let id = rig.open();
    rig.submit(id, &terms(), 1);
    rig.begin();
    rig.submit(id, &exclusive(), 1);
    rig.pass(ms(100), &[id]);
    assert_eq!(rig.begin(), [call(id, 1)]);
    // And abandoned itself, it is waited for by nobody.
    rig.pass(ms(100), &[id]);
    rig.submit(id, &terms(), 1);
    assert_eq!(rig.begin(), [call(id, 2)]);
}

#[test]
fn an_exclusive_call_doesnt_wait_for_ever_for_an_abandoned_one_with_keys() {
    let mut rig = Rig::new();
    let zombie = rig.batch(&keyed(), 1);
    rig.prepare(zombie, &[&[writes("k")]]);
    rig.begin();
    rig.pass(ms(100), &[zombie]);
    rig.close(zombie);

    let id = rig.batch(&exclusive(), 1);
    let other = rig.batch(&terms(), 1);
    assert_eq!(rig.begin(), [call(other, 0)], "nor does it hold up what could run meanwhile");
    rig.pass(ms(100), &[id]);
    assert_eq!(rig.ends(id), [Some("key_held")]);
}

#[test]
fn an_exclusive_call_stays_alone_between_its_attempts() {
    let mut rig = Rig::new();
    let id = rig.batch(&exclusive(), 1);
    rig.begin();
    let other = rig.batch(&terms(), 1);
    rig.finish_as(call(id, 0), broken(), Some(ms(20)), None);
    assert!(rig.starts().is_empty());
    rig.pass(ms(20), &[id]);
    assert_eq!(rig.begin(), [call(id, 0)], "its second attempt waits for nobody");
    rig.finish(call(id, 0), done());
    assert_eq!(rig.begin(), [call(other, 0)]);
}

#[test]
fn an_abandoned_exclusive_call_with_keys_stops_nothing_but_its_keys() {
    let mut rig = Rig::new();
    let id = rig.open();
    rig.submit(id, &Terms { prepare: true, ..exclusive() }, 1);
    rig.prepare(id, &[&[writes("k")]]);
    rig.begin();
    rig.submit(id, &terms(), 1);
    rig.submit(id, &keyed(), 1);
    rig.pass(ms(100), &[id]);
    assert_eq!(rig.begin(), [call(id, 1)]);
    rig.prepare(id, &[&[reads("k")]]);
    rig.pass(ms(100), &[id]);
    assert_eq!(rig.ends(id)[2], Some("key_held"));
    rig.seal(id);
    rig.close(id);
    let next = rig.batch(&exclusive(), 1);
    assert!(rig.starts().is_empty(), "another exclusive one waits for what has keys");
    rig.finish(call(id, 0), done());
    assert_eq!(rig.begin(), [call(next, 0)]);
}

#[test]
fn an_exclusive_call_that_has_to_rest_lets_others_run() {
    let mut rig = Rig::new();
    let limited = pooled(PoolKey::Group(1), usize::MAX, Some((1, ms(50))));
    let first = rig.batch(&limited, 1);
    rig.begin();
    rig.finish(call(first, 0), done());
    let id = rig.batch(&Terms { exclusive: true, ..limited }, 1);
    let other = rig.batch(&terms(), 1);
    assert_eq!(rig.begin(), [call(other, 0)]);
    rig.finish(call(other, 0), done());
    assert_eq!(rig.next_due(id), Some(ms(50)));
    rig.pass(ms(50), &[id]);
    assert_eq!(rig.begin(), [call(id, 0)]);
}

#[test]
fn identical_calls_run_once_and_never_across_a_write() {
    let mut rig = Rig::new();
    let id = rig.batch(&keyed(), 5);
    rig.prepare_as(id, &[reads("k")], Some("read k"));
    rig.prepare_as(id, &[reads("k")], Some("read k"));
    rig.prepare_as(id, &[writes("k")], None);
    rig.prepare_as(id, &[reads("k")], Some("read k"));
    rig.prepare_as(id, &[reads("k")], Some("read k"));
    assert_eq!(indices(&rig.begin()), [0]);
    rig.finish(call(id, 0), done());
    assert_eq!(rig.ends(id)[..2], [Some("succeeded"); 2]);
    assert_eq!(indices(&rig.begin()), [2]);
    rig.finish(call(id, 2), done());
    assert_eq!(indices(&rig.begin()), [3], "what came after the write is read again, once");
    rig.finish(call(id, 3), broken());
    assert_eq!(rig.ends(id)[3..], [Some("failed"); 2]);
    let closed = rig.close(id);
    let notes: Vec<_> = closed.slots.iter().map(|slot| slot.notes.clone()).collect();
    let with = |index| vec![Note::CoalescedWith(index)];
    assert_eq!(notes, [vec![], with(0), vec![], vec![], with(3)]);
}

#[test]
fn identical_calls_dont_reach_across_an_exclusive_one() {
    let mut rig = Rig::new();
    let id = rig.open();
    rig.submit(id, &keyed(), 1);
    rig.submit(id, &exclusive(), 1);
    rig.submit(id, &keyed(), 1);
    rig.prepare_as(id, &[], Some("read"));
    rig.begin();
    rig.finish(call(id, 0), done());
    rig.begin();
    rig.finish(call(id, 1), done());
    rig.prepare_as(id, &[], Some("read"));
    assert_eq!(rig.begin(), [call(id, 2)]);
}

#[test]
fn a_failure_of_identical_calls_is_blamed_on_the_first() {
    let mut rig = Rig::new();
    let id = rig.open_as(|spec| spec.policy = FailurePolicy::abort_on_first());
    rig.submit(id, &keyed(), 2);
    rig.submit(id, &terms(), 1);
    rig.seal(id);
    rig.prepare_as(id, &[], Some("read"));
    rig.prepare_as(id, &[], Some("read"));
    rig.begin();
    rig.finish(call(id, 0), broken());
    rig.finish(call(id, 2), done());
    let closed = rig.close(id);
    assert_eq!(closed.abort.and_then(|abort| abort.index), Some(0));
    assert_eq!(closed.slots[1].outcome.name(), "failed");
}

#[test]
fn nothing_starts_between_a_settled_call_and_its_decision() {
    let mut rig = Rig::with(|limits| limits.max_parallel = 2);
    let policy = FailurePolicy::custom(|_| Decision::Continue);
    let id = rig.open_as(|spec| spec.policy = policy);
    rig.submit(id, &terms(), 3);
    rig.seal(id);
    let starts = rig.starts();
    assert!(rig.granted(starts[0]));
    rig.finish(starts[0], broken());
    assert!(rig.starts().is_empty(), "not even what has a permit now");
    assert!(!rig.granted(starts[1]), "nor what was on its way");
    assert_eq!(rig.scheduler.next_undecided(id).map(|undecided| undecided.index), Some(0));
    rig.event(|s, now, out| s.decided(call(id, 0), Decision::Continue, now, out));
    assert_eq!(indices(&rig.begin()), [1, 2]);
    rig.finish(call(id, 1), done());
    rig.event(|s, now, out| s.decided(call(id, 1), Decision::Enough, now, out));
    rig.finish(call(id, 2), broken());
    let closed = rig.close(id);
    assert!(closed.abort.is_some_and(|abort| abort.satisfied && abort.index == Some(1)));
}

/// Random keys on a batch: each key's history is that of a serial run in call order.
#[test]
fn each_key_sees_the_calls_in_call_order() {
    use super::random::Random;
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let mut rig = Rig::with(|limits| limits.max_parallel = random.within(1..9));
        let id = rig.batch(&keyed(), 30);
        let calls: Vec<_> = (0..30)
            .map(|_| {
                let n = random.below(4);
                let key = |random: &mut Random| {
                    let key = *random.pick(&["a", "b", "c", "d", "e"]);
                    if random.percent(50) { reads(key) } else { writes(key) }
                };
                (0..n).map(|_| key(&mut random)).collect::<Vec<_>>()
            })
            .collect();
        let (mut prepared, mut running, mut history) = (0, Vec::new(), Vec::new());
        while history.len() < 30 {
            if prepared < 30 && random.percent(50) {
                rig.prepare_as(id, &calls[prepared], None);
                prepared += 1;
            } else if !running.is_empty() {
                let at = random.below(running.len());
                let done_call: usize = running.swap_remove(at);
                history.push(done_call);
                rig.finish(call(id, done_call), done());
            }
            running.extend(indices(&rig.begin()));
        }
        // Of each key: the order of its writes, and which reads stand between them.
        for key in ["a", "b", "c", "d", "e"] {
            let spans = |order: &[usize]| {
                let mut spans = vec![(None, BTreeSet::new())];
                for index in order {
                    let uses: Vec<_> =
                        calls[*index].iter().filter(|used| *used.key == *key).collect();
                    if uses.iter().any(|used| used.access == crate::tool::Access::Write) {
                        spans.push((Some(*index), BTreeSet::new()));
                    } else if !uses.is_empty() {
                        spans.last_mut().unwrap().1.insert(*index);
                    }
                }
                spans
            };
            let serial: Vec<_> = (0..30).collect();
            assert_eq!(spans(&history), spans(&serial), "seed {seed}, key {key}");
        }
    }
}

#[test]
fn a_key_of_a_call_whose_message_is_still_written_isnt_waited_for_for_ever() {
    let mut rig = Rig::new();
    let written = rig.open();
    rig.submit_with(written, &std::sync::Arc::new(keyed()), 1, true);
    rig.prepare(written, &[&[writes("k")]]);
    let other = rig.batch(&keyed(), 1);
    rig.prepare(other, &[&[reads("k")]]);
    assert!(rig.starts().is_empty());
    rig.pass(ms(99), &[other]);
    assert_eq!(rig.ends(other), [None]);
    rig.pass(ms(1), &[other]);
    assert_eq!(rig.ends(other), [Some("key_held")]);
    // One that came before it, and has to be over first: the watch begins when it is held.
    let before = rig.batch(&keyed(), 1);
    rig.prepare(before, &[&[reads("j")]]);
    assert_eq!(rig.begin().len(), 1);
    rig.submit_with(written, &std::sync::Arc::new(keyed()), 1, true);
    rig.prepare(written, &[&[writes("j")]]);
    let after = rig.batch(&keyed(), 1);
    rig.prepare(after, &[&[reads("j")]]);
    rig.pass(ms(50), &[after]);
    rig.finish(call(before, 0), done());
    rig.pass(ms(50), &[after]);
    assert_eq!(rig.ends(after), [None]);
    // Released, it is a call like any other.
    rig.event(|s, now, out| s.release(written, now, out));
    assert_eq!(rig.begin().len(), 2);
    rig.pass(ms(50), &[after]);
    rig.finish(call(written, 1), done());
    assert_eq!(rig.begin(), [call(after, 0)]);
}

#[test]
fn nor_is_one_behind_which_a_reader_or_another_such_call_waits() {
    let mut rig = Rig::new();
    let held = std::sync::Arc::new(keyed());
    // A reader in front of one that is held; a writer waits for both.
    let reader = rig.batch(&keyed(), 1);
    rig.prepare(reader, &[&[reads("r")]]);
    rig.begin();
    let written = rig.open();
    rig.submit_with(written, &held, 1, true);
    rig.prepare(written, &[&[reads("r")]]);
    let writer = rig.batch(&keyed(), 1);
    rig.prepare(writer, &[&[writes("r")]]);
    rig.pass(ms(50), &[reader, writer]);
    rig.finish(call(reader, 0), done());
    rig.pass(ms(99), &[writer]);
    assert_eq!(rig.ends(writer), [None]);
    rig.pass(ms(1), &[writer]);
    assert_eq!(rig.ends(writer), [Some("key_held")]);
    // One that has its key and waits behind one that is held.
    rig.submit_with(written, &held, 2, true);
    rig.prepare(written, &[&[writes("j")], &[writes("j"), writes("k")]]);
    let other = rig.batch(&keyed(), 1);
    rig.prepare(other, &[&[writes("k")]]);
    rig.pass(ms(100), &[other]);
    assert_eq!(rig.ends(other), [Some("key_held")]);
}
