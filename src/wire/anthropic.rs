//! Anthropic Messages.
//!
//! The calls are the `tool_use` blocks of the content. What the provider runs itself
//! (`server_tool_use`, `mcp_tool_use`) is none, and a call that code in the provider's sandbox
//! made and that was answered within the same message is withheld and gets no result.

use std::borrow::Cow;
use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::call::ToolCall;
use crate::json::Json;
use crate::output::{Block as Part, Output};
use crate::report::Report;
use crate::schema;
use crate::tool::ToolSet;
use crate::turn::{StopKind, StopReason, Turn, Usage, Wire};
use crate::wire::answers::{Answer, NO_CONTENT, answers};
use crate::wire::call_element::{arguments, call_unless, whole_call};
use crate::wire::echo::{Echo, Spelling};
use crate::wire::failure::{Failure, check_list};
use crate::wire::fields::{self, fields};
use crate::wire::ids::{self, IdRule};
use crate::wire::media::image_type;
use crate::wire::raw::{self, RawObject};
use crate::wire::texts::joined;
use crate::wire::tool_calls::object_text;
use crate::wire::{Repair, Reply};

const ID: IdRule =
    IdRule { max: 256, legal: |c| c.is_ascii_alphanumeric() || c == '_' || c == '-' };
const SPELLING: Spelling = Spelling {
    id: "id",
    name: "name",
    arguments: "input",
    legal_name: |name| ids::name(name, 128),
    optional: false,
};
const PDF: &str = "application/pdf";
const PLAIN: &str = "text/plain";

fields! {
    struct Body<'a> {
        content: &'a RawValue,
        stop_reason: Cow<'a, str>,
        usage: Tokens<'a>,
        container: Container<'a>,
    }

    struct Container<'a> {
        id: Cow<'a, str>,
    }

    pub(super) struct Block<'a> {
        kind "type": Cow<'a, str>,
        id: Cow<'a, str>,
        name: Cow<'a, str>,
        input: &'a RawValue,
        text: Cow<'a, str>,
        content: &'a RawValue,
        tool_use_id: Cow<'a, str>,
        toolset_name: &'a RawValue,
        caller: Caller<'a>,
    }

    pub(super) struct Caller<'a> {
        tool_id: Cow<'a, str>,
    }

    struct Tokens<'a> {
        input_tokens: u64,
        cache_creation_input_tokens: u64,
        cache_read_input_tokens: u64,
        output_tokens: u64,
        output_tokens_details: OutputTokens<'a>,
    }

    struct OutputTokens<'a> {
        thinking_tokens: u64,
    }
}

pub(super) fn parse(body: &str) -> Result<Turn, Failure> {
    let read = fields::parse::<Body<'_>>(body)?.unwrap_or_default();
    let content = read.content.ok_or_else(|| Failure::misfit("content", "a list"))?;
    let stop = stop(read.stop_reason.as_deref().unwrap_or_default());
    let (calls, text) = match fields::string(content.get()) {
        Some(text) => (Vec::new(), text.into_owned()),
        None => {
            let blocks = fields::list::<Block<'_>>(content);
            check_list(&blocks, "content")?;
            let blocks: Vec<_> = blocks.into_iter().map(Option::unwrap_or_default).collect();
            let texts =
                blocks.iter().map(|block| block.text.as_deref().filter(|_| block.is("text")));
            (calls(&blocks, &stop), joined(texts))
        }
    };
    let message = message(content);
    let usage = read.usage.unwrap_or_default().into();
    let container = read.container.and_then(|container| container.id).map(Cow::into_owned);
    Ok(Turn::parsed(Wire::Anthropic, message, calls, text, stop, usage).in_container(container))
}

fn message(content: &RawValue) -> Json {
    raw::json(&Message { role: "assistant", content })
}

fn calls(blocks: &[Block<'_>], stop: &StopReason) -> Vec<ToolCall> {
    let uses = blocks.iter().enumerate().filter(|(_, block)| block.is("tool_use"));
    uses.enumerate()
        .map(|(element, (at, block))| {
            let (id, name) = (block.id.as_deref(), block.name.as_deref());
            let done = is_answered(blocks, at);
            call_unless(done, id, name, arguments(block.input), stop).at_element(element)
        })
        .collect()
}

/// The call of a block that is whole, in a message whose stop reason isn't known yet.
pub(super) fn call_of(block: &str, element: usize) -> Option<ToolCall> {
    let block = fields::parse::<Block<'_>>(block).ok()??;
    whole_call(element, |stop| calls(&[block], stop))
}

/// Whether the block is a call that waits for a result.
pub(super) fn waits(blocks: &[Block<'_>], at: usize) -> bool {
    blocks[at].is("tool_use") && !is_answered(blocks, at)
}

/// Whether the block is a call by code in the provider's sandbox that is done with.
fn is_answered(blocks: &[Block<'_>], at: usize) -> bool {
    let caller = blocks[at].caller.as_ref().and_then(|caller| caller.tool_id.as_deref());
    caller.is_some_and(|caller| has_result(&blocks[at..], caller))
}

fn has_result(blocks: &[Block<'_>], id: &str) -> bool {
    blocks.iter().any(|block| {
        block.tool_use_id.as_deref() == Some(id) && block.kind().ends_with("_tool_result")
    })
}

impl Block<'_> {
    fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or_default()
    }

    pub(super) fn is(&self, kind: &str) -> bool {
        self.kind() == kind
    }
}

fn stop(raw: &str) -> StopReason {
    let kind = match raw {
        "tool_use" => StopKind::ToolUse,
        "end_turn" => StopKind::EndTurn,
        "stop_sequence" => StopKind::StopSequence,
        "max_tokens" => StopKind::MaxTokens,
        "model_context_window_exceeded" => StopKind::ContextExceeded,
        "refusal" => StopKind::Refusal,
        "pause_turn" | "compaction" => StopKind::Pause,
        "" => StopKind::Missing,
        _ => StopKind::Unknown,
    };
    StopReason::new(kind, raw)
}

impl From<Tokens<'_>> for Usage {
    fn from(tokens: Tokens<'_>) -> Self {
        let read = tokens.cache_read_input_tokens.unwrap_or_default();
        let written = tokens.cache_creation_input_tokens.unwrap_or_default();
        let fresh = tokens.input_tokens.unwrap_or_default();
        let details = tokens.output_tokens_details.unwrap_or_default();
        Self {
            input_tokens: fresh.saturating_add(read).saturating_add(written),
            output_tokens: tokens.output_tokens.unwrap_or_default(),
            cache_read_tokens: read,
            cache_write_tokens: written,
            reasoning_tokens: details.thinking_tokens.unwrap_or_default(),
        }
    }
}

#[derive(Serialize)]
struct Definition<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    input_schema: Json,
}

pub(super) fn tools(tools: &ToolSet) -> Json {
    let definitions: Vec<_> = tools
        .iter()
        .map(|tool| Definition {
            name: tool.name(),
            description: tool.description(),
            input_schema: schema::told(tool.schema(), false),
        })
        .collect();
    raw::json(&definitions)
}

/// The model's message with what the provider would refuse repaired, and one message with the
/// results of all calls that wait for one.
///
/// A message without content is left out: the provider refuses it, and takes two user messages in
/// a row instead.
pub(super) fn reply(turn: &Turn, report: &Report) -> Reply {
    let answers = answers(turn, report);
    let message = turn.message().cloned().unwrap_or_else(|| made(turn));
    let content = fields::parse::<Body<'_>>(message.as_str()).ok().flatten();
    let Some(content) = content.and_then(|body| body.content) else { return Reply::default() };
    if fields::string(content.get()).is_some_and(|text| !text.trim().is_empty()) {
        return Reply { messages: vec![message], repairs: Vec::new() };
    }
    let blocks: Vec<Block<'_>> = fields::filled_list(content);
    let uses = || (0..blocks.len()).filter(|at| blocks[*at].is("tool_use"));
    let is_open = uses().any(|at| waits(&blocks, at));
    let may_stay_open = turn.stop().kind == StopKind::Pause || is_open;
    let refused: Vec<_> =
        (0..blocks.len()).map(|at| blocks[at].is_refused(&blocks[at..], may_stay_open)).collect();
    let given: Vec<_> = uses().map(|at| blocks[at].id.as_deref()).collect();
    let ids = ids::ids(&given, ID, turn);
    let mut calls = answers.iter().zip(ids);
    let gone = gone(&blocks, &refused);

    let mut echo = Echo::default();
    let mut results = Vec::new();
    for (at, raw) in raw::array(content.get()).into_iter().enumerate() {
        let block = &blocks[at];
        let call = if block.is("tool_use") { calls.next() } else { None };
        if let Some((answer, id)) = call.filter(|_| waits(&blocks, at)) {
            let object = RawObject::read(raw.get());
            let repaired = object.and_then(|mut object| {
                echo.repair(&mut object, SPELLING, answer, Some(&id)).then(|| raw::json(&object))
            });
            echo.call(repaired.unwrap_or_else(|| Json::from_raw(raw)));
            results.push(result(answer, id, block.toolset_name));
        } else if let Some(why) = refused[at] {
            echo.leave_out(at, why);
        } else if block.is_of(&gone) || block.id.as_deref().is_some_and(|id| gone.contains(id)) {
            echo.leave_out(at, "what it belongs to was");
        } else if block.is("thinking")
            && at + 1 == blocks.len()
            && turn.stop().forbids_calls()
            && !RawObject::read(raw.get()).is_some_and(|block| block.has_text("signature"))
        {
            echo.leave_out(at, "it was cut off before its signature");
        } else if block.is("thinking") || block.is("redacted_thinking") {
            echo.think(at, Json::from_raw(raw));
        } else if block.is("compaction")
            && let Some(mut object) = RawObject::read(raw.get())
            && object.remove_null("encrypted_content")
        {
            echo.note(None, format!("encrypted_content of content[{at}] was left out: it is null"));
            echo.keep(at, raw::json(&object));
        } else {
            echo.keep(at, Json::from_raw(raw));
        }
    }
    echo.put_behind_thinking(|| raw::json(&Content::Text { text: NO_CONTENT.into() }));
    let (content, mut repairs) = echo.finish();
    if content.is_empty() {
        let what = "the message was left out: it has no content".to_owned();
        repairs.push(Repair { index: None, what });
        return Reply { messages: Vec::new(), repairs };
    }
    let echoed = match repairs.is_empty() {
        true => message.clone(),
        false => raw::json(&Message { role: "assistant", content }),
    };
    let mut messages = vec![echoed];
    if !results.is_empty() {
        messages.push(raw::json(&Message { role: "user", content: results }));
    }
    Reply { messages, repairs }
}

/// The server's own calls that can't go back: those the provider would refuse, and those that belong
/// to one, as what code called does that wasn't finished.
fn gone<'a>(blocks: &'a [Block<'_>], refused: &[Option<&'static str>]) -> HashSet<&'a str> {
    let servers =
        blocks.iter().zip(refused).filter(|(block, why)| block.is_servers() && why.is_some());
    let mut gone: HashSet<&str> = servers.filter_map(|(block, _)| block.id.as_deref()).collect();
    let mut before = 0;
    while gone.len() > before {
        before = gone.len();
        for block in blocks {
            if block.is_of(&gone) {
                gone.extend(block.id.as_deref());
                gone.extend(block.tool_use_id.as_deref());
            }
        }
    }
    gone
}

impl Block<'_> {
    /// Whether it is a call of the server's own.
    fn is_servers(&self) -> bool {
        self.is("server_tool_use") || self.is("mcp_tool_use")
    }

    /// Whether one of these calls made it, or it is the result of one.
    fn is_of(&self, calls: &HashSet<&str>) -> bool {
        let caller = self.caller.as_ref().and_then(|caller| caller.tool_id.as_deref());
        [caller, self.tool_use_id.as_deref()].iter().flatten().any(|id| calls.contains(id))
    }

    /// Why the provider would refuse the block, if it would; `rest` is the content from here on.
    fn is_refused(&self, rest: &[Block<'_>], may_stay_open: bool) -> Option<&'static str> {
        match self.kind() {
            "" => Some("it has no type"),
            "text" if self.text.as_deref().is_none_or(|text| text.trim().is_empty()) => {
                Some("its text is empty")
            }
            "compaction" if self.content.is_some_and(|content| content.get() == "\"\"") => {
                Some("its content is empty")
            }
            "server_tool_use" | "mcp_tool_use"
                if self.input.is_some_and(|input| !input.get().starts_with('{')) =>
            {
                Some("its input was cut off")
            }
            "server_tool_use" | "mcp_tool_use" => {
                let id = self.id.as_deref().unwrap_or_default();
                (!may_stay_open && !has_result(rest, id)).then_some("its result is missing")
            }
            _ => None,
        }
    }
}

/// A message for calls that came in another way.
fn made(turn: &Turn) -> Json {
    let inputs: Vec<_> = turn.calls().iter().map(|call| raw::literal(&object_text(call))).collect();
    let uses = turn.calls().iter().zip(&inputs).map(|(call, input)| Content::ToolUse {
        id: call.id(),
        name: call.name(),
        input,
    });
    let text = Some(Content::Text { text: turn.text().into() });
    let text = text.filter(|_| !turn.text().trim().is_empty());
    let content: Vec<_> = text.into_iter().chain(uses).collect();
    raw::json(&Message { role: "assistant", content })
}

fn result<'a>(
    answer: &'a Answer<'a>,
    id: Cow<'a, str>,
    toolset_name: Option<&'a RawValue>,
) -> Content<'a> {
    let content = match &answer.output {
        // Media are refused in failures.
        Output::Blocks { blocks } if !answer.is_error => Told::of_blocks(blocks),
        _ => Told::Text(answer.text()),
    };
    Content::ToolResult { tool_use_id: id, content, is_error: answer.is_error, toolset_name }
}

#[derive(Serialize)]
struct Message<C> {
    role: &'static str,
    content: C,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Content<'a> {
    Text {
        text: Cow<'a, str>,
    },
    ToolUse {
        id: &'a str,
        name: &'a str,
        input: &'a Json,
    },
    ToolResult {
        tool_use_id: Cow<'a, str>,
        content: Told<'a>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        toolset_name: Option<&'a RawValue>,
    },
    Image {
        source: Source<'a>,
    },
    Document {
        source: Source<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
    },
}

#[derive(Serialize)]
#[serde(untagged)]
enum Told<'a> {
    Text(String),
    Blocks(Vec<Content<'a>>),
}

#[derive(Serialize)]
struct Source<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    media_type: &'a str,
    data: Cow<'a, str>,
}

impl<'a> Told<'a> {
    fn of_blocks(blocks: &'a [Part]) -> Self {
        let source = |media_type, base64: &'a str| Source {
            kind: "base64",
            media_type,
            data: base64.into(),
        };
        let told = blocks.iter().map(|block| match block {
            Part::Text { text } => Content::Text { text: text.into() },
            Part::Image { media_type, base64 } if let Some(known) = image_type(media_type) => {
                Content::Image { source: source(known, base64) }
            }
            Part::Document { media_type, base64, name } if media_type == PDF => {
                Content::Document { source: source(media_type, base64), title: title(name) }
            }
            Part::Document { media_type, base64, name }
                if let Some(text) = text_of(media_type, base64) =>
            {
                let source = Source { kind: "text", media_type: PLAIN, data: text.into() };
                Content::Document { source, title: title(name) }
            }
            other => Content::Text { text: other.to_text().into() },
        });
        Self::Blocks(told.collect())
    }
}

fn title(name: &Option<String>) -> Option<&str> {
    name.as_deref().filter(|name| !name.trim().is_empty())
}

/// What a document of text says, where it says something.
fn text_of(media_type: &str, base64: &str) -> Option<String> {
    let bytes = STANDARD.decode(media_type.starts_with("text/").then_some(base64)?).ok()?;
    String::from_utf8(bytes).ok().filter(|text| !text.trim().is_empty())
}
