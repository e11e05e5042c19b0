//! How near a turn of unequal calls comes to the best it could be, under different caps.
//!
//! 100 calls that sleep: each 16 ms; as long as a log-normal with a median of 10 ms and sigma 1 says
//! (a mean of 16 ms, one in ten over 36 ms, one in a hundred over 102 ms), cut at 200 ms, from a
//! fixed seed; or 10 ms but for the 50th, which takes 200 ms. Caps of 4, 16, 64 and none. Beside the
//! wall time stand the longest call and the ideal: the same run times laid in call order on as many
//! threads that cost nothing.
//!
//! `cargo bench --bench fanout`; `TOOLPOOL_ROUNDS` sets how often the table goes through them (5).
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::print_stdout, reason = "a bench prints")]

mod common;

use std::f64::consts::TAU;
use std::thread;
use std::time::{Duration, Instant};

use common::{median, millis};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use toolpool::{Executor, Report, Tool, ToolCall, ToolSet, Turn};

const CALLS: usize = 100;
const CAPS: [(&str, usize); 4] = [("4", 4), ("16", 16), ("64", 64), ("none", CALLS)];
const LONGEST_MS: f64 = 200.0;

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Args {
    micros: u64,
}

/// Numbers in (0, 1), the same in every run: a 64-bit multiply-and-shift generator.
struct Uniform(u64);

impl Uniform {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((self.0 >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// By Box and Muller.
    fn normal(&mut self) -> f64 {
        (-2.0 * self.next().ln()).sqrt() * (TAU * self.next()).cos()
    }
}

fn turn(mut ms: impl FnMut(usize) -> f64) -> Turn {
    Turn::from_calls((0..CALLS).map(|at| {
        let arguments = format!(r#"{{"micros":{}}}"#, (ms(at) * 1e3) as u64);
        ToolCall::new(format!("call_{at}"), "fetch", arguments)
    }))
}

fn mixes() -> [(&'static str, Turn); 3] {
    let mut random = Uniform(20_240_229);
    [
        ("even", turn(|_| 16.0)),
        ("log-normal", turn(|_| (10.0 * random.normal().exp()).min(LONGEST_MS))),
        ("one long", turn(|at| if at == CALLS / 2 { LONGEST_MS } else { 10.0 })),
    ]
}

fn executor(cap: usize) -> Executor {
    let fetch = Tool::new("fetch", "Waits for a service", |args: Args| {
        thread::sleep(Duration::from_micros(args.micros));
        Ok(())
    });
    let built = Executor::builder(ToolSet::new().with(fetch)).blocking_threads(cap).build();
    built.expect("the tool is fine")
}

/// When all calls are done if each takes the next thread that is free, at no cost.
fn ideal(report: &Report, cap: usize) -> Duration {
    let mut free = vec![Duration::ZERO; cap];
    for call in report {
        if let Some(next) = free.iter_mut().min() {
            *next += call.run_time();
        }
    }
    free.into_iter().max().unwrap_or_default()
}

fn table() {
    let rounds = common::rounds(5);
    let executors = CAPS.map(|(_, cap)| executor(cap));
    println!("{CALLS} calls, {rounds} rounds (medians)\n");
    println!("| mix | cap | longest call | ideal | wall | over the ideal | to the longest call |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for (mix, turn) in mixes() {
        // Of each cap, in each round: the longest call, the ideal, and the wall time.
        let mut rows: [Vec<[f64; 3]>; CAPS.len()] = Default::default();
        for _ in 0..rounds {
            for ((executor, (_, cap)), row) in executors.iter().zip(CAPS).zip(&mut rows) {
                let start = Instant::now();
                let report = executor.run(&turn);
                let wall = start.elapsed();
                assert!(report.all_succeeded());
                let longest = report.calls().iter().map(|call| call.run_time()).max();
                row.push([longest.unwrap_or_default(), ideal(&report, cap), wall].map(millis));
            }
        }
        for ((cap, _), row) in CAPS.iter().zip(rows) {
            let of = |figure: fn(&[f64; 3]) -> f64| median(row.iter().map(figure));
            println!(
                "| {mix} | {cap} | {:.1} ms | {:.1} ms | {:.1} ms | {:.2} ms | {:.2} |",
                of(|[longest, _, _]| *longest),
                of(|[_, ideal, _]| *ideal),
                of(|[_, _, wall]| *wall),
                of(|[_, ideal, wall]| wall - ideal),
                of(|[longest, _, wall]| wall / longest),
            );
        }
    }
}

fn walls(criterion: &mut Criterion) {
    for (mix, turn) in mixes() {
        let mut group = criterion.benchmark_group(format!("fanout, {mix}"));
        for (name, cap) in CAPS {
            let executor = executor(cap);
            group.bench_function(BenchmarkId::new("cap", name), |bencher| {
                bencher.iter(|| executor.run(&turn));
            });
        }
        group.finish();
    }
}

criterion_group! { name = benches; config = common::criterion(); targets = walls }
criterion_main!(table, benches);
