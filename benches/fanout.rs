//! How near a turn of unequal calls comes to the best it could be, under different caps.
//!
//! 100 calls that sleep; how long is drawn from a log-normal with a median of 10 ms and sigma 1 (a
//! mean of 16 ms, one in ten over 36 ms, one in a hundred over 102 ms), cut at 200 ms, from a fixed
//! seed. Caps of 4, 16, 64 and none, in alternation. Beside the wall time stand the longest call and
//! the ideal: the same run times laid in call order on as many threads that cost nothing.
//!
//! `cargo bench --bench fanout`; `TOOLPOOL_ROUNDS` sets how often the caps are gone through (20).
#![allow(missing_docs, reason = "a program of its own")]
#![allow(clippy::print_stdout, reason = "a bench prints")]

use std::f64::consts::TAU;
use std::thread;
use std::time::{Duration, Instant};

use toolpool::{Executor, Report, Tool, ToolCall, ToolSet, Turn};

const CALLS: usize = 100;
const CAPS: [usize; 4] = [4, 16, 64, CALLS];
const MEDIAN_MS: f64 = 10.0;
const SIGMA: f64 = 1.0;
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

fn turn() -> Turn {
    let mut random = Uniform(20_240_229);
    Turn::from_calls((0..CALLS).map(|at| {
        let ms = (MEDIAN_MS * (SIGMA * random.normal()).exp()).min(LONGEST_MS);
        let arguments = format!(r#"{{"micros":{}}}"#, (ms * 1e3) as u64);
        ToolCall::new(format!("call_{at}"), "fetch", arguments)
    }))
}

fn executor(cap: usize) -> Executor {
    let fetch = Tool::new("fetch", "Waits for a service", |args: Args| {
        thread::sleep(Duration::from_micros(args.micros));
        Ok(())
    });
    let builder = Executor::builder(ToolSet::new().with(fetch)).blocking_threads(cap);
    builder.build().unwrap_or_else(|error| panic!("the executor can't be built: {error}"))
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

/// What one round gave under one cap, in milliseconds.
#[derive(Clone, Copy)]
struct Figures {
    longest: f64,
    ideal: f64,
    wall: f64,
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let rounds = std::env::var("TOOLPOOL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let rounds: usize = rounds.unwrap_or(20).max(1);
    let (turn, executors) = (turn(), CAPS.map(executor));
    let mut rows: [Vec<Figures>; CAPS.len()] = Default::default();
    for round in 0..=rounds {
        for (at, executor) in executors.iter().enumerate() {
            let start = Instant::now();
            let report = executor.run(&turn);
            let wall = start.elapsed();
            assert!(report.all_succeeded());
            if round > 0 {
                let ms = |span: Duration| span.as_secs_f64() * 1e3;
                let longest = report.calls().iter().map(|call| call.run_time()).max();
                rows[at].push(Figures {
                    longest: ms(longest.unwrap_or_default()),
                    ideal: ms(ideal(&report, CAPS[at])),
                    wall: ms(wall),
                });
            }
        }
    }
    println!("{CALLS} calls, log-normal: median {MEDIAN_MS} ms, sigma {SIGMA}; {rounds} rounds\n");
    println!("| cap | longest call | ideal | wall | over the ideal | to the longest call |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for (cap, rows) in CAPS.iter().zip(rows) {
        let cap = if *cap == CALLS { "none".to_owned() } else { cap.to_string() };
        let of = |figure: fn(&Figures) -> f64| median(rows.iter().map(figure));
        println!(
            "| {cap} | {:.1} ms | {:.1} ms | {:.1} ms | {:.2} ms | {:.2} |",
            of(|row| row.longest),
            of(|row| row.ideal),
            of(|row| row.wall),
            of(|row| row.wall - row.ideal),
            of(|row| row.wall / row.longest),
        );
    }
}
