//! Request bodies: what is asked and how, written in a provider's format.
//!
//! Pure text, the same bytes for the same prompt each time, because prompt caches hang on bytes:
//! messages go in as they are, keys stand in a fixed order, tools in the set's order. No key, no
//! header, no address: those are the client's.

mod anthropic;
mod bedrock;
mod cohere;
mod gemini;
mod ollama;
mod openai;
mod openai_responses;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::json::Json;
use crate::tool::ToolSet;
use crate::turn::Wire;
use crate::wire::raw::{self, RawObject};

/// What a model is asked.
///
/// `messages` are in the wire's own shape: what [`Turn::reply`](crate::Turn::reply) gave and what
/// [`Wire::user_message`] makes.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Prompt<'a> {
    /// The system prompt; empty for none.
    pub system: &'a str,
    /// The conversation so far.
    pub messages: &'a [Json],
    /// The tools the model may call.
    pub tools: ToolSet,
    /// Whether it must call one. Defaults to what it finds best.
    pub choice: ToolChoice,
    /// Whether it may call several in one turn; nothing for the provider's default, which is yes.
    /// Gemini, Bedrock, Cohere and Ollama have no switch for it.
    pub parallel: Option<bool>,
    /// The container of the latest turn that [has one](crate::Turn::container). Anthropic alone is
    /// told.
    pub container: Option<&'a str>,
}

impl<'a> Prompt<'a> {
    /// A prompt of messages alone.
    pub fn new(messages: &'a [Json]) -> Self {
        Self { messages, ..Self::default() }
    }
}

/// Whether the model must call a tool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ToolChoice {
    /// As the model finds best.
    #[default]
    Auto,
    /// At least one. Ollama has no way to say it.
    Required,
    /// This one. Cohere and Ollama have no way to say it; Cohere is told "at least one".
    Tool(String),
    /// None, though they stay declared. Bedrock and Gemini's caches aside, this doesn't change the
    /// prompt; Bedrock has no way to say it, and Ollama gets no tools.
    None,
}

/// How a model is asked: its name and the limits and switches that stay the same from turn to
/// turn.
///
/// ```
/// use toolpool::wire::Parameters;
///
/// let mut parameters = Parameters::new("gpt-5");
/// parameters.max_tokens = Some(1_000);
/// parameters.stream = true;
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Parameters<'a> {
    /// The model's name.
    pub model: &'a str,
    /// Most tokens of the answer; nothing for the provider's default (Anthropic, which has none,
    /// gets 8192).
    pub max_tokens: Option<u64>,
    /// How free the choice of words is, from 0; nothing for the provider's default.
    pub temperature: Option<f64>,
    /// How much the model reasons, as the provider spells it: `low`, `medium`, `high` …; nothing
    /// for the provider's default.
    pub effort: Option<&'a str>,
    /// Whether the tools and the system prompt are marked for the prompt cache, where the
    /// provider wants that asked for (Anthropic, and its and Amazon's models on Bedrock). Defaults
    /// to no.
    pub cache: bool,
    /// Whether the answer is to be streamed. Defaults to no. Bedrock and Gemini are told so by the
    /// request's address.
    pub stream: bool,
    /// Whether an OpenAI Chat server is one of the compatible ones, which know `max_tokens` and
    /// not `max_completion_tokens`. Defaults to no.
    pub compatible: bool,
    /// An object merged into the body at the end: objects into objects, everything else in the
    /// place of what was there, `null` to take a key out. Defaults to nothing; what is no object
    /// isn't merged.
    pub extra: Option<&'a Json>,
}

impl<'a> Parameters<'a> {
    /// The model's name alone.
    pub fn new(model: &'a str) -> Self {
        Self { model, ..Self::default() }
    }
}

impl Wire {
    /// The body of a request.
    ///
    /// ```
    /// use toolpool::Wire;
    /// use toolpool::wire::{Prompt, Parameters};
    ///
    /// let messages = [Wire::OpenAi.user_message("What time is it?")];
    /// let body = Wire::OpenAi.request(&Prompt::new(&messages), &Parameters::new("gpt-5"));
    /// assert_eq!(
    ///     body.as_str(),
    ///     r#"{"model":"gpt-5","messages":[{"role":"user","content":"What time is it?"}]}"#
    /// );
    /// ```
    pub fn request(self, prompt: &Prompt<'_>, parameters: &Parameters<'_>) -> Json {
        let mut body = match self {
            Self::Anthropic => anthropic::body(prompt, parameters),
            Self::OpenAi => openai::body(prompt, parameters),
            Self::OpenAiResponses => openai_responses::body(prompt, parameters),
            Self::Gemini => gemini::body(prompt, parameters),
            Self::Bedrock => bedrock::body(prompt, parameters),
            Self::Cohere => cohere::body(prompt, parameters),
            Self::Ollama => ollama::body(prompt, parameters),
        };
        if let Some(extra) = parameters.extra.and_then(|extra| RawObject::read(extra.as_str())) {
            body = merged(body, &extra);
        }
        raw::json(&body)
    }

    /// What the user says, as a message of the conversation.
    pub fn user_message(self, text: &str) -> Json {
        #[derive(Serialize)]
        struct Message<T> {
            role: &'static str,
            content: T,
        }
        #[derive(Serialize)]
        struct Content<'a> {
            role: &'static str,
            parts: [Text<'a>; 1],
        }
        let role = "user";
        match self {
            Self::Gemini => raw::json(&Content { role, parts: [Text { text }] }),
            Self::Bedrock => raw::json(&Message { role, content: [Text { text }] }),
            _ => raw::json(&Message { role, content: text }),
        }
    }

    /// `last` with what the user says at its end, where a message of its own would be refused,
    /// because roles must take turns; nothing elsewhere, or where `last` isn't the user's.
    #[cfg(feature = "agent")]
    pub(crate) fn with_user_text(self, last: &Json, text: &str) -> Option<Json> {
        let mut last = RawObject::read(last.as_str()).filter(|_| self == Self::Bedrock)?;
        let content = last.get("content").filter(|content| content.get().starts_with('['))?;
        if last.text("role").as_deref() != Some("user") {
            return None;
        }
        let text = raw::json(&Text { text });
        let old = raw::array(content.get()).into_iter().map(Json::from_raw);
        let content: Vec<_> = old.chain([text]).collect();
        last.set("content", &content);
        Some(raw::json(&last))
    }
}

/// A text as a block, as Gemini and Bedrock have it.
#[derive(Serialize)]
struct Text<'a> {
    text: &'a str,
}

/// The messages behind a message with the system prompt.
fn with_system(prompt: &Prompt<'_>) -> Vec<Json> {
    #[derive(Serialize)]
    struct System<'a> {
        role: &'static str,
        content: &'a str,
    }
    let system = (!prompt.system.is_empty())
        .then(|| raw::json(&System { role: "system", content: prompt.system }));
    system.into_iter().chain(prompt.messages.iter().cloned()).collect()
}

/// Puts `value` in, if there is one.
fn set_some<'a>(body: &mut RawObject<'a>, key: &'a str, value: Option<impl Serialize>) {
    if let Some(value) = value {
        body.set(key, &value);
    }
}

/// `extra` merged into `body`: objects into objects, `null` takes a key out.
fn merged(body: RawObject<'_>, extra: &RawObject<'_>) -> RawObject<'static> {
    let mut body = body.into_owned();
    for (key, value) in extra.entries() {
        if value.get() == "null" {
            body.remove(key);
            continue;
        }
        let inner = body.get(key).and_then(|old| RawObject::read(old.get()));
        let inner = inner.zip(RawObject::read(value.get()));
        let value: Box<RawValue> = match inner {
            Some((old, new)) => match serde_json::value::to_raw_value(&merged(old, &new)) {
                Ok(value) => value,
                Err(_) => continue,
            },
            None => value.to_owned(),
        };
        body.put(Cow::Owned(key.to_owned()), value);
    }
    body
}
