//! OpenAI Chat Completions and the many servers that are compatible with it, more or less.
//!
//! Calls come in `tool_calls`, or as the one `function_call` of older days. Results are a message
//! each, with text alone: images and PDFs follow in a user message after them all, which some
//! compatible servers (Mistral) refuse. Of media of other kinds the text says what they were.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::call::ToolCall;
use crate::json::Json;
use crate::output::{Block, Output};
use crate::report::Report;
use crate::tool::ToolSet;
use crate::turn::{StopKind, StopReason, Turn, Usage, Wire};
use crate::wire::answers::{Answer, answers};
use crate::wire::content;
use crate::wire::failure::{Failure, check_list};
use crate::wire::fields::{self, Given, fields};
use crate::wire::gemini;
use crate::wire::ids::{self, IdRule};
use crate::wire::media::image_type;
use crate::wire::raw::{self, RawObject};
use crate::wire::tool_calls::{self, Dialect, Echo, Element, Function};
use crate::wire::{Repair, Reply};

fields! {
    struct Body<'a> {
        choices: Vec<Option<Choice<'a>>>,
        usage: Tokens<'a>,
    }

    struct Choice<'a> {
        message: &'a RawValue,
        finish_reason: Cow<'a, str>,
    }

    struct RawCalls<'a> {
        content: &'a RawValue,
        tool_calls: Vec<Option<&'a RawValue>>,
        function_call: Function<'a>,
    }

    struct Message<'a> {
        content: &'a RawValue,
        refusal: Cow<'a, str>,
        tool_calls: Given<Vec<Option<Element<'a>>>>,
        function_call: Function<'a>,
    }

    pub(super) struct Tokens<'a> {
        prompt_tokens: u64,
        completion_tokens: u64,
        total_tokens: u64,
        prompt_tokens_details: TokenDetails<'a>,
        completion_tokens_details: TokenDetails<'a>,
        cached_tokens: u64,
        reasoning_tokens: u64,
        prompt_cache_hit_tokens: u64,
        cache_creation_input_tokens: u64,
    }

    pub(super) struct TokenDetails<'a> {
        cached_tokens: u64,
        cache_write_tokens: u64,
        reasoning_tokens: u64,
    }
}

pub(super) fn parse(body: &str) -> Result<Turn, Failure> {
    const MESSAGE: &str = "choices[0].message";
    let no_object = || Failure::misfit(MESSAGE, "an object");
    let Body { choices, usage, .. } = fields::parse(body)?.unwrap_or_default();
    let choices = choices.unwrap_or_default();
    let Some((Some(first), others)) = choices.split_first() else { return Err(no_object()) };
    let raw = first.message.ok_or_else(no_object)?;
    let (joined, choice) = joined(first, others).unzip();
    let (raw, choice) = (joined.as_deref().unwrap_or(raw), choice.unwrap_or(first));
    let message = fields::parse::<Message<'_>>(raw.get())?.ok_or_else(no_object)?;
    check_list(message.elements(), format_args!("{MESSAGE}.tool_calls"))?;
    let stop = stop(choice.finish_reason.as_deref(), message.refusal.as_deref());
    let (mut text, _) = content::said(message.content, format_args!("{MESSAGE}.content"))?;
    if text.is_empty() {
        text = message.refusal.clone().unwrap_or_default();
    }
    Ok(Turn::parsed(
        Wire::OpenAi,
        Json::from_raw(raw),
        calls(&message, &stop),
        text.into_owned(),
        stop,
        usage.map(Usage::from).unwrap_or_default(),
    ))
}

/// The message of the first choice with the calls of the others, and who speaks of those, where the
/// first says that there are some and holds none: Copilot puts what Claude says and its calls into
/// choices of their own. Some proxies give the first a stop reason of its own, or none; then it is
/// joined with one that holds nothing but calls.
fn joined<'a, 'b>(
    first: &'b Choice<'a>,
    others: &'b [Option<Choice<'a>>],
) -> Option<(Box<RawValue>, &'b Choice<'a>)> {
    let is = |choice: &Choice<'_>, kind| stop(choice.finish_reason.as_deref(), None).kind == kind;
    let callers = others.iter().flatten().filter(|other| is(other, StopKind::ToolUse));
    let mut callers = callers.filter_map(|other| Some((other, other.calls()?))).peekable();
    let (speaker, calls) = callers.peek()?;
    let belongs = match others {
        _ if is(first, StopKind::ToolUse) => true,
        [_] if calls.say_something() => false,
        [_] => is(first, StopKind::EndTurn) || is(first, StopKind::Missing),
        _ => false,
    };
    if !belongs || first.calls()?.are_some() {
        return None;
    }
    let speaker = *speaker;
    let theirs: Vec<_> =
        callers.filter_map(|(_, calls)| calls.tool_calls).flatten().flatten().collect();
    let mut message = RawObject::read(first.message?.get()).filter(|_| !theirs.is_empty())?;
    message.set("tool_calls", &theirs);
    Some((serde_json::value::to_raw_value(&message).ok()?, speaker))
}

impl<'a> Choice<'a> {
    fn calls(&self) -> Option<RawCalls<'a>> {
        fields::part(self.message?)
    }
}

impl RawCalls<'_> {
    fn say_something(&self) -> bool {
        self.content.is_some_and(|content| !matches!(content.get(), "null" | "\"\"" | "[]"))
    }

    fn are_some(&self) -> bool {
        self.tool_calls.iter().flatten().any(Option::is_some)
            || self.function_call.as_ref().is_some_and(|legacy| !legacy.name().is_empty())
    }
}

impl<'a> Message<'a> {
    fn elements(&self) -> &[Option<Element<'a>>] {
        self.tool_calls.as_ref().map_or(&[], |Given(elements)| elements)
    }
}

fn calls(message: &Message<'_>, stop: &StopReason) -> Vec<ToolCall> {
    let mut calls = tool_calls::calls(message.elements(), stop);
    if calls.is_empty()
        && let Some(legacy) = message.function_call.as_ref().filter(|f| !f.name().is_empty())
    {
        calls.push(legacy.call(None, stop));
    }
    calls
}

pub(super) fn stop(raw: Option<&str>, refusal: Option<&str>) -> StopReason {
    let raw = raw.unwrap_or_default();
    // What Google's own endpoint in this format puts before a reason of its own.
    let reason = raw.strip_prefix("function_call_filter: ").unwrap_or(raw);
    let kind = match reason {
        "tool_calls" | "function_call" | "tool_use" => StopKind::ToolUse,
        _ if refusal.is_some_and(|refusal| !refusal.is_empty()) => StopKind::Refusal,
        "stop" | "end_turn" | "eos" | "eos_token" => StopKind::EndTurn,
        "stop_sequence" => StopKind::StopSequence,
        "length"
        | "max_tokens"
        | "max_output_tokens"
        | "max_completion_tokens"
        | "max_new_tokens"
        | "max_length"
        | "token_limit" => StopKind::MaxTokens,
        "model_length"
        | "context_length"
        | "context_length_exceeded"
        | "model_context_window_exceeded" => StopKind::ContextExceeded,
        "content_filter"
        | "content-filter"
        | "content_filtered"
        | "guardrail_intervened"
        | "sensitive"
        | "safety"
        | "recitation"
        | "prohibited_content" => StopKind::ContentFilter,
        "refusal" => StopKind::Refusal,
        // vLLM and SGLang abort, and vLLM breaks a loop off; DeepSeek runs out of machines, Z.ai loses
        // its connection to them, watsonx runs out of time.
        "error"
        | "abort"
        | "repetition"
        | "cancelled"
        | "insufficient_system_resource"
        | "network_error"
        | "time_limit"
        | "malformed_function_call" => StopKind::Failed,
        "" => StopKind::Missing,
        // Routers pass on what Gemini says.
        other if other.starts_with(|c: char| c.is_ascii_uppercase()) => gemini::stop_kind(other),
        _ => StopKind::Unknown,
    };
    StopReason::new(kind, raw)
}

impl From<Tokens<'_>> for Usage {
    fn from(tokens: Tokens<'_>) -> Self {
        let one_level_up = [
            tokens.cached_tokens,
            tokens.reasoning_tokens,
            tokens.prompt_cache_hit_tokens,
            tokens.cache_creation_input_tokens,
        ];
        let has_details = tokens.prompt_tokens_details.is_some()
            || tokens.completion_tokens_details.is_some()
            || one_level_up.iter().any(Option::is_some);
        let input = tokens.prompt_tokens_details.unwrap_or_default();
        let output = tokens.completion_tokens_details.unwrap_or_default();
        let read = tokens.prompt_tokens.unwrap_or_default();
        let mut written = tokens.completion_tokens.unwrap_or_default();
        // SGLang counts it one level up, as Moonshot does with what was cached.
        let reasoning = output.reasoning_tokens.or(tokens.reasoning_tokens).unwrap_or_default();
        // xAI counts reasoning apart; its total gives that away.
        let apart = written.saturating_add(reasoning);
        if tokens.total_tokens == Some(read.saturating_add(apart)) {
            written = apart;
        }
        // Google's own endpoint in this format leaves thoughts out of all but the total.
        if let (Some(total), false) = (tokens.total_tokens, has_details) {
            written = written.max(total.saturating_sub(read));
        }
        Self {
            input_tokens: read,
            output_tokens: written,
            cache_read_tokens: input
                .cached_tokens
                .or(tokens.cached_tokens)
                .or(tokens.prompt_cache_hit_tokens)
                .unwrap_or_default(),
            cache_write_tokens: input
                .cache_write_tokens
                .or(tokens.cache_creation_input_tokens)
                .unwrap_or_default(),
            reasoning_tokens: reasoning,
        }
    }
}

/// OpenAI's own limit is 40 bytes. Servers that make longer ids take them back, and some put a
/// signature into them or point at them from elsewhere in the message; so what came stays, and
/// the limit is for messages that another format's ids go into.
const DIALECT: Dialect = Dialect {
    ids: Some(IdRule { max: 40, legal: |c| !c.is_control() }),
    strings: true,
    custom: true,
    plans: false,
};

pub(super) fn tools(tools: &ToolSet) -> Json {
    tool_calls::definitions(tools, DIALECT)
}

pub(super) fn reply(turn: &Turn, report: &Report) -> Reply {
    let answers = answers(turn, report);
    let Echo { mut message, ids, mut repairs } = tool_calls::echo(turn, &answers, DIALECT);
    let legacy = turn.message().is_some() && message.get("tool_calls").is_none();
    repair(&mut message, legacy, &answers, &mut repairs);
    let echoed = match turn.message() {
        Some(as_it_came) if repairs.is_empty() => as_it_came.clone(),
        _ => raw::json(&message),
    };
    let mut messages = vec![echoed];
    let results = answers.iter().zip(&ids).map(|(answer, id)| {
        let content = answer.text();
        let name = legacy.then(|| ids::name(answer.call.name(), tool_calls::NAME_LIMIT));
        raw::json(&match name {
            Some(name) => {
                ToolMessage { role: "function", tool_call_id: None, name: Some(name), content }
            }
            None => ToolMessage { role: "tool", tool_call_id: Some(id), name: None, content },
        })
    });
    messages.extend(results);
    messages.extend(media(&answers));
    Reply { messages, repairs }
}

/// Repairs all of an echoed message but its `tool_calls`.
fn repair(
    message: &mut RawObject<'_>,
    legacy: bool,
    answers: &[Answer<'_>],
    repairs: &mut Vec<Repair>,
) {
    let mut repair = |index, what: &str| repairs.push(Repair { index, what: what.to_owned() });
    let function = message.get("function_call").map(RawValue::get).filter(|text| *text != "null");
    let function = function.map(str::to_owned);
    if let Some(text) = function {
        match RawObject::read(&text) {
            Some(mut function) if legacy && !answers.is_empty() => {
                let mut repair = |what: String| repair(Some(0), &what);
                let name =
                    tool_calls::repair_name(&mut function, tool_calls::NAME_LIMIT, &mut repair);
                if tool_calls::repair_arguments(&mut function, true, &mut repair) || name {
                    message.set("function_call", &raw::json(&function));
                }
            }
            _ => {
                message.remove("function_call");
                repair(None, "function_call was left out: it is no call");
            }
        }
    }
    if let Some(audio) = message.get("audio").and_then(|audio| RawObject::read(audio.get())) {
        match audio.text("id").filter(|id| !id.is_empty()) {
            None => {
                message.remove("audio");
                repair(None, "audio was left out: it has no id");
            }
            Some(id) if audio.len() > 1 => {
                message.set("audio", &AudioId { id });
                repair(None, "of audio only the id was kept");
            }
            Some(_) => {}
        }
    }
    let has_audio = message.get("audio").is_some() && !message.is_null("audio");
    let refused = message.text("refusal").is_some_and(|refusal| !refusal.is_empty());
    if answers.is_empty() && !has_audio && !refused {
        tool_calls::put_words(message, repairs);
    }
}

#[derive(Serialize)]
struct AudioId {
    id: String,
}

#[derive(Serialize)]
struct ToolMessage<'a> {
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<Cow<'a, str>>,
    content: String,
}

#[derive(Serialize)]
struct UserMessage<'a> {
    role: &'static str,
    content: Vec<Part<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part<'a> {
    Text { text: String },
    ImageUrl { image_url: ImageUrl },
    File { file: File<'a> },
}

#[derive(Serialize)]
struct ImageUrl {
    url: String,
}

#[derive(Serialize)]
struct File<'a> {
    filename: &'a str,
    file_data: String,
}

/// The only kind of file that may stand in a message.
const PDF: &str = "application/pdf";

/// What a result message can't hold.
fn media(answers: &[Answer<'_>]) -> Option<Json> {
    let mut content = Vec::new();
    for answer in answers {
        let Output::Blocks { blocks } = &answer.output else { continue };
        for block in blocks {
            let (what, part) = match block {
                Block::Text { .. } => continue,
                Block::Image { media_type, base64 } => {
                    let Some(known) = image_type(media_type) else { continue };
                    let url = data_url(known, base64);
                    ("image", Part::ImageUrl { image_url: ImageUrl { url } })
                }
                Block::Document { media_type, .. } if media_type != PDF => continue,
                Block::Document { media_type, base64, name } => {
                    let filename = name.as_deref().unwrap_or("document");
                    let file_data = data_url(media_type, base64);
                    ("document", Part::File { file: File { filename, file_data } })
                }
            };
            let text = format!("{what} of the result of {}:", answer.call.name());
            content.extend([Part::Text { text }, part]);
        }
    }
    (!content.is_empty()).then(|| raw::json(&UserMessage { role: "user", content }))
}

pub(super) fn data_url(media_type: &str, base64: &str) -> String {
    format!("data:{media_type};base64,{base64}")
}
