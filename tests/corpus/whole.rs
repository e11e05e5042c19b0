//! Whole bodies, and what must hold of every turn: the calls, the stop reason, and the reply.

use serde_json::Value;
use toolpool::{CallState, Json, ToolCall, Turn, Wire};

use crate::checker::broken_rules;
use crate::fixture::{Expected, Fixture, Next};
use crate::made_up::{OUTCOMES, report};
use crate::shape::{holds, normalized, shape};

/// Calls that we withhold although the recordings' authors found them executable: whole, as far
/// as JSON tells.
const WITHHELD: &[(&str, &str)] = &[
    (
        "openai_chat-json-2call-blocking-parallel-calls-keep-the-complete-one-i0-42485a92",
        "length cut the message: no call of a cut message runs, whole or not",
    ),
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
    (
        "openai_chat-stream-2call-streaming-parallel-calls-keep-the-complete-one-i0-00df672c",
        "length cut the message: no call of a cut message runs, whole or not",
    ),
];

/// Recordings whose client sent the results in another shape than we do.
const OTHER_SHAPE: &[(&str, &str)] = &[
    ("gemini-json-1call-google-tool-i0-0c001d4f", "the client left the call's id out"),
    (
        "openai_chat-json-2call-test-agent-common-format-multiple-tools-i0-90cddb49",
        "the client joined both results under the first id and left the second call unanswered",
    ),
    (
        "openai_chat-json-1call-test-compatible-api-with-tool-calls-without-id-i0-86cf8bfe",
        "the id was empty; the client made up its own, as we do",
    ),
    (
        "gemini-stream-1call-testexec-gemini-toolcall-i0-117b1fbe",
        "the client named the function after an id of its own",
    ),
    (
        "gemini-stream-1call-test-tools-i0-48f0b494",
        "the call came without an id; the client made one up",
    ),
];

/// Recordings whose client echoed something else than the message as it came.
const OTHER_ECHO: &[(&str, &str)] = &[
    (
        "bedrock_converse-json-1call-test-bedrock-moonshotai-tool-call-i0-983804a0",
        "the client sent the model's unsigned reasoning as text",
    ),
    (
        "openai_chat-json-1call-test-compatible-api-with-tool-calls-without-id-i0-86cf8bfe",
        "the id was empty; the client made up its own, as we do",
    ),
    (
        "openai_chat-json-1call-test-tool-use-failed-error-i1-cbe2f422",
        "the client put the reasoning into the content",
    ),
    (
        "openai_chat-json-1call-testexecutorwithopenaifunctionagent-i0-0972708f",
        "the client echoed its only argument's text in the place of the arguments",
    ),
    (
        "openai_chat-json-1call-testopenaifunctionsagentwithhttprr-i0-d5ecd0f1",
        "the client echoed its only argument's text in the place of the arguments",
    ),
    (
        "openai_chat-json-2call-parallel-tool-calls-single-turn-nonstreaming-i0-4fbabbcd",
        "the client set every index to 0",
    ),
    (
        "openai_chat-json-2call-permission-control-prompt-example-i0-bdcd8fc3",
        "the client set every index to 0",
    ),
    (
        "openai_chat-json-1call-hook-rewrites-and-request-patch-i0-626256d7",
        "the client renamed `reasoning` to `reasoning_content`",
    ),
    (
        "openai_chat-json-2call-parallel-tools-i0-e30cc9a9",
        "the client renamed `reasoning` to `reasoning_content`",
    ),
    (
        "openai_chat-json-1call-zero-argument-tool-i0-1214dc93",
        "the client renamed `reasoning` to `reasoning_content`",
    ),
    (
        "openai_chat-json-1call-optional-argument-i0-167103ca",
        "the client renamed `reasoning` to `reasoning_content`",
    ),
    (
        "openai_chat-json-2call-tool-output-serialization-i0-c04b457d",
        "the client renamed `reasoning` to `reasoning_content`",
    ),
    ("openai_chat-json-1call-agent-loop-i0-e781e985", "the client spelled the content as parts"),
    (
        "ollama-json-1call-structured-output-with-tools-i0-aee7ad6c",
        "the client added a type to the calls and left out ids",
    ),
    (
        "ollama-json-2call-optional-argument-i0-dc1c1afd",
        "the client added a type to the calls and left out ids",
    ),
    (
        "ollama-json-8call-two-tools-nonstreaming-i0-e04d2a8b",
        "the client added a type to the calls and left out ids",
    ),
    (
        "ollama-json-1call-multi-turn-tool-run-records-distinct-raw-blocking-i0-a77ba17f",
        "the client moved the text to `thinking` and added a type to the calls",
    ),
    (
        "anthropic-stream-1call-testexec-anthropic-toolcall-i0-4f395965",
        "the client marked the call for the cache",
    ),
    ("anthropic-stream-2call-test-tools-i0-c46c5722", "the client kept a blank text"),
    (
        "gemini-stream-1call-test-tools-i0-48f0b494",
        "the call came without an id; the client made one up",
    ),
    (
        "gemini-stream-1call-test-tools-with-gemini-3-thought-signatures-i0-90793216",
        "the client kept an empty text",
    ),
    (
        "openai_chat-stream-1call-testassistantagent-test-agent-run-i0-23c52bd6",
        "the client added its own name",
    ),
    (
        "openai_chat-stream-1call-test-agent-functions-with-streaming-i0-3e950a1d",
        "the client echoed the index",
    ),
    (
        "openai_chat-stream-1call-test-agent-functions-with-streaming-i0-52fe8fa5",
        "the client echoed the index",
    ),
    (
        "openai_chat-stream-1call-test-tool-use-failed-error-streaming-i1-945f8ec3",
        "the client put the reasoning into the content",
    ),
    (
        "openai_chat-stream-2call-parallel-tool-calls-single-turn-streaming-i0-d68f7c1f",
        "the client set every index to 0",
    ),
    (
        "openai_chat-stream-1call-sequential-complex-tool-calls-streaming-i0-c6e8898d",
        "the client echoed the index",
    ),
    (
        "openai_chat-stream-2call-permission-control-streaming-example-i0-f656d2ae",
        "the client set every index to 0",
    ),
    (
        "openai_chat-stream-1call-sequential-complex-tool-calls-streaming-i1-ff23a037",
        "the client echoed the index",
    ),
    (
        "openai_chat-stream-1call-raw-followup-uses-tool-result-without-new-tool-calls-i0-fceead29",
        "the client echoed the index",
    ),
    (
        "openai_chat-stream-1call-agent-streaming-reasoner-roundtrip-streams-reasoning-first-i0-bb607a4a",
        "the client echoed the index",
    ),
    (
        "openai_chat-stream-1call-streaming-structured-after-tool-i0-c8f8f1a5",
        "the client renamed `reasoning` to `reasoning_content`",
    ),
    (
        "ollama-stream-1call-streaming-structured-output-with-tools-i0-b1cad518",
        "the client added a type to the calls and left out ids",
    ),
];

pub(crate) fn check(wire: Wire, fixture: &Fixture) -> Result<(), String> {
    check_parsed(&wire.parse(&fixture.body()).map_err(|error| error.to_string())?, fixture)
}

/// What must hold of a turn, wherever it was read from.
pub(crate) fn check_parsed(turn: &Turn, fixture: &Fixture) -> Result<(), String> {
    let mut problems = Vec::new();
    check_turn(turn, fixture, &mut problems);
    for shift in 0..OUTCOMES {
        let report = report(turn, shift);
        let messages = turn.reply(&report);
        problems.extend(broken_rules(turn, &messages));
        if turn.repairs(&report).is_empty() && !is_as_it_came(turn, &messages) {
            problems.push("the echo differs without a repair".to_owned());
        }
    }
    if let Some(next) = &fixture.next_request_results {
        check_reply(turn, fixture, next, &mut problems);
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

/// Whether the echo is the message byte for byte; for a format of items, each of them.
fn is_as_it_came(turn: &Turn, messages: &[Json]) -> bool {
    let came = turn.message().map_or("", Json::as_str);
    let came = match serde_json::from_str::<Vec<Json>>(came) {
        Ok(items) => items,
        Err(_) => turn.message().cloned().into_iter().collect(),
    };
    messages.starts_with(&came)
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
    let wire = turn.wire();
    let normalized = |messages: &[Value]| -> Vec<Value> {
        messages.iter().map(|message| normalized(wire, message)).collect()
    };
    let ours: Vec<Value> =
        turn.reply(&report(turn, 0)).iter().map(|message| message.to_value().unwrap()).collect();
    let ours = normalized(&ours);
    if let Some(results) = &next.messages {
        let (ours, theirs) = (shape(wire, &ours), shape(wire, &normalized(results)));
        if (ours != theirs) != is_listed(OTHER_SHAPE, fixture) {
            problems.push(format!("results {ours:?}\n  recorded {theirs:?}"));
        }
    }
    if let Some(echo) = &next.assistant_echo {
        let echo = normalized(echo);
        if holds(&ours, &echo) == is_listed(OTHER_ECHO, fixture) {
            let (ours, echo) = (Value::from(ours), Value::from(echo));
            problems.push(format!("echo {ours}\n  recorded {echo}"));
        }
    }
}
