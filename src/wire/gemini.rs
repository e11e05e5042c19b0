//! Gemini `generateContent`, also on Vertex.
//!
//! The calls are the `functionCall` parts of the first candidate; `executableCode` and `toolCall`
//! are the provider's own. Results are paired by name and order, by id only where one came.
//! Signatures of thoughts stay on the parts they came on.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::call::ToolCall;
use crate::json::Json;
use crate::output::{Block, Output};
use crate::report::Report;
use crate::schema;
use crate::tool::ToolSet;
use crate::turn::{StopKind, StopReason, Turn, Usage, Wire};
use crate::wire::answers::{Answer, answers};
use crate::wire::call_element::{arguments, call_unless, whole_call};
use crate::wire::echo::{Echo, Spelling};
use crate::wire::failure::{Failure, check_list};
use crate::wire::fields::{self, Given, fields};
use crate::wire::ids::{self, IdRule};
use crate::wire::raw::{self, RawObject};
use crate::wire::texts::joined;
use crate::wire::tool_calls::object_text;
use crate::wire::{Repair, Reply};

const ID: IdRule = IdRule { max: 256, legal: |c| !c.is_control() };
const SPELLING: Spelling =
    Spelling { id: "id", name: "name", arguments: "args", legal_name, optional: true };
/// Stands for the signature of a call that this provider didn't write.
const NO_SIGNATURE: &str = "skip_thought_signature_validator";
/// What a response may hold beside its text.
const MEDIA: [&str; 5] = ["image/png", "image/jpeg", "image/webp", "application/pdf", "text/plain"];

fields! {
    struct Body<'a> {
        candidates: Vec<Option<Candidate<'a>>>,
        prompt_feedback "promptFeedback": Feedback<'a>,
        usage "usageMetadata": Tokens<'a>,
    }

    struct Candidate<'a> {
        content: &'a RawValue,
        finish_reason "finishReason": &'a RawValue,
    }

    struct Feedback<'a> {
        block_reason "blockReason": &'a RawValue,
    }

    struct Content<'a> {
        role: Cow<'a, str>,
        parts: &'a RawValue,
    }

    struct Parts<'a> {
        parts: Given<Vec<Option<Part<'a>>>>,
    }

    struct Part<'a> {
        text: Cow<'a, str>,
        thought: bool,
        call "functionCall": FunctionCall<'a>,
    }

    struct FunctionCall<'a> {
        id: Cow<'a, str>,
        name: Cow<'a, str>,
        args: &'a RawValue,
    }

    pub(super) struct Tokens<'a> {
        prompt "promptTokenCount": u64,
        tool_use_prompt "toolUsePromptTokenCount": u64,
        candidates "candidatesTokenCount": u64,
        thoughts "thoughtsTokenCount": u64,
        cached "cachedContentTokenCount": u64,
        total "totalTokenCount": u64,
    }
}

pub(super) fn parse(body: &str) -> Result<Turn, Failure> {
    let read = fields::parse::<Body<'_>>(body)?.unwrap_or_default();
    let candidate = read.candidates.and_then(|all| all.into_iter().next()).flatten();
    let blocked = read.prompt_feedback.and_then(|feedback| feedback.block_reason);
    let (message, reason) = match candidate {
        Some(candidate) => (candidate.content, candidate.finish_reason),
        None if blocked.is_some() => (None, None),
        None => return Err(Failure::misfit("candidates[0]", "an object")),
    };
    let mut stop = stop(reason);
    if let Some(blocked) = blocked.filter(|_| !stop.forbids_calls()) {
        stop = StopReason::new(StopKind::ContentFilter, spelled(blocked));
    }
    let parts = message.map_or(Ok(Vec::new()), parts)?;
    Ok(Turn::parsed(
        Wire::Gemini,
        message.map_or_else(|| raw::json(&Made::model(Vec::new())), Json::from_raw),
        calls(&parts, &stop),
        joined(parts.iter().map(Part::visible)),
        stop,
        read.usage.unwrap_or_default().into(),
    ))
}

/// Whether the feedback on a prompt says that it was blocked.
pub(super) fn is_block(feedback: &RawValue) -> bool {
    let feedback: Option<Feedback<'_>> = fields::part(feedback);
    feedback.is_some_and(|feedback| feedback.block_reason.is_some())
}

fn parts(content: &RawValue) -> Result<Vec<Part<'_>>, Failure> {
    const CONTENT: &str = "candidates[0].content";
    let content = fields::parse::<Parts<'_>>(content.get())?
        .ok_or_else(|| Failure::misfit(CONTENT, "an object"))?;
    let parts = content.parts.map(|Given(parts)| parts).unwrap_or_default();
    check_list(&parts, format_args!("{CONTENT}.parts"))?;
    Ok(parts.into_iter().map(Option::unwrap_or_default).collect())
}

impl<'a> Part<'a> {
    /// The call. One without anything in it is what is left of a stream's end.
    fn call(&self) -> Option<&FunctionCall<'a>> {
        let empty = |call: &&FunctionCall<'_>| {
            call.id.is_none() && call.name.is_none() && call.args.is_none()
        };
        self.call.as_ref().filter(|call| !empty(call))
    }

    fn visible(&self) -> Option<&str> {
        self.text.as_deref().filter(|_| self.thought != Some(true))
    }
}

fn calls(parts: &[Part<'_>], stop: &StopReason) -> Vec<ToolCall> {
    let calls = parts.iter().filter_map(Part::call).enumerate();
    calls
        .map(|(element, each)| {
            // Arguments are left out where there are none.
            let given = each.args.map_or("{}".into(), |args| arguments(Some(args)));
            let (id, name) = (each.id.as_deref(), each.name.as_deref());
            call_unless(false, id, name, given, stop).at_element(element)
        })
        .collect()
}

/// The call of a part that is whole, in a message whose stop reason isn't known yet.
pub(super) fn call_of(part: &str, element: usize) -> Option<ToolCall> {
    let part = fields::parse::<Part<'_>>(part).ok()??;
    whole_call(element, |stop| calls(&[part], stop))
}

/// The same of what the part holds.
pub(super) fn call_with<'a>(
    id: Option<&'a RawValue>,
    name: Option<&'a RawValue>,
    args: Option<&'a RawValue>,
    element: usize,
) -> Option<ToolCall> {
    let text = |raw: Option<&'a RawValue>| raw.and_then(|raw| fields::string(raw.get()));
    let (id, name) = (text(id), text(name));
    let call = Some(FunctionCall { id, name, args, ..FunctionCall::default() });
    let part = Part { call, ..Part::default() };
    whole_call(element, |stop| calls(&[part], stop))
}

/// A value of an enumeration: its name, or its number as some clients ask for.
fn spelled(raw: &RawValue) -> String {
    fields::string(raw.get()).unwrap_or(raw.get().into()).into_owned()
}

pub(super) fn stop(raw: Option<&RawValue>) -> StopReason {
    let raw = raw.map(spelled).unwrap_or_default();
    StopReason::new(stop_kind(&raw), raw)
}

/// What a stop reason means.
pub(super) fn stop_kind(raw: &str) -> StopKind {
    match raw {
        "STOP" | "1" => StopKind::EndTurn,
        "MAX_TOKENS" | "2" => StopKind::MaxTokens,
        "SAFETY"
        | "RECITATION"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION"
        | "MODEL_ARMOR"
        | "3"
        | "4" => StopKind::ContentFilter,
        "MALFORMED_FUNCTION_CALL"
        | "UNEXPECTED_TOOL_CALL"
        | "TOO_MANY_TOOL_CALLS"
        | "MISSING_THOUGHT_SIGNATURE"
        | "MALFORMED_RESPONSE"
        | "LANGUAGE"
        | "NO_IMAGE"
        | "IMAGE_OTHER"
        | "OTHER"
        | "5" => StopKind::Failed,
        "" | "FINISH_REASON_UNSPECIFIED" | "0" => StopKind::Missing,
        // The higher numbers mean other things on Vertex, none of them a whole message.
        number if number.bytes().all(|b| b.is_ascii_digit()) => StopKind::Failed,
        _ => StopKind::Unknown,
    }
}

impl From<Tokens<'_>> for Usage {
    fn from(tokens: Tokens<'_>) -> Self {
        let thoughts = tokens.thoughts.unwrap_or_default();
        let prompt = tokens.prompt.unwrap_or_default();
        let read = prompt.saturating_add(tokens.tool_use_prompt.unwrap_or_default());
        let written = tokens.candidates.unwrap_or_default();
        // Some gateways count thoughts among what was written; the total gives that away.
        let holds_thoughts = tokens.total == Some(read.saturating_add(written));
        Self {
            input_tokens: read,
            output_tokens: written.saturating_add(if holds_thoughts { 0 } else { thoughts }),
            cache_read_tokens: tokens.cached.unwrap_or_default(),
            cache_write_tokens: 0,
            reasoning_tokens: thoughts,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Declarations<'a> {
    function_declarations: Vec<Declaration<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Declaration<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    parameters_json_schema: Json,
}

/// One entry with all declarations, whose schemas are JSON Schemas as they are: what the older
/// `parameters` takes is less than that.
pub(super) fn tools(tools: &ToolSet) -> Json {
    let declarations = tools.iter().map(|tool| Declaration {
        name: tool.name(),
        description: tool.description(),
        parameters_json_schema: schema::told(tool.schema(), true),
    });
    let all = Declarations { function_declarations: declarations.collect() };
    raw::json(&if tools.is_empty() { Vec::new() } else { vec![all] })
}

/// The model's content with what the provider would refuse repaired, and one content with the
/// results of all calls.
///
/// A content without parts is left out: the provider refuses it, and takes two user contents in a
/// row instead.
pub(super) fn reply(turn: &Turn, report: &Report) -> Reply {
    let answers = answers(turn, report);
    let message = turn.message().cloned().unwrap_or_else(|| made(turn));
    let content = fields::parse::<Content<'_>>(message.as_str()).ok().flatten().unwrap_or_default();
    let given: Vec<Option<&str>> =
        answers.iter().map(|answer| Some(answer.call.id()).filter(|id| !id.is_empty())).collect();
    let ids = ids::ids(&given, ID, turn);
    let ids = given.iter().zip(ids).map(|(given, id)| given.is_some().then_some(id));
    let mut calls = answers.iter().zip(ids);

    let mut echo = Echo::default();
    if content.role.as_deref() != Some("model") {
        echo.note(None, "the role was set to model");
    }
    let mut results = Vec::new();
    let parts = content.parts.map_or(Vec::new(), |parts| raw::array(parts.get()));
    for (at, raw) in parts.into_iter().enumerate() {
        let part: Part<'_> = fields::part(raw).unwrap_or_default();
        let holds = |object: &RawObject<'_>| {
            object.len() > 0 && (part.call().is_some() || object.get("functionCall").is_none())
        };
        let mut object = RawObject::read(raw.get()).unwrap_or_default();
        let had_null = object.remove_null("functionCall");
        let empty_signature =
            object.text("thoughtSignature").is_some_and(|signature| signature.is_empty());
        if empty_signature {
            object.remove("thoughtSignature");
        }
        if !holds(&object) {
            echo.leave_out(at, "nothing is in it");
            continue;
        }
        let only_text = object.entries().all(|(name, _)| matches!(name, "text" | "thought"));
        if only_text && part.text.as_deref().is_none_or(str::is_empty) {
            echo.leave_out(at, "its text is empty");
            continue;
        }
        for (is_empty, key) in [(had_null, "functionCall"), (empty_signature, "thoughtSignature")] {
            if is_empty {
                echo.note(None, format!("an empty {key} was left out of part {at}"));
            }
        }
        let mut changed = had_null || empty_signature;
        if let Some((answer, id)) = part.call().and_then(|_| calls.next()) {
            changed |= repair_call(&mut object, answer, id.as_deref(), &mut echo);
            results.push(response(answer, id));
        }
        echo.keep(at, if changed { raw::json(&object) } else { Json::from_raw(raw) });
    }
    let (parts, mut repairs) = echo.finish();
    if parts.is_empty() {
        let what = "the content was left out: it has no parts".to_owned();
        repairs = vec![Repair { index: None, what }];
        return Reply { messages: Vec::new(), repairs };
    }
    let echoed = match repairs.is_empty() {
        true => message.clone(),
        false => raw::json(&Made::model(parts)),
    };
    let mut messages = vec![echoed];
    if !results.is_empty() {
        messages.push(raw::json(&Made { role: "user", parts: results }));
    }
    Reply { messages, repairs }
}

/// Repairs the call of a part; whether there was anything to repair.
fn repair_call(
    part: &mut RawObject<'_>,
    answer: &Answer<'_>,
    id: Option<&str>,
    echo: &mut Echo,
) -> bool {
    let inner = part.get("functionCall").map(RawValue::get).unwrap_or_default().to_owned();
    let Some(mut inner) = RawObject::read(&inner) else { return false };
    let mut changed = echo.repair(&mut inner, SPELLING, answer, id);
    if id.is_none() && inner.remove("id") {
        echo.note(Some(answer.index), "the id was left out: it is none");
        changed = true;
    }
    if changed {
        part.set("functionCall", &inner);
    }
    changed
}

/// Letters, digits and `_ . : -`, at most 128, starting with a letter or `_`.
fn legal_name(name: &str) -> Cow<'_, str> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "_.:-".contains(c);
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if starts && name.len() <= 128 && name.chars().all(legal) {
        return name.into();
    }
    if name.is_empty() {
        return "unnamed".into();
    }
    let start = if starts { "" } else { "_" };
    let rest = name.chars().map(|c| if legal(c) { c } else { '_' });
    start.chars().chain(rest).take(128).collect::<String>().into()
}

/// A content for calls that came in another way.
fn made(turn: &Turn) -> Json {
    let text = Some(turn.text()).filter(|text| !text.trim().is_empty());
    let calls = turn.calls().iter().enumerate().map(|(at, call)| MadePart::Call {
        function_call: MadeCall {
            id: Some(call.id()).filter(|id| !id.is_empty()),
            name: call.name(),
            args: raw::literal(&object_text(call)),
        },
        thought_signature: (at == 0).then_some(NO_SIGNATURE),
    });
    let text = text.map(|text| MadePart::Text { text });
    raw::json(&Made { role: "model", parts: text.into_iter().chain(calls).collect() })
}

#[derive(Serialize)]
struct Made<P> {
    role: &'static str,
    parts: Vec<P>,
}

impl Made<Json> {
    fn model(parts: Vec<Json>) -> Self {
        Self { role: "model", parts }
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum MadePart<'a> {
    Text {
        text: &'a str,
    },
    #[serde(rename_all = "camelCase")]
    Call {
        function_call: MadeCall<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        thought_signature: Option<&'static str>,
    },
}

#[derive(Serialize)]
struct MadeCall<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    name: &'a str,
    args: Json,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResponsePart<'a> {
    function_response: FunctionResponse<'a>,
}

#[derive(Serialize)]
struct FunctionResponse<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Cow<'a, str>>,
    name: Cow<'a, str>,
    response: Told,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<Medium<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Told {
    Output(Json),
    Error(String),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Medium<'a> {
    inline_data: InlineData<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InlineData<'a> {
    mime_type: &'a str,
    data: &'a str,
}

fn response<'a>(answer: &'a Answer<'a>, id: Option<Cow<'a, str>>) -> ResponsePart<'a> {
    let (response, parts) = match &answer.output {
        _ if answer.is_error => (Told::Error(answer.text()), Vec::new()),
        Output::Json { text } => (Told::Output(raw::literal(text)), Vec::new()),
        Output::Blocks { blocks } => {
            let media = blocks.iter().filter_map(medium).collect();
            (Told::Output(raw::json(&answer.text())), media)
        }
        _ => (Told::Output(raw::json(&answer.text())), Vec::new()),
    };
    let name = legal_name(answer.call.name());
    ResponsePart { function_response: FunctionResponse { id, name, response, parts } }
}

/// What is sent as it is; of the rest the text says what it was.
fn medium(block: &Block) -> Option<Medium<'_>> {
    let (mime_type, data) = match block {
        Block::Text { .. } => return None,
        Block::Image { media_type, base64 } | Block::Document { media_type, base64, .. } => {
            (media_type, base64)
        }
    };
    let inline_data = InlineData { mime_type, data };
    MEDIA.contains(&mime_type.as_str()).then_some(Medium { inline_data })
}
