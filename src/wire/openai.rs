//! OpenAI Chat Completions and the many servers that are compatible with it, more or less.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::call::ToolCall;
use crate::error::Error;
use crate::json::Json;
use crate::report::Report;
use crate::tool::ToolSet;
use crate::turn::{StopKind, StopReason, Turn, Usage, Wire};
use crate::wire::call_element::{arguments, call, free_text};
use crate::wire::failure::{no_message, unreadable};
use crate::wire::{Reply, lenient, multi_tool_use};

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::list")]
    choices: Vec<Option<Choice<'a>>>,
    #[serde(default, deserialize_with = "lenient::object")]
    usage: Option<Tokens>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    finish_reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::content")]
    content: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    refusal: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::list")]
    tool_calls: Vec<Option<Element<'a>>>,
    #[serde(borrow, default, deserialize_with = "lenient::object")]
    function_call: Option<Function<'a>>,
}

#[derive(Deserialize)]
struct Element<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::object")]
    function: Option<Function<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient::object")]
    custom: Option<Custom<'a>>,
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Custom<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    input: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Tokens {
    #[serde(default, deserialize_with = "lenient::count")]
    prompt_tokens: Option<u64>,
    #[serde(default, deserialize_with = "lenient::count")]
    completion_tokens: Option<u64>,
    #[serde(default, deserialize_with = "lenient::count")]
    total_tokens: Option<u64>,
    #[serde(default, deserialize_with = "lenient::object")]
    prompt_tokens_details: Option<TokenDetails>,
    #[serde(default, deserialize_with = "lenient::object")]
    completion_tokens_details: Option<TokenDetails>,
    #[serde(default, deserialize_with = "lenient::count")]
    prompt_cache_hit_tokens: Option<u64>,
    #[serde(default, deserialize_with = "lenient::count")]
    cache_creation_input_tokens: Option<u64>,
}

#[derive(Deserialize, Default)]
pub(super) struct TokenDetails {
    #[serde(default, deserialize_with = "lenient::count")]
    pub(super) cached_tokens: Option<u64>,
    #[serde(default, deserialize_with = "lenient::count")]
    pub(super) cache_write_tokens: Option<u64>,
    #[serde(default, deserialize_with = "lenient::count")]
    pub(super) reasoning_tokens: Option<u64>,
}

pub(super) fn parse(body: &str) -> Result<Turn, Error> {
    let read: Body<'_> =
        serde_json::from_str(body).map_err(|error| unreadable(Wire::OpenAi, &error))?;
    let Some(choice) = read.choices.into_iter().next().flatten() else {
        return Err(no_message(Wire::OpenAi, body, "no choices"));
    };
    let Some(raw) = choice.message else {
        return Err(no_message(Wire::OpenAi, body, "no choices[0].message"));
    };
    let Ok(message) = serde_json::from_str::<Message<'_>>(raw.get()) else {
        return Err(no_message(Wire::OpenAi, body, "choices[0].message is no object"));
    };
    let stop = stop(choice.finish_reason.as_deref(), message.refusal.as_deref());
    let text = match (message.content.as_deref(), &message.refusal) {
        (None | Some(""), Some(refusal)) => refusal.clone().into_owned(),
        (content, _) => content.unwrap_or_default().to_owned(),
    };
    Ok(Turn::parsed(
        Wire::OpenAi,
        Json::from_raw(raw),
        calls(&message, &stop),
        text,
        stop,
        read.usage.map(Usage::from).unwrap_or_default(),
    ))
}

fn calls(message: &Message<'_>, stop: &StopReason) -> Vec<ToolCall> {
    let mut calls = Vec::with_capacity(message.tool_calls.len());
    for (at, element) in message.tool_calls.iter().enumerate() {
        if let Some(call) = element.as_ref().and_then(|element| element.call(stop)) {
            multi_tool_use::unpack(call.at_element(at), &mut calls);
        }
    }
    if calls.is_empty()
        && let Some(legacy) = &message.function_call
        && let Some(name) = legacy.name.as_deref().filter(|name| !name.is_empty())
    {
        calls.push(call(None, name, arguments(legacy.arguments), stop));
    }
    calls
}

impl Element<'_> {
    /// The call of the element; nothing where neither a function nor a custom tool is named, as
    /// Snowflake sends them.
    fn call(&self, stop: &StopReason) -> Option<ToolCall> {
        let id = self.id.as_deref();
        if let Some(custom) = &self.custom
            && let Some(name) = custom.name.as_deref().filter(|name| !name.is_empty())
        {
            return Some(free_text(id, name, custom.input.as_deref().unwrap_or_default(), stop));
        }
        let function = self.function.as_ref()?;
        let name = function.name.as_deref().unwrap_or_default();
        Some(call(id, name, arguments(function.arguments), stop))
    }
}

fn stop(raw: Option<&str>, refusal: Option<&str>) -> StopReason {
    let raw = raw.unwrap_or_default();
    let kind = match raw {
        "tool_calls" | "function_call" | "tool_use" => StopKind::ToolUse,
        _ if refusal.is_some_and(|refusal| !refusal.is_empty()) => StopKind::Refusal,
        "stop" | "end_turn" | "eos" | "eos_token" => StopKind::EndTurn,
        "stop_sequence" => StopKind::StopSequence,
        "length" | "max_tokens" | "MAX_TOKENS" => StopKind::MaxTokens,
        "model_length" => StopKind::ContextExceeded,
        "content_filter" => StopKind::ContentFilter,
        "refusal" => StopKind::Refusal,
        "error" => StopKind::Failed,
        "" => StopKind::Missing,
        _ => StopKind::Unknown,
    };
    StopReason::new(kind, raw)
}

impl From<Tokens> for Usage {
    fn from(tokens: Tokens) -> Self {
        let input = tokens.prompt_tokens_details.unwrap_or_default();
        let output = tokens.completion_tokens_details.unwrap_or_default();
        let read = tokens.prompt_tokens.unwrap_or_default();
        let mut written = tokens.completion_tokens.unwrap_or_default();
        let reasoning = output.reasoning_tokens.unwrap_or_default();
        // xAI counts reasoning apart; its total gives that away.
        if tokens.total_tokens == Some(read + written + reasoning) {
            written += reasoning;
        }
        Self {
            input_tokens: read,
            output_tokens: written,
            cache_read_tokens: input
                .cached_tokens
                .or(tokens.prompt_cache_hit_tokens)
                .unwrap_or_default(),
            cache_write_tokens: input
                .cache_write_tokens
                .or(tokens.cache_creation_input_tokens)
                .unwrap_or_default(),
            reasoning_tokens: reasoning,
        }
    }
}

pub(super) fn tools(_tools: &ToolSet) -> Json {
    Json::from_value(&serde_json::json!([]))
}

pub(super) fn reply(_turn: &Turn, _report: &Report) -> Reply {
    Reply::default()
}
