//! What keys cost, and what calls that contend for one wait for.
//!
//! Each call writes a key: 0, 10, 50 or 100 % of a turn's calls, spread over it, write the same one,
//! the others one of their own. Beside them, in alternation, a turn of calls without keys.
//!
//! - 1 000 no-op calls: nanoseconds a call, and to a call without keys.
//! - 100 calls of 2 ms on 100 threads: wall time beside the least possible, which is the sum of the
//!   contending calls' run times, or the longest of all where that is more.
//!
//! `cargo bench --bench keys`; `TOOLPOOL_ROUNDS` sets how often all are gone through (30).
#![allow(missing_docs, reason = "a program of its own")]
#![allow(clippy::print_stdout, reason = "a bench prints")]

use std::thread;
use std::time::{Duration, Instant};

use toolpool::{Executor, Report, Tool, ToolCall, ToolSet, Turn};

const NO_OPS: usize = 1_000;
const NAPS: usize = 100;
const NAP: Duration = Duration::from_millis(2);
/// Per cent of the calls that write the same key; none: no keys at all.
const CONTENTION: [Option<usize>; 5] = [None, Some(0), Some(10), Some(50), Some(100)];

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Args {
    key: usize,
}

fn executor() -> Executor {
    let no_op = |_: Args| Ok(());
    let nap = |_: Args| {
        thread::sleep(NAP);
        Ok(())
    };
    let key = |args: &Args| format!("record/{}", args.key);
    let tools = ToolSet::new()
        .with(Tool::new("no_op", "Does nothing", no_op))
        .with(Tool::new("no_op_keyed", "Does nothing to a record", no_op).writes(key))
        .with(Tool::new("nap", "Sleeps", nap))
        .with(Tool::new("nap_keyed", "Sleeps over a record", nap).writes(key));
    let builder = Executor::builder(tools).max_calls(NO_OPS).blocking_threads(NAPS);
    builder.build().unwrap_or_else(|error| panic!("the executor can't be built: {error}"))
}

/// Whether a call is one of the contending ones.
fn contends(at: usize, contention: Option<usize>) -> bool {
    // 7 and 100 have no common divisor, so that the contending ones are spread.
    contention.is_some_and(|percent| at * 7 % 100 < percent)
}

fn turn(tool: &str, calls: usize, contention: Option<usize>) -> Turn {
    let name = if contention.is_some() { format!("{tool}_keyed") } else { tool.to_owned() };
    Turn::from_calls((0..calls).map(|at| {
        let key = if contends(at, contention) { 0 } else { at + 1 };
        ToolCall::new(format!("call_{at}"), &*name, format!(r#"{{"key":{key}}}"#))
    }))
}

/// The least time that these calls could have taken.
fn least(report: &Report, contention: Option<usize>) -> f64 {
    let times = || report.calls().iter().map(|call| call.run_time().as_secs_f64()).enumerate();
    let contending: f64 = times().filter(|(at, _)| contends(*at, contention)).map(|(_, t)| t).sum();
    times().map(|(_, time)| time).fold(contending, f64::max)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let rounds = std::env::var("TOOLPOOL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let rounds: usize = rounds.unwrap_or(30).max(1);
    let executor = executor();
    let no_ops = CONTENTION.map(|contention| turn("no_op", NO_OPS, contention));
    let naps = CONTENTION.map(|contention| turn("nap", NAPS, contention));
    // Of each contention: ns a no-op call, ms of a turn of naps, the least possible of it.
    let mut rows: [[Vec<f64>; 3]; CONTENTION.len()] = Default::default();
    for round in 0..=rounds {
        for (at, contention) in CONTENTION.iter().enumerate() {
            let timed = |turn: &Turn| {
                let start = Instant::now();
                let report = executor.run(turn);
                let took = start.elapsed().as_secs_f64();
                assert!(report.all_succeeded());
                (took, least(&report, *contention))
            };
            let (no_op, _) = timed(&no_ops[at]);
            let (nap, least) = timed(&naps[at]);
            if round > 0 {
                let figures = [no_op * 1e9 / NO_OPS as f64, nap * 1e3, least * 1e3];
                rows[at].iter_mut().zip(figures).for_each(|(row, figure)| row.push(figure));
            }
        }
    }
    println!("{rounds} rounds, medians\n");
    println!(
        "| contention | no-op: ns a call | to no keys | {NAPS} calls of {NAP:?}: wall | least possible |"
    );
    println!("| --- | --- | --- | --- | --- |");
    let rows = rows.map(|row| row.map(median));
    for (contention, [no_op, nap, least]) in CONTENTION.iter().zip(rows) {
        let name = contention.map_or("no keys".to_owned(), |percent| format!("{percent} %"));
        println!(
            "| {name} | {no_op:.0} | {:.2} | {nap:.2} ms | {least:.2} ms |",
            no_op / rows[0][0]
        );
    }
}
