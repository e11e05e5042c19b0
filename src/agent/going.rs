//! The loop itself.
//!
//! Whatever leaves it, the conversation's last message with calls has its results behind it: a turn
//! goes into the conversation only together with them.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use log::Level;

use crate::agent::Parts;
use crate::agent::conversation::Conversation;
use crate::agent::end::End;
use crate::agent::error::AgentError;
use crate::agent::event::AgentEvent;
use crate::agent::measure::{AgentStats, Independence};
use crate::agent::parallel::ParallelPolicy;
use crate::agent::repeats::Repeats;
use crate::agent::run::AgentRun;
use crate::error::{ERROR_TEXT_LIMIT, ToolError, ToolErrorKind, bounded_to};
use crate::executor::{Batch, Executor, Run};
use crate::json::Json;
use crate::logging::log;
use crate::model::{ModelError, ModelErrorKind, Request, StreamEvent};
use crate::outcome::{NotStarted, Outcome};
use crate::output::{Block, Output};
use crate::report::{CallReport, Report};
use crate::time::Deadline;
use crate::turn::{StopKind, Turn};
use crate::wire::ToolChoice;

/// A run that goes on.
pub(super) struct Going<'a> {
    pub(super) conversation: &'a mut Conversation,
    agent: &'a Parts,
    executor: &'a Executor,
    terms: Terms<'a>,
    choice: ToolChoice,
    ends_with: Vec<String>,
    last_without_tools: bool,
    tell: Box<dyn FnMut(AgentEvent<'_>) + 'a>,
    system: String,
    requests: u32,
    used: u64,
    repeats: Repeats,
    independence: Independence,
}

/// On what terms the calls of a turn run.
struct Terms<'a> {
    agent: &'a Parts,
    until: Deadline,
    cancel: crate::cancel::CancelToken,
    context: Option<std::sync::Arc<dyn std::any::Any + Send + Sync>>,
    log: Option<&'a dyn crate::agent::run::Log>,
}

impl Terms<'_> {
    fn put_on<'e, Of>(&self, mut run: Run<'e, Of>, number: u64) -> Run<'e, Of> {
        let settings = &self.agent.settings;
        if let Some(policy) = &settings.policy {
            run = run.policy(policy.clone());
        }
        if let Some(approver) = settings.approver.clone() {
            run = run.approval(move |requests| approver(requests));
        }
        if settings.parallel == ParallelPolicy::Off {
            run = run.max_parallel(1);
        }
        if let Some(log) = self.log {
            run = run.recorder(Some(log.recorder(number))).idempotency_seed(log.seed(number));
        }
        run.until(self.until).cancel(&self.cancel).shared_context(self.context.clone())
    }
}

impl<'a> Going<'a> {
    pub(super) fn begin(run: AgentRun<'a>) -> Result<Self, AgentError> {
        let (format, wire) = (run.conversation.wire(), run.agent.model.wire());
        if format != wire {
            return Err(AgentError::input(format_args!(
                "the conversation is in the format {format}, the model's is {wire}"
            )));
        }
        let Some((last, earlier)) = run.conversation.messages().split_last() else {
            return Err(AgentError::input("nothing was said in the conversation yet"));
        };
        let earlier: Vec<_> = earlier.iter().map(Json::as_str).collect();
        let independence = Independence::new(last.as_str().to_owned(), earlier.join("\n"));
        let span = run.deadline;
        let until = span.map_or(Deadline::Never, |span| Deadline::after(Instant::now(), span));
        let settings = &run.agent.settings;
        Ok(Self {
            terms: Terms {
                agent: run.agent,
                until,
                cancel: run.cancel,
                context: run.context,
                log: run.log,
            },
            system: settings.parallel.system(&settings.system),
            conversation: run.conversation,
            agent: run.agent,
            executor: run.executor,
            choice: run.choice,
            ends_with: run.ends_with,
            last_without_tools: run.last_without_tools,
            tell: run.tell,
            requests: 0,
            used: 0,
            repeats: Repeats::default(),
            independence,
        })
    }

    /// Asks, runs and answers until something ends it.
    pub(super) fn go(mut self) -> Result<End, AgentError> {
        loop {
            if let Some(end) = self.is_over() {
                return Ok(end);
            }
            self.requests += 1;
            let settings = &self.agent.settings;
            let is_last = self.last_without_tools && self.requests == settings.max_turns;
            (self.tell)(AgentEvent::Asking(self.requests));
            let (turn, batch) = match self.ask(is_last) {
                Ok(answered) => answered,
                Err(error) => return self.explained(error),
            };
            self.count(&turn);
            let end = match turn.awaits_results() {
                true => self.take_calls(&turn, batch, is_last)?,
                false => self.take_words(&turn)?,
            };
            if let Some(end) = end {
                return Ok(end);
            }
        }
    }

    /// Goes on when the calls of a turn have run.
    pub(super) fn go_on(mut self, turn: &Turn, report: Report) -> Result<End, AgentError> {
        match self.take_report(turn, report)? {
            Some(end) => Ok(end),
            None => self.go(),
        }
    }

    /// A run of the latest turn on the loop's terms.
    pub(super) fn equip<'e, Of>(&self, run: Run<'e, Of>) -> Run<'e, Of> {
        self.terms.put_on(run, self.conversation.stats().turns)
    }

    /// Whether the model may not be asked again.
    fn is_over(&self) -> Option<End> {
        let settings = &self.agent.settings;
        if self.terms.cancel.is_cancelled() {
            Some(End::Cancelled)
        } else if self.terms.until.has_passed(Instant::now()) {
            Some(End::Deadline)
        } else if settings.token_budget.is_some_and(|budget| self.used >= budget) {
            Some(End::Budget { used: self.used })
        } else if self.requests >= settings.max_turns {
            Some(End::MaxTurns)
        } else {
            None
        }
    }

    /// Asks for a turn. Calls that come while the model writes go into a batch at once, until one
    /// was made too often: the turn isn't run then.
    fn ask(&mut self, is_last: bool) -> Result<(Turn, Option<Batch>), ModelError> {
        let number = self.conversation.stats().turns.saturating_add(1);
        let settings = &self.agent.settings;
        let choice = if is_last { ToolChoice::None } else { self.choice.clone() };
        let mut request = Request::new(self.conversation.messages())
            .system(&self.system)
            .tools(self.executor.tools())
            .choice(choice)
            .deadline(self.terms.until)
            .cancel(&self.terms.cancel);
        request.prompt.parallel = settings.parallel.switch();
        request.prompt.container = self.conversation.container();
        let early = settings.early_start && !is_last;
        let (tell, terms, executor) = (&mut self.tell, &self.terms, self.executor);
        let (repeats, stop) = (&self.repeats, settings.stop_at);
        let mut batch: Option<Batch> = None;
        let mut worn = false;
        let turn = self.agent.model.stream(&request, &mut |event| match event {
            StreamEvent::Text(text) => tell(AgentEvent::Text(text)),
            StreamEvent::Restarted => {
                (batch, worn) = (None, false);
                tell(AgentEvent::Restarted);
            }
            StreamEvent::Call(call) => {
                tell(AgentEvent::Call(call));
                worn = worn || (early && stop > 0 && repeats.with(call) >= stop);
                if early && !worn {
                    let begin = || terms.put_on(executor.batch(), number).begin();
                    batch.get_or_insert_with(begin).push(call.clone());
                }
            }
        })?;
        Ok((turn.for_wire(self.conversation.wire()), batch))
    }

    /// An error of the model that is the run's own doing is an end.
    fn explained(&self, error: ModelError) -> Result<End, AgentError> {
        match error.kind() {
            ModelErrorKind::Cancelled if self.terms.cancel.is_cancelled() => Ok(End::Cancelled),
            ModelErrorKind::TimedOut if self.terms.until.has_passed(Instant::now()) => {
                Ok(End::Deadline)
            }
            _ => Err(error.into()),
        }
    }

    fn count(&mut self, turn: &Turn) {
        let usage = turn.usage();
        let tokens = usage.input_tokens.saturating_add(usage.output_tokens);
        self.used = self.used.saturating_add(tokens);
        self.stats(|stats| stats.turn(usage));
        (self.tell)(AgentEvent::Turn(turn));
        (self.tell)(AgentEvent::Usage(self.conversation.usage()));
    }

    fn stats(&mut self, change: impl Fn(&mut AgentStats)) {
        change(self.conversation.stats_mut());
        change(&mut self.agent.stats.lock());
    }

    /// Takes a turn in which no call waits for a result.
    fn take_words(&mut self, turn: &Turn) -> Result<Option<End>, AgentError> {
        let text = turn.text().to_owned();
        let end = match turn.stop().kind {
            // To be sent again as it is, and the model goes on.
            StopKind::Pause => None,
            // Without a word it is hardly an answer.
            StopKind::Unknown | StopKind::ToolUse if !text.trim().is_empty() => {
                Some(End::Answer(text))
            }
            StopKind::MaxTokens | StopKind::Failed | StopKind::Unknown | StopKind::ToolUse => {
                Some(End::CutShort { stop: turn.stop().clone(), text })
            }
            _ => Some(ended_by_its_stop(turn).unwrap_or(End::Answer(text))),
        };
        let nothing = Report::new(Vec::new(), Duration::ZERO, None);
        self.answer(turn, &nothing, end.as_ref())?;
        Ok(end)
    }

    /// Takes a turn with calls: runs and answers them.
    fn take_calls(
        &mut self,
        turn: &Turn,
        batch: Option<Batch>,
        is_last: bool,
    ) -> Result<Option<End>, AgentError> {
        if self.independence.calls(turn.calls()) {
            log(
                Level::Info,
                format_args!(
                    "the model makes one call a turn though they don't depend on each other; \
                     ParallelPolicy::Encourage may help"
                ),
            );
        }
        let settings = &self.agent.settings;
        let worn = turn.calls().iter().find(|call| {
            let may_start = call.withheld_reason().is_none();
            may_start && settings.stop_at > 0 && self.repeats.with(call) >= settings.stop_at
        });
        if worn.is_some() || is_last {
            // Dropping it cancels what reads already; nothing else has started.
            drop(batch);
            let why = match worn {
                Some(_) => "not run: the same call was made again and again",
                None => "not run: no tool may be called any more",
            };
            let end = worn.map_or(End::MaxTurns, |call| End::Repeated {
                tool: call.name().to_owned(),
                times: self.repeats.with(call),
            });
            let report = not_run(turn, why);
            self.stats(|stats| stats.batch(&report));
            self.answer(turn, &report, Some(&end))?;
            (self.tell)(AgentEvent::Results(&report));
            return Ok(Some(end));
        }
        if let Some(log) = self.terms.log {
            log.asked(self.conversation.stats().turns, turn)?;
        }
        let report = match batch {
            Some(batch) => batch.finish(turn),
            None => self.equip(self.executor.turn(turn)).run(),
        };
        self.take_report(turn, report)
    }

    /// Answers a turn whose calls have run, unless some of them wait for a decision.
    fn take_report(&mut self, turn: &Turn, report: Report) -> Result<Option<End>, AgentError> {
        let report = match report.into_suspended(turn) {
            Ok(suspended) => {
                self.conversation.suspend(suspended.clone());
                (self.tell)(AgentEvent::Results(suspended.report()));
                return Ok(Some(End::Suspended(suspended)));
            }
            Err(report) => *report,
        };
        self.stats(|stats| stats.batch(&report));
        self.independence.results(&report);
        let is_shut_down =
            |call: &CallReport| matches!(call.outcome, Outcome::NotStarted(NotStarted::Shutdown));
        let is_cancelled = self.terms.cancel.is_cancelled();
        let end = if is_cancelled || report.calls().iter().any(is_shut_down) {
            Some(End::Cancelled)
        } else {
            self.ended_by_a_tool(&report).or_else(|| ended_by_its_stop(turn))
        };
        let mut told = Cow::Borrowed(&report);
        if let Some(why) = not_to_be_urged(turn) {
            leave_withheld(&mut told, why);
        }
        let nudge_at = self.agent.settings.nudge_at;
        for (index, times) in self.repeats.note(report.calls()).into_iter().enumerate() {
            if nudge_at > 0 && times >= nudge_at {
                nudge(told.to_mut(), index, times);
            }
        }
        // Told only once the conversation has it, because what is told may panic.
        let answered = self.answer(turn, &told, end.as_ref());
        (self.tell)(AgentEvent::Results(&report));
        answered.map(|()| end)
    }

    fn ended_by_a_tool(&self, report: &Report) -> Option<End> {
        report.calls().iter().find_map(|call| match &call.outcome {
            Outcome::Succeeded(output) if self.ends_with.iter().any(|n| n == call.call.name()) => {
                Some(End::ToolEnded {
                    tool: call.call.name().to_owned(),
                    arguments: Json::parse(call.call.arguments()).ok()?,
                    output: output.clone(),
                })
            }
            _ => None,
        })
    }

    /// Adds a turn and its results to the conversation, and to the record.
    fn answer(
        &mut self,
        turn: &Turn,
        report: &Report,
        end: Option<&End>,
    ) -> Result<(), AgentError> {
        let before = self.conversation.messages().len();
        self.conversation.answer(turn, report);
        if let Some(log) = self.terms.log {
            let said = &self.conversation;
            let (number, added) = (said.stats().turns, &said.messages()[before..]);
            log.answered(number, added, turn.usage(), said.container(), end)?;
        }
        Ok(())
    }
}

/// The end of the run where the model must not be asked on, whether it has made calls or not: it
/// would be urged to do what it refused, or has no room for more.
fn ended_by_its_stop(turn: &Turn) -> Option<End> {
    let text = || turn.text().to_owned();
    match turn.stop().kind {
        StopKind::Refusal | StopKind::ContentFilter => Some(End::Refused(text())),
        StopKind::ContextExceeded => {
            Some(End::CutShort { stop: turn.stop().clone(), text: text() })
        }
        _ => None,
    }
}

/// What the model is told of the calls of a message that must not be made again, in place of what
/// asks for them.
fn not_to_be_urged(turn: &Turn) -> Option<&'static str> {
    match turn.stop().kind {
        StopKind::Refusal => Some("not run: the message was refused"),
        StopKind::ContentFilter => Some("not run: the message was stopped by a filter"),
        StopKind::ContextExceeded => Some("not run: the context is full"),
        _ => None,
    }
}

fn leave_withheld(told: &mut Cow<'_, Report>, why: &str) {
    for index in 0..told.calls().len() {
        if matches!(told.calls()[index].outcome, Outcome::NotStarted(NotStarted::Withheld(_))) {
            let outcome = Outcome::Failed(ToolError::new(ToolErrorKind::Other, why));
            told.to_mut().settle(index, outcome);
        }
    }
}

/// A report of calls that aren't run.
fn not_run(turn: &Turn, why: &str) -> Report {
    let outcome = || Outcome::Failed(ToolError::new(ToolErrorKind::Other, why));
    let calls = turn.calls().iter().map(|call| CallReport::never_run(call.clone(), outcome()));
    Report::new(calls.collect(), Duration::ZERO, None)
}

/// Adds a word to a result: there every provider takes it.
fn nudge(report: &mut Report, index: usize, times: u32) {
    let Some(call) = report.calls().get(index) else { return };
    let word = format!(
        "Note: this is the same call with the same arguments in {times} turns in a row. \
         Don't make it again: use what you know, try another way, or say what is missing."
    );
    let content = call.content();
    let outcome = match (call.is_error(), content) {
        (true, content) => {
            // The word must not be what is cut off.
            let room = ERROR_TEXT_LIMIT - word.len() - "…\n\n".len();
            let text = bounded_to(&content.to_text(), room);
            let text = format_args!("{text}\n\n{word}");
            Outcome::Failed(ToolError::new(ToolErrorKind::Other, text))
        }
        (false, Output::Blocks { mut blocks }) => {
            blocks.push(Block::text(word));
            Outcome::Succeeded(Output::blocks(blocks))
        }
        (false, content) => {
            Outcome::Succeeded(Output::text(format!("{}\n\n{word}", content.to_text())))
        }
    };
    report.settle(index, outcome);
}
