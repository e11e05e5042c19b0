//! A rayon pool for tools that compute, built at the first of their calls.
//!
//! A pool can't replace a worker that hangs, or that waits in a nested batch. Such workers count
//! as lost, and when none is left the next generation takes the calls: a new pool of our own.

use std::cell::RefCell;
use std::sync::Arc;

use rayon_core::ThreadPool;

use super::Task;
use crate::executor::say;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// A pool of the caller's.
pub(crate) type ComputePool = Arc<ThreadPool>;

pub(crate) struct ComputeLane {
    generations: Mutex<Vec<Arc<Generation>>>,
    threads: usize,
    stack_size: usize,
}

struct Generation {
    pool: ComputePool,
    /// Tasks that were handed to the pool and whose user code hasn't come back, and workers that
    /// wait for a batch.
    busy: AtomicUsize,
}

/// A task's place in the count of its pool.
struct Place {
    generation: Arc<Generation>,
    taken: bool,
}

crate::sync::local! {
    /// The place of the task that runs on this worker.
    static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) };
}

/// The task that runs on this thread is about to run user code.
pub(super) fn enter() {
    PLACE.with(|place| {
        if let Some(place) = &mut *place.borrow_mut()
            && !place.taken
        {
            place.taken = true;
            place.generation.busy.fetch_add(1, Ordering::Relaxed);
        }
    });
}

/// The user code of the task that runs on this thread is over. Said before its permit is given
/// back: who gets that permit finds a free worker, and needs no other pool.
pub(crate) fn leave() {
    PLACE.with(|place| {
        if let Some(place) = &mut *place.borrow_mut()
            && place.taken
        {
            place.taken = false;
            place.generation.busy.fetch_sub(1, Ordering::Relaxed);
        }
    });
}

/// A worker that waits instead of working, until this is dropped.
pub(crate) struct LostWorker(Arc<Generation>);

impl Drop for LostWorker {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ComputeLane {
    /// A lane of `threads` workers, whose first generation is `pool` where one is given.
    pub(crate) fn new(threads: usize, stack_size: usize, pool: Option<ComputePool>) -> Arc<Self> {
        let given = pool.map(|pool| Arc::new(Generation { pool, busy: AtomicUsize::new(0) }));
        Arc::new(Self { generations: Mutex::new(given.into_iter().collect()), threads, stack_size })
    }

    /// Hands a task to a pool with a worker for it; gives it back when there is no such pool.
    pub(crate) fn submit(self: &Arc<Self>, task: Task) -> Result<(), Task> {
        let entry = match self.entry() {
            Ok(entry) => entry,
            Err(error) => {
                say::warn(format_args!("no pool for a call: {error}"));
                return Err(task);
            }
        };
        let lane = Arc::clone(self);
        let pool = Arc::clone(&entry.0.pool);
        pool.spawn(move || {
            entry.run(|| task.run());
            lane.retire();
        });
        Ok(())
    }

    /// Counts the thread that calls this as lost if it is a worker of one of the pools.
    pub(crate) fn lose_worker(&self) -> Option<LostWorker> {
        rayon_core::current_thread_index()?;
        let generations = self.generations.lock();
        let own = generations.iter().find(|own| own.pool.current_thread_index().is_some())?;
        own.busy.fetch_add(1, Ordering::Relaxed);
        Some(LostWorker(Arc::clone(own)))
    }

    /// Enters a task with the newest pool if it has a free worker, any other that has one, or a
    /// new one.
    fn entry(&self) -> Result<Entry, rayon_core::ThreadPoolBuildError> {
        let mut generations = self.generations.lock();
        self.free(&mut generations, |_| true).map(|generation| Entry::new(&generation))
    }

    fn free(
        &self,
        generations: &mut Vec<Arc<Generation>>,
        suits: impl Fn(&ThreadPool) -> bool,
    ) -> Result<Arc<Generation>, rayon_core::ThreadPoolBuildError> {
        let is_free = |generation: &&Arc<Generation>| {
            let (busy, pool) = (generation.busy.load(Ordering::Relaxed), &generation.pool);
            busy < pool.current_num_threads() && suits(pool)
        };
        if let Some(generation) = generations.iter().rev().find(is_free) {
            return Ok(Arc::clone(generation));
        }
        let pool = Arc::new(self.pool(generations.len())?);
        let generation = Arc::new(Generation { pool, busy: AtomicUsize::new(0) });
        generations.push(Arc::clone(&generation));
        Ok(generation)
    }

    fn pool(&self, generation: usize) -> Result<ThreadPool, rayon_core::ThreadPoolBuildError> {
        rayon_core::ThreadPoolBuilder::new()
            .num_threads(self.threads)
            .stack_size(self.stack_size)
            .thread_name(move |n| format!("toolpool-compute-{generation}-{n}"))
            .build()
    }

    /// Lets go of all idle generations but the first.
    pub(crate) fn retire(&self) {
        let mut generations = self.generations.lock();
        let mut first = true;
        generations.retain(|generation| {
            std::mem::take(&mut first) || generation.busy.load(Ordering::Relaxed) > 0
        });
    }

    /// A pool for a scope of borrowed tools, which keeps one of its workers from all others. Not one
    /// whose workers are all lost, nor the one of the thread that is going to wait for the scope.
    pub(crate) fn scope_pool(&self) -> Result<ScopePool, rayon_core::ThreadPoolBuildError> {
        let mut generations = self.generations.lock();
        let is_elsewhere = |pool: &ThreadPool| pool.current_thread_index().is_none();
        let generation = self.free(&mut generations, is_elsewhere)?;
        generation.busy.fetch_add(1, Ordering::Relaxed);
        Ok(ScopePool(generation))
    }
}

/// The pool of a scope; until it is dropped one of the workers is counted as the scope's.
pub(crate) struct ScopePool(Arc<Generation>);

impl Drop for ScopePool {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ScopePool {
    pub(crate) fn pool(&self) -> &ThreadPool {
        &self.0.pool
    }

    /// Enters a task that is about to be handed to the pool.
    pub(crate) fn entry(&self) -> Entry {
        Entry::new(&self.0)
    }
}

/// A task that its pool counts.
pub(crate) struct Entry(Arc<Generation>);

impl Entry {
    fn new(generation: &Arc<Generation>) -> Self {
        generation.busy.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(generation))
    }

    /// Does the task, on a worker.
    pub(crate) fn run(self, task: impl FnOnce()) {
        // A task that waits within rayon may have this one on top of it.
        let own = Some(Place { generation: self.0, taken: true });
        let below = PLACE.with(|place| place.replace(own));
        task();
        leave();
        PLACE.with(|place| place.replace(below));
    }
}
