//! An executor's settings, and their defaults.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::bound::{ResultLimit, Secrets};
use crate::executor::approval::Approver;
use crate::executor::around::AroundFactory;
use crate::executor::observer::Watched;
use crate::outcome::Outcome;
use crate::policy::FailurePolicy;
use crate::tool::Lane;

/// What an [`ExecutorBuilder`](crate::ExecutorBuilder) sets. A tool's own setting goes before, a
/// run's own before both.
pub(crate) struct Settings {
    pub(crate) call_timeout: Option<Duration>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) grace: Option<Duration>,
    pub(crate) policy: FailurePolicy,
    pub(crate) default_lane: Lane,
    pub(crate) max_parallel: usize,
    pub(crate) blocking_threads: usize,
    pub(crate) compute_threads: Option<usize>,
    pub(crate) max_calls: usize,
    pub(crate) max_argument_bytes: usize,
    pub(crate) max_argument_depth: usize,
    pub(crate) allow_duplicate_keys: bool,
    pub(crate) max_result_bytes: usize,
    pub(crate) max_media_bytes: usize,
    pub(crate) max_media: usize,
    /// Nothing for 1 MiB, or what one result may have.
    pub(crate) max_batch_result_bytes: Option<usize>,
    /// Nothing for 20 MiB, or what one of them may have.
    pub(crate) max_batch_media_bytes: Option<usize>,
    pub(crate) spill: Option<PathBuf>,
    pub(crate) max_queued: usize,
    pub(crate) max_abandoned: usize,
    pub(crate) max_depth: usize,
    pub(crate) stack_size: usize,
    pub(crate) keep_alive: Duration,
    pub(crate) tool_priority: Option<i32>,
    pub(crate) reveal_errors: bool,
    pub(crate) approver: Option<Arc<Approver>>,
    pub(crate) observer: Option<Arc<Watched>>,
    pub(crate) around: Option<Arc<AroundFactory>>,
    /// Texts that must not get out.
    pub(crate) secrets: Secrets,
    pub(crate) random: Random,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("call_timeout", &self.call_timeout)
            .field("deadline", &self.deadline)
            .field("policy", &self.policy)
            .field("default_lane", &self.default_lane)
            .field("max_parallel", &self.max_parallel)
            .field("blocking_threads", &self.blocking_threads)
            .finish_non_exhaustive()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            call_timeout: Some(Duration::from_secs(60)),
            deadline: Some(Duration::from_secs(300)),
            grace: None,
            policy: FailurePolicy::inline(),
            default_lane: Lane::Blocking,
            max_parallel: usize::MAX,
            blocking_threads: 64,
            compute_threads: None,
            max_calls: 128,
            max_argument_bytes: 1 << 20,
            max_argument_depth: 64,
            allow_duplicate_keys: false,
            max_result_bytes: 64 << 10,
            max_media_bytes: 5 << 20,
            max_media: 20,
            max_batch_result_bytes: None,
            max_batch_media_bytes: None,
            spill: None,
            max_queued: 1 << 17,
            max_abandoned: 256,
            max_depth: 3,
            stack_size: 2 << 20,
            keep_alive: Duration::from_secs(10),
            tool_priority: None,
            reveal_errors: false,
            approver: None,
            observer: None,
            around: None,
            secrets: Secrets::default(),
            random: Random::default(),
        }
    }
}

impl Settings {
    /// Workers of the Compute lane: one a core, or 64 where every tool runs on it.
    pub(crate) fn compute_threads(&self) -> usize {
        self.compute_threads.unwrap_or_else(|| match self.default_lane {
            Lane::Compute => 64,
            Lane::Blocking => {
                std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
            }
        })
    }

    pub(crate) fn result_limit(&self, own: Option<usize>) -> ResultLimit {
        ResultLimit {
            text: own.unwrap_or(self.max_result_bytes),
            media: self.max_media_bytes,
            media_count: self.max_media,
            spill: self.spill.clone(),
            secrets: self.secrets.clone(),
        }
    }

    /// Takes the secrets out of what leaves a worker.
    pub(crate) fn redact(&self, outcome: &mut Outcome) {
        if !self.secrets.is_empty() {
            outcome.redact(&mut |text| self.secrets.redacted(text));
        }
    }

    /// Any number, for jitter.
    pub(crate) fn random(&self) -> u64 {
        self.random.next()
    }
}

/// Numbers that nobody needs to be unable to guess.
#[derive(Debug, Default)]
pub(crate) struct Random {
    keys: RandomState,
    count: AtomicU64,
}

impl Random {
    pub(crate) fn next(&self) -> u64 {
        let mut hasher = self.keys.build_hasher();
        hasher.write_u64(self.count.fetch_add(1, Ordering::Relaxed));
        hasher.finish()
    }
}
