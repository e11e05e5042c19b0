//! Whether every call in a conversation is answered. Pure; reads the messages of all formats.

use serde_json::Value;

use crate::json::Json;
use crate::turn::Wire;

/// What is wrong with the messages, if anything is: one that is no message of the format, a call
/// without a result, a result without a call.
pub(super) fn fault(wire: Wire, messages: &[Json]) -> Option<String> {
    // Ids of the calls that wait for a result; calls without one are only counted.
    let mut open: Vec<String> = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        let message = message.to_value();
        if !message.is_object() {
            return Some(format!("message {at} is no object"));
        }
        let said = if wire == Wire::OpenAiResponses { "type" } else { "role" };
        if !message[said].is_string() && !message["role"].is_string() {
            return Some(format!("message {at} has no {said}"));
        }
        let (calls, results) = of(wire, &message);
        for id in results {
            let Some(place) = open.iter().position(|waits| *waits == id) else {
                return Some(format!("message {at} holds a result for a call that isn't there"));
            };
            open.remove(place);
        }
        // In all formats but the flat one of items, the results follow at once.
        let speaks = wire != Wire::OpenAiResponses && !open.is_empty();
        if speaks && message["role"].as_str().is_some_and(|role| role != "tool") {
            return Some(format!("a call before message {at} has no result"));
        }
        open.extend(calls);
    }
    (!open.is_empty()).then(|| "a call has no result".to_owned())
}

/// The ids of the calls and of the results in a message.
fn of(wire: Wire, message: &Value) -> (Vec<String>, Vec<String>) {
    let id = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let (mut calls, mut results) = (Vec::new(), Vec::new());
    match wire {
        Wire::Anthropic => {
            let blocks = list(&message["content"]);
            // A call by code in the provider's sandbox may be answered in place.
            let is_answered = |caller: &Value| {
                caller.is_string()
                    && blocks.iter().any(|block| {
                        let kind = block["type"].as_str().unwrap_or_default();
                        block["tool_use_id"] == *caller && kind.ends_with("_tool_result")
                    })
            };
            for block in &blocks {
                match block["type"].as_str() {
                    Some("tool_use") if !is_answered(&block["caller"]["tool_id"]) => {
                        calls.push(id(&block["id"]));
                    }
                    Some("tool_result") => results.push(id(&block["tool_use_id"])),
                    _ => {}
                }
            }
        }
        Wire::Bedrock => {
            for block in list(&message["content"]) {
                if block["toolUse"].is_object() {
                    calls.push(id(&block["toolUse"]["toolUseId"]));
                }
                if block["toolResult"].is_object() {
                    results.push(id(&block["toolResult"]["toolUseId"]));
                }
            }
        }
        Wire::Gemini => {
            for part in list(&message["parts"]) {
                // Ids are optional, names aren't; a result repeats its call's name.
                if part["functionCall"].is_object() {
                    calls.push(id(&part["functionCall"]["name"]));
                }
                if part["functionResponse"].is_object() {
                    results.push(id(&part["functionResponse"]["name"]));
                }
            }
        }
        Wire::OpenAiResponses => match message["type"].as_str() {
            Some("function_call" | "custom_tool_call") => calls.push(id(&message["call_id"])),
            Some("function_call_output" | "custom_tool_call_output") => {
                results.push(id(&message["call_id"]));
            }
            _ => {}
        },
        Wire::Ollama => {
            calls.extend(list(&message["tool_calls"]).iter().map(|_| String::new()));
            results.extend((message["role"] == "tool").then(String::new));
        }
        Wire::OpenAi | Wire::Cohere => {
            calls.extend(list(&message["tool_calls"]).iter().map(|call| id(&call["id"])));
            if message["role"] == "tool" {
                results.push(id(&message["tool_call_id"]));
            }
        }
    }
    (calls, results)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::call::ToolCall;
    use crate::turn::Turn;

    fn fault_of(wire: Wire, messages: &[Value]) -> Option<String> {
        fault(wire, &messages.iter().map(Json::from_value).collect::<Vec<_>>())
    }

    #[test]
    fn what_a_reply_holds_is_balanced_in_every_format_and_half_of_it_isnt() {
        let report = crate::report::Report::new(Vec::new(), std::time::Duration::ZERO, None);
        for wire in Wire::ALL {
            let calls = ["a", "b"].map(|id| ToolCall::new(id, "look", "{}"));
            let turn = Turn::from_calls(calls).for_wire(wire);
            let reply = turn.reply(&report);
            assert_eq!(fault(wire, &reply), None, "{wire}: {reply:?}");
            let mut whole = vec![wire.user_message("hello")];
            whole.extend(reply.clone());
            whole.push(wire.user_message("go on"));
            assert_eq!(fault(wire, &whole), None, "{wire}");
            assert!(
                fault(wire, &reply[..reply.len() - 1]).is_some(),
                "{wire}: a result is missing"
            );
            assert!(fault(wire, &reply[reply.len() - 1..]).is_some(), "{wire}: a call is missing");
        }
    }

    #[test]
    fn what_is_no_message_is_told() {
        let check = |messages: &[Value], expected: &str| {
            assert_eq!(fault_of(Wire::Anthropic, messages).as_deref(), Some(expected));
        };
        check(&[json!(7)], "message 0 is no object");
        check(&[json!({ "content": "hello" })], "message 0 has no role");
        let call = json!({ "role": "assistant", "content": [{ "type": "tool_use", "id": "a" }] });
        let user = json!({ "role": "user", "content": "well?" });
        check(&[call, user], "a call before message 1 has no result");
    }

    #[test]
    fn a_call_from_the_sandbox_may_be_answered_in_place() {
        let content = json!([
            { "type": "server_tool_use", "id": "s", "name": "code_execution" },
            { "type": "tool_use", "id": "a", "caller": { "type": "code", "tool_id": "s" } },
            { "type": "code_execution_tool_result", "tool_use_id": "s" },
        ]);
        let message = json!({ "role": "assistant", "content": content });
        assert_eq!(fault_of(Wire::Anthropic, &[message]), None);
    }
}
