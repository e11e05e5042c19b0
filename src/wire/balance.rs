//! Whether every call in a conversation is answered. Pure; reads the messages of all formats.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::json::Json;
use crate::turn::Wire;
use crate::wire::fields::{self, fields};
use crate::wire::{anthropic, openai_responses};

fields! {
    struct Message<'a> {
        role: Cow<'a, str>,
        kind "type": Cow<'a, str>,
        content: &'a RawValue,
        parts: &'a RawValue,
        tool_calls: &'a RawValue,
        tool_call_id: Cow<'a, str>,
        call_id: Cow<'a, str>,
    }

    /// A block of Bedrock, a part of Gemini, an element of `tool_calls`.
    struct Block<'a> {
        id: Cow<'a, str>,
        tool_use "toolUse": Named<'a>,
        tool_result "toolResult": Named<'a>,
        call "functionCall": Named<'a>,
        response "functionResponse": Named<'a>,
    }

    struct Named<'a> {
        kind "type": Cow<'a, str>,
        id "toolUseId": Cow<'a, str>,
        name: Cow<'a, str>,
    }
}

/// What is wrong with the messages, if anything is: one that is no message of the format, a call
/// without a result, a result without a call.
pub(crate) fn fault(wire: Wire, messages: &[Json]) -> Option<String> {
    // Ids of the calls that wait for a result; calls without one are only counted.
    let mut open: Vec<Cow<'_, str>> = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        let Ok(Some(message)) = fields::parse::<Message<'_>>(message.as_str()) else {
            return Some(format!("message {at} is no object"));
        };
        let is_item = wire == Wire::OpenAiResponses;
        // A content of Gemini's without a role is the user's.
        let needs_none = (is_item && message.kind.is_some()) || wire == Wire::Gemini;
        if message.role.is_none() && !needs_none {
            let said = if is_item { "type" } else { "role" };
            return Some(format!("message {at} has no {said}"));
        }
        let is_tools = message.role.as_deref() == Some("tool");
        let (calls, results) = message.calls_and_results(wire);
        // The results may come in messages of their own, which these providers take for one.
        let goes_on = matches!(wire, Wire::Anthropic | Wire::Gemini) && !results.is_empty();
        for id in results {
            let Some(place) = open.iter().position(|waits| *waits == id) else {
                return Some(format!("message {at} holds a result for a call that isn't there"));
            };
            open.remove(place);
        }
        // In all formats but the flat one of items, the results follow at once.
        if !is_item && !open.is_empty() && !is_tools && !goes_on {
            return Some(format!("a call before message {at} has no result"));
        }
        open.extend(calls);
    }
    (!open.is_empty()).then(|| "a call has no result".to_owned())
}

type Ids<'a> = Vec<Cow<'a, str>>;

impl<'a> Message<'a> {
    /// The ids of the calls and of the results in it.
    fn calls_and_results(self, wire: Wire) -> (Ids<'a>, Ids<'a>) {
        let (mut calls, mut results) = (Vec::new(), Vec::new());
        // The provider answers its own calls within the message.
        let from_the_model = matches!(self.role.as_deref(), Some("assistant" | "model"));
        match wire {
            Wire::Anthropic => {
                let blocks: Vec<anthropic::Block<'a>> = list(self.content);
                for (at, block) in blocks.iter().enumerate() {
                    if anthropic::waits(&blocks, at) {
                        calls.push(block.id.clone().unwrap_or_default());
                    } else if block.is("tool_result") && !from_the_model {
                        results.push(block.tool_use_id.clone().unwrap_or_default());
                    }
                }
            }
            Wire::Bedrock => {
                let theirs = |call: &Named<'_>| call.kind.as_deref() == Some("server_tool_use");
                for block in list::<Block<'a>>(self.content) {
                    let call = block.tool_use.filter(|call| !theirs(call));
                    calls.extend(call.map(|call| call.id.unwrap_or_default()));
                    let result = block.tool_result.filter(|_| !from_the_model);
                    results.extend(result.map(|result| result.id.unwrap_or_default()));
                }
            }
            // Ids are optional, names aren't; a result repeats its call's name.
            Wire::Gemini => {
                for part in list::<Block<'a>>(self.parts) {
                    calls.extend(part.call.map(|call| call.name.unwrap_or_default()));
                    let result = part.response.filter(|_| !from_the_model);
                    results.extend(result.map(|result| result.name.unwrap_or_default()));
                }
            }
            Wire::OpenAiResponses => match self.kind.as_deref() {
                Some("function_call") => calls.push(self.call_id.unwrap_or_default()),
                Some("custom_tool_call") => {
                    let theirs = |id: &Cow<'_, str>| openai_responses::is_servers(id);
                    calls.extend(Some(self.call_id.unwrap_or_default()).filter(|id| !theirs(id)));
                }
                Some("function_call_output" | "custom_tool_call_output") => {
                    results.push(self.call_id.unwrap_or_default());
                }
                _ => {}
            },
            Wire::Ollama | Wire::OpenAi | Wire::Cohere => {
                let id = |id: Option<Cow<'a, str>>| match wire {
                    Wire::Ollama => "".into(),
                    _ => id.unwrap_or_default(),
                };
                let elements = list::<Block<'a>>(self.tool_calls).into_iter();
                calls.extend(elements.map(|call| id(call.id)));
                if self.role.as_deref() == Some("tool") {
                    results.push(id(self.tool_call_id));
                }
            }
        }
        (calls, results)
    }
}

/// The elements of a list; none where it is no list.
fn list<'a, T: fields::Value<'a> + Default>(list: Option<&'a RawValue>) -> Vec<T> {
    let list = list.filter(|list| list.get().starts_with('['));
    list.map(fields::filled_list).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

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
    fn results_may_come_in_messages_of_their_own() {
        let call = |name: &str| json!({ "functionCall": { "name": name } });
        let calls = json!({ "role": "model", "parts": [call("a"), call("b")] });
        let result = |role: &str, name: &str| {
            let parts = json!([{ "functionResponse": { "name": name, "response": {} } }]);
            json!({ "role": role, "parts": parts })
        };
        let asked = json!({ "parts": [{ "text": "hello" }] });
        let messages = [asked, calls, result("user", "a"), result("function", "b")];
        assert_eq!(fault_of(Wire::Gemini, &messages), None);
        assert!(fault_of(Wire::Gemini, &messages[..3]).is_some());

        let call = |id: &str| json!({ "type": "tool_use", "id": id, "name": "look" });
        let calls = json!({ "role": "assistant", "content": [call("a"), call("b")] });
        let result = |id: &str| {
            let content = json!([{ "type": "tool_result", "tool_use_id": id }]);
            json!({ "role": "user", "content": content })
        };
        let messages = [calls, result("a"), result("b")];
        assert_eq!(fault_of(Wire::Anthropic, &messages), None);
        let word = json!({ "role": "user", "content": "well?" });
        let parted = [messages[0].clone(), messages[1].clone(), word, messages[2].clone()];
        assert!(fault_of(Wire::Anthropic, &parted).is_some());
    }

    #[test]
    fn arguments_that_no_tree_can_hold_are_no_fault() {
        let report = crate::report::Report::new(Vec::new(), std::time::Duration::ZERO, None);
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        let arguments = format!(r#"{{"large":-1e999,"deep":{deep}}}"#);
        for wire in Wire::ALL {
            let turn = Turn::from_calls([ToolCall::new("a", "look", &*arguments)]).for_wire(wire);
            let reply = turn.reply(&report);
            let digits = reply.iter().any(|message| message.as_str().contains("-1e999"));
            assert!(digits, "{wire}: {reply:?}");
            assert_eq!(fault(wire, &reply), None, "{wire}");
            assert!(fault(wire, &reply[..1]).is_some(), "{wire}");
        }
    }

    #[test]
    fn calls_that_the_provider_runs_itself_need_no_result() {
        let content = json!([
            { "toolUse": { "toolUseId": "s", "name": "code", "type": "server_tool_use" } },
            { "toolResult": { "toolUseId": "s", "content": [] } },
            { "toolUse": { "toolUseId": "a", "name": "look" } },
        ]);
        let message = json!({ "role": "assistant", "content": content });
        let result = json!({ "toolResult": { "toolUseId": "a", "content": [] } });
        let results = json!({ "role": "user", "content": [result] });
        assert_eq!(fault_of(Wire::Bedrock, &[message.clone(), results]), None);
        assert!(fault_of(Wire::Bedrock, &[message]).is_some());
        let item = |id: &str| json!({ "type": "custom_tool_call", "call_id": id, "name": "x" });
        assert_eq!(fault_of(Wire::OpenAiResponses, &[item("xs_call_1")]), None);
        assert!(fault_of(Wire::OpenAiResponses, &[item("call_1")]).is_some());
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

    #[test]
    fn what_the_parser_takes_for_an_open_call_is_one() {
        let report = crate::report::Report::new(Vec::new(), std::time::Duration::ZERO, None);
        let call = json!({ "type": "function_call", "call_id": "xs_call_1", "name": "look" });
        let response = json!({ "object": "response", "status": "completed", "output": [call] });
        let behind = json!([
            { "type": "server_tool_use", "id": "s", "name": "code_execution", "input": {} },
            { "type": "code_execution_tool_result", "tool_use_id": "s", "content": [] },
            { "type": "tool_use", "id": "a", "name": "look", "input": {}, "caller": {
                "type": "code_execution_20250825", "tool_id": "s" } },
        ]);
        let answered = json!([
            { "type": "tool_use", "id": "a", "name": "look", "input": {} },
            { "type": "tool_result", "tool_use_id": "a", "content": "done" },
        ]);
        let message = |content: Value| {
            json!({ "type": "message", "role": "assistant", "content": content,
                "stop_reason": "tool_use" })
        };
        let parts = json!([
            { "functionCall": { "name": "look", "args": {} } },
            { "functionResponse": { "name": "look", "response": {} } },
        ]);
        let content = json!({ "role": "model", "parts": parts });
        let candidates = json!({ "candidates": [{ "content": content, "finishReason": "STOP" }] });
        for (wire, body) in [
            (Wire::OpenAiResponses, response),
            (Wire::Anthropic, message(behind)),
            (Wire::Anthropic, message(answered)),
            (Wire::Gemini, candidates),
        ] {
            let turn = wire.parse(&body).unwrap();
            assert_eq!(turn.calls().len(), 1, "{body}");
            assert_eq!(fault(wire, &turn.reply(&report)), None, "{body}");
        }
    }
}
