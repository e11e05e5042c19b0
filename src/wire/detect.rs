//! Which format a response is in, guessed from the first object in it.
//!
//! Every format has keys that no other has. An error body often hasn't: then it is a guess which
//! serves to tell its text.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::turn::Wire;
use crate::wire::Body;
use crate::wire::fields::{self, Value, fields};
use crate::wire::stream;

/// How many payloads of a stream are looked at.
const PAYLOADS: usize = 8;

impl Wire {
    /// Guesses the format of a response body, or of a stream from its beginning. Nothing where no
    /// format is known by its keys.
    ///
    /// ```
    /// use toolpool::Wire;
    ///
    /// assert_eq!(Wire::detect(r#"{"choices": []}"#), Some(Wire::OpenAi));
    /// assert_eq!(Wire::detect("data: {\"candidates\": []}\n\n"), Some(Wire::Gemini));
    /// assert_eq!(Wire::detect("<html>"), None);
    /// ```
    pub fn detect<'a>(body: impl Into<Body<'a>>) -> Option<Self> {
        let body = body.into();
        // The frames of a binary stream name their events in plain letters.
        let has = |word: &[u8]| body.0.windows(word.len()).take(256).any(|seen| seen == word);
        if has(b":message-type") || has(b":event-type") {
            return Some(of_frames(&body.0));
        }
        let text = match std::str::from_utf8(&body.0) {
            Ok(text) => text,
            // A body cut inside a character still tells.
            Err(error) => std::str::from_utf8(&body.0[..error.valid_up_to()]).ok()?,
        };
        payloads(text.trim_start_matches('\u{feff}')).take(PAYLOADS).find_map(of_object)
    }
}

/// The format of Amazon's frames: Converse, unless they hold another format's events.
fn of_frames(body: &[u8]) -> Wire {
    let mut held = None;
    stream::look_into(body, &mut |name, data| {
        held = if name.is_empty() { of_object(data) } else { Some(Wire::Bedrock) };
        held.is_none()
    });
    held.unwrap_or(Wire::Bedrock)
}

/// The format of one event.
pub(super) fn of_event(name: &str, data: &str) -> Option<Wire> {
    match name {
        "messageStart" | "contentBlockStart" | "contentBlockDelta" => Some(Wire::Bedrock),
        _ => of_object(data),
    }
}

/// The text itself, or what follows `data:` where it is an event stream.
fn payloads(text: &str) -> impl Iterator<Item = &str> {
    let is_json = text.trim_start().starts_with(['{', '[']);
    let lines = text.lines().filter_map(|line| line.strip_prefix("data:"));
    is_json.then_some(text).into_iter().chain(lines.filter(move |_| !is_json))
}

fields! {
    struct Probe<'a> {
        choices: &'a RawValue,
        candidates: &'a RawValue,
        prompt_feedback "promptFeedback": &'a RawValue,
        usage_metadata "usageMetadata": &'a RawValue,
        object: Cow<'a, str>,
        kind "type": Cow<'a, str>,
        output: &'a RawValue,
        message_start "messageStart": &'a RawValue,
        block_start "contentBlockStart": &'a RawValue,
        block_delta "contentBlockDelta": &'a RawValue,
        message: &'a RawValue,
        content: &'a RawValue,
        stop_reason: &'a RawValue,
        done: &'a RawValue,
        finish_reason: &'a RawValue,
        error: &'a RawValue,
    }

    struct ErrorProbe<'a> {
        message: &'a RawValue,
        status: &'a RawValue,
    }
}

/// The format of the first JSON object of a text.
fn of_object(text: &str) -> Option<Wire> {
    let text = text.trim_start();
    // Gemini streams are arrays where they are no event streams.
    let text = text.strip_prefix('[').unwrap_or(text);
    let probe = Probe::read(&mut serde_json::Deserializer::from_str(text)).ok()??;
    let is = |raw: Option<&RawValue>, first| raw.is_some_and(|raw| raw.get().starts_with(first));

    let kind = probe.kind.as_deref().unwrap_or_default();
    let object = probe.object.as_deref().unwrap_or_default();
    if probe.candidates.or(probe.prompt_feedback).or(probe.usage_metadata).is_some() {
        Some(Wire::Gemini)
    } else if is(probe.choices, '[') || object.starts_with("chat.completion") {
        Some(Wire::OpenAi)
    } else if is(probe.output, '[') || object == "response" || kind.starts_with("response.") {
        Some(Wire::OpenAiResponses)
    } else if is(probe.output, '{')
        || is(probe.message_start.or(probe.block_start).or(probe.block_delta), '{')
    {
        Some(Wire::Bedrock)
    } else if kind.starts_with("message-") {
        Some(Wire::Cohere)
    } else if matches!(kind, "message" | "message_start" | "error")
        || (is(probe.content, '[') && probe.stop_reason.is_some())
    {
        Some(Wire::Anthropic)
    } else if is(probe.message, '{') && probe.done.is_some() {
        Some(Wire::Ollama)
    } else if is(probe.message, '{') && probe.finish_reason.is_some() {
        Some(Wire::Cohere)
    } else {
        of_error(probe.error?)
    }
}

fn of_error(error: &RawValue) -> Option<Wire> {
    if error.get().starts_with('"') {
        return Some(Wire::Ollama);
    }
    let probe: ErrorProbe<'_> = fields::part(error)?;
    probe.message?;
    Some(if probe.status.is_some() { Wire::Gemini } else { Wire::OpenAi })
}
