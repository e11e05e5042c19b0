//! Many random runs. One run is an executor with up to four top-level batches of 1–12 calls each
//! (about 40 calls with the nested ones), from the first submission until every thread is back.
//!
//! - `TOOLPOOL_SIM_RUNS`: how many, 10 000 if not set
//! - `TOOLPOOL_SIM_FIRST`: the first seed, 0 if not set
//! - `TOOLPOOL_SIM_SEED`: only this one, and every event of it is printed

use std::collections::BTreeMap;
use std::time::Instant;

use super::world::World;

/// All ways for a call to end that the scheduler knows, or is told of.
const ENDS: &[&str] = &[
    "abandoned_limit",
    "aborted",
    "bad_arguments",
    "busy",
    "cancelled",
    "circuit_open",
    "deadline",
    "deferred",
    "failed",
    "group_paused",
    "key_held",
    "no_thread",
    "not_needed",
    "panicked",
    "shutdown",
    "succeeded",
    "timed_out",
    "timeout",
    "withheld",
    "would_deadlock",
];

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

/// Tells which run failed.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this run again: TOOLPOOL_SIM_SEED={}", self.0);
        }
    }
}

#[test]
fn random_event_orders_keep_the_promises() {
    let begin = Instant::now();
    if let Some(seed) = from_env("TOOLPOOL_SIM_SEED") {
        let _seed = Seed(seed);
        World::new(seed, begin, true).run();
        return;
    }
    let first = from_env("TOOLPOOL_SIM_FIRST").unwrap_or(0);
    let runs = from_env("TOOLPOOL_SIM_RUNS").unwrap_or(10_000);
    let (mut events, mut calls, mut late) = (0, 0, 0);
    let mut ends = BTreeMap::new();
    for seed in first..first + runs {
        let _seed = Seed(seed);
        let mut world = World::new(seed, begin, false);
        events += world.run();
        calls += world.calls.len();
        late += world.scheduler.counts().late;
        for (end, times) in world.ends {
            *ends.entry(end).or_insert(0) += times;
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!("{runs} runs, {calls} calls, {events} events, {late} late results, {seconds:.1} s");
    println!("{ends:?}");
    let missing: Vec<_> = ENDS.iter().filter(|end| !ends.contains_key(*end)).collect();
    assert!(runs < 5_000 || missing.is_empty(), "the simulation never comes to {missing:?}");
}
