//! What running a turn costs beside the tools themselves.
//!
//! - pairs: three calls of 5 ms. Overhead is wall time less the longest run inside a handler, and
//!   beside it, in alternation in the same run, that of three bare hand-offs to warm threads over
//!   crossbeam channels. Told as the medians of both and of their ratio.
//! - `no_op` and `nap`: whole turns of 1 to 1 000 calls on warm threads.
//!
//! `cargo bench --bench overhead`; `TOOLPOOL_PAIRS` sets the number of pairs (300).
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::print_stdout, reason = "a bench prints")]

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use parking_lot::Mutex;
use toolpool::{Executor, Tool, ToolCall, ToolSet, Turn};

const NAP: Duration = Duration::from_millis(5);

/// The longest run inside a handler since it was last asked for.
static LONGEST: Mutex<Duration> = Mutex::new(Duration::ZERO);

fn nap() {
    let start = Instant::now();
    thread::sleep(NAP);
    let took = start.elapsed();
    let mut longest = LONGEST.lock();
    *longest = took.max(*longest);
}

fn executor() -> Executor {
    let tools = ToolSet::new()
        .with(Tool::new("no_op", "Does nothing", || Ok(())).read_only())
        .with(Tool::new("nap", "Sleeps 5 ms", || {
            nap();
            Ok(())
        }));
    let built = Executor::builder(tools).max_calls(1000).blocking_threads(1000).build();
    built.unwrap_or_else(|error| panic!("the executor can't be built: {error}"))
}

fn turn(name: &str, n: usize) -> Turn {
    Turn::from_calls((0..n).map(|at| ToolCall::new(format!("call_{at}"), name, "{}")))
}

/// Three threads that wait for a job and say when it is done: the least that could do the work.
struct Bare {
    jobs: Vec<Sender<()>>,
    done: Receiver<()>,
}

impl Bare {
    fn new() -> Self {
        let (finished, done) = unbounded();
        let jobs = (0..3).map(|_| {
            let (job, jobs) = bounded::<()>(1);
            let finished = finished.clone();
            thread::spawn(move || {
                for () in jobs {
                    nap();
                    let _ = finished.send(());
                }
            });
            job
        });
        Self { jobs: jobs.collect(), done }
    }

    fn run(&self) {
        for job in &self.jobs {
            let _ = job.send(());
        }
        for _ in &self.jobs {
            let _ = self.done.recv();
        }
    }
}

fn overhead_of(run: impl FnOnce()) -> Duration {
    *LONGEST.lock() = Duration::ZERO;
    let start = Instant::now();
    run();
    start.elapsed().saturating_sub(*LONGEST.lock())
}

fn median<T: PartialOrd + Copy>(values: &mut [T]) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    values[values.len() / 2]
}

fn pairs() {
    let count = std::env::var("TOOLPOOL_PAIRS").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    let (executor, three, bare) = (executor(), turn("nap", 3), Bare::new());
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for at in 0..count + 10 {
        let with_executor = || drop(black_box(executor.run(&three)));
        let (a, b) = if at % 2 == 0 {
            let a = overhead_of(with_executor);
            (a, overhead_of(|| bare.run()))
        } else {
            let b = overhead_of(|| bare.run());
            (overhead_of(with_executor), b)
        };
        if at >= 10 {
            ours.push(a);
            theirs.push(b);
            ratios.push(a.as_secs_f64() / b.as_secs_f64().max(1e-9));
        }
    }
    println!(
        "three calls of 5 ms, {count} pairs: overhead {:?}, bare hand-offs {:?}, ratio {:.2} (medians)",
        median(&mut ours),
        median(&mut theirs),
        median(&mut ratios),
    );
}

fn turns(criterion: &mut Criterion) {
    let executor = executor();
    for name in ["no_op", "nap"] {
        let mut group = criterion.benchmark_group(name);
        group.sample_size(20);
        for n in [1, 3, 10, 100, 1000] {
            let turn = turn(name, n);
            group.throughput(Throughput::Elements(n as u64));
            group.bench_with_input(BenchmarkId::from_parameter(n), &turn, |bencher, turn| {
                bencher.iter(|| executor.run(turn));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, turns);

fn main() {
    pairs();
    benches();
    Criterion::default().configure_from_args().final_summary();
}
