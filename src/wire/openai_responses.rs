//! OpenAI Responses, also as xAI, DeepSeek and others speak it.

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
use crate::wire::openai::TokenDetails;
use crate::wire::{Reply, lenient, multi_tool_use};

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    output: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    status: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::object")]
    incomplete_details: Option<Incomplete<'a>>,
    #[serde(default, deserialize_with = "lenient::object")]
    usage: Option<Tokens>,
}

#[derive(Deserialize)]
struct Incomplete<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Output<'a>(#[serde(borrow, deserialize_with = "lenient::list")] Vec<Option<Item<'a>>>);

#[derive(Deserialize)]
pub(super) struct Item<'a> {
    #[serde(rename = "type", borrow, default, deserialize_with = "lenient::text")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    call_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    namespace: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    status: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    refusal: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Parts<'a>(#[serde(borrow, deserialize_with = "lenient::list")] Vec<Option<Part<'a>>>);

#[derive(Deserialize)]
struct Tokens {
    #[serde(default, deserialize_with = "lenient::count")]
    input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "lenient::count")]
    output_tokens: Option<u64>,
    #[serde(default, deserialize_with = "lenient::object")]
    input_tokens_details: Option<TokenDetails>,
    #[serde(default, deserialize_with = "lenient::object")]
    output_tokens_details: Option<TokenDetails>,
}

/// Which of the two kinds of call that are ours an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Function,
    Custom,
}

pub(super) fn parse(body: &str) -> Result<Turn, Error> {
    let read: Body<'_> =
        serde_json::from_str(body).map_err(|error| unreadable(Wire::OpenAiResponses, &error))?;
    let output = read.output.filter(|output| output.get().starts_with('['));
    let Some(raw) = output else {
        return Err(no_message(Wire::OpenAiResponses, body, "no output"));
    };
    let items = serde_json::from_str::<Output<'_>>(raw.get())
        .map_err(|error| unreadable(Wire::OpenAiResponses, &error))?
        .0;

    let mut text = String::new();
    let mut refused = false;
    for item in items.iter().flatten().filter(|item| item.kind.as_deref() == Some("message")) {
        let parts =
            item.content.and_then(|content| serde_json::from_str::<Parts<'_>>(content.get()).ok());
        for part in parts.into_iter().flat_map(|parts| parts.0).flatten() {
            refused |= part.refusal.as_deref().is_some_and(|refusal| !refusal.is_empty());
            text += part.text.or(part.refusal).as_deref().unwrap_or_default();
        }
    }
    let reason = read.incomplete_details.and_then(|details| details.reason);
    let stop = stop(read.status.as_deref(), reason.as_deref(), refused);
    let mut calls = Vec::new();
    let own = items.iter().flatten().filter_map(|item| item.call(&stop));
    for (element, call) in own.enumerate() {
        multi_tool_use::unpack(call.at_element(element), &mut calls);
    }
    let usage = read.usage.map(Usage::from).unwrap_or_default();
    Ok(Turn::parsed(Wire::OpenAiResponses, Json::from_raw(raw), calls, text, stop, usage))
}

impl Item<'_> {
    /// Whether the item is a call that the client answers, with a function's result.
    ///
    /// xAI sends its own searches as custom calls.
    pub(super) fn call_kind(&self) -> Option<Kind> {
        match self.kind.as_deref()? {
            "function_call" => Some(Kind::Function),
            "custom_tool_call" => {
                let servers = self.call_id.as_deref().is_some_and(|id| id.starts_with("xs_call_"));
                (!servers).then_some(Kind::Custom)
            }
            _ => None,
        }
    }

    fn call(&self, stop: &StopReason) -> Option<ToolCall> {
        let kind = self.call_kind()?;
        let own_stop;
        let stop = match self.status.as_deref() {
            Some(status @ ("incomplete" | "in_progress" | "failed")) if !stop.forbids_calls() => {
                own_stop = StopReason::new(StopKind::MaxTokens, status);
                &own_stop
            }
            _ => stop,
        };
        let id = self.call_id.as_deref();
        let name = self.name.as_deref().unwrap_or_default();
        let call = match kind {
            Kind::Function => call(id, name, arguments(self.arguments), stop),
            Kind::Custom => free_text(id, name, &arguments(self.input), stop),
        };
        Some(match self.namespace.as_deref() {
            Some(namespace) => call.in_namespace(namespace),
            None => call,
        })
    }
}

fn stop(status: Option<&str>, reason: Option<&str>, refused: bool) -> StopReason {
    let raw = status.unwrap_or_default();
    match raw {
        "completed" if refused => StopReason::new(StopKind::Refusal, raw),
        "completed" => StopReason::new(StopKind::EndTurn, raw),
        "incomplete" => match reason {
            Some("content_filter") => StopReason::new(StopKind::ContentFilter, raw),
            _ => StopReason::new(StopKind::MaxTokens, raw),
        },
        "failed" | "cancelled" | "in_progress" | "queued" => StopReason::new(StopKind::Failed, raw),
        "" => StopReason::new(StopKind::Missing, raw),
        _ => StopReason::new(StopKind::Unknown, raw),
    }
}

impl From<Tokens> for Usage {
    fn from(tokens: Tokens) -> Self {
        let input = tokens.input_tokens_details.unwrap_or_default();
        let output = tokens.output_tokens_details.unwrap_or_default();
        Self {
            input_tokens: tokens.input_tokens.unwrap_or_default(),
            output_tokens: tokens.output_tokens.unwrap_or_default(),
            cache_read_tokens: input.cached_tokens.unwrap_or_default(),
            cache_write_tokens: input.cache_write_tokens.unwrap_or_default(),
            reasoning_tokens: output.reasoning_tokens.unwrap_or_default(),
        }
    }
}

pub(super) fn tools(_tools: &ToolSet) -> Json {
    Json::from_value(&serde_json::json!([]))
}

pub(super) fn reply(_turn: &Turn, _report: &Report) -> Reply {
    Reply::default()
}
