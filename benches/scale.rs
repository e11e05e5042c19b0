//! Whether a call costs more where there are many of them.
//!
//! - queued: turns of 1 000, 10 000 and 100 000 no-op calls on one executor with 64 threads, in
//!   turn, as many calls of each size; medians, and ratios to the smaller turns in the same round.
//! - callers: 1 to 64 threads that run turns of 8 no-op calls on one executor, 16 384 calls in all.
//!
//! The calls are made before and aren't part of it. What a queued call keeps in memory is counted by
//! the bench `allocations`.
//!
//! `cargo bench --bench scale`; `TOOLPOOL_ROUNDS` sets how often the tables go through them (15).
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::print_stdout, reason = "a bench prints")]

mod common;

use std::iter::repeat_with;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use common::{calls, median};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use toolpool::{Executor, Tool, ToolSet, Turn};

const SIZES: [usize; 3] = [1_000, 10_000, 100_000];
const MOST: usize = SIZES[SIZES.len() - 1];
const CALLERS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
const TURN: usize = 8;
const TURNS: usize = 2_048;

fn executor() -> Executor {
    let tools = ToolSet::new().with(Tool::new("no_op", "Does nothing", || Ok(())).read_only());
    Executor::builder(tools).max_calls(MOST).build().expect("the tool is fine")
}

/// Time in `run`, and with dropping the report.
fn time(executor: &Executor, turn: &Turn) -> [Duration; 2] {
    let start = Instant::now();
    let report = executor.run(turn);
    let ran = start.elapsed();
    assert_eq!(report.calls().len(), turn.calls().len());
    drop(report);
    [ran, start.elapsed()]
}

fn queued() {
    let (executor, turns) = (executor(), SIZES.map(|size| calls("no_op", size)));
    // Of each size, in each round: nanoseconds a call in `run`, and with the report's drop.
    let mut rows: [Vec<[f64; 2]>; SIZES.len()] = Default::default();
    for round in 0..=common::rounds(15) {
        for ((size, turn), row) in SIZES.iter().zip(&turns).zip(&mut rows) {
            let times: Vec<_> = (0..MOST / size).map(|_| time(&executor, turn)).collect();
            // The first round warms up.
            if round > 0 {
                row.push([0, 1].map(|figure| {
                    let all: Duration = times.iter().map(|time| time[figure]).sum();
                    all.as_secs_f64() * 1e9 / MOST as f64
                }));
            }
        }
    }
    println!(
        "| calls in the turn | ns a call | with the report's drop | to the turn of 1 000 | to that before |"
    );
    println!("| --- | --- | --- | --- | --- |");
    for (at, row) in rows.iter().enumerate() {
        let [run, whole] = [0, 1].map(|figure| median(row.iter().map(|row| row[figure])));
        let [first, before] = [0, at.saturating_sub(1)]
            .map(|to| median(row.iter().zip(&rows[to]).map(|(this, other)| this[0] / other[0])));
        println!("| {} | {run:.0} | {whole:.0} | {first:.2} | {before:.2} |", SIZES[at]);
    }
    println!();
}

/// How long this many threads take for all the turns.
fn share(executor: &Executor, turn: &Turn, callers: usize) -> Duration {
    let barrier = Barrier::new(callers + 1);
    let caller = || {
        barrier.wait();
        for _ in 0..TURNS / callers {
            assert!(executor.run(turn).all_succeeded());
        }
    };
    let mut start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..callers {
            scope.spawn(caller);
        }
        barrier.wait();
        start = Instant::now();
    });
    start.elapsed()
}

fn callers() {
    let (executor, turn) = (executor(), calls("no_op", TURN));
    let mut rows: [Vec<f64>; CALLERS.len()] = Default::default();
    for _ in 0..common::rounds(15) {
        for (callers, row) in CALLERS.iter().zip(&mut rows) {
            let took = share(&executor, &turn, *callers);
            row.push(took.as_secs_f64() * 1e9 / (TURNS * TURN) as f64);
        }
    }
    println!("| caller threads | ns a call, turns of {TURN} | to one caller |");
    println!("| --- | --- | --- |");
    for (callers, row) in CALLERS.iter().zip(&rows) {
        let to_one = median(row.iter().zip(&rows[0]).map(|(this, one)| this / one));
        println!("| {callers} | {:.0} | {to_one:.2} |", median(row.iter().copied()));
    }
}

fn walls(criterion: &mut Criterion) {
    let executor = executor();
    let mut group = criterion.benchmark_group("queued");
    for size in SIZES {
        let turn = calls("no_op", size);
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| executor.run(&turn));
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("callers");
    let turn = calls("no_op", TURN);
    group.throughput(Throughput::Elements((TURNS * TURN) as u64));
    for callers in CALLERS {
        group.bench_function(BenchmarkId::from_parameter(callers), |bencher| {
            let took = || share(&executor, &turn, callers);
            bencher.iter_custom(|n| repeat_with(took).take(n as usize).sum());
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = common::criterion(); targets = walls }
criterion_main!(queued, callers, benches);
