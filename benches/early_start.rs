//! What it saves to start calls while the model is still writing.
//!
//! A streamed message with ten calls arrives over 200 ms, a call every 20 ms; the first calls take
//! the longest, 200 ms, the last 38 ms. In alternation the calls are run when the message is
//! complete, and each as soon as it is whole. No turn can be done before its last call has arrived
//! and run; how far each is over that is told too. The example of the same name shows the timelines.
//!
//! `cargo bench --bench early_start`; `TOOLPOOL_ROUNDS` sets the number of pairs in the table (20).
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::print_stdout, reason = "a bench prints")]

mod common;

use std::iter::repeat_with;
use std::thread;
use std::time::{Duration, Instant};

use common::{median, millis};
use criterion::{Criterion, criterion_group, criterion_main};
use crossbeam_channel::Receiver;
use toolpool::wire::StreamEvent;
use toolpool::{Executor, Report, Tool, ToolSet, Turn, Wire};

const CALLS: usize = 10;
const STEP: Duration = Duration::from_millis(20);

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Query {
    ms: u64,
}

/// The stream's pieces: the beginning, then one a call, the last with the end.
fn pieces() -> Vec<String> {
    let event = |data: String| format!("data: {data}\n\n");
    let mut pieces = vec![event(
        r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"usage":{"input_tokens":400,"output_tokens":1}}}"#.to_owned(),
    )];
    for n in 0..CALLS {
        let ms = 200 - 18 * n;
        pieces.push(
            [
                format!(r#"{{"type":"content_block_start","index":{n},"content_block":{{"type":"tool_use","id":"toolu_{n}","name":"search","input":{{}}}}}}"#),
                format!(r#"{{"type":"content_block_delta","index":{n},"delta":{{"type":"input_json_delta","partial_json":"{{\"ms\":{ms}}}"}}}}"#),
                format!(r#"{{"type":"content_block_stop","index":{n}}}"#),
            ]
            .map(event)
            .concat(),
        );
    }
    if let Some(last) = pieces.last_mut() {
        last.push_str(&event(r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":320}}"#.to_owned()));
        last.push_str(&event(r#"{"type":"message_stop"}"#.to_owned()));
    }
    pieces
}

/// Plays the stream in its own time.
fn play() -> Receiver<String> {
    let (sender, receiver) = crossbeam_channel::unbounded();
    thread::spawn(move || {
        let start = Instant::now();
        for (n, piece) in (0..).zip(pieces()) {
            thread::sleep((STEP * n).saturating_sub(start.elapsed()));
            if sender.send(piece).is_err() {
                return;
            }
        }
    });
    receiver
}

fn read(mut tell: impl FnMut(StreamEvent<'_>)) -> Turn {
    let mut stream = Wire::Anthropic.stream();
    for piece in play() {
        assert!(stream.feed(piece.as_bytes(), &mut tell).is_ok());
    }
    stream.finish(&mut tell).expect("the stream can be read")
}

/// One turn: the wall time, and the earliest moment at which it could have been done.
fn measure(executor: &Executor, early: bool) -> (Duration, Duration) {
    let (start, mut arrivals) = (Instant::now(), Vec::new());
    let mut batch = early.then(|| executor.begin());
    let turn = read(|event| {
        if let StreamEvent::Call(call) = event {
            arrivals.push(start.elapsed());
            if let Some(batch) = &mut batch {
                batch.push(call.clone());
            }
        }
    });
    let report: Report = match batch {
        Some(batch) => batch.finish(&turn),
        None => executor.run(&turn),
    };
    let wall = start.elapsed();
    assert!(report.all_succeeded() && arrivals.len() == CALLS);
    let done = arrivals.iter().zip(&report).map(|(arrival, call)| *arrival + call.run_time());
    (wall, done.max().unwrap_or_default())
}

fn executor() -> Executor {
    let search = Tool::new("search", "Full-text search", |query: Query| {
        thread::sleep(Duration::from_millis(query.ms));
        Ok(())
    });
    Executor::new(ToolSet::new().with(search.read_only())).expect("the tool is fine")
}

const CASES: [(&str, bool); 2] =
    [("when the message is complete", false), ("while it is written", true)];

fn table() {
    let (executor, rounds) = (executor(), common::rounds(20));
    // Of each case, in each round: the wall time, and how far it is over the earliest possible end.
    let mut rows: [Vec<[f64; 2]>; CASES.len()] = Default::default();
    for _ in 0..rounds {
        for ((_, early), row) in CASES.iter().zip(&mut rows) {
            let (wall, least) = measure(&executor, *early);
            row.push([millis(wall), millis(wall) - millis(least)]);
        }
    }
    println!("ten calls over a stream of {:?}, {rounds} pairs (medians)\n", STEP * CALLS as u32);
    println!("| calls run | wall | over the earliest possible end | ratio |");
    println!("| --- | --- | --- | --- |");
    for ((name, _), row) in CASES.iter().zip(&rows) {
        let [wall, over] = [0, 1].map(|figure| median(row.iter().map(|row| row[figure])));
        let ratio = median(row.iter().zip(&rows[0]).map(|(this, late)| this[0] / late[0]));
        println!("| {name} | {wall:.1} ms | {over:.2} ms | {ratio:.2} |");
    }
}

fn walls(criterion: &mut Criterion) {
    let executor = executor();
    let mut group = criterion.benchmark_group("early_start");
    for (name, early) in CASES {
        group.bench_function(name, |bencher| {
            let wall = || measure(&executor, early).0;
            bencher.iter_custom(|n| repeat_with(wall).take(n as usize).sum());
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = common::criterion(); targets = walls }
criterion_main!(table, benches);
