//! What keys cost, and what calls that contend for one wait for.
//!
//! Each call writes a key: 0, 10, 50 or 100 % of a turn's calls, spread over it, write the same one,
//! the others one of their own. Beside them, in alternation, a turn of calls without keys.
//!
//! - 1 000 no-op calls: nanoseconds a call, and to a call without keys.
//! - 100 calls of 2 ms on 100 threads: wall time beside the least possible, which is the sum of the
//!   contending calls' run times, or the longest of all where that is more.
//!
//! `cargo bench --bench keys`; `TOOLPOOL_ROUNDS` sets how often the table goes through them (30).
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::print_stdout, reason = "a bench prints")]

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::{median, millis};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use toolpool::{Executor, Report, Tool, ToolCall, ToolSet, Turn};

const NO_OPS: usize = 1_000;
const NAPS: usize = 100;
const NAP: Duration = Duration::from_millis(2);
/// Per cent of the calls that write the same key; none: no keys at all.
const CONTENTION: [(&str, Option<usize>); 5] = [
    ("no keys", None),
    ("0 %", Some(0)),
    ("10 %", Some(10)),
    ("50 %", Some(50)),
    ("100 %", Some(100)),
];

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
    let built = Executor::builder(tools).max_calls(NO_OPS).blocking_threads(NAPS).build();
    built.expect("the tools are fine")
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

/// Wall time and the least possible, in milliseconds.
fn time(executor: &Executor, turn: &Turn, contention: Option<usize>) -> [f64; 2] {
    let start = Instant::now();
    let report = executor.run(turn);
    let wall = start.elapsed();
    assert!(report.all_succeeded());
    [millis(wall), least(&report, contention) * 1e3]
}

fn table() {
    let (executor, rounds) = (executor(), common::rounds(30));
    let turns = CONTENTION.map(|(_, contention)| {
        (turn("no_op", NO_OPS, contention), turn("nap", NAPS, contention), contention)
    });
    // Of each contention, in each round: ms of the no-op calls, of the naps, the least possible.
    let mut rows: [Vec<[f64; 3]>; CONTENTION.len()] = Default::default();
    for _ in 0..rounds {
        for ((no_ops, naps, contention), row) in turns.iter().zip(&mut rows) {
            let [no_op, _] = time(&executor, no_ops, *contention);
            let [nap, least] = time(&executor, naps, *contention);
            row.push([no_op, nap, least]);
        }
    }
    println!("{rounds} rounds, medians\n");
    println!(
        "| contention | no-op: ns a call | to no keys | {NAPS} calls of {NAP:?}: wall | least possible |"
    );
    println!("| --- | --- | --- | --- | --- |");
    for ((name, _), row) in CONTENTION.iter().zip(&rows) {
        let [no_op, nap, least] = [0, 1, 2].map(|figure| median(row.iter().map(|row| row[figure])));
        let to_none = median(row.iter().zip(&rows[0]).map(|(this, none)| this[0] / none[0]));
        let nanos = no_op * 1e6 / NO_OPS as f64;
        println!("| {name} | {nanos:.0} | {to_none:.2} | {nap:.2} ms | {least:.2} ms |");
    }
}

fn turns(criterion: &mut Criterion) {
    let executor = executor();
    for (tool, calls) in [("no_op", NO_OPS), ("nap", NAPS)] {
        let mut group = criterion.benchmark_group(format!("keys, {tool}"));
        group.throughput(Throughput::Elements(calls as u64));
        for (name, contention) in CONTENTION {
            let turn = turn(tool, calls, contention);
            group.bench_function(BenchmarkId::new("contention", name), |bencher| {
                bencher.iter(|| executor.run(&turn));
            });
        }
        group.finish();
    }
}

criterion_group! { name = benches; config = common::criterion(); targets = turns }
criterion_main!(table, benches);
