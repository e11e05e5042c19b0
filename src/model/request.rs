//! One request to a model.

use crate::cancel::CancelToken;
use crate::json::Json;
use crate::time::Deadline;
use crate::tool::ToolSet;
use crate::wire::{Prompt, ToolChoice};

/// One request to a model: what is asked, until when, and what calls it off.
///
/// ```
/// use std::time::{Duration, Instant};
/// use toolpool::model::Request;
/// use toolpool::{Deadline, Wire};
///
/// let conversation = [Wire::Anthropic.user_message("Who is customer 7?")];
/// let request = Request::new(&conversation)
///     .system("Be brief.")
///     .deadline(Deadline::after(Instant::now(), Duration::from_secs(30)));
/// assert_eq!(request.prompt.messages.len(), 1);
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Request<'a> {
    /// What is asked.
    pub prompt: Prompt<'a>,
    /// Until when, all attempts and waits included. Defaults to never: then the client's own
    /// [timeout](crate::model::ModelErrorKind::TimedOut) alone ends an attempt.
    pub deadline: Deadline,
    /// What calls it off, also while it waits for the provider.
    pub cancel: CancelToken,
}

impl<'a> Request<'a> {
    /// A request with these messages, in the wire's own shape.
    pub fn new(messages: &'a [Json]) -> Self {
        Self {
            prompt: Prompt::new(messages),
            deadline: Deadline::Never,
            cancel: CancelToken::new(),
        }
    }

    /// The system prompt. Defaults to none.
    #[must_use]
    pub fn system(mut self, text: &'a str) -> Self {
        self.prompt.system = text;
        self
    }

    /// The tools the model may call. Defaults to none.
    #[must_use]
    pub fn tools(mut self, tools: &ToolSet) -> Self {
        self.prompt.tools = tools.clone();
        self
    }

    /// Whether the model must call a tool. Defaults to what it finds best.
    #[must_use]
    pub fn choice(mut self, choice: ToolChoice) -> Self {
        self.prompt.choice = choice;
        self
    }

    /// Whether the model may call several tools in one turn. Defaults to the provider's default,
    /// which is yes; said only where it is set, because some models refuse to be told.
    #[must_use]
    pub fn parallel(mut self, parallel: bool) -> Self {
        self.prompt.parallel = Some(parallel);
        self
    }

    /// Until when. Defaults to never.
    #[must_use]
    pub fn deadline(mut self, deadline: impl Into<Deadline>) -> Self {
        self.deadline = deadline.into();
        self
    }

    /// What calls it off. Defaults to nothing.
    #[must_use]
    pub fn cancel(mut self, token: &CancelToken) -> Self {
        self.cancel = token.clone();
        self
    }
}
