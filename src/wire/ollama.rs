//! Ollama `/api/chat`.

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
    done_reason: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "lenient::count")]
    prompt_eval_count: Option<u64>,
    #[serde(default, deserialize_with = "lenient::count")]
    eval_count: Option<u64>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    content: Option<Cow<'a, str>>,
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

pub(super) fn parse(body: &str) -> Result<Turn, Error> {
    let read: Body<'_> =
        serde_json::from_str(body).map_err(|error| unreadable(Wire::Ollama, &error))?;
    let Some(raw) = read.message else { return Err(no_message(Wire::Ollama, body, "no message")) };
    let Ok(message) = serde_json::from_str::<Message<'_>>(raw.get()) else {
        return Err(no_message(Wire::Ollama, body, "message is no object"));
    };
    let stop = stop(read.done_reason.as_deref());
    let calls = message.tool_calls.iter().enumerate().filter_map(|(at, element)| {
        let element = element.as_ref()?;
        let function = element.function.as_ref()?;
        let name = function.name.as_deref().unwrap_or_default();
        let call = call(element.id.as_deref(), name, arguments(function.arguments), &stop);
        Some(call.at_element(at))
    });
    let calls: Vec<ToolCall> = calls.collect();
    let text = message.content.unwrap_or_default().into_owned();
    let usage = Usage {
        input_tokens: read.prompt_eval_count.unwrap_or_default(),
        output_tokens: read.eval_count.unwrap_or_default(),
        ..Usage::default()
    };
    Ok(Turn::parsed(Wire::Ollama, Json::from_raw(raw), calls, text, stop, usage))
}

/// Ollama never says that there are calls.
fn stop(raw: Option<&str>) -> StopReason {
    let raw = raw.unwrap_or_default();
    let kind = match raw {
        "stop" => StopKind::EndTurn,
        "length" => StopKind::MaxTokens,
        "load" | "unload" => StopKind::Failed,
        "" => StopKind::Missing,
        _ => StopKind::Unknown,
    };
    StopReason::new(kind, raw)
}

pub(super) fn tools(_tools: &ToolSet) -> Json {
    Json::from_value(&serde_json::json!([]))
}

pub(super) fn reply(_turn: &Turn, _report: &Report) -> Reply {
    Reply::default()
}
