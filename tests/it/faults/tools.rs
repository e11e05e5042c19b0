//! What a tool can do to the executor that runs it, and to its siblings.

use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use toolpool::{
    CallContext, Decision, Executor, FailurePolicy, Limit, NotStarted, Outcome, ScopedTool,
    ScopedToolSet, Tool, ToolError, ToolSet,
};

use super::harness::{
    CANARY, Case, Gate, alone, check_report, eventually, ms, names, repeat, slack, told, turn,
};
use super::props::{MINUTE, Number, hangs, number, quick, still_running};

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
struct Nasty<F> {
    display: F,
    endless: bool,
}

impl<F: Fn(&mut fmt::Formatter<'_>) -> fmt::Result> fmt::Debug for Nasty<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.display)(f)
    }
}

impl<F: Fn(&mut fmt::Formatter<'_>) -> fmt::Result> fmt::Display for Nasty<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.display)(f)
    }
}

impl<F: Fn(&mut fmt::Formatter<'_>) -> fmt::Result + 'static> std::error::Error for Nasty<F> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.endless.then_some(self as _)
    }
}

fn fails<F>(name: &str, endless: bool, display: F) -> Tool<()>
where
    F: Fn(&mut fmt::Formatter<'_>) -> fmt::Result + Clone + Send + Sync + 'static,
{
    let fail = move || Err::<(), _>(Nasty { display: display.clone(), endless }.into());
    Tool::new(name, "", fail)
}

#[test]
fn fault_004_errors_that_panic_loop_flood_or_hang_when_they_are_told() {
    let gate = Gate::default();
    let hangs = {
        let gate = gate.clone();
        fails("hangs", false, move |_| Ok(gate.wait()))
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
        .with(hangs.timeout(ms(100)))
        .with(quick());
    Case::gated(tools, &gate).check(|case| {
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
fn fault_006_a_runs_value_that_panics_when_a_late_worker_drops_it_costs_no_thread() {
    for compute in [false, true] {
        let gate = Gate::default();
        let late = hangs(&gate).timeout(ms(50));
        let late = if compute { late.compute() } else { late };
        let case = Case::gated(ToolSet::new().with(late).with(quick()), &gate);
        case.set(|b| b.rayon_threads(1).keep_alive(ms(1))).check(|case| {
            let dropped = Arc::new(AtomicUsize::new(0));
            let value = {
                let dropped = Arc::clone(&dropped);
                OnDrop(move || {
                    dropped.fetch_add(1, Ordering::Relaxed);
                    panic!("in drop");
                })
            };
            let report = case.run_with(&repeat("hangs", 1), |run| run.context(value));
            assert_eq!(names(&report), ["timed_out"]);
            assert_eq!(dropped.load(Ordering::Relaxed), 0, "its worker still has it");
            gate.open();
            assert!(eventually(|| dropped.load(Ordering::Relaxed) == 1));
            assert!(case.run(&repeat("quick", 3)).all_succeeded());
            assert!(eventually(|| case.stats().blocking_threads == 0), "{:?}", case.stats());
        });
    }
}

#[test]
fn fault_006_a_runs_value_that_panics_when_its_caller_drops_it_costs_no_report() {
    let panics = || OnDrop(|| panic!("in drop"));
    Case::new(ToolSet::new().with(quick())).check(|case| {
        for count in [0, 2] {
            let turn = repeat("quick", count);
            let report = case.run_with(&turn, |run| run.context(panics()));
            assert_eq!(names(&report), vec!["succeeded"; count]);
            let held = panics();
            let policy = FailurePolicy::custom(move |_| {
                let _ = &held;
                Decision::Continue
            });
            assert!(case.run_with(&turn, |run| run.policy(policy)).all_succeeded());
        }
    });
    let executor = Executor::new(ToolSet::new().with(quick())).unwrap();
    let held = panics();
    let observer = move |_: &toolpool::Event| {
        let _ = &held;
    };
    assert!(executor.turn(&repeat("quick", 2)).observer(observer).run().all_succeeded());
}

#[test]
fn fault_006_a_runs_value_that_takes_long_to_drop_holds_up_no_other_run() {
    let (late, drops) = (Gate::default(), Gate::default());
    let hangs = hangs(&late).max_parallel(1).timeout(ms(500));
    Case::gated(ToolSet::new().with(hangs), &drops).check(|case| {
        let value = {
            let drops = drops.clone();
            OnDrop(move || drops.wait())
        };
        let report = case.run_with(&repeat("hangs", 1), |run| run.context(value));
        assert_eq!(names(&report), ["timed_out"]);
        thread::scope(|scope| {
            // It waits for the permit of the late one, whose thread goes on with it.
            let next = scope.spawn(|| case.run(&repeat("hangs", 1)));
            assert!(eventually(|| case.stats().queued == 1));
            late.open();
            assert_eq!(names(&next.join().unwrap()), ["succeeded"]);
        });
        assert!(!drops.is_open());
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
    let capped = hangs(&gate).timeout(ms(500)).max_parallel(1);
    let keyed = {
        let gate = gate.clone();
        Tool::new("keyed", "", move || {
            gate.wait();
            Ok(())
        })
    };
    let tools = ToolSet::new()
        .with(capped)
        .with(keyed.writes(|_| "the key").timeout(ms(500)))
        .with(quick());
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
        assert!(report.wall() >= ms(500) && report.wall() < ms(500) + slack());

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
        // The worker says so once it has handed on the result.
        assert!(eventually(|| cx.is_cancelled()) && cx.check().is_err());
        let began = Instant::now();
        assert!(cx.sleep(MINUTE).is_err() && began.elapsed() < slack());
        cx.progress("nobody hears this");
        let nested = repeat("counts", 3);
        let report = cx.run(&nested);
        check_report(&nested, &report);
        assert_eq!(names(&report), ["cancelled"; 3]);
        assert_eq!(counted.load(Ordering::Relaxed), 0);
        assert!(case.run(&nested).all_succeeded());
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
        let mut kept = 0;
        for round in 0..100 {
            if round >= 5 && kept > 0 {
                break;
            }
            let args = [("litters", number(7)), ("looks", number(1)), ("looks", number(2))];
            let report = case.run(&turn(args));
            assert_eq!(names(&report), ["panicked", "succeeded", "succeeded"]);
            // The user's thread-locals are as the last tool on the thread left them; a turn may have
            // more than one thread.
            for index in [1, 2] {
                assert!(matches!(&*told(&report, index), "[7,true]" | "[0,true]"), "{report:?}");
                kept += usize::from(told(&report, index) == "[7,true]");
            }
        }
        assert!(kept > 0);
        *own.lock().unwrap() = None;
    });
}

#[test]
fn fault_022_a_thread_local_that_stays_borrowed_fails_only_the_calls_that_borrow_it() {
    thread_local! {
        static BORROWED: RefCell<u64> = const { RefCell::new(0) };
    }
    let borrows = Tool::new("borrows", "", || {
        Ok(BORROWED.with(|value| value.try_borrow_mut().map_or((), std::mem::forget)))
    });
    let needs = Tool::new("needs", "", || Ok(BORROWED.with_borrow_mut(|value| *value += 1)));
    let tools = ToolSet::new().with(borrows).with(needs).with(quick());
    Case::new(tools).parallel(1).check(|case| {
        let mut failed = 0;
        for round in 0..100 {
            if round >= 5 && failed > 0 {
                break;
            }
            let report = case.run(&turn(["borrows", "needs", "quick"].map(|name| (name, ""))));
            assert!(report[0].outcome.is_success() && report[2].outcome.is_success());
            // Another thread of the turn may have made the call.
            assert!(matches!(names(&report)[1], "panicked" | "succeeded"), "{report:?}");
            failed += usize::from(names(&report)[1] == "panicked");
        }
        assert!(failed > 0);
    });
}

#[test]
fn fault_032_borrowed_tools_that_compute_wait_for_no_worker_that_wont_come() {
    let borrowed = String::from("from the stack");
    let scoped = || {
        let reads = ScopedTool::new("reads", "", || Ok(borrowed.len()));
        ScopedToolSet::new().with(reads.set(Tool::compute))
    };
    // Its only worker waits for the scope.
    let pool = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap());
    let case = Case::new(ToolSet::new()).set(|b| b.rayon_pool(Arc::clone(&pool)));
    case.check(|case| {
        let turn = repeat("reads", 2);
        let report = pool.install(|| case.executor.run_scoped(&turn, scoped()).unwrap());
        case.note(&turn, &report);
        assert!(report.all_succeeded(), "{report:?}");
    });
    // Its only worker is lost to a tool that hangs.
    let gate = Gate::default();
    let tools = ToolSet::new().with(hangs(&gate).compute().timeout(ms(50)));
    Case::gated(tools, &gate).set(|b| b.rayon_threads(1)).check(|case| {
        assert_eq!(names(&case.run(&repeat("hangs", 1))), ["timed_out"]);
        let turn = repeat("reads", 2);
        let report = case.executor.run_scoped(&turn, scoped()).unwrap();
        case.note(&turn, &report);
        assert!(report.all_succeeded() && !gate.is_open(), "{report:?}");
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
            thread::sleep(ms(2000));
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
            let run = case.executor.turn(&both).deadline(ms(1000));
            let report = run.run_scoped(tools).unwrap();
            assert!(began.elapsed() >= ms(2000), "a scope waits: {:?}", began.elapsed());
            case.note(&both, &report);
            assert_eq!(names(&report), ["timed_out", "succeeded"]);
            assert!(report.wall() < ms(1000) + slack(), "{:?}", report.wall());
            assert!(report[1].ended < ms(1000));
            assert!(told_to_stop.load(Ordering::Relaxed));
        });
    }
}
