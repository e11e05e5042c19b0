//! `multi_tool_use.parallel`: a call nobody declared, which some OpenAI models write to make
//! several calls at once. It is unpacked into the calls it holds, and their results are folded
//! back into one for its one id.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::call::{CallState, ToolCall};
use crate::output::Output;
use crate::wire::call_element;
use crate::wire::fields::{self, fields};

/// Its name, and the name our echo gives it because the dot is refused in requests.
const NAMES: [&str; 2] = ["multi_tool_use.parallel", "multi_tool_use_parallel"];

fields! {
    struct Arguments<'a> {
        tool_uses: Vec<Option<ToolUse<'a>>>,
    }

    struct ToolUse<'a> {
        recipient_name: Cow<'a, str>,
        parameters: &'a RawValue,
    }
}

/// Adds `call` to `calls`, or the calls it holds. One that can't be read stays what it is.
pub(super) fn unpack(call: ToolCall, calls: &mut Vec<ToolCall>) {
    let first = calls.len();
    if NAMES.contains(&call.name()) && !matches!(call.state(), CallState::Malformed(_)) {
        let arguments: Option<Arguments<'_>> = fields::parse(call.arguments()).ok().flatten();
        let uses = arguments.and_then(|arguments| arguments.tool_uses).unwrap_or_default();
        calls.extend(uses.into_iter().flatten().map(|each| one(&call, &each)));
    }
    if calls.len() == first {
        calls.push(call);
    }
}

fn one(call: &ToolCall, each: &ToolUse<'_>) -> ToolCall {
    let name = each.recipient_name.as_deref().unwrap_or_default();
    let name = name.strip_prefix("functions.").unwrap_or(name);
    let mut held = ToolCall::new(call.id(), name, call_element::arguments(each.parameters));
    if !call.has_id() {
        held = held.without_id();
    }
    if let Some(reason) = call.withheld_reason() {
        held = held.withheld(reason);
    }
    held.at_element(call.element())
}

/// One result of several that were asked for under one id.
#[derive(Serialize)]
struct Folded<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Content<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Json(&'a RawValue),
    Text(Cow<'a, str>),
}

/// The results of one element's calls as one: a JSON array in call order, each with the tool's
/// name and its `result` or `error`.
pub(super) fn fold<'a>(results: impl Iterator<Item = (&'a str, &'a Output, bool)>) -> Output {
    let folded: Vec<_> = results
        .map(|(name, output, is_error)| {
            let content = match output {
                Output::Json { text } => match serde_json::from_str(text) {
                    Ok(json) => Content::Json(json),
                    Err(_) => Content::Text(text.into()),
                },
                Output::Text { text } => Content::Text(text.into()),
                other => Content::Text(other.to_text().into()),
            };
            let (result, error) =
                if is_error { (None, Some(content)) } else { (Some(content), None) };
            Folded { name, result, error }
        })
        .collect();
    match serde_json::to_string(&folded) {
        Ok(text) => Output::Json { text },
        Err(error) => Output::text(format!("the results can't be written: {error}")),
    }
}
