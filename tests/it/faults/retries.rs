//! Attempts after the first: which calls get one, and what limits them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use toolpool::{Outcome, Output, Retry, Tool, ToolError, ToolErrorKind, ToolSet};

use super::harness::{Case, Gate, eventually, ms, names, repeat, slack, told, turn};
use super::props::MINUTE;

/// Is unavailable the first `n` times.
fn flaky(n: u32) -> (Tool<()>, Arc<AtomicU32>) {
    let attempts = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&attempts);
    let tool = Tool::new("flaky", "", move || match count.fetch_add(1, Ordering::Relaxed) {
        at if at < n => Err(ToolError::new(ToolErrorKind::Unavailable, format_args!("down {at}"))),
        at => Ok(at),
    });
    (tool, attempts)
}

#[test]
fn fault_026_the_third_of_three_attempts_succeeds_inside_the_one_timeout() {
    let (tool, attempts) = flaky(2);
    let retry = Retry::times(2).backoff(ms(20)).jitter(0.0);
    let tools = ToolSet::new().with(tool.read_only().retry(retry).timeout(MINUTE));
    Case::new(tools).check(|case| {
        let report = case.run(&repeat("flaky", 1));
        assert_eq!(report[0].outcome, Outcome::Succeeded(Output::Json { text: "2".into() }));
        assert_eq!((report[0].attempts, attempts.load(Ordering::Relaxed)), (3, 3));
        assert!(report[0].run_time() >= ms(20 + 40), "waits count: {:?}", report[0].run_time());
    });
    // The timeout is for all attempts together: backoffs of 0.2, 0.4, 0.8, 1.6 … s don't fit.
    let (tool, _) = flaky(u32::MAX);
    let retry = Retry::times(50).backoff(ms(200)).jitter(0.0);
    let tools = ToolSet::new().with(tool.read_only().retry(retry).timeout(ms(2000)));
    Case::new(tools).check(|case| {
        let report = case.run(&repeat("flaky", 1));
        assert_eq!(names(&report), ["failed"]);
        assert!((2..=4).contains(&report[0].attempts), "{:?}", report[0]);
        assert!(report.wall() < ms(2000) + slack(), "{:?}", report.wall());
    });
}

#[test]
fn fault_027_a_retry_that_wouldnt_fit_isnt_made_and_the_last_error_stays() {
    let check = |tool: Tool<()>, deadline| {
        Case::new(ToolSet::new().with(tool)).deadline(deadline).check(|case| {
            let report = case.run(&repeat("flaky", 1));
            let Outcome::Failed(error) = &report[0].outcome else { panic!("{report:?}") };
            assert_eq!(error.model_text(), "down 0");
            let details = error.operator_text();
            assert!(details.contains("retry budget exhausted by deadline"), "{details}");
            assert!(details.contains("down 0"), "{details}");
            assert_eq!(report[0].attempts, 1);
            assert!(report.wall() < slack(), "not waited for: {:?}", report.wall());
        });
    };
    let retry = Retry::times(3).backoff(MINUTE).max_backoff(MINUTE).jitter(0.0);
    check(flaky(9).0.read_only().retry(retry.clone()), Duration::from_secs(30));
    check(flaky(9).0.read_only().retry(retry).timeout(ms(5000)), MINUTE * 10);
}

#[test]
fn fault_028_a_mutating_call_is_never_made_twice_on_our_account() {
    let gate = Gate::default();
    let starts = Arc::new(AtomicU32::new(0));
    let counts = |name: &str, hang: bool| {
        let (starts, gate) = (Arc::clone(&starts), gate.clone());
        Tool::new(name, "", move || {
            starts.fetch_add(1, Ordering::Relaxed);
            if hang {
                gate.wait();
            }
            Err::<(), _>(ToolError::of_kind(ToolErrorKind::Unavailable))
        })
        .retries(5)
    };
    let tools = ToolSet::new()
        .with(counts("hangs", true).timeout(ms(50)))
        .with(counts("reads", true).timeout(ms(50)).read_only())
        .with(counts("fails", false));
    Case::gated(tools, &gate).check(|case| {
        let report = case.run(&turn([("hangs", ""), ("fails", ""), ("reads", "")]));
        assert_eq!(names(&report), ["timed_out", "failed", "timed_out"]);
        assert!(report.calls().iter().all(|call| call.attempts == 1));
        assert!(told(&report, 0).contains("may still complete; do not repeat it"));
        assert!(report[0].outcome.effect_unknown());
        gate.open();
        assert!(eventually(|| case.stats().late == 2));
        thread::sleep(ms(50));
        assert_eq!(starts.load(Ordering::Relaxed), 3, "an attempt that ran is never repeated");
    });
}

#[test]
fn fault_029_a_panic_is_retried_only_where_the_policy_says_so() {
    let panics = |name: &str| {
        let attempts = AtomicU32::new(0);
        Tool::new(name, "", move || match attempts.fetch_add(1, Ordering::Relaxed) {
            0 => panic!("at first"),
            _ => Ok("fine"),
        })
    };
    let again = Retry::times(3).backoff(ms(1)).on_panic(true);
    let tools = ToolSet::new()
        .with(panics("plain").read_only().retries(3))
        .with(panics("told").read_only().retry(again.clone()))
        .with(panics("mutates").retry(again));
    Case::new(tools).check(|case| {
        let report = case.run(&turn([("plain", ""), ("told", ""), ("mutates", "")]));
        assert_eq!(names(&report), ["panicked", "succeeded", "panicked"]);
        let attempts: Vec<_> = report.calls().iter().map(|call| call.attempts).collect();
        assert_eq!(attempts, [1, 2, 1]);
    });
}
