//! Calls that start while the message is still being written, approval, suspension, observation.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;
use toolpool::{
    Approval, ApprovalRequest, Block, CallContext, CancelToken, Decision, Event, EventKind,
    Executor, FailurePolicy, NotStarted, Note, Outcome, Output, Rejected, Report, Resolution, Run,
    ScopedTool, ScopedToolSet, Suspended, Tool, ToolCall, ToolSet, Turn,
};

use crate::faults::harness::{Gate, eventually};
use crate::machine;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[derive(Deserialize, JsonSchema)]
struct Amount {
    n: u64,
}

fn look() -> Tool<Amount> {
    Tool::new("look", "", |args: Amount, cx: &CallContext| {
        cx.sleep(ms(args.n))?;
        Ok(args.n)
    })
    .read_only()
}

fn pay() -> Tool<Amount> {
    Tool::new("pay", "", |args: Amount| Ok(args.n))
}

fn call(id: &str, name: &str, n: u64) -> ToolCall {
    ToolCall::new(id, name, format!(r#"{{"n":{n}}}"#))
}

fn names(report: &Report) -> Vec<&'static str> {
    report.calls().iter().map(|call| call.outcome.name()).collect()
}

#[test]
fn reading_calls_start_early_and_the_others_wait_for_the_end() {
    let _shared = machine::shared();
    let executor = Executor::new(ToolSet::new().with(look()).with(pay())).unwrap();
    let calls = [call("1", "look", 1000), call("2", "pay", 5), call("3", "look", 1000)];
    let mut batch = executor.begin();
    for call in &calls {
        batch.push(call.clone());
    }
    // Only the paying call waits.
    thread::sleep(ms(1050));
    assert!(eventually(|| (executor.stats().running, executor.stats().queued) == (0, 1)));
    let start = Instant::now();
    let report = batch.finish(&Turn::from_calls(calls));
    assert!(start.elapsed() < ms(5000), "{:?}", start.elapsed());
    assert!(report.all_succeeded(), "{report:?}");
    assert!(report[1].started.unwrap() >= report.message_ended().unwrap());
    assert!(report.saved_by_early_start() >= ms(50), "{:?}", report.saved_by_early_start());
}

#[test]
fn a_message_that_is_cut_or_breaks_off_runs_nothing_else() {
    let executor = Executor::new(ToolSet::new().with(look()).with(pay())).unwrap();
    let calls = [call("1", "look", 60_000), call("2", "pay", 5)];
    let mut batch = executor.begin();
    calls.iter().for_each(|call| batch.push(call.clone()));
    assert!(eventually(|| executor.stats().running == 1));
    let cut = calls.clone().map(|call| call.withheld("max_tokens"));
    let report = batch.finish(&Turn::from_calls(cut));
    assert_eq!(names(&report), ["cancelled", "withheld"]);
    assert!(report.message_ended().is_some(), "both sides of what was saved include the wait");

    let mut batch = executor.begin();
    calls.iter().for_each(|call| batch.push(call.clone()));
    assert!(eventually(|| executor.stats().running == 1));
    assert_eq!(names(&batch.broken()), ["cancelled", "stream_broken"]);
}

#[test]
fn a_message_that_isnt_the_pushed_ones_has_answers_of_its_own() {
    let executor = Executor::new(ToolSet::new().with(look()).with(pay())).unwrap();
    let pushed = [call("1", "look", 0), call("2", "look", 60_000)];
    for other in [
        vec![call("3", "look", 7)],
        vec![call("1", "look", 0), call("3", "pay", 1), call("4", "gone", 1)],
    ] {
        let mut batch = executor.begin();
        pushed.iter().for_each(|call| batch.push(call.clone()));
        assert!(eventually(|| executor.stats().running == 1));
        let report = batch.finish(&Turn::from_calls(other.clone()));
        let answered: Vec<_> = report.calls().iter().map(|call| call.call.id()).collect();
        assert_eq!(answered, other.iter().map(ToolCall::id).collect::<Vec<_>>());
        assert_eq!(
            names(&report),
            ["stream_broken", "stream_broken", "unknown_tool"][..other.len()]
        );
        assert!(eventually(|| executor.stats().running + executor.stats().batches == 0));
    }
}

#[test]
fn a_call_for_somebody_outside_is_withheld_with_the_message_it_stands_in() {
    let ask = Tool::deferred("ask", "", &serde_json::json!({ "type": "object" }));
    let executor = Executor::new(ToolSet::new().with(ask).with(pay())).unwrap();
    let calls = [call("1", "ask", 0), call("2", "pay", 0), call("3", "ask", 0)];
    let cut = Turn::from_calls(calls.clone().map(|call| call.withheld("max_tokens")));
    for pushed in 0..=3 {
        let begun = || {
            let mut batch = executor.begin();
            calls[..pushed].iter().for_each(|call| batch.push(call.clone()));
            batch
        };
        let report = begun().finish(&cut);
        assert_eq!(names(&report), ["withheld"; 3]);
        assert!(report.into_suspended(&cut).is_err(), "nobody may go and get the answers");
        assert_eq!(names(&begun().broken()), vec!["stream_broken"; pushed]);
    }
    let mut batch = executor.begin();
    batch.push(call("1", "pay", 7));
    let report = batch.finish(&Turn::from_calls(calls.clone()));
    assert_eq!(names(&report), ["stream_broken"; 3]);

    let mut batch = executor.begin();
    batch.push(calls[0].clone());
    let report = batch.finish(&Turn::from_calls(calls));
    assert_eq!(names(&report), ["deferred", "succeeded", "deferred"]);
}

#[test]
fn a_dropped_batch_is_cancelled_without_waiting() {
    let _shared = machine::shared();
    let executor = Executor::new(ToolSet::new().with(look())).unwrap();
    let mut batch = executor.begin();
    batch.push(call("1", "look", 60_000));
    assert!(eventually(|| executor.stats().running == 1));
    let start = Instant::now();
    drop(batch);
    assert!(start.elapsed() < ms(1000));
    assert!(eventually(|| executor.stats().running + executor.stats().batches == 0));
    assert!(start.elapsed() < ms(20_000));
}

#[test]
fn a_timeout_fires_while_nobody_waits_for_the_batch() {
    let _shared = machine::shared();
    let stuck = Tool::new("stuck", "", || -> Result<u8, _> {
        loop {
            thread::park();
        }
    })
    .read_only()
    .timeout(ms(100));
    let executor = Executor::new(ToolSet::new().with(stuck)).unwrap();
    let mut batch = executor.begin();
    let call = ToolCall::new("1", "stuck", "");
    batch.push(call.clone());
    assert!(eventually(|| executor.stats().abandoned == 1));
    thread::sleep(ms(1500));
    let report = batch.finish(&Turn::from_calls([call]));
    assert!(report[0].ended < ms(1500), "{:?}", report[0]);
}

#[test]
fn approval_allows_edits_denies_and_defers() {
    let tools = ToolSet::new().with(look()).with(pay().needs_approval());
    let executor = Executor::builder(tools)
        .approval(|requests| {
            let answer = |n| match n {
                "1" => Approval::Allow,
                "2" => Approval::Edit(r#"{"n":20}"#.into()),
                "3" => Approval::Deny("too much".into()),
                _ => Approval::Defer,
            };
            requests.iter().map(|request| answer(request.call.id())).collect()
        })
        .build()
        .unwrap();
    let turn = Turn::from_calls([
        call("0", "look", 1),
        call("1", "pay", 1),
        call("2", "pay", 2),
        call("3", "pay", 3),
        call("4", "pay", 4),
    ]);
    let report = executor.run(&turn);
    assert_eq!(names(&report), ["succeeded", "succeeded", "succeeded", "denied", "deferred"]);
    assert_eq!(report[2].content().to_text(), "20");

    let suspended = report.into_suspended(&turn).unwrap();
    let nonsense = Resolution::Edit("{nope".into());
    for mistake in [(0, Resolution::Allow), (4, nonsense)] {
        assert!(executor.resume(&suspended, [mistake]).unwrap_err().is_input());
    }
    for first in [Resolution::Allow, Resolution::Deny("no".into())] {
        let twice = [(4, first), (4, Resolution::Allow)];
        let error = executor.resume(&suspended, twice).unwrap_err();
        assert_eq!(error.to_string(), "call 4 has two resolutions");
    }
    let answer = Resolution::Answer("paid in cash".into());
    let report = executor.resume(suspended.clone(), [(4, answer)]).unwrap().run();
    assert_eq!(report[4].content().to_text(), "paid in cash");
    let edited = Resolution::Edit(r#"{"n":40}"#.into());
    let report = executor.resume(suspended, [(4, edited)]).unwrap().run();
    assert_eq!(report[4].content().to_text(), "40");
    assert_eq!(report[1].content().to_text(), "1");
}

#[test]
fn a_report_suspends_no_other_turn() {
    let pay = Tool::new("pay", "", |_: Amount| Ok(())).needs_approval();
    let (executor, one) = suspended(pay, vec![call("1", "pay", 1)]);
    for other in [vec![], vec![call("1", "pay", 2)], vec![call("1", "pay", 1); 2]] {
        let other = Turn::from_calls(other);
        let report = executor.run(one.turn());
        assert_eq!(report.clone().into_suspended(&other), Err(Box::new(report)));
    }
}

#[test]
fn a_call_without_a_handler_is_answered_or_denied_and_never_allowed() {
    let ask = Tool::deferred("ask", "Asks a person", &serde_json::json!({"type": "object"}));
    let executor = Executor::new(ToolSet::new().with(ask)).unwrap();
    let turn = Turn::from_calls([call("1", "ask", 1)]);
    let suspended = executor.run(&turn).into_suspended(&turn).unwrap();
    for runs in [Resolution::Allow, Resolution::Edit("{}".into())] {
        let error = executor.resume(&suspended, [(0, runs)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the call with the index 0 can't run: ask has no handler; answer or deny it"
        );
    }
    let answer = Resolution::Answer("yes".into());
    let report = executor.resume(&suspended, [(0, answer)]).unwrap().run();
    assert_eq!(report[0].content().to_text(), "yes");
}

/// An executor that defers every call of `pay`, and a turn of it that is suspended.
fn suspended(pay: impl Into<Tool>, calls: Vec<ToolCall>) -> (Executor, Suspended) {
    let tools = ToolSet::new().with(look()).with(pay.into());
    let executor = Executor::builder(tools)
        .approval(|requests| requests.iter().map(|_| Approval::Defer).collect())
        .build()
        .unwrap();
    let turn = Turn::from_calls(calls);
    let suspended = executor.turn(&turn).idempotency_seed("row-7").run().into_suspended(&turn);
    (executor, suspended.unwrap())
}

#[test]
fn a_resumed_run_has_settings_of_its_own_and_its_calls_keep_their_places() {
    let pay = Tool::new("pay", "", |_: Amount, cx: &CallContext| {
        Ok(format!("{} {} {}", cx.get::<&str>().unwrap(), cx.index(), cx.idempotency_key()))
    })
    .needs_approval();
    let calls = vec![call("0", "look", 0), call("1", "pay", 1), call("2", "pay", 2)];
    let (executor, suspended) = suspended(pay, calls);
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&events);
    let run = executor.resume(suspended, [(2, Resolution::Allow)]).unwrap();
    let report = run
        .context("ada")
        .idempotency_seed("row-7")
        .observer(move |event| heard.lock().push((event.index, name(&event.kind))))
        .run();
    assert_eq!(names(&report), ["succeeded", "deferred", "succeeded"]);
    let told = report[2].content().to_text();
    assert!(told.starts_with("ada 2 row-7-2-"), "{told}");
    assert!(eventually(|| events.lock().iter().any(|event| event.1 == "finished")));
    assert_eq!(*events.lock(), [(2, "queued"), (2, "started"), (2, "finished")]);
    let looked = executor.stats().tools["look"].calls;
    assert_eq!(looked, 1, "what ran before isn't counted twice");
}

#[test]
fn what_is_resumed_twice_has_the_same_keys_and_no_other_run_has_them() {
    let pay = || {
        let key = |_: Amount, cx: &CallContext| Ok(cx.idempotency_key());
        Tool::new("pay", "", key).needs_approval()
    };
    let (executor, one) = suspended(pay(), vec![call("1", "pay", 1)]);
    let stored = serde_json::to_string(&one).unwrap();
    let key = |suspended: &Suspended| {
        let run = executor.resume(suspended, [(0, Resolution::Allow)]).unwrap();
        run.run()[0].content().to_text()
    };
    let read = || serde_json::from_str::<Suspended>(&stored).unwrap();
    assert_eq!((key(&read()), key(&read())), (key(&one), key(&one)));

    // Two that nothing else tells apart.
    let (turn, report) = (one.turn(), one.report());
    let again = |report: &Report| report.clone().into_suspended(turn).unwrap();
    assert_ne!(key(&again(report)), key(&again(report)));

    // What still waits keeps its key.
    let (executor, both) = suspended(pay(), vec![call("1", "pay", 1), call("2", "pay", 2)]);
    let resume =
        |from: &Suspended, at| executor.resume(from, [(at, Resolution::Allow)]).unwrap().run();
    let half = resume(&both, 0).into_suspended(both.turn()).unwrap();
    let key = resume(&half, 1)[1].content().to_text();
    assert_eq!(key, resume(&both, 1)[1].content().to_text());

    let run = executor.resume(&both, [(0, Resolution::Allow)]).unwrap().idempotency_seed("row-7");
    assert!(run.run()[0].content().to_text().starts_with("row-7-0-"));
}

#[test]
fn a_resumed_run_ends_by_its_deadline_when_it_is_cancelled_and_as_its_policy_says() {
    let waits = |n| call("", "pay", n);
    let pay = || {
        Tool::new("pay", "", |args: Amount, cx: &CallContext| {
            cx.sleep(ms(args.n))?;
            match args.n {
                0 => Err("refused".into()),
                n => Ok(n),
            }
        })
        .needs_approval()
    };
    let all = |n: usize| (0..n).map(|index| (index, Resolution::Allow)).collect::<Vec<_>>();

    let (executor, one) = suspended(pay(), vec![waits(60_000)]);
    let report = executor.resume(one, all(1)).unwrap().deadline(ms(300)).run();
    assert_eq!(names(&report), ["timed_out"], "{report:?}");

    let (executor, one) = suspended(pay(), vec![waits(60_000)]);
    let hangup = CancelToken::new();
    hangup.cancel();
    let report = executor.resume(one, all(1)).unwrap().cancel(&hangup).run();
    assert!(report[0].started.is_none() && report[0].is_error(), "{report:?}");

    let (executor, two) = suspended(pay(), vec![waits(0), waits(1)]);
    let run = executor.resume(two, all(2)).unwrap();
    let report = run.policy(FailurePolicy::abort_on_first()).max_parallel(1).run();
    assert_eq!(report.aborted().and_then(|abort| abort.index), Some(0));
    assert_eq!(report[1].content().to_text(), "not run: call 1 (pay) failed");

    let (executor, two) = suspended(pay(), vec![waits(1), waits(1)]);
    let decisions = [(0, Resolution::Deny("no".into())), (1, Resolution::Allow)];
    let run = executor.resume(two, decisions).unwrap();
    let report = run.policy(FailurePolicy::abort_on_first()).run();
    assert_eq!(names(&report)[0], "denied");
    assert!(report[1].started.is_none(), "what was denied counts: {report:?}");
}

/// A tool that runs a batch of `of` through the executor it runs on, each kind of batch in turn.
fn nests(name: &str, of: &'static str, slot: &Arc<OnceLock<Executor>>) -> Tool<Amount> {
    let slot = Arc::clone(slot);
    Tool::new(name, "", move |args: Amount, cx: &CallContext| {
        let executor = slot.get().unwrap();
        let turn = Turn::from_calls([call("", of, args.n), call("", of, args.n)]);
        let mut sum = 0;
        let mut add = |report: Report| {
            for call in &report {
                sum += call.content().to_text().parse::<u64>().unwrap_or(1000);
            }
        };
        let mut batch = executor.begin();
        batch.push(turn.calls()[0].clone());
        add(batch.finish(&turn));
        let helper = executor.begin();
        let helped = thread::scope(|scope| scope.spawn(|| helper.finish(&turn)).join());
        add(helped.unwrap());
        add(cx.run(&turn));
        Ok(sum)
    })
    .read_only()
}

#[test]
fn a_batch_begun_in_a_tool_lends_the_tools_permits_while_it_is_waited_for() {
    let slot = Arc::new(OnceLock::new());
    let tools = ToolSet::new()
        .with(nests("first", "second", &slot).max_parallel(1))
        .with(nests("second", "third", &slot))
        .with(nests("third", "look", &slot).compute())
        .with(look());
    let executor = Executor::builder(tools)
        .max_parallel(1)
        .rayon_threads(1)
        .call_timeout(ms(60_000))
        .build()
        .unwrap();
    slot.set(executor.clone()).unwrap();
    let report = executor.run(&Turn::from_calls([call("", "first", 1), call("", "first", 1)]));
    // Six calls a level, three levels deep.
    assert_eq!(report[0].content().to_text(), (6 * 6 * 6).to_string(), "{report:?}");
    assert_eq!(names(&report), ["succeeded", "succeeded"]);
    assert!(eventually(|| executor.stats().running + executor.stats().batches == 0));
}

#[test]
fn a_batch_in_a_tool_has_the_tools_context_deadline_and_depth() {
    let slot = Arc::new(OnceLock::<Executor>::new());
    let (inner, outer) = (Arc::clone(&slot), Arc::clone(&slot));
    let reads = Tool::new("reads", "", |_: (), cx: &CallContext| {
        Ok(format!("{} {}", cx.get::<&str>().unwrap_or(&"nobody"), cx.remaining() < ms(30_000)))
    });
    let deeper = Tool::new("deeper", "", move || {
        let turn = Turn::from_calls([ToolCall::new("", "reads", "")]);
        Ok(inner.get().unwrap().begin().finish(&turn)[0].content().to_text())
    });
    let begins = Tool::new("begins", "", move || {
        let executor = outer.get().unwrap();
        let turn = ["reads", "deeper"].map(|name| ToolCall::new("", name, ""));
        let report = executor.begin().finish(&Turn::from_calls(turn));
        let texts = report.calls().iter().map(|call| call.content().to_text());
        Ok(texts.collect::<Vec<_>>().join(", "))
    })
    .timeout(ms(20_000));
    let tools = ToolSet::new().with(reads).with(deeper).with(begins);
    let executor = Executor::builder(tools).max_depth(1).build().unwrap();
    slot.set(executor.clone()).unwrap();
    let turn = Turn::from_calls([ToolCall::new("", "begins", "")]);
    let report = executor.turn(&turn).context("ada").run();
    let told = report[0].content().to_text();
    assert_eq!(told, "ada true, not run: calls may be nested 1 deep");
}

#[test]
fn a_borrowed_tool_takes_free_text() {
    let borrowed = String::from("to be");
    let count = ScopedTool::new("count", "", |text: String| Ok(text.matches(&*borrowed).count()));
    let tools = ScopedToolSet::new().with(count.set(|tool| tool.takes_free_text()));
    let calls = [
        ToolCall::free_text("1", "count", "to be or not to be"),
        ToolCall::new("2", "count", r#" { "input" : "to be" } "#),
    ];
    let executor = Executor::new(ToolSet::new()).unwrap();
    let report = executor.run_scoped(&Turn::from_calls(calls), tools).unwrap();
    let told: Vec<_> = report.results().map(|result| result.content.to_text()).collect();
    assert_eq!(told, ["2", "1"]);
}

#[test]
fn borrowed_tools_in_a_tool_lend_its_permits() {
    let slot = Arc::new(OnceLock::<Executor>::new());
    let inner = Arc::clone(&slot);
    let scopes = Tool::new("scopes", "", move |args: Amount| {
        let count = ScopedTool::new("count", "", || Ok(args.n));
        let turn = Turn::from_calls([ToolCall::new("", "count", "")]);
        let tools = ScopedToolSet::new().with(count);
        let report = inner.get().unwrap().run_scoped(&turn, tools).unwrap();
        Ok(report[0].content().to_text())
    });
    let executor = Executor::builder(ToolSet::new().with(scopes)).max_parallel(1).build().unwrap();
    slot.set(executor.clone()).unwrap();
    let report = executor.run(&Turn::from_calls([call("", "scopes", 5)]));
    assert_eq!(report[0].content().to_text(), "5");
}

#[test]
fn an_approver_that_fails_says_no() {
    let tools = || ToolSet::new().with(pay().needs_approval());
    let turn = Turn::from_calls([call("1", "pay", 1)]);
    let nobody = Executor::new(tools()).unwrap();
    let panics = Executor::builder(tools()).approval(|_| panic!("no idea")).build().unwrap();
    let silent = Executor::builder(tools()).approval(|_| Vec::new()).build().unwrap();
    for executor in [nobody, panics, silent] {
        let report = executor.run(&turn);
        assert!(matches!(report[0].outcome, Outcome::Rejected(Rejected::Denied(_))));
    }
}

#[test]
fn a_tool_without_a_handler_is_answered_from_outside() {
    let schema = serde_json::json!({ "type": "object" });
    let tools = ToolSet::new().with(Tool::deferred("ask_user", "Asks the user", &schema));
    let executor = Executor::new(tools).unwrap();
    let report = executor.run(&Turn::from_calls([ToolCall::new("1", "ask_user", "{}")]));
    assert_eq!(report[0].outcome, Outcome::NotStarted(NotStarted::Deferred));
}

#[test]
fn an_observer_is_told_everything_in_order_with_one_end() {
    let events = Arc::new(Mutex::new(Vec::new()));
    let flaky = Tool::new("flaky", "", |args: Amount, cx: &CallContext| {
        cx.progress(format!("attempt {}", cx.attempt()));
        match u64::from(cx.attempt()) < args.n {
            true => Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()),
            false => Ok("done"),
        }
    })
    .read_only()
    .retries(2);
    let executor = Executor::builder(ToolSet::new().with(flaky))
        .observer({
            let events = Arc::clone(&events);
            move |event| events.lock().push((event.index, event.kind.clone()))
        })
        .build()
        .unwrap();
    let report = executor.run(&Turn::from_calls([call("1", "flaky", 2), call("2", "flakier", 1)]));
    assert_eq!(report[0].attempts, 2);
    assert!(eventually(|| events.lock().len() == 9));
    let of = |index: usize| {
        let kinds = events.lock().iter().filter(|e| e.0 == index).map(|e| name(&e.1)).collect();
        let kinds: Vec<_> = kinds;
        kinds
    };
    assert_eq!(
        of(0),
        ["queued", "started", "progress", "retrying", "started", "progress", "finished"]
    );
    assert_eq!(of(1), ["queued", "finished"]);
}

#[test]
fn an_observer_is_told_of_a_batch_that_outlives_its_executor() {
    let ends = Arc::new(Mutex::new(Vec::new()));
    let executor = Executor::builder(ToolSet::new().with(look()))
        .observer({
            let ends = Arc::clone(&ends);
            move |event| {
                if let EventKind::Finished { .. } = event.kind {
                    ends.lock().push(event.index);
                }
            }
        })
        .build()
        .unwrap();
    let mut batch = executor.begin();
    drop(executor);
    let calls = [call("1", "look", 1), call("2", "look", 2)];
    batch.push(calls[0].clone());
    assert!(batch.finish(&Turn::from_calls(calls)).all_succeeded());
    assert!(eventually(|| ends.lock().len() == 2));
    ends.lock().sort_unstable();
    assert_eq!(*ends.lock(), [0, 1]);
}

#[test]
fn a_secret_in_a_decision_is_told_to_nobody() {
    let calls = || [call("1", "pay", 1), call("2", "pay", 2)];
    let tools = || ToolSet::new().with(pay().needs_approval());
    let executor = Executor::builder(tools()).secret("sk-12345").approval(|requests| {
        let deferred = requests.iter().map(|_| Approval::Defer);
        deferred.collect()
    });
    let executor = executor.build().unwrap();
    let turn = Turn::from_calls(calls());
    let suspended = executor.run(&turn).into_suspended(&turn).unwrap();
    let answer = Resolution::Answer("paid with sk-12345".into());
    let denial = Resolution::Deny("not with sk-12345".into());
    let report = executor.resume(suspended, [(0, answer), (1, denial)]).unwrap().run();
    let told: Vec<_> = report.results().map(|result| result.content.to_text()).collect();
    assert_eq!(told, ["paid with [redacted]", "pay was not approved: not with [redacted]"]);

    let denies = |_: &[ApprovalRequest<'_>]| vec![Approval::Deny("sk-12345".into()); 2];
    let report = executor.turn(&turn).approval(denies).run();
    assert!(!serde_json::to_string(&report).unwrap().contains("sk-12345"), "{report:?}");
}

#[test]
fn a_runs_observer_is_told_of_what_is_nested_in_it_and_the_executors_is_not() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let inner = Tool::new("inner", "", || Ok(()));
    let outer = Tool::new("outer", "", |(): (), cx: &CallContext| {
        let nested = cx.run(&Turn::from_calls([ToolCall::new("", "inner", "")]));
        Ok(nested.all_succeeded())
    });
    let hears = |who: &'static str| {
        let heard = Arc::clone(&heard);
        move |event: &Event| {
            if let EventKind::Finished { .. } = event.kind {
                heard.lock().push((who, event.tool.clone()));
            }
        }
    };
    let tools = ToolSet::new().with(inner).with(outer);
    let executor = Executor::builder(tools).observer(hears("executor's")).build().unwrap();
    let turn = Turn::from_calls([ToolCall::new("", "outer", "")]);
    assert!(executor.turn(&turn).observer(hears("run's")).run().all_succeeded());
    assert!(eventually(|| heard.lock().len() == 2));
    let told = [("run's", "inner".to_owned()), ("run's", "outer".to_owned())];
    assert_eq!(*heard.lock(), told);
}

#[test]
fn a_runs_approver_is_asked_about_what_is_nested_in_it() {
    let inner = Tool::new("inner", "", || Ok(())).needs_approval();
    let outer = Tool::new("outer", "", |(): (), cx: &CallContext| {
        let turn = Turn::from_calls([ToolCall::new("", "inner", "")]);
        Ok(cx.run(&turn).all_succeeded())
    });
    let tools = ToolSet::new().with(inner).with(outer);
    let answers = |answer: Approval| {
        move |requests: &[ApprovalRequest<'_>]| vec![answer.clone(); requests.len()]
    };
    let executor = Executor::builder(tools).approval(answers(Approval::Allow)).build().unwrap();
    let turn = Turn::from_calls([ToolCall::new("", "outer", "")]);
    let told = |run: Run<'_>| run.run().results().next().unwrap().content.to_text();
    assert_eq!(told(executor.turn(&turn)), "true");
    let denies = answers(Approval::Deny("no".to_owned()));
    assert_eq!(told(executor.turn(&turn).approval(denies)), "false");
}

#[test]
fn what_a_policy_holds_is_dropped_without_the_executors_lock() {
    struct Asks(Executor, mpsc::Sender<usize>);
    impl Drop for Asks {
        fn drop(&mut self) {
            let _ = self.1.send(self.0.stats().running);
            panic!("a drop that panics");
        }
    }
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let slow = Tool::new("slow", "", move || Ok(gate.lock().recv().is_ok())).read_only();
    let quick = Tool::new("quick", "", || Ok(()));
    let executor = Executor::new(ToolSet::new().with(slow).with(quick)).unwrap();
    let (told, tells) = mpsc::channel();
    let asks = Asks(executor.clone(), told);
    let policy = FailurePolicy::custom(move |_| {
        let _ = &asks;
        Decision::Continue
    });
    let mut batch = executor.batch().policy(policy).begin();
    batch.push(ToolCall::new("1", "slow", "{}"));
    assert!(eventually(|| executor.stats().running == 1));
    drop(batch);
    drop(release);
    tells.recv_timeout(ms(10_000)).expect("the executor can be asked");
    let turn = Turn::from_calls([ToolCall::new("1", "quick", "{}")]);
    assert!(executor.run(&turn).all_succeeded());
}

#[test]
fn what_takes_long_to_drop_holds_up_no_other_run() {
    struct Slow(Gate);
    impl Drop for Slow {
        fn drop(&mut self) {
            self.0.wait();
        }
    }
    let _shared = machine::shared();
    let gate = Gate::default();
    for by_observer in [false, true] {
        let late = Tool::new("late", "", |_: (), cx: &CallContext| {
            let _ = cx.sleep(ms(60_000));
            Ok(thread::sleep(ms(100)))
        });
        let quick = Tool::new("quick", "", || Ok(()));
        let tools = ToolSet::new().with(late.read_only().timeout(ms(60_000))).with(quick);
        let executor = Executor::builder(tools).blocking_threads(1).build().unwrap();
        let slow = Slow(gate.clone());
        let mut batch = match by_observer {
            true => {
                let hear = move |_: &Event| {
                    let _ = &slow;
                };
                executor.batch().observer(hear).begin()
            }
            false => {
                let policy = FailurePolicy::custom(move |_| {
                    let _ = &slow;
                    Decision::Continue
                });
                executor.batch().policy(policy).begin()
            }
        };
        batch.push(ToolCall::new("1", "late", ""));
        assert!(eventually(|| executor.stats().running == 1));
        let quick = Turn::from_calls([ToolCall::new("1", "quick", "")]);
        thread::scope(|scope| {
            let run = scope.spawn(|| executor.turn(&quick).deadline(ms(10_000)).run());
            assert!(eventually(|| executor.stats().queued == 1));
            drop(batch);
            let report = run.join().unwrap();
            assert!(report.all_succeeded() && report.wall() < ms(9000), "{report:?}");
        });
    }
    gate.open();
}

#[test]
fn a_wait_behind_a_reader_of_a_growing_batch_has_an_end() {
    let key = |name: &'static str| Tool::new(name, "", || Ok(())).writes(move |(): &()| name);
    let reads = Tool::new("reads", "", || Ok(())).read_only().reads(|(): &()| ["a", "b"]);
    // One call after the other is asked for its keys: when the last is, the others have theirs.
    let asked = Arc::new(AtomicUsize::new(0));
    let last = Tool::new("last", "", || Ok(())).writes({
        let asked = Arc::clone(&asked);
        move |(): &()| {
            asked.fetch_add(1, Ordering::SeqCst);
            "c"
        }
    });
    let tools = ToolSet::new().with(key("a")).with(key("b")).with(reads).with(last);
    let builder = Executor::builder(tools).no_deadline().call_timeout(ms(300));
    let executor = builder.build().unwrap();
    let mut batch = executor.begin();
    batch.push(ToolCall::new("1", "a", ""));
    batch.push(ToolCall::new("2", "reads", ""));
    batch.push(ToolCall::new("3", "last", ""));
    assert!(eventually(|| asked.load(Ordering::SeqCst) == 1));
    let report = executor.run(&Turn::from_calls([ToolCall::new("4", "b", "")]));
    assert_eq!(names(&report), ["key_held"]);
}

#[test]
fn a_call_on_its_way_is_told_to_stop_before_the_deadline_that_finish_sets() {
    let _shared = machine::shared();
    let tool = Tool::new("look", "", |(): (), cx: &CallContext| {
        let _ = cx.sleep(ms(60_000));
        Ok("part of it")
    });
    let tools = ToolSet::new().with(tool.read_only());
    let executor = Executor::builder(tools).deadline(ms(4000)).grace(ms(2000)).build().unwrap();
    let call = ToolCall::new("1", "look", "{}");
    let mut batch = executor.begin();
    batch.push(call.clone());
    let report = batch.finish(&Turn::from_calls([call]));
    assert_eq!(report[0].content().to_text(), "part of it", "{report:?}");
}

#[test]
fn a_batch_that_is_finished_without_any_time_starts_nothing_else() {
    let runs = Arc::new(AtomicUsize::new(0));
    let tool = {
        let runs = Arc::clone(&runs);
        Tool::new("look", "", move || Ok(runs.fetch_add(1, Ordering::SeqCst))).read_only()
    };
    let tools = ToolSet::new().with(tool);
    let executor = Executor::builder(tools).deadline(Duration::ZERO).build().unwrap();
    let turn = Turn::from_calls((0..100).map(|at| ToolCall::new(format!("{at}"), "look", "{}")));
    let report = executor.begin().finish(&turn);
    let is_late = |outcome: &Outcome| *outcome == Outcome::NotStarted(NotStarted::Deadline);
    assert!(report.calls().iter().all(|call| is_late(&call.outcome)), "{report:?}");
    assert_eq!(runs.load(Ordering::SeqCst), 0);
}

#[test]
fn a_deferred_call_is_counted_once_it_ends() {
    let executor = Executor::builder(ToolSet::new().with(pay().needs_approval()))
        .approval(|requests| requests.iter().map(|_| Approval::Defer).collect())
        .build()
        .unwrap();
    let turn = Turn::from_calls([call("1", "pay", 1)]);
    let suspended = executor.run(&turn).into_suspended(&turn).unwrap();
    assert!(executor.stats().tools.is_empty());
    let header = suspended.report().timeline().to_string();
    assert!(header.starts_with("1 call, 1 deferred: wall"), "{header}");
    assert!(executor.resume(suspended, [(0, Resolution::Allow)]).unwrap().run().all_succeeded());
    let counted = &executor.stats().tools["pay"];
    assert_eq!((counted.calls, counted.failures), (1, 0));
}

fn name(kind: &EventKind) -> &'static str {
    match kind {
        EventKind::Queued => "queued",
        EventKind::Started { .. } => "started",
        EventKind::Progress { .. } => "progress",
        EventKind::Retrying { .. } => "retrying",
        EventKind::Finished { .. } => "finished",
        EventKind::Late { .. } => "late",
        _ => "unknown",
    }
}

#[test]
fn a_secret_never_leaves_a_worker() {
    let tell = Tool::new("tell", "", || Ok("the key is sk-12345"));
    let fail = Tool::new("fail", "", || -> Result<u8, _> { Err("denied for sk-12345".into()) });
    let panics = Tool::new("panics", "", || -> Result<u8, _> { panic!("sk-12345") });
    let falls_back = Tool::new("falls_back", "", || -> Result<u8, _> { Err("no".into()) });
    let falls_back = falls_back.fallback("the key was sk-12345");
    let tools = ToolSet::new().with(tell).with(fail).with(panics).with(falls_back);
    let executor = Executor::builder(tools).secret("sk-12345").build().unwrap();
    let call = |name| ToolCall::new(name, name, "");
    let turn = Turn::from_calls(["tell", "fail", "panics", "falls_back"].map(call));
    let report = executor.run(&turn);
    let text = serde_json::to_string(&report).unwrap();
    assert!(!text.contains("sk-12345"), "{text}");
    assert_eq!(report[0].content().to_text(), "the key is [redacted]");
}

#[test]
fn an_answer_from_outside_is_within_the_limits_of_results() {
    let ask = || Tool::deferred("pay", "", &serde_json::json!({ "type": "object" }));
    let (executor, one) = suspended(ask(), vec![call("1", "pay", 1)]);
    let answer = Resolution::Answer(Output::text("x".repeat(1 << 20)));
    let report = executor.resume(one, [(0, answer)]).unwrap().run();
    assert!(report.all_succeeded());
    assert!(report[0].content().to_text().len() <= 64 << 10);
    assert_eq!(report[0].notes, [Note::Cut(1 << 20)]);
    let (executor, one) = suspended(ask(), vec![call("1", "pay", 1)]);
    let image = Block::Image { media_type: "image/png".into(), base64: "A".repeat(8 << 20) };
    let answer = Resolution::Answer(Output::Blocks { blocks: vec![image] });
    let report = executor.resume(one, [(0, answer)]).unwrap().run();
    assert_eq!(names(&report), ["failed"]);
}

#[test]
fn nobody_is_asked_to_approve_what_can_not_run_any_more() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let tools = ToolSet::new().with(Tool::new("pay", "", |_: Amount| Ok(())).needs_approval());
    let executor = Executor::builder(tools).approval(move |requests| {
        count.fetch_add(1, Ordering::Relaxed);
        vec![Approval::Allow; requests.len()]
    });
    let executor = executor.build().unwrap();
    let turn = Turn::from_calls([call("1", "pay", 1)]);
    let token = CancelToken::new();
    token.cancel();
    let mut begun = executor.batch().cancel(&token).begin();
    begun.push(call("1", "pay", 1));
    let mut ends = names(&begun.finish(&turn));
    ends.extend(names(&executor.turn(&turn).cancel(&token).run()));
    ends.extend(names(&executor.turn(&turn).deadline(Duration::ZERO).run()));
    ends.extend(names(&executor.turn(&turn).until(Instant::now()).run()));
    executor.shutdown(Duration::ZERO);
    ends.extend(names(&executor.run(&turn)));
    assert_eq!(ends, ["cancelled", "cancelled", "deadline", "deadline", "shutdown"]);
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}
