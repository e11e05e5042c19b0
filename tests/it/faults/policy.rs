//! What one failed call does to the others, on real threads.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use toolpool::{
    Abort, CallContext, Decision, FailurePolicy, NotStarted, Outcome, Settled, Tool, ToolError,
    ToolErrorKind, ToolSet,
};

use super::harness::{Case, Gate, eventually, ms, names, repeat, slack, told, turn};
use super::props::MINUTE;

fn works() -> Tool<()> {
    Tool::new("works", "", || Ok("fine"))
}

fn fails() -> Tool<()> {
    Tool::new("fails", "", || Err::<(), _>("broken".into()))
}

/// Sleeps for a minute, or until it is told to stop.
fn polite() -> Tool<()> {
    Tool::new("polite", "", |(): (), cx: &CallContext| Ok(cx.sleep(MINUTE)?))
}

/// Waits for the gate, whatever it is told.
fn rude(gate: &Gate) -> Tool<()> {
    let gate = gate.clone();
    Tool::new("rude", "", move || {
        gate.wait();
        Ok("too late")
    })
}

/// How many calls have begun.
#[derive(Clone, Default)]
struct Begun(Arc<AtomicUsize>);

impl Begun {
    /// Sleeps for a minute, or until it is told to stop.
    fn polite(&self, name: &str) -> Tool<()> {
        let begun = self.clone();
        Tool::new(name, "", move |(): (), cx: &CallContext| {
            begun.0.fetch_add(1, Ordering::Relaxed);
            Ok(cx.sleep(MINUTE)?)
        })
    }

    /// Fails when `n` calls have begun.
    fn fails_after(&self, n: usize) -> Tool<()> {
        let begun = self.clone();
        Tool::new("fails", "", move || {
            assert!(eventually(|| begun.0.load(Ordering::Relaxed) >= n));
            std::thread::sleep(ms(50));
            Err::<(), _>("broken".into())
        })
    }
}

fn cancelled_by(index: usize, cause: &str) -> Outcome {
    let abort = serde_json::json!({ "index": index, "cause": cause, "satisfied": false });
    let abort: Abort = serde_json::from_value(abort).unwrap();
    Outcome::Cancelled { started: true, abort: Some(abort) }
}

#[test]
fn fault_068_failures_go_back_inline_in_their_places() {
    let panics = Tool::new("panics", "", || -> Result<(), _> { panic!("oh") });
    Case::new(ToolSet::new().with(works()).with(fails()).with(panics)).check(|case| {
        let order = ["fails", "works", "panics", "works", "none", "fails"];
        let report = case.run(&turn(order.map(|name| (name, ""))));
        let expected = ["failed", "succeeded", "panicked", "succeeded", "unknown_tool", "failed"];
        assert_eq!(names(&report), expected);
        assert!(report.aborted().is_none());
    });
}

#[test]
fn fault_069_after_the_first_failure_what_runs_is_stopped_and_what_waits_isnt_started() {
    let begun = Begun::default();
    let tools =
        ToolSet::new().with(begun.polite("polite")).with(begun.fails_after(3)).with(works());
    let case = Case::new(tools).parallel(4);
    case.set(|b| b.policy(FailurePolicy::abort_on_first())).check(|case| {
        let order = ["polite", "polite", "polite", "fails", "works", "works", "works", "polite"];
        let report = case.run(&turn(order.map(|name| (name, ""))));
        assert_eq!(report.aborted().unwrap().index, Some(3));
        for index in 0..3 {
            assert_eq!(report[index].outcome, cancelled_by(3, "fails"));
        }
        for index in 4..8 {
            let NotStarted::Aborted(abort) = not_started(&report[index].outcome) else {
                panic!("{:?}", report[index]);
            };
            assert_eq!((abort.index, &*abort.cause), (Some(3), "fails"));
            assert!(told(&report, index).starts_with("not run: call 4 (fails) failed"));
        }
        let ended = report[3].ended;
        assert!(report.wall() < ended + slack(), "{:?} after {ended:?}", report.wall());
    });
}

fn not_started(outcome: &Outcome) -> &NotStarted {
    match outcome {
        Outcome::NotStarted(reason) => reason,
        other => panic!("started: {other:?}"),
    }
}

#[test]
fn fault_069_a_tool_that_ignores_the_abort_is_walked_away_from_after_its_grace() {
    let (gate, begun) = (Gate::default(), Begun::default());
    let rude = Tool::new("rude", "", {
        let (gate, begun) = (gate.clone(), begun.clone());
        move || {
            begun.0.fetch_add(1, Ordering::Relaxed);
            gate.wait();
            Ok("too late")
        }
    });
    let tools = ToolSet::new().with(rude.grace(ms(100))).with(begun.fails_after(1));
    let case = Case::gated(tools, &gate).set(|b| b.policy(FailurePolicy::abort_on_first()));
    case.check(|case| {
        let report = case.run(&turn([("rude", ""), ("fails", "")]));
        assert_eq!(report[0].outcome, cancelled_by(1, "fails"));
        let grace = report.wall() - report[1].ended;
        assert!(grace >= ms(100) && grace < ms(100) + slack(), "{grace:?}");
        assert_eq!(case.stats().abandoned, 1);
    });
}

#[test]
fn fault_070_two_failures_in_one_instant_have_one_cause() {
    let both = Arc::new(Barrier::new(2));
    let together = Tool::new("together", "", move || {
        both.wait();
        Err::<(), _>("broken".into())
    });
    let tools = ToolSet::new().with(together).with(polite());
    let case = Case::new(tools).set(|b| b.policy(FailurePolicy::abort_on_first()));
    case.check(|case| {
        for _ in 0..200 {
            let report = case.run(&turn([("together", ""), ("polite", ""), ("together", "")]));
            let cause = report.aborted().unwrap().index.unwrap();
            assert!(cause == 0 || cause == 2);
            assert_eq!(report[cause].outcome.name(), "failed", "the cause failed itself");
            assert!(matches!(report[2 - cause].outcome.name(), "failed" | "cancelled"));
            match &report[1].outcome {
                Outcome::Cancelled { abort: Some(abort), .. }
                | Outcome::NotStarted(NotStarted::Aborted(abort)) => {
                    assert_eq!(abort.index, Some(cause));
                }
                other => panic!("{other:?}"),
            }
        }
        // What settles in one go settles by index.
        let report = case.run(&turn([("polite", ""), ("none", ""), ("nobody", "")]));
        assert_eq!(report.aborted().unwrap().index, Some(1));
    });
}

#[test]
fn fault_070_a_custom_policy_is_shown_the_lowest_index_first() {
    let first = Arc::new(AtomicUsize::new(usize::MAX));
    let seen = Arc::clone(&first);
    let policy = FailurePolicy::custom(move |settled| {
        seen.fetch_min(settled.index, Ordering::Relaxed);
        Decision::Abort
    });
    Case::new(ToolSet::new().with(works())).check(|case| {
        let order = ["works", "nobody", "none", "no one"];
        let report =
            case.run_with(&turn(order.map(|name| (name, ""))), |run| run.policy(policy.clone()));
        assert_eq!(report.aborted().unwrap().index, Some(1));
        assert_eq!(first.load(Ordering::Relaxed), 1);
        assert_eq!(names(&report), ["aborted", "unknown_tool", "unknown_tool", "unknown_tool"]);
    });
}

/// As in the documentation of [`FailurePolicy::custom`].
fn quorum(k: usize) -> FailurePolicy {
    FailurePolicy::custom(move |batch: &Settled<'_>| {
        let needed = k.min(batch.calls());
        if batch.succeeded >= needed {
            Decision::Enough
        } else if batch.succeeded + batch.pending < needed {
            Decision::Abort
        } else {
            Decision::Continue
        }
    })
}

#[test]
fn fault_071_a_quorum_ends_the_batch_when_it_is_reached_and_when_it_cant_be() {
    let tools = ToolSet::new().with(works()).with(fails()).with(polite());
    Case::new(tools).parallel(4).check(|case| {
        let order = ["works", "polite", "works", "polite", "polite", "polite"];
        let report = case.run_with(&turn(order.map(|name| (name, ""))), |r| r.policy(quorum(2)));
        let abort = report.aborted().unwrap();
        assert!(abort.satisfied && abort.index.is_some());
        for index in [0, 2] {
            assert!(report[index].outcome.is_success());
        }
        for index in [1, 3, 4, 5] {
            assert!(matches!(report[index].outcome.name(), "cancelled" | "not_needed"));
        }
        assert!(report.wall() < ms(500) + slack(), "{:?}", report.wall());
        assert!(report.into_result().is_ok(), "enough is no failure");

        let order = ["fails", "polite", "fails", "fails", "polite"];
        let report = case.run_with(&turn(order.map(|name| (name, ""))), |r| r.policy(quorum(3)));
        let abort = report.aborted().unwrap();
        assert!(!abort.satisfied);
        assert!(report.wall() < ms(500) + slack(), "not at the deadline: {:?}", report.wall());
        assert_eq!([1, 4].map(|index| report[index].outcome.is_success()), [false, false]);
        assert!(report.into_result().unwrap_err().is_aborted());
    });
}

#[test]
fn fault_072_a_quorum_of_none_and_one_of_more_than_there_are() {
    let tools = ToolSet::new().with(works()).with(fails()).with(polite());
    Case::new(tools).check(|case| {
        let none = turn([("polite", ""), ("works", ""), ("polite", "")]);
        let report = case.run_with(&none, |run| run.policy(quorum(0)));
        assert!(report.aborted().unwrap().satisfied, "at the first that settles");
        assert!(matches!(report[0].outcome.name(), "cancelled" | "not_needed"));

        let all = repeat("works", 5);
        let report = case.run_with(&all, |run| run.policy(quorum(9)));
        assert!(report.all_succeeded(), "nine of five are all five");

        let hopeless = turn([("polite", ""), ("fails", ""), ("polite", "")]);
        let report = case.run_with(&hopeless, |run| run.policy(quorum(9)));
        assert_eq!(report.aborted().unwrap().index, Some(1));
        assert!(report.wall() < ms(500) + slack(), "{:?}", report.wall());
    });
}

#[test]
fn fault_073_a_race_has_one_winner_and_the_losers_result_is_late() {
    let gate = Gate::default();
    let tools = ToolSet::new().with(works()).with(rude(&gate).grace(ms(20)));
    Case::gated(tools, &gate).check(|case| {
        let first = FailurePolicy::custom(|batch: &Settled<'_>| match batch.succeeded {
            0 => Decision::Continue,
            _ => Decision::Enough,
        });
        let race = turn([("rude", ""), ("works", "")]);
        let report = case.run_with(&race, |run| run.policy(first.clone()));
        assert_eq!(report.calls().iter().filter(|call| call.outcome.is_success()).count(), 1);
        assert!(report[1].outcome.is_success());
        assert!(matches!(report[0].outcome.name(), "cancelled" | "not_needed"));
        let started = report[0].attempts;
        gate.open();
        assert!(eventually(|| case.stats().late == u64::from(started)));
    });
}

#[test]
fn fault_074_a_required_call_that_times_out_ends_the_batch_and_an_optional_one_doesnt() {
    let gate = Gate::default();
    let wait = |name: &str| {
        let gate = gate.clone();
        Tool::new(name, "", move || {
            gate.wait();
            Ok(())
        })
        .timeout(ms(50))
    };
    let tools = ToolSet::new()
        .with(wait("optional"))
        .with(wait("required"))
        .with(fails())
        .with(polite())
        .with(Tool::new("slow", "", || Ok(std::thread::sleep(ms(200)))));
    let required = FailurePolicy::require(["required"]);
    Case::gated(tools, &gate).set(|b| b.policy(required)).check(|case| {
        let report = case.run(&turn([("optional", ""), ("slow", ""), ("fails", "")]));
        assert_eq!(names(&report), ["timed_out", "succeeded", "failed"]);
        assert!(report.aborted().is_none());

        let report = case.run(&turn([("optional", ""), ("polite", ""), ("required", "")]));
        assert_eq!(report.aborted().unwrap().index, Some(2));
        assert_eq!(report[2].outcome.name(), "timed_out");
        assert!(matches!(report[1].outcome.name(), "cancelled" | "aborted"));
        assert!(report.wall() < ms(550) + slack(), "{:?}", report.wall());
    });
    Case::new(ToolSet::new().with(works())).check(|case| {
        let nobody = FailurePolicy::require(["nobody"]);
        let report = case.run_with(&repeat("works", 2), |run| run.policy(nobody));
        assert_eq!(names(&report), ["aborted", "aborted"], "a required tool isn't there");
    });
    let unknown = toolpool::Executor::builder(ToolSet::new().with(works()));
    assert!(unknown.policy(FailurePolicy::require(["wroks"])).build().is_err());
}

#[test]
fn fault_075_a_policy_sees_how_a_call_ended_and_not_how_its_attempts_did() {
    let attempts = AtomicU32::new(0);
    let flaky = Tool::new("flaky", "", move || match attempts.fetch_add(1, Ordering::Relaxed) {
        0 | 1 => Err(ToolError::of_kind(ToolErrorKind::Unavailable)),
        _ => Ok("fine"),
    });
    let shown = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&shown);
    let policy = FailurePolicy::custom(move |settled| {
        count.fetch_add(1, Ordering::Relaxed);
        if settled.outcome.is_success() { Decision::Continue } else { Decision::Abort }
    });
    let tools = ToolSet::new().with(flaky.read_only().retries(2)).with(works());
    Case::new(tools).set(|b| b.policy(FailurePolicy::abort_on_first())).check(|case| {
        let report = case.run(&turn([("flaky", ""), ("works", "")]));
        assert!(report.all_succeeded() && report.aborted().is_none());
        assert_eq!(report[0].attempts, 3);
        let report = case.run_with(&turn([("flaky", ""), ("works", "")]), |run| run.policy(policy));
        assert!(report.all_succeeded());
        assert_eq!(shown.load(Ordering::Relaxed), 2, "asked once a call");
    });
}

#[test]
fn fault_076_a_policy_that_panics_aborts_the_batch_and_is_asked_no_more() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let policy = FailurePolicy::custom(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        panic!("what now")
    });
    let tools = ToolSet::new().with(works()).with(polite());
    Case::new(tools).parallel(2).check(|case| {
        let order = ["polite", "works", "polite", "works"];
        let report = case.run_with(&turn(order.map(|name| (name, ""))), |run| run.policy(policy));
        let abort = report.aborted().unwrap();
        assert_eq!((abort.index, abort.satisfied), (None, false));
        assert_eq!(abort.cause, "the failure policy panicked");
        assert!(matches!(report[0].outcome.name(), "cancelled" | "aborted"));
        assert_eq!(names(&report)[1..], ["succeeded", "aborted", "aborted"]);
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert!(report.wall() < ms(500) + slack(), "{:?}", report.wall());
    });
}

#[test]
fn fault_077_an_abort_says_of_a_mutating_call_that_it_may_have_taken_effect() {
    let begun = Begun::default();
    let tools = ToolSet::new()
        .with(begun.polite("sends"))
        .with(begun.polite("reads").read_only())
        .with(begun.polite("sets").idempotent())
        .with(begun.fails_after(3));
    Case::new(tools).set(|b| b.policy(FailurePolicy::abort_on_first())).check(|case| {
        let order = ["sends", "reads", "sets", "fails"];
        let report = case.run(&turn(order.map(|name| (name, ""))));
        for index in 0..3 {
            assert_eq!(report[index].outcome, cancelled_by(3, "fails"));
            assert!(report[index].outcome.effect_unknown());
        }
        let sent = told(&report, 0);
        assert!(sent.contains("may have taken effect, do not repeat it"), "{sent}");
        assert!(told(&report, 1).contains("it only reads"));
        assert!(told(&report, 2).contains("is safe"));
    });
}

#[test]
fn fault_078_a_budget_of_failures_trips_at_the_one_after_it() {
    let tools = ToolSet::new().with(works()).with(fails());
    Case::new(tools).parallel(1).check(|case| {
        let order = ["fails", "works", "fails", "works", "fails", "works", "works"];
        let turn = turn(order.map(|name| (name, "")));
        for (budget, cause) in [(0, Some(0)), (1, Some(2)), (2, Some(4)), (3, None)] {
            let report = case.run_with(&turn, |run| run.policy(FailurePolicy::abort_after(budget)));
            let aborted = report.aborted().map(|abort| abort.index.unwrap());
            assert_eq!(aborted, cause, "of {budget}");
            let run = report.calls().iter().filter(|call| call.attempts > 0).count();
            assert_eq!(run, cause.map_or(order.len(), |cause| cause + 1), "of {budget}");
        }
    });
}

#[test]
fn fault_079_a_turn_in_which_all_fail_is_a_report_and_no_error() {
    Case::new(ToolSet::new().with(fails())).check(|case| {
        let report = case.run(&repeat("fails", 20));
        assert_eq!(report.failures().count(), 20);
        assert!(report.results().all(|result| result.content.to_text() == "broken"));
        assert!(report.into_result().is_ok());
        let report =
            case.run_with(&repeat("fails", 20), |run| run.policy(FailurePolicy::abort_on_first()));
        assert_eq!(report.failures().count(), 20);
        assert!(report.into_result().unwrap_err().is_aborted());
    });
}
