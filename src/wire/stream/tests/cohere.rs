//! Cohere v2.

use super::*;
use crate::turn::StopKind;

const START: &str = r#"{"id":"a","type":"message-start","delta":{"message":{"role":"assistant","content":[],"tool_plan":"","tool_calls":[],"citations":[]}}}"#;

fn call(kind: &str, index: u8, call: &str) -> String {
    format!(
        r#"{{"type":"tool-call-{kind}","index":{index},"delta":{{"message":{{"tool_calls":{call}}}}}}}"#
    )
}

fn end(index: u8) -> String {
    format!(r#"{{"type":"tool-call-end","index":{index}}}"#)
}

fn message_end(reason: &str) -> String {
    format!(
        r#"{{"type":"message-end","delta":{{"finish_reason":"{reason}","usage":{{"tokens":{{"input_tokens":3,"output_tokens":4}}}}}}}}"#
    )
}

fn two_calls() -> Vec<String> {
    vec![
        START.to_owned(),
        r#"{"type":"tool-plan-delta","delta":{"message":{"tool_plan":"I will "}}}"#.to_owned(),
        r#"{"type":"tool-plan-delta","delta":{"message":{"tool_plan":"look."}}}"#.to_owned(),
        call(
            "start",
            0,
            r#"{"id":"now_1","type":"function","function":{"name":"now","arguments":""}}"#,
        ),
        end(0),
        call(
            "start",
            1,
            r#"{"id":"add_1","type":"function","function":{"name":"add","arguments":""}}"#,
        ),
        call("delta", 1, r#"{"function":{"arguments":"{\"x\""}}"#),
        call("delta", 1, r#"{"function":{"arguments":": 1}"}}"#),
        end(1),
    ]
}

fn stream(events: &[String]) -> Vec<u8> {
    sse(&events.iter().map(String::as_str).collect::<Vec<_>>()).concat()
}

pub(super) fn plan_and_calls() -> Vec<u8> {
    let mut events = two_calls();
    events.extend([message_end("TOOL_CALL"), "[DONE]".to_owned()]);
    stream(&events)
}

#[test]
fn pieces_make_the_whole_body() {
    let mut events = two_calls();
    events.extend([message_end("TOOL_CALL"), "[DONE]".to_owned()]);
    let turn = check(
        Wire::Cohere,
        stream(&events),
        r#"{"message":{"role":"assistant","tool_plan":"I will look.","tool_calls":[{"id":"now_1","type":"function","function":{"name":"now","arguments":""}},{"id":"add_1","type":"function","function":{"name":"add","arguments":"{\"x\": 1}"}}]},"finish_reason":"TOOL_CALL","usage":{"tokens":{"input_tokens":3,"output_tokens":4}}}"#,
    );
    assert!(turn.calls().iter().all(|call| call.state() == crate::call::CallState::Complete));
    let events: Vec<_> =
        events.iter().map(|event| format!("data: {event}\n\n").into_bytes()).collect();
    let told = [("now", 4), ("add", 8)].map(|(name, at)| (name.to_owned(), at));
    assert_eq!(moments(Wire::Cohere, &events), told);
}

#[test]
fn the_name_of_an_event_counts_where_its_data_have_none() {
    let mut events = two_calls();
    events.push(message_end("TOOL_CALL"));
    let named = events.iter().map(|event| {
        let (before, rest) = event.split_once(r#""type":""#).unwrap();
        let (kind, after) = rest.split_once('"').unwrap();
        let after = after.strip_prefix(',').unwrap_or(after);
        format!("event: {kind}\ndata: {before}{after}\n\n")
    });
    let named: String = named.collect();
    let whole = read(Wire::Cohere, [&*stream(&events)]);
    assert_eq!(whole.calls.len(), 2);
    assert_eq!(read_all_ways(Wire::Cohere, named.as_bytes()), whole);
    check_broken(
        Wire::Cohere,
        format!("{named}event: error\ndata: {{\"message\":\"busy\"}}\n\n"),
        "cohere answered with an error: busy",
    );
}

#[test]
fn text_thinking_and_citations_are_put_together() {
    let events = [
        START,
        r#"{"type":"content-start","index":0,"delta":{"message":{"content":{"type":"thinking","thinking":""}}}}"#,
        r#"{"type":"content-delta","index":0,"delta":{"message":{"content":{"thinking":"Hm"}}}}"#,
        r#"{"type":"content-end","index":0}"#,
        r#"{"type":"content-start","index":1,"delta":{"message":{"content":{"type":"text","text":""}}}}"#,
        r#"{"type":"content-delta","index":1,"delta":{"message":{"content":{"text":"It is "}}}}"#,
        r#"{"type":"content-delta","index":1,"delta":{"message":{"content":{"text":"noon"}}}}"#,
        r#"{"type":"citation-start","index":0,"delta":{"message":{"citations":{"start":0,"end":2}}}}"#,
        r#"{"type":"citation-end","index":0}"#,
        r#"{"type":"message-end","delta":{"finish_reason":"COMPLETE"}}"#,
    ];
    let turn = check(
        Wire::Cohere,
        sse(&events).concat(),
        r#"{"message":{"role":"assistant","content":[{"type":"thinking","thinking":"Hm"},{"type":"text","text":"It is noon"}],"citations":[{"start":0,"end":2}]},"finish_reason":"COMPLETE"}"#,
    );
    assert_eq!(turn.text(), "It is noon");
}

#[test]
fn a_cut_message_runs_nothing() {
    let mut events = two_calls();
    events.pop();
    events.push(message_end("MAX_TOKENS"));
    let read = read_all_ways(Wire::Cohere, &stream(&events));
    let turn = read.turn.unwrap();
    assert_eq!((turn.stop().kind, turn.calls().len()), (StopKind::MaxTokens, 2));
    assert!(turn.calls().iter().all(|call| call.state() != crate::call::CallState::Complete));
}

#[test]
fn errors_and_streams_without_an_end() {
    let broken = |events: &[String], why: &str| check_broken(Wire::Cohere, stream(events), why);
    broken(&two_calls(), "cohere stream ended before the message did");
    broken(
        &[r#"{"message":"no such model"}"#.to_owned()],
        "cohere answered with an error: no such model",
    );
    broken(
        &[
            START.to_owned(),
            r#"{"type":"message-end","delta":{"finish_reason":"ERROR","error":"it broke"}}"#
                .to_owned(),
        ],
        "cohere answered with an error: it broke",
    );
    let mut late = two_calls();
    late.push(call("delta", 0, r#"{"function":{"arguments":"{}"}}"#));
    broken(&late, "cohere stream is not readable: a piece of a call that doesn't go on");
}

#[test]
fn a_message_that_begins_anew_replaces_what_came() {
    let mut events = two_calls();
    events.extend([
        START.to_owned(),
        call("start", 0, r#"{"id":"now_2","function":{"name":"now","arguments":"{}"}}"#),
        end(0),
        message_end("TOOL_CALL"),
    ]);
    let read = read_all_ways(Wire::Cohere, &stream(&events));
    assert_eq!((read.restarts, read.calls.len(), read.turn.unwrap().calls().len()), (1, 1, 1));
}
