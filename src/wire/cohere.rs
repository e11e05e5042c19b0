//! Cohere v2 chat.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::call::ToolCall;
use crate::error::Error;
use crate::json::Json;
use crate::report::Report;
use crate::tool::ToolSet;
use crate::turn::{StopKind, StopReason, Turn, Usage, Wire};
use crate::wire::call_element::{arguments, call};
use crate::wire::failure::{no_message, unreadable};
use crate::wire::{Reply, lenient};

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    finish_reason: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "lenient::object")]
    usage: Option<Tokens>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::content")]
    content: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    tool_plan: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::list")]
    tool_calls: Vec<Option<Element<'a>>>,
}

#[derive(Deserialize)]
struct Element<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::object")]
    function: Option<Function<'a>>,
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Tokens {
    #[serde(default, deserialize_with = "lenient::object")]
    tokens: Option<Counts>,
    #[serde(default, deserialize_with = "lenient::object")]
    billed_units: Option<Counts>,
    #[serde(default, deserialize_with = "lenient::count")]
    cached_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Counts {
    #[serde(default, deserialize_with = "lenient::count")]
    input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "lenient::count")]
    output_tokens: Option<u64>,
}

pub(super) fn parse(body: &str) -> Result<Turn, Error> {
    let read: Body<'_> =
        serde_json::from_str(body).map_err(|error| unreadable(Wire::Cohere, &error))?;
    let Some(raw) = read.message else { return Err(no_message(Wire::Cohere, body, "no message")) };
    let Ok(message) = serde_json::from_str::<Message<'_>>(raw.get()) else {
        return Err(no_message(Wire::Cohere, body, "message is no object"));
    };
    let stop = stop(read.finish_reason.as_deref());
    let calls = message.tool_calls.iter().enumerate().filter_map(|(at, element)| {
        let element = element.as_ref()?;
        let function = element.function.as_ref()?;
        let name = function.name.as_deref().unwrap_or_default();
        let call = call(element.id.as_deref(), name, arguments(function.arguments), &stop);
        Some(call.at_element(at))
    });
    let calls: Vec<ToolCall> = calls.collect();
    let mut text = message.tool_plan.unwrap_or_default().into_owned();
    text += message.content.as_deref().unwrap_or_default();
    let usage = read.usage.map(Usage::from).unwrap_or_default();
    Ok(Turn::parsed(Wire::Cohere, Json::from_raw(raw), calls, text, stop, usage))
}

fn stop(raw: Option<&str>) -> StopReason {
    let raw = raw.unwrap_or_default();
    let kind = match raw {
        "TOOL_CALL" => StopKind::ToolUse,
        "COMPLETE" => StopKind::EndTurn,
        "STOP_SEQUENCE" => StopKind::StopSequence,
        "MAX_TOKENS" => StopKind::MaxTokens,
        "ERROR_LIMIT" => StopKind::ContextExceeded,
        "ERROR_TOXIC" => StopKind::ContentFilter,
        "ERROR" | "TIMEOUT" | "USER_CANCEL" => StopKind::Failed,
        "" => StopKind::Missing,
        _ => StopKind::Unknown,
    };
    StopReason::new(kind, raw)
}

impl From<Tokens> for Usage {
    fn from(usage: Tokens) -> Self {
        let counts = usage.tokens.or(usage.billed_units);
        let (input, output) =
            counts.map_or((None, None), |counts| (counts.input_tokens, counts.output_tokens));
        Self {
            input_tokens: input.unwrap_or_default(),
            output_tokens: output.unwrap_or_default(),
            cache_read_tokens: usage.cached_tokens.unwrap_or_default(),
            ..Self::default()
        }
    }
}

pub(super) fn tools(_tools: &ToolSet) -> Json {
    Json::from_value(&serde_json::json!([]))
}

pub(super) fn reply(_turn: &Turn, _report: &Report) -> Reply {
    Reply::default()
}
