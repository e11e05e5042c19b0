//! One run of the loop.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::agent::conversation::Conversation;
use crate::agent::end::End;
use crate::agent::error::AgentError;
use crate::agent::event::AgentEvent;
use crate::agent::going::Going;
use crate::agent::{Agent, Parts};
use crate::cancel::CancelToken;
use crate::error::Error;
use crate::executor::{Executor, Recorder, Resolution};
use crate::json::Json;
use crate::outcome::{NotStarted, Outcome};
use crate::turn::{Turn, Usage};
use crate::wire::ToolChoice;

/// Who keeps a record of a run, so that it can be gone on with after a crash.
pub(crate) trait Log {
    /// The model's `number`-th turn has calls, none of which that waits for it has started.
    fn asked(&self, number: u64, turn: &Turn) -> Result<(), Error>;
    /// The `number`-th turn is answered: these messages were added to the conversation, whose next
    /// request names this container.
    fn answered(
        &self,
        number: u64,
        messages: &[Json],
        usage: Usage,
        container: Option<&str>,
        end: Option<&End>,
    ) -> Result<(), Error>;
    /// Who writes down what the turn's mutating calls do.
    fn recorder(&self, number: u64) -> Arc<dyn Recorder>;
    /// What the idempotency keys of the turn begin with.
    fn seed(&self, number: u64) -> String;
}

/// A turn that was asked for before a crash, and how its calls ended as far as that is known.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) turn: Turn,
    pub(crate) known: Vec<(usize, Outcome)>,
    /// Calls that had begun and are made again, and how they end if they don't start this time: it
    /// isn't true of them that they didn't run.
    pub(crate) begun: Vec<(usize, Outcome)>,
}

/// A run of an [`Agent`] with settings of its own, made by [`Agent::on`].
///
/// ```
/// use toolpool::agent::{Agent, AgentEvent};
/// use toolpool::model::ScriptedModel;
/// use toolpool::{CancelToken, ToolSet, Wire};
///
/// let model = ScriptedModel::new(Wire::OpenAi)
///     .body(r#"{"choices": [{"finish_reason": "stop", "message": {"content": "Hello!"}}]}"#);
/// let agent = Agent::builder(model, ToolSet::new()).build()?;
/// let mut conversation = agent.conversation();
/// conversation.user("Good morning");
///
/// let hangup = CancelToken::new();
/// let mut heard = String::new();
/// let end = agent
///     .on(&mut conversation)
///     .cancel(&hangup)
///     .events(|event| if let AgentEvent::Text(text) = event { heard += text })
///     .run()?;
/// assert_eq!(end.answer(), Some("Hello!"));
/// assert_eq!(heard, "Hello!");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nothing runs until `run`"]
pub struct AgentRun<'a> {
    pub(super) agent: &'a Parts,
    pub(super) conversation: &'a mut Conversation,
    pub(super) executor: &'a Executor,
    pub(super) cancel: CancelToken,
    pub(super) deadline: Option<Duration>,
    pub(super) context: Option<Arc<dyn Any + Send + Sync>>,
    pub(super) choice: ToolChoice,
    pub(super) ends_with: Vec<String>,
    pub(super) last_without_tools: bool,
    pub(super) tell: Box<dyn FnMut(AgentEvent<'_>) + 'a>,
    pub(super) log: Option<&'a dyn Log>,
}

impl<'a> AgentRun<'a> {
    pub(super) fn new(agent: &'a Agent, conversation: &'a mut Conversation) -> Self {
        let agent = &*agent.0;
        Self {
            agent,
            conversation,
            executor: &agent.executor,
            cancel: CancelToken::new(),
            deadline: agent.settings.deadline,
            context: None,
            choice: ToolChoice::Auto,
            ends_with: agent.settings.ends_with.clone(),
            last_without_tools: agent.settings.last_turn_without_tools,
            tell: Box::new(|_| {}),
            log: None,
        }
    }

    /// Ends the run when `token` is cancelled: a request is interrupted, calls are told to stop and
    /// walked away from after their [grace](crate::ExecutorBuilder::grace), 500 ms at most unless
    /// set, if they ignore it. Defaults to none.
    pub fn cancel(mut self, token: &CancelToken) -> Self {
        self.cancel = token.clone();
        self
    }

    /// How long the run may take. Defaults to the agent's.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// A value that handlers read with [`CallContext::get`](crate::CallContext::get). Defaults to
    /// none.
    pub fn context<T: Any + Send + Sync>(mut self, value: T) -> Self {
        self.context = Some(Arc::new(value));
        self
    }

    /// Who is told what happens, on this thread, between the steps of the run: what it takes
    /// holds up the run. Defaults to nobody.
    pub fn events(mut self, tell: impl FnMut(AgentEvent<'_>) + 'a) -> Self {
        self.tell = Box::new(tell);
        self
    }

    /// Whether the model must call a tool. Defaults to what it finds best.
    pub fn choice(mut self, choice: ToolChoice) -> Self {
        self.choice = choice;
        self
    }

    pub(super) fn with_executor(mut self, executor: &'a Executor) -> Self {
        self.executor = executor;
        self
    }

    pub(super) fn ends_with(mut self, tool: &str) -> Self {
        self.ends_with.push(tool.to_owned());
        // The answer is a call.
        self.last_without_tools = false;
        self
    }

    pub(crate) fn log(mut self, log: &'a dyn Log) -> Self {
        self.log = Some(log);
        self
    }

    /// Runs the loop; see [`Agent::run`].
    ///
    /// # Errors
    /// As [`Agent::run`].
    pub fn run(self) -> Result<End, AgentError> {
        if self.conversation.suspended().is_some() {
            return Err(AgentError::input(
                "the conversation waits for decisions: `resume` it with them, or `give_up_waiting`",
            ));
        }
        Going::begin(self)?.go()
    }

    /// Goes on with a suspended conversation; see [`Agent::resume`].
    ///
    /// # Errors
    /// As [`Agent::resume`].
    pub fn resume(
        self,
        resolutions: impl IntoIterator<Item = (usize, Resolution)>,
    ) -> Result<End, AgentError> {
        let executor = self.executor;
        let Some(suspended) = self.conversation.suspended().cloned() else {
            return Err(AgentError::input("the conversation waits for no decision"));
        };
        let turn = suspended.turn().clone();
        let going = Going::begin(self)?;
        let report = going.equip(executor.resume(suspended, resolutions)?).run();
        going.conversation.take_suspended();
        going.go_on(&turn, report)
    }

    /// Goes on with a turn whose calls may have run in part.
    pub(crate) fn reopen(self, open: Open) -> Result<End, AgentError> {
        let executor = self.executor;
        let going = Going::begin(self)?;
        let mut report = going.equip(executor.turn(&open.turn)).known(open.known).run();
        for (index, unknown) in open.begun {
            if report.calls().get(index).is_some_and(|call| never_started(&call.outcome)) {
                report.settle(index, unknown);
            }
        }
        going.go_on(&open.turn, report)
    }
}

/// Whether the call ended without a start, and waits for nothing.
fn never_started(outcome: &Outcome) -> bool {
    !outcome.has_started() && *outcome != Outcome::NotStarted(NotStarted::Deferred)
}

impl fmt::Debug for AgentRun<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentRun").finish_non_exhaustive()
    }
}
