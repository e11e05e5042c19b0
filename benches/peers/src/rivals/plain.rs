//! What people write themselves: threads, rayon, tokio. No call is decoded and nothing is limited;
//! the handlers are called as they are.

use std::future::Future;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use futures::future::join_all;
use rayon::prelude::*;
use tokio::runtime::Runtime;

use super::{Ran, Rival, Settings};
use crate::work::Work;

type Answer = Result<String, String>;

fn ran(start: Instant, answers: Vec<Answer>) -> Ran {
    let took = start.elapsed();
    let text = |answer| match answer {
        Ok(text) | Err(text) => Some(text),
    };
    Ran { took, results: answers.into_iter().map(text).collect() }
}

/// A thread a call that waits for it: the least that could do the work on other threads.
pub struct Bare {
    jobs: Vec<Sender<(usize, Work)>>,
    done: Receiver<(usize, Answer)>,
    calls: Vec<Work>,
}

impl Bare {
    pub fn new(settings: Settings) -> Self {
        let (finished, done) = unbounded();
        let jobs = (0..settings.threads).map(|_| {
            let (job, jobs) = bounded::<(usize, Work)>(1);
            let finished = finished.clone();
            thread::spawn(move || {
                for (at, work) in jobs {
                    let _ = finished.send((at, work.call()));
                }
            });
            job
        });
        Self { jobs: jobs.collect(), done, calls: Vec::new() }
    }
}

impl Rival for Bare {
    fn prepare(&mut self, calls: &[Work]) {
        self.calls = calls.to_vec();
    }

    fn run(&mut self) -> Ran {
        let start = Instant::now();
        for (call, job) in self.calls.iter().copied().enumerate().zip(&self.jobs) {
            let _ = job.send(call);
        }
        let mut answers = vec![Err(String::new()); self.calls.len()];
        for _ in 0..self.calls.len() {
            if let Ok((at, answer)) = self.done.recv() {
                answers[at] = answer;
            }
        }
        ran(start, answers)
    }
}

/// A new thread a call, joined in order.
#[derive(Default)]
pub struct Scope(Vec<Work>);

impl Rival for Scope {
    fn prepare(&mut self, calls: &[Work]) {
        self.0 = calls.to_vec();
    }

    fn run(&mut self) -> Ran {
        let start = Instant::now();
        let answers = thread::scope(|scope| {
            let threads: Vec<_> =
                self.0.iter().map(|work| scope.spawn(move || work.call())).collect();
            let join = |thread: thread::ScopedJoinHandle<'_, Answer>| {
                thread.join().unwrap_or_else(|_| Err("it panicked".to_owned()))
            };
            threads.into_iter().map(join).collect()
        });
        ran(start, answers)
    }
}

/// A pool of as many threads as there are calls, but no more than this: a thousand workers that look
/// for work in each other's queues keep a small machine busy for minutes.
pub const RAYON_THREADS: usize = 64;

pub struct Rayon {
    pool: rayon::ThreadPool,
    scope: bool,
    calls: Vec<Work>,
}

impl Rayon {
    pub fn new(settings: Settings, scope: bool) -> Self {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(settings.threads.min(RAYON_THREADS))
            .build();
        Self { pool: pool.expect("threads"), scope, calls: Vec::new() }
    }
}

impl Rival for Rayon {
    fn prepare(&mut self, calls: &[Work]) {
        self.calls = calls.to_vec();
    }

    fn run(&mut self) -> Ran {
        let start = Instant::now();
        let answers = if self.scope {
            let mut answers: Vec<Answer> = vec![Err(String::new()); self.calls.len()];
            self.pool.in_place_scope(|scope| {
                for (answer, work) in answers.iter_mut().zip(&self.calls) {
                    scope.spawn(move |_| *answer = work.call());
                }
            });
            answers
        } else {
            self.pool
                .install(|| self.calls.par_iter().with_max_len(1).map(|work| work.call()).collect())
        };
        ran(start, answers)
    }
}

/// A runtime that may have as many blocking threads as there are calls.
pub fn runtime(threads: usize) -> Runtime {
    let built = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(threads.max(512))
        .enable_time()
        .build();
    built.expect("a runtime")
}

pub struct Tokio {
    runtime: Runtime,
    deadline: Option<Duration>,
    calls: Vec<Work>,
}

impl Tokio {
    pub fn new(settings: Settings) -> Self {
        let Settings { threads, deadline } = settings;
        Self { runtime: runtime(threads), deadline, calls: Vec::new() }
    }
}

/// With the deadline around the future, where there is one.
pub async fn within<T>(deadline: Option<Duration>, future: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => tokio::time::timeout(deadline, future).await.ok(),
        None => Some(future.await),
    }
}

impl Rival for Tokio {
    fn prepare(&mut self, calls: &[Work]) {
        self.calls = calls.to_vec();
    }

    fn run(&mut self) -> Ran {
        let start = Instant::now();
        let answers = self.runtime.block_on(async {
            let handles: Vec<_> = self
                .calls
                .iter()
                .map(|&work| tokio::task::spawn_blocking(move || work.call()))
                .collect();
            join_all(handles.into_iter().map(|handle| within(self.deadline, handle))).await
        });
        let answers = answers.into_iter().map(|answer| match answer {
            Some(Ok(answer)) => answer,
            Some(Err(panicked)) => Err(panicked.to_string()),
            None => Err("it took too long".to_owned()),
        });
        ran(start, answers.collect())
    }
}
