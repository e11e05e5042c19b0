//! Caps and rates: how many calls may run at once, and how many may start in a span.

use std::time::{Duration, Instant};

use super::breaker::{self, Breaker, BreakerSpec};
use super::{CallRef, Limits, Sorted, Terms, Track};
use crate::outcome::Outcome;
use crate::time::Deadline;

/// How long to wait before another try, where the system refused a thread.
pub(super) const THREAD_RETRY: Duration = Duration::from_millis(20);

/// All that a call needs to run besides its keys: the executor's permits, a track's, and those of
/// its tool and its group.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) total: Permits,
    tracks: [TrackRoom; Track::COUNT],
    pub(super) pools: Pools,
}

#[derive(Debug)]
struct TrackRoom {
    permits: Permits,
    /// Running calls, those that wait in a nested batch excepted.
    working: usize,
    /// The system refused a thread: no other try before that.
    starved_until: Option<Instant>,
}

impl TrackRoom {
    fn new(cap: usize) -> Self {
        Self { permits: Permits::new(cap), working: 0, starved_until: None }
    }
}

impl Room {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            total: Permits::new(limits.max_parallel),
            tracks: [
                TrackRoom::new(limits.blocking),
                TrackRoom::new(limits.compute),
                // Borrowed tools have threads of their own, not of the lane.
                TrackRoom::new(limits.blocking),
                // A call has its permit before a worker has it, and the workers may wait for
                // another one: a cap here could lock them.
                TrackRoom::new(usize::MAX),
            ],
            pools: Pools { all: Sorted::new(), open_until: None },
        }
    }

    /// When a call could start, the executor's own cap aside: now, at an instant, or only after
    /// another call has given something back.
    pub(super) fn free_at(&self, terms: &Terms, now: Instant) -> Deadline {
        let track = &self.tracks[terms.track.at()];
        if !track.permits.is_free() {
            return Deadline::Never;
        }
        let thread = Deadline::At(track.starved_until.map_or(now, |until| until.max(now)));
        let pools = terms.pools.iter().map(|pool| self.pools.ready_at(pool.key, now));
        pools.fold(thread, Deadline::max)
    }

    /// Whether one of its pools lets nothing through for a while.
    pub(super) fn is_open(&self, terms: &Terms, now: Instant) -> bool {
        terms.pools.iter().any(|pool| self.pools.is_open(pool.key, now))
    }

    /// Whether all permits of one of its pools are with calls that were walked away from.
    pub(super) fn is_lost(&self, terms: &Terms) -> bool {
        terms.pools.iter().any(|pool| self.pools.lost_to(pool.key).is_some())
    }

    /// Takes the executor's and the track's permit.
    pub(super) fn take_thread(&mut self, track: Track) {
        self.total.take();
        self.tracks[track.at()].permits.take();
    }

    pub(super) fn give_thread(&mut self, track: Track) {
        self.total.give();
        let track = &mut self.tracks[track.at()];
        track.permits.give();
        track.starved_until = None;
    }

    /// How many calls of a track have a permit, on a thread or on their way to one.
    pub(super) fn threads(&self, track: Track) -> usize {
        self.tracks[track.at()].permits.used
    }

    pub(super) fn starve(&mut self, track: Track, now: Instant) {
        self.tracks[track.at()].starved_until = now.checked_add(THREAD_RETRY);
    }

    pub(super) fn begin_work(&mut self, track: Track) {
        self.tracks[track.at()].working += 1;
    }

    pub(super) fn end_work(&mut self, track: Track) {
        self.tracks[track.at()].working -= 1;
    }

    pub(super) fn working(&self) -> usize {
        self.tracks.iter().map(|track| track.working).sum()
    }
}

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

    fn take(&mut self) {
        self.used += 1;
    }

    fn give(&mut self) {
        debug_assert!(self.used > 0, "a permit was given back twice");
        self.used = self.used.saturating_sub(1);
    }
}

/// What a tool or a group limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
    pub(crate) breaker: Option<BreakerSpec>,
}

/// The calls of one tool or one group, over all batches.
#[derive(Debug)]
struct Pool {
    permits: Permits,
    rate: Option<Rate>,
    breaker: Option<Breaker>,
    paused_until: Option<Instant>,
    /// How many calls not yet ended name it.
    users: usize,
    /// Calls that were walked away from and still have a permit.
    abandoned: Sorted<CallRef>,
}

impl Pool {
    /// Whether one made anew would be the same.
    fn is_idle(&self, now: Instant) -> bool {
        let is_past = |at: Option<Instant>| at.is_none_or(|at| at <= now);
        self.users == 0
            && is_past(self.paused_until)
            && is_past(self.rate.as_ref().and_then(|rate| rate.full_at))
            && self.breaker.as_ref().is_none_or(|breaker| breaker.is_idle(now))
    }
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

    fn put_back(&mut self) {
        self.full_at = self.full_at.and_then(|at| at.checked_sub(self.interval));
    }
}

#[derive(Debug)]
pub(super) struct Pools {
    all: Sorted<PoolKey, Pool>,
    /// Before that a breaker may be open.
    open_until: Option<Instant>,
}

impl Pools {
    /// Announces a call that will need the pool.
    pub(super) fn join(&mut self, spec: &PoolSpec, now: Instant) {
        if self.all.get(spec.key).is_none() {
            // One that is paused, short of tokens or failing outlives its last call.
            self.all.retain(|pool| !pool.is_idle(now));
        }
        let pool = self.all.get_or_insert_with(spec.key, || Pool {
            permits: Permits::new(spec.cap),
            rate: spec.rate.map(Rate::new),
            breaker: spec.breaker.map(Breaker::new),
            paused_until: None,
            users: 0,
            abandoned: Sorted::new(),
        });
        pool.permits.cap = spec.cap;
        pool.users += 1;
    }

    /// A call that needed the pool is over.
    pub(super) fn part(&mut self, key: PoolKey, now: Instant) {
        let Some(pool) = self.all.get_mut(key) else { return };
        pool.users = pool.users.saturating_sub(1);
        if pool.is_idle(now) {
            self.all.remove(key);
        }
    }

    /// When a call may start as far as this pool goes: now, at an instant, or when another ends.
    fn ready_at(&self, key: PoolKey, now: Instant) -> Deadline {
        let Some(pool) = self.all.get(key) else { return Deadline::At(now) };
        if !pool.permits.is_free() {
            return Deadline::Never;
        }
        let unpaused = pool.paused_until.map_or(now, |until| until.max(now));
        let token = pool.rate.as_ref().map_or(now, |rate| rate.next(now));
        let closed = pool.breaker.as_ref().map_or(Deadline::At(now), |b| b.ready_at(now));
        closed.max(Deadline::At(unpaused.max(token)))
    }

    pub(super) fn take(&mut self, key: PoolKey, call: CallRef, now: Instant) {
        if let Some(pool) = self.all.get_mut(key) {
            pool.permits.take();
            if let Some(rate) = &mut pool.rate {
                rate.take(now);
            }
            if let Some(breaker) = &mut pool.breaker {
                breaker.let_through(call);
            }
        }
    }

    /// Takes a permit back after it was lent: no new start, so no token.
    pub(super) fn retake(&mut self, key: PoolKey) {
        if let Some(pool) = self.all.get_mut(key) {
            pool.permits.take();
        }
    }

    pub(super) fn give(&mut self, key: PoolKey) {
        if let Some(pool) = self.all.get_mut(key) {
            pool.permits.give();
        }
    }

    /// A start came to nothing: its token is there again.
    pub(super) fn put_back(&mut self, key: PoolKey) {
        if let Some(rate) = self.all.get_mut(key).and_then(|pool| pool.rate.as_mut()) {
            rate.put_back();
        }
    }

    /// An attempt of a call is over, or the call; how it went is said by its outcome, if there is
    /// one.
    pub(super) fn ended(
        &mut self,
        terms: &Terms,
        call: CallRef,
        outcome: Option<&Outcome>,
        now: Instant,
    ) {
        for spec in terms.pools.iter().filter(|spec| spec.breaker.is_some()) {
            let pool = self.all.get_mut(spec.key);
            if let Some(breaker) = pool.and_then(|pool| pool.breaker.as_mut()) {
                breaker.ended(call, outcome.and_then(breaker::works), now);
                self.open_until = self.open_until.max(breaker.open_until());
            }
        }
    }

    fn is_open(&self, key: PoolKey, now: Instant) -> bool {
        let breaker = self.all.get(key).and_then(|pool| pool.breaker.as_ref());
        breaker.is_some_and(|breaker| breaker.is_open(now))
    }

    /// Whether a breaker may be open.
    pub(super) fn may_be_open(&self, now: Instant) -> bool {
        self.open_until.is_some_and(|until| until > now)
    }

    /// A call that has a permit was walked away from; whether no other call has one.
    pub(super) fn abandon(&mut self, key: PoolKey, call: CallRef) -> bool {
        let Some(pool) = self.all.get_mut(key) else { return false };
        pool.abandoned.insert(call, ());
        pool.abandoned.len() >= pool.permits.cap
    }

    /// The thread of an abandoned call is back, or it lent its permit.
    pub(super) fn forget(&mut self, key: PoolKey, call: CallRef) {
        if let Some(pool) = self.all.get_mut(key) {
            pool.abandoned.remove(call);
        }
    }

    /// One of the abandoned calls that have all permits of the pool.
    pub(super) fn lost_to(&self, key: PoolKey) -> Option<CallRef> {
        let pool = self.all.get(key)?;
        let is_lost = pool.abandoned.len() >= pool.permits.cap;
        pool.abandoned.first().map(|(call, ())| call).filter(|_| is_lost)
    }

    pub(super) fn pause(&mut self, key: PoolKey, until: Instant) {
        if let Some(pool) = self.all.get_mut(key) {
            pool.paused_until = Some(pool.paused_until.map_or(until, |old| old.max(until)));
        }
    }

    pub(super) fn paused_until(&self, key: PoolKey) -> Option<Instant> {
        self.all.get(key).and_then(|pool| pool.paused_until)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.all.iter().map(|(_, pool)| pool.permits.used + pool.users + pool.abandoned.len()).sum()
    }
}
