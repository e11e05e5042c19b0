//! OpenAI Chat, and what compatible servers make of it.

use super::*;
use crate::turn::StopKind;

/// A stream of these deltas, a `finish_reason` and `[DONE]`.
fn chat(deltas: &[&str], stop: &str) -> String {
    let mut stream: String = deltas
        .iter()
        .map(|delta| format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{delta}}}]}}\n\n"))
        .collect();
    stream += &format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"{stop}\"}}]}}\n\n"
    );
    stream + "data: [DONE]\n\n"
}

/// A stream of these `tool_calls`.
fn pieces(pieces: &[&str], stop: &str) -> String {
    let deltas: Vec<_> =
        pieces.iter().map(|pieces| format!("{{\"tool_calls\":[{pieces}]}}")).collect();
    chat(&deltas.iter().map(String::as_str).collect::<Vec<_>>(), stop)
}

fn turn_of(stream: &str) -> Turn {
    let read = read_all_ways(Wire::OpenAi, stream.as_bytes());
    let turn = read.turn.unwrap_or_else(|error| panic!("{error}\n{stream}"));
    assert_eq!(read.text, turn.text());
    let ids = |calls: &[ToolCall]| -> Vec<_> {
        calls.iter().map(|call| (call.id().to_owned(), call.element())).collect()
    };
    assert_eq!(ids(&read.calls), ids(turn.calls()), "{stream}");
    turn
}

/// The calls as `id name arguments`, with what keeps one from running.
fn calls(turn: &Turn) -> Vec<String> {
    let show = |call: &ToolCall| {
        let id = if call.has_id() { call.id() } else { "-" };
        let state = match call.state() {
            crate::call::CallState::Complete => "",
            crate::call::CallState::Malformed(_) => " malformed",
            crate::call::CallState::Withheld(_) => " withheld",
        };
        format!("{id} {} {}{state}", call.name(), call.arguments())
    };
    turn.calls().iter().map(show).collect()
}

fn check_calls(pieces_of: &[&str], expected: &[&str]) {
    let stream = pieces(pieces_of, "tool_calls");
    assert_eq!(calls(&turn_of(&stream)), expected, "{stream}");
}

pub(super) fn text_and_calls() -> String {
    ": PROCESSING\n\n".to_owned()
        + &chat(
            &[
                r#"{"role":"assistant","content":"","reasoning_content":"So "}"#,
                r#"{"content":null,"reasoning_content":"be it"}"#,
                r#"{"content":"Let "}"#,
                r#"{"content":"me \"see\" 😀"}"#,
                r#"{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"add","arguments":""}}]}"#,
                r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"x\""}}]}"#,
                r#"{"tool_calls":[{"index":0,"function":{"arguments":": 1.50}"}}]}"#,
                r#"{"tool_calls":[{"index":1,"id":"call_2","type":"function","function":{"name":"now","arguments":""}}]}"#,
            ],
            "tool_calls",
        )
        .replace(
            "data: [DONE]",
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":5}}\n\n\
             data: [DONE]",
        )
}

#[test]
fn pieces_make_the_whole_body() {
    let stream = text_and_calls();
    let turn = check(
        Wire::OpenAi,
        &stream,
        r#"{"choices":[{"message":{"role":"assistant","content":"Let me \"see\" 😀","reasoning_content":"So be it","tool_calls":[{"id":"call_1","type":"function","function":{"name":"add","arguments":"{\"x\": 1.50}"}},{"id":"call_2","type":"function","function":{"name":"now","arguments":""}}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":3,"completion_tokens":5}}"#,
    );
    assert_eq!(calls(&turn), [r#"call_1 add {"x": 1.50}"#, "call_2 now {}"]);
}

#[test]
fn a_call_is_told_when_it_is_known_to_be_whole() {
    let events = sse(&[
        r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"1","function":{"name":"a","arguments":"{\"x\":"}}]}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":1,"id":"2","function":{"name":"b","arguments":"{"}}]}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":1,"function":{"arguments":"}"}}]}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":2,"id":"3","function":{"name":"c"}}]}}]}"#,
        r#"{"choices":[{"delta":{},"finish_reason":"tool_calls"}]}"#,
        "[DONE]",
    ]);
    let told = [("a", 2), ("b", 4), ("c", 7)].map(|(name, at)| (name.to_owned(), at));
    assert_eq!(moments(Wire::OpenAi, &events), told);
}

#[test]
fn without_an_index_an_id_or_a_name_begins_a_call() {
    let whole = |id: &str, name: &str, x: u8| {
        format!(r#"{{{id}"function":{{"name":"{name}","arguments":"{{\"x\":{x}}}"}}}}"#)
    };
    let (a, b) = (whole(r#""id":"1","#, "a", 1), whole(r#""id":"2","#, "a", 2));
    let expected = [r#"1 a {"x":1}"#, r#"2 a {"x":2}"#];
    check_calls(&[&a, &b], &expected);
    check_calls(&[&format!("{a},{b}")], &expected);
    for id in ["", r#""id":"","#, r#""id":null,"#, r#""index":0,"#] {
        let (a, b) = (whole(id, "a", 1), whole(id, "b", 2));
        check_calls(&[&a, &b], &[r#"- a {"x":1}"#, r#"- b {"x":2}"#]);
    }
    // A piece with neither goes on with the last call.
    check_calls(
        &[
            r#"{"id":"1","function":{"name":"a","arguments":"{"}}"#,
            r#"{"function":{"arguments":"}"}}"#,
            r#"{"id":"2","function":{"name":"b","arguments":"{}"}}"#,
        ],
        &["1 a {}", "2 b {}"],
    );
}

#[test]
fn another_id_with_a_name_begins_a_call_at_the_same_index() {
    check_calls(
        &[
            r#"{"index":0,"id":"1","function":{"name":"a","arguments":"{}"}}"#,
            r#"{"index":0,"id":"2","function":{"name":"b","arguments":"{\"y\":"}}"#,
            r#"{"index":0,"id":"another","function":{"arguments":"2}"}}"#,
        ],
        &["1 a {}", r#"2 b {"y":2}"#],
    );
}

#[test]
fn ids_and_names_are_set_once_and_null_is_nothing() {
    check_calls(
        &[
            r#"{"index":0,"id":"1","type":"function","function":{"name":"add","arguments":""}}"#,
            r#"{"index":0,"id":"1","type":"function","function":{"name":"add","arguments":"{\"x\""}}"#,
            r#"{"index":0,"id":null,"type":null,"function":{"name":null,"arguments":null}}"#,
            r#"{"index":0,"id":"1","type":"function","function":{"name":"add","arguments":":1}"}}"#,
        ],
        &[r#"1 add {"x":1}"#],
    );
}

#[test]
fn another_name_begins_a_call_or_goes_on_with_one_that_has_no_arguments() {
    for id in ["", r#""id":"same","#] {
        let whole = |name: &str, x: u8| {
            format!(
                r#"{{"index":0,{id}"function":{{"name":"{name}","arguments":"{{\"x\":{x}}}"}}}}"#
            )
        };
        let shown = if id.is_empty() { "-" } else { "same" };
        check_calls(
            &[&whole("a", 1), &whole("b", 2), &whole("c", 3)],
            &["a 1", "b 2", "c 3"]
                .map(|call| {
                    let (name, x) = call.split_once(' ').unwrap();
                    format!(r#"{shown} {name} {{"x":{x}}}"#)
                })
                .each_ref()
                .map(String::as_str),
        );
    }
    check_calls(
        &[
            r#"{"index":0,"id":"1","function":{"name":"edit_ex","arguments":""}}"#,
            r#"{"index":0,"function":{"name":"isting","arguments":""}}"#,
            r#"{"index":0,"function":{"name":"_file","arguments":"{\"x\""}}"#,
            r#"{"index":0,"function":{"name":"edit_existing_file","arguments":":1}"}}"#,
        ],
        &[r#"1 edit_existing_file {"x":1}"#],
    );
}

#[test]
fn a_name_may_come_late() {
    for first in [r#""name":"","arguments":"""#, r#""arguments":"{\"x\"""#] {
        let rest = if first.contains('x') { r#":1}"# } else { r#"{\"x\":1}"# };
        for key in ["", r#""id":"1","#, r#""index":0,"#, r#""index":0,"id":"1","#] {
            let id = if key.contains("id\"") { "1" } else { "-" };
            check_calls(
                &[
                    &format!(r#"{{{key}"function":{{{first}}}}}"#),
                    &format!(r#"{{{key}"function":{{"name":"a","arguments":"{rest}"}}}}"#),
                ],
                &[&format!(r#"{id} a {{"x":1}}"#)],
            );
        }
    }
}

#[test]
fn tokens_may_be_counted_in_the_choice() {
    let stream = chat(&[r#"{"content":"Hi"}"#], "stop").replace(
        r#""finish_reason":"stop""#,
        r#""finish_reason":"stop","usage":{"prompt_tokens":3,"completion_tokens":5}"#,
    );
    let usage = turn_of(&stream).usage();
    assert_eq!((usage.input_tokens, usage.output_tokens), (3, 5));
}

#[test]
fn arguments_may_be_missing_null_or_an_object() {
    check_calls(
        &[
            r#"{"index":1,"id":"1","function":{"name":"a"}}"#,
            r#"{"index":2,"id":"2","function":{"name":"b","arguments":null}}"#,
            r#"{"index":3,"id":"3","function":{"name":"c","arguments":{"x":1}}}"#,
            r#"{"index":4,"id":"4","function":{"name":"d","arguments":"null"}}"#,
        ],
        &["1 a {}", "2 b {}", r#"3 c {"x":1}"#, "4 d {}"],
    );
}

#[test]
fn a_cut_message_runs_nothing() {
    let stream = pieces(
        &[
            r#"{"index":0,"id":"1","function":{"name":"a","arguments":"{}"}}"#,
            r#"{"index":1,"id":"2","function":{"name":"b","arguments":"{\"x"}}"#,
            r#"{"index":2,"id":"3","function":{"name":"c","arguments":""}}"#,
        ],
        "length",
    );
    let turn = turn_of(&stream);
    assert_eq!(turn.stop().kind, StopKind::MaxTokens);
    assert_eq!(calls(&turn), ["1 a {} withheld", "2 b {\"x malformed", "3 c  malformed"]);
    // Some servers say tool_calls all the same; then it is the arguments that tell.
    let turn = turn_of(&stream.replace("length", "tool_calls"));
    assert_eq!(calls(&turn), ["1 a {}", "2 b {\"x malformed", "3 c {}"]);
    // The veto stays, whatever is said after it.
    let twice = stream.replace(
        "data: [DONE]",
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]",
    );
    assert_eq!(turn_of(&twice).stop().raw, "length");
}

#[test]
fn a_limit_vetoes_however_it_is_spelled() {
    let call = r#"{"index":0,"id":"1","function":{"name":"a","arguments":"{}"}}"#;
    for limit in [
        "max_output_tokens",
        "max_completion_tokens",
        "max_new_tokens",
        "max_length",
        "token_limit",
        "context_length_exceeded",
    ] {
        assert_eq!(calls(&turn_of(&pieces(&[call], limit))), ["1 a {} withheld"], "{limit}");
    }
}

#[test]
fn a_stop_reason_in_every_chunk_ends_nothing() {
    let piece = |piece: &str| {
        format!(
            "data: {{\"choices\":[{{\"delta\":{{\"tool_calls\":[{piece}]}},\
             \"finish_reason\":\"tool_calls\"}}]}}\n\n"
        )
    };
    let stream = piece(r#"{"index":0,"id":"1","function":{"name":"a","arguments":""}}"#)
        + &piece(r#"{"index":0,"function":{"arguments":"{\"x\":"}}"#)
        + &piece(r#"{"index":0,"function":{"arguments":"1}"}}"#)
        + &piece(r#"{"index":1,"id":"2","function":{"name":"b","arguments":"{}"}}"#);
    assert_eq!(calls(&turn_of(&stream)), [r#"1 a {"x":1}"#, "2 b {}"]);
}

#[test]
fn a_piece_of_nothing_is_no_call_and_one_of_a_function_is() {
    let whole = r#"{"index":1,"id":"b","function":{"name":"f","arguments":"{}"}}"#;
    let read = |odd| calls(&turn_of(&pieces(&[odd, whole], "tool_calls")));
    for nothing in [r#"{"index":0}"#, r#"{"index":0,"id":"a","type":"telepathy"}"#] {
        assert_eq!(read(nothing), ["b f {}"], "{nothing}");
    }
    assert_eq!(read(r#"{"index":0,"id":"a","type":"function"}"#), ["a  {}", "b f {}"]);
}

#[test]
fn a_call_that_goes_on_after_it_was_told_breaks_the_stream() {
    let stream = pieces(
        &[
            r#"{"index":0,"id":"1","function":{"name":"a","arguments":"{}"}}"#,
            r#"{"index":1,"id":"2","function":{"name":"b","arguments":"{}"}}"#,
            r#"{"index":0,"function":{"arguments":"{\"x\":1}"}}"#,
        ],
        "tool_calls",
    );
    check_broken(
        Wire::OpenAi,
        stream,
        "openai stream is not readable: a call went on after it was whole",
    );
}

#[test]
fn one_of_stop_reason_and_done_is_enough() {
    let whole = chat(&[r#"{"content":"Hi"}"#], "stop");
    let (events, done) = whole.split_at(whole.len() - "data: [DONE]\n\n".len());
    assert_eq!(turn_of(events).stop().raw, "stop");
    let (delta, _) = events.split_at(events.find("\n\n").unwrap() + 2);
    assert_eq!(turn_of(&format!("{delta}{done}")).stop().kind, StopKind::Missing);
    for cut in ["", delta, &format!("{delta}data: {{\"choices\":[],\"usage\":{{}}}}\n\n")] {
        check_broken(Wire::OpenAi, cut, "openai stream ended before the message did");
    }
    check_broken(
        Wire::OpenAi,
        done,
        "openai body is no message: expected an object at choices[0], found nothing; the body begins with: {\"choices\":[]}",
    );
    check_broken(
        Wire::OpenAi,
        format!("{}\n\n", &whole[..whole.len() - 60]),
        "openai stream is not readable: an event is no JSON: the text ends too early at byte 15; it begins with: {\"choices\":[{\"i",
    );
}

#[test]
fn an_error_in_the_stream_is_the_providers() {
    let begun = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n";
    for (event, why) in [
        (r#"data: {"error":{"message":"busy","type":"overloaded"}}"#, "overloaded: busy"),
        (r#"data: {"error":{"message":"busy","code":502},"choices":[{"delta":{}}]}"#, "busy"),
        (r#"data: {"error":"busy"}"#, "busy"),
        (r#"data: {"choices":[],"x_groq":{"id":"req_1","error":"busy"}}"#, "busy"),
        ("event: error\ndata: {\"message\":\"busy\"}", "busy"),
        (
            r#"data: {"object":"error","message":"too long","type":"BadRequest"}"#,
            "BadRequest: too long",
        ),
    ] {
        let stream = format!("{begun}{event}\n\ndata: [DONE]\n\n");
        check_broken(Wire::OpenAi, stream, &format!("openai answered with an error: {why}"));
    }
    let failed = chat(&[r#"{"tool_calls":[{"id":"1","function":{"name":"a"}}]}"#], "error");
    let turn = turn_of(&failed);
    assert_eq!(turn.stop().kind, StopKind::Failed);
    assert_eq!(calls(&turn), ["1 a  malformed"]);
}

#[test]
fn what_servers_want_back_is_put_together() {
    let stream = chat(
        &[
            r#"{"role":"assistant","content":"","reasoning":"a","channel":"analysis","reasoning_details":[{"type":"reasoning.text","text":"a","format":"f","index":0}]}"#,
            r#"{"reasoning":"b","channel":"analysis","graph":{},"reasoning_details":[{"type":"reasoning.text","text":"b","index":0}]}"#,
            r#"{"reasoning_details":[{"type":"reasoning.text","signature":"s","text":null,"index":0}]}"#,
            r#"{"reasoning_details":[{"type":"reasoning.encrypted","data":"x","id":"r","index":1}]}"#,
            r#"{"tool_calls":[{"index":0,"id":"1","function":{"name":"a","arguments":"{}"},"extra_content":{"sig":"t"}}]}"#,
        ],
        "tool_calls",
    );
    assert_eq!(
        turn_of(&stream).message().unwrap().as_str(),
        r#"{"role":"assistant","content":"","reasoning":"ab","reasoning_details":["#.to_owned()
            + r#"{"type":"reasoning.text","text":"ab","format":"f","signature":"s","index":0},"#
            + r#"{"type":"reasoning.encrypted","data":"x","id":"r","index":1}],"tool_calls":["#
            + r#"{"id":"1","type":"function","function":{"name":"a","arguments":"{}"},"extra_content":{"sig":"t"}}]}"#
    );
}

#[test]
fn content_in_parts_is_joined_by_kind() {
    let stream = chat(
        &[
            r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"so "}]}]}"#,
            r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"be it"}]}]}"#,
            r#"{"content":"Hel"}"#,
            r#"{"content":[{"type":"text","text":"lo"},{"type":"reference","ids":[1]}]}"#,
        ],
        "stop",
    );
    let turn = turn_of(&stream);
    assert_eq!(turn.text(), "Hello");
    assert_eq!(
        turn.message().unwrap().as_str(),
        r#"{"role":"assistant","content":[{"type":"thinking","thinking":[{"type":"text","text":"so be it"}]},{"type":"text","text":"Hello"},{"type":"reference","ids":[1]}]}"#
    );
}

#[test]
fn refusals_audio_and_the_call_of_older_days() {
    let turn = turn_of(&chat(&[r#"{"refusal":"I "}"#, r#"{"refusal":"won't"}"#], "stop"));
    assert_eq!((turn.text(), turn.stop().kind), ("I won't", StopKind::Refusal));
    let turn = turn_of(&chat(
        &[
            r#"{"function_call":{"name":"add","arguments":""}}"#,
            r#"{"function_call":{"arguments":"{\"x\":1}"}}"#,
        ],
        "function_call",
    ));
    assert_eq!(calls(&turn), [r#"- add {"x":1}"#]);
    let turn =
        turn_of(&chat(&[r#"{"audio":{"id":"audio_1"}}"#, r#"{"audio":{"data":"AAAA"}}"#], "stop"));
    assert!(turn.message().unwrap().as_str().contains(r#""audio":{"id":"audio_1"}"#));
}

#[test]
fn empty_named_calls_and_custom_ones() {
    let stream = chat(
        &[
            r#"{"content":"","function_call":{"name":"","arguments":""},"tool_calls":[{"index":0,"id":"1","custom":{"name":"","input":""},"function":{"name":"a","arguments":"{}"}}]}"#,
            r#"{"tool_calls":[{"index":1,"id":"2","type":"custom","custom":{"name":"sql","input":"SELECT"}}]}"#,
            r#"{"tool_calls":[{"index":1,"custom":{"input":" 1"}}]}"#,
        ],
        "tool_calls",
    );
    let turn = turn_of(&stream);
    assert_eq!(calls(&turn), ["1 a {}", r#"2 sql "SELECT 1""#]);
    assert!(turn.calls()[1].is_free_text());
}

#[test]
fn several_calls_in_one_are_unpacked_in_their_place() {
    let stream = pieces(
        &[
            r#"{"index":0,"id":"1","function":{"name":"a","arguments":"{}"}}"#,
            r#"{"index":1,"id":"2","function":{"name":"multi_tool_use.parallel","arguments":"{\"tool_uses\":[{\"recipient_name\":\"functions.b\",\"parameters\":{}},"}}"#,
            r#"{"index":1,"function":{"arguments":"{\"recipient_name\":\"functions.c\",\"parameters\":{\"x\":1}}]}"}}"#,
            r#"{"index":2,"id":"3","function":{"name":"d","arguments":"{}"}}"#,
        ],
        "tool_calls",
    );
    assert_eq!(calls(&turn_of(&stream)), ["1 a {}", "2 b {}", r#"2 c {"x":1}"#, "3 d {}"]);
}

#[test]
fn of_several_answers_the_first_is_read() {
    let chunk = |index: u8, text: &str, stop: &str| {
        format!(
            "data: {{\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":\"{text}\"}},\
             \"finish_reason\":{stop}}}]}}\n\n"
        )
    };
    let stream = chunk(0, "a", "null") + &chunk(1, "x", "\"length\"") + &chunk(0, "b", "\"stop\"");
    let turn = turn_of(&stream);
    assert_eq!((turn.text(), turn.stop().kind), ("ab", StopKind::EndTurn));
}

#[test]
fn a_message_that_repeats_the_pieces_adds_only_what_they_lack() {
    let call = |index: &str| {
        format!(
            r#"{{{index}"id":"a","type":"function","function":{{"name":"pay","arguments":"{{\"eur\":5}}"}}}}"#
        )
    };
    let piece = format!(r#"{{"tool_calls":[{}]}}"#, call(r#""index":0,"#));
    let begun = [r#"{"role":"assistant","content":"I pay.","reasoning_content":"So"}"#, &piece];
    let message = format!(
        r#"{{"role":"assistant","content":"I pay.","reasoning_content":"So","tool_calls":[{}]}}"#,
        call("")
    );
    let whole = |message: &str| {
        format!(
            "data: {{\"choices\":[{{\"index\":0,\"finish_reason\":\"tool_calls\",\"message\":{message}}}]}}\n\n"
        )
    };
    let pieces = chat(&begun, "tool_calls");
    let stream = pieces.replace("data: [DONE]\n\n", &whole(&message));
    let turn = turn_of(&stream);
    assert_eq!((turn.text(), calls(&turn)), ("I pay.", vec![r#"a pay {"eur":5}"#.to_owned()]));
    assert_eq!(turn.message(), turn_of(&pieces).message());
    // Only the call, and only the text, came in pieces before.
    for begun in [&begun[..1], &begun[1..]] {
        let pieces = chat(begun, "tool_calls");
        let turn = turn_of(&pieces.replace("data: [DONE]\n\n", &whole(&message)));
        assert_eq!((turn.text(), turn.calls().len()), ("I pay.", 1), "{begun:?}");
    }
    // Where all come as messages they are pieces.
    let messages = pieces.replace("\"delta\"", "\"message\"");
    assert_eq!(calls(&turn_of(&messages)), [r#"a pay {"eur":5}"#]);
}

#[test]
fn of_pieces_that_say_nothing_else_the_place_tells_the_call() {
    let begun = |id: &str, name: &str| {
        format!(
            r#"{{"id":"{id}","type":"function","function":{{"name":"{name}","arguments":""}}}}"#
        )
    };
    let more = |text: &str| format!(r#"{{"function":{{"arguments":"{text}"}}}}"#);
    let both = |one: String, other: String| format!("{one},{other}");
    check_calls(
        &[
            &both(begun("a", "weather"), begun("b", "time")),
            &both(more(r#"{\"at\":"#), more(r#"{\"zone\":"#)),
            &both(more(r#"1}"#), more(r#"2}"#)),
            &both(begun("c", "weather"), begun("d", "time")),
            &both(more(r#"{\"at\":3}"#), more(r#"{\"zone\":4}"#)),
        ],
        &[
            r#"a weather {"at":1}"#,
            r#"b time {"zone":2}"#,
            r#"c weather {"at":3}"#,
            r#"d time {"zone":4}"#,
        ],
    );
}

#[test]
fn an_empty_object_before_the_arguments_is_not_meant() {
    let piece = |text: &str| {
        format!(r#"{{"index":0,"id":"a","function":{{"name":"pay","arguments":"{text}"}}}}"#)
    };
    check_calls(&[&piece("{}"), &piece(r#"{\"eur\""#), &piece(":5}")], &[r#"a pay {"eur":5}"#]);
    check_calls(&[&piece("{}"), &piece("")], &["a pay {}"]);
}

#[test]
fn a_call_demanded_by_name_may_have_another_id_in_every_piece() {
    let piece = |id: &str, text: &str| {
        format!(
            r#"{{"index":0,"id":"{id}","type":"function","function":{{"name":"pay","arguments":"{text}"}}}}"#
        )
    };
    let ids = ["a", "b", "c", "d", "e"];
    let texts = [r#"{\"eur\""#, ": ", r#"{\"net\""#, ":5}}", ""];
    let pay: Vec<_> = ids.iter().zip(texts).map(|(id, text)| piece(id, text)).collect();
    let mut all: Vec<_> = pay.iter().map(String::as_str).collect();
    check_calls(&all, &[r#"a pay {"eur": {"net":5}}"#]);
    let empty = piece("z", "");
    all.insert(0, &empty);
    check_calls(&all, &[r#"z pay {"eur": {"net":5}}"#]);
    // Where the first is whole, the same name under another id is another call.
    let more = |text: &str| format!(r#"{{"index":0,"function":{{"arguments":"{text}"}}}}"#);
    let first = [piece("a", ""), more(r#"{\"eur\":"#), more("5}")];
    let second = [piece("b", ""), more(r#"{\"eur\":6}"#)];
    let both: Vec<_> = first.iter().chain(&second).map(String::as_str).collect();
    check_calls(&both, &[r#"a pay {"eur":5}"#, r#"b pay {"eur":6}"#]);
}

#[test]
fn arguments_that_come_whole_behind_their_pieces_count_once() {
    let begin = r#"{"index":0,"id":"a","function":{"name":"pay","arguments":"{\"eur\""}}"#;
    let rest = r#"{"index":0,"function":{"arguments":":5}"}}"#;
    let again = r#"{"index":0,"function":{"arguments":"{\"eur\":5}"}}"#;
    let expected = [r#"a pay {"eur":5}"#];
    check_calls(&[begin, rest, again], &expected);
    check_calls(&[begin, rest, again, again], &expected);
    let late = pieces(&[begin, rest], "tool_calls")
        .replace("data: [DONE]\n\n", &pieces(&[again], "tool_calls"));
    assert_eq!(late.matches("finish_reason").count(), 2, "{late}");
    assert_eq!(calls(&turn_of(&late)), expected);
    let legacy = [
        r#"{"function_call":{"name":"pay","arguments":"{\"eur\""}}"#,
        r#"{"function_call":{"arguments":":5}"}}"#,
        r#"{"function_call":{"name":"pay","arguments":"{\"eur\":5}"}}"#,
    ];
    let turn = turn_of(&chat(&legacy, "function_call"));
    assert_eq!(calls(&turn), [r#"- pay {"eur":5}"#]);
}

#[test]
fn calls_that_are_no_list_are_one() {
    let piece = |name: &str, text: &str| {
        format!(
            r#"{{"tool_calls":{{"index":0,"id":"","function":{{"name":{name},"arguments":"{text}"}}}}}}"#
        )
    };
    let turn = turn_of(&chat(&[&piece("\"pay\"", r#"{\"eur\""#), &piece("null", ":5}")], "stop"));
    assert_eq!(calls(&turn), [r#"- pay {"eur":5}"#]);
}

#[test]
fn reasoning_that_servers_want_back_is_kept_where_it_is_empty_or_closed() {
    let call =
        r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"pay","arguments":"{}"}}]}"#;
    let message =
        |first: &str| turn_of(&chat(&[first, call], "tool_calls")).message().unwrap().to_string();
    assert!(
        message(r#"{"content":null,"reasoning_content":""}"#).contains(r#""reasoning_content":"""#)
    );
    assert!(!message(r#"{"content":null,"reasoning":""}"#).contains("reasoning"));
    assert!(!message(r#"{"content":null,"reasoning_content":null}"#).contains("reasoning"));
    let closed = message(r#"{"reasoning_text":"hm","reasoning_opaque":"c2ln"}"#);
    assert!(closed.contains(r#""reasoning_opaque":"c2ln""#), "{closed}");
}

#[test]
fn blocks_of_thinking_are_put_together_up_to_their_signature() {
    let block = |thinking: &str, signature: &str| {
        format!(
            r#"{{"thinking_blocks":[{{"type":"thinking","thinking":"{thinking}","signature":{signature}}}]}}"#
        )
    };
    let call =
        r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"pay","arguments":"{}"}}]}"#;
    let stream = chat(
        &[
            &block("First ", "null"),
            &block("then.", "\"\""),
            &block("", "\"SIG\""),
            &block("More.", "\"SIG2\""),
            r#"{"thinking_blocks":[{"type":"redacted_thinking","data":"xyz"}]}"#,
            &block("", "\"SIG3\""),
            call,
        ],
        "tool_calls",
    );
    let message = turn_of(&stream).message().unwrap().to_string();
    let blocks = concat!(
        r#""thinking_blocks":[{"type":"thinking","thinking":"First then.","signature":"SIG"},"#,
        r#"{"type":"thinking","thinking":"More.","signature":"SIG2"},"#,
        r#"{"type":"redacted_thinking","data":"xyz"},"#,
        r#"{"type":"thinking","thinking":"","signature":"SIG3"}]"#
    );
    assert!(message.contains(blocks), "{message}");
}

#[test]
fn a_message_in_the_place_of_a_delta_and_a_whole_body_are_read() {
    let body =
        r#"{"choices":[{"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}"#;
    assert_eq!(turn_of(&format!("data: {body}\n\n")).text(), "Hi");
    check(Wire::OpenAi, body, body);
}

#[test]
fn calls_that_can_not_be_read_break_the_stream() {
    for calls in ["7", r#""pay""#, "[7]", "true"] {
        let stream = chat(&[&format!(r#"{{"tool_calls":{calls}}}"#)], "tool_calls");
        let error = read_all_ways(Wire::OpenAi, stream.as_bytes()).turn.unwrap_err();
        let expected = "tool_calls of a delta is no list of objects";
        assert!(error.to_string().contains(expected), "{calls}: {error}");
    }
    let stream = chat(&[r#"{"content":"Hi","tool_calls":null}"#], "stop");
    assert_eq!(turn_of(&stream).text(), "Hi");
}

#[test]
fn a_message_that_was_broken_off_as_a_loop_runs_nothing() {
    let call = r#"{"index":0,"id":"a","function":{"name":"pay","arguments":""}}"#;
    let turn = turn_of(&pieces(&[call], "repetition"));
    assert_eq!((turn.stop().kind, turn.calls().len()), (StopKind::Failed, 1));
    assert_ne!(turn.calls()[0].state(), crate::call::CallState::Complete);
}

#[test]
fn arguments_alone_at_a_new_index_go_on_with_the_call_whose_end_is_missing() {
    let begun = r#"{"index":0,"id":"a","function":{"name":"pay","arguments":""}}"#;
    let more = |index: u8, text: &str| {
        format!(r#"{{"index":{index},"function":{{"arguments":"{text}"}}}}"#)
    };
    let next = r#"{"index":1,"id":"b","function":{"name":"now","arguments":"{}"}}"#;
    check_calls(
        &[begun, &more(1, r#"{\"eur\""#), &more(1, ":5}"), next],
        &[r#"a pay {"eur":5}"#, "b now {}"],
    );
    // Behind a whole call they are one of their own, which can't run.
    let stream = pieces(&[next, &more(2, r#"{\"eur\":5}"#)], "tool_calls");
    assert_eq!(calls(&turn_of(&stream)), ["b now {}", r#"-  {"eur":5}"#]);
}

#[test]
fn an_error_may_be_a_line_of_its_own() {
    let begun = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n";
    let error = "error: {\"code\":500,\"message\":\"out of memory\",\"type\":\"server_error\"}\n\n";
    for done in ["", "data: [DONE]\n\n"] {
        check_broken(
            Wire::OpenAi,
            format!("{begun}{error}{done}"),
            "openai answered with an error: server_error: out of memory",
        );
    }
}

#[test]
fn events_without_empty_lines_between_them_are_read() {
    let stream = text_and_calls();
    let dense = stream.replace("\n\n", "\n");
    assert_eq!(turn_of(&dense), turn_of(&stream));
    assert_eq!(turn_of(&dense.replace('\n', "\r\n")), turn_of(&stream));
    // Lines of one event stay together.
    let spread = stream.replace("\"delta\":", "\"delta\":\ndata: ");
    assert_eq!(turn_of(&spread).calls(), turn_of(&stream).calls());
}

#[test]
fn arguments_said_again_with_other_white_space_count_once() {
    check_calls(
        &[
            r#"{"index":0,"id":"a","function":{"name":"pay","arguments":"{\"eur\""}}"#,
            r#"{"index":0,"function":{"arguments":":5}"}}"#,
            r#"{"index":0,"function":{"arguments":"{ \"eur\": 5 }\n"}}"#,
        ],
        &[r#"a pay {"eur":5}"#],
    );
}

#[test]
fn what_a_function_has_beside_is_kept() {
    let stream = pieces(
        &[
            r#"{"index":0,"id":"a","function":{"name":"pay","arguments":"","provider_specific_fields":{"thought_signature":"c2ln"}}}"#,
            r#"{"index":0,"function":{"arguments":"{}"}}"#,
        ],
        "tool_calls",
    );
    let message = turn_of(&stream).message().unwrap().to_string();
    let function = r#""function":{"name":"pay","arguments":"{}","provider_specific_fields":{"thought_signature":"c2ln"}}"#;
    assert!(message.contains(function), "{message}");
}

#[test]
fn words_and_calls_in_choices_of_their_own_are_one_message() {
    let chunk = |index: u8, delta: &str, stop: &str| {
        format!(
            "data: {{\"choices\":[{{\"index\":{index},\"delta\":{delta},\"finish_reason\":{stop}}}]}}\n\n"
        )
    };
    let call = r#"{"content":null,"tool_calls":[{"index":0,"id":"a","function":{"name":"pay","arguments":"{}"}}]}"#;
    for first in ["\"stop\"", "\"tool_calls\"", "null"] {
        let stream = chunk(0, r#"{"content":"I pay."}"#, "null")
            + &chunk(0, "{}", first)
            + &chunk(1, call, "\"tool_calls\"")
            + "data: [DONE]\n\n";
        let turn = turn_of(&stream);
        assert_eq!((turn.text(), calls(&turn)), ("I pay.", vec!["a pay {}".to_owned()]));
        assert_eq!(turn.stop().kind, StopKind::ToolUse);
    }
    // Other answers are none of its business, nor is what was cut.
    let beside = call.replace("null", "\"Or so.\"");
    for (first, second, second_stop) in [
        (r#"{"content":"I pay."}"#, beside.as_str(), "\"tool_calls\""),
        (r#"{"content":"I pay."}"#, call, "\"length\""),
        (call, call, "\"tool_calls\""),
    ] {
        let stream = chunk(0, first, "\"stop\"") + &chunk(1, second, second_stop);
        let alone = chunk(0, first, "\"stop\"");
        assert_eq!(calls(&turn_of(&stream)), calls(&turn_of(&alone)), "{stream}");
        assert_eq!(turn_of(&stream).stop(), turn_of(&alone).stop());
    }
    let third = chunk(2, r#"{"content":"No."}"#, "\"stop\"");
    let three = chunk(0, r#"{"content":"Hm."}"#, "\"stop\"") + &chunk(1, call, "\"tool_calls\"");
    assert_eq!(turn_of(&(three + &third)).calls().len(), 0);
}

#[test]
fn a_count_of_nothing_erases_no_count() {
    let usage = |read: u8| {
        format!(
            "data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":{read},\"completion_tokens\":{read},\
             \"queue_time\":0.25}}}}\n\n"
        )
    };
    let null = "data: {\"choices\":[],\"usage\":null}\n\n";
    let counted = usage(3) + &usage(0) + null + "data: [DONE]";
    let stream = chat(&[r#"{"content":"Hi"}"#], "stop").replace("data: [DONE]", &counted);
    assert_eq!(turn_of(&stream).usage().output_tokens, 3);
}

#[test]
fn of_arguments_that_each_piece_says_anew_the_last_count() {
    let piece = |index: u8, name: &str, text: &str| {
        format!(
            r#"{{"index":{index},"id":"{index}","function":{{"name":"{name}","arguments":"{text}"}}}}"#
        )
    };
    let texts = ["", "{", r#"{\"eur\""#, r#"{\"eur\":5}"#];
    let all: Vec<_> = texts
        .iter()
        .map(|text| piece(0, "pay", text))
        .chain(texts.iter().map(|text| piece(1, "pay", text)))
        .collect();
    let all: Vec<_> = all.iter().map(String::as_str).collect();
    check_calls(&all, &[r#"0 pay {"eur":5}"#, r#"1 pay {"eur":5}"#]);
    // The last of them was cut.
    check_calls(&all[..7], &[r#"0 pay {"eur":5}"#, r#"1 pay {{"eur" malformed"#]);
}

#[test]
fn calls_that_share_an_id_are_told_apart_by_their_index() {
    let begun = |index: u8| {
        format!(
            r#"{{"index":{index},"id":"same","type":"function","function":{{"name":"pay","arguments":""}}}}"#
        )
    };
    let more = |index: u8| {
        format!(
            r#"{{"index":{index},"id":"same","function":{{"arguments":"{{\"eur\":{index}}}"}}}}"#
        )
    };
    check_calls(
        &[&begun(0), &more(0), &begun(1), &more(1), &begun(2), &more(2)],
        &[r#"same pay {"eur":0}"#, r#"same pay {"eur":1}"#, r#"same pay {"eur":2}"#],
    );
    let mixed = [begun(0), begun(1), more(0), more(1)];
    check_calls(
        &mixed.each_ref().map(String::as_str),
        &[r#"same pay {"eur":0}"#, r#"same pay {"eur":1}"#],
    );
}

#[test]
fn reasoning_in_the_content_is_joined_up_to_its_signature() {
    let reasoning = |text: &str, signature: &str| {
        format!(
            r#"{{"content":[{{"type":"reasoning","summary":[{{"type":"summary_text","text":"{text}"{signature}}}]}}]}}"#
        )
    };
    let call =
        r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"pay","arguments":"{}"}}]}"#;
    let stream = chat(
        &[
            &reasoning("First ", r#","signature":"""#),
            &reasoning("then.", r#","signature":"""#),
            &reasoning("", r#","signature":"SIG""#),
            &reasoning("More.", ""),
            r#"{"content":[{"type":"text","text":"I pay."}]}"#,
            r#"{"content":[{"type":"reasoning","summary":[{"type":"summary_text","text":"x"},{"type":"summary_text","text":"y"}]}]}"#,
            call,
        ],
        "tool_calls",
    );
    let turn = turn_of(&stream);
    assert_eq!(turn.text(), "I pay.");
    let message = turn.message().unwrap().to_string();
    let content = concat!(
        r#""content":[{"type":"reasoning","summary":[{"type":"summary_text","text":"First then.","signature":"SIG"}]},"#,
        r#"{"type":"reasoning","summary":[{"type":"summary_text","text":"More."}]},"#,
        r#"{"type":"text","text":"I pay."},"#,
        r#"{"type":"reasoning","summary":[{"type":"summary_text","text":"x"},{"type":"summary_text","text":"y"}]}]"#
    );
    assert!(message.contains(content), "{message}");
}
