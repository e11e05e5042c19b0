//! Ollama `/api/chat`.
//!
//! Calls may have no ids: results go by order and name. Images of a result go with it; what the
//! model sees of them is up to its template.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::json::Json;
use crate::output::{Block, Output};
use crate::report::Report;
use crate::tool::ToolSet;
use crate::turn::{StopKind, StopReason, Turn, Usage, Wire};
use crate::wire::Reply;
use crate::wire::failure::{Failure, check_list};
use crate::wire::fields::{self, Given, fields};
use crate::wire::ids;
use crate::wire::media::image_type;
use crate::wire::raw;
use crate::wire::tool_calls::{self, Dialect, Element};

fields! {
    struct Body<'a> {
        message: &'a RawValue,
        done_reason: Cow<'a, str>,
        prompt_eval_count: u64,
        eval_count: u64,
    }

}

#[derive(Default)]
struct Message<'a> {
    content: Option<Cow<'a, str>>,
    tool_calls: Vec<Option<Element<'a>>>,
}

impl<'a> Message<'a> {
    /// The message of a text that was read as JSON; its parts are found without reading them all
    /// again.
    fn read(text: &'a str) -> Result<Self, Failure> {
        let mut message = Self::default();
        for (key, value) in raw::members(text) {
            match &*key {
                "content" => message.content = content(value)?,
                "tool_calls" => {
                    let elements = fields::parse(value)?;
                    message.tool_calls = elements.map(|Given(list)| list).unwrap_or_default();
                    check_list(&message.tool_calls, "message.tool_calls")?;
                }
                _ => {}
            }
        }
        Ok(message)
    }
}

fn content(value: &str) -> Result<Option<Cow<'_, str>>, Failure> {
    match fields::string(value) {
        None if value != "null" => Err(Failure::misfit("message.content", "a text")),
        content => Ok(content),
    }
}

pub(super) fn parse(body: &str) -> Result<Turn, Failure> {
    let read: Body<'_> = fields::parse(body)?.unwrap_or_default();
    let is_object = |message: &&RawValue| message.get().starts_with('{');
    let raw =
        read.message.filter(is_object).ok_or_else(|| Failure::misfit("message", "an object"))?;
    let message = Message::read(raw.get())?;
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
pub(super) fn stop(raw: Option<&str>) -> StopReason {
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

const DIALECT: Dialect = Dialect { ids: None, strings: false, custom: false, plans: false };

/// Definitions are spelled as OpenAI's.
pub(super) fn tools(tools: &ToolSet) -> Json {
    tool_calls::definitions(tools, DIALECT)
}

pub(super) fn reply(turn: &Turn, report: &Report) -> Reply {
    tool_calls::reply(turn, report, DIALECT, |answer, id| {
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
    })
}

/// Ollama refuses a request for an image of a kind that it doesn't know; of those that others do, it
/// has no GIFs.
fn image(block: &Block) -> Option<&str> {
    match block {
        Block::Image { media_type, base64 } => {
            image_type(media_type).is_some_and(|known| known != "image/gif").then_some(base64)
        }
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
