//! Tools that borrow from the caller's stack, on threads of a scope.

use std::sync::Arc;
use std::thread;

use crate::executor::approval::{self, Planned};
use crate::executor::attempt;
use crate::executor::collector::{self, Collector, Options};
use crate::executor::core::{Core, Tooling};
use crate::executor::job::{self, Job};
use crate::executor::say;
use crate::executor::scheduler::CallRef;
use crate::report::Report;
use crate::tool::{Invoke, Lane, ScopedToolSet};
use crate::turn::Turn;

/// Runs a turn in a scope. The collector alone starts threads in it.
pub(super) fn run(
    core: &Arc<Core>,
    tools: ScopedToolSet<'_>,
    turn: &Turn,
    options: Options,
) -> Report {
    let tooling = Tooling::new(tools.set, &core.settings, true);
    let handlers = tools.handlers;
    let mut planned = approval::plan(turn.calls(), 0, &tooling.set, &core.settings);
    options.ask(&mut planned, 0, core, &tooling.set);
    if planned.is_empty() {
        return collector::run_planned(core, &tooling, planned, options);
    }
    let computes = |planned: &Planned| {
        planned.admitted.as_ref().is_ok_and(|at| tooling.terms[*at].track.is_compute())
    };
    let mut pool = if planned.iter().any(computes) { core.compute.scope_pool().ok() } else { None };
    let _lost = job::lose_worker(core);
    let mut collector = Collector::open(core, &tooling, options);
    let report = thread::scope(|threads| {
        let thread = |call, job| {
            let handlers = &handlers;
            let spawned = thread::Builder::new()
                .name("toolpool-scoped".to_owned())
                .stack_size(core.settings.stack_size)
                .spawn_scoped(threads, move || run_one(job, call, handlers));
            if let Err(error) = spawned {
                say::warn(format_args!("no thread for a call: {error}"));
                core.start_failed(call);
            }
        };
        let Some(pool) = &pool else {
            collector.push(planned, false);
            return collector.finish_with(&mut |call, job: Arc<Job>| thread(call, job));
        };
        pool.pool().in_place_scope(|workers| {
            collector.push(planned, false);
            collector.finish_with(&mut |call, job: Arc<Job>| {
                if job.lane() == Lane::Blocking {
                    return thread(call, job);
                }
                let (handlers, entry) = (&handlers, pool.entry());
                workers.spawn(move |_| entry.run(|| run_one(job, call, handlers)));
            })
        })
    });
    if pool.take().is_some() {
        core.compute.retire();
    }
    report
}

fn run_one(job: Arc<Job>, call: CallRef, handlers: &[Box<dyn Invoke + '_>]) {
    if let Some(handler) = handlers.get(job.tool) {
        let _ = job.run_with(call, None, &**handler);
    }
    attempt::let_go(job);
}
