//! OpenAI Responses.

use serde_json::Value;
use toolpool::{ToolCall, Turn};

use super::{Rules, came, is_image, is_json_object, is_made_of, text, was_cut, word};

pub(super) fn check(turn: &Turn, items: &[Value], rules: &mut Rules) {
    let (outputs, echo): (Vec<_>, Vec<_>) = items.iter().cloned().partition(is_output);
    if let Some(came) = came(turn) {
        let came = came.as_array().map_or(&[][..], Vec::as_slice);
        all_items_are_there(without_last_thoughts(came, turn), &echo, rules);
    }
    for item in &echo {
        rules.demand(text(item, "id").len() <= ID_LIMIT, format!("echo: a long id in {item}"));
        let typed = !text(item, "type").is_empty() || !text(item, "role").is_empty();
        rules.demand(typed, format!("echo: no type in {item}"));
        rules.demand(!is_empty_message(item), format!("echo: no content in {item}"));
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
    outputs_follow_their_calls(&echo, items, rules);
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

/// What can go back: no reasoning that nothing followed because the message was cut, or that only
/// an empty message followed, nor where there is nothing else.
fn without_last_thoughts<'a>(came: &'a [Value], turn: &Turn) -> &'a [Value] {
    let is_typed = |item: &Value| !text(item, "type").is_empty() || !text(item, "role").is_empty();
    let led = came.iter().rposition(|item| {
        is_typed(item) && text(item, "type") != "reasoning" && !is_empty_message(item)
    });
    match led {
        Some(last) if was_cut(turn) || came[last..].iter().any(is_empty_message) => &came[..=last],
        Some(_) => came,
        None => &[],
    }
}

/// Such can't go back.
fn is_empty_message(item: &Value) -> bool {
    matches!(text(item, "type"), "" | "message") && item["content"] == serde_json::json!([])
}

/// A longer one can't go back.
const ID_LIMIT: usize = 64;

fn without_long_id(item: &Value) -> Value {
    let mut item = item.clone();
    if text(&item, "id").len() > ID_LIMIT
        && let Some(members) = item.as_object_mut()
    {
        members.remove("id");
    }
    item
}

/// Every item that isn't a call is echoed as it came; reasoning before what it led to.
fn all_items_are_there(came: &[Value], echoed: &[Value], rules: &mut Rules) {
    let typed = |item: &&Value| {
        (!text(item, "type").is_empty() || !text(item, "role").is_empty())
            && !is_empty_message(item)
    };
    let others = |items: &[Value]| -> Vec<Value> {
        items.iter().filter(typed).filter(|item| !is_call(item)).map(without_long_id).collect()
    };
    rules.demand(others(came) == others(echoed), "echo: items were lost or changed");
    let after_reasoning = |items: &[Value]| -> Vec<String> {
        let items: Vec<_> = items.iter().filter(typed).map(without_long_id).collect();
        let pairs = items.windows(2).filter(|pair| text(&pair[0], "type") == "reasoning");
        pairs.map(|pair| format!("{} {}", text(&pair[1], "type"), text(&pair[1], "id"))).collect()
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
                        let types = ["data:application/pdf;", "data:text/"];
                        types.iter().any(|read| text(part, "file_data").starts_with(read))
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

/// DeepSeek, which knows no calls of the server's, looks for the outputs right after calls that
/// follow each other. Elsewhere they stand behind all items.
fn outputs_follow_their_calls(echo: &[Value], items: &[Value], rules: &mut Rules) {
    let is = |item: &Value, kind: &str| text(item, "type") == kind;
    let behind = echo.iter().skip_while(|item| !is_call(item));
    let ours = |item: &&Value| is_call(item) || is(item, "message");
    let mut behind: Vec<_> = behind.collect();
    behind.truncate(behind.iter().rposition(ours).map_or(0, |last| last + 1));
    let has_message = behind.iter().any(|item| is(item, "message"));
    if !has_message || !behind.iter().all(|item| ours(item) || is(item, "reasoning")) {
        let is_last = items.iter().skip_while(|item| !is_output(item)).all(is_output);
        return rules.demand(is_last, "an item after the outputs");
    }
    for (at, output) in items.iter().enumerate().filter(|(_, item)| is_output(item)) {
        let id = text(output, "call_id");
        let mut near = items[..at].iter().rev().take_while(|item| is_call(item) || is_output(item));
        let follows = near.any(|item| is_call(item) && text(item, "call_id") == id);
        rules.demand(follows, format!("No tool output found for tool call {id}"));
    }
}
