//! Why a run gave no end, or no answer.

use std::fmt;

use crate::agent::conversation::Conversation;
use crate::agent::end::End;
use crate::error::Error;
use crate::model::ModelError;
use crate::text::Shown;

/// How many characters of an answer in words are shown.
const SHOWN: usize = 80;

/// Why a run gave no end: the model didn't answer, or the conversation can't be gone on with. Of
/// [`Agent::ask`](crate::Agent::ask) also any end that is no answer, and of
/// [`Agent::ask_as`](crate::Agent::ask_as) an answer in words.
///
/// Opaque, the size of a pointer.
pub struct AgentError(Box<Repr>);

#[derive(Debug)]
struct Repr {
    cause: Cause,
    conversation: Option<Conversation>,
}

#[derive(Debug)]
enum Cause {
    Model(ModelError),
    Input(Error),
    Ended(Box<End>),
}

impl AgentError {
    pub(super) fn ended(end: End) -> Self {
        Self(Box::new(Repr { cause: Cause::Ended(Box::new(end)), conversation: None }))
    }

    pub(super) fn input(message: impl fmt::Display) -> Self {
        Error::input(message).into()
    }

    pub(super) fn with_conversation(mut self, conversation: Conversation) -> Self {
        self.0.conversation = Some(conversation);
        self
    }

    /// Why the model didn't answer, if that is what happened.
    pub fn model(&self) -> Option<&ModelError> {
        match &self.0.cause {
            Cause::Model(error) => Some(error),
            _ => None,
        }
    }

    /// The end that is no answer, or not of the type asked for, if that is what happened.
    pub fn end(&self) -> Option<&End> {
        match &self.0.cause {
            Cause::Ended(end) => Some(end),
            _ => None,
        }
    }

    /// Whether the conversation, or what was to be resumed, can't be gone on with.
    pub fn is_input(&self) -> bool {
        matches!(self.0.cause, Cause::Input(_))
    }

    /// The conversation so far, of a question that had one of its own.
    pub fn conversation(&self) -> Option<&Conversation> {
        self.0.conversation.as_ref()
    }

    /// Takes the conversation out.
    pub fn into_conversation(self) -> Option<Conversation> {
        self.0.conversation
    }
}

impl From<ModelError> for AgentError {
    fn from(error: ModelError) -> Self {
        Self(Box::new(Repr { cause: Cause::Model(error), conversation: None }))
    }
}

impl From<Error> for AgentError {
    fn from(error: Error) -> Self {
        Self(Box::new(Repr { cause: Cause::Input(error), conversation: None }))
    }
}

impl fmt::Display for AgentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.cause {
            Cause::Model(error) => error.fmt(f),
            Cause::Input(error) => error.fmt(f),
            Cause::Ended(end) => match end.answer() {
                Some(text) => write!(
                    f,
                    "no answer of the type asked for: the model answered in words: {}",
                    Shown::new(text.trim(), SHOWN)
                ),
                None => write!(f, "no answer: {end}"),
            },
        }
    }
}

impl fmt::Debug for AgentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.cause.fmt(f)
    }
}

impl std::error::Error for AgentError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.cause {
            Cause::Model(error) => error.source(),
            Cause::Input(error) => error.source(),
            Cause::Ended(_) => None,
        }
    }
}
