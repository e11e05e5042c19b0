//! Whole bodies: the calls, the stop reason, and the reply.

use serde_json::Value;
use toolpool::{CallState, ToolCall, Turn, Wire};

use crate::checker::broken_rules;
use crate::fixture::{Expected, Fixture, Next};
use crate::made_up::{OUTCOMES, report};
use crate::shape::{holds, shape};

/// Calls that we withhold although the recordings' authors found them executable: whole, as far
/// as JSON tells.
const WITHHELD: &[(&str, &str)] = &[
    (
        "anthropic-json-2call-should-handle-multiple-tools-in-single-request-i0-0cfd1635",
        "max_tokens cut the message: the second call's arguments are visibly missing",
    ),
    (
        "bedrock_converse-json-1call-should-handle-tool-configuration-i0-cdb1ada0",
        "max_tokens cut the message",
    ),
    (
        "gemini-json-1call-test-multimodal-tool-return-matrix-direct-binary-audio-googl-i0-ae48778b",
        "UNEXPECTED_TOOL_CALL: the provider itself says that the function wasn't declared",
    ),
];

/// Recordings whose client sent the results in another shape than we do.
const OTHER_SHAPE: &[(&str, &str)] = &[];

/// Recordings whose client echoed something else than the message as it came.
const OTHER_ECHO: &[(&str, &str)] = &[];

pub(crate) fn check(wire: Wire, fixture: &Fixture) -> Result<(), String> {
    let turn = wire.parse(&fixture.body()).map_err(|error| error.to_string())?;
    let mut problems = Vec::new();
    check_turn(&turn, fixture, &mut problems);
    for shift in 0..OUTCOMES {
        let messages = turn.reply(&report(&turn, shift));
        problems.extend(broken_rules(&turn, &messages));
    }
    if let Some(next) = &fixture.next_request_results {
        check_reply(&turn, fixture, next, &mut problems);
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

fn is_listed(list: &[(&str, &str)], fixture: &Fixture) -> bool {
    list.iter().any(|(id, _)| *id == fixture.id)
}

pub(crate) fn check_turn(turn: &Turn, fixture: &Fixture, problems: &mut Vec<String>) {
    let stop = match &fixture.expected_stop {
        Value::Null => String::new(),
        Value::String(stop) => stop.clone(),
        other => other.to_string(),
    };
    if turn.stop().raw != stop {
        problems.push(format!("stop {:?}, expected {stop:?}", turn.stop().raw));
    }
    if turn.calls().len() != fixture.expected_calls.len() {
        problems.push(format!("{} calls: {:?}", turn.calls().len(), turn.calls()));
        return;
    }
    let withheld = is_listed(WITHHELD, fixture);
    for (call, expected) in turn.calls().iter().zip(&fixture.expected_calls) {
        check_call(call, expected, withheld, problems);
    }
}

fn check_call(call: &ToolCall, expected: &Expected, withheld: bool, problems: &mut Vec<String>) {
    let mut demand = |holds: bool, what: &str| {
        if !holds {
            problems.push(format!("{what} of {call:?}"));
        }
    };
    let id = expected.id.as_deref().filter(|id| !id.is_empty());
    demand(call.has_id() == id.is_some() && call.id() == id.unwrap_or_default(), "id");
    demand(call.name() == expected.name, "name");
    demand(call.namespace() == expected.namespace.as_deref(), "namespace");
    demand(call.is_free_text() == (expected.kind.as_deref() == Some("custom")), "kind");
    let executable = expected.executable && !withheld;
    demand((call.state() == CallState::Complete) == executable, "state");
    if !matches!(call.state(), CallState::Malformed(_)) {
        let arguments = serde_json::from_str::<Value>(call.arguments()).unwrap();
        demand(arguments == expected.arguments, "arguments");
    }
    if let Some(Value::String(raw)) = &expected.arguments_raw
        && !call.is_free_text()
        && !matches!(raw.as_str(), "" | "null")
    {
        demand(call.arguments() == raw, "text of the arguments");
    }
}

fn check_reply(turn: &Turn, fixture: &Fixture, next: &Next, problems: &mut Vec<String>) {
    let messages: Vec<Value> =
        turn.reply(&report(turn, 0)).iter().map(|message| message.to_value()).collect();
    let echo = next.assistant_echo.as_deref().unwrap_or_default();
    if let Some(results) = &next.messages {
        let ours = shape(turn.wire(), &messages);
        let theirs = shape(turn.wire(), results);
        if (ours != theirs) != is_listed(OTHER_SHAPE, fixture) {
            problems.push(format!("results {ours:?}\n  recorded {theirs:?}"));
        }
    }
    if holds(&messages, echo) == is_listed(OTHER_ECHO, fixture) {
        let ours = Value::from(messages);
        problems.push(format!("echo {ours}\n  recorded {}", Value::from(echo.to_vec())));
    }
}
