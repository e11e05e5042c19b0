//! Overhead of a turn: wall time less the longest run inside a handler. All Rust rivals in turn
//! within one process, medians over the rounds.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::rivals::{self, Rival, Settings, TOOLPOOL};
use crate::work::{DONE, Work, take_longest};

pub const SIZES: [usize; 5] = [1, 3, 10, 100, 1000];
/// The calls of the one long turn, 20 ms each.
pub const LONG: usize = 500;
/// The rounds that warm up and aren't counted.
const WARM_UP: usize = 2;
const LEAST_ROUNDS: usize = 11;
const MOST_ROUNDS: usize = 500;

/// What one rival's turns of one size cost.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    pub rival: String,
    /// `no_op`, `nap`, `long_nap`, or `long_nap_cold` where threads are made within the time.
    pub work: String,
    pub n: usize,
    /// The whole turn's overhead, in microseconds.
    pub micros: f64,
    /// Median of the rounds' ratios to toolpool, where both ran in one round.
    pub ratio: Option<f64>,
    pub rounds: usize,
}

pub fn all(budget: Duration) -> Vec<Row> {
    let mut rows = Vec::new();
    for work in [Work::NoOp, Work::Nap] {
        for n in SIZES {
            rows.extend(warm(work, n, budget));
        }
    }
    rows.extend(warm(Work::LongNap, LONG, budget * 2));
    rows.extend(cold(Work::LongNap, LONG, budget * 2));
    rows
}

fn settings(n: usize) -> Settings {
    Settings { threads: n, deadline: None }
}

fn warm(work: Work, n: usize, budget: Duration) -> Vec<Row> {
    let mut all: Vec<_> = rivals::ALL.iter().map(|entry| (entry.make)(settings(n))).collect();
    for rival in &mut all {
        rival.prepare(&vec![work; n]);
    }
    rounds(work.name(), n, budget, |at| {
        // Once untimed, so that what the rival before left behind isn't counted.
        all[at].run();
        overhead(&mut *all[at], n, Duration::ZERO)
    })
}

/// With the making of the threads, the pool or the runtime.
fn cold(work: Work, n: usize, budget: Duration) -> Vec<Row> {
    rounds(&format!("{}_cold", work.name()), n, budget, |at| {
        let start = Instant::now();
        let mut rival = (rivals::ALL[at].make)(settings(n));
        let made = start.elapsed();
        rival.prepare(&vec![work; n]);
        overhead(&mut *rival, n, made)
    })
}

/// In seconds.
fn overhead(rival: &mut dyn Rival, n: usize, made: Duration) -> f64 {
    take_longest();
    let ran = rival.run();
    let longest = take_longest();
    let done = |result: &Option<String>| result.as_ref().is_some_and(|text| text.contains(DONE));
    assert!(ran.results.len() == n && ran.results.iter().all(done), "{:?}", ran.results.first());
    (ran.took + made).saturating_sub(longest).max(Duration::from_nanos(1)).as_secs_f64()
}

/// Goes through the rivals, each time in another order, until the budget is used up.
fn rounds(
    work: &str,
    n: usize,
    budget: Duration,
    mut overhead: impl FnMut(usize) -> f64,
) -> Vec<Row> {
    let count = rivals::ALL.len();
    let mut figures: Vec<Vec<f64>> = vec![Vec::new(); count];
    let mut order: Vec<usize> = (0..count).collect();
    let mut random = 2_463_534_242_u64;
    let (start, mut round) = (Instant::now(), 0);
    while round < LEAST_ROUNDS + WARM_UP || (start.elapsed() < budget && round < MOST_ROUNDS) {
        shuffle(&mut order, &mut random);
        for &at in &order {
            let figure = overhead(at);
            if round >= WARM_UP {
                figures[at].push(figure);
            }
        }
        round += 1;
    }
    println!("{work}, {n} calls: {} rounds", round - WARM_UP);
    let ours = rivals::ALL.iter().position(|entry| entry.name == TOOLPOOL).unwrap_or_default();
    let row = |(at, entry): (usize, &rivals::Entry)| {
        let ratios = figures[at].iter().zip(&figures[ours]).map(|(this, ours)| this / ours);
        Row {
            rival: entry.name.to_owned(),
            work: work.to_owned(),
            n,
            micros: median(figures[at].clone()) * 1e6,
            ratio: Some(median(ratios.collect())),
            rounds: round - WARM_UP,
        }
    };
    rivals::ALL.iter().enumerate().map(row).collect()
}

/// By Fisher and Yates, with a generator by Marsaglia: the same in every run.
fn shuffle(order: &mut [usize], random: &mut u64) {
    for last in (1..order.len()).rev() {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        order.swap(last, (*random % (last as u64 + 1)) as usize);
    }
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
