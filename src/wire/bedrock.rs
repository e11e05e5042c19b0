//! Bedrock Converse.
//!
//! The calls are the `toolUse` blocks of the content; those of type `server_tool_use` are the
//! provider's own. Any other type, `tool_use` too, is undocumented and taken for none.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::call::ToolCall;
use crate::json::Json;
use crate::output::{Block as Part, Output};
use crate::report::Report;
use crate::schema;
use crate::tool::ToolSet;
use crate::turn::{StopKind, StopReason, Turn, Usage, Wire};
use crate::wire::Reply;
use crate::wire::answers::{Answer, NO_CONTENT, answers};
use crate::wire::call_element::{arguments, call_unless, whole_call};
use crate::wire::echo::{Echo, Spelling};
use crate::wire::failure::{Failure, check_list};
use crate::wire::fields::{self, Given, fields};
use crate::wire::ids::{self, IdRule};
use crate::wire::media::image_type;
use crate::wire::raw::{self, RawObject};
use crate::wire::texts::joined;
use crate::wire::tool_calls::{NAME_LIMIT, object_text};

const ID: IdRule =
    IdRule { max: 64, legal: |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':') };
/// How many letters and digits of a call's id the names of its documents hold.
const ID_IN_NAME: usize = 12;
const SPELLING: Spelling = Spelling {
    id: "toolUseId",
    name: "name",
    arguments: "input",
    legal_name: |name| ids::name(name, NAME_LIMIT),
    optional: false,
};

fields! {
    struct Body<'a> {
        output: Outer<'a>,
        stop_reason "stopReason": Cow<'a, str>,
        usage: Tokens<'a>,
    }

    struct Outer<'a> {
        message: &'a RawValue,
    }

    struct Came<'a> {
        role: Cow<'a, str>,
        content: &'a RawValue,
    }

    struct Listed<'a> {
        content: Given<Vec<Option<Block<'a>>>>,
    }

    struct Block<'a> {
        text: Cow<'a, str>,
        tool_use "toolUse": Given<ToolUse<'a>>,
        tool_result "toolResult": ToolResult<'a>,
        cited "citationsContent": Cited<'a>,
    }

    struct Cited<'a> {
        content: Vec<Option<CitedText<'a>>>,
    }

    struct CitedText<'a> {
        text: Cow<'a, str>,
    }

    struct ToolUse<'a> {
        kind "type": Cow<'a, str>,
        id "toolUseId": Cow<'a, str>,
        name: Cow<'a, str>,
        input: &'a RawValue,
    }

    struct ToolResult<'a> {
        id "toolUseId": Cow<'a, str>,
    }

    struct Tokens<'a> {
        input "inputTokens": u64,
        output "outputTokens": u64,
        total "totalTokens": u64,
        cache_read "cacheReadInputTokens": u64,
        cache_write "cacheWriteInputTokens": u64,
    }
}

pub(super) fn parse(body: &str) -> Result<Turn, Failure> {
    const CONTENT: &str = "output.message.content";
    let no_list = || Failure::misfit(CONTENT, "a list");
    let read = fields::parse::<Body<'_>>(body)?.unwrap_or_default();
    let message = read.output.and_then(|output| output.message).ok_or_else(no_list)?;
    let blocks = match fields::parse::<Listed<'_>>(message.get()) {
        Ok(listed) => listed.and_then(|listed| listed.content).map(|Given(blocks)| blocks),
        // A number beyond all bounds spoils only the block that it stands in.
        Err(_) => fields::parse::<Came<'_>>(message.get())?
            .and_then(|came| came.content)
            .map(fields::list),
    };
    let blocks = blocks.ok_or_else(no_list)?;
    check_list(&blocks, CONTENT)?;
    let blocks: Vec<_> = blocks.into_iter().map(Option::unwrap_or_default).collect();
    let stop = stop(read.stop_reason.as_deref().unwrap_or_default());
    Ok(Turn::parsed(
        Wire::Bedrock,
        Json::from_raw(message),
        calls(&blocks, &stop),
        joined(blocks.iter().flat_map(Block::texts)),
        stop,
        read.usage.unwrap_or_default().into(),
    ))
}

impl<'a> Block<'a> {
    /// The call, if it is one that waits for the client.
    fn call(&self) -> Option<&ToolUse<'a>> {
        let theirs = |call: &&ToolUse<'_>| call.kind.as_deref() == Some("server_tool_use");
        self.tool_use.as_ref().map(|Given(call)| call).filter(|call| !theirs(call))
    }

    /// Why the provider would refuse a call of its own, if it would; `rest` is the content from
    /// here on.
    fn is_refused(&self, rest: &[Block<'_>], may_stay_open: bool) -> Option<&'static str> {
        let Given(theirs) = self.tool_use.as_ref().filter(|_| self.call().is_none())?;
        let mut results = rest.iter().filter_map(|block| block.tool_result.as_ref());
        let is_cut = theirs.input.is_none_or(|input| !input.get().starts_with('{'));
        match results.any(|result| result.id == theirs.id) {
            true => None,
            false if is_cut => Some("its input was cut off"),
            false => (!may_stay_open).then_some("its result is missing"),
        }
    }

    /// The visible text, in its pieces; nothing for a block of another kind.
    fn texts(&self) -> Vec<Option<&str>> {
        let cited = self.cited.as_ref().and_then(|cited| cited.content.as_ref());
        match cited {
            Some(cited) => cited.iter().flatten().map(|piece| piece.text.as_deref()).collect(),
            None => vec![self.text.as_deref()],
        }
    }
}

fn calls(blocks: &[Block<'_>], stop: &StopReason) -> Vec<ToolCall> {
    let uses = blocks.iter().filter_map(Block::call).enumerate();
    uses.map(|(element, each)| {
        let (id, name) = (each.id.as_deref(), each.name.as_deref());
        call_unless(false, id, name, arguments(each.input), stop).at_element(element)
    })
    .collect()
}

/// The call of a block that is whole, in a message whose stop reason isn't known yet.
pub(super) fn call_of(block: &str, element: usize) -> Option<ToolCall> {
    let block = fields::parse::<Block<'_>>(block).ok()??;
    whole_call(element, |stop| calls(&[block], stop))
}

fn stop(raw: &str) -> StopReason {
    let kind = match raw {
        "tool_use" => StopKind::ToolUse,
        "end_turn" => StopKind::EndTurn,
        "stop_sequence" => StopKind::StopSequence,
        "max_tokens" => StopKind::MaxTokens,
        "model_context_window_exceeded" => StopKind::ContextExceeded,
        "guardrail_intervened" | "content_filtered" => StopKind::ContentFilter,
        "malformed_model_output" | "malformed_tool_use" => StopKind::Failed,
        "" => StopKind::Missing,
        _ => StopKind::Unknown,
    };
    StopReason::new(kind, raw)
}

impl From<Tokens<'_>> for Usage {
    fn from(tokens: Tokens<'_>) -> Self {
        let fresh = tokens.input.unwrap_or_default();
        let output = tokens.output.unwrap_or_default();
        let read = tokens.cache_read.unwrap_or_default();
        let written = tokens.cache_write.unwrap_or_default();
        // Models differ in whether the input holds the cached tokens; the total tells.
        let held = tokens.total.is_some_and(|total| total == fresh.saturating_add(output));
        let cached = if held { 0 } else { read.saturating_add(written) };
        Self {
            input_tokens: fresh.saturating_add(cached),
            output_tokens: output,
            cache_read_tokens: read,
            cache_write_tokens: written,
            reasoning_tokens: 0,
        }
    }
}

#[derive(Serialize)]
struct ToolConfig<'a> {
    tools: Vec<Definition<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Definition<'a> {
    tool_spec: ToolSpec<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolSpec<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    input_schema: Schema,
}

#[derive(Serialize)]
struct Schema {
    json: Json,
}

pub(super) fn tools(tools: &ToolSet) -> Json {
    let tools = tools.iter().map(|tool| Definition {
        tool_spec: ToolSpec {
            name: tool.name(),
            description: tool.description(),
            input_schema: Schema { json: schema::told(tool.schema(), false) },
        },
    });
    raw::json(&ToolConfig { tools: tools.collect() })
}

/// The model's message with what the provider would refuse repaired, and one message with the
/// results of all calls.
pub(super) fn reply(turn: &Turn, report: &Report) -> Reply {
    let answers = answers(turn, report);
    let message = turn.message().cloned().unwrap_or_else(|| made(turn));
    let Ok(Some(came)) = fields::parse::<Came<'_>>(message.as_str()) else {
        return Reply::default();
    };
    let content = came.content.unwrap_or(RawValue::NULL);
    let blocks: Vec<Block<'_>> = fields::filled_list(content);
    let given: Vec<_> =
        blocks.iter().filter_map(Block::call).map(|call| call.id.as_deref()).collect();
    let ids = ids::ids(&given, ID, turn);
    let mut calls = answers.iter().zip(ids);

    let mut echo = Echo::default();
    if came.role.as_deref() != Some("assistant") {
        echo.note(None, "the role was set to assistant");
    }
    let mut results = Vec::new();
    for (at, raw) in raw::array(content.get()).into_iter().enumerate() {
        let block = &blocks[at];
        let holds = |object: &RawObject<'_>| {
            object.len() > 0 && (block.tool_use.is_some() || object.get("toolUse").is_none())
        };
        let mut object = RawObject::read(raw.get()).unwrap_or_default();
        let reasons = object.get("reasoningContent").is_some_and(|raw| raw.get().starts_with('{'));
        let mut changed = object.remove_nulls();
        if reasons && is_blank(block.text.as_deref()) {
            changed |= object.remove("text");
        }
        if !holds(&object) {
            echo.leave_out(at, "it is no block");
            continue;
        }
        if changed {
            echo.note(None, format!("empty members were left out of content[{at}]"));
        }
        if reasons && object.len() > 1 && !is_unsigned_thinking(&object) {
            let mut thought = RawObject::default();
            thought.set("reasoningContent", &object.get("reasoningContent"));
            echo.think(at, raw::json(&thought));
            echo.note(None, format!("of content[{at}] thinking got a block of its own"));
            changed = object.remove("reasoningContent");
        }
        let as_it_came = |object| if changed { raw::json(object) } else { Json::from_raw(raw) };
        if let Some(why) = block.is_refused(&blocks[at..], !answers.is_empty()) {
            echo.leave_out(at, why);
        } else if let Some((answer, id)) = block.call().and_then(|_| calls.next()) {
            let block = as_it_came(&object);
            echo_call(block, object, answer, &id, &mut echo);
            results.push((answer, id));
        } else if object.get("text").is_some() && is_blank(block.text.as_deref()) {
            echo.leave_out(at, "its text is blank");
        } else if is_unsigned_thinking(&object) {
            // Claude refuses it, and the other models refuse any reasoning.
            echo.leave_out(at, "it has no signature");
        } else if object.len() == 1 {
            let block = as_it_came(&object);
            match object.get("reasoningContent") {
                Some(_) => echo.think(at, block),
                None => echo.keep(at, block),
            }
        } else if let Some(text) = block.text.as_deref() {
            echo.note(None, format!("of content[{at}] only the text was kept"));
            echo.keep(at, raw::json(&Content::Text(text.into())));
        } else {
            echo.leave_out(at, "it is no block");
        }
    }
    // The provider demands that roles alternate, so it can't be left out.
    if turn.calls().is_empty() && echo.is_empty() {
        echo.note(None, "words were put into a message without content");
        echo.keep(0, raw::json(&Content::Text(NO_CONTENT.into())));
    }
    echo.put_behind_thinking(|| raw::json(&Content::Text(NO_CONTENT.into())));
    let (content, repairs) = echo.finish();
    let echoed = match repairs.is_empty() {
        true => message.clone(),
        false => raw::json(&Message { role: "assistant", content }),
    };
    let mut messages = vec![echoed];
    if !results.is_empty() {
        let mut names = HashSet::new();
        let content = results.iter().map(|(answer, id)| result(answer, id, &mut names)).collect();
        messages.push(raw::json(&Message::<Vec<Content<'_>>> { role: "user", content }));
    }
    Reply { messages, repairs }
}

fn is_unsigned_thinking(block: &RawObject<'_>) -> bool {
    let inner = block.get("reasoningContent").and_then(|raw| RawObject::read(raw.get()));
    let thinking = inner.as_ref().and_then(|inner| inner.get("reasoningText"));
    let thinking = thinking.and_then(|raw| RawObject::read(raw.get()));
    thinking.is_some_and(|thinking| !thinking.has_text("signature"))
}

fn is_blank(text: Option<&str>) -> bool {
    text.is_none_or(|text| text.trim().is_empty())
}

fn echo_call(
    as_it_came: Json,
    mut block: RawObject<'_>,
    answer: &Answer<'_>,
    id: &str,
    echo: &mut Echo,
) {
    let inner = block.get("toolUse").map(RawValue::get).unwrap_or_default().to_owned();
    let mut inner = RawObject::read(&inner).unwrap_or_default();
    let mut changed = echo.repair(&mut inner, SPELLING, answer, Some(id));
    if inner.remove("type") {
        echo.note(Some(answer.index), "the type was left out: requests know none for calls");
        changed = true;
    }
    if block.len() > 1 {
        block = RawObject::default();
        echo.note(Some(answer.index), "of the block only toolUse was kept");
        changed = true;
    }
    if changed {
        block.set("toolUse", &inner);
    }
    echo.call(if changed { raw::json(&block) } else { as_it_came });
}

/// A message for calls that came in another way.
fn made(turn: &Turn) -> Json {
    let text = Some(turn.text()).filter(|text| !text.trim().is_empty());
    let uses = turn.calls().iter().map(|call| Content::ToolUse {
        tool_use_id: call.id(),
        name: call.name(),
        input: raw::literal(&object_text(call)),
    });
    let content = text.map(|text| Content::Text(text.into())).into_iter().chain(uses);
    raw::json(&Message { role: "assistant", content: content.collect::<Vec<_>>() })
}

#[derive(Serialize)]
struct Message<C> {
    role: &'static str,
    content: C,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Content<'a> {
    Text(Cow<'a, str>),
    #[serde(rename_all = "camelCase")]
    ToolUse {
        tool_use_id: &'a str,
        name: &'a str,
        input: Json,
    },
    #[serde(rename_all = "camelCase")]
    ToolResult {
        tool_use_id: &'a str,
        content: Vec<Content<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<&'static str>,
    },
    Json(Json),
    Image {
        format: &'static str,
        source: Source<'a>,
    },
    Document {
        format: &'static str,
        name: String,
        source: Source<'a>,
    },
}

#[derive(Serialize)]
struct Source<'a> {
    bytes: &'a str,
}

fn result<'a>(answer: &'a Answer<'_>, id: &'a str, names: &mut HashSet<String>) -> Content<'a> {
    let content = match &answer.output {
        Output::Blocks { blocks } if !answer.is_error => {
            blocks.iter().map(|block| told(block, id, names)).collect()
        }
        Output::Json { text } if !answer.is_error && text.trim_ascii_start().starts_with('{') => {
            vec![Content::Json(raw::literal(text))]
        }
        _ => vec![Content::Text(answer.text().into())],
    };
    let status = answer.is_error.then_some("error");
    Content::ToolResult { tool_use_id: id, content, status }
}

fn told<'a>(block: &'a Part, id: &str, names: &mut HashSet<String>) -> Content<'a> {
    match block {
        Part::Text { text } => Content::Text(text.into()),
        Part::Image { media_type, base64 } if let Some(format) = image_format(media_type) => {
            Content::Image { format, source: Source { bytes: base64 } }
        }
        Part::Document { media_type, base64, name }
            if let Some(format) = document_format(media_type) =>
        {
            let name = document_name(name.as_deref().unwrap_or_default(), id, names);
            Content::Document { format, name, source: Source { bytes: base64 } }
        }
        other => Content::Text(other.to_text().into()),
    }
}

fn image_format(media_type: &str) -> Option<&'static str> {
    image_type(media_type)?.strip_prefix("image/")
}

fn document_format(media_type: &str) -> Option<&'static str> {
    Some(match media_type {
        "application/pdf" => "pdf",
        "text/csv" => "csv",
        "application/msword" => "doc",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document" => "docx",
        "application/vnd.ms-excel" => "xls",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" => "xlsx",
        "text/html" => "html",
        "text/plain" => "txt",
        "text/markdown" => "md",
        _ => return None,
    })
}

/// A name that the provider takes: letters, digits, hyphens, brackets and single spaces, other than
/// those of all documents of the conversation whatever their case, so it holds the end of the
/// call's id.
fn document_name(name: &str, id: &str, names: &mut HashSet<String>) -> String {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-()[]".contains(c);
    let words: Vec<_> = name.split(|c| !legal(c)).filter(|word| !word.is_empty()).collect();
    let stem: String = words.join(" ").chars().take(160).collect();
    let stem = if stem.is_empty() { "document" } else { stem.trim_end() };
    let id: String = id.chars().filter(char::is_ascii_alphanumeric).collect();
    let id = &id[id.len().saturating_sub(ID_IN_NAME)..];
    let stem = format!("{stem} {id}");
    let mut name = stem.trim_end().to_owned();
    let mut nth = 1;
    while !names.insert(name.to_ascii_lowercase()) {
        nth += 1;
        name = format!("{} {nth}", stem.trim_end());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_of_one_name_have_names_of_their_own_in_all_turns() {
        let mut first = HashSet::new();
        let name = document_name("Report.pdf", "tooluse_kZJMlvQmRJ6eAyJE5GIl7Q", &mut first);
        assert_eq!(name, "Report pdf 6eAyJE5GIl7Q");
        let again = document_name("report.PDF", "tooluse_kZJMlvQmRJ6eAyJE5GIl7Q", &mut first);
        assert_eq!(again, "report PDF 6eAyJE5GIl7Q 2");
        let next_turn = document_name("Report.pdf", "tooluse_other", &mut HashSet::new());
        assert_eq!(next_turn, "Report pdf tooluseother");
        assert_eq!(document_name("", "-_", &mut HashSet::new()), "document");
        assert!(document_name(&"x".repeat(500), "id", &mut HashSet::new()).len() < 200);
    }
}
