//! Caps and rates: how many calls may run at once, and how many may start in a span.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::time::Deadline;

/// A cap. It may be overshot: a parent that waited in a nested batch takes its permits back at
/// once.
#[derive(Debug, Clone)]
pub(super) struct Permits {
    pub(super) cap: usize,
    pub(super) used: usize,
}

impl Permits {
    pub(super) fn new(cap: usize) -> Self {
        Self { cap, used: 0 }
    }

    pub(super) fn is_free(&self) -> bool {
        self.used < self.cap
    }

    pub(super) fn take(&mut self) {
        self.used += 1;
    }

    pub(super) fn give(&mut self) {
        debug_assert!(self.used > 0, "a permit was given back twice");
        self.used = self.used.saturating_sub(1);
    }
}

/// What a tool or a group limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PoolKey {
    Tool(u64),
    Group(u64),
}

/// The limits of a tool or a group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolSpec {
    pub(crate) key: PoolKey,
    pub(crate) cap: usize,
    pub(crate) rate: Option<(u32, Duration)>,
}

/// The calls of one tool or one group, over all batches.
#[derive(Debug)]
pub(super) struct Pool {
    permits: Permits,
    rate: Option<Rate>,
    paused_until: Option<Instant>,
    /// How many calls not yet ended name it.
    users: usize,
}

/// A token bucket as one point in time: the moment at which it will be full again.
#[derive(Debug)]
struct Rate {
    interval: Duration,
    burst: Duration,
    full_at: Option<Instant>,
}

impl Rate {
    fn new((calls, span): (u32, Duration)) -> Self {
        let interval = span / calls.max(1);
        Self { interval, burst: span.saturating_sub(interval), full_at: None }
    }

    /// When a token is there.
    fn next(&self, now: Instant) -> Instant {
        match self.full_at {
            Some(full_at) => full_at.checked_sub(self.burst).map_or(now, |at| at.max(now)),
            None => now,
        }
    }

    fn take(&mut self, now: Instant) {
        let from = self.full_at.map_or(now, |at| at.max(now));
        self.full_at = from.checked_add(self.interval);
    }
}

#[derive(Debug, Default)]
pub(super) struct Pools(HashMap<PoolKey, Pool>);

impl Pools {
    /// Announces a call that will need the pool.
    pub(super) fn join(&mut self, spec: &PoolSpec) {
        let pool = self.0.entry(spec.key).or_insert_with(|| Pool {
            permits: Permits::new(spec.cap),
            rate: spec.rate.map(Rate::new),
            paused_until: None,
            users: 0,
        });
        pool.permits.cap = spec.cap;
        pool.users += 1;
    }

    /// A call that needed the pool is over.
    pub(super) fn part(&mut self, key: PoolKey, now: Instant) {
        let Some(pool) = self.0.get_mut(&key) else { return };
        pool.users = pool.users.saturating_sub(1);
        let idle = pool.users == 0
            && pool.paused_until.is_none_or(|until| until <= now)
            && pool.rate.as_ref().is_none_or(|rate| rate.full_at.is_none_or(|at| at <= now));
        if idle {
            self.0.remove(&key);
        }
    }

    /// When a call may start as far as this pool goes: now, at an instant, or when another ends.
    pub(super) fn ready_at(&self, key: PoolKey, now: Instant) -> Deadline {
        let Some(pool) = self.0.get(&key) else { return Deadline::At(now) };
        if !pool.permits.is_free() {
            return Deadline::Never;
        }
        let unpaused = pool.paused_until.map_or(now, |until| until.max(now));
        let token = pool.rate.as_ref().map_or(now, |rate| rate.next(now));
        Deadline::At(unpaused.max(token))
    }

    pub(super) fn take(&mut self, key: PoolKey, now: Instant) {
        if let Some(pool) = self.0.get_mut(&key) {
            pool.permits.take();
            if let Some(rate) = &mut pool.rate {
                rate.take(now);
            }
        }
    }

    /// Takes a permit back after it was lent: no new start, so no token.
    pub(super) fn retake(&mut self, key: PoolKey) {
        if let Some(pool) = self.0.get_mut(&key) {
            pool.permits.take();
        }
    }

    pub(super) fn give(&mut self, key: PoolKey) {
        if let Some(pool) = self.0.get_mut(&key) {
            pool.permits.give();
        }
    }

    pub(super) fn pause(&mut self, key: PoolKey, until: Instant) {
        if let Some(pool) = self.0.get_mut(&key) {
            pool.paused_until = Some(pool.paused_until.map_or(until, |old| old.max(until)));
        }
    }

    pub(super) fn paused_until(&self, key: PoolKey) -> Option<Instant> {
        self.0.get(&key).and_then(|pool| pool.paused_until)
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.0.values().map(|pool| pool.permits.used).sum()
    }
}
