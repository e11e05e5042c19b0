//! Cohere v2 chat.

use serde_json::Value;
use toolpool::Turn;

use super::{Rules, came, elements, is_json_object, is_made_of, text, word};

/// Whether a message has content.
fn says(message: &Value) -> bool {
    match &message["content"] {
        Value::String(text) => !text.is_empty(),
        Value::Array(parts) => parts.iter().any(|part| {
            let is_text = part.get("text").is_some() && matches!(text(part, "type"), "text" | "");
            !is_text || !text(part, "text").is_empty()
        }),
        _ => false,
    }
}

/// All that a message says in its plan and its content.
fn words(message: &Value) -> String {
    let content = match &message["content"] {
        Value::Array(parts) => parts.iter().map(|part| text(part, "text")).collect(),
        content => content.as_str().unwrap_or_default().to_owned(),
    };
    text(message, "tool_plan").to_owned() + &content
}

pub(super) fn check(turn: &Turn, messages: &[Value], rules: &mut Rules) {
    let Some((echo, results)) = messages.split_first() else {
        return rules.demand(false, "the model's message is missing");
    };
    rules.demand(text(echo, "role") == "assistant", "echo: role");
    let calls = elements(echo, "tool_calls");
    if let Some(came) = came(turn) {
        rules.same_but_for(&came, echo, &["role", "tool_calls", "content", "tool_plan"]);
        // Into a message that says nothing words are put.
        let kept = !says(&came) && text(&came, "tool_plan") == text(echo, "tool_plan");
        let same = kept || words(&came) == words(echo);
        rules.demand(same, "echo: words were lost or changed");
    }
    let filled = says(echo) || !calls.is_empty();
    let is_apart = calls.is_empty() || words(echo) == text(echo, "tool_plan");
    rules.demand(is_apart, "echo: text beside tool calls");
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
