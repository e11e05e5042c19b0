//! How executors, batches and processes end, and where a turn can be run from.
//!
//! Not tested: a library that is unloaded while its executor's threads run, and a build with
//! `panic = "abort"`. `run` on the workers of an async runtime is tested in `workers`.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use toolpool::{
    CallContext, CancelToken, Event, EventKind, Executor, NotStarted, Outcome, Report, Retry, Tool,
    ToolCall, ToolError, ToolErrorKind, ToolSet, Turn,
};

use super::harness::{
    Case, Gate, alone, check_report, eventually, ms, names, repeat, slack, told, turn,
};
use super::props::{MINUTE, hangs, quick};
use crate::machine;

/// Sleeps for a minute, or until it is told to stop.
fn polite() -> Tool<()> {
    Tool::new("polite", "", |(): (), cx: &CallContext| Ok(cx.sleep(MINUTE)?))
}

/// Whether `run` took no longer than the slack.
fn at_once<T>(run: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let value = run();
    assert!(began.elapsed() < slack(), "{:?}", began.elapsed());
    value
}

#[test]
fn fault_141_dropping_the_last_handle_doesnt_wait_for_what_hangs() {
    let _shared = machine::shared();
    let gate = Gate::default();
    let tools = ToolSet::new().with(hangs(&gate).timeout(ms(50))).with(polite().read_only());
    let executor = Executor::new(tools).unwrap();
    assert_eq!(names(&executor.run(&repeat("hangs", 3))), ["timed_out"; 3]);
    let mut batch = executor.begin();
    batch.push(ToolCall::new("1", "polite", ""));
    assert!(eventually(|| executor.stats().running == 1));
    at_once(|| drop(executor));
    at_once(|| drop(batch));
    gate.open();
}

#[test]
fn fault_141_a_shutdown_ends_every_run_with_a_result_for_each_call() {
    Case::new(ToolSet::new().with(polite())).parallel(4).shuts_down().check(|case| {
        let turn = repeat("polite", 8);
        thread::scope(|scope| {
            let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| case.run(&turn))).collect();
            assert!(eventually(|| case.stats().running == 4 && case.stats().queued == 28));
            assert!(at_once(|| case.executor.shutdown(MINUTE)), "all had ended");
            let reports: Vec<Report> = runs.into_iter().map(|run| run.join().unwrap()).collect();
            let outcomes: Vec<_> = reports.iter().flat_map(names).collect();
            let count = |name| outcomes.iter().filter(|other| **other == name).count();
            assert_eq!((count("cancelled"), count("shutdown")), (4, 28), "{outcomes:?}");
        });
    });
}

#[test]
fn fault_141_a_shutdown_takes_no_longer_than_it_is_given() {
    let gate = Gate::default();
    let tools = ToolSet::new().with(hangs(&gate).grace(ms(50)));
    Case::gated(tools, &gate).shuts_down().check(|case| {
        let turn = repeat("hangs", 3);
        thread::scope(|scope| {
            let run = scope.spawn(|| case.run(&turn));
            assert!(eventually(|| case.stats().running == 3));
            let began = Instant::now();
            assert!(!case.executor.shutdown(ms(200)), "three threads are still out");
            assert!(began.elapsed() >= ms(200) && began.elapsed() < ms(200) + slack());
            let report = run.join().unwrap();
            assert!(report.wall() < began.elapsed() + slack());
            for call in &report {
                assert_eq!(call.outcome, Outcome::Cancelled { started: true, abort: None });
            }
        });
        assert_eq!(case.stats().abandoned, 3);
    });
}

#[test]
fn fault_141_a_shutdown_waits_for_a_call_that_waits_for_a_nested_turn() {
    let (tried, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let flaky = {
        let tried = Arc::clone(&tried);
        Tool::new("flaky", "", move || -> Result<(), _> {
            tried.store(true, Ordering::SeqCst);
            Err(ToolError::of_kind(ToolErrorKind::Unavailable))
        })
    };
    let nests = {
        let ended = Arc::clone(&ended);
        Tool::new("nests", "", move |(): (), cx: &CallContext| {
            let report = cx.run(&repeat("flaky", 1));
            thread::sleep(ms(100));
            ended.store(true, Ordering::SeqCst);
            Ok(report[0].outcome.name())
        })
    };
    let patient = Retry::times(1).backoff(MINUTE).max_backoff(MINUTE).jitter(0.0);
    let tools = ToolSet::new().with(flaky.read_only().retry(patient).timeout(MINUTE * 5));
    let case = Case::new(tools.with(nests)).deadline(MINUTE * 9).with_unseen_runs().shuts_down();
    case.check(|case| {
        thread::scope(|scope| {
            scope.spawn(|| case.run(&repeat("nests", 1)));
            // Nothing runs while the nested call waits for its second attempt.
            let waits = || tried.load(Ordering::SeqCst) && case.stats().running == 0;
            assert!(eventually(waits));
            assert!(case.executor.shutdown(MINUTE));
            assert!(ended.load(Ordering::SeqCst), "all had ended");
        });
    });
}

#[test]
fn fault_142_the_last_handle_may_be_dropped_inside_a_tool() {
    let own: Arc<Mutex<Option<Executor>>> = Arc::default();
    let (gate, dropped) = (Gate::default(), Arc::new(AtomicBool::new(false)));
    let drops = {
        let (own, gate, dropped) = (Arc::clone(&own), gate.clone(), Arc::clone(&dropped));
        Tool::new("drops", "", move || {
            gate.wait();
            let executor = own.lock().unwrap().take();
            drop(executor);
            dropped.store(true, Ordering::Relaxed);
            Ok(())
        })
    };
    let executor = Executor::new(ToolSet::new().with(drops.timeout(ms(50)))).unwrap();
    *own.lock().unwrap() = Some(executor.clone());
    assert_eq!(names(&executor.run(&repeat("drops", 1))), ["timed_out"]);
    drop(executor);
    gate.open();
    assert!(eventually(|| dropped.load(Ordering::Relaxed)));
}

#[test]
fn fault_142_a_shutdown_doesnt_wait_for_the_call_it_is_called_from() {
    let own: Arc<Mutex<Option<Executor>>> = Arc::default();
    let shuts = {
        let own = Arc::clone(&own);
        Tool::new("shuts", "", move || {
            let executor = own.lock().unwrap().clone().ok_or("no executor")?;
            Ok(executor.shutdown(MINUTE))
        })
    };
    let case = Case::new(ToolSet::new().with(shuts).with(polite())).parallel(2).shuts_down();
    case.check(|case| {
        *own.lock().unwrap() = Some(case.executor.clone());
        let report = case.run(&turn([("shuts", ""), ("polite", ""), ("polite", "")]));
        // Its own result comes within the grace that it is left.
        assert_eq!(told(&report, 0), "true", "{report:?}");
        assert!(matches!(report[1].outcome.name(), "cancelled" | "shutdown"));
        assert_eq!(report[2].outcome, Outcome::NotStarted(NotStarted::Shutdown));
        assert!(report.wall() < slack(), "{:?}", report.wall());
        *own.lock().unwrap() = None;
    });
}

#[test]
fn fault_142_a_shutdown_doesnt_wait_for_the_calls_that_its_own_is_nested_in() {
    let own: Arc<Mutex<Option<Executor>>> = Arc::default();
    let ended: Arc<Mutex<Option<(bool, Duration)>>> = Arc::default();
    let shuts = {
        let (own, ended) = (Arc::clone(&own), Arc::clone(&ended));
        Tool::new("shuts", "", move || {
            let executor = own.lock().unwrap().clone().ok_or("no executor")?;
            let began = Instant::now();
            let ended_all = executor.shutdown(MINUTE);
            *ended.lock().unwrap() = Some((ended_all, began.elapsed()));
            Ok(())
        })
    };
    let nests = |name: &str, of: &'static str| {
        Tool::new(name, "", move |(): (), cx: &CallContext| Ok(told(&cx.run(&repeat(of, 1)), 0)))
    };
    let tools = ToolSet::new().with(shuts).with(nests("inner", "shuts"));
    let tools = tools.with(nests("outer", "inner"));
    for name in ["inner", "outer"] {
        let executor = Executor::builder(tools.clone()).grace(MINUTE).build().unwrap();
        *own.lock().unwrap() = Some(executor.clone());
        let _ = executor.run(&repeat(name, 1));
        let told = ended.lock().unwrap().take();
        let (ended_all, took) = told.unwrap();
        assert!(ended_all && took < slack(), "{name}: {ended_all} after {took:?}");
        *own.lock().unwrap() = None;
    }
}

#[test]
fn fault_143_after_a_shutdown_nothing_runs_and_every_call_is_answered() {
    let keyed = Tool::new("keyed", "", || Ok(())).writes(|(): &()| "key");
    let tools = ToolSet::new().with(quick()).with(keyed);
    Case::new(tools).shuts_down().check(|case| {
        assert!(case.run(&repeat("quick", 2)).all_succeeded());
        assert!(at_once(|| case.executor.shutdown(MINUTE)));
        assert!(at_once(|| case.executor.shutdown(MINUTE)), "twice is as good as once");
        let clone = case.executor.clone();
        assert!(clone.shutdown(Duration::ZERO));
        let turn = turn([("quick", ""), ("keyed", ""), ("none", ""), ("quick", "")]);
        let report = at_once(|| case.run(&turn));
        assert_eq!(names(&report), ["shutdown", "shutdown", "unknown_tool", "shutdown"]);
        assert!(case.run(&Turn::from_calls([])).calls().is_empty());
        let mut batch = case.executor.begin();
        batch.push(turn.calls()[0].clone());
        assert_eq!(names(&at_once(|| batch.finish(&turn))), names(&report));
    });
}

#[test]
fn fault_141_a_drain_lets_what_runs_end_and_begins_nothing_else() {
    let gate = Gate::default();
    let nests = {
        let gate = gate.clone();
        Tool::new("nests", "", move |(): (), cx: &CallContext| {
            gate.wait();
            Ok(cx.run(&repeat("quick", 2)).all_succeeded())
        })
    };
    let tools = ToolSet::new().with(nests).with(quick());
    Case::new(tools).parallel(1).with_unseen_runs().shuts_down().check(|case| {
        thread::scope(|scope| {
            let run = scope.spawn(|| case.run(&repeat("nests", 2)));
            assert!(eventually(|| case.stats().running == 1 && case.stats().queued == 1));
            let began = Instant::now();
            assert!(!case.executor.drain(ms(50)), "it goes on");
            assert!(began.elapsed() >= ms(50));
            assert_eq!(names(&at_once(|| case.run(&repeat("quick", 1)))), ["shutdown"]);
            let drained = scope.spawn(|| case.executor.drain(MINUTE));
            thread::sleep(ms(20));
            gate.open();
            assert!(drained.join().unwrap());
            let report = run.join().unwrap();
            assert_eq!((told(&report, 0), told(&report, 1)), ("true".into(), "true".into()));
        });
        assert!(at_once(|| case.executor.shutdown(MINUTE)));
    });
}

/// Leaves behind tools that never return: one that sleeps, one that spins.
fn leave_hung_tools() {
    let spins = Tool::new("spins", "", || -> Result<(), _> {
        loop {
            std::hint::spin_loop();
        }
    });
    let parks = Tool::new("parks", "", || -> Result<(), _> {
        loop {
            thread::park();
        }
    });
    let tools = ToolSet::new().with(spins.timeout(ms(50)).compute()).with(parks.timeout(ms(50)));
    let executor = Executor::new(tools).unwrap();
    let report = executor.run(&turn([("spins", ""), ("parks", "")]));
    assert_eq!(names(&report), ["timed_out", "timed_out"]);
}

#[test]
fn fault_144_a_program_ends_at_once_though_tools_hang() {
    let Some(run) = alone(fault_144_a_program_ends_at_once_though_tools_hang) else {
        return leave_hung_tools();
    };
    assert!(run.status.success(), "{:?} {}", run.status, run.stderr);
    assert!(run.took < Duration::from_secs(5) + slack(), "{:?}", run.took);
}

#[test]
fn fault_144_a_program_that_fails_says_so_though_tools_hang() {
    let Some(run) = alone(fault_144_a_program_that_fails_says_so_though_tools_hang) else {
        leave_hung_tools();
        panic!("the test fails, and so does its process");
    };
    assert_eq!(run.status.code(), Some(101), "{}", run.stderr);
    assert!(run.took < Duration::from_secs(5) + slack(), "{:?}", run.took);
}

#[test]
fn fault_145_a_caller_that_panics_over_an_open_batch_cancels_it() {
    let told_to_stop = Arc::new(AtomicUsize::new(0));
    let waits = {
        let told_to_stop = Arc::clone(&told_to_stop);
        Tool::new("waits", "", move |(): (), cx: &CallContext| {
            let stopped = cx.sleep(MINUTE).is_err();
            told_to_stop.fetch_add(usize::from(stopped), Ordering::Relaxed);
            Ok(())
        })
    };
    let tools = ToolSet::new().with(waits.read_only()).with(quick());
    Case::new(tools).with_unseen_runs().check(|case| {
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let mut batch = case.executor.begin();
            repeat("waits", 3).calls().iter().for_each(|call| batch.push(call.clone()));
            batch.push(ToolCall::new("4", "quick", ""));
            assert!(eventually(|| case.stats().running == 3));
            panic!("between two events of the stream");
        }));
        assert!(panicked.is_err());
        assert!(eventually(|| told_to_stop.load(Ordering::Relaxed) == 3));
        assert!(case.run(&repeat("quick", 4)).all_succeeded());
    });
}

#[test]
fn fault_145_code_of_the_callers_that_panics_inside_run_is_an_answer_too() {
    let approves = quick().needs_approval();
    let tools = ToolSet::new().with(approves).with(Tool::new("plain", "", || Ok(())));
    Case::new(tools).check(|case| {
        let both = turn([("quick", ""), ("plain", "")]);
        let report = case.run_with(&both, |run| run.approval(|_| panic!("who knows")));
        assert_eq!(names(&report), ["denied", "succeeded"]);
        let hangup = CancelToken::new();
        let _guard = hangup.on_cancel(|| panic!("while cancelling"));
        hangup.cancel();
        let report = case.run_with(&both, |run| run.cancel(&hangup));
        assert_eq!(names(&report), ["denied", "cancelled"]);
    });

    let captures = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&captures);
    let executor = Executor::builder(ToolSet::new().with(quick())).around(move || {
        assert_ne!(count.fetch_add(1, Ordering::Relaxed), 0, "at first");
        |_cx: &CallContext, run: &mut dyn FnMut()| run()
    });
    let executor = executor.build().unwrap();
    let turn = repeat("quick", 2);
    let report = executor.run(&turn);
    check_report(&turn, &report);
    assert_eq!(names(&report), ["aborted"; 2], "without its hook a handler isn't run");
    assert!(executor.run(&turn).all_succeeded());
    assert_eq!(executor.stats().batches, 0);
}

#[test]
fn fault_145_a_hook_that_panics_or_doesnt_run_the_call_fails_that_call() {
    let executor = Executor::builder(ToolSet::new().with(quick()).with(polite())).around(|| {
        |cx: &CallContext, run: &mut dyn FnMut()| match cx.index() {
            0 => panic!("before"),
            1 => {
                run();
                panic!("after");
            }
            2 => {}
            3 => {
                run();
                run();
            }
            _ => run(),
        }
    });
    let executor = executor.build().unwrap();
    let turn = repeat("quick", 5);
    let report = executor.run(&turn);
    check_report(&turn, &report);
    assert_eq!(names(&report), ["panicked", "panicked", "failed", "succeeded", "succeeded"]);
}

static SHARED: OnceLock<Executor> = OnceLock::new();

#[test]
fn fault_146_an_executor_in_a_static_works_and_lets_the_program_end() {
    let Some(run) = alone(fault_146_an_executor_in_a_static_works_and_lets_the_program_end) else {
        let shared = || SHARED.get_or_init(|| Executor::new(ToolSet::new().with(quick())).unwrap());
        let runs: Vec<_> = (0..4)
            .map(|_| thread::spawn(move || shared().run(&repeat("quick", 10)).all_succeeded()))
            .collect();
        assert!(runs.into_iter().all(|run| run.join().unwrap()));
        return;
    };
    assert!(run.status.success(), "{:?} {}", run.status, run.stderr);
    assert!(run.took < Duration::from_secs(5) + slack(), "idle threads hold it up: {:?}", run.took);
}

thread_local! {
    static STACKED: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

#[test]
fn fault_147_run_on_a_rayon_worker_blocks_it_and_stacks_nothing_on_it() {
    let naps = Tool::new("naps", "", || Ok(thread::sleep(ms(30))));
    Case::new(ToolSet::new().with(naps)).check(|case| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let most = AtomicUsize::new(0);
        pool.scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|_| {
                    let depth = STACKED.with_borrow_mut(|jobs| {
                        jobs.push("run");
                        jobs.len()
                    });
                    most.fetch_max(depth, Ordering::Relaxed);
                    assert!(case.run(&repeat("naps", 3)).all_succeeded());
                    STACKED.with_borrow_mut(Vec::pop);
                });
            }
        });
        assert_eq!(most.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn fault_147_run_on_a_worker_of_the_pool_that_its_tools_need() {
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let pool = Arc::new(pool);
        let adds = Tool::new("adds", "", || Ok(rayon::join(|| 1, || 2).0)).compute();
        // One of its threads, or all of them, run a turn of their own.
        let splits = Tool::new("splits", "", |(): (), cx: &CallContext| {
            let turn = repeat("adds", 2);
            let (left, right) = rayon::join(|| cx.run(&turn), || cx.run(&turn));
            Ok(left.all_succeeded() && right.all_succeeded())
        });
        let case = Case::new(ToolSet::new().with(adds).with(splits.compute()));
        case.set(|b| b.rayon_pool(Arc::clone(&pool))).check(|case| {
            let report = pool.install(|| case.run(&repeat("adds", 4)));
            assert!(report.all_succeeded(), "{report:?}");
            let report = pool.install(|| case.run(&repeat("splits", 2)));
            assert_eq!([told(&report, 0), told(&report, 1)], ["true", "true"]);
        });
    }
}

#[test]
fn fault_147_run_inside_a_scope_and_inside_another_executors_tool() {
    let inner = Executor::new(ToolSet::new().with(quick())).unwrap();
    let outer = {
        let inner = inner.clone();
        Tool::new("outer", "", move || {
            let turn = repeat("quick", 3);
            let report = inner.run(&turn);
            check_report(&turn, &report);
            Ok(report.all_succeeded())
        })
    };
    let compute = outer.clone().compute();
    let tools = ToolSet::new().with(outer);
    Case::new(tools).parallel(2).check(|case| {
        let report = case.run(&repeat("outer", 6));
        assert!((0..6).all(|index| told(&report, index) == "true"));
        let all = thread::scope(|scope| {
            let runs: Vec<_> =
                (0..4).map(|_| scope.spawn(|| case.run(&repeat("outer", 2)))).collect();
            runs.into_iter().all(|run| run.join().unwrap().all_succeeded())
        });
        assert!(all);
    });
    Case::new(ToolSet::new().with(compute)).set(|b| b.rayon_threads(1)).check(|case| {
        let report = case.run(&repeat("outer", 3));
        assert!((0..3).all(|index| told(&report, index) == "true"));
    });
    assert_eq!(inner.stats().running, 0);
}

/// Runs a turn when its thread ends.
struct RunsAtTheEnd {
    executor: Executor,
    report: crossbeam_channel::Sender<Report>,
}

impl Drop for RunsAtTheEnd {
    fn drop(&mut self) {
        let report = self.executor.run(&repeat("quick", 3));
        self.report.send(report).unwrap();
    }
}

thread_local! {
    static AT_THE_END: RefCell<Option<RunsAtTheEnd>> = const { RefCell::new(None) };
}

#[test]
fn fault_147_run_while_a_threads_locals_are_dropped() {
    Case::new(ToolSet::new().with(quick()).with(polite())).with_unseen_runs().check(|case| {
        let (report, reports) = crossbeam_channel::unbounded();
        let executor = case.executor.clone();
        let ends = thread::spawn(move || {
            AT_THE_END.set(Some(RunsAtTheEnd { executor, report }));
        });
        ends.join().unwrap();
        let report = reports.recv().unwrap();
        assert!(report.all_succeeded());
        case.note(&repeat("quick", 3), &report);
    });
}

#[cfg(unix)]
#[test]
fn fault_148_the_first_interrupt_cancels_the_batch_and_the_second_ends_the_program() {
    use std::os::unix::process::ExitStatusExt;

    use signal_hook::consts::SIGINT;
    use signal_hook::flag;
    use signal_hook::iterator::Signals;
    use signal_hook::low_level::raise;

    let Some(run) =
        alone(fault_148_the_first_interrupt_cancels_the_batch_and_the_second_ends_the_program)
    else {
        let (seen, hangup) = (Arc::new(AtomicBool::new(false)), CancelToken::new());
        // Armed before the one that sets it: a second interrupt does what it always does.
        flag::register_conditional_default(SIGINT, Arc::clone(&seen)).unwrap();
        flag::register(SIGINT, seen).unwrap();
        let mut signals = Signals::new([SIGINT]).unwrap();
        thread::spawn({
            let hangup = hangup.clone();
            move || signals.forever().for_each(|_| hangup.cancel())
        });
        let gate = Gate::default();
        let tools = ToolSet::new().with(polite()).with(hangs(&gate).grace(ms(100)));
        Case::gated(tools, &gate).parallel(2).check(|case| {
            thread::scope(|scope| {
                scope.spawn(|| {
                    assert!(eventually(|| case.stats().running == 2));
                    raise(SIGINT).unwrap();
                });
                let turn = turn([("polite", ""), ("hangs", ""), ("polite", "")]);
                let report = case.run_with(&turn, |run| run.cancel(&hangup));
                assert_eq!(names(&report), ["cancelled"; 3]);
                assert!(matches!(report[2].outcome, Outcome::Cancelled { started: false, .. }));
                assert!(report.wall() < ms(100) + slack() * 2, "{:?}", report.wall());
            });
        });
        raise(SIGINT).unwrap();
        unreachable!("the second interrupt ends the program");
    };
    assert_eq!(run.status.signal(), Some(SIGINT), "{:?} {}", run.status, run.stderr);
}

#[test]
fn fault_149_an_executor_is_shared_across_threads_unwinding_and_child_processes() {
    fn shared<T: Send + Sync + UnwindSafe + RefUnwindSafe>() {}
    fn sent<T: Send>() {}
    shared::<Executor>();
    shared::<CancelToken>();
    shared::<Report>();
    shared::<Turn>();
    sent::<CallContext>();
    sent::<toolpool::Batch>();
    sent::<toolpool::Suspended>();

    let starts = Tool::new("starts", "", || {
        let output = std::process::Command::new(std::env::current_exe()?).arg("--help").output()?;
        Ok(output.status.success())
    });
    Case::new(ToolSet::new().with(starts).with(quick())).check(|case| {
        let calls = (0..8).map(|n| (if n % 2 == 0 { "starts" } else { "quick" }, ""));
        let report = case.run(&turn(calls));
        assert!(report.all_succeeded());
        assert!((0..8).step_by(2).all(|index| told(&report, index) == "true"));
        let executor = &case.executor;
        assert_eq!(catch_unwind(|| executor.stats().running).unwrap(), 0);
    });
}

#[test]
fn fault_150_every_call_has_one_end_and_nothing_but_a_late_result_comes_after_it() {
    let heard: Arc<Mutex<Vec<Event>>> = Arc::default();
    let hears = Arc::clone(&heard);
    let gate = Gate::default();
    let retried = AtomicUsize::new(0);
    let retried = Tool::new("retried", "", move || match retried.fetch_add(1, Ordering::Relaxed) {
        0 => Err(ToolError::of_kind(ToolErrorKind::Unavailable)),
        _ => Ok(()),
    });
    let tools = ToolSet::new()
        .with(quick())
        .with(polite())
        .with(hangs(&gate).timeout(ms(60)))
        .with(retried.read_only().retries(1))
        .with(Tool::new("panics", "", || -> Result<(), _> { panic!("oh") }));
    let case = Case::gated(tools, &gate).parallel(3);
    case.set(|b| b.observer(move |event| hears.lock().unwrap().push(event.clone()))).check(
        |case| {
            let order = ["hangs", "retried", "none", "panics", "quick", "polite", "polite"];
            let turn = turn(order.map(|name| (name, "")));
            let report = case.run_within(&turn, ms(400), |run| run);
            let ended = Instant::now();
            gate.open();
            let is_late = |event: &Event| matches!(event.kind, EventKind::Late { .. });
            let told = eventually(|| {
                heard.lock().unwrap().iter().any(is_late) || case.stats().observers_off > 0
            });
            if case.lost_an_observer() {
                return;
            }
            assert!(told);
            let heard = heard.lock().unwrap();
            for (index, call) in report.calls().iter().enumerate() {
                let events = heard.iter().filter(|event| event.index == index);
                let mut last = Duration::ZERO;
                let (mut ends, mut attempts) = (0, 0);
                for event in events {
                    assert!(event.at >= last, "in order of time: {event:?}");
                    assert_eq!(event.tool, order[index]);
                    last = event.at;
                    match &event.kind {
                        EventKind::Started { attempt } => {
                            attempts += 1;
                            assert_eq!((*attempt, ends), (attempts, 0));
                        }
                        EventKind::Finished { outcome } => {
                            ends += 1;
                            assert_eq!(**outcome, call.outcome);
                            assert!(event.at <= report.wall(), "{event:?} of {:?}", report.wall());
                        }
                        EventKind::Late { outcome } => {
                            assert_eq!(ends, 1);
                            assert!(outcome.is_success() || index != 0, "{outcome:?}");
                            // Told to stop, a polite one may be late all the same.
                            let Outcome::TimedOut { still_running, .. } = call.outcome else {
                                panic!("{call:?}");
                            };
                            assert!(still_running);
                            assert!(event.at + ended.elapsed() > report.wall());
                        }
                        EventKind::Queued | EventKind::Retrying { .. } => assert_eq!(ends, 0),
                        other => panic!("{other:?}"),
                    }
                }
                assert_eq!((ends, attempts), (1, call.attempts), "{call:?}");
            }
        },
    );
}
