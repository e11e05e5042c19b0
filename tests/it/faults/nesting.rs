//! Calls within calls: nested batches, tools that use rayon, tools that hold a lock.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use rayon::prelude::*;
use toolpool::{CallContext, Executor, Outcome, ScopedTool, ScopedToolSet, Tool, ToolSet};

use super::harness::{Case, Gate, check_report, ms, names, repeat, slack, told, turn};
use super::props::{MINUTE, Number, hangs, number, quick};
use crate::machine;

/// Calls itself `n` deep and tells how deep it came, or how the first refusal was called.
fn nests() -> Tool<Number> {
    Tool::new("nests", "", |args: Number, cx: &CallContext| {
        if args.n == 0 {
            return Ok("bottom".to_owned());
        }
        let deeper = turn([("nests", number(args.n - 1))]);
        let report = cx.run(&deeper);
        check_report(&deeper, &report);
        Ok(match &report[0].outcome {
            Outcome::Succeeded(output) => format!("{}/{}", args.n, output.to_text()),
            other => other.name().to_owned(),
        })
    })
}

#[test]
fn fault_013_a_nested_batch_at_a_cap_of_one_completes_down_to_the_depth_limit() {
    Case::new(ToolSet::new().with(nests())).parallel(1).check(|case| {
        let report = case.run(&turn([("nests", number(3)), ("nests", number(1))]));
        assert_eq!(told(&report, 0), "3/2/1/bottom");
        assert_eq!(told(&report, 1), "1/bottom");
        assert_eq!(told(&case.run(&turn([("nests", number(4))])), 0), "4/3/2/too_deep");
    });
    let case = Case::new(ToolSet::new().with(nests())).parallel(1);
    case.set(|b| b.max_depth(0)).check(|case| {
        assert_eq!(told(&case.run(&turn([("nests", number(1))])), 0), "too_deep");
    });
}

#[test]
fn fault_013_running_the_executor_on_a_tools_thread_is_nested_as_well() {
    let own: Arc<Mutex<Option<Executor>>> = Arc::default();
    let calls_back = {
        let own = Arc::clone(&own);
        Tool::new("calls_back", "", move |args: Number| {
            let executor = own.lock().unwrap().clone().ok_or("no executor")?;
            let inner = match args.n {
                0 => turn([("quick", String::new())]),
                n => turn([("calls_back", number(n - 1))]),
            };
            Ok(executor.run(&inner)[0].content().to_text())
        })
    };
    let tools = ToolSet::new().with(calls_back).with(quick());
    Case::new(tools).parallel(1).check(|case| {
        *own.lock().unwrap() = Some(case.executor.clone());
        let report = case.run(&turn([("calls_back", number(2))]));
        assert_eq!(told(&report, 0), "done");
        let report = case.run(&turn([("calls_back", number(3))]));
        assert_eq!(told(&report, 0), "not run: calls may be nested 3 deep");
        *own.lock().unwrap() = None;
    });
}

#[test]
fn fault_014_as_many_nesting_calls_as_there_are_permits() {
    for cap in [1, 2, 4] {
        let inner = Tool::new("inner", "", || Ok(thread::sleep(ms(2))));
        let outer = Tool::new("outer", "", |(): (), cx: &CallContext| {
            let report = cx.run(&repeat("inner", 2));
            Ok(report.all_succeeded())
        });
        let case = Case::new(ToolSet::new().with(inner).with(outer.max_parallel(cap)));
        case.parallel(cap).set(|b| b.blocking_threads(cap)).check(|case| {
            let report = case.run(&repeat("outer", cap * 3));
            assert!((0..cap * 3).all(|index| told(&report, index) == "true"), "{report:?}");
        });
    }
}

#[test]
fn fault_015_a_nested_batch_ends_with_its_parent() {
    let gate = Gate::default();
    let outer = Tool::new("outer", "", |(): (), cx: &CallContext| {
        let (began, left) = (Instant::now(), cx.remaining());
        let report = cx.run(&repeat("hangs", 1));
        assert!(began.elapsed() < left + slack(), "{:?} of {left:?}", began.elapsed());
        Ok(names(&report)[0].to_owned())
    });
    let tools = ToolSet::new()
        .with(outer.timeout(ms(3000)).grace(ms(1500)))
        .with(hangs(&gate).timeout(MINUTE));
    Case::gated(tools, &gate).with_unseen_runs().check(|case| {
        let report = case.run(&repeat("outer", 1));
        // The nested batch ended when its parent was told to stop, and the parent was in time.
        assert!(matches!(&*told(&report, 0), "timed_out" | "cancelled"), "{report:?}");
        assert!(report.wall() < ms(3000) + slack());
    });
}

#[test]
fn fault_016_a_tool_that_calls_itself_for_ever_gets_a_result_at_each_level() {
    let started = Arc::new(AtomicUsize::new(0));
    let again = {
        let started = Arc::clone(&started);
        Tool::new("again", "", move |(): (), cx: &CallContext| {
            started.fetch_add(1, Ordering::Relaxed);
            let both = repeat("again", 2);
            let report = cx.run(&both);
            check_report(&both, &report);
            Ok(report.results().map(|result| result.content.to_text()).collect::<Vec<_>>())
        })
    };
    Case::new(ToolSet::new().with(again)).parallel(2).check(|case| {
        let report = case.run(&repeat("again", 2));
        assert!(report.all_succeeded());
        assert_eq!(started.load(Ordering::Relaxed), 2 + 4 + 8 + 16, "depth 0 to 3");
        assert!(told(&report, 1).contains("calls may be nested 3 deep"));
    });
}

thread_local! {
    /// How many tool bodies are on this thread's stack.
    static STACKED: Cell<usize> = const { Cell::new(0) };
}

/// Notes the most tool bodies that were on one stack.
fn stacked<T>(most: &AtomicUsize, body: impl FnOnce() -> T) -> T {
    let depth = STACKED.get() + 1;
    STACKED.set(depth);
    most.fetch_max(depth, Ordering::Relaxed);
    let value = body();
    STACKED.set(depth - 1);
    value
}

#[test]
fn fault_017_tools_that_use_rayon_dont_run_on_top_of_one_another() {
    let most = Arc::new(AtomicUsize::new(0));
    let pool = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap());
    let computes = {
        let (most, pool) = (Arc::clone(&most), Arc::clone(&pool));
        move |args: Number| {
            let work = || (0..64_u64).into_par_iter().map(|n| n ^ args.n).max();
            stacked(&most, || {
                rayon::join(work, || thread::sleep(ms(1)));
                Ok(pool.install(work))
            })
        }
    };
    let slow =
        Tool::new("slow", "", || Ok((0..2).into_par_iter().for_each(|_| thread::sleep(ms(1500)))));
    let naps = {
        let pool = Arc::clone(&pool);
        Tool::new("naps", "", move || Ok(pool.install(|| thread::sleep(ms(5)))))
    };
    let tools = ToolSet::new()
        .with(Tool::new("computes", "", computes.clone()))
        .with(slow)
        .with(naps.clone());
    let case = Case::new(tools).set(|b| b.max_calls(300).blocking_threads(16));
    case.check(|case| {
        let mut calls = vec![("slow", String::new()), ("naps", String::new())];
        calls.extend((0..200).map(|n| ("computes", number(n))));
        let report = case.run(&turn(calls));
        assert!(report.all_succeeded());
        assert_eq!(most.load(Ordering::Relaxed), 1, "one tool body a stack");
        assert!(report[1].run_time() < ms(100) + slack(), "{:?}", report[1].run_time());
    });

    most.store(0, Ordering::Relaxed);
    let tools = ToolSet::new().with(Tool::new("computes", "", computes).compute());
    let case = Case::new(tools).set(|b| b.max_calls(300).rayon_threads(2));
    case.check(|case| {
        let report = case.run(&turn((0..200).map(|n| ("computes", number(n)))));
        assert!(report.all_succeeded());
        assert!(most.load(Ordering::Relaxed) <= 2, "at most a body a worker: {most:?}");
    });
}

#[test]
fn fault_018_a_lock_held_across_par_iter_doesnt_meet_itself() {
    let sum = Arc::new(Mutex::new(0_u64));
    let adds = {
        let sum = Arc::clone(&sum);
        Tool::new("adds", "", move |args: Number| {
            let mut sum = sum.lock().map_err(|_| "poisoned")?;
            *sum += (0..1000_u64).into_par_iter().map(|_| args.n).sum::<u64>();
            Ok(*sum)
        })
    };
    Case::new(ToolSet::new().with(adds)).check(|case| {
        let report = case.run(&turn((0..32).map(|n| ("adds", number(n)))));
        assert!(report.all_succeeded(), "{report:?}");
        assert_eq!(*sum.lock().unwrap(), (0..32).sum::<u64>() * 1000);
    });
}

#[test]
fn fault_017_a_call_that_had_another_on_top_of_it_still_nests() {
    let pool = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap());
    let gate = Gate::default();
    // One of the two workers is busy with something else.
    let busy = gate.clone();
    pool.spawn(move || busy.wait());
    let ran = Arc::new(AtomicUsize::new(0));
    let above = {
        let ran = Arc::clone(&ran);
        Tool::new("above", "", move || Ok(ran.fetch_add(1, Ordering::Relaxed)))
    };
    let own: Arc<Mutex<Option<Executor>>> = Arc::default();
    let below = {
        let (ran, own) = (Arc::clone(&ran), Arc::clone(&own));
        Tool::new("below", "", move || {
            let until = Instant::now() + MINUTE / 6;
            while ran.load(Ordering::Relaxed) == 0 && Instant::now() < until {
                rayon::yield_now();
            }
            let executor = own.lock().unwrap().clone().ok_or("no executor")?;
            Ok(executor.run(&repeat("who", 1))[0].content().to_text())
        })
    };
    let who = Tool::new("who", "", |(): (), cx: &CallContext| {
        Ok(cx.get::<&str>().copied().unwrap_or("nobody"))
    });
    let tools = ToolSet::new().with(above.compute()).with(below.compute()).with(who);
    Case::gated(tools, &gate).set(|b| b.rayon_pool(pool)).check(|case| {
        *own.lock().unwrap() = Some(case.executor.clone());
        let both = turn([("below", ""), ("above", "")]);
        let report = case.run_with(&both, |run| run.context("ada"));
        assert_eq!(told(&report, 0), "ada", "{report:?}");
        *own.lock().unwrap() = None;
    });
}

#[test]
fn fault_032_a_borrowed_tool_cant_nest_borrowed_tools_and_is_told_so_at_once() {
    let _shared = machine::shared();
    let inner = ScopedTool::new("inner", "", || Ok("in"));
    let outer = ScopedTool::new("outer", "", |(): (), cx: &CallContext| {
        Ok(names(&cx.run(&turn([("inner", ""), ("none", "")]))))
    });
    let tools = ScopedToolSet::new().with(inner).with(outer);
    let executor = Executor::new(ToolSet::new()).unwrap();
    let report = executor.run_scoped(&repeat("outer", 1), tools).unwrap();
    assert_eq!(told(&report, 0), r#"["would_deadlock","unknown_tool"]"#);
    assert!(report.wall() < slack(), "{:?}", report.wall());
}
