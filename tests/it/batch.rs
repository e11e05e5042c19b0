//! Calls that start while the message is still being written, approval, suspension, observation.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;
use toolpool::{
    Approval, CallContext, EventKind, Executor, NotStarted, Outcome, Rejected, Report, Resolution,
    Tool, ToolCall, ToolSet, Turn,
};

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

/// Waits until `condition` holds, for twenty seconds at most.
fn wait_until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < ms(20_000), "it didn't come to hold");
        thread::sleep(ms(1));
    }
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
    wait_until(|| (executor.stats().running, executor.stats().queued) == (0, 1));
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
    wait_until(|| executor.stats().running == 1);
    let cut = calls.clone().map(|call| call.withheld("max_tokens"));
    let report = batch.finish(&Turn::from_calls(cut));
    assert_eq!(names(&report), ["cancelled", "withheld"]);

    let mut batch = executor.begin();
    calls.iter().for_each(|call| batch.push(call.clone()));
    wait_until(|| executor.stats().running == 1);
    assert_eq!(names(&batch.broken()), ["cancelled", "stream_broken"]);
}

#[test]
fn a_dropped_batch_is_cancelled_without_waiting() {
    let _shared = machine::shared();
    let executor = Executor::new(ToolSet::new().with(look())).unwrap();
    let mut batch = executor.begin();
    batch.push(call("1", "look", 60_000));
    wait_until(|| executor.stats().running == 1);
    let start = Instant::now();
    drop(batch);
    assert!(start.elapsed() < ms(1000));
    wait_until(|| executor.stats().running + executor.stats().batches == 0);
    assert!(start.elapsed() < ms(20_000));
}

#[test]
fn a_timeout_fires_while_nobody_waits_for_the_batch() {
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
    wait_until(|| executor.stats().abandoned == 1);
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
    assert!(executor.resume(suspended.clone(), [(0, Resolution::Allow)]).unwrap_err().is_input());
    let answer = Resolution::Answer("paid in cash".into());
    let report = executor.resume(suspended.clone(), [(4, answer)]).unwrap();
    assert_eq!(report[4].content().to_text(), "paid in cash");
    let edited = Resolution::Edit(r#"{"n":40}"#.into());
    let report = executor.resume(suspended, [(4, edited)]).unwrap();
    assert_eq!(report[4].content().to_text(), "40");
    assert_eq!(report[1].content().to_text(), "1");
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
    let start = Instant::now();
    while events.lock().len() < 8 && start.elapsed() < ms(5000) {
        thread::sleep(ms(5));
    }
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
    let tools = ToolSet::new().with(tell).with(fail).with(panics);
    let executor = Executor::builder(tools).secret("sk-12345").build().unwrap();
    let call = |name| ToolCall::new(name, name, "");
    let turn = Turn::from_calls([call("tell"), call("fail"), call("panics")]);
    let report = executor.run(&turn);
    let text = serde_json::to_string(&report).unwrap();
    assert!(!text.contains("sk-12345"), "{text}");
    assert_eq!(report[0].content().to_text(), "the key is [redacted]");
}
