//! Deadlines, timeouts and cancellation: what ends when, and what a tool is told of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;
use toolpool::{
    CallContext, CancelToken, Deadline, Executor, FailurePolicy, Limit, NotStarted, Outcome, Tool,
    ToolErrorKind, ToolSet,
};

use super::harness::{Case, Gate, check_report, eventually, ms, names, repeat, slack, told, turn};
#[cfg(target_os = "linux")]
use super::process;
use super::props::MINUTE;

#[derive(Deserialize, JsonSchema)]
struct Nap {
    ms: u64,
}

/// Sleeps as long as it is told to, whatever it is told meanwhile.
fn naps(name: &str) -> Tool<Nap> {
    Tool::new(name, "", |args: Nap| {
        thread::sleep(ms(args.ms));
        Ok(args.ms)
    })
}

/// Sleeps until it should stop.
fn dozes(name: &str) -> Tool<Nap> {
    Tool::new(name, "", |args: Nap, cx: &CallContext| {
        cx.sleep(ms(args.ms))?;
        Ok(args.ms)
    })
}

fn nap(name: &str, ms: u64) -> (String, String) {
    (name.to_owned(), format!(r#"{{"ms":{ms}}}"#))
}

/// Counts how often it started.
fn counts(name: &str, runs: &Arc<AtomicUsize>) -> Tool<()> {
    let runs = Arc::clone(runs);
    Tool::new(name, "", move || {
        runs.fetch_add(1, Ordering::SeqCst);
        Ok(())
    })
}

#[test]
fn fault_051_a_deadline_that_is_past_starts_nothing() {
    let runs = Arc::default();
    let tools = ToolSet::new()
        .with(counts("count", &runs))
        .with(counts("keyed", &runs).writes(|()| "key"))
        .with(counts("alone", &runs).exclusive());
    Case::new(tools).check(|rig| {
        let asked = turn([("count", ""), ("keyed", ""), ("alone", "")]);
        for deadline in [Duration::ZERO, Duration::from_nanos(1)] {
            let report = rig.run_within(&asked, deadline, |run| run);
            assert_eq!(names(&report), ["deadline"; 3]);
        }
        assert_eq!(runs.load(Ordering::SeqCst), 0);
        assert_eq!(rig.stats().blocking_threads, 0);
    });
    assert!(!Deadline::Never.has_passed(Instant::now()));
}

#[test]
fn fault_052_spans_without_end_mean_never() {
    let tool = Tool::new("left", "", |(): (), cx: &CallContext| {
        assert_eq!(cx.sleep(Duration::ZERO).map_err(|error| error.kind()), Ok(()));
        Ok(cx.remaining() == Duration::MAX)
    });
    let tools = ToolSet::new()
        .with(tool.timeout(Duration::MAX).grace(Duration::MAX).retries(u32::MAX))
        .with(Tool::new("fails", "", || -> Result<(), _> { Err("as ever".into()) }));
    let executor = Executor::builder(tools)
        .deadline(Duration::MAX)
        .call_timeout(Duration::MAX)
        .grace(Duration::MAX)
        .keep_alive(Duration::MAX)
        .build()
        .unwrap();
    let asked = turn([("left", ""), ("fails", "")]);
    for _ in 0..2 {
        let report = executor.turn(&asked).deadline(Duration::MAX).run();
        assert_eq!(names(&report), ["succeeded", "failed"]);
        assert_eq!(told(&report, 0), "true");
    }
    let report = executor.turn(&asked).no_deadline().run();
    assert_eq!(told(&report, 0), "true");
    assert!(executor.shutdown(Duration::MAX));
}

#[test]
fn fault_053_a_timeout_is_cut_to_the_deadline_and_says_which_limit_it_was() {
    let left = Tool::new("left", "", |(): (), cx: &CallContext| {
        let left = cx.remaining();
        while cx.sleep(Duration::from_secs(60)).is_ok() {}
        assert!(left <= ms(300));
        thread::sleep(Duration::from_secs(1));
        Ok(())
    });
    let tools = ToolSet::new().with(left.timeout(Duration::from_secs(20)));
    let tools = tools.with(naps("own").timeout(ms(60)));
    Case::new(tools).check(|rig| {
        let asked = turn([("left".to_owned(), String::new()), nap("own", 600)]);
        let report = rig.run_within(&asked, ms(300), |run| run);
        let limits: Vec<_> = report
            .calls()
            .iter()
            .map(|call| match call.outcome {
                Outcome::TimedOut { limit, after, .. } => (limit, after),
                ref other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(limits[0].0, Limit::Deadline);
        assert_eq!(limits[1].0, Limit::Timeout);
        assert!(limits[1].1 >= ms(60) && limits[1].1 < ms(60) + slack(), "{limits:?}");
    });
}

#[test]
fn fault_054_a_timeout_counts_from_the_start_and_the_queue_is_told_apart() {
    let tools = ToolSet::new().with(naps("nap").timeout(ms(2000)));
    Case::new(tools).parallel(1).check(|rig| {
        let report = rig.run(&turn([nap("nap", 200), nap("nap", 100)]));
        assert!(report.all_succeeded());
        let second = &report[1];
        assert!(second.queue_wait() >= ms(200), "{:?}", second.queue_wait());
        assert!((ms(100)..ms(190) + slack()).contains(&second.run_time()), "{second:?}");
        // The deadline bounds those in the queue all the same.
        let report = rig.run_within(&turn([nap("nap", 600), nap("nap", 1)]), ms(150), |run| run);
        assert_eq!(names(&report), ["timed_out", "deadline"]);
        assert!(report[1].queue_wait() >= ms(150), "{:?}", report[1]);
    });
}

#[test]
fn fault_055_a_cancel_at_any_moment_gives_each_call_one_true_result() {
    let started: Arc<Mutex<Vec<usize>>> = Arc::default();
    let dozes = Tool::new("doze", "", {
        let started = Arc::clone(&started);
        move |args: Nap, cx: &CallContext| {
            started.lock().push(cx.index());
            cx.sleep(ms(args.ms))?;
            Ok(())
        }
    });
    let own = CancelToken::new();
    let cancels = Tool::new("cancels", "", {
        let own = own.clone();
        move || {
            own.cancel();
            Ok("done")
        }
    });
    let case = Case::new(ToolSet::new().with(dozes).with(cancels)).parallel(2);
    case.check(|rig| {
        let run = |cancel: &CancelToken, asked| {
            started.lock().clear();
            let report = rig.run_with(&turn(asked), |run| run.cancel(cancel));
            let started = started.lock().clone();
            for (index, call) in report.calls().iter().enumerate() {
                match call.outcome {
                    Outcome::Cancelled { started: ran, .. } => {
                        assert_eq!(ran, started.contains(&index), "{call:?}");
                    }
                    Outcome::Succeeded(_) => {}
                    ref other => panic!("{other:?}"),
                }
            }
            report
        };
        let naps = |ms: u64| vec![nap("doze", ms); 4];
        // Before it runs.
        let token = CancelToken::new();
        token.cancel();
        let report = run(&token, naps(1));
        assert_eq!(names(&report), ["cancelled"; 4]);
        assert!(started.lock().is_empty());
        // While some run and some are queued; twice, and from two threads.
        let token = CancelToken::new();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    assert!(eventually(|| started.lock().len() == 2));
                    token.cancel();
                    token.cancel();
                });
            }
            let report = run(&token, naps(20_000));
            assert_eq!(names(&report), ["cancelled"; 4]);
        });
        assert_eq!(started.lock().len(), 2);
        // From one of its own tools, which may still answer.
        let report = run(&own, vec![nap("doze", 20_000), ("cancels".into(), String::new())]);
        assert_eq!(names(&report), ["cancelled", "succeeded"]);
        // When all is over.
        let token = CancelToken::new();
        assert_eq!(names(&run(&token, naps(1))), ["succeeded"; 4]);
        token.cancel();
    });
}

#[test]
fn fault_056_no_tool_runs_untold_once_a_cancel_has_returned() {
    let untold = Arc::new(AtomicUsize::new(0));
    let cancelled: Arc<Vec<AtomicBool>> = Arc::new((0..10_000).map(|_| false.into()).collect());
    let tool = Tool::new("looks", "", {
        let (untold, cancelled) = (Arc::clone(&untold), Arc::clone(&cancelled));
        move |args: Nap, cx: &CallContext| {
            if cancelled[args.ms as usize].load(Ordering::SeqCst) && !cx.is_cancelled() {
                untold.fetch_add(1, Ordering::SeqCst);
            }
            Ok(())
        }
    });
    // Without a case and its observer, which would take longer than the turns.
    let executor = Executor::new(ToolSet::new().with(tool)).unwrap();
    {
        let (sender, receiver) = crossbeam_channel::bounded::<(usize, CancelToken)>(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                for (n, token) in receiver {
                    // More or less long, so that all moments are met.
                    for _ in 0..n % 50 {
                        std::hint::spin_loop();
                        thread::yield_now();
                    }
                    token.cancel();
                    cancelled[n].store(true, Ordering::SeqCst);
                }
            });
            let mut endings = [0, 0, 0];
            for n in 0..10_000 {
                let token = CancelToken::new();
                sender.send((n, token.clone())).unwrap();
                let asked = turn([nap("looks", n as u64), nap("looks", n as u64)]);
                let report = executor.turn(&asked).cancel(&token).run();
                check_report(&asked, &report);
                for call in &report {
                    endings[match call.outcome {
                        Outcome::Succeeded(_) => 0,
                        Outcome::Cancelled { started: false, .. } => 1,
                        Outcome::Cancelled { started: true, .. } => 2,
                        ref other => panic!("{other:?}"),
                    }] += 1;
                }
            }
            drop(sender);
            println!("figure: succeeded, not started, told to stop: {endings:?}");
            assert_eq!(endings.iter().sum::<usize>(), 20_000);
        });
        assert_eq!(untold.load(Ordering::SeqCst), 0);
    }
    assert!(eventually(|| executor.stats().running == 0), "{:?}", executor.stats());
    let stats = executor.stats();
    assert_eq!((stats.queued, stats.abandoned, stats.batches), (0, 0, 0));
}

#[test]
fn fault_057_an_answer_within_the_grace_counts_and_the_grace_is_no_extra_time() {
    let polite = Tool::new("polite", "", |args: Nap, cx: &CallContext| {
        while cx.sleep(Duration::from_secs(60)).is_ok() {}
        thread::sleep(ms(args.ms));
        Ok("as far as I came")
    });
    let stubborn = Tool::new("stubborn", "", |args: Nap, _: &CallContext| {
        thread::sleep(ms(args.ms));
        Ok(())
    });
    let grace = ms(1000);
    let tools = ToolSet::new()
        .with(polite.timeout(ms(1500)).grace(grace))
        .with(stubborn.timeout(ms(1500)).grace(grace));
    Case::new(tools).check(|rig| {
        let report = rig.run(&turn([nap("polite", 20), nap("stubborn", 2500)]));
        assert_eq!(names(&report), ["succeeded", "timed_out"]);
        // Told to stop at half its time: a grace is at most that.
        let first = &report[0];
        assert!(first.run_time() >= ms(750) && first.run_time() < ms(1500), "{first:?}");
        let second = &report[1];
        assert!((ms(1500)..ms(1500) + slack()).contains(&second.run_time()), "{second:?}");
        // A deadline includes it, too.
        let asked = turn([nap("polite", 20), nap("stubborn", 2500)]);
        let report = rig.run_within(&asked, ms(800), |run| run);
        assert_eq!(names(&report), ["succeeded", "timed_out"]);
        assert!(report.wall() < ms(800) + slack(), "{:?}", report.wall());
    });
}

#[test]
fn fault_058_a_token_may_be_asked_by_anyone_at_any_time() {
    let kept: Arc<Mutex<Option<CallContext>>> = Arc::default();
    let keeps = Tool::new("keeps", "", {
        let kept = Arc::clone(&kept);
        move |(): (), cx: &CallContext| {
            *kept.lock() = Some(cx.clone());
            Ok(())
        }
    });
    let executor = Executor::new(ToolSet::new().with(keeps)).unwrap();
    assert!(executor.run(&repeat("keeps", 1)).all_succeeded());
    drop(executor);
    let cx = kept.lock().take().unwrap();
    assert!(eventually(|| cx.is_cancelled()));
    let token = cx.cancel_token().clone();
    drop(cx);
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..1000 {
            let token = &token;
            thread::Builder::new()
                .stack_size(64 << 10)
                .spawn_scoped(scope, move || {
                    assert!((0..1000).all(|_| token.is_cancelled()));
                    assert!(token.wait(Deadline::Never));
                    assert!(token.child().is_cancelled());
                })
                .unwrap();
        }
    });
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn fault_059_a_childs_cancel_is_its_own_and_a_parents_is_for_all() {
    let parent = CancelToken::new();
    let children: Vec<_> = (0..3).map(|_| parent.child()).collect();
    let grandchild = children[0].child();
    children[1].cancel();
    let cancelled = || children.iter().map(CancelToken::is_cancelled).collect::<Vec<_>>();
    assert_eq!(cancelled(), [false, true, false]);
    assert!(!parent.is_cancelled() && !grandchild.is_cancelled());
    parent.cancel();
    assert_eq!(cancelled(), [true; 3]);
    assert!(grandchild.is_cancelled() && parent.child().is_cancelled());
}

#[cfg(target_os = "linux")]
#[test]
fn fault_059_a_million_children_leave_nothing_behind() {
    process::alone("faults::deadlines::fault_059_a_million_children_leave_nothing_behind", || {
        let parent = CancelToken::new();
        let make = |n| {
            for _ in 0..n {
                let child = parent.child();
                let _callback = child.on_cancel(|| ());
                let _callback = parent.on_cancel(|| ());
            }
        };
        make(10_000);
        let before = process::resident();
        make(1_000_000);
        let grown = process::resident().saturating_sub(before);
        println!("figure: a million child tokens: {grown} KiB more");
        assert!(grown < 2048, "{grown} KiB");
    });
}

#[test]
fn fault_060_who_sleeps_or_receives_wakes_at_once_when_cancelled() {
    let woken: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let (_sender, receiver) = crossbeam_channel::unbounded::<u8>();
    let tool = |name: &str, wait: fn(&CallContext, &crossbeam_channel::Receiver<u8>) -> bool| {
        let (woken, receiver) = (Arc::clone(&woken), receiver.clone());
        Tool::new(name, "", move |(): (), cx: &CallContext| {
            let waited = wait(cx, &receiver);
            woken.lock().push(Instant::now());
            assert!(!waited);
            Ok(())
        })
    };
    let long = Duration::from_secs(100);
    let tools = ToolSet::new()
        .with(tool("sleeps", |cx, _| cx.sleep(Duration::from_secs(100)).is_ok()))
        .with(tool("receives", |cx, receiver| {
            let error = cx.recv(receiver).map(|_| ()).unwrap_err();
            error.kind() != ToolErrorKind::Cancelled
        }))
        .with(tool("receives_for", |cx, receiver| {
            cx.recv_timeout(receiver, Duration::from_secs(100)).is_ok()
        }))
        .with(tool("waits", |cx, _| !cx.cancel_token().wait(Deadline::Never)));
    Case::new(tools).check(|rig| {
        let asked =
            turn(["sleeps", "receives", "receives_for", "waits"].map(|name| (name, String::new())));
        let mut best = long;
        for _ in 0..20 {
            woken.lock().clear();
            let token = CancelToken::new();
            let cancelled = thread::scope(|scope| {
                let cancelled = scope.spawn(|| {
                    assert!(eventually(|| rig.stats().running == 4));
                    thread::sleep(ms(2));
                    let at = Instant::now();
                    token.cancel();
                    at
                });
                let report = rig.run_with(&asked, |run| run.cancel(&token));
                assert_eq!(names(&report), ["succeeded"; 4]);
                cancelled.join().unwrap()
            });
            let last = woken.lock().iter().max().copied().unwrap();
            best = best.min(last.saturating_duration_since(cancelled));
        }
        println!("figure: all four woken {best:?} after the cancel, at best");
        assert!(best < ms(5), "{best:?}");
    });
}

#[cfg(target_os = "linux")]
#[test]
fn fault_061_a_machine_that_tools_saturate_meets_its_deadlines() {
    let spins = Tool::new("spins", "", |(): (), cx: &CallContext| {
        let mut n = 0_u64;
        while !cx.is_cancelled() {
            for _ in 0..10_000 {
                n = std::hint::black_box(n.wrapping_mul(31) + 1);
            }
        }
        // Deaf for another while.
        let until = Instant::now() + ms(400);
        while Instant::now() < until {
            n = std::hint::black_box(n.wrapping_mul(31) + 1);
        }
        Ok(n)
    });
    Case::new(ToolSet::new().with(spins)).alone().set(|b| b.tool_priority(19)).check(|rig| {
        let asked = repeat("spins", 32);
        let report = rig.run_within(&asked, ms(300), |run| run);
        // Not all of them need have begun.
        let begun = names(&report).iter().filter(|name| **name == "timed_out").count();
        assert!(begun > 2, "{:?}", names(&report));
        let late = report.wall().saturating_sub(ms(300));
        println!("figure: {late:?} late with 32 spinning tools");
        assert!(late < ms(250) + slack(), "{late:?}");
    });
}

#[cfg(target_os = "linux")]
#[test]
fn fault_062_a_process_that_was_stopped_goes_on_as_if_time_had_passed() {
    const TEST: &str =
        "faults::deadlines::fault_062_a_process_that_was_stopped_goes_on_as_if_time_had_passed";
    process::alone(TEST, || {
        let tools = ToolSet::new()
            .with(dozes("doze").timeout(ms(800)))
            .with(naps("nap").timeout(Duration::from_secs(10)));
        Case::new(tools).deadline(Duration::from_secs(4)).check(|rig| {
            let me = std::process::id();
            let mut stopper = std::process::Command::new("sh")
                .args(["-c", &format!("sleep 0.2; kill -STOP {me}; sleep 2; kill -CONT {me}")])
                .spawn()
                .unwrap();
            let asked =
                turn([nap("doze", 10_000), nap("nap", 300), nap("doze", 1), nap("doze", 600)]);
            let report = rig.run(&asked);
            assert_eq!(names(&report)[..3], ["timed_out", "succeeded", "succeeded"]);
            // It slept longer than its timeout, and didn't know.
            assert!(["timed_out", "succeeded"].contains(&report[3].outcome.name()));
            assert!(report.wall() >= ms(2100), "it wasn't stopped: {:?}", report.wall());
            assert!(stopper.wait().unwrap().success());
        });
    });
}

#[test]
fn fault_063_nothing_in_the_core_reads_the_wall_clock() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders: Vec<_> =
        ["executor", "policy", "report", "tool"].iter().map(|name| root.join(name)).collect();
    let mut files: Vec<_> = ["time.rs", "cancel.rs"].iter().map(|name| root.join(name)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() { folders.push(entry) } else { files.push(entry) }
        }
    }
    assert!(files.len() > 20, "{files:?}");
    for file in files.iter().filter(|file| file.extension().is_some_and(|end| end == "rs")) {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(!text.contains("SystemTime"), "{}", file.display());
    }
}

#[test]
fn fault_064_a_thousand_timeouts_each_fire_at_their_own_time() {
    const CALLS: u64 = 1000;
    let mut tools = ToolSet::new();
    for n in 0..CALLS {
        tools = tools.with(dozes(&format!("doze_{n}")).timeout(ms(500 + n)).grace(ms(1)));
    }
    let case =
        Case::new(tools).set(|b| b.blocking_threads(1000).stack_size(128 << 10).max_calls(1000));
    case.check(|rig| {
        let asked = turn((0..CALLS).map(|n| nap(&format!("doze_{n}"), 100_000)));
        let report = rig.run(&asked);
        let mut worst = Duration::ZERO;
        for (n, call) in (0..).zip(report.calls()) {
            assert_eq!(call.outcome.name(), "timed_out", "{call:?}");
            let own = ms(500 + n);
            assert!(call.run_time() + ms(2) >= own, "{n}: {:?}", call.run_time());
            worst = worst.max(call.run_time().saturating_sub(own));
        }
        println!("figure: of a thousand timeouts the latest fired {worst:?} late");
        assert!(worst < slack(), "{worst:?}");
    });
}

#[test]
fn fault_065_a_thousand_calls_end_at_one_deadline_in_one_pass() {
    let gate = Gate::default();
    let stuck = Tool::new("stuck", "", {
        let gate = gate.clone();
        move || {
            gate.wait();
            Ok(())
        }
    });
    let case = Case::gated(ToolSet::new().with(stuck), &gate)
        .set(|b| b.blocking_threads(300).stack_size(128 << 10).max_calls(1000).max_abandoned(1000));
    case.check(|rig| {
        let report = rig.run_within(&repeat("stuck", 1000), ms(700), |run| run);
        let count = |name| names(&report).iter().filter(|other| **other == name).count();
        assert_eq!((count("timed_out"), count("deadline")), (300, 700));
        let ended: Vec<_> = report.calls().iter().map(|call| call.ended).collect();
        let spread = *ended.iter().max().unwrap() - *ended.iter().min().unwrap();
        assert!(spread < slack(), "{spread:?}");
    });
}

#[test]
fn fault_066_a_timeout_of_zero_ends_only_its_own_call() {
    let runs = Arc::default();
    let tools = ToolSet::new()
        .with(counts("never", &runs).timeout(Duration::ZERO))
        .with(counts("never_keyed", &runs).timeout(Duration::ZERO).writes(|()| "key"))
        .with(dozes("doze"));
    Case::new(tools).check(|rig| {
        let asked = turn([
            ("never".to_owned(), String::new()),
            nap("doze", 1),
            ("never_keyed".to_owned(), String::new()),
        ]);
        let report = rig.run(&asked);
        assert_eq!(report[0].outcome, Outcome::NotStarted(NotStarted::Timeout));
        assert!(report[1].outcome.is_success());
        assert_eq!(report[2].outcome, Outcome::NotStarted(NotStarted::Timeout));
        assert_eq!(runs.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn fault_067_waiting_for_a_permit_costs_no_timeout_but_the_deadline() {
    let tools =
        ToolSet::new().with(naps("nap").timeout(MINUTE)).with(dozes("brief").timeout(ms(500)));
    Case::new(tools).parallel(1).check(|rig| {
        let report = rig.run(&turn([nap("nap", 600), nap("brief", 1)]));
        assert!(report.all_succeeded(), "{:?}", names(&report));
        assert!(report[1].queue_wait() >= ms(600), "{:?}", report[1]);
        let asked = turn([nap("nap", 3000), nap("brief", 1)]);
        let report = rig.run_within(&asked, ms(500), |run| run.policy(FailurePolicy::inline()));
        assert_eq!(names(&report), ["timed_out", "deadline"]);
    });
}
