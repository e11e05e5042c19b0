//! Figures of an executor.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::executor::core::Core;
use crate::outcome::Outcome;
use crate::report::CallReport;
use crate::sync::Mutex;

/// Figures of the moment, and of each tool since the executor was built.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Calls that run.
    pub running: usize,
    /// Calls that wait: for a key, a permit, a thread or another attempt.
    pub queued: usize,
    /// Threads still out for calls that were walked away from.
    pub abandoned: usize,
    /// Results that came after their call had been settled, since the beginning.
    pub late: u64,
    /// Open batches.
    pub batches: usize,
    /// Threads of the Blocking lane, idle ones included.
    pub blocking_threads: usize,
    /// Observers that were switched off since the beginning, because they panicked or took over a
    /// second for one event.
    pub observers_off: u64,
    /// Each tool that was called.
    pub tools: BTreeMap<String, ToolStats>,
}

/// Figures of one tool since the executor was built.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ToolStats {
    /// Calls that were settled, those of dropped batches excepted.
    pub calls: u64,
    /// Of them, those that failed.
    pub failures: u64,
    /// Run time that half of the calls that ran stayed within, to 12.5 %.
    pub p50: Duration,
    /// Run time that 99 % of the calls that ran stayed within, to 12.5 %.
    pub p99: Duration,
}

pub(super) fn collect(core: &Core) -> Stats {
    let counts = core.with(|scheduler, _, _| scheduler.counts());
    Stats {
        running: counts.running,
        queued: counts.queued,
        abandoned: counts.abandoned,
        late: counts.late,
        batches: counts.batches,
        blocking_threads: core.blocking.threads(),
        observers_off: core.observation.switched_off(),
        tools: core.tools.snapshot(),
    }
}

/// Counts of each tool, in the order of names.
#[derive(Default)]
pub(crate) struct ToolCounts(Mutex<Vec<(String, Histogram)>>);

impl ToolCounts {
    /// Counts calls of a batch that is over.
    pub(crate) fn record_all<'a>(&self, calls: impl Iterator<Item = &'a CallReport>) {
        let mut tools = self.0.lock();
        for call in calls {
            let run_time = call.started.map(|_| call.run_time());
            let name = call.call.name();
            let found = tools.binary_search_by(|(other, _)| other.as_str().cmp(name));
            let at = found.unwrap_or_else(|at| {
                tools.insert(at, (name.to_owned(), Histogram::default()));
                at
            });
            tools[at].1.record(&call.outcome, run_time);
        }
    }

    fn snapshot(&self) -> BTreeMap<String, ToolStats> {
        let tools = self.0.lock();
        let mut stats = BTreeMap::new();
        for (name, histogram) in &*tools {
            stats.insert(name.clone(), histogram.stats());
        }
        stats
    }
}

/// Eight buckets to each doubling of microseconds: a run time is known to one part in eight.
const BUCKETS: usize = 8 * 40;

struct Histogram {
    calls: u64,
    failures: u64,
    buckets: Box<[u64; BUCKETS]>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { calls: 0, failures: 0, buckets: Box::new([0; BUCKETS]) }
    }
}

impl Histogram {
    fn record(&mut self, outcome: &Outcome, run_time: Option<Duration>) {
        self.calls += 1;
        self.failures += u64::from(!outcome.is_success());
        if let Some(run_time) = run_time {
            self.buckets[bucket(run_time)] += 1;
        }
    }

    fn stats(&self) -> ToolStats {
        ToolStats {
            calls: self.calls,
            failures: self.failures,
            p50: self.quantile(50),
            p99: self.quantile(99),
        }
    }

    fn quantile(&self, percent: u64) -> Duration {
        let total: u64 = self.buckets.iter().sum();
        let wanted = (total * percent).div_ceil(100);
        let mut seen = 0;
        for (at, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted && *count > 0 {
                return upper_end(at);
            }
        }
        Duration::ZERO
    }
}

/// The bucket of a run time: the doubling it is in, and which eighth of it.
fn bucket(run_time: Duration) -> usize {
    let micros = u64::try_from(run_time.as_micros()).unwrap_or(u64::MAX);
    if micros < 8 {
        return micros as usize;
    }
    let doubling = micros.ilog2() as usize;
    let eighth = (micros >> (doubling - 3)) as usize & 7;
    ((doubling - 2) * 8 + eighth).min(BUCKETS - 1)
}

/// The longest run time of a bucket.
fn upper_end(at: usize) -> Duration {
    if at < 8 {
        return Duration::from_micros(at as u64);
    }
    let (doubling, eighth) = (at / 8 + 2, at as u64 % 8);
    Duration::from_micros(((8 + eighth + 1) << (doubling - 3)) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_time_is_known_to_one_part_in_eight() {
        for micros in (0..2000).chain([12_345, 1_000_000, 59_999_999]) {
            let told = upper_end(bucket(Duration::from_micros(micros))).as_micros() as u64;
            assert!(told >= micros && told <= micros + micros / 8, "{micros} is told as {told}");
        }
    }

    #[test]
    fn quantiles_and_failures_are_counted() {
        let mut histogram = Histogram::default();
        let done = Outcome::Succeeded("".into());
        for ms in 1..=100 {
            histogram.record(&done, Some(Duration::from_millis(ms)));
        }
        histogram.record(&Outcome::Panicked(None), None);
        let stats = histogram.stats();
        assert_eq!((stats.calls, stats.failures), (101, 1));
        assert!((50..=57).contains(&stats.p50.as_millis()), "{:?}", stats.p50);
        assert!((99..=112).contains(&stats.p99.as_millis()), "{:?}", stats.p99);
    }
}
