//! Cohere v2 chat.

use serde_json::Value;
use toolpool::Turn;

use super::{Rules, came, elements, is_json_object, is_made_of, text, word};

/// Whether a message has content.
fn says(message: &Value) -> bool {
    match &message["content"] {
        Value::String(text) => !text.is_empty(),
        Value::Array(parts) => !parts.is_empty(),
        _ => false,
    }
}

pub(super) fn check(turn: &Turn, messages: &[Value], rules: &mut Rules) {
    let Some((echo, results)) = messages.split_first() else {
        return rules.demand(false, "the model's message is missing");
    };
    rules.demand(text(echo, "role") == "assistant", "echo: role");
    let calls = elements(echo, "tool_calls");
    if let Some(came) = came(turn) {
        let touched = ["role", "tool_calls", "content"];
        let touched = if says(&came) { &touched[..2] } else { &touched };
        rules.same_but_for(&came, echo, touched);
    }
    let filled = says(echo) || !calls.is_empty();
    rules.demand(filled, "echo: must have non-empty content or tool calls");
    rules.demand(
        echo.get("tool_calls").is_none() || !calls.is_empty(),
        "echo: tool_calls without calls",
    );
    for call in calls {
        let id = text(call, "id");
        rules.demand(!id.is_empty(), "echo: id");
        rules.demand(text(call, "type") == "function", format!("{id}: type"));
        let name = text(&call["function"], "name");
        rules.demand(is_made_of(name, 64, word), format!("{id}: name {name:?}"));
        rules.demand(is_json_object(&call["function"]["arguments"]), format!("{id}: arguments"));
    }
    rules.unique(calls.iter().map(|call| text(call, "id")), "echo: id");
    let ids = calls.iter().map(|call| text(call, "id"));
    let answered = results.iter().map(|result| text(result, "tool_call_id"));
    rules.demand(answered.eq(ids), "one tool message per call, in their order");
    for result in results {
        rules.only_keys(result, &["role", "tool_call_id", "content"], "result");
        rules.demand(text(result, "role") == "tool", "result: role");
        rules.demand(!text(result, "content").trim().is_empty(), "result: content is no text");
    }
}
