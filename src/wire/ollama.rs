//! Ollama `/api/chat`.
//!
//! Calls may have no ids: results go by order and name. Images of a result go with it; what the
//! model sees of them is up to its template.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::Error;
use crate::json::Json;
use crate::output::{Block, Output};
use crate::report::Report;
use crate::tool::ToolSet;
use crate::turn::{StopKind, StopReason, Turn, Usage, Wire};
use crate::wire::answers::answers;
use crate::wire::failure::{no_message, unreadable};
use crate::wire::ids;
use crate::wire::raw;
use crate::wire::tool_calls::{self, Dialect, Echo, Element};
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

pub(super) fn parse(body: &str) -> Result<Turn, Error> {
    let read: Body<'_> =
        serde_json::from_str(body).map_err(|error| unreadable(Wire::Ollama, &error))?;
    let Some(raw) = read.message else { return Err(no_message(Wire::Ollama, body, "no message")) };
    let Ok(message) = serde_json::from_str::<Message<'_>>(raw.get()) else {
        return Err(no_message(Wire::Ollama, body, "message is no object"));
    };
    let stop = stop(read.done_reason.as_deref());
    let calls = tool_calls::calls(&message.tool_calls, &stop);
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

const DIALECT: Dialect = Dialect { ids: None, strings: false, custom: false };

/// Definitions are spelled as OpenAI's.
pub(super) fn tools(tools: &ToolSet) -> Json {
    tool_calls::definitions(tools, DIALECT)
}

pub(super) fn reply(turn: &Turn, report: &Report) -> Reply {
    let answers = answers(turn, report);
    let Echo { message, ids, repairs } = tool_calls::echo(turn, &answers, DIALECT);
    let echoed = match turn.message() {
        Some(as_it_came) if repairs.is_empty() => as_it_came.clone(),
        _ => raw::json(&message),
    };
    let results = answers.iter().zip(&ids).map(|(answer, id)| {
        let images = match &answer.output {
            Output::Blocks { blocks } => blocks.iter().filter_map(image).collect(),
            _ => Vec::new(),
        };
        raw::json(&ToolMessage {
            role: "tool",
            tool_name: ids::name(answer.call.name(), tool_calls::NAME_LIMIT),
            tool_call_id: id,
            content: answer.text(),
            images,
        })
    });
    Reply { messages: [echoed].into_iter().chain(results).collect(), repairs }
}

fn image(block: &Block) -> Option<&str> {
    match block {
        Block::Image { base64, .. } => Some(base64),
        _ => None,
    }
}

#[derive(Serialize)]
struct ToolMessage<'a> {
    role: &'static str,
    tool_name: Cow<'a, str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    tool_call_id: &'a str,
    content: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<&'a str>,
}
