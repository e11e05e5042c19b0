//! The providers' rules for what follows a turn with calls: the echoed message and the results.
//!
//! Written from the rules alone, without a look at how replies are made. A file a provider.

mod anthropic;
mod bedrock;
mod cohere;
mod gemini;
mod ollama;
mod openai;
mod openai_responses;

use serde_json::Value;
use toolpool::{Json, StopKind, Turn, Wire};

/// Panics if the provider would refuse `messages` after `turn`, or if a call has no result.
pub(crate) fn check_reply(turn: &Turn, messages: &[Json]) {
    let broken = broken_rules(turn, messages);
    assert!(
        broken.is_empty(),
        "{} would refuse the reply:\n  {}\nmessages: {messages:#?}",
        turn.wire(),
        broken.join("\n  ")
    );
}

/// The rules that `messages` break, each with its place.
pub(crate) fn broken_rules(turn: &Turn, messages: &[Json]) -> Vec<String> {
    let mut rules = Rules::default();
    let messages: Vec<Value> =
        messages.iter().map(|message| message.to_value().unwrap_or_default()).collect();
    match turn.wire() {
        Wire::Anthropic => anthropic::check(turn, &messages, &mut rules),
        Wire::OpenAi => openai::check(turn, &messages, &mut rules),
        Wire::OpenAiResponses => openai_responses::check(turn, &messages, &mut rules),
        Wire::Cohere => cohere::check(turn, &messages, &mut rules),
        Wire::Ollama => ollama::check(turn, &messages, &mut rules),
        Wire::Bedrock => bedrock::check(turn, &messages, &mut rules),
        Wire::Gemini => gemini::check(turn, &messages, &mut rules),
        other => panic!("no rules are written down for {other}"),
    }
    rules.broken
}

/// The message as it came, half a pair of surrogates as the character that stands for it; nothing
/// for a turn of our own making, and where no tree can hold it.
pub(crate) fn came(turn: &Turn) -> Option<Value> {
    let message = turn.message()?;
    let whole = || serde_json::from_str(&message.as_str().replace(r"\ud800", r"\ufffd")).ok();
    message.to_value().ok().or_else(whole)
}

/// Whether the message broke off, so that what stands last in it may be half a block.
pub(crate) fn was_cut(turn: &Turn) -> bool {
    matches!(
        turn.stop().kind,
        StopKind::MaxTokens
            | StopKind::ContextExceeded
            | StopKind::Refusal
            | StopKind::ContentFilter
            | StopKind::Pause
            | StopKind::Failed
    )
}

/// Whether nothing follows the calls but further ones, and what begins with the thinking that led to
/// them.
fn calls_come_last(
    blocks: &[Value],
    is_call: impl Fn(&Value) -> bool,
    is_thinking: impl Fn(&Value) -> bool,
) -> bool {
    let first = blocks.iter().position(&is_call).unwrap_or(blocks.len());
    let mut between = blocks[first..].split(&is_call).filter(|blocks| !blocks.is_empty());
    let ends_with_call = blocks.last().is_none_or(|last| first == blocks.len() || is_call(last));
    ends_with_call && between.all(|blocks| is_thinking(&blocks[0]))
}

/// Collects what is broken.
#[derive(Default)]
pub(crate) struct Rules {
    broken: Vec<String>,
}

impl Rules {
    /// Notes `rule` as broken unless it holds.
    pub(crate) fn demand(&mut self, holds: bool, rule: impl Into<String>) {
        if !holds {
            self.broken.push(rule.into());
        }
    }

    /// Demands that an object has no other keys than these.
    pub(crate) fn only_keys(&mut self, object: &Value, keys: &[&str], place: &str) {
        for key in object.as_object().into_iter().flat_map(|object| object.keys()) {
            self.demand(keys.contains(&key.as_str()), format!("{place}: extra key {key:?}"));
        }
    }

    /// Demands that the echoed message has what the message had, but for what these keys hold.
    pub(crate) fn same_but_for(&mut self, came: &Value, echo: &Value, keys: &[&str]) {
        let all = [came, echo].into_iter().filter_map(Value::as_object).flat_map(|o| o.keys());
        for key in all.filter(|key| !keys.contains(&key.as_str())) {
            self.demand(came.get(key) == echo.get(key), format!("echo: {key} was changed"));
        }
    }

    /// Demands that texts differ.
    pub(crate) fn unique<'a>(&mut self, texts: impl IntoIterator<Item = &'a str>, place: &str) {
        let mut seen = std::collections::HashSet::new();
        for text in texts {
            self.demand(seen.insert(text), format!("{place}: {text:?} stands twice"));
        }
    }
}

/// The string of a key, empty where there is none.
pub(crate) fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key].as_str().unwrap_or_default()
}

/// The elements of a key's array, none where it is no array.
pub(crate) fn elements<'a>(object: &'a Value, key: &str) -> &'a [Value] {
    object[key].as_array().map_or(&[], Vec::as_slice)
}

/// Whether a value is a string that holds a JSON object, or the `null` that stands for an empty
/// one.
pub(crate) fn is_json_object(value: &Value) -> bool {
    if value == "null" {
        return true;
    }
    let object = value.as_str().map(serde_json::from_str::<serde_json::Map<String, Value>>);
    object.is_some_and(|object| object.is_ok())
}

/// Whether `text` is 1 to `most` of the characters.
pub(crate) fn is_made_of(text: &str, most: usize, legal: impl Fn(char) -> bool) -> bool {
    !text.is_empty() && text.len() <= most && text.chars().all(legal)
}

/// Whether an address holds an image of a kind that providers read.
pub(crate) fn is_image(url: &str) -> bool {
    let kinds = ["png", "jpeg", "gif", "webp"];
    kinds.iter().any(|kind| url.starts_with(&format!("data:image/{kind};base64,")))
}

/// `a-z A-Z 0-9 _ -`.
pub(crate) fn word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}
