//! The threads that run calls. A lane is handed tasks and gives one back that it can't run.

mod blocking;
mod compute;

pub(crate) use blocking::{BlockingLane, LaneSettings};
pub(crate) use compute::{ComputeLane, ComputePool, LostWorker, leave};

use std::sync::Arc;

use crate::executor::job::Job;
use crate::executor::scheduler::CallRef;

/// Something for a lane's thread to do.
pub(crate) enum Task {
    /// Run a call's handler.
    Call(CallRef, Arc<Job>),
    /// Compute a call's keys.
    Prepare(CallRef, Arc<Job>),
    /// Something short of the executor's or of user code: closers, callbacks, stand-ins.
    Errand(Box<dyn FnOnce() + Send>),
    /// End the thread.
    Exit,
}

impl Task {
    /// Does it, and whatever the thread can go on with.
    fn run(self) {
        let mut next = Some(self);
        while let Some(task) = next {
            next = match task {
                Self::Call(call, job) => {
                    compute::enter();
                    job.run_attempt(call)
                }
                Self::Prepare(call, job) => job.prepare(call),
                Self::Errand(errand) => {
                    crate::executor::attempt::guarded("an errand", errand);
                    None
                }
                Self::Exit => None,
            };
        }
    }
}
