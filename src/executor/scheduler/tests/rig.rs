//! A scheduler in the hands of a test: every event is its own, in virtual time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::bound::Secrets;
use crate::call::ToolCall;
use crate::error::{ToolError, ToolErrorKind};
use crate::executor::scheduler::batch::SlotReport;
use crate::executor::scheduler::{
    Action, BatchId, BatchSpec, CallRef, CallSpec, Closed, Counts, Ending, Fate, Finish, Limits,
    PoolKey, PoolSpec, Prepared, Scheduler, Terms, Track,
};
use crate::outcome::{Abort, Outcome};
use crate::output::Output;
use crate::policy::FailurePolicy;
use crate::time::Deadline;
use crate::tool::{Access, KeyUse};

/// How a closed batch went.
pub(super) struct Ended {
    pub(super) slots: Vec<SlotReport<usize>>,
    pub(super) abort: Option<Abort>,
    pub(super) id: BatchId,
}

impl From<Closed<usize>> for Ended {
    fn from(closed: Closed<usize>) -> Self {
        let (abort, id) = (closed.abort().cloned(), closed.id);
        Self { slots: closed.into_calls().collect(), abort, id }
    }
}

pub(super) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A tool with a timeout of 100 ms and a grace of 10 ms.
pub(super) fn terms() -> Terms {
    Terms {
        track: Track::Blocking,
        timeout: Some(ms(100)),
        grace: None,
        pools: Vec::new(),
        fallback: None,
        prepare: false,
        exclusive: false,
    }
}

/// The same with keys.
pub(super) fn keyed() -> Terms {
    Terms { prepare: true, ..terms() }
}

pub(super) fn exclusive() -> Terms {
    Terms { exclusive: true, ..terms() }
}

/// The same with limits of its tool or its group.
pub(super) fn pooled(key: PoolKey, cap: usize, rate: Option<(u32, Duration)>) -> Terms {
    Terms { pools: vec![PoolSpec { key, cap, rate, breaker: None }], ..terms() }
}

/// The same in a group that is left alone after so many failures.
pub(super) fn breaking(failures: u32, rest: Duration) -> Terms {
    let mut terms = pooled(PoolKey::Group(1), usize::MAX, None);
    terms.pools[0].breaker = Some((failures, rest));
    terms
}

pub(super) fn failed(kind: ToolErrorKind) -> Outcome {
    Outcome::Failed(ToolError::of_kind(kind))
}

pub(super) fn reads(key: &str) -> KeyUse {
    KeyUse { key: key.into(), access: Access::Read }
}

pub(super) fn writes(key: &str) -> KeyUse {
    KeyUse { key: key.into(), access: Access::Write }
}

pub(super) fn done() -> Outcome {
    Outcome::Succeeded(Output::text("done"))
}

pub(super) fn broken() -> Outcome {
    Outcome::Failed(ToolError::from("broken"))
}

pub(super) struct Rig {
    pub(super) scheduler: Scheduler<usize>,
    pub(super) now: Instant,
    /// What was asked for and not yet looked at.
    starts: Vec<CallRef>,
    prepares: Vec<CallRef>,
    pub(super) signals: Vec<usize>,
    pub(super) closes: Vec<usize>,
    pub(super) wakes: Vec<BatchId>,
    pub(super) dropped: Vec<Ended>,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    /// Without limits but those that `change` sets.
    pub(super) fn with(change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = Limits {
            max_parallel: 1000,
            blocking: 1000,
            compute: 2,
            max_queued: usize::MAX,
            max_abandoned: usize::MAX,
            secrets: Secrets::default(),
        };
        change(&mut limits);
        Self {
            scheduler: Scheduler::new(limits),
            now: Instant::now(),
            starts: Vec::new(),
            prepares: Vec::new(),
            signals: Vec::new(),
            closes: Vec::new(),
            wakes: Vec::new(),
            dropped: Vec::new(),
        }
    }

    pub(super) fn event<T>(
        &mut self,
        event: impl FnOnce(&mut Scheduler<usize>, Instant, &mut Vec<Action<usize>>) -> T,
    ) -> T {
        let mut out = Vec::new();
        let value = event(&mut self.scheduler, self.now, &mut out);
        for action in out {
            match action {
                Action::Start(call, ..) => self.starts.push(call),
                Action::Prepare(call, _) => self.prepares.push(call),
                Action::Signal(payload) | Action::Over(payload) => self.signals.push(payload),
                Action::Close(payload) => self.closes.push(payload),
                Action::Wake(id) => self.wakes.push(id),
                Action::Drop(closed) => self.dropped.push((*closed).into()),
                Action::Settled(..) => {}
            }
        }
        value
    }

    pub(super) fn open(&mut self) -> BatchId {
        self.open_as(|_| {})
    }

    /// A batch without a deadline, but for what `change` sets.
    pub(super) fn open_as(&mut self, change: impl FnOnce(&mut BatchSpec)) -> BatchId {
        let mut spec = BatchSpec {
            deadline: Deadline::Never,
            max_parallel: usize::MAX,
            policy: FailurePolicy::inline(),
            parent: None,
            observed: false,
        };
        change(&mut spec);
        self.event(|scheduler, now, _| scheduler.open(spec, now))
    }

    pub(super) fn at(&self, after: Duration) -> Deadline {
        Deadline::after(self.now, after)
    }

    /// Hands `n` calls in; their payload is their index.
    pub(super) fn submit(&mut self, id: BatchId, terms: &Terms, n: usize) {
        self.submit_with(id, &Arc::new(terms.clone()), n, false);
    }

    pub(super) fn submit_with(&mut self, id: BatchId, terms: &Arc<Terms>, n: usize, held: bool) {
        let from = self.scheduler.batches.get(id).unwrap().slots.len();
        let specs: Vec<_> = (from..from + n)
            .map(|index| CallSpec {
                call: ToolCall::new(index.to_string(), "tool", ""),
                terms: Arc::clone(terms),
                held,
                settled: None,
                payload: index,
            })
            .collect();
        self.event(|scheduler, now, out| scheduler.submit(id, specs, now, out));
    }

    /// A batch of `n` calls that is complete.
    pub(super) fn batch(&mut self, terms: &Terms, n: usize) -> BatchId {
        let id = self.open();
        self.submit(id, terms, n);
        self.seal(id);
        id
    }

    pub(super) fn seal(&mut self, id: BatchId) {
        self.event(|scheduler, _, out| scheduler.seal(id, out));
    }

    /// Which calls were asked to be started since the last time.
    pub(super) fn starts(&mut self) -> Vec<CallRef> {
        std::mem::take(&mut self.starts)
    }

    pub(super) fn prepares(&mut self) -> Vec<CallRef> {
        std::mem::take(&mut self.prepares)
    }

    /// Lets the calls that were asked for run; which.
    pub(super) fn begin(&mut self) -> Vec<CallRef> {
        let starts = self.starts();
        for call in &starts {
            assert!(self.granted(*call), "{call:?} was asked for and not allowed");
        }
        starts
    }

    pub(super) fn granted(&mut self, call: CallRef) -> bool {
        self.event(|scheduler, now, out| scheduler.started(call, now, out)).is_some()
    }

    /// Prepares the batch's next call, and then those after it, with these keys.
    pub(super) fn prepare(&mut self, id: BatchId, keys: &[&[KeyUse]]) {
        for keys in keys {
            self.prepare_as(id, keys, None);
        }
    }

    pub(super) fn prepare_as(&mut self, id: BatchId, keys: &[KeyUse], identity: Option<&str>) {
        let at = self.prepares.iter().position(|call| call.batch == id);
        let call = self.prepares.remove(at.expect("a call is to be prepared"));
        let prepared = Prepared { keys: keys.to_vec(), identity: identity.map(str::to_owned) };
        self.event(|scheduler, now, out| scheduler.prepared(call, Ok(prepared), now, out));
    }

    pub(super) fn finish(&mut self, call: CallRef, outcome: Outcome) -> Fate {
        self.finish_as(call, outcome, None, None)
    }

    pub(super) fn finish_as(
        &mut self,
        call: CallRef,
        outcome: Outcome,
        retry: Option<Duration>,
        pause: Option<Duration>,
    ) -> Fate {
        let finish = Finish { outcome, notes: Vec::new(), retry, pause };
        self.event(|scheduler, now, out| scheduler.finished(call, finish, now, out))
    }

    pub(super) fn cancel(&mut self, id: BatchId) {
        self.event(|scheduler, now, out| scheduler.end(id, Ending::Cancelled, now, out));
    }

    pub(super) fn tick(&mut self, id: BatchId) {
        self.event(|scheduler, now, out| scheduler.tick(id, now, out));
    }

    pub(super) fn next_due(&mut self, id: BatchId) -> Option<Duration> {
        self.scheduler.next_due(id, self.now).remaining(self.now)
    }

    /// Lets time pass; the collectors of these batches look when something is due, as they do.
    pub(super) fn pass(&mut self, span: Duration, ids: &[BatchId]) {
        let end = self.now + span;
        loop {
            let due = ids.iter().map(|id| self.scheduler.next_due(*id, self.now)).min();
            match due {
                Some(Deadline::At(at)) if at <= end => {
                    self.now = at.max(self.now);
                    for id in ids {
                        self.tick(*id);
                    }
                }
                _ => break,
            }
        }
        self.now = end;
    }

    pub(super) fn outcome(&self, call: CallRef) -> Option<&Outcome> {
        self.scheduler.slot(call)?.outcome.as_deref()
    }

    /// How the batch's calls ended, those that haven't as `None`.
    pub(super) fn ends(&self, id: BatchId) -> Vec<Option<&'static str>> {
        let slots = self.scheduler.batches.get(id).unwrap().slots.iter();
        slots.map(|slot| slot.outcome.as_deref().map(Outcome::name)).collect()
    }

    pub(super) fn close(&mut self, id: BatchId) -> Ended {
        self.event(|scheduler, now, _| scheduler.close(id, now)).expect("the batch is done").into()
    }

    pub(super) fn counts(&self) -> Counts {
        self.scheduler.counts()
    }

    /// Nothing is left of all that was.
    pub(super) fn is_clean(&self) -> bool {
        let scheduler = &self.scheduler;
        scheduler.active == 0
            && scheduler.queued + scheduler.starting == 0
            && scheduler.abandoned == 0
            && scheduler.room.total.used == 0
            && scheduler.room.pools.used() == 0
            && scheduler.keys.is_empty()
            && scheduler.zombies.is_empty()
    }
}

/// How long it keeps this thread's core busy, so that a busy machine makes it no longer. Where the
/// system doesn't tell that, how long it takes.
pub(super) fn busy(what: impl FnOnce()) -> Duration {
    let clock = || {
        // The system notes it at the next switch.
        std::thread::yield_now();
        let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        told.split(' ').next()?.parse().ok().map(Duration::from_nanos)
    };
    let (begin, before) = (Instant::now(), clock());
    what();
    match (before, clock()) {
        (Some(before), Some(after)) => after.saturating_sub(before),
        _ => begin.elapsed(),
    }
}

pub(super) fn call(batch: BatchId, index: usize) -> CallRef {
    CallRef { batch, index }
}

/// Which places the calls of a batch have in it.
pub(super) fn indices(calls: &[CallRef]) -> Vec<usize> {
    calls.iter().map(|call| call.index).collect()
}
