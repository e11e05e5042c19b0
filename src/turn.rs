//! One parsed model message: what the model asked, and in which format it came.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::call::ToolCall;
use crate::error::Error;
use crate::json::Json;

/// One provider's message format. What it reads and writes is in [`wire`](crate::wire), with the
/// feature of that name: without it `parse`, `stream`, `tools` and `request` don't exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Wire {
    /// Anthropic Messages.
    Anthropic,
    /// OpenAI Chat Completions, and the many servers that are compatible with it.
    #[serde(rename = "openai")]
    OpenAi,
    /// OpenAI Responses.
    #[serde(rename = "openai-responses")]
    OpenAiResponses,
    /// Gemini `generateContent`, also on Vertex.
    Gemini,
    /// Bedrock Converse.
    Bedrock,
    /// Cohere v2 chat.
    Cohere,
    /// Ollama `/api/chat`.
    Ollama,
}

impl Wire {
    /// All formats.
    pub const ALL: [Self; 7] = [
        Self::Anthropic,
        Self::OpenAi,
        Self::OpenAiResponses,
        Self::Gemini,
        Self::Bedrock,
        Self::Cohere,
        Self::Ollama,
    ];

    /// The stable name, which [`FromStr`] reads: `anthropic`, `openai`, `openai-responses`,
    /// `gemini`, `bedrock`, `cohere`, `ollama`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::OpenAi => "openai",
            Self::OpenAiResponses => "openai-responses",
            Self::Gemini => "gemini",
            Self::Bedrock => "bedrock",
            Self::Cohere => "cohere",
            Self::Ollama => "ollama",
        }
    }
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Wire {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|wire| wire.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::input(format_args!("no wire is named {name:?}; the names are {names}"))
        })
    }
}

/// Why the model stopped writing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StopReason {
    /// What it means.
    pub kind: StopKind,
    /// As the provider spelled it; empty where it said nothing.
    pub raw: String,
}

/// What a stop reason means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StopKind {
    /// The model waits for tool results.
    ToolUse,
    /// The model is done. Some providers say this of messages with calls, too.
    EndTurn,
    /// A stop sequence was written.
    StopSequence,
    /// The output limit cut the message.
    MaxTokens,
    /// The context window is full.
    ContextExceeded,
    /// The model refused.
    Refusal,
    /// A filter cut the message.
    ContentFilter,
    /// The provider paused a long turn: to be sent again unchanged.
    Pause,
    /// The model or the server failed; malformed or unexpected calls are among these.
    Failed,
    /// Nothing was said.
    Missing,
    /// Something this version doesn't know.
    Unknown,
}

impl StopReason {
    /// A reason and its spelling.
    pub fn new(kind: StopKind, raw: impl Into<String>) -> Self {
        Self { kind, raw: raw.into() }
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.raw.is_empty() { "none" } else { &self.raw })
    }
}

/// Tokens, as far as the provider counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Usage {
    /// Tokens read, those from a cache included.
    pub input_tokens: u64,
    /// Tokens written, reasoning included.
    pub output_tokens: u64,
    /// Of the tokens read, those that came from a cache.
    pub cache_read_tokens: u64,
    /// Of the tokens read, those put into a cache.
    pub cache_write_tokens: u64,
    /// Of the tokens written, those of reasoning.
    pub reasoning_tokens: u64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        add(&mut self.input_tokens, other.input_tokens);
        add(&mut self.output_tokens, other.output_tokens);
        add(&mut self.cache_read_tokens, other.cache_read_tokens);
        add(&mut self.cache_write_tokens, other.cache_write_tokens);
        add(&mut self.reasoning_tokens, other.reasoning_tokens);
    }
}

/// One parsed model message.
///
/// Made by [`Wire::parse`], or by [`Turn::from_calls`] for callers who parse messages themselves.
/// Reading and writing messages needs the feature `wire`, which is on by default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    calls: Vec<ToolCall>,
    text: String,
    stop: StopReason,
    usage: Usage,
    wire: Wire,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    container: Option<String>,
}

impl Turn {
    /// A turn of calls that were parsed elsewhere, whose model waits for their results; of no calls,
    /// one whose model is done. [`reply`](Self::reply) writes it in the format of OpenAI Chat unless
    /// [`for_wire`](Self::for_wire) says otherwise.
    pub fn from_calls(calls: impl IntoIterator<Item = ToolCall>) -> Self {
        Self::of(calls.into_iter().collect())
    }

    fn of(mut calls: Vec<ToolCall>) -> Self {
        for (element, call) in calls.iter_mut().enumerate() {
            if call.element() != element {
                *call = call.clone().at_element(element);
            }
        }
        let stop = if calls.is_empty() { StopKind::EndTurn } else { StopKind::ToolUse };
        Self {
            calls,
            text: String::new(),
            stop: StopReason::new(stop, ""),
            usage: Usage::default(),
            wire: Wire::OpenAi,
            message: None,
            container: None,
        }
    }

    /// The same turn, to be written in another format. The message as it came is kept only where
    /// it is of that format.
    #[must_use]
    pub fn for_wire(mut self, wire: Wire) -> Self {
        if wire != self.wire {
            self.message = None;
            self.container = None;
        }
        self.wire = wire;
        self
    }

    /// A turn as a wire read it. `message` is the part of the body that goes back into the
    /// conversation, as it came.
    #[cfg(feature = "wire")]
    pub(crate) fn parsed(
        wire: Wire,
        message: Json,
        calls: Vec<ToolCall>,
        text: String,
        stop: StopReason,
        usage: Usage,
    ) -> Self {
        Self { calls, text, stop, usage, wire, message: Some(message), container: None }
    }

    #[cfg(feature = "wire")]
    pub(crate) fn in_container(mut self, id: Option<String>) -> Self {
        self.container = id;
        self
    }

    /// The calls, in the order the model wrote them.
    pub fn calls(&self) -> &[ToolCall] {
        &self.calls
    }

    /// What the model said beside its calls; thinking isn't among it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Why the model stopped.
    pub fn stop(&self) -> &StopReason {
        &self.stop
    }

    /// The tokens it took.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// The format it came in, and that [`reply`](Self::reply) writes.
    pub fn wire(&self) -> Wire {
        self.wire
    }

    /// The message as it came, byte for byte; nothing for a turn made from calls.
    ///
    /// Its shape is the format's: Anthropic, OpenAI Chat, Gemini (content), Bedrock, Cohere and
    /// Ollama one message object, OpenAI Responses an array of output items.
    pub fn message(&self) -> Option<&Json> {
        self.message.as_ref()
    }

    /// The container that the provider ran code of the model's in (Anthropic). The next request has
    /// to name it while calls of that code wait for results.
    pub fn container(&self) -> Option<&str> {
        self.container.as_deref()
    }
}
