//! What it saves to start calls while the model is still writing.
//!
//! A streamed message with ten calls arrives over 200 ms, a call every 20 ms; the first calls take
//! the longest, 200 ms, the last 38 ms. In alternation the calls are run when the message is
//! complete, and each as soon as it is whole. No turn can be done before its last call has arrived
//! and run; how far each is over that is told too. The example of the same name shows the timelines.
//!
//! `cargo bench --bench early_start`; `TOOLPOOL_ROUNDS` sets the number of pairs (50).
#![allow(missing_docs, reason = "a program of its own")]
#![allow(clippy::print_stdout, reason = "a bench prints")]

use std::thread;
use std::time::{Duration, Instant};

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
    let turn = stream.finish(&mut tell);
    turn.unwrap_or_else(|error| panic!("the stream can't be read: {error}"))
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

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let rounds = std::env::var("TOOLPOOL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let rounds: usize = rounds.unwrap_or(50).max(1);
    let search = Tool::new("search", "Full-text search", |query: Query| {
        thread::sleep(Duration::from_millis(query.ms));
        Ok(())
    });
    let executor = Executor::new(ToolSet::new().with(search.read_only()))
        .unwrap_or_else(|error| panic!("the executor can't be built: {error}"));
    let mut walls = [Vec::new(), Vec::new()];
    let mut over = [Vec::new(), Vec::new()];
    for round in 0..=rounds {
        for early in [false, true] {
            let (wall, least) = measure(&executor, early);
            if round > 0 {
                walls[usize::from(early)].push(wall.as_secs_f64() * 1e3);
                over[usize::from(early)].push((wall.as_secs_f64() - least.as_secs_f64()) * 1e3);
            }
        }
    }
    let ratios = walls[1].iter().zip(&walls[0]).map(|(early, late)| early / late).collect();
    let ratio = median(ratios);
    println!("ten calls over a stream of {:?}, {rounds} pairs (medians)\n", STEP * CALLS as u32);
    println!("| calls run | wall | over the earliest possible end | ratio |");
    println!("| --- | --- | --- | --- |");
    let rows = ["when the message is complete", "while it is written"];
    for ((name, ratio), (wall, over)) in
        rows.iter().zip([1.0, ratio]).zip(walls.into_iter().zip(over))
    {
        println!("| {name} | {:.1} ms | {:.2} ms | {ratio:.2} |", median(wall), median(over));
    }
}
