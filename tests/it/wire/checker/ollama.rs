//! Ollama `/api/chat`.

use serde_json::Value;
use toolpool::Turn;

use super::{Rules, came, elements, is_made_of, text, word};

pub(super) fn check(turn: &Turn, messages: &[Value], rules: &mut Rules) {
    let Some((echo, results)) = messages.split_first() else {
        return rules.demand(false, "the model's message is missing");
    };
    rules.demand(text(echo, "role") == "assistant", "echo: role");
    if let Some(came) = came(turn) {
        rules.same_but_for(&came, echo, &["role", "tool_calls"]);
    }
    let calls = elements(echo, "tool_calls");
    for call in calls {
        let name = text(&call["function"], "name");
        rules.demand(is_made_of(name, 64, word), format!("echo: name {name:?}"));
        let is_object = call["function"]["arguments"].is_object();
        rules.demand(is_object, format!("echo: arguments of {name:?} are no object"));
    }
    // Results go by order and name; an id, where there is one, is a help.
    rules.demand(results.len() == calls.len(), "one tool message per call");
    for (result, call) in results.iter().zip(calls) {
        let known = ["role", "tool_name", "tool_call_id", "content", "images"];
        rules.only_keys(result, &known, "result");
        rules.demand(text(result, "role") == "tool", "result: role");
        let name = text(&call["function"], "name");
        rules.demand(text(result, "tool_name") == name, format!("result: tool_name of {name:?}"));
        rules.demand(text(result, "tool_call_id") == text(call, "id"), "result: tool_call_id");
        rules.demand(!text(result, "content").trim().is_empty(), "result: content is no text");
        let images = elements(result, "images");
        rules.demand(images.iter().all(Value::is_string), "result: images are no strings");
    }
}
