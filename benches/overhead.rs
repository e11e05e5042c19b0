//! What running a turn costs beside the tools themselves.
//!
//! - pairs: three calls of 5 ms. Overhead is wall time less the longest run inside a handler, and
//!   beside it, in alternation in the same run, that of three bare hand-offs to warm threads over
//!   crossbeam channels. Told as the medians of both and of their ratio.
//! - `no_op` and `nap`: whole turns of 1 to 1 000 calls on warm threads.
//!
//! `cargo bench --bench overhead`; `TOOLPOOL_ROUNDS` sets the number of pairs (300).
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::print_stdout, reason = "a bench prints")]

mod common;

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use common::{calls, median};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use parking_lot::Mutex;
use toolpool::{Executor, Tool, ToolSet};

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
    built.expect("the tools are fine")
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

fn pairs() {
    let (executor, three, bare) = (executor(), calls("nap", 3), Bare::new());
    let run = || overhead_of(|| drop(black_box(executor.run(&three)))).as_secs_f64();
    let hand_off = || overhead_of(|| bare.run()).as_secs_f64();
    let pair = |at: usize| match at % 2 {
        0 => (run(), hand_off()),
        _ => {
            let theirs = hand_off();
            (run(), theirs)
        }
    };
    let (warm_up, rounds) = (10, common::rounds(300));
    let pairs: Vec<_> = (0..warm_up + rounds).map(pair).skip(warm_up).collect();
    println!(
        "three calls of 5 ms, {rounds} pairs: overhead {:.1} µs, bare hand-offs {:.1} µs, ratio {:.2} (medians)",
        median(pairs.iter().map(|(ours, _)| ours * 1e6)),
        median(pairs.iter().map(|(_, theirs)| theirs * 1e6)),
        median(pairs.iter().map(|(ours, theirs)| ours / theirs.max(1e-9))),
    );
}

fn turns(criterion: &mut Criterion) {
    let executor = executor();
    for name in ["no_op", "nap"] {
        let mut group = criterion.benchmark_group(name);
        for n in [1, 3, 10, 100, 1000] {
            let turn = calls(name, n);
            group.throughput(Throughput::Elements(n as u64));
            group.bench_with_input(BenchmarkId::from_parameter(n), &turn, |bencher, turn| {
                bencher.iter(|| executor.run(turn));
            });
        }
        group.finish();
    }
}

criterion_group! { name = benches; config = common::criterion(); targets = turns }
criterion_main!(pairs, benches);
