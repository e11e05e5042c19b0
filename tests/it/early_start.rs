//! Calls that start while the model is still writing, from the bytes of a stream on.

use std::thread;
use std::time::{Duration, Instant};

use toolpool::wire::StreamEvent;
use toolpool::{CallContext, Executor, Tool, ToolCall, ToolSet, Wire};

use crate::machine;

const RUN: Duration = Duration::from_secs(1);

/// One event of a stream.
fn event(data: &str) -> String {
    format!("data: {data}\n\n")
}

fn call(n: usize) -> String {
    let start = format!(
        r#"{{"type":"content_block_start","index":{n},"content_block":{{"type":"tool_use","id":"toolu_{n}","name":"look","input":{{}}}}}}"#
    );
    event(&start) + &event(&format!(r#"{{"type":"content_block_stop","index":{n}}}"#))
}

#[test]
fn a_turn_is_done_when_its_last_call_has_arrived_and_run() {
    let _shared = machine::shared();
    let look = Tool::new("look", "", |_: (), cx: &CallContext| {
        cx.sleep(RUN)?;
        Ok("seen")
    });
    let executor = Executor::new(ToolSet::new().with(look.read_only())).unwrap();
    let mut batch = executor.begin();
    let mut stream = Wire::Anthropic.stream();
    let mut arrived = Vec::new();
    let start = Instant::now();
    let mut tell = |event: StreamEvent<'_>| {
        if let StreamEvent::Call(call) = event {
            arrived.push(start.elapsed());
            batch.push(ToolCall::clone(call));
        }
    };
    let begin = r#"{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","content":[],"usage":{}}}"#;
    stream.feed(event(begin).as_bytes(), &mut tell).unwrap();
    for n in 0..10 {
        stream.feed(call(n).as_bytes(), &mut tell).unwrap();
        thread::sleep(Duration::from_millis(200));
    }
    let end = r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{}}"#;
    stream.feed(event(end).as_bytes(), &mut tell).unwrap();
    stream.feed(event(r#"{"type":"message_stop"}"#).as_bytes(), &mut tell).unwrap();
    let turn = stream.finish(&mut tell).unwrap();
    let report = batch.finish(&turn);
    let took = start.elapsed();

    assert!(report.all_succeeded());
    assert_eq!(arrived.len(), 10);
    assert!(arrived[0] < Duration::from_millis(200), "the first is told at once: {arrived:?}");
    let least = arrived.iter().map(|arrival| *arrival + RUN).max().unwrap();
    assert!(took < least + Duration::from_millis(500), "{took:?} against {least:?}");
    assert!(report.saved_by_early_start() > Duration::from_millis(50));
}

#[test]
fn a_stream_that_breaks_off_cancels_what_it_started() {
    let _shared = machine::shared();
    let look = Tool::new("look", "", |_: (), cx: &CallContext| {
        cx.sleep(Duration::from_secs(60))?;
        Ok("seen")
    });
    let executor = Executor::new(ToolSet::new().with(look.read_only())).unwrap();
    let mut batch = executor.begin();
    let mut stream = Wire::Anthropic.stream();
    let begin = r#"{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","content":[],"usage":{}}}"#;
    let bytes = event(begin) + &call(0);
    let mut tell = |event: StreamEvent<'_>| {
        if let StreamEvent::Call(call) = event {
            batch.push(ToolCall::clone(call));
        }
    };
    stream.feed(bytes.as_bytes(), &mut tell).unwrap();
    thread::sleep(Duration::from_millis(100));
    assert!(stream.finish(&mut tell).is_err(), "the end is missing");
    let start = Instant::now();
    let report = batch.broken();
    assert_eq!(report[0].outcome.name(), "cancelled");
    assert!(start.elapsed() < Duration::from_secs(5));
}
