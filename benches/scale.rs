//! Whether a call costs more where there are many of them.
//!
//! - queued: turns of 1 000, 10 000 and 100 000 no-op calls on one executor with 64 threads, in
//!   turn, as many calls of each size; medians, and ratios to the smallest turn in the same round.
//! - callers: 1 to 64 threads that run turns of 8 no-op calls on one executor, 65 536 calls in all.
//!
//! The calls are made before and aren't part of it. What a queued call keeps in memory is counted by
//! the bench `allocations`.
//!
//! `cargo bench --bench scale`; `TOOLPOOL_ROUNDS` sets how often the sizes are gone through (15).
#![allow(missing_docs, reason = "a program of its own")]
#![allow(clippy::print_stdout, reason = "a bench prints")]

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use toolpool::{Executor, Report, Tool, ToolCall, ToolSet, Turn};

const SIZES: [usize; 3] = [1_000, 10_000, 100_000];
const MOST: usize = SIZES[SIZES.len() - 1];
const CALLERS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
const TURN: usize = 8;
const TURNS: usize = 8_192;

fn executor() -> Executor {
    let tools = ToolSet::new().with(Tool::new("no_op", "Does nothing", || Ok(())).read_only());
    let built = Executor::builder(tools).max_calls(MOST).build();
    built.unwrap_or_else(|error| panic!("the executor can't be built: {error}"))
}

fn turn(n: usize) -> Turn {
    Turn::from_calls((0..n).map(|at| ToolCall::new(format!("call_{at}"), "no_op", "{}")))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Time in `run`, and in dropping the report.
fn time(executor: &Executor, turn: &Turn) -> (Duration, Duration) {
    let start = Instant::now();
    let report: Report = executor.run(turn);
    let ran = start.elapsed();
    assert_eq!(report.calls().len(), turn.calls().len());
    let start = Instant::now();
    drop(report);
    (ran, start.elapsed())
}

fn queued(rounds: usize) {
    let (executor, turns) = (executor(), SIZES.map(turn));
    // Of each size, in each round: nanoseconds a call in `run`, and with the report's drop.
    let mut run: [Vec<f64>; SIZES.len()] = Default::default();
    let mut whole: [Vec<f64>; SIZES.len()] = Default::default();
    for round in 0..=rounds {
        for (at, turn) in turns.iter().enumerate() {
            let times = (0..MOST / SIZES[at]).map(|_| time(&executor, turn));
            let (ran, dropped) = times
                .fold((Duration::ZERO, Duration::ZERO), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            if round > 0 {
                run[at].push(ran.as_secs_f64() * 1e9 / MOST as f64);
                whole[at].push((ran + dropped).as_secs_f64() * 1e9 / MOST as f64);
            }
        }
    }
    println!(
        "| calls in the turn | ns a call | with the report's drop | to the turn of 1 000 | to that before |"
    );
    println!("| --- | --- | --- | --- | --- |");
    for at in 0..SIZES.len() {
        let ratio = |to: usize| {
            let pairs = run[at].iter().zip(&run[to]);
            median(&mut pairs.map(|(this, other)| this / other).collect::<Vec<_>>())
        };
        println!(
            "| {} | {:.0} | {:.0} | {:.2} | {:.2} |",
            SIZES[at],
            median(&mut run[at].clone()),
            median(&mut whole[at]),
            ratio(0),
            ratio(at.saturating_sub(1)),
        );
    }
}

fn callers(rounds: usize) {
    let (executor, turn) = (executor(), turn(TURN));
    let mut costs: [Vec<f64>; CALLERS.len()] = Default::default();
    for round in 0..=rounds {
        for (at, &callers) in CALLERS.iter().enumerate() {
            let barrier = Barrier::new(callers + 1);
            let took = thread::scope(|scope| {
                let threads: Vec<_> = (0..callers)
                    .map(|_| {
                        scope.spawn(|| {
                            barrier.wait();
                            for _ in 0..TURNS / callers {
                                assert!(executor.run(&turn).all_succeeded());
                            }
                        })
                    })
                    .collect();
                barrier.wait();
                let start = Instant::now();
                for thread in threads {
                    assert!(thread.join().is_ok());
                }
                start.elapsed()
            });
            if round > 0 {
                costs[at].push(took.as_secs_f64() * 1e9 / (TURNS * TURN) as f64);
            }
        }
    }
    println!("| caller threads | ns a call, turns of {TURN} | to one caller |");
    println!("| --- | --- | --- |");
    let one = median(&mut costs[0].clone());
    for (at, callers) in CALLERS.iter().enumerate() {
        let cost = median(&mut costs[at]);
        println!("| {callers} | {cost:.0} | {:.2} |", cost / one);
    }
}

fn main() {
    let rounds = std::env::var("TOOLPOOL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let rounds = rounds.unwrap_or(15).max(1);
    queued(rounds);
    println!();
    callers((rounds / 3).max(1));
}
