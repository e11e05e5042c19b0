//! How often a turn allocates, and how much a queued call keeps. Counted over all threads by the
//! global allocator; what the caller hands in (the turn and its `ToolCall`s) is made before and
//! isn't counted. It measures no time: counting would be part of it.
//!
//! - allocations a no-op call in turns of 1 to 1 000 calls on warm threads: the median of 50 turns,
//!   from `run` until its report is dropped, reallocations included and told apart.
//! - bytes a queued call: what is still allocated while 1 000, 10 000 and 100 000 calls wait behind
//!   one that blocks the only thread; and what the report of them keeps afterwards.
//!
//! `cargo bench --bench allocations`
#![allow(missing_docs, reason = "a program of its own")]
#![allow(clippy::print_stdout, reason = "a bench prints")]

mod common;

use std::alloc::System;
use std::hint::black_box;
use std::thread;
use std::time::Duration;

use common::{calls, median};
use crossbeam_channel::{Receiver, Sender, bounded};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};
use toolpool::{Executor, Tool, ToolSet};

#[global_allocator]
static COUNTING: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const TURNS: usize = 50;

fn built(tools: ToolSet, threads: usize, calls: usize) -> Executor {
    let built = Executor::builder(tools).max_calls(calls).blocking_threads(threads).build();
    built.expect("the tool is fine")
}

/// What of the heap is held more than before.
fn kept(change: Stats) -> usize {
    change.bytes_allocated.saturating_sub(change.bytes_deallocated)
}

fn per_call(n: usize) {
    let tools = ToolSet::new().with(Tool::new("no_op", "Does nothing", || Ok(())).read_only());
    let (executor, turn) = (built(tools, 64, n), calls("no_op", n));
    for _ in 0..20 {
        drop(black_box(executor.run(&turn)));
    }
    let counted = |_| {
        settled(&executor);
        let region = Region::new(COUNTING);
        drop(black_box(executor.run(&turn)));
        settled(&executor);
        region.change()
    };
    let turns: Vec<Stats> = (0..TURNS).map(counted).collect();
    let each = |figure: fn(&Stats) -> usize| {
        median(turns.iter().map(|stats| figure(stats) as f64)) / n as f64
    };
    println!(
        "| {n} | {:.2} | {:.2} | {:.0} |",
        each(|stats| stats.allocations),
        each(|stats| stats.reallocations),
        each(|stats| stats.bytes_allocated),
    );
}

/// Waits until the threads are done with what comes after a call's result.
fn settled(executor: &Executor) {
    while executor.stats().batches > 0 {
        thread::yield_now();
    }
    thread::sleep(Duration::from_millis(2));
}

fn queued(n: usize) {
    let (open, gate): (Sender<()>, Receiver<()>) = bounded(0);
    let tool = Tool::new("waits", "Waits until it is let go", move || {
        let _ = gate.recv();
        Ok(())
    });
    let (executor, turn) = (built(ToolSet::new().with(tool), 1, n), calls("waits", n));
    let region = Region::new(COUNTING);
    let (while_queued, report) = thread::scope(|scope| {
        let run = scope.spawn(|| executor.run(&turn));
        while executor.stats().queued + 1 < n {
            thread::sleep(Duration::from_millis(1));
        }
        let while_queued = kept(region.change());
        drop(open);
        (while_queued, run.join())
    });
    settled(&executor);
    let afterwards = kept(region.change());
    assert!(report.is_ok_and(|report| report.all_succeeded()));
    println!("| {n} | {} | {} |", while_queued / n, afterwards / n);
}

fn main() {
    println!("| calls | allocations a call | reallocations a call | bytes asked for a call |");
    println!("| --- | --- | --- | --- |");
    for n in [1, 3, 10, 100, 1000] {
        per_call(n);
    }
    println!();
    println!("| queued calls | bytes kept a call while queued | in the report afterwards |");
    println!("| --- | --- | --- |");
    for n in [1_000, 10_000, 100_000] {
        queued(n);
    }
}
