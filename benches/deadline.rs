//! How late a run returns after its deadline, with tools that don't.
//!
//! - idle: one tool that waits for ever, a deadline of 20 ms, `TOOLPOOL_RUNS` runs (1 000). Beside
//!   each, in the same run, a bare `recv_deadline` on an empty channel.
//! - saturated: 32 tools that use a processor and are deaf to being told, a deadline of 200 ms, a
//!   twentieth as many runs; at the caller's priority and at `tool_priority(19)`.
//!
//! `cargo bench --bench deadline`

#![allow(clippy::print_stdout, reason = "it prints a table")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use toolpool::{Executor, Tool, ToolCall, ToolSet, Turn};

const IDLE: Duration = Duration::from_millis(20);
const SATURATED: Duration = Duration::from_millis(200);
const SPINNING: usize = 32;

fn repeat(name: &str, n: usize) -> Turn {
    Turn::from_calls((0..n).map(|n| ToolCall::new(n.to_string(), name, "")))
}

/// One line of a table.
fn tell(name: &str, mut late: Vec<Duration>) {
    late.sort();
    let at = |share: usize| late[(late.len() * share / 100).min(late.len() - 1)];
    let (p50, p99, most) = (at(50), at(99), late[late.len() - 1]);
    println!(
        "{name:<28} {:>6} runs   p50 {p50:>10.1?}   p99 {p99:>10.1?}   most {most:>10.1?}",
        late.len()
    );
}

fn idle(runs: usize) {
    let waits = Tool::new("waits", "Returns when its batch is over", || {
        thread::sleep(IDLE * 2);
        Ok(())
    });
    let built = Executor::builder(ToolSet::new().with(waits)).deadline(IDLE).build();
    let executor = built.expect("the tool is fine");
    let turn = repeat("waits", 1);
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    let (_sender, receiver) = crossbeam_channel::unbounded::<()>();
    for _ in 0..runs {
        let began = Instant::now();
        let report = executor.run(&turn);
        ours.push(began.elapsed().saturating_sub(IDLE));
        assert_eq!(report[0].outcome.name(), "timed_out");
        let began = Instant::now();
        assert!(receiver.recv_deadline(began + IDLE).is_err());
        bare.push(began.elapsed().saturating_sub(IDLE));
    }
    tell("idle: a bare recv_deadline", bare);
    tell("idle: a run", ours);
}

fn saturated(runs: usize, nice: Option<i32>) {
    let over = Arc::new(AtomicBool::new(false));
    let spins = Tool::new("spins", "Uses a processor until its batch is over", {
        let over = Arc::clone(&over);
        move || {
            let mut n = 0_u64;
            while !over.load(Ordering::Relaxed) {
                n = std::hint::black_box(n.wrapping_mul(31) + 1);
            }
            Ok(n)
        }
    });
    let mut builder = Executor::builder(ToolSet::new().with(spins)).deadline(SATURATED);
    if let Some(nice) = nice {
        builder = builder.tool_priority(nice);
    }
    let executor = builder.build().expect("the tool is fine");
    let turn = repeat("spins", SPINNING);
    let mut late = Vec::new();
    for _ in 0..runs {
        over.store(false, Ordering::Relaxed);
        let began = Instant::now();
        let report = executor.run(&turn);
        late.push(began.elapsed().saturating_sub(SATURATED));
        assert!(!report.all_succeeded());
        over.store(true, Ordering::Relaxed);
        while executor.stats().abandoned > 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
    let nice = nice.map_or("the caller's priority".to_owned(), |nice| format!("priority {nice}"));
    tell(&format!("saturated: {nice}"), late);
}

fn main() {
    let runs = std::env::var("TOOLPOOL_RUNS").ok().and_then(|runs| runs.parse().ok());
    let runs = runs.unwrap_or(1000);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    println!("lateness after the deadline; {cores} cores, {SPINNING} spinning tools");
    idle(runs);
    saturated((runs / 20).max(1), None);
    saturated((runs / 20).max(1), Some(19));
}
