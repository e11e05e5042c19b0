//! Turns run end to end on real threads, with generous bounds.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Deserialize;
use toolpool::{
    CallContext, CancelToken, Executor, FailurePolicy, Group, Lane, NotStarted, Note, Outcome,
    Rejected, Report, Retry, ScopedTool, ScopedToolSet, Tool, ToolCall, ToolError, ToolErrorKind,
    ToolSet, Turn, execute_tool_calls,
};

use crate::faults::harness::{Gate, eventually};
use crate::machine;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[derive(Deserialize, JsonSchema)]
struct Nap {
    ms: u64,
    #[serde(default)]
    key: String,
}

/// Sleeps as long as it is told to, whatever it is told meanwhile.
fn nap() -> Tool<Nap> {
    Tool::new("nap", "Sleeps", |args: Nap| {
        thread::sleep(ms(args.ms));
        Ok(args.ms)
    })
}

fn polite_nap() -> Tool<Nap> {
    Tool::new("polite_nap", "Sleeps until it is cancelled", |args: Nap, cx: &CallContext| {
        cx.sleep(ms(args.ms))?;
        Ok(args.ms)
    })
}

fn calls<'a>(calls: impl IntoIterator<Item = (&'a str, &'a str)>) -> Turn {
    Turn::from_calls(
        calls
            .into_iter()
            .enumerate()
            .map(|(n, (name, args))| ToolCall::new(format!("call_{n}"), name, args)),
    )
}

fn names(report: &Report) -> Vec<&'static str> {
    report.calls().iter().map(|call| call.outcome.name()).collect()
}

#[test]
fn calls_run_at_once_and_come_back_in_call_order() {
    let _shared = machine::shared();
    let tools = ToolSet::new().with(nap());
    let turn =
        calls([("nap", r#"{"ms":900}"#), ("nap", r#"{"ms":600}"#), ("nap", r#"{"ms":300}"#)]);
    let report = execute_tool_calls(&tools, turn.calls()).unwrap();
    let texts: Vec<_> = report.results().map(|result| result.content.to_text()).collect();
    assert_eq!(texts, ["900", "600", "300"]);
    assert!(report.wall() < ms(1700), "{:?}", report.wall());
    assert!(report.sequential() >= ms(1800));
}

#[test]
fn every_way_to_fail_is_a_result_in_its_place() {
    let _shared = machine::shared();
    let tools = ToolSet::new()
        .with(nap().timeout(ms(400)))
        .with(Tool::new("panics", "", || -> Result<u8, _> { panic!("oh no") }))
        .with(Tool::new("fails", "", || -> Result<u8, _> { Err("no such thing".into()) }));
    let turn = calls([
        ("panics", ""),
        ("nap", r#"{"ms":"long"}"#),
        ("fails", ""),
        ("nap", r#"{"ms":3000}"#),
        ("napp", ""),
        ("nap", "{"),
        ("nap", r#"{"ms":1}"#),
    ]);
    let executor = Executor::new(tools).unwrap();
    let report = executor.run(&turn);
    assert_eq!(
        names(&report),
        [
            "panicked",
            "bad_arguments",
            "failed",
            "timed_out",
            "unknown_tool",
            "bad_arguments",
            "succeeded"
        ]
    );
    assert!(report.wall() < ms(2500), "{:?}", report.wall());
    assert_eq!(executor.stats().abandoned, 1);
    assert!(report[1].content().to_text().contains("`ms`"), "{}", report[1].content().to_text());
    assert!(report[4].content().to_text().contains("did you mean nap?"));
    assert!(eventually(|| executor.stats().abandoned == 0));
    assert_eq!((executor.stats().late, executor.stats().running), (1, 0));
}

#[test]
fn a_tool_that_never_returns_costs_a_thread_and_nothing_else() {
    let _shared = machine::shared();
    let hangs = Tool::new("hangs", "", || -> Result<u8, _> {
        loop {
            thread::park();
        }
    });
    let tools = ToolSet::new().with(hangs).with(nap());
    let executor = Executor::builder(tools).blocking_threads(1).deadline(ms(500)).build().unwrap();
    let start = Instant::now();
    let report = executor.run(&calls([("hangs", ""), ("nap", r#"{"ms":1}"#)]));
    assert!(start.elapsed() < ms(2000), "{:?}", start.elapsed());
    assert_eq!(names(&report), ["timed_out", "deadline"]);
    assert_eq!(executor.stats().abandoned, 1);
    let report = executor.run(&calls([("nap", r#"{"ms":1}"#)]));
    assert_eq!(names(&report), ["succeeded"]);
}

#[test]
fn an_abort_still_yields_a_complete_report() {
    let begun = Arc::new(AtomicUsize::new(0));
    let polite_nap = Tool::new("polite_nap", "", {
        let begun = Arc::clone(&begun);
        move |args: Nap, cx: &CallContext| {
            begun.fetch_add(1, Ordering::Relaxed);
            Ok(cx.sleep(ms(args.ms))?)
        }
    });
    let fails = Tool::new("fails", "", move || -> Result<u8, _> {
        assert!(eventually(|| begun.load(Ordering::Relaxed) == 1));
        Err("broken".into())
    });
    let executor = Executor::builder(ToolSet::new().with(polite_nap).with(fails))
        .policy(FailurePolicy::abort_on_first())
        .max_parallel(2)
        .build()
        .unwrap();
    let report = executor.run(&calls([
        ("polite_nap", r#"{"ms":60000}"#),
        ("fails", ""),
        ("polite_nap", r#"{"ms":60000}"#),
    ]));
    assert_eq!(names(&report), ["cancelled", "failed", "aborted"]);
    assert_eq!(report.aborted().unwrap().index, Some(1));
    assert!(report.wall() < ms(20_000));
    assert!(report.into_result().unwrap_err().is_aborted());
}

#[test]
fn a_cancelled_batch_ends_within_the_grace() {
    let tools = ToolSet::new().with(polite_nap()).with(nap());
    let executor = Executor::builder(tools).grace(ms(10_000)).build().unwrap();
    let hangup = CancelToken::new();
    let canceller = thread::spawn({
        let (hangup, executor) = (hangup.clone(), executor.clone());
        move || {
            assert!(eventually(|| executor.stats().running == 2));
            hangup.cancel();
        }
    });
    let turn = calls([("polite_nap", r#"{"ms":60000}"#), ("nap", r#"{"ms":500}"#)]);
    let report = executor.turn(&turn).cancel(&hangup).run();
    canceller.join().unwrap();
    assert_eq!(names(&report), ["cancelled", "succeeded"]);
    let report = executor.turn(&turn).cancel(&hangup).run();
    assert!(matches!(report[1].outcome, Outcome::Cancelled { started: false, .. }));
}

#[test]
fn calls_on_one_key_run_in_call_order_and_others_meanwhile() {
    let log = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let write = Tool::new("write", "", {
        let log = Arc::clone(&log);
        move |args: Nap| {
            thread::sleep(ms(args.ms));
            log.lock().push(args.ms);
            Ok(())
        }
    })
    .writes(|args| args.key.clone());
    let executor = Executor::new(ToolSet::new().with(write)).unwrap();
    let report = executor.run(&calls([
        ("write", r#"{"ms":800,"key":"a"}"#),
        ("write", r#"{"ms":1,"key":"a"}"#),
        ("write", r#"{"ms":20,"key":"b"}"#),
    ]));
    assert!(report.all_succeeded(), "{report:?}");
    assert_eq!(*log.lock(), [20, 800, 1]);
}

#[test]
fn nested_batches_lend_their_permits() {
    fn deeper(n: u64, cx: &CallContext) -> u64 {
        if n == 0 {
            return 1;
        }
        let turn = calls([("down", &*format!(r#"{{"ms":{}}}"#, n - 1))]);
        let report = cx.run(&turn);
        report[0].content().to_text().parse().unwrap_or(0)
    }
    let down = Tool::new("down", "", |args: Nap, cx: &CallContext| Ok(deeper(args.ms, cx)));
    let executor = Executor::builder(ToolSet::new().with(down)).max_parallel(1).build().unwrap();
    let report = executor.run(&calls([("down", r#"{"ms":3}"#)]));
    assert_eq!(report[0].content().to_text(), "1");
    let report = executor.run(&calls([("down", r#"{"ms":4}"#)]));
    assert_eq!(report[0].content().to_text(), "0", "depth 4 is refused");
    assert_eq!(executor.stats().running, 0);
}

#[test]
fn compute_tools_run_on_rayon_and_lost_workers_are_replaced() {
    let where_am_i = Tool::new("where", "", || Ok(rayon::current_num_threads())).compute();
    let hangs = Tool::new("hangs", "", || -> Result<u8, _> {
        loop {
            thread::park();
        }
    })
    .compute()
    .timeout(ms(50));
    let tools = ToolSet::new().with(where_am_i).with(hangs);
    let executor = Executor::builder(tools).rayon_threads(2).build().unwrap();
    let report = executor.run(&calls([("hangs", ""), ("hangs", ""), ("where", "")]));
    assert_eq!(names(&report), ["timed_out", "timed_out", "succeeded"]);
    assert_eq!(report[2].content().to_text(), "2");
}

#[test]
fn scoped_tools_borrow_from_the_stack() {
    let _shared = machine::shared();
    let hits = AtomicUsize::new(0);
    for compute in [false, true] {
        let hit = ScopedTool::new("hit", "", |args: Nap| {
            thread::sleep(ms(args.ms));
            Ok(hits.fetch_add(1, Ordering::Relaxed))
        });
        let hit = if compute { hit.set(Tool::compute) } else { hit };
        let executor = Executor::builder(ToolSet::new()).rayon_threads(4).build().unwrap();
        let turn = calls((0..4).map(|_| ("hit", r#"{"ms":300}"#)));
        let report = executor.run_scoped(&turn, ScopedToolSet::new().with(hit)).unwrap();
        assert!(report.all_succeeded());
        assert!(report.wall() < ms(1100), "{:?}", report.wall());
    }
    assert_eq!(hits.load(Ordering::Relaxed), 8);
}

#[test]
fn scoped_tools_stay_within_the_lanes_limits() {
    let _shared = machine::shared();
    let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let wait = ScopedTool::new("wait", "", || {
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        thread::sleep(ms(30));
        now.fetch_sub(1, Ordering::SeqCst);
        Ok(thread::current().name().map(str::to_owned))
    });
    // One that computes beside it doesn't take it onto a pool's workers.
    let sum = ScopedTool::new("sum", "", || Ok(thread::current().name().map(str::to_owned)));
    let tools = ScopedToolSet::new().with(wait).with(sum.set(Tool::compute));
    let executor = Executor::builder(ToolSet::new()).blocking_threads(4).build().unwrap();
    let turn = calls((0..12).map(|_| ("wait", "")).chain([("sum", "")]));
    let report = executor.run_scoped(&turn, tools).unwrap();
    assert!(report.all_succeeded());
    assert_eq!(most.load(Ordering::SeqCst), 4);
    let [.., wait, sum] = report.calls() else { panic!("no calls") };
    assert_eq!((wait.lane, sum.lane), (Lane::Blocking, Lane::Compute));
    assert_eq!(wait.content().to_text(), "toolpool-scoped");
    assert!(sum.content().to_text().starts_with("toolpool-compute"));
}

#[test]
fn borrowed_tools_that_compute_keep_no_worker_from_others() {
    let _shared = machine::shared();
    let sum = Tool::new("sum", "", || Ok("x")).compute();
    let executor = Executor::builder(ToolSet::new().with(sum)).rayon_threads(2).build().unwrap();
    let both = Barrier::new(2);
    let outer = ScopedTool::new("outer", "", || {
        both.wait();
        // All workers of the pool wait here.
        Ok(executor.run(&calls([("sum", "")])).all_succeeded())
    });
    let tools = ScopedToolSet::new().with(outer.set(Tool::compute));
    let report = executor.run_scoped(&calls([("outer", ""), ("outer", "")]), tools).unwrap();
    let told: Vec<_> = report.results().map(|result| result.content.to_text()).collect();
    assert_eq!(told, ["true", "true"]);
    assert!(report.wall() < ms(5000), "{:?}", report.wall());
}

#[test]
fn a_scope_within_a_borrowed_tool_that_computes_isnt_locked_out_by_queued_ones() {
    let _shared = machine::shared();
    let executor = Executor::builder(ToolSet::new())
        .rayon_threads(2)
        .blocking_threads(4)
        .deadline(ms(20_000))
        .build()
        .unwrap();
    let short = ScopedTool::new("short", "", || Ok(thread::sleep(ms(1)))).set(Tool::compute);
    let nests = ScopedTool::new("nests", "", || {
        thread::sleep(ms(20));
        let inner = ScopedToolSet::new().with(ScopedTool::new("inner", "", || Ok(1)));
        Ok(executor.run_scoped(&calls([("inner", "")]), inner)?.all_succeeded())
    });
    let tools = ScopedToolSet::new().with(short).with(nests.set(Tool::compute));
    let all = calls((0..12).map(|n| (if n < 2 { "nests" } else { "short" }, "")));
    let report = executor.run_scoped(&all, tools).unwrap();
    assert!(report.all_succeeded(), "{report:?}");
    assert_eq!(report[0].content().to_text(), "true");
    assert!(report.wall() < ms(10_000), "{:?}", report.wall());
}

#[test]
fn a_batch_begun_in_a_tool_may_use_one_key_several_times() {
    let _shared = machine::shared();
    let write = Tool::new("write", "", || Ok("written")).writes(|()| "k");
    let begins = Tool::new("begins", "", |(): (), cx: &CallContext| {
        let within = cx.get::<Executor>().ok_or("no executor")?;
        let turn = calls([("write", ""), ("write", ""), ("write", "")]);
        let mut batch = within.begin();
        turn.calls().iter().for_each(|call| batch.push(call.clone()));
        thread::sleep(ms(50));
        Ok(batch.finish(&turn).all_succeeded())
    });
    let executor = Executor::new(ToolSet::new().with(write).with(begins)).unwrap();
    let report = executor.turn(&calls([("begins", "")])).context(executor.clone()).run();
    assert_eq!(report[0].content().to_text(), "true", "{report:?}");
}

#[test]
fn a_scope_may_wait_on_the_workers_of_the_pool_that_its_tools_use() {
    let _shared = machine::shared();
    let pool = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap());
    let builder =
        Executor::builder(ToolSet::new().with(Tool::new("sum", "", || Ok("x")).compute()));
    let executor = builder.rayon_pool(Arc::clone(&pool)).build().unwrap();
    let both = Barrier::new(2);
    let scope = || {
        both.wait();
        let outer = ScopedTool::new("outer", "", || {
            Ok(executor.run(&calls([("sum", "")])).all_succeeded())
        });
        let tools = ScopedToolSet::new().with(outer);
        let report = executor.run_scoped(&calls([("outer", "")]), tools).unwrap();
        assert_eq!(report[0].content().to_text(), "true");
        assert!(report.wall() < ms(5000), "{:?}", report.wall());
    };
    pool.join(scope, scope);
}

#[test]
fn a_thread_left_by_an_earlier_attempt_doesnt_keep_the_next_ones_permits() {
    let _shared = machine::shared();
    let (release, gate) = std::sync::mpsc::channel::<()>();
    let gate = parking_lot::Mutex::new(gate);
    let runs = Arc::new(AtomicUsize::new(0));
    let inner = {
        let runs = Arc::clone(&runs);
        Tool::new("inner", "", move || {
            runs.fetch_add(1, Ordering::SeqCst);
            Ok(gate.lock().recv().is_ok())
        })
    };
    let inner = inner.read_only();
    let quick = Tool::new("quick", "", || Ok("q"));
    let outer = Tool::new("outer", "", move |(): (), cx: &CallContext| {
        let nested = |name| cx.run(&calls([(name, "")])).all_succeeded();
        if cx.attempt() > 1 {
            return Ok(nested("quick"));
        }
        let left = cx.clone();
        thread::spawn(move || left.run(&calls([("inner", "")])));
        assert!(eventually(|| runs.load(Ordering::SeqCst) == 1));
        Err(ToolError::new(ToolErrorKind::Unavailable, "again"))
    });
    let outer = outer.read_only().retries(1).timeout(ms(20_000));
    let tools = ToolSet::new().with(inner).with(quick).with(outer);
    let executor = Executor::builder(tools).max_parallel(2).build().unwrap();
    let report = executor.run(&calls([("outer", "")]));
    assert_eq!((report[0].attempts, report[0].content().to_text()), (2, "true".to_owned()));
    drop(release);
    assert!(eventually(|| executor.stats().running == 0));
}

#[test]
fn a_shut_down_executor_answers_every_call() {
    let executor = Executor::new(ToolSet::new().with(polite_nap())).unwrap();
    let runner = thread::spawn({
        let executor = executor.clone();
        move || executor.run(&calls([("polite_nap", r#"{"ms":60000}"#)]))
    });
    assert!(eventually(|| executor.stats().running == 1));
    assert!(executor.shutdown(ms(20_000)));
    assert_eq!(names(&runner.join().unwrap()), ["cancelled"]);
    let report = executor.run(&calls([("polite_nap", r#"{"ms":1}"#)]));
    assert_eq!(report[0].outcome, Outcome::NotStarted(NotStarted::Shutdown));
}

#[test]
fn a_turn_that_was_cut_short_runs_nothing() {
    let executor = Executor::new(ToolSet::new().with(nap())).unwrap();
    let call = ToolCall::new("1", "nap", r#"{"ms":1}"#).withheld("max_tokens");
    let report = executor.run(&Turn::from_calls([call]));
    assert_eq!(names(&report), ["withheld"]);
    assert!(report[0].content().to_text().contains("max_tokens"));
}

#[test]
fn surplus_calls_are_refused_and_many_are_run() {
    let quick = Tool::new("quick", "", || Ok(()));
    let executor = Executor::builder(ToolSet::new().with(quick))
        .max_calls(10_000)
        .max_parallel(8)
        .build()
        .unwrap();
    let report = executor.run(&calls((0..10_001).map(|_| ("quick", ""))));
    assert_eq!(report.failures().count(), 1);
    assert_eq!(report[10_000].outcome, Outcome::Rejected(Rejected::TooManyCalls(10_000)));
    assert!(executor.stats().blocking_threads <= 8, "{:?}", executor.stats());
}

#[test]
fn repeated_ids_are_noted_in_short_turns_and_in_long_ones() {
    let executor = Executor::new(ToolSet::new().with(Tool::new("quick", "", || Ok(())))).unwrap();
    for n in [4, 15, 16, 40] {
        let ids: Vec<_> = (0..n).map(|at| ["a", "", "b", "a", "c"][at % 5]).collect();
        let calls = ids.iter().map(|id| ToolCall::new(*id, "quick", ""));
        let report = executor.run(&Turn::from_calls(calls));
        for (index, id) in ids.iter().enumerate() {
            let first = ids.iter().position(|other| other == id).filter(|_| !id.is_empty());
            let double = first.filter(|first| *first != index).map(Note::DuplicateId);
            assert_eq!(report[index].notes, Vec::from_iter(double), "{index} of {n}");
        }
    }
}

#[test]
fn a_rate_over_a_span_without_end_lets_no_second_call_start() {
    let never_again = Group::new("once").rate(1, Duration::MAX);
    let quick = Tool::new("quick", "", || Ok(())).group(&never_again);
    let executor = Executor::new(ToolSet::new().with(quick)).unwrap();
    let turn = calls([("quick", ""), ("quick", "")]);
    let report = executor.turn(&turn).deadline(ms(500)).run();
    assert_eq!(names(&report), ["succeeded", "deadline"]);
}

#[test]
fn the_stats_have_no_names_that_the_model_made_up() {
    let quick = Tool::new("quick", "", || Ok(()));
    let executor = Executor::builder(ToolSet::new().with(quick)).max_calls(2).build().unwrap();
    let made_up = [
        ToolCall::new("", "unknown", ""),
        ToolCall::new("", "unreadable", "{"),
        ToolCall::new("", "too_many", ""),
        ToolCall::new("", "quick", ""),
    ];
    let cut = made_up.clone().map(|call| call.withheld("max_tokens"));
    for turn in [made_up, cut] {
        assert_eq!(executor.run(&Turn::from_calls(turn)).failures().count(), 4);
    }
    let tools = executor.stats().tools;
    assert_eq!(
        tools.into_iter().map(|(name, of)| (name, of.calls)).collect::<Vec<_>>(),
        [("quick".to_owned(), 2)]
    );
}

#[test]
fn two_hundred_sessions_share_an_executor_and_none_takes_more_than_its_share() {
    const SESSIONS: usize = 200;
    const CAP: usize = 4;
    let order = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let gate = CancelToken::new();
    let wait = Tool::new("wait", "", {
        let gate = gate.clone();
        move || {
            gate.wait(toolpool::Deadline::after(Instant::now(), ms(60_000)));
            Ok(())
        }
    });
    let step = Tool::new("step", "", {
        let order = Arc::clone(&order);
        move |_: (), cx: &CallContext| {
            order.lock().push(*cx.get::<usize>().unwrap());
            Ok(())
        }
    });
    let tools = ToolSet::new().with(wait).with(step);
    let executor = Executor::builder(tools).max_parallel(CAP).build().unwrap();
    thread::scope(|scope| {
        // Nothing starts before everybody has handed in.
        scope.spawn(|| executor.run(&calls((0..CAP).map(|_| ("wait", "")))));
        assert!(eventually(|| executor.stats().running == CAP));
        for session in 0..SESSIONS {
            let executor = &executor;
            scope.spawn(move || {
                let turn = calls((0..if session == 0 { 128 } else { 3 }).map(|_| ("step", "")));
                assert!(executor.turn(&turn).context(session).run().all_succeeded());
            });
        }
        let all = 128 + 3 * (SESSIONS - 1);
        let all_wait = eventually(|| executor.stats().queued == all);
        gate.cancel();
        assert!(all_wait, "{:?}", executor.stats());
    });
    let order = order.lock();
    let small: Vec<_> = (0..order.len()).filter(|at| order[*at] != 0).collect();
    // A call is noted by its own thread, which may be late: as many as run at once are passed over.
    let nearly_last = small[small.len() - 1 - CAP];
    let big_before = order[..nearly_last].iter().filter(|session| **session == 0).count();
    // Turn by turn, the big session has had three calls when the others have had theirs.
    assert!(big_before <= 3 + CAP, "{big_before} calls of the big session went first");
}

#[test]
fn borrowed_tools_that_compute_wait_for_workers_without_spending_their_time() {
    let _shared = machine::shared();
    let executor = Executor::builder(ToolSet::new()).rayon_threads(1).build().unwrap();
    let work = ScopedTool::new("work", "", || {
        thread::sleep(ms(300));
        Ok("done")
    });
    let tools = ScopedToolSet::new().with(work.set(|tool| tool.compute().timeout(ms(1000))));
    let report = executor.run_scoped(&calls([("work", ""); 6]), tools).unwrap();
    assert!(report.all_succeeded(), "{:?}", names(&report));
}

#[test]
fn a_scope_keeps_a_worker_from_tools_that_hang() {
    let _shared = machine::shared();
    let gate = Gate::default();
    let hang = Tool::new("hang", "", {
        let gate = gate.clone();
        move || Ok(gate.wait())
    });
    let tools = ToolSet::new().with(hang.compute().timeout(ms(1500)));
    let executor = Executor::builder(tools).rayon_threads(1).build().unwrap();
    let group = Group::new("one at a time").max_parallel(1);
    let first =
        ScopedTool::new("first", "", || Ok(executor.run(&calls([("hang", "")]))[0].outcome.name()));
    let second = ScopedTool::new("second", "", || Ok("done"));
    let tools = ScopedToolSet::new()
        .with(first.set(|tool| tool.group(&group)))
        .with(second.set(|tool| tool.compute().group(&group).timeout(ms(20_000))));
    let report = executor.run_scoped(&calls([("first", ""), ("second", "")]), tools).unwrap();
    gate.open();
    let told: Vec<_> = report.results().map(|result| result.content.to_text()).collect();
    assert_eq!(told, ["timed_out", "done"]);
}

/// How often a closer runs that is registered now.
fn closer_runs(cx: &CallContext) -> usize {
    let closed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&closed);
    let _closer = cx.on_cancel(move || {
        count.fetch_add(1, Ordering::SeqCst);
    });
    closed.load(Ordering::SeqCst)
}

#[test]
fn what_an_attempt_left_behind_learns_that_its_call_ended_before_the_next() {
    let left = Arc::new(std::sync::Mutex::new(None));
    let flaky = Tool::new("flaky", "", {
        let left = Arc::clone(&left);
        move |_: (), cx: &CallContext| -> Result<(), ToolError> {
            *left.lock().unwrap() = Some(cx.clone());
            Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into())
        }
    });
    let retry = Retry::times(1).backoff(ms(60_000)).max_backoff(ms(60_000));
    let tools = ToolSet::new().with(flaky.read_only().retry(retry).timeout(ms(120_000)));
    let executor = Executor::builder(tools).no_deadline().build().unwrap();
    let hangup = CancelToken::new();
    let report = thread::scope(|scope| {
        let run = scope.spawn(|| executor.turn(&calls([("flaky", "")])).cancel(&hangup).run());
        assert!(eventually(|| executor.stats().queued == 1 && left.lock().unwrap().is_some()));
        hangup.cancel();
        run.join().unwrap()
    });
    assert!(!report[0].outcome.is_success());
    assert_eq!(report[0].attempts, 1, "{report:?}");
    let cx = left.lock().unwrap().take().unwrap();
    assert!(eventually(|| cx.is_cancelled()));
    assert_eq!(closer_runs(&cx), 1);
}

#[test]
fn an_exclusive_call_that_can_not_start_bars_nobody() {
    let _shared = machine::shared();
    let gate = Gate::default();
    let group = Group::new("lost").max_parallel(1);
    let hang = Tool::new("hang", "", {
        let gate = gate.clone();
        move || Ok(gate.wait())
    });
    let wait = |_: (), cx: &CallContext| Ok(cx.sleep(ms(100))?);
    let tools = ToolSet::new()
        .with(hang.group(&group).timeout(ms(100)))
        .with(Tool::new("alone", "", || Ok("alone")).exclusive().group(&group).timeout(ms(3000)))
        .with(Tool::new("only", "", || Ok("only")).read_only().exclusive())
        .with(Tool::new("look", "", || Ok("seen")).read_only())
        .with(Tool::new("nap", "", wait));
    let executor = Executor::new(tools).unwrap();
    // The policy of a batch that grows is asked when it is complete.
    let custom = FailurePolicy::custom(|_| toolpool::Decision::Continue);
    let mut grows = executor.batch().policy(custom).begin();
    let pushed = calls([("look", ""), ("only", "")]);
    grows.push(pushed.calls()[0].clone());
    assert!(eventually(|| executor.stats().running + executor.stats().queued == 0));
    grows.push(pushed.calls()[1].clone());
    let ten = calls([("nap", ""); 10]);
    let report = executor.turn(&ten).deadline(ms(20_000)).run();
    assert!(report.all_succeeded() && report.wall() < ms(900), "{report:?}");
    assert!(grows.finish(&pushed).all_succeeded());

    assert_eq!(names(&executor.run(&calls([("hang", "")]))), ["timed_out"]);
    thread::scope(|scope| {
        let alone = scope.spawn(|| executor.run(&calls([("alone", "")])));
        assert!(eventually(|| executor.stats().queued == 1));
        let report = executor.run(&ten);
        assert!(report.all_succeeded() && report.wall() < ms(900), "{:?}", report.wall());
        gate.open();
        assert!(alone.join().unwrap().all_succeeded());
    });
}

#[test]
fn a_closer_registered_when_the_call_is_over_runs_at_once() {
    let (kept, contexts) = std::sync::mpsc::channel();
    let tries = Tool::new("tries", "", move |_: (), cx: &CallContext| {
        kept.send(cx.clone()).unwrap();
        match cx.attempt() {
            1 => Err(ToolError::new(ToolErrorKind::Unavailable, "not yet")),
            _ => Ok(()),
        }
    });
    let tools = ToolSet::new().with(tries.read_only().retries(1));
    let executor = Executor::new(tools).unwrap();
    assert!(executor.run(&calls([("tries", "")]))[0].outcome.is_success());
    let contexts: Vec<_> = contexts.try_iter().collect();
    assert_eq!(contexts.len(), 2);
    assert!(eventually(|| contexts[1].is_cancelled()));
    assert_eq!(contexts.iter().map(closer_runs).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn a_cap_holds_though_a_clone_of_the_tool_has_another() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let narrow = {
        let (running, most) = (Arc::clone(&running), Arc::clone(&most));
        Tool::new("query", "", move || {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::sleep(ms(20));
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        })
        .max_parallel(1)
    };
    let wide = narrow.clone().max_parallel(8);
    let executor = Executor::new(ToolSet::new().with(narrow.clone())).unwrap();
    let same = executor.with_tools(ToolSet::new().with(narrow)).unwrap();
    let other = executor.with_tools(ToolSet::new().with(wide)).unwrap();
    let six = calls([("query", ""); 6]);
    let most_of = |second: &Executor| {
        most.store(0, Ordering::SeqCst);
        thread::scope(|scope| {
            scope.spawn(|| executor.run(&six));
            thread::sleep(ms(5));
            scope.spawn(|| second.run(&calls([("query", "")])));
        });
        most.load(Ordering::SeqCst)
    };
    assert_eq!(most_of(&same), 1, "they are counted together");
    assert!(most_of(&other) <= 2, "each by itself");
}

#[test]
fn names_that_the_model_made_up_hold_up_no_deadline() {
    let tools = (0..1000).map(|n| {
        Tool::new(format!("tool_of_a_rather_long_name_that_is_usual_{n:05}"), "", || Ok(1))
    });
    let tools = tools.fold(ToolSet::new(), ToolSet::with);
    let executor = Executor::builder(tools).deadline(ms(50)).build().unwrap();
    for repeats in [1, 3, 9] {
        let name = |n: usize| format!("{n:04}") + &"tool_of_a_rather_long_name_".repeat(repeats);
        let asked = Turn::from_calls((0..128).map(|n| ToolCall::new("", name(n), "")));
        let began = Instant::now();
        assert_eq!(names(&executor.run(&asked)), ["unknown_tool"; 128]);
        let took = began.elapsed();
        assert!(took < ms(2000), "{took:?}");
    }
}

#[test]
fn a_directory_for_cut_results_must_be_there_when_the_executor_is_built() {
    let directory = std::env::temp_dir();
    let with = |directory| Executor::builder(ToolSet::new()).keep_cut_results_in(directory).build();
    assert!(with(directory.clone()).is_ok());
    let missing = directory.join("there").join("is none");
    let error = with(missing.clone()).map(|_| ()).unwrap_err();
    let expected = format!(
        "keep_cut_results_in({}): no file can be made there: No such file or directory (os error 2)",
        missing.display()
    );
    assert!(error.is_config() && error.to_string() == expected, "{error}");
}
