//! Cohere v2 chat.
//!
//! Results are text alone; an image or a document leaves a note in its place.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::json::Json;
use crate::report::Report;
use crate::tool::ToolSet;
use crate::turn::{StopKind, StopReason, Turn, Usage, Wire};
use crate::wire::Reply;
use crate::wire::content;
use crate::wire::failure::{Failure, check_list};
use crate::wire::fields::{self, Given, fields};
use crate::wire::ids::IdRule;
use crate::wire::raw;
use crate::wire::tool_calls::{self, Dialect, Element};

fields! {
    struct Body<'a> {
        message: &'a RawValue,
        finish_reason: Cow<'a, str>,
        usage: Tokens<'a>,
    }

    struct Message<'a> {
        content: &'a RawValue,
        tool_plan: Cow<'a, str>,
        tool_calls: Given<Vec<Option<Element<'a>>>>,
    }

    struct Tokens<'a> {
        tokens: Counts<'a>,
        billed_units: Counts<'a>,
        cached_tokens: u64,
    }

    struct Counts<'a> {
        input_tokens: u64,
        output_tokens: u64,
    }
}

pub(super) fn parse(body: &str) -> Result<Turn, Failure> {
    let no_object = || Failure::misfit("message", "an object");
    let Body { message, finish_reason, usage, .. } = fields::parse(body)?.unwrap_or_default();
    let raw = message.ok_or_else(no_object)?;
    let message = fields::parse::<Message<'_>>(raw.get())?.ok_or_else(no_object)?;
    let elements = message.tool_calls.map(|Given(elements)| elements).unwrap_or_default();
    check_list(&elements, "message.tool_calls")?;
    let stop = stop(finish_reason.as_deref());
    let calls = tool_calls::calls(&elements, &stop);
    let mut text = message.tool_plan.unwrap_or_default().into_owned();
    text += &content::said(message.content, "message.content")?.0;
    let usage = usage.map(Usage::from).unwrap_or_default();
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

impl From<Tokens<'_>> for Usage {
    fn from(usage: Tokens<'_>) -> Self {
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

const DIALECT: Dialect = Dialect {
    ids: Some(IdRule { max: usize::MAX, legal: |c| !c.is_control() }),
    strings: true,
    custom: false,
    plans: true,
};

pub(super) fn tools(tools: &ToolSet) -> Json {
    tool_calls::definitions(tools, DIALECT)
}

pub(super) fn reply(turn: &Turn, report: &Report) -> Reply {
    tool_calls::reply(turn, report, DIALECT, |answer, id| {
        raw::json(&ToolMessage { role: "tool", tool_call_id: id, content: answer.text() })
    })
}

#[derive(Serialize)]
struct ToolMessage<'a> {
    role: &'static str,
    tool_call_id: &'a str,
    content: String,
}
