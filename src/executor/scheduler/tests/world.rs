//! The world around the scheduler: threads, collectors and owners of batches, in virtual time and
//! in a random order.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::checks;
use super::plan::{self, BatchPlan, CallPlan, End, PolicyPlan, RunPlan, Step};
use super::random::Random;
use super::rig::Ended;
use crate::call::ToolCall;
use crate::error::{ToolError, ToolErrorKind};
use crate::executor::scheduler::{
    Action, BatchId, BatchSpec, CallRef, CallSpec, Ending, Fate, Finish, Limits, Prepared,
    Scheduler, Undecided,
};
use crate::outcome::Outcome;
use crate::policy::{Decision, FailurePolicy};
use crate::time::Deadline;

/// More events than any run needs: one that makes more goes round in circles.
const MOST_STEPS: usize = 200_000;

pub(super) struct World {
    pub(super) scheduler: Scheduler<usize>,
    pub(super) limits: Limits,
    pub(super) now: Instant,
    pub(super) begin: Instant,
    pub(super) late: bool,
    pub(super) calls: Vec<Call>,
    pub(super) batches: BTreeMap<BatchId, Batch>,
    pub(super) is_shut_down: bool,
    is_draining: bool,
    /// How often calls ended in which way.
    pub(super) ends: BTreeMap<&'static str, usize>,
    random: Random,
    refusals: usize,
    /// What the scheduler asked for and nobody has done yet.
    pending: Vec<Action<usize>>,
    to_open: Vec<(Instant, BatchPlan)>,
    shut_down_at: Option<Instant>,
    drain_at: Option<Instant>,
    tickets: u64,
    trace: bool,
}

/// A call, as seen from outside the scheduler.
pub(super) struct Call {
    pub(super) at: CallRef,
    pub(super) plan: CallPlan,
    pub(super) thread: Thread,
    /// Its start was asked for, and nobody has begun.
    pub(super) starting: bool,
    pub(super) grants: u32,
    pub(super) first_granted: Option<Instant>,
    /// In which order it was prepared.
    pub(super) ticket: Option<u64>,
    pub(super) prepare_began: Option<Instant>,
    pub(super) submitted: Instant,
    pub(super) settled: Option<Instant>,
    pub(super) retry_at: Option<Instant>,
    pub(super) lent: bool,
    pub(super) signals: u32,
    pub(super) closes: u32,
    /// Its last attempt succeeded.
    pub(super) succeeded: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Thread {
    None,
    Preparing {
        until: Deadline,
    },
    Running {
        /// Batches that it still has to run.
        nested: usize,
        waits_for: Option<BatchId>,
        until: Deadline,
        told: bool,
    },
}

/// A batch, as seen from outside the scheduler.
pub(super) struct Batch {
    pub(super) plan: BatchPlan,
    pub(super) parent: Option<usize>,
    pub(super) opened: Instant,
    pub(super) deadline: Deadline,
    /// Its calls by index.
    pub(super) calls: Vec<usize>,
    /// When its owner does what next.
    step: Option<(Instant, usize)>,
    pub(super) released: bool,
    /// Its owner waits for it.
    pub(super) attended: bool,
    pub(super) detached: bool,
    awake: bool,
    pub(super) sleeps_until: Deadline,
    /// What its policy is being asked.
    pub(super) deciding: Option<Undecided>,
    pub(super) decided: Option<(usize, bool)>,
    done: bool,
    pub(super) closed: bool,
    pub(super) settle_order: Vec<usize>,
    /// How many calls had settled when it was ended from outside.
    pub(super) ended_after: Option<usize>,
}

/// Something that can happen now.
enum Event {
    Act(usize),
    Collect(BatchId),
    Return(usize),
    Own(BatchId),
    Open(usize),
    ShutDown,
    Drain,
}

impl World {
    pub(super) fn new(seed: u64, begin: Instant, trace: bool) -> Self {
        let mut random = Random::new(seed);
        let plan = RunPlan::new(&mut random);
        Self {
            scheduler: Scheduler::new(plan.limits.clone()),
            limits: plan.limits,
            now: begin,
            begin,
            late: plan.late,
            calls: Vec::new(),
            batches: BTreeMap::new(),
            is_shut_down: false,
            is_draining: false,
            ends: BTreeMap::new(),
            refusals: plan.refusals,
            pending: Vec::new(),
            to_open: plan.batches.into_iter().map(|(at, plan)| (begin + at, plan)).collect(),
            shut_down_at: plan.shut_down.map(|at| begin + at),
            drain_at: plan.drain.map(|at| begin + at),
            tickets: 0,
            trace,
            random,
        }
    }

    /// Runs until nothing is left to happen.
    pub(super) fn run(&mut self) -> usize {
        for step in 0..MOST_STEPS {
            let events = self.events();
            let late = self.late && self.random.percent(5);
            if !events.is_empty() && !late {
                let event = self.random.below(events.len());
                self.happen(events.into_iter().nth(event).unwrap());
                continue;
            }
            if events.is_empty() {
                checks::at_rest(self);
            }
            match self.next_time() {
                Deadline::At(at) if late => {
                    let jump = self.random.ms(0..5);
                    self.now = at.max(self.now).min(self.now + jump);
                }
                Deadline::At(at) => self.now = at.max(self.now),
                Deadline::Never if !events.is_empty() => {}
                Deadline::Never => {
                    if !self.free_hung() {
                        checks::at_end(self);
                        return step;
                    }
                }
            }
        }
        panic!("the run doesn't end");
    }

    fn events(&self) -> Vec<Event> {
        let now = self.now;
        let mut events: Vec<_> = (0..self.pending.len()).map(Event::Act).collect();
        for (id, batch) in &self.batches {
            if batch.closed {
                continue;
            }
            if batch.awake || batch.deciding.is_some() || batch.sleeps_until.has_passed(now) {
                events.push(Event::Collect(*id));
            }
            if batch.step.is_some_and(|(at, _)| at <= now) {
                events.push(Event::Own(*id));
            }
        }
        let returning =
            self.calls.iter().enumerate().filter(|(_, call)| call.until().has_passed(now));
        events.extend(returning.map(|(index, _)| Event::Return(index)));
        let opening = self.to_open.iter().enumerate().filter(|(_, (at, _))| *at <= now);
        events.extend(opening.map(|(index, _)| Event::Open(index)));
        events.extend(self.shut_down_at.filter(|at| *at <= now).map(|_| Event::ShutDown));
        events.extend(self.drain_at.filter(|at| *at <= now).map(|_| Event::Drain));
        events
    }

    fn next_time(&self) -> Deadline {
        let batches = self.batches.values().filter(|batch| !batch.closed);
        let batches = batches
            .flat_map(|batch| [batch.sleeps_until, Deadline::from(batch.step.map(|(at, _)| at))]);
        let calls = self.calls.iter().map(Call::until);
        let opening = self.to_open.iter().map(|(at, _)| Deadline::At(*at));
        let all = batches
            .chain(calls)
            .chain(opening)
            .chain([self.shut_down_at.into(), self.drain_at.into()]);
        all.min().unwrap_or_default()
    }

    /// Lets a thread return that hangs, once nobody waits for it any more.
    fn free_hung(&mut self) -> bool {
        let hung = self.calls.iter().enumerate();
        let hung: Vec<_> =
            hung.filter(|(_, call)| call.thread != Thread::None).map(|(index, _)| index).collect();
        if hung.is_empty() || self.batches.values().any(|batch| !batch.closed) {
            return false;
        }
        let index = *self.random.pick(&hung);
        self.calls[index].set_until(self.now);
        true
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Act(at) => {
                let action = self.pending.swap_remove(at);
                self.act(action);
            }
            Event::Collect(id) => self.collect(id),
            Event::Return(call) => match self.calls[call].thread {
                Thread::None => {}
                Thread::Preparing { .. } => self.prepared(call),
                Thread::Running { nested: 0, .. } => self.finish(call),
                Thread::Running { .. } => self.nest(call),
            },
            Event::Own(id) => self.own(id),
            Event::Open(at) => {
                let (_, plan) = self.to_open.swap_remove(at);
                self.open(plan, None, Deadline::Never);
            }
            Event::Drain => {
                self.log(|| "drain".to_owned());
                self.drain_at = None;
                self.is_draining = true;
                self.event(|scheduler, _, _| scheduler.drain());
            }
            Event::ShutDown => {
                self.log(|| "shut down".to_owned());
                self.shut_down_at = None;
                self.is_shut_down = true;
                for batch in self.batches.values_mut() {
                    batch.end_from_outside();
                }
                self.event(|scheduler, now, out| scheduler.shut_down(now, out));
            }
        }
        // Now and then a thread comes back that seemed to hang.
        if self.random.below(400) == 0 {
            let index = self.random.below(self.calls.len());
            if let Some(call) = self.calls.get_mut(index).filter(|call| call.is_hung()) {
                call.set_until(self.now);
            }
        }
    }

    fn open(&mut self, plan: BatchPlan, parent: Option<usize>, latest: Deadline) {
        let own = plan.deadline.map_or(Deadline::Never, |span| Deadline::after(self.now, span));
        let deadline = own.min(latest);
        let policy = match plan.policy {
            PolicyPlan::Inline => FailurePolicy::inline(),
            PolicyPlan::AbortAfter(n) => FailurePolicy::abort_after(n),
            PolicyPlan::Require(tool) => FailurePolicy::require([format!("tool_{tool}")]),
            PolicyPlan::Quorum(_) => FailurePolicy::custom(|_| Decision::Continue),
        };
        let spec = BatchSpec {
            deadline,
            max_parallel: plan.max_parallel,
            policy,
            parent: parent.map(|call| self.calls[call].at),
            observed: true,
        };
        let now = self.now;
        let id = self.event(|scheduler, now, _| scheduler.open(spec, now));
        self.log(|| format!("open {id:?} of {} in {parent:?}, {deadline:?}", plan.calls.len()));
        let is_over = parent.is_some_and(|call| self.calls[call].settled.is_some());
        let mut batch = Batch {
            step: Some((now + plan.steps[0].0, 0)),
            plan,
            parent,
            opened: now,
            deadline,
            calls: Vec::new(),
            released: false,
            attended: false,
            detached: false,
            awake: true,
            sleeps_until: Deadline::Never,
            deciding: None,
            decided: None,
            done: false,
            closed: false,
            settle_order: Vec::new(),
            ended_after: is_over.then_some(0),
        };
        if self.is_shut_down || self.is_draining && parent.is_none() {
            batch.end_from_outside();
        }
        self.batches.insert(id, batch);
        if let Some(call) = parent
            && let Thread::Running { waits_for, until, .. } = &mut self.calls[call].thread
        {
            *waits_for = Some(id);
            *until = Deadline::Never;
        }
    }

    /// The owner of a batch does the next thing.
    fn own(&mut self, id: BatchId) {
        let batch = self.batches.get_mut(&id).unwrap();
        let Some((_, at)) = batch.step.take() else { return };
        let step = batch.plan.steps[at].1;
        if let Some((wait, _)) = batch.plan.steps.get(at + 1) {
            batch.step = Some((self.now + *wait, at + 1));
        }
        self.log(|| format!("{id:?} {step:?}"));
        match step {
            Step::Submit(n) => self.submit(id, n),
            Step::Release => {
                self.batches.get_mut(&id).unwrap().released = true;
                self.event(|scheduler, now, out| scheduler.release(id, now, out));
            }
            Step::Withhold => self.end(id, Ending::Withheld(plan::withheld())),
            Step::Cancel => self.end(id, Ending::Cancelled),
            Step::Detach => {
                let batch = self.batches.get_mut(&id).unwrap();
                batch.end_from_outside();
                batch.attended = false;
                batch.detached = true;
                batch.deciding = None;
                batch.done = false;
                batch.awake = true;
                self.event(|scheduler, now, out| scheduler.detach(id, now, out));
            }
            Step::Finish(from_here) => {
                let batch = self.batches.get_mut(&id).unwrap();
                batch.attended = true;
                batch.awake = true;
                if from_here && let Some(span) = batch.plan.deadline {
                    let deadline = Deadline::after(self.now, span);
                    batch.deadline = deadline;
                    self.event(|scheduler, now, out| {
                        scheduler.set_deadline(id, deadline, now, out)
                    });
                }
                self.event(|scheduler, _, out| scheduler.seal(id, out));
            }
        }
    }

    fn end(&mut self, id: BatchId, ending: Ending) {
        self.batches.get_mut(&id).unwrap().end_from_outside();
        self.event(|scheduler, now, out| scheduler.end(id, ending, now, out));
    }

    fn submit(&mut self, id: BatchId, n: usize) {
        let batch = self.batches.get_mut(&id).unwrap();
        let from = batch.calls.len();
        let mut specs = Vec::new();
        for index in from..from + n {
            let plan = batch.plan.calls[index].clone();
            let payload = self.calls.len();
            specs.push(CallSpec {
                call: ToolCall::new(format!("{payload}"), format!("tool_{}", plan.tool), ""),
                terms: plan.terms.clone(),
                held: plan.held,
                settled: plan.settled.clone(),
                payload,
            });
            batch.calls.push(payload);
            self.calls.push(Call {
                at: CallRef { batch: id, index },
                plan,
                thread: Thread::None,
                starting: false,
                grants: 0,
                first_granted: None,
                ticket: None,
                prepare_began: None,
                submitted: self.now,
                settled: None,
                retry_at: None,
                lent: false,
                signals: 0,
                closes: 0,
                succeeded: false,
            });
        }
        self.event(|scheduler, now, out| scheduler.submit(id, specs, now, out));
    }

    /// The thread that looks after a batch does one round: its collector, or who stands in.
    fn collect(&mut self, id: BatchId) {
        let batch = self.batches.get_mut(&id).unwrap();
        if let Some(undecided) = batch.deciding.take() {
            return self.decide(id, &undecided);
        }
        let attended = batch.attended;
        if batch.done {
            let now = self.now;
            let closed = self.event(|scheduler, _, _| scheduler.close(id, now));
            return self.closed(closed.expect("a batch that is done can be closed").into());
        }
        batch.awake = false;
        self.event(|scheduler, now, out| scheduler.tick(id, now, out));
        let undecided = self.scheduler.next_undecided(id).filter(|_| attended);
        let is_done = undecided.is_none() && attended && self.scheduler.is_done(id);
        let due = self.scheduler.next_due(id, self.now);
        let batch = self.batches.get_mut(&id).unwrap();
        batch.done = is_done;
        batch.awake |= is_done;
        batch.sleeps_until = due;
        batch.deciding = undecided;
        if !batch.closed && due.has_passed(self.now) {
            // Something was due and is not done: it would be looked at for ever.
            let inner = &self.scheduler.batches.get(id).unwrap().due;
            assert!(self.late || batch.done, "{id:?} is due again at once: {:?}", inner.peek());
        }
    }

    fn decide(&mut self, id: BatchId, undecided: &Undecided) {
        let settled = undecided.settled();
        let batch = self.batches.get_mut(&id).unwrap();
        let PolicyPlan::Quorum(k) = batch.plan.policy else { panic!("no policy to ask") };
        let needed = k.min(settled.calls());
        let decision = if settled.succeeded >= needed {
            Decision::Enough
        } else if settled.succeeded + settled.pending < needed {
            Decision::Abort
        } else {
            Decision::Continue
        };
        if decision != Decision::Continue && batch.decided.is_none() && batch.ended_after.is_none()
        {
            batch.decided = Some((settled.index, decision == Decision::Enough));
            batch.ended_after = Some(batch.settle_order.len());
        }
        batch.awake = true;
        let call = CallRef { batch: id, index: settled.index };
        self.log(|| format!("{call:?} is decided: {decision:?}"));
        self.event(|scheduler, now, out| scheduler.decided(call, decision, now, out));
    }

    fn closed(&mut self, closed: Ended) {
        let id = closed.id;
        self.log(|| format!("{id:?} is closed"));
        checks::on_close(self, &closed);
        let batch = self.batches.get_mut(&id).unwrap();
        batch.closed = true;
        if let Some(parent) = batch.parent {
            let at = self.calls[parent].at;
            self.calls[parent].lent = false;
            self.event(|scheduler, now, out| scheduler.resume(at, now, out));
            let now = self.now;
            let call = &mut self.calls[parent];
            let attempt = call.attempt().clone();
            let Thread::Running { nested, waits_for, told, .. } = &mut call.thread else {
                panic!("the parent of a batch isn't there")
            };
            *waits_for = None;
            *nested -= 1;
            let wait = match attempt.heeds.filter(|_| *told) {
                Some(wait) => wait,
                None if *nested > 0 => Duration::ZERO,
                None => attempt.runs,
            };
            if attempt.heeds.is_some() && *told {
                *nested = 0;
            }
            call.set_until(now + wait);
        }
    }

    /// Does what the scheduler asked for.
    fn act(&mut self, action: Action<usize>) {
        match action {
            Action::Start(call, _, payload) => {
                self.calls[payload].starting = false;
                if self.random.percent(self.refusals) {
                    self.log(|| format!("{call:?}: no thread"));
                    return self.event(|scheduler, now, out| {
                        scheduler.start_failed(call, now, out);
                    });
                }
                let granted = self.grant(call);
                self.log(|| format!("{call:?} starts: {granted:?}"));
                if let Some(signal_at) = granted {
                    self.begin(payload, signal_at);
                }
            }
            Action::Prepare(call, payload) => {
                if self.random.percent(self.refusals) {
                    self.log(|| format!("{call:?}: no thread to prepare it"));
                    return self.event(|scheduler, now, out| {
                        scheduler.prepare_failed(call, now, out);
                    });
                }
                let call = &mut self.calls[payload];
                let can_hang = call.plan.terms.timeout.is_some();
                let until = match call.plan.prepare_ends {
                    End::Hangs if can_hang => Deadline::Never,
                    _ => Deadline::after(self.now, call.plan.prepare),
                };
                call.thread = Thread::Preparing { until };
            }
            Action::Signal(payload) | Action::Over(payload) => self.tell(payload),
            Action::Close(_) | Action::Settled(..) | Action::Drop(_) => {}
            Action::Wake(id) => {
                if let Some(batch) = self.batches.get_mut(&id) {
                    batch.awake = true;
                }
            }
        }
    }

    /// A worker asks whether it may run a call, until when.
    fn grant(&mut self, call: CallRef) -> Option<Deadline> {
        let grant = self.event(|scheduler, now, out| scheduler.started(call, now, out))?;
        checks::on_grant(self, call, &grant);
        Some(grant.signal_at)
    }

    fn begin(&mut self, payload: usize, signal_at: Deadline) {
        let now = self.now;
        let call = &mut self.calls[payload];
        call.grants += 1;
        call.first_granted.get_or_insert(now);
        let attempt = call.attempt();
        let nested = attempt.nested.len();
        let hangs = attempt.ends == End::Hangs && signal_at != Deadline::Never;
        let until = match () {
            () if nested > 0 => Deadline::At(now),
            () if hangs => Deadline::Never,
            () => Deadline::after(now, attempt.runs),
        };
        call.thread = Thread::Running { nested, waits_for: None, until, told: call.signals > 0 };
        if call.signals > 0 {
            self.tell(payload);
        }
    }

    /// A call is told to stop, and so is what runs within it.
    fn tell(&mut self, payload: usize) {
        let heeds = match self.calls[payload].thread {
            Thread::Running { .. } => self.calls[payload].attempt().heeds,
            _ => None,
        };
        let soon = heeds.map(|wait| self.now + wait);
        let Thread::Running { waits_for, until, told, nested } = &mut self.calls[payload].thread
        else {
            return;
        };
        *told = true;
        match (*waits_for, soon) {
            (Some(id), _) => self.end(id, Ending::Cancelled),
            (None, Some(soon)) => {
                *nested = 0;
                *until = Deadline::At(soon).min(*until);
            }
            (None, None) => {}
        }
    }

    /// A running call waits in a batch of its own.
    fn nest(&mut self, payload: usize) {
        let call = &mut self.calls[payload];
        let attempt = call.attempt();
        let Thread::Running { nested, .. } = call.thread else { return };
        let plan = attempt.nested[attempt.nested.len() - nested].clone();
        let at = call.at;
        call.lent = call.settled.is_none();
        let latest = self.scheduler.slot(at).map_or(Deadline::At(self.now), |slot| slot.signal_at);
        self.event(|scheduler, now, out| scheduler.lend(at, now, out));
        self.open(plan, Some(payload), latest);
    }

    fn prepared(&mut self, payload: usize) {
        let call = &mut self.calls[payload];
        call.thread = Thread::None;
        let prepared = match call.plan.prepare_ends {
            End::Succeeds => {
                Ok(Prepared { keys: call.plan.keys.clone(), identity: call.plan.identity.clone() })
            }
            _ => Err(plan::unprepared()),
        };
        let at = call.at;
        if call.settled.is_none() && prepared.is_ok() {
            self.tickets += 1;
            call.ticket = Some(self.tickets);
        }
        self.log(|| format!("{at:?} is prepared: {:?}", self.calls[payload].plan.keys));
        self.event(|scheduler, now, out| scheduler.prepared(at, prepared, now, out));
    }

    /// The thread of a call comes back.
    fn finish(&mut self, payload: usize) {
        let now = self.now;
        let call = &mut self.calls[payload];
        let attempt = call.attempt().clone();
        let told = matches!(call.thread, Thread::Running { told: true, .. });
        call.thread = Thread::None;
        let gave_way = told && attempt.heeds.is_some() && attempt.ends != End::Succeeds;
        let outcome = match gave_way {
            true => Outcome::Failed(ToolError::of_kind(ToolErrorKind::Cancelled)),
            false => attempt.ends.outcome(),
        };
        call.succeeded = outcome.is_success();
        let was_settled = call.settled.is_some();
        let at = call.at;
        let retry = attempt.retry.filter(|_| !outcome.is_success());
        if let Some(wait) = retry {
            call.retry_at = Some(now + wait);
        }
        self.log(|| format!("{at:?} returns: {}", outcome.name()));
        let finish = Finish { outcome, notes: Vec::new(), retry, pause: attempt.pause };
        let fate = self.event(|scheduler, now, out| scheduler.finished(at, finish, now, out));
        match fate {
            Fate::Late(_) => assert!(was_settled, "{at:?} wasn't settled, and yet late"),
            Fate::Settled => assert!(!was_settled, "{at:?} was settled twice"),
            Fate::Retried => {
                assert!(!was_settled, "{at:?} is retried after it was settled");
                assert!(retry.is_some(), "{at:?} is retried and didn't want to be");
            }
        }
    }

    /// An event of the scheduler, and what it asks for.
    fn event<T>(
        &mut self,
        event: impl FnOnce(&mut Scheduler<usize>, Instant, &mut Vec<Action<usize>>) -> T,
    ) -> T {
        let mut out = Vec::new();
        let value = event(&mut self.scheduler, self.now, &mut out);
        for action in out {
            match &action {
                Action::Start(call, track, payload) => {
                    checks::on_start(self, *call, *track, *payload);
                    self.calls[*payload].starting = true;
                    self.calls[*payload].retry_at = None;
                }
                Action::Prepare(call, payload) => {
                    checks::on_prepare(self, *call);
                    self.calls[*payload].prepare_began.get_or_insert(self.now);
                }
                Action::Settled(payload, outcome) => {
                    let call = self.calls[*payload].at;
                    self.log(|| format!("{call:?} is settled: {outcome:?}"));
                    *self.ends.entry(outcome.name()).or_default() += 1;
                    checks::on_settled(self, *payload);
                    self.settled(call, *payload);
                    continue;
                }
                Action::Signal(payload) | Action::Over(payload) => {
                    self.calls[*payload].signals += 1;
                    assert_eq!(self.calls[*payload].signals, 1, "told twice to stop");
                }
                Action::Close(payload) => {
                    self.calls[*payload].closes += 1;
                    assert_eq!(self.calls[*payload].closes, 1, "closed twice");
                }
                Action::Wake(_) => {}
                Action::Drop(_) => {
                    let Action::Drop(closed) = action else { continue };
                    assert!(
                        self.batches[&closed.id].detached,
                        "a batch is dropped that is waited for"
                    );
                    self.closed((*closed).into());
                    continue;
                }
            }
            self.pending.push(action);
        }
        value
    }

    fn settled(&mut self, call: CallRef, payload: usize) {
        self.calls[payload].settled = Some(self.now);
        self.calls[payload].starting = false;
        self.batches.get_mut(&call.batch).unwrap().settle_order.push(call.index);
        for batch in self.batches.values_mut() {
            if batch.parent == Some(payload) && !batch.closed {
                batch.end_from_outside();
            }
        }
    }

    pub(super) fn log(&self, line: impl FnOnce() -> String) {
        if self.trace {
            let line = line().replace("CallRef { batch: BatchId(", "").replace("), index: ", ".");
            let line =
                line.replace(" }", "").replace("KeyUse { key: ", "").replace(", access:", "");
            eprintln!("{:>8.1?} {line}", self.now - self.begin);
        }
    }
}

impl Call {
    pub(super) fn attempt(&self) -> &plan::AttemptPlan {
        let at = (self.grants.max(1) as usize - 1).min(self.plan.attempts.len() - 1);
        &self.plan.attempts[at]
    }

    fn until(&self) -> Deadline {
        match self.thread {
            Thread::None => Deadline::Never,
            Thread::Preparing { until } | Thread::Running { until, .. } => until,
        }
    }

    fn set_until(&mut self, at: Instant) {
        match &mut self.thread {
            Thread::None => {}
            Thread::Preparing { until } | Thread::Running { until, .. } => *until = at.into(),
        }
    }

    fn is_hung(&self) -> bool {
        let waits = matches!(self.thread, Thread::Running { waits_for: Some(_), .. });
        self.settled.is_some()
            && self.thread != Thread::None
            && self.until() == Deadline::Never
            && !waits
    }

    pub(super) fn is_out(&self) -> bool {
        self.thread != Thread::None
    }

    /// Whether it may be doing something: from its first start until its thread is back for good.
    pub(super) fn is_inside(&self) -> bool {
        let runs = matches!(self.thread, Thread::Running { .. });
        runs || (self.grants > 0 && self.settled.is_none())
    }
}

impl Batch {
    fn end_from_outside(&mut self) {
        let settled = self.settle_order.len();
        self.ended_after.get_or_insert(settled);
    }
}
