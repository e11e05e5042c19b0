//! OpenAI Chat Completions.

use serde_json::Value;
use toolpool::{ToolCall, Turn};

use super::{Rules, came, elements, is_image, is_json_object, is_made_of, text, word};

pub(super) fn check(turn: &Turn, messages: &[Value], rules: &mut Rules) {
    let Some((echo, results)) = messages.split_first() else {
        return rules.demand(false, "the model's message is missing");
    };
    rules.demand(text(echo, "role") == "assistant", "echo: role");
    if let Some(came) = came(turn) {
        let touched = ["role", "content", "tool_calls", "function_call", "audio"];
        rules.same_but_for(&came, echo, &touched);
    }
    let own: Vec<_> = turn.calls().iter().map(ToolCall::id).collect();
    let own = if turn.message().is_some() { &own[..] } else { &[] };
    check_echo(echo, own, rules);

    let calls = elements(echo, "tool_calls");
    let ids: Vec<_> = calls.iter().map(|call| text(call, "id")).collect();
    let legacy = usize::from(echo["function_call"].is_object());
    let answers = results.len().min(ids.len() + legacy);
    let (answers, more) = results.split_at(answers);
    if legacy == 1 {
        rules.demand(ids.is_empty(), "echo: function_call beside tool_calls");
        let names: Vec<_> = answers.iter().map(|answer| text(answer, "name")).collect();
        let name = text(&echo["function_call"], "name");
        rules.demand(names == [name], format!("results of {names:?}, called {name:?}"));
    } else {
        let answered: Vec<_> = answers.iter().map(|answer| text(answer, "tool_call_id")).collect();
        rules.demand(answered == ids, format!("tool_call_ids {answered:?}, calls {ids:?}"));
    }
    for answer in answers {
        let (role, key) = if legacy == 1 { ("function", "name") } else { ("tool", "tool_call_id") };
        rules.only_keys(answer, &["role", key, "content"], "result");
        rules.demand(text(answer, "role") == role, format!("result: role is no {role}"));
        let filled = answer["content"].as_str().is_some_and(|text| !text.trim().is_empty());
        rules.demand(filled, "result: content is no text");
    }
    rules.demand(more.len() <= 1, "more messages than results");
    for message in more {
        check_media(message, rules);
    }
}

/// `own` are the ids that the provider made, which it takes back whatever their length.
fn check_echo(echo: &Value, own: &[&str], rules: &mut Rules) {
    let calls = &echo["tool_calls"];
    if echo.get("tool_calls").is_some() {
        let filled = calls.as_array().is_some_and(|calls| !calls.is_empty());
        rules.demand(filled, "echo: [] is too short - tool_calls");
    }
    for call in elements(echo, "tool_calls") {
        let id = text(call, "id");
        let most = if own.contains(&id) { usize::MAX } else { 40 };
        rules.demand(is_made_of(id, most, |c| !c.is_control()), format!("echo: id {id:?}"));
        match text(call, "type") {
            "function" => check_function(&call["function"], rules),
            "custom" => {
                let custom = &call["custom"];
                let name = text(custom, "name");
                rules.demand(is_made_of(name, 64, word), format!("echo: name {name:?}"));
                rules.demand(custom["input"].is_string(), "echo: input is no string");
            }
            other => rules.demand(false, format!("echo: type {other:?}")),
        }
    }
    rules.unique(elements(echo, "tool_calls").iter().map(|call| text(call, "id")), "echo: id");
    match echo.get("function_call") {
        None | Some(Value::Null) => {}
        Some(function) => check_function(function, rules),
    }
    let filled = match &echo["content"] {
        Value::String(text) => !text.is_empty(),
        Value::Array(parts) => !parts.is_empty(),
        Value::Null => false,
        other => return rules.demand(false, format!("echo: content {other}")),
    };
    let other = ["tool_calls", "function_call", "refusal", "audio"];
    let says = filled || other.iter().any(|key| !echo[*key].is_null());
    rules.demand(says, "echo: must have either content or tool_calls, but not none");
    if echo["audio"].is_object() {
        rules.only_keys(&echo["audio"], &["id"], "echo: audio");
        rules.demand(!text(&echo["audio"], "id").is_empty(), "echo: audio.id");
    }
}

fn check_function(function: &Value, rules: &mut Rules) {
    let name = text(function, "name");
    rules.demand(is_made_of(name, 64, word), format!("echo: name {name:?}"));
    rules.demand(
        is_json_object(&function["arguments"]),
        format!("echo: arguments {}", function["arguments"]),
    );
}

/// What the results couldn't hold.
fn check_media(message: &Value, rules: &mut Rules) {
    rules.only_keys(message, &["role", "content"], "media");
    rules.demand(text(message, "role") == "user", "media: role");
    let parts = elements(message, "content");
    rules.demand(!parts.is_empty(), "media: no parts");
    for part in parts {
        let holds = match text(part, "type") {
            "text" => !text(part, "text").is_empty(),
            "image_url" => is_image(text(&part["image_url"], "url")),
            "file" => {
                let file = &part["file"];
                text(file, "file_data").starts_with("data:") && !text(file, "filename").is_empty()
            }
            _ => false,
        };
        rules.demand(holds, format!("media: part {part}"));
    }
}
