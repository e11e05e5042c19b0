//! Calls that start while the model is still writing.
//!
//! A streamed message with ten calls takes two seconds to arrive, piece by piece as it was
//! recorded; the first calls take the longest. Once the calls are run when the message is complete,
//! and once each as soon as it is whole.
//!
//! `cargo run --example early_start`
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::thread;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Deserialize;
use toolpool::crossbeam_channel::{self, Receiver};
use toolpool::wire::StreamEvent;
use toolpool::{CallContext, Executor, Report, Tool, ToolSet, Turn, Wire};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const CALLS: usize = 10;
/// Between one call's piece of the stream and the next.
const STEP: Duration = Duration::from_millis(200);

#[derive(Deserialize, JsonSchema)]
struct Query {
    /// What to look for.
    text: String,
    /// How long that takes, in milliseconds.
    ms: u64,
}

fn main() -> Result<()> {
    let search = Tool::new("search", "Full-text search", |query: Query, cx: &CallContext| {
        cx.sleep(Duration::from_millis(query.ms))?;
        Ok(format!("one hit for {}", query.text))
    });
    let executor = Executor::new(ToolSet::new().with(search.read_only()))?;

    println!("When the message is complete:\n");
    let start = Instant::now();
    let turn = read(play(), |_| ())?;
    let arrived = start.elapsed();
    let late = executor.run(&turn);
    let without = start.elapsed();
    println!("{}", late.timeline());
    println!("the message took {arrived:.2?}, the turn {without:.2?}\n");

    println!("While it is being written:\n");
    let start = Instant::now();
    let mut batch = executor.begin();
    let mut arrivals = Vec::new();
    let turn = read(play(), |event| match event {
        StreamEvent::Call(call) => {
            arrivals.push(start.elapsed());
            batch.push(call.clone()); // a tool that only reads starts here
        }
        StreamEvent::Restarted => {
            arrivals.clear();
            batch = executor.begin(); // the old one is cancelled
        }
        _ => {}
    })?;
    let early = batch.finish(&turn); // the stop reason allows the others
    let with = start.elapsed();
    println!("{}", early.timeline());
    println!(
        "the turn took {with:.2?}; about {:.2?} saved by starting early",
        early.saved_by_early_start(),
    );
    let least = best(&arrivals, &early);
    println!(
        "no turn could be done before {least:.2?}, when the last call has arrived and run: {:.1} % over",
        (with.as_secs_f64() / least.as_secs_f64() - 1.0) * 100.0,
    );
    Ok(())
}

/// The latest of all calls' arrivals and run times.
fn best(arrivals: &[Duration], report: &Report) -> Duration {
    let done = arrivals.iter().zip(report).map(|(arrival, call)| *arrival + call.run_time());
    done.max().unwrap_or_default()
}

/// Reads a stream to its end.
fn read(pieces: Receiver<String>, mut tell: impl FnMut(StreamEvent<'_>)) -> Result<Turn> {
    let mut stream = Wire::Anthropic.stream();
    for piece in pieces {
        stream.feed(piece.as_bytes(), &mut tell)?;
    }
    Ok(stream.finish(&mut tell)?)
}

/// Plays the stream in its own time.
fn play() -> Receiver<String> {
    let (sender, pieces) = crossbeam_channel::unbounded();
    thread::spawn(move || {
        let start = Instant::now();
        for (n, piece) in recorded().into_iter().enumerate() {
            let due = STEP * u32::try_from(n).unwrap_or(u32::MAX);
            thread::sleep(due.saturating_sub(start.elapsed()));
            if sender.send(piece).is_err() {
                return;
            }
        }
    });
    pieces
}

/// The stream's pieces: the beginning, then one a call, the last with the end.
fn recorded() -> Vec<String> {
    let event = |name: &str, data: String| format!("event: {name}\ndata: {data}\n\n");
    let mut pieces = vec![event(
        "message_start",
        r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"usage":{"input_tokens":400,"output_tokens":1}}}"#.to_owned(),
    )];
    for n in 0..CALLS {
        let begin = format!(
            r#"{{"type":"content_block_start","index":{n},"content_block":{{"type":"tool_use","id":"toolu_{n}","name":"search","input":{{}}}}}}"#
        );
        let ms = 2000 - 180 * n;
        let delta = format!(
            r#"{{"type":"content_block_delta","index":{n},"delta":{{"type":"input_json_delta","partial_json":"{{\"text\":\"topic {n}\",\"ms\":{ms}}}"}}}}"#
        );
        let stop = format!(r#"{{"type":"content_block_stop","index":{n}}}"#);
        pieces.push(
            event("content_block_start", begin)
                + &event("content_block_delta", delta)
                + &event("content_block_stop", stop),
        );
    }
    let end = event(
        "message_delta",
        r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":320}}"#.to_owned(),
    ) + &event("message_stop", r#"{"type":"message_stop"}"#.to_owned());
    if let Some(last) = pieces.last_mut() {
        last.push_str(&end);
    }
    pieces
}
