//! What two clients' requests must have in common: not the results' words, but where and in which
//! order they stand.

use serde_json::Value;
use toolpool::Wire;

use crate::checker::{elements, text};

/// The messages with results, each as its role and the calls it answers.
pub(crate) fn shape(wire: Wire, messages: &[Value]) -> Vec<String> {
    messages.iter().filter_map(|message| message_shape(wire, message)).collect()
}

fn message_shape(wire: Wire, message: &Value) -> Option<String> {
    let answered: Vec<String> = match wire {
        Wire::Anthropic => elements(message, "content")
            .iter()
            .filter(|block| text(block, "type") == "tool_result")
            .map(|block| text(block, "tool_use_id").to_owned())
            .collect(),
        Wire::Bedrock => elements(message, "content")
            .iter()
            .map(|block| &block["toolResult"])
            .filter(|result| result.is_object() && text(message, "role") == "user")
            .map(|result| text(result, "toolUseId").to_owned())
            .collect(),
        Wire::Gemini => elements(message, "parts")
            .iter()
            .map(|part| &part["functionResponse"])
            .filter(|response| response.is_object())
            .map(|response| format!("{} {}", text(response, "name"), text(response, "id")))
            .collect(),
        Wire::OpenAi | Wire::Cohere => vec![text(message, "tool_call_id").to_owned()],
        Wire::OpenAiResponses if text(message, "type").ends_with("_output") => {
            vec![text(message, "call_id").to_owned()]
        }
        Wire::OpenAiResponses => vec![],
        Wire::Ollama => vec![text(message, "tool_name").to_owned()],
        other => panic!("the shape of {other}'s results isn't written down"),
    };
    let what = if wire == Wire::OpenAiResponses { "type" } else { "role" };
    (!answered.concat().is_empty())
        .then(|| format!("{}: {}", text(message, what), answered.join(", ")))
}

/// What is the same to the provider, spelled in one way.
pub(crate) fn normalized(wire: Wire, value: &Value) -> Value {
    match value {
        Value::Array(values) => values.iter().map(|value| normalized(wire, value)).collect(),
        Value::Object(members) => Value::Object(
            members
                .iter()
                .map(|(key, value)| member(wire, key, &normalized(wire, value)))
                .collect(),
        ),
        value => value.clone(),
    }
}

fn member(wire: Wire, key: &str, value: &Value) -> (String, Value) {
    let text = value.as_str().unwrap_or_default();
    let (key, value) = match (wire, key) {
        (Wire::Gemini, "function_call") => ("functionCall", value.clone()),
        (Wire::Gemini, "function_response") => ("functionResponse", value.clone()),
        // Both alphabets of base64 are read.
        (Wire::Gemini, "thoughtSignature" | "thought_signature") => {
            ("thoughtSignature", text.replace('-', "+").replace('_', "/").into())
        }
        // A client's own name for a call that came without an id.
        (Wire::Gemini, "id") if text.starts_with("pyd_ai_") => ("id", Value::Null),
        _ => (key, value.clone()),
    };
    (key.to_owned(), value)
}

/// Whether our messages hold all that a client echoed: every key with a value, every element in
/// its order. Clients leave out what they don't know and spell out what is the default.
pub(crate) fn holds(ours: &[Value], echo: &[Value]) -> bool {
    let mut ours = ours.iter();
    echo.iter().all(|theirs| ours.any(|ours| value_holds(ours, theirs)))
}

fn value_holds(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => theirs.iter().all(|(key, theirs)| {
            is_default(theirs) || ours.get(key).is_some_and(|ours| value_holds(ours, theirs))
        }),
        (Value::Array(ours), Value::Array(theirs)) => holds(ours, theirs),
        // Arguments are JSON in a string, which clients spell in their own way.
        (Value::String(ours), Value::String(theirs)) if theirs.starts_with('{') => {
            let read = |text: &str| serde_json::from_str::<Value>(text);
            ours == theirs || read(ours).ok().zip(read(theirs).ok()).is_some_and(|(a, b)| a == b)
        }
        (ours, theirs) => ours == theirs,
    }
}

fn is_default(value: &Value) -> bool {
    matches!(value, Value::Null | Value::Bool(false))
        || value == ""
        || value.as_array().is_some_and(Vec::is_empty)
        || value.as_object().is_some_and(serde_json::Map::is_empty)
}
