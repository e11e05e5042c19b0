//! OpenAI Responses, also as xAI, DeepSeek and others speak it.
//!
//! The message is the array of output items; each is echoed as an input item of its own, then one
//! output item a call. Only calls of functions and of custom tools are read: what else a client
//! may be asked to do (computer, shell, patches, tool searches, approvals) stays in the echo and
//! is the caller's to answer.

use std::borrow::Cow;
use std::ops::Range;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::call::ToolCall;
use crate::json::Json;
use crate::output::{self, Block};
use crate::report::Report;
use crate::schema;
use crate::tool::ToolSet;
use crate::turn::{StopKind, StopReason, Turn, Usage, Wire};
use crate::wire::answers::{Answer, answers};
use crate::wire::call_element::{arguments, call, free_text};
use crate::wire::content;
use crate::wire::failure::{Failure, check_list};
use crate::wire::fields::{self, fields};
use crate::wire::ids::{self, IdRule};
use crate::wire::media::{image_type, is_file_type};
use crate::wire::openai::{TokenDetails, data_url};
use crate::wire::raw::{self, RawObject};
use crate::wire::{Repair, Reply, multi_tool_use, texts, tool_calls};

fields! {
    struct Body<'a> {
        output: &'a RawValue,
        status: Cow<'a, str>,
        incomplete_details: Incomplete<'a>,
        error: &'a RawValue,
        usage: Tokens<'a>,
    }

    struct Incomplete<'a> {
        reason: Cow<'a, str>,
    }

    pub(super) struct Item<'a> {
        kind "type": Cow<'a, str>,
        id: Cow<'a, str>,
        role: Cow<'a, str>,
        call_id: Cow<'a, str>,
        name: Cow<'a, str>,
        namespace: Cow<'a, str>,
        status: Cow<'a, str>,
        arguments: &'a RawValue,
        input: &'a RawValue,
        content: &'a RawValue,
        caller: &'a RawValue,
    }

    struct Tokens<'a> {
        input_tokens: u64,
        output_tokens: u64,
        input_tokens_details: TokenDetails<'a>,
        output_tokens_details: TokenDetails<'a>,
    }
}

/// Which of the two kinds of call that are ours an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Function,
    Custom,
}

pub(super) fn parse(body: &str) -> Result<Turn, Failure> {
    let Body { output, status, incomplete_details, usage, error, .. } =
        fields::parse(body)?.unwrap_or_default();
    let raw = output.ok_or_else(|| Failure::misfit("output", "a list"))?;
    let items: Vec<Option<Item<'_>>> = fields::list(raw);
    check_list(&items, "output")?;
    if items.is_empty() && error.is_some() {
        return Err(Failure::misfit("output[0]", "an object"));
    }

    let mut said = Vec::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        let Some(item) = item else { continue };
        let is_message = item.kind.as_deref() == Some("message");
        let content =
            is_message.then(|| content::said(item.content, format_args!("output[{at}].content")));
        said.push(content.transpose()?);
    }
    let refused = said.iter().flatten().any(|(_, refused)| *refused);
    let text = texts::joined(said.iter().map(|said| said.as_ref().map(|(text, _)| &**text)));
    let reason = incomplete_details.and_then(|details| details.reason);
    let stop = stop(status.as_deref(), reason.as_deref(), refused);
    let mut calls = Vec::new();
    let own = items.iter().flatten().filter(|item| item.call_kind().is_some());
    for (element, item) in own.enumerate() {
        item.add_calls(element, &stop, &mut calls);
    }
    let usage = usage.map(Usage::from).unwrap_or_default();
    Ok(Turn::parsed(Wire::OpenAiResponses, Json::from_raw(raw), calls, text, stop, usage))
}

/// Whether a custom call of this id is the server's own: xAI sends its searches so.
pub(super) fn is_servers(call_id: &str) -> bool {
    call_id.starts_with("xs_call_")
}

impl Item<'_> {
    /// Whether the item is a call that the client answers, with a function's result.
    pub(super) fn call_kind(&self) -> Option<Kind> {
        match self.kind.as_deref()? {
            "function_call" => Some(Kind::Function),
            "custom_tool_call" => {
                let theirs = self.call_id.as_deref().is_some_and(is_servers);
                (!theirs).then_some(Kind::Custom)
            }
            _ => None,
        }
    }

    /// What tells the item apart from others of its response, where anything does.
    pub(super) fn key(&self) -> Option<String> {
        let id = self.call_id.as_deref().filter(|_| self.call_kind().is_some());
        let id = id.or(self.id.as_deref()).filter(|id| !id.is_empty())?;
        Some(format!("{} {id}", self.kind.as_deref().unwrap_or_default()))
    }

    /// Whether it is a message of no parts, which OpenAI refuses.
    fn is_empty_message(&self) -> bool {
        let is_message = matches!(self.kind.as_deref(), None | Some("" | "message"));
        let content = self.content.map_or("", RawValue::get);
        is_message && content.starts_with('[') && raw::array(content).is_empty()
    }

    /// Adds the calls of the item, which is the message's `element`-th that is a call.
    pub(super) fn add_calls(&self, element: usize, stop: &StopReason, calls: &mut Vec<ToolCall>) {
        if let Some(call) = self.call(stop) {
            multi_tool_use::unpack(call.at_element(element), calls);
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

impl From<Tokens<'_>> for Usage {
    fn from(tokens: Tokens<'_>) -> Self {
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

const IDS: IdRule = IdRule { max: 64, legal: |c| !c.is_control() };
const NAME_LIMIT: usize = 128;
/// Copilot makes longer ones than it takes back.
const ITEM_ID_LIMIT: usize = 64;

#[derive(Serialize)]
struct Definition<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Json>,
    /// Said, because this format tries strict mode where it isn't.
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

pub(super) fn tools(tools: &ToolSet) -> Json {
    let definitions = tools.iter().map(|tool| {
        let (name, description) = (tool.name(), tool.description());
        if tool.takes_free_text() {
            return Definition {
                kind: "custom",
                name,
                description,
                parameters: None,
                strict: None,
            };
        }
        let parameters = Some(schema::told(tool.schema(), false));
        Definition { kind: "function", name, description, parameters, strict: Some(false) }
    });
    raw::json(&definitions.collect::<Vec<_>>())
}

pub(super) fn reply(turn: &Turn, report: &Report) -> Reply {
    let answers = answers(turn, report);
    let given: Vec<_> =
        answers.iter().map(|answer| answer.call.has_id().then(|| answer.call.id())).collect();
    let ids = match turn.message() {
        // As in Chat, ids that are too long for OpenAI are taken back by the server that made them.
        Some(_) => ids::ids(&given, IdRule { max: usize::MAX, ..IDS }, turn),
        None => ids::ids(&given, IDS, turn),
    };
    let mut repairs = Vec::new();
    let (items, callers) = match turn.message() {
        Some(message) => echo(message, turn.stop(), &answers, &ids, &mut repairs),
        None => (made(turn, &answers, &ids), Vec::new()),
    };
    let callers = callers.into_iter().chain(std::iter::repeat(None));
    let results = answers.iter().zip(&ids).zip(callers);
    let outputs = results.map(|((answer, id), caller)| {
        let kind = match answer.call.is_free_text() {
            true => "custom_tool_call_output",
            false => "function_call_output",
        };
        raw::json(&CallOutput { kind, call_id: id, output: content(answer), caller })
    });
    Reply { messages: with_outputs(items, outputs), repairs }
}

/// The items as they came, or repaired; and the `caller` of each call that has one.
fn echo<'a>(
    message: &'a Json,
    stop: &StopReason,
    answers: &[Answer<'_>],
    ids: &[Cow<'_, str>],
    repairs: &mut Vec<Repair>,
) -> (Vec<(Place, Json)>, Vec<Option<&'a RawValue>>) {
    let mut items = Vec::new();
    let mut callers = Vec::new();
    let mut ends_empty = false;
    for (at, text) in raw::array(message.as_str()).into_iter().enumerate() {
        let item: Option<Item<'_>> = fields::part(text);
        let says =
            |text: &Option<Cow<'_, str>>| text.as_deref().is_some_and(|text| !text.is_empty());
        let known = item.filter(|item| says(&item.kind) || says(&item.role));
        let Some((item, mut object)) = known.zip(RawObject::read(text.get())) else {
            let what = format!("output[{at}] was left out: it is no item");
            repairs.push(Repair { index: None, what });
            continue;
        };
        if item.is_empty_message() {
            let what = format!("output[{at}] was left out: it has no content");
            repairs.push(Repair { index: None, what });
            ends_empty = true;
            continue;
        }
        let kind = item.call_kind();
        let mut json = Json::from_raw(text);
        if item.id.as_deref().is_some_and(|id| id.len() > ITEM_ID_LIMIT) {
            object.remove("id");
            json = raw::json(&object);
            let what = format!("the id of output[{at}] was left out: it is too long");
            repairs.push(Repair { index: None, what });
        }
        if let Some(kind) = kind
            && let Some((answer, id)) = answers.get(callers.len()).zip(ids.get(callers.len()))
        {
            let before = repairs.len();
            let mut repair = |what| repairs.push(Repair { index: Some(answer.index), what });
            let repaired = repaired(object, kind, answer, id, &mut repair);
            if repairs.len() > before {
                json = raw::json(&repaired);
            }
            callers.push(item.caller);
        }
        let place = match kind {
            Some(_) => Place::Call,
            None if item.kind.as_deref() == Some("message") => Place::Message,
            None if item.kind.as_deref() == Some("reasoning") => Place::Reasoning,
            None => Place::Other,
        };
        ends_empty &= place == Place::Reasoning;
        items.push((place, json));
    }
    let came = items.len();
    leave_out_last_thoughts(&mut items, ends_empty || stop.forbids_calls());
    for _ in items.len()..came {
        let what = "reasoning was left out: nothing follows it".to_owned();
        repairs.push(Repair { index: None, what });
    }
    if join_calls(&mut items) {
        let what = "messages behind a call were put before the calls".to_owned();
        repairs.push(Repair { index: None, what });
    }
    (items, callers)
}

/// Takes reasoning away that led to nothing, because the response was cut or holds nothing else, or
/// to nothing that goes back: OpenAI refuses it without the item that followed.
fn leave_out_last_thoughts(items: &mut Vec<(Place, Json)>, is_cut: bool) {
    let led = items.iter().rposition(|(place, _)| *place != Place::Reasoning);
    if led.is_none() || is_cut {
        items.truncate(led.map_or(0, |last| last + 1));
    }
}

/// What an item is to the order of items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Call,
    Message,
    Reasoning,
    Other,
}

/// From the first call to the last call or message, where a message is behind a call: DeepSeek looks
/// for results right after the calls that follow each other. Nothing where there is something else
/// among them, such as a call of the server's.
fn mixed(items: &[(Place, Json)]) -> Option<Range<usize>> {
    let is = |item: &(Place, Json), place| item.0 == place;
    let first = items.iter().position(|item| is(item, Place::Call))?;
    let last =
        items.iter().rposition(|(place, _)| matches!(place, Place::Call | Place::Message))?;
    let among = &items[first..=last];
    let has = |place| among.iter().any(|item| is(item, place));
    (has(Place::Message) && !has(Place::Other)).then_some(first..last + 1)
}

/// Puts messages behind a call before the first call; whether there were any. Where reasoning is
/// near, nothing is moved: OpenAI wants it before the item it led to.
fn join_calls(items: &mut [(Place, Json)]) -> bool {
    let Some(mixed) = mixed(items) else { return false };
    let mut near = items[mixed.start.saturating_sub(1)..mixed.end].iter();
    if near.any(|(place, _)| *place == Place::Reasoning) {
        return false;
    }
    items[mixed].sort_by_key(|(place, _)| *place != Place::Message);
    true
}

/// The items and the outputs of the calls: behind all, or right behind the calls that messages part.
fn with_outputs(items: Vec<(Place, Json)>, mut outputs: impl Iterator<Item = Json>) -> Vec<Json> {
    let are_parted = mixed(&items).is_some();
    let mut messages = Vec::new();
    let mut open = 0;
    for (place, item) in items {
        if place == Place::Call {
            open += 1;
        } else if are_parted {
            messages.extend(outputs.by_ref().take(std::mem::take(&mut open)));
        }
        messages.push(item);
    }
    messages.extend(outputs);
    messages
}

fn repaired<'a>(
    mut item: RawObject<'a>,
    kind: Kind,
    answer: &Answer<'_>,
    id: &str,
    repair: &mut impl FnMut(String),
) -> RawObject<'a> {
    if item.deduplicate() {
        repair(raw::EQUAL_KEYS.to_owned());
    }
    if answer.call.id() != id {
        let (came, made) = (ids::quoted(answer.call.id()), ids::quoted(id));
        repair(match answer.call.has_id() {
            true => format!("the call_id {came} was replaced by {made}"),
            false => format!("the missing call_id became {made}"),
        });
        item.set("call_id", id);
    }
    tool_calls::repair_name(&mut item, NAME_LIMIT, repair);
    match kind {
        Kind::Function => {
            tool_calls::repair_arguments(&mut item, true, repair);
        }
        Kind::Custom if item.text("input").is_none() => {
            repair("the input was spelled as a string".to_owned());
            let input = item.get("input").filter(|_| !item.is_null("input"));
            let input = arguments(input).into_owned();
            item.set("input", &input);
        }
        Kind::Custom => {}
    }
    item
}

#[derive(Serialize)]
struct CallOutput<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    call_id: &'a str,
    output: Content<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(String),
    Parts(Vec<ContentPart<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type")]
enum ContentPart<'a> {
    #[serde(rename = "input_text")]
    Text { text: Cow<'a, str> },
    #[serde(rename = "input_image")]
    Image { image_url: String },
    #[serde(rename = "input_file")]
    File { filename: &'a str, file_data: String },
}

fn content<'a>(answer: &'a Answer<'_>) -> Content<'a> {
    let blocks = match &answer.output {
        output::Output::Blocks { blocks } => blocks,
        _ => return Content::Text(answer.text()),
    };
    if blocks.iter().all(|block| matches!(block, Block::Text { .. })) {
        return Content::Text(answer.text());
    }
    let parts = blocks.iter().filter_map(|block| match block {
        Block::Text { text } if text.is_empty() => None,
        Block::Text { text } => Some(ContentPart::Text { text: text.into() }),
        Block::Image { media_type, base64 } => Some(match image_type(media_type) {
            Some(known) => ContentPart::Image { image_url: data_url(known, base64) },
            None => ContentPart::Text { text: block.to_text().into() },
        }),
        Block::Document { media_type, base64, name } => Some(match is_file_type(media_type) {
            true => ContentPart::File {
                filename: name.as_deref().unwrap_or("document"),
                file_data: data_url(media_type, base64),
            },
            false => ContentPart::Text { text: block.to_text().into() },
        }),
    });
    Content::Parts(parts.collect())
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Made<'a> {
    Message {
        role: &'static str,
        content: &'a str,
    },
    FunctionCall {
        call_id: &'a str,
        name: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<&'a str>,
        arguments: String,
    },
    CustomToolCall {
        call_id: &'a str,
        name: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<&'a str>,
        input: Json,
    },
}

/// Items for a turn that came in no format, or in another.
fn made(turn: &Turn, answers: &[Answer<'_>], ids: &[Cow<'_, str>]) -> Vec<(Place, Json)> {
    let text = (!turn.text().is_empty())
        .then(|| Made::Message { role: "assistant", content: turn.text() });
    let calls = answers.iter().zip(ids).map(|(answer, call_id)| {
        let call = answer.call;
        let (name, namespace) = (ids::name(call.name(), NAME_LIMIT), call.namespace());
        if call.is_free_text() {
            let input = raw::literal(call.arguments());
            return Made::CustomToolCall { call_id, name, namespace, input };
        }
        Made::FunctionCall { call_id, name, namespace, arguments: tool_calls::object_text(call) }
    });
    let text = text.into_iter().map(|text| (Place::Message, raw::json(&text)));
    text.chain(calls.map(|call| (Place::Call, raw::json(&call)))).collect()
}
