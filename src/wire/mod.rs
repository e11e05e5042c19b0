//! The providers' message formats, both ways: a response body becomes a [`Turn`], a
//! [`Report`] becomes the messages of the next request, a [`ToolSet`] its tool definitions.
//!
//! No I/O here and no executor: bytes in, bytes out. One file a format; each has the same three
//! functions, which [`Wire`] chooses from.
//!
//! Needs the feature `wire`, which is on by default.
//!
//! # A loop of one's own
//!
//! [`Wire::request`] writes the whole body that an HTTP client posts, of a [`Prompt`] and the
//! [`Parameters`]. What the client gets is parsed and run, and the reply goes into the next request.
//!
//! ```
//! use toolpool::wire::{Parameters, Prompt};
//! use toolpool::{Executor, Tool, ToolSet, Wire};
//!
//! /// `post` is the HTTP client: it sends a body to the provider and gives what came back.
//! fn ask(
//!     question: &str,
//!     mut post: impl FnMut(&str) -> Result<String, Box<dyn std::error::Error>>,
//! ) -> Result<String, Box<dyn std::error::Error>> {
//!     let wire = Wire::OpenAi;
//!     let tools = ToolSet::new().with(Tool::new("now", "The time", || Ok("12:00")).read_only());
//!     let executor = Executor::new(tools)?;
//!     let mut messages = vec![wire.user_message(question)];
//!     for _ in 0..10 {
//!         let mut prompt = Prompt::new(&messages);
//!         prompt.system = "Be brief.";
//!         prompt.tools = executor.tools().clone();
//!         let body = wire.request(&prompt, &Parameters::new("gpt-5"));
//!         let turn = wire.parse(&post(body.as_str())?)?;
//!         if turn.calls().is_empty() {
//!             return Ok(turn.text().to_owned());
//!         }
//!         let report = executor.run(&turn);
//!         messages.extend(turn.reply(&report)); // the model's message and the results
//!     }
//!     Err("no answer after ten turns".into())
//! }
//!
//! let mut sent = Vec::new();
//! let answer = ask("What time is it?", |body| {
//!     sent.push(body.to_owned());
//!     Ok(match sent.len() {
//!         1 => r#"{"choices": [{"finish_reason": "tool_calls", "message": {"role": "assistant",
//!             "tool_calls": [{"id": "1", "type": "function",
//!                 "function": {"name": "now", "arguments": "{}"}}]}}]}"#,
//!         _ => r#"{"choices": [{"finish_reason": "stop", "message": {"content": "It is noon."}}]}"#,
//!     }.to_owned())
//! })?;
//! assert_eq!(answer, "It is noon.");
//! assert!(sent[0].contains(r#"{"role":"user","content":"What time is it?"}"#));
//! assert!(sent[1].contains(r#"{"role":"tool","tool_call_id":"1","content":"12:00"}"#));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answers;
mod anthropic;
#[cfg(feature = "agent")]
mod balance;
mod bedrock;
mod call_element;
mod cohere;
mod content;
mod detect;
mod echo;
mod failure;
mod fields;
mod gemini;
mod ids;
mod media;
mod multi_tool_use;
mod ollama;
mod openai;
mod openai_responses;
mod raw;
mod request;
mod stop;
mod stream;
mod surrogates;
mod texts;
mod tool_calls;

#[cfg(feature = "agent")]
pub(crate) use balance::fault;
#[cfg(feature = "http")]
pub(crate) use failure::{SHOWN, providers_words};
pub use request::{Parameters, Prompt, ToolChoice};
pub use stream::{Assembler, StreamEvent};

use std::borrow::Cow;

use log::Level;
use serde_json::Value;

use crate::error::Error;
use crate::json::Json;
use crate::logging::log;
use crate::report::Report;
use crate::tool::ToolSet;
use crate::turn::{Turn, Wire};

/// A response body: bytes, text or a parsed value.
#[derive(Debug)]
pub struct Body<'a>(Cow<'a, [u8]>);

impl<'a> From<&'a [u8]> for Body<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self(bytes.into())
    }
}

impl<'a> From<&'a Vec<u8>> for Body<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Body<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Self(bytes.as_slice().into())
    }
}

impl<'a> From<&'a str> for Body<'a> {
    fn from(text: &'a str) -> Self {
        Self(text.as_bytes().into())
    }
}

impl<'a> From<&'a String> for Body<'a> {
    fn from(text: &'a String) -> Self {
        Self(text.as_bytes().into())
    }
}

impl From<&Value> for Body<'_> {
    fn from(value: &Value) -> Self {
        Self(value.to_string().into_bytes().into())
    }
}

/// What goes back into the conversation after a turn.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    /// The echoed message (one or several), then the results.
    pub(crate) messages: Vec<Json>,
    /// What of the echoed message had to be changed.
    pub(crate) repairs: Vec<Repair>,
}

/// A change made to the echoed copy of the model's message, because the provider would refuse it
/// as it came. The original stays in the [`Turn`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repair {
    /// The call's index in the turn; nothing where the change is to no call.
    pub index: Option<usize>,
    /// What was changed, for a log.
    pub what: String,
}

impl Wire {
    /// Reads a response body.
    ///
    /// Unknown keys and values are passed over. A bad call, such as one without a name or with
    /// arguments that can't be read, is a call of the turn that won't run, not an error.
    ///
    /// # Errors
    /// A body that isn't a message of this format: no JSON, or something else where the format has
    /// the message, its content or its list of calls. The error names the place and quotes at most
    /// 80 characters, of what stands there or of the start, and says so where the body looks like
    /// another format's. Where it is an error of the provider, it is the provider's own message.
    ///
    /// ```
    /// use toolpool::Wire;
    ///
    /// let error = Wire::Anthropic.parse(r#"{"content": 5}"#).unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "anthropic body is no message: expected a list at content, found: 5"
    /// );
    /// ```
    pub fn parse<'a>(self, body: impl Into<Body<'a>>) -> Result<Turn, Error> {
        let body = body.into();
        let text = std::str::from_utf8(&body.0)
            .map_err(|error| Error::input(format_args!("{self} body is not UTF-8: {error}")))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let turn = match self {
            Self::Anthropic => anthropic::parse(text),
            Self::OpenAi => openai::parse(text),
            Self::OpenAiResponses => openai_responses::parse(text),
            Self::Gemini => gemini::parse(text),
            Self::Bedrock => bedrock::parse(text),
            Self::Cohere => cohere::parse(text),
            Self::Ollama => ollama::parse(text),
        };
        turn.map_err(|failure| failure.error(self, text))
    }

    /// The tool definitions, in the set's order: the value of the request's `tools`
    /// (Bedrock: of `toolConfig`).
    ///
    /// Schemas are told in words that all servers read and pass on to the model: `true` as `{}`, a
    /// `const` and a choice between described texts as an `enum`, a list of anything with its `items`.
    /// What they allow stays the same. Anthropic and OpenAI refuse a schema whose root is a choice (`oneOf`, `anyOf`, `allOf`), as that
    /// of a struct with a flattened enum is. In all formats but Gemini's it is told as an object with
    /// the properties of all choices, of which those are required that every choice requires; the
    /// arguments that come are judged by the schema itself and by decoding.
    pub fn tools(self, tools: &ToolSet) -> Json {
        match self {
            Self::Anthropic => anthropic::tools(tools),
            Self::OpenAi => openai::tools(tools),
            Self::OpenAiResponses => openai_responses::tools(tools),
            Self::Gemini => gemini::tools(tools),
            Self::Bedrock => bedrock::tools(tools),
            Self::Cohere => cohere::tools(tools),
            Self::Ollama => ollama::tools(tools),
        }
    }

    fn reply(self, turn: &Turn, report: &Report) -> Reply {
        let mut reply = match self {
            Self::Anthropic => anthropic::reply(turn, report),
            Self::OpenAi => openai::reply(turn, report),
            Self::OpenAiResponses => openai_responses::reply(turn, report),
            Self::Gemini => gemini::reply(turn, report),
            Self::Bedrock => bedrock::reply(turn, report),
            Self::Cohere => cohere::reply(turn, report),
            Self::Ollama => ollama::reply(turn, report),
        };
        surrogates::mend(&mut reply);
        reply
    }
}

impl Turn {
    /// The messages that go into the conversation after this turn: the model's message as it
    /// came, then the results in call order, failures included, in the shape the provider wants.
    ///
    /// Where the provider would refuse the message as it came, its echoed copy is repaired as
    /// little as possible; [`repairs`](Self::repairs) tells where. A call that isn't in the report at
    /// its place, as in the report of another turn, is told that there is no result, and that is
    /// logged as an error.
    pub fn reply(&self, report: &Report) -> Vec<Json> {
        let answered = self.calls().iter().zip(report.calls());
        let count = answered.filter(|(call, report)| report.is_of(call)).count();
        if count < self.calls().len() {
            let missing = self.calls().len() - count;
            log(
                Level::Error,
                format_args!("the report is of another turn: it has no result for {missing} calls"),
            );
        }
        self.wire().reply(self, report).messages
    }

    /// Whether a call waits for its result: all that code in the provider's sandbox made may be
    /// answered within the message.
    #[cfg(feature = "agent")]
    pub(crate) fn awaits_results(&self) -> bool {
        match self.message() {
            Some(message) if self.wire() == Wire::Anthropic && !self.calls().is_empty() => {
                fault(self.wire(), std::slice::from_ref(message)).is_some()
            }
            _ => !self.calls().is_empty(),
        }
    }

    /// What [`reply`](Self::reply) changes of the model's message, empty as a rule.
    pub fn repairs(&self, report: &Report) -> Vec<Repair> {
        self.wire().reply(self, report).repairs
    }
}
