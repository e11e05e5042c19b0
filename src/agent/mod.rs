//! The loop: model turn, batch, reply, next model turn, until it ends.
//!
//! An [`Agent`] has a model and tools. It asks, runs what the model calls, all calls of a turn in
//! parallel, gives back the results, and asks again. A [`Conversation`] is data: whatever ended the
//! loop, every call in it is answered, so it can be stored and gone on with.
//!
//! ```
//! use toolpool::agent::{Agent, End};
//! use toolpool::model::ScriptedModel;
//! use toolpool::{Tool, ToolSet, Wire};
//!
//! let model = ScriptedModel::new(Wire::OpenAi)
//!     .body(r#"{"choices": [{"finish_reason": "tool_calls", "message": {"role": "assistant",
//!         "tool_calls": [{"id": "1", "function": {"name": "now", "arguments": "{}"}}]}}]}"#)
//!     .body(r#"{"choices": [{"finish_reason": "stop", "message": {"content": "It is noon."}}]}"#);
//! let tools = ToolSet::new().with(Tool::new("now", "The time", || Ok("12:00")).read_only());
//! let agent = Agent::builder(model, tools).system("Be brief.").build()?;
//!
//! assert_eq!(agent.ask("What time is it?")?, "It is noon.");
//!
//! let mut conversation = agent.conversation();
//! conversation.user("And now?");
//! assert!(agent.run(&mut conversation).is_err()); // the script has ended
//! assert_eq!(conversation.messages().len(), 1); // and can go on from here
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! It starts no thread of its own: a run takes place on the caller's thread, whichever that is, and
//! its calls on the executor's. It holds no lock while the model or a tool works, so one agent
//! serves any number of threads.
//!
//! Needs the feature `agent`, which is on by default.

mod answer;
mod builder;
mod conversation;
mod end;
mod error;
mod event;
mod going;
mod measure;
pub mod parallel;
mod repeats;
mod run;

pub use builder::{AgentBuilder, AgentTools};
pub use conversation::Conversation;
pub use end::End;
pub use error::AgentError;
pub use event::AgentEvent;
pub use measure::AgentStats;
pub use parallel::ParallelPolicy;
pub use run::AgentRun;

pub(crate) use run::{Log, Open};

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::executor::{Executor, Resolution};
use crate::model::Model;

use self::builder::Settings;

/// A model with tools, and the loop that lets it use them. Cheap to clone, used from many threads
/// at once.
///
/// See the [module](self) for an example, [`AgentBuilder`] for what can be set.
#[derive(Clone)]
pub struct Agent(pub(crate) Arc<Parts>);

#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) model: Arc<dyn Model>,
    pub(crate) executor: Executor,
    pub(crate) settings: Settings,
    pub(crate) stats: Arc<Mutex<AgentStats>>,
}

impl Agent {
    /// Settings for an agent of a model and tools, or of a model and an executor.
    pub fn builder(model: impl Model + 'static, tools: impl Into<AgentTools>) -> AgentBuilder {
        AgentBuilder::new(Arc::new(model), tools.into())
    }

    /// A new conversation in the model's format.
    pub fn conversation(&self) -> Conversation {
        Conversation::new(self.0.model.wire())
    }

    /// Asks one question in a conversation of its own, and waits for the answer.
    ///
    /// # Errors
    /// A model that didn't answer, or any other [`End`] than an answer; the error holds the
    /// conversation.
    pub fn ask(&self, question: &str) -> Result<String, AgentError> {
        let mut conversation = self.conversation();
        conversation.user(question);
        let end = self.run(&mut conversation);
        match end {
            Ok(End::Answer(text)) => Ok(text),
            Ok(end) => Err(AgentError::ended(end).with_conversation(conversation)),
            Err(error) => Err(error.with_conversation(conversation)),
        }
    }

    /// Asks one question whose answer is a `T`. The model gives it by calling a tool that takes
    /// it, which every provider knows; it may use the agent's tools before.
    ///
    /// The provider is told that a tool must be called, where it can be told. Some refuse that
    /// while a model reasons: see [`AgentBuilder::never_force_tools`]. A model that answers in words
    /// is reminded twice, each time in a run with turns and a token budget of its own; the agent's
    /// deadline is for all of them.
    ///
    /// ```
    /// use schemars::JsonSchema;
    /// use serde::Deserialize;
    /// use toolpool::agent::Agent;
    /// use toolpool::model::ScriptedModel;
    /// use toolpool::{ToolCall, ToolSet, Turn, Wire};
    ///
    /// #[derive(Deserialize, JsonSchema)]
    /// struct City {
    ///     name: String,
    ///     people: u64,
    /// }
    /// let model = ScriptedModel::new(Wire::OpenAi).turn(Turn::from_calls([ToolCall::new(
    ///     "1",
    ///     "answer",
    ///     r#"{"answer": {"name": "Bern", "people": 134000}}"#,
    /// )]));
    /// let agent = Agent::builder(model, ToolSet::new()).build()?;
    /// let city: City = agent.ask_as("The capital of Switzerland?")?;
    /// assert_eq!((city.name.as_str(), city.people), ("Bern", 134_000));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`ask`](Self::ask), and an answer that is no `T` even when the model was told why.
    pub fn ask_as<T>(&self, question: &str) -> Result<T, AgentError>
    where
        T: DeserializeOwned + JsonSchema + 'static,
    {
        answer::ask_as(self, question)
    }

    /// Lets the model go on with a conversation until the loop ends. Whatever happens, every call
    /// in the conversation is answered afterwards.
    ///
    /// # Errors
    /// A model that didn't answer; a conversation in another format, without a message, or that
    /// waits for decisions.
    pub fn run(&self, conversation: &mut Conversation) -> Result<End, AgentError> {
        self.on(conversation).run()
    }

    /// A run with settings of its own.
    pub fn on<'a>(&'a self, conversation: &'a mut Conversation) -> AgentRun<'a> {
        AgentRun::new(self, conversation)
    }

    /// Goes on with a suspended conversation: the calls that are allowed now run, and the loop
    /// goes on when no call waits any more.
    ///
    /// # Errors
    /// As [`run`](Self::run); a conversation that isn't suspended; a resolution for a call that
    /// doesn't wait for one.
    pub fn resume(
        &self,
        conversation: &mut Conversation,
        resolutions: impl IntoIterator<Item = (usize, Resolution)>,
    ) -> Result<End, AgentError> {
        self.on(conversation).resume(resolutions)
    }

    /// Figures of all its runs so far.
    pub fn stats(&self) -> AgentStats {
        self.0.stats.lock().clone()
    }

    /// The executor its calls run on.
    pub fn executor(&self) -> &Executor {
        &self.0.executor
    }

    /// The model.
    pub fn model(&self) -> &dyn Model {
        &*self.0.model
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("model", &self.0.model.name())
            .field("wire", &self.0.model.wire())
            .field("tools", self.0.executor.tools())
            .finish_non_exhaustive()
    }
}
