//! Batches within calls: lent permits, shared keys, circles.

use super::rig::{
    Rig, broken, call, done, exclusive, indices, keyed, ms, pooled, reads, terms, writes,
};
use crate::executor::scheduler::{BatchId, CallRef, PoolKey, Terms};
use crate::outcome::{Outcome, Rejected};

/// A batch within `parent`, which lends its permits and waits for it.
fn nest(rig: &mut Rig, parent: CallRef, terms: &Terms, n: usize) -> BatchId {
    rig.event(|s, now, out| s.lend(parent, now, out));
    let id = rig.open_as(|spec| spec.parent = Some(parent));
    rig.submit(id, terms, n);
    rig.seal(id);
    id
}

fn resume(rig: &mut Rig, nested: BatchId, parent: CallRef) {
    rig.close(nested);
    rig.event(|s, now, out| s.resume(parent, now, out));
}

fn is_refused(rig: &Rig, at: CallRef) -> bool {
    matches!(rig.outcome(at), Some(Outcome::Rejected(Rejected::WouldDeadlock(_))))
}

#[test]
fn fault_013_a_cap_of_one_is_enough_for_any_depth() {
    let mut rig = Rig::with(|limits| (limits.max_parallel, limits.blocking) = (1, 1));
    let one = pooled(PoolKey::Tool(1), 1, None);
    let top = rig.batch(&one, 1);
    let mut chain = vec![call(top, 0)];
    for _ in 0..3 {
        let parent = *chain.last().unwrap();
        assert_eq!(rig.begin(), [parent]);
        let nested = nest(&mut rig, parent, &one, 1);
        chain.push(call(nested, 0));
    }
    assert_eq!(rig.begin(), [chain[3]]);
    assert_eq!(rig.counts().running, 1, "only the innermost has permits");
    while let Some(last) = chain.pop() {
        rig.finish(last, done());
        if let Some(parent) = chain.last() {
            resume(&mut rig, last.batch, *parent);
        }
    }
    assert_eq!(rig.ends(top), [Some("succeeded")]);
    rig.close(top);
    assert!(rig.is_clean());
}

#[test]
fn fault_014_as_many_parents_as_the_cap_all_end() {
    let mut rig = Rig::with(|limits| limits.max_parallel = 4);
    let top = rig.batch(&terms(), 4);
    let parents = rig.begin();
    assert_eq!(parents.len(), 4);
    let nested: Vec<_> =
        parents.iter().map(|parent| nest(&mut rig, *parent, &terms(), 2)).collect();
    let mut ended = 0;
    loop {
        let begun = rig.begin();
        if begun.is_empty() {
            break;
        }
        assert!(rig.counts().running <= 4);
        ended += begun.len();
        for at in begun {
            rig.finish(at, done());
        }
    }
    assert_eq!(ended, 8);
    for (id, parent) in nested.into_iter().zip(&parents) {
        resume(&mut rig, id, *parent);
    }
    for parent in parents {
        rig.finish(parent, done());
    }
    rig.close(top);
    assert!(rig.is_clean());
}

#[test]
fn a_parent_that_resumes_overshoots_by_what_it_lent() {
    let mut rig = Rig::with(|limits| limits.max_parallel = 1);
    let top = rig.batch(&terms(), 1);
    rig.begin();
    let nested = nest(&mut rig, call(top, 0), &terms(), 1);
    rig.begin();
    let other = rig.batch(&terms(), 2);
    rig.finish(call(nested, 0), done());
    assert_eq!(rig.begin(), [call(other, 0)], "the permit went to whoever waited");
    resume(&mut rig, nested, call(top, 0));
    assert_eq!(rig.counts().running, 2);
    rig.finish(call(other, 0), done());
    assert!(rig.starts().is_empty(), "no permit is free yet");
    rig.finish(call(top, 0), done());
    assert_eq!(rig.begin(), [call(other, 1)]);
}

#[test]
fn fault_042_an_ancestors_key_is_shared_or_refused_at_once() {
    let mut rig = Rig::new();
    let top = rig.batch(&keyed(), 2);
    rig.prepare(top, &[&[reads("r"), writes("w")], &[writes("r")]]);
    assert_eq!(indices(&rig.begin()), [0]);
    let parent = call(top, 0);
    let nested = nest(&mut rig, parent, &keyed(), 3);
    rig.prepare(nested, &[&[reads("r")], &[writes("r")], &[reads("w")]]);
    assert_eq!(rig.begin(), [call(nested, 0)], "past the writer that waits for both");
    assert!(is_refused(&rig, call(nested, 1)));
    assert!(is_refused(&rig, call(nested, 2)));
    // The one that reads is walked away from, and outlives its caller: it still has the key.
    rig.pass(ms(90), &[nested]);
    rig.cancel(nested);
    rig.pass(ms(10), &[nested]);
    resume(&mut rig, nested, parent);
    rig.finish(parent, done());
    assert!(rig.starts().is_empty(), "the writer waits for the reader that is still there");
    rig.finish(call(nested, 0), done());
    assert_eq!(rig.begin(), [call(top, 1)]);
}

#[test]
fn a_call_that_waits_for_a_key_of_the_batch_it_has_begun_is_refused_at_once() {
    let mut rig = Rig::new();
    let top = rig.batch(&terms(), 1);
    rig.begin();
    let begun = rig.open_as(|spec| spec.parent = Some(call(top, 0)));
    rig.submit_with(begun, &std::sync::Arc::new(keyed()), 1, true);
    rig.prepare(begun, &[&[writes("k")]]);
    let nested = nest(&mut rig, call(top, 0), &keyed(), 2);
    rig.prepare(nested, &[&[reads("k")], &[reads("j")]]);
    assert!(is_refused(&rig, call(nested, 0)));
    assert_eq!(rig.begin(), [call(nested, 1)]);
}

#[test]
fn a_secret_in_a_key_is_told_to_nobody() {
    let mut rig = Rig::with(|limits| limits.secrets.add("sk-12345".to_owned()));
    let top = rig.batch(&keyed(), 1);
    rig.prepare(top, &[&[writes("of sk-12345")]]);
    rig.begin();
    let nested = nest(&mut rig, call(top, 0), &keyed(), 1);
    rig.prepare(nested, &[&[reads("of sk-12345")]]);
    let outcome = rig.outcome(call(nested, 0)).unwrap();
    let Outcome::Rejected(Rejected::WouldDeadlock(what)) = outcome else { panic!("{outcome:?}") };
    assert!(what.starts_with(r#"the key "of [redacted]""#), "{what}");
}

#[test]
fn fault_042_a_circle_through_other_calls_is_refused_at_once() {
    let mut rig = Rig::new();
    let top = rig.batch(&keyed(), 3);
    rig.prepare(top, &[&[writes("a")], &[writes("b")], &[writes("c"), writes("a")]]);
    assert_eq!(indices(&rig.begin()), [0, 1]);
    let first = nest(&mut rig, call(top, 0), &keyed(), 1);
    rig.prepare(first, &[&[writes("b")]]);
    assert_eq!(rig.outcome(call(first, 0)), None, "it waits for call 1");
    let second = nest(&mut rig, call(top, 1), &keyed(), 2);
    rig.prepare(second, &[&[writes("a")], &[writes("c")]]);
    assert!(is_refused(&rig, call(second, 0)), "call 0 waits for what waits for call 1");
    assert!(is_refused(&rig, call(second, 1)), "call 2 has c, and waits for call 0");
    resume(&mut rig, second, call(top, 1));
    rig.finish(call(top, 1), done());
    assert_eq!(rig.begin(), [call(first, 0)]);
}

#[test]
fn a_nested_call_waits_for_no_exclusive_one_that_waits_for_its_caller() {
    let mut rig = Rig::new();
    let top = rig.batch(&terms(), 1);
    rig.begin();
    let other = rig.batch(&Terms { prepare: true, ..exclusive() }, 1);
    rig.prepare(other, &[&[writes("k")]]);
    let nested = nest(&mut rig, call(top, 0), &keyed(), 2);
    rig.prepare(nested, &[&[writes("k")], &[writes("other")]]);
    assert!(is_refused(&rig, call(nested, 0)));
    assert_eq!(rig.begin(), [call(nested, 1)], "what is nested in a running call goes on");
    rig.finish(call(nested, 1), done());
    resume(&mut rig, nested, call(top, 0));
    rig.finish(call(top, 0), done());
    assert_eq!(rig.begin(), [call(other, 0)]);
    let inner = nest(&mut rig, call(other, 0), &terms(), 1);
    assert_eq!(rig.begin(), [call(inner, 0)], "and so does what is nested in the exclusive call");
}

#[test]
fn an_exclusive_call_lets_those_run_that_a_nested_one_waits_for() {
    let mut rig = Rig::with(|limits| limits.max_parallel = 1);
    let top = rig.batch(&terms(), 1);
    rig.begin();
    // It has the key, and waits for a permit.
    let holder = rig.batch(&keyed(), 1);
    rig.prepare(holder, &[&[writes("k")]]);
    let waiting = rig.batch(&exclusive(), 1);
    let idle = rig.batch(&terms(), 1);
    let nested = nest(&mut rig, call(top, 0), &keyed(), 1);
    assert_eq!(rig.starts(), [call(holder, 0)]);
    rig.prepare(nested, &[&[writes("k")]]);
    assert!(rig.granted(call(holder, 0)));
    rig.finish(call(holder, 0), done());
    assert_eq!(rig.begin(), [call(nested, 0)]);
    rig.finish(call(nested, 0), done());
    resume(&mut rig, nested, call(top, 0));
    rig.finish(call(top, 0), done());
    assert_eq!(rig.begin(), [call(waiting, 0)]);
    rig.finish(call(waiting, 0), done());
    assert_eq!(rig.begin(), [call(idle, 0)]);
}

#[test]
fn what_runs_in_an_exclusive_call_waits_for_nothing_that_it_holds_up() {
    let mut rig = Rig::with(|limits| limits.max_parallel = 1);
    let first = rig.batch(&exclusive(), 1);
    // It has the key, and waits for its turn.
    let holder = rig.batch(&keyed(), 1);
    rig.prepare(holder, &[&[writes("k")]]);
    assert_eq!(rig.begin(), [call(first, 0)]);
    let nested = nest(&mut rig, call(first, 0), &keyed(), 2);
    rig.prepare(nested, &[&[writes("k")], &[writes("other")]]);
    assert!(is_refused(&rig, call(nested, 0)));
    assert_eq!(rig.begin(), [call(nested, 1)]);
    let inner = nest(&mut rig, call(nested, 1), &keyed(), 1);
    rig.prepare(inner, &[&[reads("k")]]);
    assert!(is_refused(&rig, call(inner, 0)));
}

#[test]
fn an_exclusive_call_is_refused_in_a_nested_batch() {
    let mut rig = Rig::new();
    let top = rig.batch(&terms(), 1);
    rig.begin();
    let nested = nest(&mut rig, call(top, 0), &exclusive(), 1);
    assert!(is_refused(&rig, call(nested, 0)));
}

#[test]
fn what_runs_within_a_call_ends_with_it() {
    let mut rig = Rig::with(|limits| limits.max_parallel = 1);
    let top = rig.batch(&terms(), 1);
    rig.begin();
    let nested = nest(&mut rig, call(top, 0), &Terms { timeout: Some(ms(5000)), ..terms() }, 2);
    rig.begin();
    rig.pass(ms(100), &[top]);
    assert_eq!(rig.ends(top), [Some("timed_out")]);
    assert_eq!(rig.ends(nested), [None, Some("cancelled")], "one has its grace, one never starts");
    rig.pass(ms(500), &[nested]);
    assert_eq!(rig.ends(nested), [Some("cancelled"); 2]);
    rig.close(nested);
    let late = rig.open_as(|spec| spec.parent = Some(call(top, 0)));
    rig.submit(late, &terms(), 1);
    assert_eq!(rig.ends(late), [Some("cancelled")]);
    rig.seal(late);
    rig.close(late);
    rig.close(top);
    rig.finish(call(nested, 0), broken());
    rig.finish(call(top, 0), done());
    assert!(rig.is_clean());
    assert_eq!(rig.counts().late, 2);
}

#[test]
fn a_permit_that_a_settled_call_takes_back_isnt_waited_for_for_ever() {
    for is_closed in [false, true] {
        let mut rig = Rig::new();
        let one = pooled(PoolKey::Tool(1), 1, None);
        let top = rig.batch(&one, 1);
        rig.begin();
        let nested = nest(&mut rig, call(top, 0), &terms(), 1);
        assert_eq!(rig.begin(), [call(nested, 0)]);
        let other = rig.batch(&one, 2);
        assert_eq!(rig.begin(), [call(other, 0)], "the permit is lent");
        // The parent is walked away from while it waits, and then goes on without end.
        rig.cancel(top);
        rig.pass(ms(10), &[top]);
        if is_closed {
            rig.close(top);
        }
        rig.finish(call(nested, 0), done());
        resume(&mut rig, nested, call(top, 0));
        rig.finish(call(other, 0), done());
        assert!(rig.starts().is_empty());
        rig.pass(ms(200), &[other]);
        assert_eq!(rig.ends(other), [Some("succeeded"), Some("key_held")], "{is_closed}");
    }
}
