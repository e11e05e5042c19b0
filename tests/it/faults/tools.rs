//! What a tool can do to the executor that runs it, and to its siblings.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::ser::{Error as _, SerializeSeq};
use serde::{Deserialize, Serialize, Serializer};
use toolpool::{
    CallContext, Event, EventKind, Executor, Limit, NotStarted, Note, Outcome, Output, Retry,
    ScopedTool, ScopedToolSet, Tool, ToolError, ToolErrorKind, ToolSet,
};

use super::harness::{
    CANARY, Case, Gate, alone, check_report, eventually, ms, names, repeat, slack, told, turn,
};

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Deserialize, JsonSchema)]
struct Number {
    n: u64,
}

fn number(n: u64) -> String {
    format!(r#"{{"n":{n}}}"#)
}

fn quick() -> Tool<()> {
    Tool::new("quick", "", || Ok("done"))
}

/// Waits for the gate, whatever it is told.
fn hangs(gate: &Gate) -> Tool<()> {
    let gate = gate.clone();
    Tool::new("hangs", "", move || {
        gate.wait();
        Ok("too late")
    })
}

fn still_running(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::TimedOut { still_running: true, .. })
}

/// Does something when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

impl<F: FnMut()> Serialize for OnDrop<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("serialised")
    }
}

#[test]
fn fault_001_a_panic_is_a_result_with_its_message_where_it_is_text() {
    let tools = ToolSet::new()
        .with(Tool::new("text", "", || -> Result<(), _> { panic!("the shelf is empty") }))
        .with(Tool::new("string", "", || -> Result<(), _> { panic!("shelf {}", 7) }))
        .with(Tool::new("long", "", || -> Result<(), _> { panic!("{}", "ü".repeat(1 << 20)) }))
        .with(Tool::new("other", "", || -> Result<(), _> { std::panic::panic_any(7_u64) }))
        .with(Tool::new("secret", "", || -> Result<(), _> { panic!("no entry with {CANARY}") }))
        .with(
            Tool::new("keyed", "", || Ok(()))
                .writes(|(): &()| -> String { panic!("no key like {CANARY}") }),
        )
        .with(quick());
    Case::new(tools).check(|case| {
        let order = ["text", "quick", "string", "long", "other", "quick", "secret", "keyed"];
        let report = case.run(&turn(order.map(|name| (name, ""))));
        let message = |index: usize| match &report[index].outcome {
            Outcome::Panicked(message) => message.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(message(0).unwrap(), "the shelf is empty");
        assert_eq!(message(2).unwrap(), "shelf 7");
        assert!(message(3).unwrap().len() <= 2 << 10 | 16);
        assert_eq!(message(4), None);
        assert_eq!(message(6).unwrap(), "no entry with [redacted]");
        assert_eq!(message(7).unwrap(), "no key like [redacted]");
        for index in [1, 5] {
            assert!(report[index].outcome.is_success());
        }
        assert!(told(&report, 0).starts_with("text failed: internal error"));
        assert!(!told(&report, 0).contains("shelf"), "the message is the operator's");
    });
}

#[test]
fn fault_002_a_panic_whose_payload_panics_when_it_is_dropped_costs_no_thread() {
    fn drops_badly(depth: u32) {
        std::panic::panic_any(OnDrop(move || {
            if depth > 0 {
                drops_badly(depth - 1);
            }
        }));
    }
    let tools = ToolSet::new()
        .with(Tool::new("bad", "", || {
            drops_badly(2);
            Ok(())
        }))
        .with(quick());
    Case::new(tools).parallel(1).check(|case| {
        let report = case.run(&turn([("bad", ""), ("quick", ""), ("bad", ""), ("quick", "")]));
        assert_eq!(names(&report), ["panicked", "succeeded", "panicked", "succeeded"]);
        assert!(case.stats().blocking_threads <= 2, "{:?}", case.stats());
    });
}

#[test]
fn fault_003_a_panic_while_panicking_ends_the_process() {
    let Some(run) = alone(fault_003_a_panic_while_panicking_ends_the_process) else {
        let tool = Tool::new("twice", "", || -> Result<(), _> {
            let _second = OnDrop(|| panic!("the second"));
            panic!("the first");
        });
        let report = Executor::new(ToolSet::new().with(tool)).unwrap().run(&repeat("twice", 1));
        unreachable!("{report:?}");
    };
    assert!(was_aborted(&run.status), "{:?} {}", run.status, run.stderr);
    assert!(run.stderr.contains("the second"), "{}", run.stderr);
}

fn was_aborted(status: &std::process::ExitStatus) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::process::ExitStatusExt;
        // SIGABRT; a stack overflow ends by it, too.
        status.signal() == Some(6)
    }
    #[cfg(not(unix))]
    {
        !status.success()
    }
}

/// An error that is a nuisance to look at.
struct Nasty {
    display: fn(&mut fmt::Formatter<'_>) -> fmt::Result,
    endless: bool,
}

impl fmt::Debug for Nasty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.display)(f)
    }
}

impl fmt::Display for Nasty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.display)(f)
    }
}

impl std::error::Error for Nasty {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.endless.then_some(self as _)
    }
}

#[test]
fn fault_004_errors_that_panic_loop_flood_or_hang_when_they_are_told() {
    let fails = |name: &str, endless, display| {
        Tool::new(name, "", move || Err::<(), _>(Nasty { display, endless }.into()))
    };
    let tools = ToolSet::new()
        .with(fails("panics", false, |_| panic!("no words")))
        .with(fails("loops", true, |f| f.write_str("again")))
        .with(fails("floods", false, |f| {
            for _ in 0..100 {
                f.write_str(&"a".repeat(1 << 20))?;
            }
            Ok(())
        }))
        .with(fails("refuses", false, |_| Err(fmt::Error)))
        .with(fails("hangs", false, |_| Ok(thread::sleep(ms(400)))).timeout(ms(100)))
        .with(quick());
    Case::new(tools).check(|case| {
        let order = ["panics", "loops", "floods", "refuses", "hangs", "quick"];
        let report = case.run(&turn(order.map(|name| (name, ""))));
        let expected = ["panicked", "failed", "failed", "failed", "timed_out", "succeeded"];
        assert_eq!(names(&report), expected);
        let error = |index: usize| match &report[index].outcome {
            Outcome::Failed(error) => error.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(error(1).causes(), ["again"; 8]);
        assert!(error(2).operator_text().len() <= (2 << 10) + 4);
        assert_eq!(error(3).model_text(), "failed");
    });
}

/// A value that is a nuisance to serialise.
enum Unserializable {
    Panics,
    Errs,
    Hangs(Gate),
}

impl Serialize for Unserializable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Panics => panic!("not me"),
            Self::Errs => Err(S::Error::custom("no JSON for this")),
            Self::Hangs(gate) => {
                gate.wait();
                serializer.serialize_unit()
            }
        }
    }
}

#[test]
fn fault_005_a_result_that_cant_be_serialised_is_its_own_calls_failure() {
    let gate = Gate::default();
    let tools = ToolSet::new()
        .with(Tool::new("panics", "", || Ok(Unserializable::Panics)))
        .with(Tool::new("errs", "", || Ok(Unserializable::Errs)))
        .with({
            let gate = gate.clone();
            Tool::new("hangs", "", move || Ok(Unserializable::Hangs(gate.clone()))).timeout(ms(50))
        })
        .with(quick());
    Case::gated(tools, &gate).check(|case| {
        let order = ["hangs", "panics", "errs", "quick"];
        let report = case.run(&turn(order.map(|name| (name, ""))));
        assert_eq!(names(&report), ["timed_out", "panicked", "failed", "succeeded"]);
        assert!(still_running(&report[0].outcome));
        assert!(report.wall() < ms(50) + slack(), "{:?}", report.wall());
    });
}

#[test]
fn fault_006_a_result_that_takes_long_to_drop_holds_up_nobody() {
    let gate = Gate::default();
    let slow = {
        let gate = gate.clone();
        Tool::new("slow", "", move || {
            let gate = gate.clone();
            Ok(OnDrop(move || gate.wait()))
        })
    };
    let panics = Tool::new("panics", "", || Ok(OnDrop(|| panic!("in drop"))));
    let tools = ToolSet::new().with(slow.timeout(ms(50))).with(panics).with(quick());
    Case::gated(tools, &gate).check(|case| {
        let report = case.run(&turn([("slow", ""), ("panics", ""), ("quick", "")]));
        assert_eq!(names(&report), ["timed_out", "panicked", "succeeded"]);
        assert!(report.wall() < ms(50) + slack(), "{:?}", report.wall());
    });
}

#[test]
fn fault_007_a_tool_that_never_returns_ends_at_its_timeout_and_its_place_is_taken() {
    let gate = Gate::default();
    let tools = ToolSet::new().with(hangs(&gate).timeout(ms(60))).with(quick());
    Case::gated(tools, &gate).parallel(1).check(|case| {
        let report = case.run(&turn([("hangs", ""), ("quick", "")]));
        assert_eq!(names(&report), ["timed_out", "succeeded"]);
        let Outcome::TimedOut { limit, after, still_running } = report[0].outcome else { panic!() };
        assert_eq!((limit, still_running), (Limit::Timeout, true));
        assert!(after >= ms(60) && after < ms(60) + slack(), "{after:?}");
        assert_eq!(case.stats().abandoned, 1);
        assert!(case.run(&repeat("quick", 3)).all_succeeded());
        assert_eq!(case.stats().abandoned, 1);
        assert!(told(&report, 0).ends_with("may still complete; do not repeat it, check first"));
    });
}

#[test]
fn fault_008_a_tool_that_spins_for_ever_ends_at_its_timeout_too() {
    let gate = Gate::default();
    let spins = {
        let gate = gate.clone();
        Tool::new("spins", "", move || {
            while !gate.is_open() {
                std::hint::spin_loop();
            }
            Ok(())
        })
    };
    let tools = ToolSet::new().with(spins.timeout(ms(100))).with(quick());
    Case::gated(tools, &gate).alone().check(|case| {
        let cores = thread::available_parallelism().map_or(2, usize::from);
        let mut calls = vec![("spins", ""); cores];
        calls.push(("quick", ""));
        let report = case.run(&turn(calls));
        assert!(report[cores].outcome.is_success());
        assert!((0..cores).all(|index| still_running(&report[index].outcome)));
        assert!(report.wall() < ms(100) + slack(), "{:?}", report.wall());
        assert_eq!(case.stats().abandoned, cores);
    });
}

#[test]
fn fault_009_a_hundred_tools_that_never_return_at_a_cap_of_16() {
    let gate = Gate::default();
    let tools = ToolSet::new().with(hangs(&gate)).with(quick());
    let case = Case::gated(tools, &gate).deadline(ms(300));
    case.set(|b| b.blocking_threads(16).call_timeout(MINUTE)).check(|case| {
        let report = case.run(&repeat("hangs", 100));
        for (index, call) in report.calls().iter().enumerate() {
            match index {
                0..16 => assert!(still_running(&call.outcome), "{call:?}"),
                _ => assert_eq!(call.outcome, Outcome::NotStarted(NotStarted::Deadline)),
            }
        }
        let after = case.run_within(&repeat("quick", 1), MINUTE, |run| run);
        assert!(after.all_succeeded());
        assert!(case.stats().blocking_threads <= 18, "{:?}", case.stats());

        // With a timeout of their own they make way for the next, and those for the next.
        let report = case.run_within(&repeat("hangs", 100), ms(300), |run| run);
        assert_eq!(report.calls().iter().filter(|call| call.attempts > 0).count(), 16);
        assert_eq!(case.stats().abandoned, 32);
    });
}

#[test]
fn fault_010_a_result_after_the_timeout_is_late_and_only_our_own_permits_came_back_before() {
    let gate = Gate::default();
    let capped = hangs(&gate).timeout(ms(60)).max_parallel(1);
    let keyed = {
        let gate = gate.clone();
        Tool::new("keyed", "", move || {
            gate.wait();
            Ok(())
        })
    };
    let tools =
        ToolSet::new().with(capped).with(keyed.writes(|_| "the key").timeout(ms(60))).with(quick());
    Case::gated(tools, &gate).parallel(2).check(|case| {
        let report = case.run(&turn([("hangs", ""), ("keyed", ""), ("quick", ""), ("quick", "")]));
        assert_eq!(names(&report), ["timed_out", "timed_out", "succeeded", "succeeded"]);
        assert_eq!(case.stats().late, 0);

        // The tool's cap and the key are still taken, and waited for as long as a call may take.
        let report = case.run(&turn([("hangs", ""), ("keyed", "")]));
        for (call, tool) in report.calls().iter().zip(["hangs", "keyed"]) {
            let holder = NotStarted::KeyHeld { index: None, tool: tool.into() };
            assert_eq!(call.outcome, Outcome::NotStarted(holder));
        }
        assert!(report.wall() >= ms(60) && report.wall() < ms(60) + slack());

        gate.open();
        assert!(eventually(|| case.stats().late == 2 && case.stats().abandoned == 0));
        let report = case.run(&turn([("hangs", ""), ("keyed", "")]));
        assert!(report.all_succeeded(), "{report:?}");
        assert_eq!(case.stats().late, 2);
    });
}

#[test]
fn fault_011_a_result_that_races_the_timeout_is_one_or_the_other() {
    const TIMEOUT: Duration = Duration::from_millis(3);
    let races = Tool::new("races", "", |args: Number, cx: &CallContext| {
        // From a little before the end to a little behind it.
        let end = cx.deadline().instant().unwrap_or_else(Instant::now);
        let aim = end + Duration::from_micros(50 * (args.n % 24)) - ms(1);
        thread::sleep(aim.saturating_duration_since(Instant::now()));
        Ok(args.n)
    });
    let races = races.timeout(TIMEOUT).grace(Duration::ZERO);
    let case = Case::new(ToolSet::new().with(races)).parallel(16);
    case.set(|b| b.max_abandoned(10_000)).check(|case| {
        let mut counts = [0; 2];
        for _ in 0..100 {
            let turn = turn((0..100).map(|n| ("races", number(n))));
            let report = case.run(&turn);
            for (n, call) in report.calls().iter().enumerate() {
                match &call.outcome {
                    Outcome::Succeeded(output) => {
                        assert_eq!(output.to_text(), n.to_string());
                        assert!(call.run_time() < TIMEOUT + slack());
                        counts[0] += 1;
                    }
                    Outcome::TimedOut { after, .. } => {
                        assert!(*after >= TIMEOUT, "{after:?}");
                        counts[1] += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(counts.iter().sum::<i32>(), 10_000);
        assert!(counts.iter().all(|n| *n > 100), "a race has two winners: {counts:?}");
    });
}

#[test]
fn fault_012_a_context_that_outlives_its_call_is_cancelled_and_can_start_nothing() {
    let (kept, outlived) = crossbeam_channel::unbounded::<CallContext>();
    let leaks = Tool::new("leaks", "", move |(): (), cx: &CallContext| {
        kept.send(cx.clone())?;
        Ok(cx.is_cancelled())
    });
    let counted = Arc::new(AtomicUsize::new(0));
    let counts = {
        let counted = Arc::clone(&counted);
        Tool::new("counts", "", move || Ok(counted.fetch_add(1, Ordering::Relaxed)))
    };
    let case = Case::new(ToolSet::new().with(leaks).with(counts)).with_unseen_runs();
    case.check(|case| {
        let report = case.run(&repeat("leaks", 1));
        assert_eq!(told(&report, 0), "false");
        let cx = outlived.recv().unwrap();
        assert!(cx.is_cancelled() && cx.check().is_err());
        let began = Instant::now();
        assert!(cx.sleep(MINUTE).is_err() && began.elapsed() < slack());
        cx.progress("nobody hears this");
        let late = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&late);
        let _closer = cx.on_cancel(move || told.store(true, Ordering::Relaxed));
        let nested = repeat("counts", 3);
        let report = cx.run(&nested);
        check_report(&nested, &report);
        assert_eq!(names(&report), ["cancelled"; 3]);
        assert_eq!(counted.load(Ordering::Relaxed), 0);
        assert!(case.run(&nested).all_succeeded());
    });
}

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
        .with(outer.timeout(ms(300)).grace(ms(150)))
        .with(hangs(&gate).timeout(MINUTE));
    Case::gated(tools, &gate).with_unseen_runs().check(|case| {
        let report = case.run(&repeat("outer", 1));
        // The nested batch ended when its parent was told to stop, and the parent was in time.
        assert!(matches!(&*told(&report, 0), "timed_out" | "cancelled"), "{report:?}");
        assert!(report.wall() < ms(300) + slack());
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
        Tool::new("slow", "", || Ok((0..2).into_par_iter().for_each(|_| thread::sleep(ms(500)))));
    let naps = Tool::new("naps", "", || Ok(thread::sleep(ms(5))));
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

/// Uses 64 KiB of stack a level.
#[inline(never)]
fn deep(levels: u64) -> u64 {
    let mut frame = [levels as u8; 64 << 10];
    std::hint::black_box(&mut frame);
    let below = if levels == 0 { 0 } else { deep(levels - 1) };
    std::hint::black_box(&mut frame);
    below + u64::from(frame[0] == levels as u8)
}

#[test]
fn fault_019_a_stack_overflow_ends_the_process_and_the_stack_is_large_enough_for_most() {
    let dives = || Tool::new("dives", "", |args: Number| Ok(deep(args.n)));
    let Some(run) =
        alone(fault_019_a_stack_overflow_ends_the_process_and_the_stack_is_large_enough_for_most)
    else {
        let report = Executor::new(ToolSet::new().with(dives()))
            .unwrap()
            .run(&turn([("dives", number(99))]));
        unreachable!("{report:?}");
    };
    assert!(was_aborted(&run.status), "{:?} {}", run.status, run.stderr);
    Case::new(ToolSet::new().with(dives()).with(dives_on_compute())).check(|case| {
        let report = case.run(&turn([("dives", number(20)), ("dives_on_compute", number(20))]));
        assert_eq!([told(&report, 0), told(&report, 1)], ["21", "21"]);
    });
    Case::new(ToolSet::new().with(dives())).set(|b| b.stack_size(16 << 20)).check(|case| {
        assert_eq!(told(&case.run(&turn([("dives", number(99))])), 0), "100");
    });
}

fn dives_on_compute() -> Tool<Number> {
    Tool::new("dives_on_compute", "", |args: Number| Ok(deep(args.n))).compute()
}

#[test]
fn fault_020_a_tool_that_exits_ends_the_process() {
    let Some(run) = alone(fault_020_a_tool_that_exits_ends_the_process) else {
        #[expect(clippy::disallowed_methods, reason = "it is what is tested")]
        let exits = Tool::new("exits", "", || -> Result<(), _> { std::process::exit(7) });
        let report = Executor::new(ToolSet::new().with(exits)).unwrap().run(&repeat("exits", 1));
        unreachable!("{report:?}");
    };
    assert_eq!(run.status.code(), Some(7), "{}", run.stderr);
}

#[test]
fn fault_020_a_tool_that_aborts_ends_the_process() {
    let Some(run) = alone(fault_020_a_tool_that_aborts_ends_the_process) else {
        let aborts = Tool::new("aborts", "", || -> Result<(), _> { std::process::abort() });
        let report = Executor::new(ToolSet::new().with(aborts)).unwrap().run(&repeat("aborts", 1));
        unreachable!("{report:?}");
    };
    assert!(was_aborted(&run.status), "{:?} {}", run.status, run.stderr);
}

#[test]
fn fault_021_a_panic_hook_that_blocks_costs_only_the_call_that_panics() {
    let Some(run) = alone(fault_021_a_panic_hook_that_blocks_costs_only_the_call_that_panics)
    else {
        let gate = Gate::default();
        let hook = gate.clone();
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if thread::current().name().is_some_and(|name| name.starts_with("toolpool")) {
                hook.wait();
            } else {
                before(panic);
            }
        }));
        let panics = Tool::new("panics", "", || -> Result<(), _> { panic!("oh") });
        let tools = ToolSet::new().with(panics.timeout(ms(100))).with(quick());
        Case::gated(tools, &gate).check(|case| {
            let report = case.run(&turn([("panics", ""), ("quick", ""), ("quick", "")]));
            assert_eq!(names(&report), ["timed_out", "succeeded", "succeeded"]);
            assert!(report.wall() < ms(100) + slack(), "{:?}", report.wall());
        });
        return;
    };
    assert!(run.status.success(), "{:?} {}", run.status, run.stderr);
}

thread_local! {
    static USERS: RefCell<u64> = const { RefCell::new(0) };
}

#[test]
fn fault_022_a_cached_thread_keeps_the_users_thread_locals_and_none_of_ours() {
    let litters = Tool::new("litters", "", |args: Number| -> Result<(), _> {
        USERS.with_borrow_mut(|users| {
            *users = args.n;
            panic!("in the middle")
        })
    });
    let own: Arc<Mutex<Option<Executor>>> = Arc::default();
    let looks = {
        let own = Arc::clone(&own);
        Tool::new("looks", "", move |args: Number, cx: &CallContext| -> Result<_, ToolError> {
            assert_eq!((cx.index() as u64, cx.attempt()), (args.n, 1));
            assert_eq!(cx.call().name(), "looks");
            assert!(!cx.is_cancelled());
            let executor = own.lock().unwrap().clone().ok_or("no executor")?;
            // Nested once, not once for each call that ever ran here.
            let nested = executor.run(&repeat("quick", 1)).all_succeeded();
            Ok((USERS.with_borrow(|users| *users), nested))
        })
    };
    let tools = ToolSet::new().with(litters).with(looks).with(quick());
    Case::new(tools).parallel(1).set(|b| b.max_depth(1)).check(|case| {
        *own.lock().unwrap() = Some(case.executor.clone());
        for _ in 0..5 {
            let args = [("litters", number(7)), ("looks", number(1)), ("looks", number(2))];
            let report = case.run(&turn(args));
            assert_eq!(names(&report), ["panicked", "succeeded", "succeeded"]);
            // The user's thread-locals are as the last tool on the thread left them.
            assert!(matches!(&*told(&report, 1), "[7,true]" | "[0,true]"), "{report:?}");
        }
        *own.lock().unwrap() = None;
    });
}

/// Many numbers, made as they are written.
struct Flood(u64);

impl Serialize for Flood {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut numbers = serializer.serialize_seq(None)?;
        for n in 0..self.0 {
            numbers.serialize_element(&n)?;
        }
        numbers.end()
    }
}

#[test]
fn fault_023_a_flood_of_a_result_is_cut_with_a_note_the_model_can_read() {
    let tools = ToolSet::new()
        .with(Tool::new("numbers", "", || Ok(Flood(2_000_000))))
        .with(Tool::new("text", "", || Ok("äöü€𝄞".repeat(2 << 20))))
        .with(Tool::new("blocks", "", || Ok(Output::text("é".repeat(8 << 20)))))
        .with(Tool::new("small", "", || Ok("ü".repeat(1000))).max_result_bytes(333));
    Case::new(tools).check(|case| {
        let report = case.run(&turn(["numbers", "text", "blocks", "small"].map(|n| (n, ""))));
        assert!(report.all_succeeded(), "{report:?}");
        for (index, limit) in [(0, 64 << 10), (1, 64 << 10), (2, 64 << 10), (3, 333)] {
            let text = told(&report, index);
            assert!(text.len() <= limit, "{} of {limit}", text.len());
            assert!(text.contains("bytes were left out here, because the result is too long"));
            assert!(matches!(report[index].notes[..], [Note::Cut(_)]));
            assert!(!text.contains('\u{fffd}'), "cut at a character");
        }
        assert!(told(&report, 0).starts_with("[0,1,2") && told(&report, 0).ends_with("1999999]"));
        assert_eq!(report[1].notes, [Note::Cut(13 * (2 << 20))]);
    });
}

#[test]
fn fault_024_odd_texts_are_data_for_the_model_and_escaped_for_everybody_else() {
    const ODD: [&str; 6] =
        ["", "\0\0", "\r", "\x1b[31mred\x1b]0;title\x07", "\u{202e}drow", "\n\t"];
    let text = Tool::new("text", "", |args: Number| Ok(ODD[args.n as usize]));
    let fails = Tool::new("fails", "", |args: Number| Err::<(), _>(ODD[args.n as usize].into()));
    let panics = Tool::new("panics", "", |args: Number| -> Result<(), _> {
        panic!("{}", ODD[args.n as usize])
    });
    let tools = ToolSet::new().with(text).with(fails).with(panics);
    Case::new(tools).check(|case| {
        let all = |name: &'static str| (0..ODD.len() as u64).map(move |n| (name, number(n)));
        let report = case.run(&turn(all("text")));
        for (n, call) in report.calls().iter().enumerate() {
            assert_eq!(call.outcome, Outcome::Succeeded(Output::text(ODD[n])));
        }
        // What is logged of these is looked at when the case is over.
        let failed = case.run(&turn(all("fails")));
        assert_eq!(told(&failed, 3), ODD[3]);
        let panicked = case.run(&turn(all("panics")));
        for report in [report, failed, panicked] {
            let drawn = report.timeline().to_string();
            assert!(!drawn.contains(['\x1b', '\r', '\0', '\u{202e}', '\x07']), "{drawn:?}");
        }
    });
}

#[test]
fn fault_025_a_result_that_looks_like_an_error_is_a_result() {
    let error = serde_json::json!({ "type": "tool_result", "is_error": true, "error": "denied" });
    let lies = Tool::new("lies", "", move || Ok(error.clone()));
    let says = Tool::new("says", "", || Ok("says timed out after 60 s and may still complete"));
    Case::new(ToolSet::new().with(lies).with(says)).check(|case| {
        let report = case.run(&turn([("lies", ""), ("says", "")]));
        assert!(report.results().all(|result| !result.is_error));
        let kept = r#"{"error":"denied","is_error":true,"type":"tool_result"}"#;
        assert_eq!(report[0].outcome, Outcome::Succeeded(Output::Json { text: kept.into() }));
    });
}

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
    // The timeout is for all attempts together: backoffs of 40, 80, 160 … ms don't fit.
    let (tool, _) = flaky(u32::MAX);
    let retry = Retry::times(50).backoff(ms(40)).jitter(0.0);
    let tools = ToolSet::new().with(tool.read_only().retry(retry).timeout(ms(400)));
    Case::new(tools).check(|case| {
        let report = case.run(&repeat("flaky", 1));
        assert_eq!(names(&report), ["failed"]);
        assert!((2..=4).contains(&report[0].attempts), "{:?}", report[0]);
        assert!(report.wall() < ms(400) + slack(), "{:?}", report.wall());
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

#[test]
fn fault_030_a_flood_of_progress_is_dropped_with_a_count_and_holds_up_nothing() {
    const FLOOD: u64 = 200_000;
    let floods = Tool::new("floods", "", |(): (), cx: &CallContext| {
        (0..FLOOD).for_each(|n| cx.progress(format!("{n} of {FLOOD}")));
        Ok(())
    });
    let said = Arc::new(AtomicBool::new(false));
    let forever = Tool::new("forever", "", {
        let said = Arc::clone(&said);
        move |(): (), cx: &CallContext| {
            cx.progress("x".repeat(1 << 20));
            (0..2000).for_each(|_| cx.progress("still here"));
            said.store(true, Ordering::SeqCst);
            while !cx.is_cancelled() {
                cx.progress("and here");
            }
            // Told to stop it goes on for a while.
            (0..1000).for_each(|_| cx.progress("yes, here"));
            thread::sleep(ms(300));
            cx.progress("nobody hears this");
            Ok(())
        }
    });
    let forever = forever.timeout(ms(600)).grace(ms(50));
    let (told, longest) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let hear = {
        let (told, longest) = (Arc::clone(&told), Arc::clone(&longest));
        move |event: &Event| {
            if let EventKind::Progress { text } = &event.kind {
                // The first one keeps the others waiting, until more are said than may wait.
                let since = Instant::now();
                while !said.load(Ordering::SeqCst) && since.elapsed() < ms(900) {
                    thread::sleep(ms(1));
                }
                told.fetch_add(usize::from(event.tool == "floods"), Ordering::Relaxed);
                longest.fetch_max(text.len(), Ordering::Relaxed);
                assert_ne!(text, "nobody hears this");
            }
        }
    };
    let tools = ToolSet::new().with(floods).with(forever).with(quick());
    Case::new(tools).set(|b| b.observer(hear)).check(|case| {
        let report = case.run_within(&turn([("forever", ""), ("quick", "")]), ms(2000), |run| run);
        assert_eq!(names(&report), ["timed_out", "succeeded"]);
        assert!(report.wall() < ms(600) + slack(), "{:?}", report.wall());
        assert!(matches!(report[0].notes[..], [Note::ProgressDropped(_)]), "{:?}", report[0]);
        assert!(longest.load(Ordering::Relaxed) <= (2 << 10) + 4, "{longest:?}");

        let report = case.run(&repeat("floods", 1));
        // None, where the observer keeps up.
        let dropped = match report[0].notes[..] {
            [] => 0,
            [Note::ProgressDropped(dropped)] => dropped,
            _ => panic!("{report:?}"),
        };
        let all = || told.load(Ordering::Relaxed) as u64 + dropped == FLOOD;
        assert!(eventually(all), "{told:?} and {dropped} of {FLOOD}");
    });
}

#[test]
fn fault_031_an_observer_that_panics_or_blocks_hurts_no_batch_and_no_other_observer() {
    let gate = Gate::default();
    let says = Tool::new("says", "", |(): (), cx: &CallContext| {
        (0..10).for_each(|n| cx.progress(format!("{n}")));
        Ok(())
    });
    let case = Case::gated(ToolSet::new().with(says).with(quick()), &gate);
    // The runs bring their own observers.
    case.set(|b| b.observer(|_| ())).check(|case| {
        let calls = Arc::new(AtomicUsize::new(0));
        let panics = {
            let calls = Arc::clone(&calls);
            move |_: &Event| {
                calls.fetch_add(1, Ordering::Relaxed);
                panic!("I saw that");
            }
        };
        let report = case.run_with(&repeat("says", 4), |run| run.observer(panics));
        assert!(report.all_succeeded());

        let blocks = {
            let gate = gate.clone();
            move |_: &Event| gate.wait()
        };
        let report = case.run_with(&repeat("says", 4), |run| run.observer(blocks));
        assert!(report.all_succeeded() && report.wall() < slack(), "{:?}", report.wall());

        // What came behind it is told once the patience with it has ended.
        let ends = Arc::new(AtomicUsize::new(0));
        let counts = {
            let ends = Arc::clone(&ends);
            move |event: &Event| {
                let is_end = matches!(event.kind, EventKind::Finished { .. });
                ends.fetch_add(usize::from(is_end), Ordering::Relaxed);
            }
        };
        let report = case.run_with(&repeat("says", 4), |run| run.observer(counts));
        assert!(report.all_succeeded() && report.wall() < slack(), "{:?}", report.wall());
        assert!(eventually(|| ends.load(Ordering::Relaxed) == 4), "{ends:?}");
        assert!(!gate.is_open());
        assert_eq!(calls.load(Ordering::Relaxed), 1, "told nothing after its panic");
    });
}

#[test]
fn fault_032_a_borrowed_tool_that_hangs_holds_up_the_scope_and_nothing_else() {
    let gate = Gate::default();
    let borrowed = String::from("from the stack");
    let told_to_stop = AtomicBool::new(false);
    for compute in [false, true] {
        told_to_stop.store(false, Ordering::Relaxed);
        let hangs = ScopedTool::new("hangs", "", |(): (), cx: &CallContext| {
            thread::sleep(ms(600));
            told_to_stop.store(cx.is_cancelled(), Ordering::Relaxed);
            Ok(borrowed.len())
        });
        let quick = ScopedTool::new("quick", "", || Ok(borrowed.len()));
        let set = |tool: Tool| if compute { tool.compute() } else { tool };
        let tools = ScopedToolSet::new().with(hangs.set(set)).with(quick.set(set));
        let case = Case::gated(ToolSet::new(), &gate).set(|b| b.rayon_threads(2));
        case.check(|case| {
            let both = turn([("hangs", ""), ("quick", "")]);
            let began = Instant::now();
            // The deadline is that of the results; the scope returns when the tool does.
            let run = case.executor.turn(&both).deadline(ms(100));
            let report = run.run_scoped(tools).unwrap();
            assert!(began.elapsed() >= ms(600), "a scope waits: {:?}", began.elapsed());
            case.note(&both, &report);
            assert_eq!(names(&report), ["timed_out", "succeeded"]);
            assert!(report.wall() < ms(100) + slack(), "{:?}", report.wall());
            assert!(report[1].ended < ms(100) + slack());
            assert!(told_to_stop.load(Ordering::Relaxed));
            assert_eq!(report[0].outcome.name(), "timed_out");
        });
    }
}
