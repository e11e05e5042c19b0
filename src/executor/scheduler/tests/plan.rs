//! What happens in one simulated run: limits, tools, batches, and what each call is going to do.

use std::sync::Arc;
use std::time::Duration;

use super::random::Random;
use crate::bound::Secrets;
use crate::error::ToolError;
use crate::executor::scheduler::{Limits, PoolKey, PoolSpec, Terms, Track};
use crate::outcome::{NotStarted, Outcome, Rejected};
use crate::output::Output;
use crate::tool::{Access, KeyUse};

pub(super) struct RunPlan {
    pub(super) limits: Limits,
    /// When which batch is opened.
    pub(super) batches: Vec<(Duration, BatchPlan)>,
    pub(super) shut_down: Option<Duration>,
    pub(super) drain: Option<Duration>,
    /// Whether events may come later than they are due.
    pub(super) late: bool,
    /// How often the system refuses a thread, in percent.
    pub(super) refusals: usize,
}

#[derive(Clone)]
pub(super) struct BatchPlan {
    pub(super) calls: Vec<CallPlan>,
    pub(super) deadline: Option<Duration>,
    pub(super) max_parallel: usize,
    pub(super) policy: PolicyPlan,
    /// What its owner does with it, and how long after the step before.
    pub(super) steps: Vec<(Duration, Step)>,
}

/// What the owner of a batch does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Hands in so many more calls.
    Submit(usize),
    Release,
    Withhold,
    Cancel,
    /// Waits for it from now on; its deadline counts from here, where it is true.
    Finish(bool),
    Detach,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum PolicyPlan {
    Inline,
    AbortAfter(usize),
    /// The tool of this number is required.
    Require(usize),
    /// Enough when so many have succeeded, hopeless when so many can't.
    Quorum(usize),
}

#[derive(Clone)]
pub(super) struct CallPlan {
    pub(super) tool: usize,
    pub(super) terms: Arc<Terms>,
    pub(super) held: bool,
    pub(super) settled: Option<Outcome>,
    pub(super) keys: Vec<KeyUse>,
    pub(super) identity: Option<String>,
    pub(super) prepare: Duration,
    pub(super) prepare_ends: End,
    pub(super) attempts: Vec<AttemptPlan>,
}

#[derive(Clone)]
pub(super) struct AttemptPlan {
    /// Batches that it runs, one after another, before it goes on.
    pub(super) nested: Vec<BatchPlan>,
    pub(super) runs: Duration,
    pub(super) ends: End,
    pub(super) retry: Option<Duration>,
    pub(super) pause: Option<Duration>,
    /// How soon it returns when it is told to stop; never, where it ignores that.
    pub(super) heeds: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Succeeds,
    Fails,
    Panics,
    /// Not by itself.
    Hangs,
}

impl End {
    pub(super) fn outcome(self) -> Outcome {
        match self {
            Self::Succeeds => Outcome::Succeeded(Output::text("done")),
            Self::Panics => Outcome::Panicked(None),
            Self::Fails | Self::Hangs => Outcome::Failed(ToolError::from("broken")),
        }
    }
}

/// How many calls a run may still make, nested ones included.
struct Budget(usize);

impl RunPlan {
    pub(super) fn new(random: &mut Random) -> Self {
        let limits = Limits {
            max_parallel: random.within(1..7),
            blocking: random.within(1..7),
            compute: random.within(1..3),
            max_queued: if random.percent(10) { random.within(1..9) } else { 1000 },
            max_abandoned: if random.percent(10) { random.within(1..4) } else { 1000 },
            secrets: Secrets::default(),
        };
        let tools = Tools::new(random);
        let mut budget = Budget(40);
        let batches = (0..random.within(1..5)).map(|_| {
            let at = if random.percent(50) { Duration::ZERO } else { random.ms(0..60) };
            (at, tools.batch(random, 0, &mut budget))
        });
        Self {
            limits,
            batches: batches.collect(),
            shut_down: random.percent(6).then(|| random.ms(0..80)),
            late: random.percent(30),
            refusals: if random.percent(15) { random.within(5..60) } else { 0 },
            drain: random.percent(6).then(|| random.ms(0..80)),
        }
    }
}

/// The tools of a run, and how wild it is.
struct Tools {
    terms: Vec<Arc<Terms>>,
    coalesced: Vec<bool>,
    hangs: usize,
    failures: usize,
    nests: usize,
}

impl Tools {
    fn new(random: &mut Random) -> Self {
        let groups: Vec<PoolSpec> = (0..random.within(0..3))
            .map(|number| PoolSpec {
                key: PoolKey::Group(number as u64),
                cap: if random.percent(50) { random.within(1..4) } else { usize::MAX },
                rate: random.percent(40).then(|| (random.within(1..4) as u32, random.ms(1..40))),
                breaker: random.percent(30).then(|| (random.within(1..4) as u32, random.ms(1..40))),
            })
            .collect();
        let exclusives = if random.percent(30) { 25 } else { 0 };
        let terms: Vec<_> = (0..random.within(1..6))
            .map(|number| {
                let mut pools = Vec::new();
                if random.percent(30) {
                    let cap = random.within(1..4);
                    pools.push(PoolSpec {
                        key: PoolKey::Tool(number as u64),
                        cap,
                        rate: None,
                        breaker: None,
                    });
                }
                if !groups.is_empty() && random.percent(40) {
                    pools.push(*random.pick(&groups));
                }
                let timeout = match random.below(10) {
                    0 | 1 => None,
                    2 => Some(Duration::ZERO),
                    _ => Some(random.ms(1..80)),
                };
                Arc::new(Terms {
                    track: match random.below(6) {
                        0 => Track::Compute,
                        1 if random.percent(50) => Track::ScopedCompute,
                        1 => Track::Scoped,
                        _ => Track::Blocking,
                    },
                    // A tool that refuses all its calls isn't worth more than a few runs.
                    timeout: timeout.filter(|timeout| !timeout.is_zero() || random.percent(20)),
                    grace: random.percent(40).then(|| random.ms(0..30)),
                    pools,
                    fallback: random.percent(10).then(|| Output::text("fallback")),
                    prepare: random.percent(55),
                    exclusive: random.percent(exclusives),
                })
            })
            .collect();
        Self {
            coalesced: terms.iter().map(|terms| terms.prepare && random.percent(30)).collect(),
            terms,
            hangs: *random.pick(&[0, 0, 5, 30]),
            failures: *random.pick(&[0, 10, 50]),
            nests: *random.pick(&[0, 10, 30]),
        }
    }

    fn batch(&self, random: &mut Random, depth: usize, budget: &mut Budget) -> BatchPlan {
        let most = if depth == 0 { 13 } else { 4 };
        let n = random.within(1..most).min(budget.0.max(1));
        budget.0 = budget.0.saturating_sub(n);
        let begun = depth == 0 && random.percent(25);
        let calls = (0..n).map(|_| self.call(random, depth, begun, budget)).collect();
        BatchPlan {
            calls,
            deadline: random.percent(60).then(|| random.ms(0..200)),
            max_parallel: if random.percent(25) { random.within(1..4) } else { usize::MAX },
            policy: match random.below(8) {
                0 => PolicyPlan::AbortAfter(random.below(3)),
                1 => PolicyPlan::Require(random.below(self.terms.len())),
                2 | 3 => PolicyPlan::Quorum(random.below(5)),
                _ => PolicyPlan::Inline,
            },
            steps: steps(random, n, depth, begun),
        }
    }

    fn call(
        &self,
        random: &mut Random,
        depth: usize,
        begun: bool,
        budget: &mut Budget,
    ) -> CallPlan {
        let tool = random.below(self.terms.len());
        let terms = &self.terms[tool];
        let keys: Vec<_> = match terms.prepare {
            true => (0..*random.pick(&[0, 1, 1, 1, 2, 3])).map(|_| key(random)).collect(),
            false => Vec::new(),
        };
        let identity = (self.coalesced[tool] && keys.iter().all(|key| key.access == Access::Read))
            .then(|| format!("{tool} {keys:?}"));
        let retries = if random.percent(20) { random.within(1..4) } else { 0 };
        let attempt = |last: bool, random: &mut Random, budget: &mut Budget| {
            let nests = depth < 3 && budget.0 > 0 && random.percent(self.nests);
            let nested = if nests { random.within(1..3) } else { 0 };
            AttemptPlan {
                nested: (0..nested).map(|_| self.batch(random, depth + 1, budget)).collect(),
                runs: if random.percent(10) { Duration::ZERO } else { random.ms(0..40) },
                ends: match random.below(100) {
                    n if n < self.hangs => End::Hangs,
                    n if n < self.hangs + self.failures || !last => {
                        *random.pick(&[End::Fails, End::Fails, End::Panics])
                    }
                    _ => End::Succeeds,
                },
                retry: (!last).then(|| random.ms(0..30)),
                pause: random.percent(5).then(|| random.ms(1..120)),
                heeds: random.percent(60).then(|| random.ms(0..10)),
            }
        };
        let attempts = (0..=retries).map(|n| attempt(n == retries, random, budget)).collect();
        CallPlan {
            tool,
            terms: Arc::clone(terms),
            held: begun && random.percent(60),
            settled: match random.below(50) {
                0 => Some(Outcome::Rejected(Rejected::Busy)),
                1 => Some(Outcome::NotStarted(NotStarted::Deferred)),
                _ => None,
            },
            keys,
            identity,
            prepare: if random.percent(50) { Duration::ZERO } else { random.ms(0..5) },
            prepare_ends: match random.below(100) {
                n if n < self.hangs / 5 => End::Hangs,
                n if n < 6 => End::Fails,
                _ => End::Succeeds,
            },
            attempts,
        }
    }
}

fn key(random: &mut Random) -> KeyUse {
    let key = *random.pick(&["a", "b", "c", "d"]);
    let access = if random.percent(50) { Access::Read } else { Access::Write };
    KeyUse { key: key.into(), access }
}

fn steps(random: &mut Random, calls: usize, depth: usize, begun: bool) -> Vec<(Duration, Step)> {
    let mut steps = Vec::new();
    let mut left = calls;
    while left > 0 {
        let n = if begun { random.within(1..4).min(left) } else { left };
        let wait = if begun { random.ms(0..15) } else { Duration::ZERO };
        steps.push((wait, Step::Submit(n)));
        left -= n;
    }
    if begun {
        let last = match random.below(10) {
            0 => Step::Withhold,
            1 => Step::Cancel,
            2 => Step::Detach,
            _ => Step::Release,
        };
        steps.push((random.ms(0..15), last));
        if last == Step::Detach {
            return steps;
        }
    }
    steps.push((Duration::ZERO, Step::Finish(begun && random.percent(50))));
    if depth == 0 {
        match random.below(100) {
            n if n < 12 => steps.push((random.ms(0..80), Step::Cancel)),
            // A caller that unwinds.
            n if n < 18 => steps.push((random.ms(0..80), Step::Detach)),
            _ => {}
        }
    }
    steps
}

/// How a call ends whose keys can't be told.
pub(super) fn unprepared() -> Outcome {
    Outcome::Rejected(Rejected::BadArguments("no keys".to_owned()))
}

/// What a withheld batch's calls are told.
pub(super) fn withheld() -> NotStarted {
    NotStarted::Withheld("max_tokens".to_owned())
}
