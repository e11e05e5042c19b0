//! A batch from the caller's side: hand the calls in, wait, decide, take the report.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use log::Level;

use crate::cancel::{CancelToken, OnCancel};
use crate::executor::ahead::Ahead;
use crate::executor::approval::{self, Approver, Planned};
use crate::executor::around::AroundFactory;
use crate::executor::attempt;
use crate::executor::core::{Core, ScopedStarts, Tooling};
use crate::executor::job::{self, Job, RunShared};
use crate::executor::observer::{EventKind, Watch, Watched};
use crate::executor::recorder::Recorder;
use crate::executor::say;
use crate::executor::scheduler::{
    Action, BatchId, BatchSpec, CallRef, CallSpec, Closed, Ending, Scheduler, Undecided,
};
use crate::executor::settings::Settings;
use crate::outcome::{Abort, NotStarted, Outcome, Rejected};
use crate::policy::{Decision, FailurePolicy};
use crate::report::{CallReport, Note, Report};
use crate::sync::channel::Receiver;
use crate::sync::thread;
use crate::time::Deadline;
use crate::tool::{CallContext, Effect, ToolSet};
use crate::turn::Turn;

/// What one run may set for itself.
#[derive(Clone)]
pub(crate) struct Options {
    /// From the run's start; `None` for no deadline.
    pub(crate) deadline: Option<Duration>,
    /// Whatever `deadline` says, not later than this.
    pub(crate) latest: Deadline,
    pub(crate) policy: FailurePolicy,
    /// Whether the run brought its policy itself, for these tools.
    pub(crate) own_policy: bool,
    pub(crate) cancel: Vec<CancelToken>,
    pub(crate) max_parallel: usize,
    pub(crate) context: Option<Arc<dyn Any + Send + Sync>>,
    /// Its own, or that of the run it is nested in; else the executor's is asked.
    pub(crate) approver: Option<Arc<Approver>>,
    /// Its own, or that of the run it is nested in.
    pub(crate) observer: Option<Arc<Watched>>,
    pub(crate) around: Option<Arc<AroundFactory>>,
    /// The beginning of idempotency keys; nothing for one that is made up.
    pub(crate) seed: Option<Arc<str>>,
    pub(crate) recorder: Option<Arc<dyn Recorder>>,
    /// Calls that aren't run because it is known how they ended.
    pub(crate) known: Vec<(usize, Outcome)>,
    /// Whether it is nested in a call of borrowed tools, and of the same ones.
    pub(crate) in_scope: bool,
    parent: Option<CallRef>,
    depth: usize,
}

impl Options {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            deadline: settings.deadline,
            latest: Deadline::Never,
            policy: settings.policy.clone(),
            own_policy: false,
            cancel: Vec::new(),
            max_parallel: usize::MAX,
            context: None,
            approver: None,
            observer: None,
            around: settings.around.clone(),
            seed: None,
            recorder: None,
            known: Vec::new(),
            in_scope: false,
            parent: None,
            depth: 0,
        }
    }

    /// Makes the run part of a call.
    pub(crate) fn nest(&mut self, parent: CallRef, cx: &CallContext, run: &RunShared) {
        self.parent = Some(parent);
        self.depth = run.depth + 1;
        self.latest = self.latest.min(cx.deadline());
        self.cancel.push(cx.cancel_token().clone());
        if self.context.is_none() {
            self.context = run.context.clone();
        }
        if self.approver.is_none() {
            self.approver = run.approver.clone();
        }
        if self.observer.is_none() {
            self.observer = run.observer.clone();
        }
    }

    /// For a batch that is still to grow: its deadline is set when it is complete.
    pub(crate) fn without_deadline(mut self) -> Self {
        self.deadline = None;
        self
    }

    /// Asks whoever decides for the run about those planned calls that need it; the first of them is
    /// the turn's `first`.
    pub(crate) fn ask(&self, planned: &mut [Planned], first: usize, core: &Core, tools: &ToolSet) {
        let approver = self.approver.as_ref();
        approval::ask(planned, first, tools, approver, &core.settings, &|| self.is_over(core));
    }

    /// How a call of the run ends that hasn't begun, if none can begin any more.
    fn is_over(&self, core: &Core) -> Option<Outcome> {
        if core.with(|scheduler, _, _| scheduler.is_shut_down()) {
            Some(Outcome::NotStarted(NotStarted::Shutdown))
        } else if self.cancel.iter().any(CancelToken::is_cancelled) {
            Some(Outcome::Cancelled { started: false, abort: None })
        } else {
            let now = Instant::now();
            let is_over = self.deadline(now).has_passed(now);
            is_over.then_some(Outcome::NotStarted(NotStarted::Deadline))
        }
    }

    fn deadline(&self, now: Instant) -> Deadline {
        self.deadline.map_or(Deadline::Never, |span| Deadline::after(now, span)).min(self.latest)
    }
}

/// How long a collector looks out for the last calls of its batch.
const LOOKOUT: Duration = Duration::from_micros(30);

/// A batch in the scheduler, and the thread that waits for it. Dropping it cancels the batch and
/// doesn't wait.
pub(crate) struct Collector {
    core: Arc<Core>,
    tooling: Arc<Tooling>,
    pub(crate) id: BatchId,
    wakes: Receiver<()>,
    /// Where its tools borrow: the calls it is to start.
    starts: Option<ScopedStarts>,
    run: Arc<RunShared>,
    policy: FailurePolicy,
    /// A policy that panicked is asked nothing more.
    policy_failed: bool,
    in_scope: bool,
    calls: usize,
    notes: Vec<(usize, Note)>,
    /// When the message of a begun batch ended.
    message_ended: Option<Instant>,
    opened: Instant,
    _hangups: Vec<OnCancel>,
    closed: bool,
}

/// Runs a whole turn. Approval comes first, and takes as long as it takes.
pub(crate) fn run(
    core: &Arc<Core>,
    tooling: &Arc<Tooling>,
    turn: &Turn,
    options: Options,
) -> Report {
    let (tools, settings) = (&tooling.set, &core.settings);
    core.blocking.call_ahead(turn.calls().len());
    let mut planned = approval::plan(turn.calls(), 0, tools, settings);
    for (index, outcome) in &options.known {
        if let Some(planned) = planned.get_mut(*index) {
            *planned = Planned::known(planned.call.clone(), outcome.clone());
        }
    }
    options.ask(&mut planned, 0, core, tools);
    run_planned(core, tooling, planned, options)
}

/// Runs calls that are approved.
pub(crate) fn run_planned(
    core: &Arc<Core>,
    tooling: &Arc<Tooling>,
    planned: Vec<Planned>,
    options: Options,
) -> Report {
    if planned.is_empty() {
        attempt::let_go(options);
        return Report::new(Vec::new(), Duration::ZERO, None);
    }
    let _lost = job::lose_worker(core);
    let mut collector = Collector::open(core, tooling, options);
    let next = collector.push_then(planned, false, |collector, scheduler, now, out| {
        scheduler.seal(collector.id, out);
        collector.look(scheduler, now, out)
    });
    collector.collect(next, &mut |_, _| {})
}

/// What a collector does next.
enum Next {
    /// Wait, and where few calls are left, look out for their end first.
    Wait { due: Deadline, few: bool },
    /// Show a settled call to the custom policy.
    Decide(Undecided),
    /// All is settled.
    Report(Option<Closed<Arc<Job>>>),
}

type Locked = Scheduler<Arc<Job>>;

impl Collector {
    pub(crate) fn open(core: &Arc<Core>, tooling: &Arc<Tooling>, options: Options) -> Self {
        let observer = options.observer.clone().or_else(|| core.settings.observer.clone());
        let starts = tooling.scoped.then(ScopedStarts::default);
        let mistake = options
            .policy
            .check(|name| tooling.set.look_up(name))
            .err()
            .filter(|_| options.own_policy);
        let mut mistake = mistake.map(|error| error.to_string());
        let around = options.around.as_ref().and_then(|capture| {
            let captured = catch_unwind(AssertUnwindSafe(|| capture()));
            captured
                .map_err(|payload| {
                    // Its drop may panic, too.
                    std::mem::forget(payload);
                    say::later(Level::Error, format_args!("the around hook panicked"));
                    mistake = Some("the around hook panicked".to_owned());
                })
                .ok()
        });
        #[cfg(feature = "tracing")]
        let caller = crate::executor::spans::Caller::current();
        let (id, (wake, wakes), opened) = core.with(|scheduler, now, out| {
            let id = scheduler.open(
                BatchSpec {
                    deadline: options.deadline(now),
                    max_parallel: options.max_parallel,
                    policy: options.policy.clone(),
                    parent: options.parent,
                    observed: observer.is_some(),
                },
                now,
            );
            let channel = core.collect(id, starts.clone());
            if let Some(cause) = mistake {
                let abort = Abort { index: None, cause, satisfied: false };
                scheduler.end(id, Ending::Aborted(abort), now, out);
            }
            (id, channel, now)
        });
        let hangups = options.cancel.iter().map(|token| {
            let core = Arc::clone(core);
            // Before callbacks of the user's, which may block.
            token.wake_on_cancel(move || {
                core.with(|scheduler, now, out| scheduler.end(id, Ending::Cancelled, now, out));
            })
        });
        Self {
            core: Arc::clone(core),
            tooling: Arc::clone(tooling),
            id,
            wakes,
            starts,
            run: Arc::new(RunShared {
                core: Arc::clone(core),
                tooling: Arc::clone(tooling),
                context: options.context,
                approver: options.approver,
                seed: options.seed.map(OnceLock::from).unwrap_or_default(),
                recorder: options.recorder,
                depth: options.depth,
                batch: id,
                around,
                #[cfg(feature = "tracing")]
                caller,
                watch: observer.clone().map(|observer| Watch::new(observer, id, opened)),
                observer,
                ahead: Ahead::new(wake),
                allowance: tooling.allowance(),
            }),
            policy: options.policy,
            policy_failed: false,
            in_scope: options.in_scope,
            calls: 0,
            notes: Vec::new(),
            message_ended: None,
            opened,
            _hangups: hangups.collect(),
            closed: false,
        }
    }

    /// Hands calls in; `held` ones wait for the batch's release unless their tool only reads.
    pub(crate) fn push(&mut self, planned: Vec<Planned>, held: bool) {
        self.push_then(planned, held, |_, _, _, _| ());
    }

    /// As [`push`](Self::push), and something else before the lock is free again.
    fn push_then<T>(
        &mut self,
        planned: Vec<Planned>,
        held: bool,
        then: impl FnOnce(&Self, &mut Locked, Instant, &mut Vec<Action<Arc<Job>>>) -> T,
    ) -> T {
        let specs = self.specs(planned, held);
        self.core.with(|scheduler, now, out| {
            self.submit(specs, scheduler, now, out);
            then(self, scheduler, now, out)
        })
    }

    fn specs(&mut self, planned: Vec<Planned>, held: bool) -> Vec<CallSpec<Arc<Job>>> {
        planned.into_iter().map(|planned| self.spec(planned, held)).collect()
    }

    /// The message of a begun batch ended at that time.
    pub(crate) fn message_ended(&mut self, at: Instant) {
        self.message_ended = Some(at);
    }

    /// Hands in the calls that were made specs of last.
    fn submit(
        &self,
        specs: Vec<CallSpec<Arc<Job>>>,
        scheduler: &mut Locked,
        now: Instant,
        out: &mut Vec<Action<Arc<Job>>>,
    ) {
        if let Some(watch) = &self.run.watch {
            let first = self.calls - specs.len();
            for (n, spec) in specs.iter().enumerate().filter(|(_, spec)| !spec.payload.known) {
                let queued = EventKind::Queued;
                watch.send(&self.core.observation, now, first + n, &spec.call, queued);
            }
        }
        self.run.ahead.expect(specs.iter().filter(|spec| spec.settled.is_none()).count());
        scheduler.submit(self.id, specs, now, out);
    }

    fn spec(&mut self, planned: Planned, held: bool) -> CallSpec<Arc<Job>> {
        let Planned { call, admitted, note, known } = planned;
        if let (true, Err(Outcome::Succeeded(output))) = (known, &admitted) {
            self.run.allowance.take_known(output);
        }
        let index = self.calls;
        self.calls += 1;
        self.notes.extend(note.map(|note| (index, note)));
        let (core, tooling) = (&self.core, &self.tooling);
        let too_deep = self.run.depth > core.settings.max_depth;
        let admitted = match too_deep {
            true => Err(Outcome::Rejected(Rejected::TooDeep(core.settings.max_depth))),
            // Only the scope's own collector could start it, which waits for its caller.
            false if self.in_scope => admitted.and_then(|_| {
                let what = "the scope of the call it is part of".to_owned();
                Err(Outcome::Rejected(Rejected::WouldDeadlock(what)))
            }),
            false => admitted,
        };
        let tool = admitted.as_ref().ok().copied().or_else(|| tooling.set.position(call.name()));
        let definition = tool.map(|at| &tooling.set.definitions()[at]);
        let terms = match (&admitted, tool) {
            (Ok(at), _) => &tooling.terms[*at],
            (Err(_), _) => &tooling.no_terms,
        };
        let reads = definition.is_some_and(|definition| definition.effect == Effect::ReadOnly);
        CallSpec {
            held: held && !reads,
            settled: admitted.err().map(|mut outcome| {
                core.settings.redact(&mut outcome);
                outcome
            }),
            payload: Job::new(
                Arc::clone(&self.run),
                definition.cloned(),
                tool.unwrap_or_default(),
                terms.track,
                call.clone(),
                index,
                known,
            ),
            terms: Arc::clone(terms),
            call,
        }
    }

    /// The message is complete: starts the deadline, hands the last calls in, and lets the held
    /// ones run.
    pub(crate) fn complete(&mut self, planned: Vec<Planned>, options: &Options) {
        let specs = self.specs(planned, true);
        let ended = self.core.with(|scheduler, now, out| {
            scheduler.set_deadline(self.id, options.deadline(now), now, out);
            self.submit(specs, scheduler, now, out);
            scheduler.release(self.id, now, out);
            now
        });
        self.message_ended(ended);
    }

    /// How many calls were handed in.
    pub(crate) fn calls(&self) -> usize {
        self.calls
    }

    /// Waits until every call is settled, and takes the report.
    pub(crate) fn finish(self) -> Report {
        self.finish_with(&mut |_, _| {})
    }

    /// As [`finish`](Self::finish); `start` starts scoped calls.
    pub(crate) fn finish_with(self, start: &mut dyn FnMut(CallRef, Arc<Job>)) -> Report {
        let next = self.core.with(|scheduler, now, out| {
            scheduler.seal(self.id, out);
            self.look(scheduler, now, out)
        });
        self.collect(next, start)
    }

    fn collect(mut self, mut next: Next, start: &mut dyn FnMut(CallRef, Arc<Job>)) -> Report {
        loop {
            match next {
                Next::Wait { due, few } => self.wait(due, few, start),
                Next::Decide(undecided) => self.decide(&undecided),
                Next::Report(closed) => {
                    let report = self.report(closed);
                    attempt::let_go(self);
                    return report;
                }
            }
            next = match self.run.ahead.take_closed() {
                Some(closed) => Next::Report(Some(closed)),
                None => self.core.with(|scheduler, now, out| self.look(scheduler, now, out)),
            };
        }
    }

    /// Does what is due, under the lock, and says what comes next. A batch that is done is taken
    /// out.
    fn look(&self, scheduler: &mut Locked, now: Instant, out: &mut Vec<Action<Arc<Job>>>) -> Next {
        if scheduler.is_done(self.id) {
            let closed = self.run.ahead.take_closed();
            return Next::Report(closed.or_else(|| scheduler.close(self.id, now)));
        }
        scheduler.tick(self.id, now, out);
        if let Some(undecided) = scheduler.next_undecided(self.id) {
            Next::Decide(undecided)
        } else if scheduler.is_done(self.id) {
            Next::Report(scheduler.close(self.id, now))
        } else {
            let few = scheduler.is_nearly_done(self.id, now);
            Next::Wait { due: scheduler.next_due(self.id, now), few }
        }
    }

    /// Asks the custom policy, without the lock, what a settled call means for the others.
    fn decide(&mut self, undecided: &Undecided) {
        let call = CallRef { batch: self.id, index: undecided.index };
        let decide = self.policy.as_custom().filter(|_| !self.policy_failed);
        let decision = decide.map_or(Ok(Decision::Continue), |decide| {
            catch_unwind(AssertUnwindSafe(|| decide(&undecided.settled())))
        });
        self.core.with(|scheduler, now, out| match decision {
            Ok(decision) => scheduler.decided(call, decision, now, out),
            Err(payload) => {
                // Its drop may panic, too.
                std::mem::forget(payload);
                self.policy_failed = true;
                say::later(
                    Level::Error,
                    format_args!("the failure policy panicked; the batch is aborted"),
                );
                let cause = "the failure policy panicked".to_owned();
                let abort = Abort { index: None, cause, satisfied: false };
                scheduler.end(self.id, Ending::Aborted(abort), now, out);
                scheduler.decided(call, Decision::Continue, now, out);
            }
        });
    }

    /// Waits for a wake or `due`, whichever comes first.
    fn wait(&self, due: Deadline, few: bool, start: &mut dyn FnMut(CallRef, Arc<Job>)) {
        if !(few && self.look_out(due)) {
            self.run.ahead.asleep(|| match due {
                Deadline::At(at) => drop(self.wakes.recv_deadline(at)),
                Deadline::Never => drop(self.wakes.recv()),
            });
        }
        let Some(starts) = &self.starts else { return };
        let starts = std::mem::take(&mut *starts.lock());
        starts.into_iter().for_each(|(call, job)| start(call, job));
    }

    /// Looks out for a wake for a moment; whether one came. To sleep and be woken takes longer.
    fn look_out(&self, due: Deadline) -> bool {
        let until = due.min(Deadline::after(Instant::now(), LOOKOUT));
        loop {
            if self.wakes.try_recv().is_ok() {
                return true;
            }
            if until.has_passed(Instant::now()) {
                return false;
            }
            // The call that ends next may need this very core.
            thread::yield_now();
        }
    }

    fn report(&mut self, closed: Option<Closed<Arc<Job>>>) -> Report {
        self.closed = true;
        self.core.uncollect(self.id, &self.wakes);
        match closed {
            Some(closed) => {
                let (report, uncounted) = report(closed, std::mem::take(&mut self.notes));
                let ended = self.message_ended.map(|at| at.saturating_duration_since(self.opened));
                let report = report.with_message_ended(ended);
                let fresh = |&(index, _): &(usize, _)| uncounted.binary_search(&index).is_err();
                let fresh = report.calls().iter().enumerate().filter(fresh);
                self.core.tools.record_all(fresh.map(|(_, call)| call));
                report
            }
            None => Report::new(Vec::new(), Duration::ZERO, None),
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if !self.closed {
            self.core.uncollect(self.id, &self.wakes);
            self.core.leave(self.id);
            self.core.with(|scheduler, now, out| scheduler.detach(self.id, now, out));
            attempt::let_go(self.run.ahead.take_closed());
        }
    }
}

/// The report of a batch, and which of its calls no figures are kept of: those that ended in an
/// earlier run or will end in a later one, and those of no tool, whose names the model makes up
/// without end.
fn report(closed: Closed<Arc<Job>>, notes: Vec<(usize, Note)>) -> (Report, Vec<usize>) {
    let (wall, abort) = (closed.wall, closed.abort().cloned());
    let mut planned = notes.into_iter().peekable();
    let slots = closed.into_calls();
    let mut calls = Vec::with_capacity(slots.len());
    let mut uncounted = Vec::new();
    for (index, slot) in slots.enumerate() {
        let job = slot.payload;
        let mut notes = slot.notes;
        if let Some((_, note)) = planned.next_if(|(of, _)| *of == index) {
            notes.insert(0, note);
        }
        notes.extend(job.progress_dropped().map(Note::ProgressDropped));
        let is_deferred = matches!(slot.outcome, Outcome::NotStarted(NotStarted::Deferred));
        if job.known || job.definition.is_none() || is_deferred {
            uncounted.push(index);
        }
        say_what_is_amiss(slot.call.name(), &slot.outcome);
        calls.push(CallReport {
            effect: job.definition.as_ref().map_or(Effect::Mutating, |tool| tool.effect),
            lane: job.lane(),
            call: slot.call,
            outcome: slot.outcome,
            attempts: slot.attempts,
            submitted: slot.submitted,
            started: slot.started,
            ended: slot.ended,
            notes,
        });
    }
    for (double, first) in doubles(&calls) {
        calls[double].notes.push(Note::DuplicateId(first));
    }
    (Report::new(calls, wall, abort), uncounted)
}

/// Tells the operator of a thread that was walked away from, and of a backend that was left alone.
fn say_what_is_amiss(name: &str, outcome: &Outcome) {
    match outcome {
        Outcome::TimedOut { after, still_running: true, .. } => say::later(
            Level::Warn,
            format_args!("{name:?} still runs after {after:?}; it was walked away from"),
        ),
        Outcome::NotStarted(NotStarted::CircuitOpen) => {
            say::later(Level::Warn, format_args!("{name:?} wasn't started: its circuit is open"));
        }
        _ => {}
    }
}

/// From so many calls on, ids are looked up by hash.
const MANY_CALLS: usize = 16;

/// The calls whose id an earlier call has, too, and the first that has it.
fn doubles(calls: &[CallReport]) -> Vec<(usize, usize)> {
    let ids = calls.iter().map(|call| call.call.id()).enumerate();
    let named = ids.filter(|(_, id)| !id.is_empty());
    if calls.len() < MANY_CALLS {
        let first = |id| calls.iter().position(|call| call.call.id() == id);
        let doubles = named.filter_map(|(index, id)| Some((index, first(id)?)));
        return doubles.filter(|(index, first)| first != index).collect();
    }
    let mut firsts = HashMap::with_capacity(calls.len());
    let doubles = named.map(|(index, id)| (index, *firsts.entry(id).or_insert(index)));
    doubles.filter(|(index, first)| first != index).collect()
}
