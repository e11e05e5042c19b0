//! Bodies of every format, made of calls, and what becomes of them.

use serde_json::{Value, json};
use toolpool::{Report, Tool, Turn, Wire};

use super::harness::Rig;
use crate::wire::checker::check_reply;

/// Gives its arguments back, as the handler decoded them.
pub(crate) fn echo() -> Tool<Value> {
    let object = json!({ "type": "object" });
    Tool::with_schema("echo", "", &object, |args: Value| Ok(args)).read_only()
}

/// The body of a message with these calls, each an id, a name and arguments: JSON texts. An empty
/// one is left out.
pub(crate) fn body(wire: Wire, calls: &[(String, String, String)]) -> String {
    let object = |members: &[(&str, &str)]| {
        let members = members.iter().filter(|(_, value)| !value.is_empty());
        let members: Vec<_> = members.map(|(key, value)| format!("{key:?}:{value}")).collect();
        format!("{{{}}}", members.join(","))
    };
    let list = |make: &dyn Fn(&str, &str, &str) -> String| {
        let calls: Vec<_> = calls.iter().map(|(id, name, args)| make(id, name, args)).collect();
        calls.join(",")
    };
    let chat = |kind: &str| {
        list(&|id, name, args| {
            let function = object(&[("name", name), ("arguments", args)]);
            object(&[("id", id), ("type", kind), ("function", &function)])
        })
    };
    match wire {
        Wire::Anthropic => {
            let calls = list(&|id, name, args| {
                object(&[("type", r#""tool_use""#), ("id", id), ("name", name), ("input", args)])
            });
            format!(
                r#"{{"type":"message","role":"assistant","stop_reason":"tool_use","content":[{calls}]}}"#
            )
        }
        Wire::OpenAi => format!(
            r#"{{"choices":[{{"finish_reason":"tool_calls","message":{{"role":"assistant","content":null,"tool_calls":[{}]}}}}]}}"#,
            chat(r#""function""#)
        ),
        Wire::OpenAiResponses => {
            let calls = list(&|id, name, args| {
                let kind = ("type", r#""function_call""#);
                object(&[kind, ("call_id", id), ("name", name), ("arguments", args)])
            });
            format!(r#"{{"object":"response","status":"completed","output":[{calls}]}}"#)
        }
        Wire::Gemini => {
            let calls = list(&|id, name, args| {
                object(&[("functionCall", &object(&[("id", id), ("name", name), ("args", args)]))])
            });
            format!(
                r#"{{"candidates":[{{"content":{{"role":"model","parts":[{calls}]}},"finishReason":"STOP"}}]}}"#
            )
        }
        Wire::Bedrock => {
            let calls = list(&|id, name, args| {
                let call = object(&[("toolUseId", id), ("name", name), ("input", args)]);
                object(&[("toolUse", &call)])
            });
            format!(
                r#"{{"output":{{"message":{{"role":"assistant","content":[{calls}]}}}},"stopReason":"tool_use"}}"#
            )
        }
        Wire::Cohere => format!(
            r#"{{"message":{{"role":"assistant","tool_calls":[{}]}},"finish_reason":"TOOL_CALL"}}"#,
            chat(r#""function""#)
        ),
        Wire::Ollama => format!(
            r#"{{"message":{{"role":"assistant","content":"","tool_calls":[{}]}},"done":true,"done_reason":"stop"}}"#,
            chat("")
        ),
        other => panic!("no body is written down for {other}"),
    }
}

/// Whether the format's arguments are JSON inside a string.
fn in_a_string(wire: Wire) -> bool {
    matches!(wire, Wire::OpenAi | Wire::OpenAiResponses | Wire::Cohere)
}

/// Arguments as the format writes them.
pub(crate) fn spelled(wire: Wire, arguments: &str) -> String {
    if in_a_string(wire) { text(arguments) } else { arguments.to_owned() }
}

pub(crate) fn text(text: &str) -> String {
    Value::from(text).to_string()
}

/// A call of `echo` that says which it is.
pub(crate) fn nth(wire: Wire, n: usize) -> (String, String, String) {
    (text(&format!("id_{n}")), text("echo"), spelled(wire, &format!(r#"{{"n":{n}}}"#)))
}

/// Reads a body, runs its turn and checks the reply by the provider's rules.
pub(crate) fn answer(rig: &Rig, wire: Wire, body: &str) -> (Turn, Report) {
    let turn = wire.parse(body).unwrap_or_else(|error| panic!("{wire}: {error}: {body:.300}"));
    let report = rig.run(&turn);
    check_reply(&turn, &turn.reply(&report));
    (turn, report)
}

/// By how much memory grew while `work` ran, at its highest, in bytes.
#[cfg(target_os = "linux")]
pub(crate) fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let status = |key: &str| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
    };
    // Sets the highest to what it is now.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS:");
    let value = work();
    (value, status("VmHWM:").saturating_sub(before))
}
