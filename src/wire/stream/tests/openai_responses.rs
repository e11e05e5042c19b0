//! OpenAI Responses.

use super::*;
use crate::call::CallState;
use crate::turn::StopKind;

const CREATED: &str =
    r#"{"type":"response.created","response":{"status":"in_progress","output":[]}}"#;
const REASONING: &str = r#"{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"x"}"#;
const CALL: &str = r#"{"type":"function_call","id":"fc_1","call_id":"call_1","name":"add","arguments":"{\"x\":1}","status":"completed"}"#;
const OTHER: &str =
    r#"{"type":"function_call","id":"fc_2","call_id":"call_2","name":"now","arguments":"{}"}"#;
const MESSAGE: &str = r#"{"type":"message","id":"msg_1","role":"assistant","content":[{"type":"output_text","text":"Let me see"}]}"#;

fn added(at: u8, item: &str) -> String {
    format!(r#"{{"type":"response.output_item.added","output_index":{at},"item":{item}}}"#)
}

fn done(at: u8, item: &str) -> String {
    format!(r#"{{"type":"response.output_item.done","output_index":{at},"item":{item}}}"#)
}

fn text(at: u8, text: &str) -> String {
    format!(r#"{{"type":"response.output_text.delta","output_index":{at},"delta":"{text}"}}"#)
}

fn body(status: &str, items: &[&str]) -> String {
    let output = items.join(",");
    format!(r#"{{"status":"{status}","output":[{output}],"usage":{{"input_tokens":2}}}}"#)
}

fn last(status: &str, items: &[&str]) -> String {
    format!(r#"{{"type":"response.{status}","response":{}}}"#, body(status, items))
}

fn stream(events: &[String]) -> Vec<u8> {
    let all: Vec<_> = [CREATED].into_iter().chain(events.iter().map(String::as_str)).collect();
    sse(&all).concat()
}

/// All but the last event.
fn events() -> Vec<String> {
    vec![
        added(0, r#"{"type":"reasoning"}"#),
        done(0, REASONING),
        added(1, r#"{"type":"message","role":"assistant","content":[]}"#),
        text(1, "Let "),
        text(1, "me see"),
        done(1, MESSAGE),
        added(2, r#"{"type":"function_call","call_id":"call_1","name":"add","arguments":""}"#),
        r#"{"type":"response.function_call_arguments.delta","output_index":2,"delta":"{\"x\":1}"}"#
            .to_owned(),
        done(2, CALL),
        done(3, OTHER),
    ]
}

pub(super) fn text_and_calls() -> Vec<u8> {
    let mut events = events();
    events.push(last("completed", &[]));
    stream(&events)
}

#[test]
fn the_last_event_holds_the_body_and_its_output_may_be_empty() {
    let items = [REASONING, MESSAGE, CALL, OTHER];
    let whole = body("completed", &items);
    for output in [&items[..], &[], &items[..1]] {
        let mut events = events();
        events.push(last("completed", output));
        let turn = check(Wire::OpenAiResponses, stream(&events), &whole);
        assert_eq!((turn.calls().len(), turn.text()), (2, "Let me see"));
    }
    // A server that tells nothing before the end.
    check(Wire::OpenAiResponses, stream(&[last("completed", &items)]), &whole);
}

#[test]
fn a_call_is_told_at_the_end_of_its_item() {
    let events = [
        CREATED.to_owned(),
        added(0, r#"{"type":"function_call","call_id":"call_1","name":"add"}"#),
        added(1, r#"{"type":"function_call","call_id":"call_2","name":"now"}"#),
        done(1, OTHER),
        done(0, CALL),
        last("completed", &[CALL, OTHER]),
    ];
    let events: Vec<_> = events.iter().map(String::as_str).collect();
    let told = [("add", 4), ("now", 4)].map(|(name, at)| (name.to_owned(), at));
    assert_eq!(moments(Wire::OpenAiResponses, &sse(&events)), told);
}

#[test]
fn items_without_an_index_end_in_the_order_they_began_in() {
    let events = events().concat().replace("}{", "}\n{");
    let mut events: Vec<_> = events.lines().map(str::to_owned).collect();
    for index in 0..4 {
        let index = format!(r#""output_index":{index},"#);
        events.iter_mut().for_each(|event| *event = event.replace(&index, ""));
    }
    let items = [REASONING, MESSAGE, CALL, OTHER];
    for output in [&items[..], &[]] {
        let mut events = events.clone();
        events.push(last("completed", output));
        check(Wire::OpenAiResponses, stream(&events), &body("completed", &items));
    }
}

#[test]
fn an_item_that_comes_twice_counts_once_and_another_at_its_index_is_kept() {
    let items = [MESSAGE, CALL, OTHER];
    let mut events: Vec<_> = items.iter().flat_map(|item| [done(0, item), done(0, item)]).collect();
    events.push(done(1, &CALL.replace("fc_1", "fc_9")));
    events.push(last("completed", &[]));
    let turn = check(Wire::OpenAiResponses, stream(&events), &body("completed", &items));
    assert_eq!(turn.calls().len(), 2);
}

#[test]
fn a_call_whose_item_never_ends_is_put_together() {
    let begun = |id: &str, kind: &str| {
        format!(r#"{{"type":"{kind}","call_id":"{id}","name":"add","status":"in_progress"}}"#)
    };
    let ended = |at: u8, what: &str| {
        format!(r#"{{"type":"response.{what}","output_index":{at},"item_id":"x"}}"#)
    };
    let ended = |at, what: &str, key: &str, text: &str| {
        ended(at, what).replace(r#""x"}"#, &format!(r#""x","{key}":"{text}"}}"#))
    };
    let events = [
        done(0, MESSAGE),
        added(1, &begun("call_1", "function_call")),
        ended(1, "function_call_arguments.done", "arguments", r#"{\"x\":1}"#),
        added(2, &begun("call_2", "custom_tool_call")),
        ended(2, "custom_tool_call_input.done", "input", "SELECT 1"),
        added(3, &begun("call_3", "function_call")),
        last("completed", &[]),
    ];
    let whole = body(
        "completed",
        &[
            MESSAGE,
            r#"{"type":"function_call","call_id":"call_1","name":"add","arguments":"{\"x\":1}"}"#,
            r#"{"type":"custom_tool_call","call_id":"call_2","name":"add","input":"SELECT 1"}"#,
            &begun("call_3", "function_call"),
        ],
    );
    let turn = check(Wire::OpenAiResponses, stream(&events), &whole);
    let state = |at: usize| turn.calls()[at].state();
    assert_eq!(state(1), CallState::Complete);
    assert_ne!(state(2), CallState::Complete, "its arguments never came");
    // What the last event holds counts more than what has no end, unless it forgets all calls; one
    // whose arguments never came may not have been made.
    let ended_with = |items: &[&str]| {
        let mut events = events.to_vec();
        events.pop();
        events.push(last("completed", items));
        events
    };
    let calls = [
        r#"{"type":"function_call","call_id":"call_1","name":"add","arguments":"{\"x\":1}"}"#,
        r#"{"type":"custom_tool_call","call_id":"call_2","name":"add","input":"SELECT 1"}"#,
    ];
    let whole = body("completed", &[MESSAGE, calls[0], calls[1]]);
    check(Wire::OpenAiResponses, stream(&ended_with(&[MESSAGE])), &whole);
    let some = body("completed", &[MESSAGE, calls[1]]);
    check(Wire::OpenAiResponses, stream(&ended_with(&[MESSAGE, calls[1]])), &some);
    // Nor does a call that ends at another index than it began at begin twice.
    let events = [added(0, CALL), done(1, CALL), last("completed", &[])];
    check(Wire::OpenAiResponses, stream(&events), &body("completed", &[CALL]));
}

#[test]
fn a_call_that_ends_without_what_it_began_with_has_it_all_the_same() {
    let item = |name: &str, arguments: &str| {
        format!(
            r#"{{"type":"function_call","call_id":"call_1","name":"{name}","arguments":"{arguments}"}}"#
        )
    };
    let arguments = r#"{"type":"response.function_call_arguments.done","output_index":0,"arguments":"{\"x\":1}"}"#;
    let whole = body("completed", &[&item("add", r#"{\"x\":1}"#)]);
    for ended in [item("", r#"{\"x\":1}"#), item("add", ""), item("", "")] {
        let events = [
            added(0, &item("add", "")),
            arguments.to_owned(),
            done(0, &ended),
            last("completed", &[]),
        ];
        check(Wire::OpenAiResponses, stream(&events), &whole);
    }
    // Another call at that index is another call.
    let other = item("", "").replace("call_1", "call_2");
    let events = [added(0, &item("add", "")), done(0, &other), last("completed", &[])];
    check(Wire::OpenAiResponses, stream(&events), &body("completed", &[&other]));
}

#[test]
fn arguments_that_only_came_in_pieces_are_put_together() {
    let item = |id: &str, kind: &str, key: &str, text: &str| {
        format!(r#"{{"type":"{kind}","call_id":"{id}","name":"add","{key}":"{text}"}}"#)
    };
    let function = |id, text| item(id, "function_call", "arguments", text);
    let custom = |id, text| item(id, "custom_tool_call", "input", text);
    let piece = |at: u8, what: &str, text: &str| {
        format!(r#"{{"type":"response.{what}.delta","output_index":{at},"delta":"{text}"}}"#)
    };
    let begun = [
        added(0, &function("1", "")),
        piece(0, "function_call_arguments", r#"{\"x\""#),
        piece(0, "function_call_arguments", ":1}"),
    ];
    let more = [
        added(1, &custom("2", "")),
        piece(1, "custom_tool_call_input", "SELECT "),
        piece(1, "custom_tool_call_input", "1"),
        added(2, &function("3", "")),
        piece(2, "function_call_arguments", r#"{\"x\""#),
        last("completed", &[]),
    ];
    let whole =
        [function("1", r#"{\"x\":1}"#), custom("2", "SELECT 1"), function("3", r#"{\"x\""#)];
    let items: Vec<_> = whole.iter().map(String::as_str).collect();
    let all = [&begun[..], &more].concat();
    let turn = check(Wire::OpenAiResponses, stream(&all), &body("completed", &items));
    let complete = |at: usize| turn.calls()[at].state() == CallState::Complete;
    assert_eq!([0, 1, 2].map(complete), [true, true, false]);
    // An item that ends without them is filled up.
    let ends = [done(0, &function("1", "")), last("completed", &[])];
    let all = [&begun[..], &ends].concat();
    check(Wire::OpenAiResponses, stream(&all), &body("completed", &items[..1]));
}

#[test]
fn the_last_event_counts_where_it_holds_calls_that_never_came() {
    let events = [done(0, REASONING), last("completed", &[CALL])];
    check(Wire::OpenAiResponses, stream(&events), &body("completed", &[CALL]));
}

#[test]
fn texts_apart_are_told_as_they_stand_in_the_turn() {
    let search = r#"{"type":"web_search_call","id":"ws_1","status":"completed"}"#;
    let events = [
        done(0, MESSAGE),
        added(1, search),
        done(1, search),
        added(2, r#"{"type":"message"}"#),
        text(2, "Done"),
        last("completed", &[MESSAGE, search, &MESSAGE.replace("Let me see", "Done")]),
    ];
    let whole = body("completed", &[MESSAGE, search, &MESSAGE.replace("Let me see", "Done")]);
    let turn = check(Wire::OpenAiResponses, stream(&events), &whole);
    assert_eq!(turn.text(), "Let me see\nDone");
}

#[test]
fn custom_calls_servers_calls_and_several_calls_in_one() {
    let custom =
        r#"{"type":"custom_tool_call","call_id":"call_1","name":"sql","input":"SELECT 1"}"#;
    let theirs =
        r#"{"type":"custom_tool_call","call_id":"xs_call_1","name":"x_search","input":"q"}"#;
    let many = r#"{"type":"function_call","call_id":"call_2","name":"multi_tool_use.parallel","arguments":"{\"tool_uses\":[{\"recipient_name\":\"functions.a\",\"parameters\":{}},{\"recipient_name\":\"functions.b\",\"parameters\":{}}]}"}"#;
    let items = [custom, theirs, many, CALL];
    let mut events: Vec<_> = items.iter().zip(0..).map(|(item, at)| done(at, item)).collect();
    events.push(last("completed", &[]));
    let turn = check(Wire::OpenAiResponses, stream(&events), &body("completed", &items));
    let names: Vec<_> = turn.calls().iter().map(ToolCall::name).collect();
    assert_eq!(names, ["sql", "a", "b", "add"]);
}

#[test]
fn a_cut_response_runs_nothing() {
    let cut = r#"{"type":"function_call","call_id":"call_2","name":"now","arguments":"{\"x\":48","status":"incomplete"}"#;
    let events = [done(0, CALL), done(1, cut), last("incomplete", &[CALL, cut])];
    let whole = body("incomplete", &[CALL, cut]);
    let turn = check(Wire::OpenAiResponses, stream(&events), &whole);
    assert_eq!(turn.stop().kind, StopKind::MaxTokens);
    assert!(turn.calls().iter().all(|call| call.state() != CallState::Complete));
}

#[test]
fn errors_and_streams_without_an_end() {
    let error =
        |events: &[String], why: &str| check_broken(Wire::OpenAiResponses, stream(events), why);
    error(&[done(0, CALL)], "openai-responses stream ended before the message did");
    error(
        &[done(0, CALL), r#"{"type":"error","code":"busy","message":"later"}"#.to_owned()],
        "openai-responses answered with an error: later",
    );
    error(
        &[r#"{"type":"response.failed","response":{"status":"failed","output":[],"error":{"code":"quota","message":"no more"}}}"#.to_owned()],
        "openai-responses answered with an error: quota: no more",
    );
    error(
        &[done(1, CALL), done(0, OTHER)],
        "openai-responses stream is not readable: calls came out of order",
    );
    error(
        &[r#"{"type":"response.output_item.done","output_index":0}"#.to_owned()],
        "openai-responses stream is not readable: an item is no object",
    );
}

#[test]
fn a_response_that_begins_anew_replaces_what_came() {
    let events = [done(0, OTHER), CREATED.to_owned(), done(0, CALL), last("completed", &[CALL])];
    let stream = stream(&events);
    check(Wire::OpenAiResponses, &stream, &body("completed", &[CALL]));
    assert_eq!(read(Wire::OpenAiResponses, [&*stream]).restarts, 1);
}

#[test]
fn the_events_name_forbids_the_calls_where_no_status_does() {
    let call = r#"{"type":"function_call","call_id":"a","name":"pay","arguments":"{}"}"#;
    let done = format!(r#"{{"type":"response.output_item.done","output_index":0,"item":{call}}}"#);
    for status in ["", r#""status":"completed","#] {
        for end in ["incomplete", "failed", "cancelled"] {
            let last =
                format!(r#"{{"type":"response.{end}","response":{{{status}"output":[{call}]}}}}"#);
            let stream = sse(&[&done, &last]).concat();
            let turn = read_all_ways(Wire::OpenAiResponses, &stream).turn.unwrap();
            assert_eq!(turn.stop().raw, end);
            assert!(turn.stop().forbids_calls(), "{last}");
            assert_ne!(turn.calls()[0].state(), CallState::Complete, "{last}");
        }
    }
}
