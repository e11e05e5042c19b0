//! The threads that run calls. A lane is handed tasks and gives one back that it can't run.

mod blocking;
mod compute;

pub(crate) use blocking::{BlockingLane, LaneSettings};
pub(crate) use compute::{ComputeLane, ComputePool, LostWorker, leave};

use std::sync::Arc;
use std::time::Instant;

use crate::executor::attempt::{self, Careful};
use crate::executor::core::{Actions, Core};
use crate::executor::job::Job;
use crate::executor::scheduler::{CallRef, Closed, Grant, Scheduler};

/// Something for a lane's thread to do.
pub(crate) enum Task {
    /// Run a call's handler.
    Call(CallRef, Arc<Job>),
    /// The same, where the scheduler has granted it already.
    Granted(CallRef, Arc<Job>, Grant),
    /// Compute a call's keys.
    Prepare(CallRef, Arc<Job>),
    /// Run a closer or a callback of the user's.
    Errand(Box<dyn FnOnce() + Send>),
    /// Let go of what is left of a dropped batch.
    Drop(Careful<Box<Closed<Arc<Job>>>>),
    /// Look after the batches that nobody waits for.
    StandIn(Arc<Core>),
}

impl Task {
    /// The task for a thread that begins with it at once: a call is granted, or given back where
    /// it may run no more, to be dropped without the lock.
    pub(crate) fn granted(
        self,
        scheduler: &mut Scheduler<Arc<Job>>,
        now: Instant,
        out: &mut Actions,
    ) -> Result<Self, Arc<Job>> {
        match self {
            Self::Call(call, job) => match job.start(call, scheduler, now, out) {
                Some(grant) => Ok(Self::Granted(call, job, grant)),
                None => Err(job),
            },
            other => Ok(other),
        }
    }

    /// Does it, and whatever the thread can go on with.
    fn run(self) {
        let mut next = Some(self);
        while let Some(task) = next {
            next = match task {
                Self::Call(call, job) => {
                    compute::enter();
                    job.run_attempt(call, None)
                }
                Self::Granted(call, job, grant) => {
                    compute::enter();
                    job.run_attempt(call, Some(grant))
                }
                Self::Prepare(call, job) => job.prepare(call),
                Self::Errand(errand) => {
                    attempt::guarded("a closer or a cancellation callback", errand);
                    None
                }
                Self::Drop(closed) => {
                    drop(closed);
                    None
                }
                Self::StandIn(core) => {
                    core.stand_in();
                    attempt::let_go(core);
                    None
                }
            };
        }
    }
}
