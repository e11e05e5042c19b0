//! OpenAI Responses.

use serde_json::Value;
use toolpool::{ToolCall, Turn};

use super::{Rules, came, is_image, is_json_object, is_made_of, text, word};

pub(super) fn check(turn: &Turn, items: &[Value], rules: &mut Rules) {
    let first = items.iter().position(is_output).unwrap_or(items.len());
    let (echo, outputs) = items.split_at(first);
    rules.demand(outputs.iter().all(is_output), "an item after the outputs");
    if let Some(came) = came(turn) {
        all_items_are_there(came.as_array().map_or(&[], Vec::as_slice), echo, rules);
    }
    for item in echo {
        let typed = !text(item, "type").is_empty() || !text(item, "role").is_empty();
        rules.demand(typed, format!("echo: no type in {item}"));
    }

    let calls: Vec<_> = echo.iter().filter(|item| is_call(item)).collect();
    let owed = came(turn).map_or(turn.calls().len(), |came| {
        came.as_array().map_or(0, |items| items.iter().filter(|item| is_call(item)).count())
    });
    rules.demand(calls.len() == owed, format!("echo: {} calls of {owed}", calls.len()));
    let ids: Vec<_> = calls.iter().map(|call| text(call, "call_id")).collect();
    rules.unique(ids.iter().copied(), "echo: call_id");
    let own: Vec<_> = turn.calls().iter().map(ToolCall::id).collect();
    let own = if turn.message().is_some() { &own[..] } else { &[] };
    for call in &calls {
        check_call(call, own, rules);
    }
    let answered: Vec<_> = outputs.iter().map(|output| text(output, "call_id")).collect();
    rules.demand(answered == ids, format!("outputs for {answered:?}, calls {ids:?}"));
    for (output, call) in outputs.iter().zip(&calls) {
        check_output(output, call, rules);
    }
    calls_are_together(echo, rules);
}

/// Whether an item is a call whose output we owe.
fn is_call(item: &Value) -> bool {
    match text(item, "type") {
        "function_call" => true,
        "custom_tool_call" => !text(item, "call_id").starts_with("xs_call_"),
        _ => false,
    }
}

fn is_output(item: &Value) -> bool {
    matches!(text(item, "type"), "function_call_output" | "custom_tool_call_output")
}

/// Every item that isn't a call is echoed as it came; reasoning before what it led to.
fn all_items_are_there(came: &[Value], echoed: &[Value], rules: &mut Rules) {
    let typed = |item: &&Value| !text(item, "type").is_empty() || !text(item, "role").is_empty();
    let others = |items: &[Value]| -> Vec<Value> {
        items.iter().filter(typed).filter(|item| !is_call(item)).cloned().collect()
    };
    rules.demand(others(came) == others(echoed), "echo: items were lost or changed");
    let after_reasoning = |items: &[Value]| -> Vec<String> {
        let items: Vec<_> = items.iter().filter(typed).collect();
        let pairs = items.windows(2).filter(|pair| text(pair[0], "type") == "reasoning");
        pairs.map(|pair| format!("{} {}", text(pair[1], "type"), text(pair[1], "id"))).collect()
    };
    let led_to = after_reasoning(echoed) == after_reasoning(came);
    rules.demand(led_to, "echo: reasoning was provided without its required following item");
}

/// `own` are the ids that the provider made, which it takes back whatever their length.
fn check_call(call: &Value, own: &[&str], rules: &mut Rules) {
    let id = text(call, "call_id");
    let most = if own.contains(&id) { usize::MAX } else { 64 };
    rules.demand(is_made_of(id, most, |c| !c.is_control()), format!("echo: call_id {id:?}"));
    let name = text(call, "name");
    rules.demand(is_made_of(name, 128, word), format!("echo: name {name:?}"));
    if text(call, "type") == "function_call" {
        let arguments = &call["arguments"];
        rules.demand(is_json_object(arguments), format!("echo: arguments {arguments}"));
    } else {
        rules.demand(call["input"].is_string(), "echo: input is no string");
    }
}

fn check_output(output: &Value, call: &Value, rules: &mut Rules) {
    let id = text(output, "call_id");
    rules.only_keys(output, &["type", "call_id", "output", "caller"], id);
    let kind = format!("{}_output", text(call, "type"));
    rules.demand(text(output, "type") == kind, format!("{id}: the type should be {kind}"));
    rules.demand(output["caller"] == call["caller"], format!("{id}: caller"));
    match &output["output"] {
        Value::String(text) => {
            rules.demand(!text.trim().is_empty(), format!("{id}: empty output"));
        }
        Value::Array(parts) => {
            rules.demand(!parts.is_empty(), format!("{id}: empty output"));
            for part in parts {
                let holds = match text(part, "type") {
                    "input_text" => !text(part, "text").is_empty(),
                    "input_image" => is_image(text(part, "image_url")),
                    "input_file" => {
                        text(part, "file_data").starts_with("data:")
                            && !text(part, "filename").is_empty()
                    }
                    _ => false,
                };
                rules.demand(holds, format!("{id}: part {part}"));
            }
        }
        other => rules.demand(false, format!("{id}: output {other}")),
    }
}

/// DeepSeek looks for the outputs right after calls that follow each other. Reasoning keeps its
/// place all the same.
fn calls_are_together(echo: &[Value], rules: &mut Rules) {
    let first = echo.iter().position(is_call).unwrap_or_default();
    let last = echo.iter().rposition(is_call).unwrap_or_default();
    let near = &echo[first.saturating_sub(1)..echo.len().min(last + 1)];
    let reasoning = near.iter().any(|item| text(item, "type") == "reasoning");
    let message = near.iter().skip(1).any(|item| text(item, "type") == "message");
    let other = near.iter().skip(1).any(|item| !is_call(item) && text(item, "type") != "message");
    let apart = last > first && message && !reasoning && !other;
    rules.demand(!apart, "echo: No tool output found for tool call");
}
