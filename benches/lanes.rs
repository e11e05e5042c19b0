//! Why blocking tools aren't rayon jobs: one mixed workload over `par_iter`, `thread::scope`, the
//! Compute lane (everything on one rayon pool) and the Blocking lane.
//!
//! 200 calls: most sleep 5 ms, every fifth touches another rayon pool and waits 50 ms there, one
//! sleeps 2 s. Counted: how many calls ran on top of another one's stack, when the short ones came
//! back, and the wall time. Printed as the table of the design notes.
//!
//! `cargo bench --bench lanes`
#![allow(missing_docs, reason = "a program of its own")]
#![allow(clippy::print_stdout, reason = "a bench prints")]

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rayon::prelude::*;
use toolpool::{Executor, Lane, ScopedTool, ScopedToolSet, Tool, ToolCall, ToolSet, Turn};

const CALLS: usize = 200;
const THREADS: usize = 8;

thread_local!(static DEPTH: Cell<usize> = const { Cell::new(0) });

/// The workload, and what it noticed.
struct Work {
    start: Mutex<Instant>,
    /// Another pool, as a library inside a tool has one.
    other: rayon::ThreadPool,
    stacked: AtomicUsize,
    deepest: AtomicUsize,
    short: Mutex<Vec<Duration>>,
}

fn pool(threads: usize) -> rayon::ThreadPool {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.unwrap_or_else(|error| panic!("no pool: {error}"))
}

impl Work {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            start: Mutex::new(Instant::now()),
            other: pool(16),
            stacked: AtomicUsize::new(0),
            deepest: AtomicUsize::new(0),
            short: Mutex::default(),
        })
    }

    fn call(&self, n: usize) {
        let depth = DEPTH.get() + 1;
        DEPTH.set(depth);
        self.stacked.fetch_add(usize::from(depth > 1), Ordering::Relaxed);
        self.deepest.fetch_max(depth, Ordering::Relaxed);
        match n {
            3 => thread::sleep(Duration::from_secs(2)),
            _ => {
                if n.is_multiple_of(5) {
                    self.other.install(|| thread::sleep(Duration::from_millis(50)));
                } else {
                    thread::sleep(Duration::from_millis(5));
                }
                let since = self.start.lock().elapsed();
                self.short.lock().push(since);
            }
        }
        DEPTH.set(depth - 1);
    }

    fn measure(&self, name: &str, run: impl FnOnce()) {
        *self.start.lock() = Instant::now();
        let start = Instant::now();
        run();
        let wall = start.elapsed();
        let mut short = std::mem::take(&mut *self.short.lock());
        short.sort();
        let by = |part: usize| short[(short.len() - 1) * part / 100].as_millis();
        println!(
            "| {name} | {} of {CALLS} | {} | {} ms | {} ms | {} ms |",
            self.stacked.swap(0, Ordering::Relaxed),
            self.deepest.swap(0, Ordering::Relaxed),
            by(50),
            by(100),
            wall.as_millis(),
        );
    }
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Args {
    n: usize,
}

fn executor(work: &Arc<Work>, lane: Lane) -> Executor {
    let work = Arc::clone(work);
    let tool = Tool::new("work", "Works", move |args: Args| {
        work.call(args.n);
        Ok(())
    });
    let built = Executor::builder(ToolSet::new().with(tool))
        .default_lane(lane)
        .rayon_threads(THREADS)
        .blocking_threads(THREADS)
        .max_calls(CALLS)
        .build();
    built.unwrap_or_else(|error| panic!("the executor can't be built: {error}"))
}

fn main() {
    println!("{CALLS} calls, {THREADS} threads but where a thread a call is said\n");
    println!("| run by | stacked | deepest | half the short ones by | all of them by | wall |");
    println!("| --- | --- | --- | --- | --- | --- |");
    let work = Work::new();
    let rayon = pool(THREADS);
    work.measure("`par_iter`", || {
        rayon.install(|| (0..CALLS).into_par_iter().for_each(|n| work.call(n)));
    });
    work.measure("`thread::scope`, a thread a call", || {
        thread::scope(|scope| {
            for n in 0..CALLS {
                let work = &work;
                scope.spawn(move || work.call(n));
            }
        });
    });
    let call = |n| ToolCall::new(format!("{n}"), "work", format!(r#"{{"n":{n}}}"#));
    let turn = Turn::from_calls((0..CALLS).map(call));
    let compute = executor(&work, Lane::Compute);
    work.measure("Compute lane", || drop(compute.run(&turn)));
    let blocking = executor(&work, Lane::Blocking);
    work.measure("Blocking lane", || drop(blocking.run(&turn)));
    work.measure("`run_scoped`", || {
        let tool = ScopedTool::new("work", "Works", |args: Args| {
            work.call(args.n);
            Ok(())
        });
        let tools = ScopedToolSet::new().with(tool);
        let report = blocking.turn(&turn).max_parallel(THREADS).run_scoped(tools);
        assert!(report.is_ok_and(|report| report.all_succeeded()));
    });
}
