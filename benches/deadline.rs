//! How late a run returns after its deadline, with tools that don't.
//!
//! - idle: one tool that waits longer, a deadline of 20 ms. Beside it a bare `recv_deadline` on an
//!   empty channel.
//! - saturated: 32 tools that use a processor and are deaf to being told, a deadline of 200 ms; at
//!   the caller's priority and at `tool_priority(19)`.
//!
//! The table tells how late they were in `TOOLPOOL_ROUNDS` runs (500) and a twentieth as many
//! saturated ones; the figures of criterion are the lateness too, not the time of a run.
//!
//! `cargo bench --bench deadline`
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::print_stdout, reason = "a bench prints")]

mod common;

use std::hint::black_box;
use std::iter::repeat_with;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use crossbeam_channel::unbounded;
use toolpool::{Executor, Tool, ToolSet, Turn};

const IDLE: Duration = Duration::from_millis(20);
const SATURATED: Duration = Duration::from_millis(200);
const SPINNING: usize = 32;

/// Runs once, and says how late it was.
type Run = Box<dyn FnMut() -> Duration>;

fn late(executor: &Executor, turn: &Turn, deadline: Duration) -> Duration {
    let start = Instant::now();
    let report = executor.run(turn);
    let late = start.elapsed().saturating_sub(deadline);
    assert_eq!(report[0].outcome.name(), "timed_out");
    late
}

fn bare() -> Run {
    let (sender, receiver) = unbounded::<()>();
    Box::new(move || {
        let _open = &sender;
        let start = Instant::now();
        assert!(receiver.recv_deadline(start + IDLE).is_err());
        start.elapsed().saturating_sub(IDLE)
    })
}

fn idle() -> Run {
    let waits = Tool::new("waits", "Waits for longer than it may", || {
        thread::sleep(IDLE * 2);
        Ok(())
    });
    let built = Executor::builder(ToolSet::new().with(waits)).deadline(IDLE).build();
    let (executor, turn) = (built.expect("the tool is fine"), common::calls("waits", 1));
    Box::new(move || late(&executor, &turn, IDLE))
}

fn saturated(nice: Option<i32>) -> Run {
    let over = Arc::new(AtomicBool::new(false));
    let spins = Tool::new("spins", "Uses a processor until its batch is over", {
        let over = Arc::clone(&over);
        move || {
            let mut n = 0_u64;
            while !over.load(Ordering::Relaxed) {
                n = black_box(n.wrapping_mul(31) + 1);
            }
            Ok(n)
        }
    });
    let mut builder = Executor::builder(ToolSet::new().with(spins)).deadline(SATURATED);
    if let Some(nice) = nice {
        builder = builder.tool_priority(nice);
    }
    let executor = builder.build().expect("the tool is fine");
    let turn = common::calls("spins", SPINNING);
    Box::new(move || {
        over.store(false, Ordering::Relaxed);
        let late = late(&executor, &turn, SATURATED);
        over.store(true, Ordering::Relaxed);
        while executor.stats().abandoned > 0 {
            thread::sleep(Duration::from_millis(1));
        }
        late
    })
}

fn cases() -> [(&'static str, Run); 4] {
    [
        ("idle: a bare recv_deadline", bare()),
        ("idle: a run", idle()),
        ("saturated: the caller's priority", saturated(None)),
        ("saturated: priority 19", saturated(Some(19))),
    ]
}

fn table() {
    let (mut cases, rounds) = (cases(), common::rounds(500));
    println!("| lateness, {SPINNING} tools where saturated | runs | p50 | p99 | most |");
    println!("| --- | --- | --- | --- | --- |");
    let (idle, saturated) = cases.split_at_mut(2);
    for (cases, runs) in [(idle, rounds), (saturated, rounds.div_ceil(20))] {
        let mut late = vec![Vec::new(); cases.len()];
        for _ in 0..runs {
            for ((_, run), late) in cases.iter_mut().zip(&mut late) {
                late.push(run());
            }
        }
        for ((name, _), late) in cases.iter().zip(&mut late) {
            late.sort();
            let [p50, p99, most] = [50, 99, 100].map(|share| late[(runs - 1) * share / 100]);
            println!("| {name} | {runs} | {p50:.1?} | {p99:.1?} | {most:.1?} |");
        }
    }
}

fn lateness(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("deadline");
    for (name, mut run) in cases() {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|n| repeat_with(&mut run).take(n as usize).sum());
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = common::criterion(); targets = lateness }
criterion_main!(table, benches);
