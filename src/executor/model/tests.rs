//! The executor's threads under every order of their steps that chance finds.
//!
//! `RUSTFLAGS="--cfg shuttle" cargo test --lib model::` runs them: the executor as it is, on
//! modelled locks, channels and threads. A step that waits for something that never comes is found
//! as a deadlock, and so is a lost wakeup. `TOOLPOOL_MODEL_RUNS` says how many orders are tried.

use std::sync::Arc;
use std::time::Duration;

use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::thread;

use crate::executor::lanes::{BlockingLane, LaneSettings, Task};
use crate::{
    CallContext, CallReport, CancelToken, Executor, FailurePolicy, NotStarted, Outcome, Report,
    Tool, ToolCall, ToolError, ToolSet, Turn,
};

fn check(model: impl Fn() + Send + Sync + 'static) {
    let runs = std::env::var("TOOLPOOL_MODEL_RUNS").ok().and_then(|runs| runs.parse().ok());
    let runs = runs.unwrap_or(5_000);
    let model = Arc::new(model);
    let other = Arc::clone(&model);
    shuttle::check_random(move || model(), runs);
    shuttle::check_pct(move || other(), runs, 3);
}

fn lane() -> Arc<BlockingLane> {
    BlockingLane::new(LaneSettings {
        keep_alive: Duration::from_secs(1),
        stack_size: 1 << 16,
        priority: None,
    })
}

fn errand(done: &Arc<AtomicUsize>) -> Task {
    let done = Arc::clone(done);
    Task::Errand(Box::new(move || {
        done.fetch_add(1, Ordering::SeqCst);
    }))
}

fn until(reached: impl Fn() -> bool) {
    while !reached() {
        thread::yield_now();
    }
}

#[test]
fn fault_047_no_task_is_lost_between_an_idle_thread_that_leaves_and_a_hand_off() {
    check(|| {
        let lane = lane();
        let done = Arc::new(AtomicUsize::new(0));
        assert!(lane.submit(vec![errand(&done)]).is_empty());
        let other = thread::spawn({
            let (lane, done) = (Arc::clone(&lane), Arc::clone(&done));
            move || {
                for _ in 0..2 {
                    assert!(lane.submit(vec![errand(&done)]).is_empty());
                    thread::yield_now();
                }
            }
        });
        for tasks in 1..=2 {
            // What it announces may come to nothing.
            lane.call_ahead(2 * tasks);
            assert!(lane.submit(vec![errand(&done)]).is_empty());
        }
        lane.call_ahead(2);
        other.join().unwrap();
        until(|| done.load(Ordering::SeqCst) == 5);
        // Each leaves by itself when it was idle for a while.
        until(|| lane.threads() == 0);
        lane.close();
        assert!(lane.submit(vec![errand(&done)]).is_empty());
        until(|| lane.threads() == 0);
        assert_eq!(done.load(Ordering::SeqCst), 6);
    });
}

/// Two calls and the executor for them; what started is counted.
fn executor(cap: usize, started: &Arc<AtomicUsize>) -> Executor {
    let started = Arc::clone(started);
    let works = Tool::new("works", "", move |(): (), cx: &CallContext| {
        started.fetch_add(1, Ordering::SeqCst);
        thread::yield_now();
        cx.check()?;
        Ok(())
    });
    let fails = Tool::new("fails", "", || -> Result<(), ToolError> { Err("as asked".into()) });
    let tools = ToolSet::new().with(works).with(fails);
    let built =
        Executor::builder(tools).max_parallel(cap).keep_alive(Duration::from_secs(1)).build();
    built.unwrap()
}

fn turn(names: &[&str]) -> Turn {
    Turn::from_calls(names.iter().map(|name| ToolCall::new("id", *name, "")))
}

/// Threads of a model must be over before it is.
fn rest(executor: Executor) {
    until(|| {
        let stats = executor.stats();
        (stats.running, stats.queued, stats.abandoned, stats.batches) == (0, 0, 0, 0)
    });
    let core = Arc::clone(&executor.core);
    drop(executor);
    until(|| core.blocking.threads() == 0);
}

fn cancelled_truly(report: &Report, started: usize) {
    let ran = report.calls().iter().filter(|call| call.started.is_some()).count();
    assert_eq!(ran, started, "{report:?}");
    for call in report {
        match &call.outcome {
            Outcome::Succeeded(_) => assert!(call.started.is_some()),
            Outcome::Cancelled { started, .. } => assert_eq!(*started, call.started.is_some()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn fault_056_a_cancel_that_races_starts_settles_each_call_once() {
    check(|| {
        let started = Arc::new(AtomicUsize::new(0));
        let executor = executor(1, &started);
        let token = CancelToken::new();
        let canceller = thread::spawn({
            let token = token.clone();
            move || token.cancel()
        });
        let report = executor.turn(&turn(&["works", "works"])).cancel(&token).run();
        // The cancel may come after its batch.
        let at_end = started.load(Ordering::SeqCst);
        cancelled_truly(&report, at_end);
        canceller.join().unwrap();
        rest(executor);
        assert_eq!(started.load(Ordering::SeqCst), at_end, "a tool started after its batch");
    });
}

#[test]
fn fault_044_two_turns_at_a_cap_of_one_end_both() {
    check(|| {
        let started = Arc::new(AtomicUsize::new(0));
        let executor = executor(1, &started);
        let other = thread::spawn({
            let executor = executor.clone();
            move || executor.run(&turn(&["works", "fails"]))
        });
        let report = executor.run(&turn(&["works", "works"]));
        assert!(report.all_succeeded());
        let names: Vec<_> =
            other.join().unwrap().calls().iter().map(|call| call.outcome.name()).collect();
        assert_eq!(names, ["succeeded", "failed"]);
        assert_eq!(started.load(Ordering::SeqCst), 3);
        rest(executor);
    });
}

/// What a run is given here: asks for figures when it is dropped, and so for the lock.
struct AsksAtLast(Executor);

impl Drop for AsksAtLast {
    fn drop(&mut self) {
        self.0.stats();
    }
}

#[test]
fn fault_006_what_a_run_was_given_is_dropped_without_the_lock() {
    check(|| {
        let executor = executor(2, &Arc::new(AtomicUsize::new(0)));
        let token = CancelToken::new();
        let other = thread::spawn({
            let executor = executor.clone();
            move || executor.run(&turn(&["works", "fails"]))
        });
        let canceller = thread::spawn({
            let token = token.clone();
            move || token.cancel()
        });
        let asks = AsksAtLast(executor.clone());
        drop(executor.turn(&turn(&["works"])).context(asks).cancel(&token).run());
        canceller.join().unwrap();
        drop(other.join().unwrap());
        rest(executor);
    });
}

#[test]
fn fault_069_an_abort_that_races_results_leaves_no_call_open() {
    check(|| {
        let started = Arc::new(AtomicUsize::new(0));
        let executor = executor(2, &started);
        let turn = turn(&["works", "fails", "works"]);
        let report = executor.turn(&turn).policy(FailurePolicy::abort_on_first()).run();
        assert_eq!(report.calls().len(), 3);
        assert_eq!(report[1].outcome.name(), "failed");
        assert_eq!(report.aborted().and_then(|abort| abort.index), Some(1));
        rest(executor);
    });
}

/// A turn that races what closes its executor; nothing starts once that has returned.
fn check_closing(close: fn(&Executor) -> bool, check_report: fn(&Report)) {
    check(move || {
        let started = Arc::new(AtomicUsize::new(0));
        let executor = executor(1, &started);
        let runner = thread::spawn({
            let executor = executor.clone();
            move || executor.run(&turn(&["works", "works"]))
        });
        assert!(close(&executor));
        let at_end = started.load(Ordering::SeqCst);
        check_report(&runner.join().unwrap());
        assert_eq!(started.load(Ordering::SeqCst), at_end, "a tool started after it");
        rest(executor);
    });
}

#[test]
fn fault_141_a_shutdown_that_races_a_turn_waits_for_it_and_answers_it() {
    let close = |executor: &Executor| executor.shutdown(Duration::from_secs(100));
    check_closing(close, |report| {
        for call in report {
            let fine = match &call.outcome {
                Outcome::Succeeded(_) | Outcome::Cancelled { started: true, .. } => true,
                Outcome::NotStarted(NotStarted::Shutdown) => call.started.is_none(),
                _ => false,
            };
            assert!(fine, "{call:?}");
        }
    });
}

#[test]
fn fault_141_a_drain_that_races_a_turn_waits_for_all_of_it_or_for_nothing() {
    let close = |executor: &Executor| executor.drain(Duration::from_secs(100));
    check_closing(close, |report| {
        let shut = |call: &CallReport| call.outcome == Outcome::NotStarted(NotStarted::Shutdown);
        assert!(report.all_succeeded() || report.calls().iter().all(shut), "{report:?}");
    });
}

#[test]
fn fault_145_a_batch_that_is_dropped_while_it_runs_is_cleared_away() {
    check(|| {
        let started = Arc::new(AtomicUsize::new(0));
        let executor = executor(1, &started);
        let mut batch = executor.begin();
        for call in turn(&["works", "works"]).calls() {
            batch.push(call.clone());
        }
        drop(batch);
        rest(executor);
    });
}
