//! Gemini.

use super::*;
use crate::turn::StopKind;

const PARALLEL: &[&str] = &[
    r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"Let me","thought":true}]},"index":0}],"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":1}}"#,
    r#"{"candidates":[{"content":{"parts":[{"text":" think.","thought":true},{"text":"I "}]}}],"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":2,"thoughtsTokenCount":3}}"#,
    r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"look"}]}}]}"#,
    r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"."},{"functionCall":{"name":"look","args":{"day": 1.50}},"thoughtSignature":"c2ln"}]}}]}"#,
    r#"{"candidates":[{"content":{"role":"model","parts":[{"functionCall":{"name":"list"}},{"functionCall":{"id":"x1","name":"look","args":{}}}]}}]}"#,
    r#"{"candidates":[{"content":{"role":"model","parts":[{"text":""}]},"finishReason":"STOP"}],"usageMetadata":{"candidatesTokenCount":9}}"#,
];

const PARALLEL_WHOLE: &str = r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"Let me think.","thought":true},{"text":"I look."},{"functionCall":{"name":"look","args":{"day": 1.50}},"thoughtSignature":"c2ln"},{"functionCall":{"name":"list"}},{"functionCall":{"id":"x1","name":"look","args":{}}}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":9,"thoughtsTokenCount":3}}"#;

pub(super) fn parallel() -> Vec<u8> {
    sse(PARALLEL).concat()
}

pub(super) fn array() -> String {
    format!("[{}\n]\n", PARALLEL.join("\n,\r\n"))
}

#[test]
fn thoughts_text_and_parallel_calls() {
    check(Wire::Gemini, parallel(), PARALLEL_WHOLE);
    let moments = moments(Wire::Gemini, &sse(PARALLEL));
    let expected = [("look", 3), ("list", 4), ("look", 4)];
    assert_eq!(moments, expected.map(|(name, at)| (name.to_owned(), at)));
}

#[test]
fn the_same_as_an_array() {
    check(Wire::Gemini, array(), PARALLEL_WHOLE);
    let cut = &array()[..array().len() - 60];
    check_broken(Wire::Gemini, cut, "gemini stream ended before the message did");
}

#[test]
fn arguments_in_pieces() {
    let call = |call: &str| {
        format!(r#"{{"candidates":[{{"content":{{"role":"model","parts":[{call}]}}}}]}}"#)
    };
    let events = [
        call(r#"{"functionCall":{"name":"a","willContinue":true},"thoughtSignature":"c2ln"}"#),
        call(
            r#"{"functionCall":{"partialArgs":[{"jsonPath":"$.x","stringValue":"1","willContinue":true}],"willContinue":true}}"#,
        ),
        call(
            r#"{"functionCall":{"partialArgs":[{"jsonPath":"$.x","stringValue":"2"},{"jsonPath":"$.n","numberValue":1.50}],"willContinue":true}}"#,
        ),
        call(r#"{"functionCall":{}}"#),
        // Ended by the next call.
        call(r#"{"functionCall":{"id":"i","name":"b","willContinue":true}}"#),
        call(r#"{"functionCall":{"name":"c","args":{"z":1}}}"#),
        // Ended by the last piece.
        call(
            r#"{"functionCall":{"name":"d","partialArgs":[{"jsonPath":"$.y","boolValue":true}]}}"#,
        ),
        call(r#"{"functionCall":{}}"#),
        // Ended by the message.
        call(r#"{"functionCall":{"name":"e","willContinue":true}}"#),
        r#"{"candidates":[{"finishReason":"STOP"}]}"#.to_owned(),
    ];
    let parts = [
        r#"{"functionCall":{"name":"a","args":{"x":"12","n":1.50}},"thoughtSignature":"c2ln"}"#,
        r#"{"functionCall":{"id":"i","name":"b","args":{}}}"#,
        r#"{"functionCall":{"name":"c","args":{"z":1}}}"#,
        r#"{"functionCall":{"name":"d","args":{"y":true}}}"#,
        r#"{"functionCall":{"name":"e","args":{}}}"#,
    ];
    let whole = format!(
        r#"{{"candidates":[{{"content":{{"role":"model","parts":[{}]}},"finishReason":"STOP"}}]}}"#,
        parts.join(",")
    );
    let events: Vec<_> = sse(&events.each_ref().map(String::as_str));
    check(Wire::Gemini, events.concat(), &whole);
    let expected = [("a", 3), ("b", 5), ("c", 5), ("d", 6), ("e", 9)];
    assert_eq!(moments(Wire::Gemini, &events), expected.map(|(name, at)| (name.to_owned(), at)));
}

#[test]
fn parts_with_more_than_text_are_left_as_they_came() {
    let stream = sse(&[
        r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"a"},{"text":"b","thoughtSignature":"eA=="}]}}]}"#,
        r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"c"},{"text":"d","new":1}]}}]}"#,
        r#"{"candidates":[{"index":1,"content":{"parts":[{"text":"of another"}]}}]}"#,
        r#"{"candidates":[{"content":{"parts":[{"executableCode":{"code":"1"}},{"text":"e"}]},"finishReason":1}]}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":"","thoughtSignature":"eQ=="}]}}]}"#,
    ]);
    let whole = r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"a"},{"text":"b","thoughtSignature":"eA=="},{"text":"c"},{"text":"d","new":1},{"executableCode":{"code":"1"}},{"text":"e"},{"text":"","thoughtSignature":"eQ=="}]},"finishReason":1}]}"#;
    let turn = check(Wire::Gemini, stream.concat(), whole);
    assert_eq!((turn.text(), &*turn.stop().raw), ("abcd\ne", "1"));
}

#[test]
fn the_text_of_a_part_that_calls_is_told() {
    let stream = sse(&[
        r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"I look.","functionCall":{"name":"look","args":{}}},{"text":" And so on."}]},"finishReason":"STOP"}]}"#,
    ]);
    let seen = read(Wire::Gemini, [&*stream.concat()]);
    assert_eq!(
        (&*seen.text, seen.turn.unwrap().text()),
        ("I look. And so on.", "I look. And so on.")
    );
    assert_eq!(seen.calls.len(), 1);
}

#[test]
fn stops_that_forbid_the_calls() {
    let call = r#"{"candidates":[{"content":{"role":"model","parts":[{"functionCall":{"name":"a","args":{}}}]}}]}"#;
    for reason in ["MAX_TOKENS", "UNEXPECTED_TOOL_CALL", "SAFETY"] {
        let stop = format!(r#"{{"candidates":[{{"finishReason":"{reason}"}}]}}"#);
        let whole = call.replace("]}}]}", &format!("]}},\"finishReason\":\"{reason}\"}}]}}"));
        let stream = sse(&[call, &stop]).concat();
        let turn = check(Wire::Gemini, stream, &whole);
        assert_eq!(turn.calls()[0].withheld_reason(), Some(reason));
        let after = stop.replace(reason, "STOP");
        let turn = check(Wire::Gemini, sse(&[call, &stop, &after]).concat(), &whole);
        assert_eq!(turn.stop().raw, reason);
    }
    let blocked =
        r#"{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":3}}"#;
    check(Wire::Gemini, sse(&[blocked]).concat(), blocked);
}

#[test]
fn ratings_of_the_prompt_end_no_message() {
    let rated = r#"{"candidates":[{"content":{"parts":[{"text":"Half a"}]}}],"promptFeedback":{"safetyRatings":[]}}"#;
    let call =
        r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"a","args":{}}}]}}]}"#;
    let cut = sse(&[rated, call]).concat();
    check_broken(Wire::Gemini, &cut, "gemini stream ended before the message did");
    let whole = r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"Half a"},{"functionCall":{"name":"a","args":{}}}]},"finishReason":"STOP"}]}"#;
    let stop = r#"{"candidates":[{"finishReason":"STOP"}]}"#;
    check(Wire::Gemini, [cut, sse(&[stop]).concat()].concat(), whole);
}

#[test]
fn errors_and_cuts_break_the_stream() {
    let began = sse(&PARALLEL[..5]).concat();
    check_broken(Wire::Gemini, &began, "gemini stream ended before the message did");
    let error = r#"{"error":{"code":503,"message":"overloaded","status":"UNAVAILABLE"}}"#;
    check_broken(
        Wire::Gemini,
        [began, sse(&[error]).concat()].concat(),
        "gemini answered with an error: UNAVAILABLE: overloaded",
    );
}

/// Events of the first candidate with these parts, and one with a stop reason.
fn parts(parts: &[&str]) -> Vec<u8> {
    let event = |part: &&str| format!(r#"{{"candidates":[{{"content":{{"parts":[{part}]}}}}]}}"#);
    let mut events: Vec<_> = parts.iter().map(event).collect();
    events.push(r#"{"candidates":[{"finishReason":"STOP"}]}"#.to_owned());
    sse(&events.iter().map(String::as_str).collect::<Vec<_>>()).concat()
}

fn whole(parts: &[&str]) -> String {
    let parts = parts.join(",");
    format!(
        r#"{{"candidates":[{{"content":{{"role":"model","parts":[{parts}]}},"finishReason":"STOP"}}]}}"#
    )
}

#[test]
fn pieces_may_repeat_the_id_and_come_beside_whole_arguments() {
    let stream = parts(&[
        r#"{"functionCall":{"id":"i","name":"a","args":{"n":1.50},"partialArgs":[{"jsonPath":"$.x","stringValue":"o"}],"willContinue":true}}"#,
        r#"{"functionCall":{"id":"i","partialArgs":[{"jsonPath":"$.x","stringValue":"ne"}],"willContinue":true}}"#,
        r#"{"functionCall":{"id":"i","name":"a","args":{"last":[ 1 ]}}}"#,
        r#"{"functionCall":{"id":"j","name":"a","args":{ "n": 2 },"willContinue":true}}"#,
        r#"{"functionCall":{}}"#,
    ]);
    let expected = [
        r#"{"functionCall":{"id":"i","name":"a","args":{"n":1.50,"x":"one","last":[ 1 ]}}}"#,
        r#"{"functionCall":{"id":"j","name":"a","args":{ "n": 2 }}}"#,
    ];
    check(Wire::Gemini, stream, &whole(&expected));
}

#[test]
fn arguments_for_no_call_break_the_stream() {
    let stream = parts(&[
        r#"{"functionCall":{"name":"a","args":{}}}"#,
        r#"{"functionCall":{"partialArgs":[{"jsonPath":"$.x","stringValue":"o"}]}}"#,
    ]);
    let why = "gemini stream is not readable: arguments came for no call";
    check_broken(Wire::Gemini, stream, why);
}

#[test]
fn an_empty_stop_reason_ends_nothing() {
    let open = r#"{"functionCall":{"name":"a","willContinue":true}}"#;
    let more = r#"{"functionCall":{"partialArgs":[{"jsonPath":"$.x","numberValue":1}]}}"#;
    for empty in [r#""""#, r#""FINISH_REASON_UNSPECIFIED""#, "0", "null"] {
        let event = format!(
            r#"{{"candidates":[{{"content":{{"parts":[{open}]}},"finishReason":{empty}}}]}}"#
        );
        let begun = sse(&[&event]).concat();
        let why = "gemini stream ended before the message did";
        check_broken(Wire::Gemini, &begun, why);
        let expected = whole(&[r#"{"functionCall":{"name":"a","args":{"x":1}}}"#]);
        check(Wire::Gemini, [begun, parts(&[more])].concat(), &expected);
    }
}

#[test]
fn a_prompt_that_is_found_blocked_late_forbids_the_calls() {
    let call = r#"{"candidates":[{"content":{"role":"model","parts":[{"functionCall":{"name":"a","args":{}}}]}}]}"#;
    let blocked = r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#;
    let both = format!("{},{}", &call[..call.len() - 1], &blocked[1..]);
    let turn = check(Wire::Gemini, sse(&[call, blocked]).concat(), &both);
    assert_eq!((turn.stop().kind, &*turn.stop().raw), (StopKind::ContentFilter, "SAFETY"));
    assert_eq!(turn.calls()[0].withheld_reason(), Some("SAFETY"));
}

#[test]
fn an_empty_signature_is_none() {
    let text = |text: &str| format!(r#"{{"text":"{text}","thoughtSignature":""}}"#);
    let stream = parts(&[&text("Let me "), &text("see")]);
    check(Wire::Gemini, stream, &whole(&[r#"{"text":"Let me see"}"#]));
}
