//! Bedrock Converse.

use super::*;

fn event(kind: &str, payload: &str) -> Vec<u8> {
    let headers =
        [(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")];
    frame(&headers, payload)
}

/// Events as their kind and their payload.
type Events = [(&'static str, &'static str)];

const PARALLEL: &Events = &[
    ("messageStart", r#"{"p":"abc","role":"assistant"}"#),
    (
        "contentBlockDelta",
        r#"{"contentBlockIndex":0,"delta":{"reasoningContent":{"text":"Hm"}},"p":"a"}"#,
    ),
    ("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"reasoningContent":{"text":"m."}}}"#),
    (
        "contentBlockDelta",
        r#"{"contentBlockIndex":0,"delta":{"reasoningContent":{"signature":"c2ln"}}}"#,
    ),
    ("contentBlockStop", r#"{"contentBlockIndex":0}"#),
    ("contentBlockDelta", r#"{"contentBlockIndex":1,"delta":{"text":"I will "}}"#),
    ("contentBlockDelta", r#"{"contentBlockIndex":1,"delta":{"text":"look."}}"#),
    ("contentBlockStop", r#"{"contentBlockIndex":1,"p":"abcdef"}"#),
    (
        "contentBlockStart",
        r#"{"contentBlockIndex":2,"start":{"toolUse":{"toolUseId":"tooluse_1","name":"look","type":"tool_use"}}}"#,
    ),
    ("contentBlockDelta", r#"{"contentBlockIndex":2,"delta":{"toolUse":{"input":""}}}"#),
    ("contentBlockDelta", r#"{"contentBlockIndex":2,"delta":{"toolUse":{"input":"{\"day\":"}}}"#),
    ("contentBlockDelta", r#"{"contentBlockIndex":2,"delta":{"toolUse":{"input":" 1.50}"}}}"#),
    ("contentBlockStop", r#"{"contentBlockIndex":2}"#),
    (
        "contentBlockStart",
        r#"{"contentBlockIndex":3,"start":{"toolUse":{"toolUseId":"tooluse_2","name":"list"}}}"#,
    ),
    ("contentBlockDelta", r#"{"contentBlockIndex":3,"delta":{"toolUse":{"input":""}}}"#),
    ("contentBlockStop", r#"{"contentBlockIndex":3}"#),
    ("messageStop", r#"{"p":"a","stopReason":"tool_use"}"#),
    (
        "metadata",
        r#"{"metrics":{"latencyMs":5},"usage":{"inputTokens":10,"outputTokens":4,"totalTokens":14}}"#,
    ),
];

const PARALLEL_WHOLE: &str = r#"{"output":{"message":{"role":"assistant","content":[{"reasoningContent":{"reasoningText":{"text":"Hmm.","signature":"c2ln"}}},{"text":"I will look."},{"toolUse":{"toolUseId":"tooluse_1","name":"look","type":"tool_use","input":{"day": 1.50}}},{"toolUse":{"toolUseId":"tooluse_2","name":"list","input":{}}}]}},"stopReason":"tool_use","usage":{"inputTokens":10,"outputTokens":4,"totalTokens":14}}"#;

pub(super) fn frames(events: &Events) -> Vec<Vec<u8>> {
    events.iter().map(|(kind, payload)| event(kind, payload)).collect()
}

/// The events as lines, without frames.
pub(super) fn lines() -> String {
    let line = |(kind, data): &(&str, &str)| format!("data: {{\"{kind}\":{data}}}\n\n");
    PARALLEL.iter().map(line).collect()
}

pub(super) fn parallel() -> Vec<u8> {
    frames(PARALLEL).concat()
}

#[test]
fn reasoning_text_and_parallel_calls() {
    check(Wire::Bedrock, parallel(), PARALLEL_WHOLE);
    let moments = moments(Wire::Bedrock, &frames(PARALLEL));
    assert_eq!(moments, [("look".to_owned(), 12), ("list".to_owned(), 15)]);
}

#[test]
fn the_same_events_without_frames() {
    check(Wire::Bedrock, lines(), PARALLEL_WHOLE);
    check_broken(
        Wire::Bedrock,
        "data: {\"throttlingException\":{\"message\":\"slow down\"}}\n\n",
        "bedrock answered with an error: throttlingException: slow down",
    );
}

#[test]
fn a_call_that_begins_at_the_index_of_an_open_block_stands_where_it_begins() {
    let tool = |index: u8, id: &str| {
        format!(
            r#"{{"contentBlockIndex":{index},"start":{{"toolUse":{{"toolUseId":"{id}","name":"{id}"}}}}}}"#
        )
    };
    let events = [
        ("messageStart", r#"{"role":"assistant"}"#.to_owned()),
        ("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"text":""}}"#.to_owned()),
        ("contentBlockStart", tool(1, "look")),
        ("contentBlockStop", r#"{"contentBlockIndex":1}"#.to_owned()),
        ("contentBlockStart", tool(0, "list")),
        ("contentBlockStop", r#"{"contentBlockIndex":0}"#.to_owned()),
        ("messageStop", r#"{"stopReason":"tool_use"}"#.to_owned()),
    ];
    let events = events.map(|(kind, data)| format!("data: {{\"{kind}\":{data}}}\n\n"));
    let read = read_all_ways(Wire::Bedrock, events.concat().as_bytes());
    let names = |calls: &[ToolCall]| calls.iter().map(|c| c.name().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&read.calls), ["look", "list"]);
    assert_eq!(names(read.turn.unwrap().calls()), ["look", "list"]);
}

#[test]
fn a_block_that_begins_at_the_index_of_the_last_open_one_ends_it() {
    let tool = |index: &str, id: &str| {
        let start = format!(r#""start":{{"toolUse":{{"toolUseId":"{id}","name":"{id}"}}}}"#);
        ("contentBlockStart", format!("{{{index}{start}}}"))
    };
    let input = |index: &str, text: &str| {
        ("contentBlockDelta", format!(r#"{{{index}"delta":{{"toolUse":{{"input":"{text}"}}}}}}"#))
    };
    for index in ["", r#""contentBlockIndex":0,"#] {
        let events = [
            ("messageStart", r#"{"role":"assistant"}"#.to_owned()),
            ("contentBlockDelta", format!(r#"{{{index}"delta":{{"text":"Hi"}}}}"#)),
            tool(index, "look"),
            tool(index, "look"),
            input(index, r#"{\"day\":"#),
            input(index, "1}"),
            tool(index, "list"),
            tool(index, "last"),
            ("messageStop", r#"{"stopReason":"tool_use"}"#.to_owned()),
        ];
        let frames: Vec<_> = events.iter().map(|(kind, data)| event(kind, data)).collect();
        let whole = r#"{"output":{"message":{"role":"assistant","content":[{"text":"Hi"},{"toolUse":{"toolUseId":"look","name":"look","input":{"day":1}}},{"toolUse":{"toolUseId":"list","name":"list","input":{}}},{"toolUse":{"toolUseId":"last","name":"last","input":{}}}]}},"stopReason":"tool_use"}"#;
        check(Wire::Bedrock, frames.concat(), whole);
        let told = [("look", 6), ("list", 7), ("last", 9)];
        assert_eq!(moments(Wire::Bedrock, &frames), told.map(|(name, at)| (name.to_owned(), at)));
    }
}

#[test]
fn tools_of_the_server_are_no_calls() {
    let events: &Events = &[
        ("messageStart", r#"{"role":"assistant"}"#),
        (
            "contentBlockStart",
            r#"{"contentBlockIndex":0,"start":{"toolUse":{"toolUseId":"s","name":"code","type":"server_tool_use"}}}"#,
        ),
        (
            "contentBlockDelta",
            r#"{"contentBlockIndex":0,"delta":{"toolUse":{"input":"{\"x\":1}"}}}"#,
        ),
        ("contentBlockStop", r#"{"contentBlockIndex":0}"#),
        (
            "contentBlockStart",
            r#"{"contentBlockIndex":1,"start":{"toolResult":{"toolUseId":"s","type":"code_result"}}}"#,
        ),
        (
            "contentBlockDelta",
            r#"{"contentBlockIndex":1,"delta":{"toolResult":[{"json":{"n": 1}}]}}"#,
        ),
        ("contentBlockStop", r#"{"contentBlockIndex":1}"#),
        (
            "contentBlockDelta",
            r#"{"contentBlockIndex":2,"delta":{"reasoningContent":{"redactedContent":"eA=="}}}"#,
        ),
        ("contentBlockStop", r#"{"contentBlockIndex":2}"#),
        ("contentBlockStart", r#"{"contentBlockIndex":3,"start":{}}"#),
        ("contentBlockStop", r#"{"contentBlockIndex":3}"#),
        (
            "contentBlockStart",
            r#"{"contentBlockIndex":4,"start":{"toolUse":{"toolUseId":"a","name":"look"}}}"#,
        ),
        ("contentBlockStop", r#"{"contentBlockIndex":4}"#),
        ("messageStop", r#"{"stopReason":"tool_use"}"#),
    ];
    let whole = r#"{"output":{"message":{"role":"assistant","content":[{"toolUse":{"toolUseId":"s","name":"code","type":"server_tool_use","input":{"x":1}}},{"toolResult":{"toolUseId":"s","type":"code_result","content":[{"json":{"n": 1}}]}},{"reasoningContent":{"redactedContent":"eA=="}},{"toolUse":{"toolUseId":"a","name":"look","input":{}}}]}},"stopReason":"tool_use"}"#;
    let turn = check(Wire::Bedrock, frames(events).concat(), whole);
    assert_eq!(turn.calls().len(), 1);
}

#[test]
fn calls_that_are_no_objects_stay() {
    let events: &Events = &[
        ("contentBlockStart", r#"{"contentBlockIndex":0,"start":{"toolUse":5}}"#),
        ("contentBlockStop", r#"{"contentBlockIndex":0}"#),
        (
            "contentBlockStart",
            r#"{"contentBlockIndex":1,"start":{"toolUse":{"toolUseId":"b","name":"look"}}}"#,
        ),
        ("messageStop", r#"{"stopReason":"tool_use"}"#),
    ];
    let whole = r#"{"output":{"message":{"role":"assistant","content":[{"toolUse":5},{"toolUse":{"toolUseId":"b","name":"look","input":{}}}]}},"stopReason":"tool_use","usage":null}"#;
    let turn = check(Wire::Bedrock, frames(events).concat(), whole);
    assert_eq!(turn.calls().len(), 2);
}

#[test]
fn a_block_begins_where_another_ended_without_indexes_or_at_one_that_was_there() {
    let mut lines = lines();
    for index in 0..4 {
        lines = lines.replace(&format!(r#""contentBlockIndex":{index},"#), "");
        lines = lines.replace(&format!(r#""contentBlockIndex":{index}"#), "");
    }
    assert!(!lines.contains("Index"), "{lines}");
    check(Wire::Bedrock, lines, PARALLEL_WHOLE);
    let again = |(kind, data): &(&str, &str)| event(kind, &data.replace("Index\":3", "Index\":2"));
    let again: Vec<_> = PARALLEL.iter().map(again).collect();
    check(Wire::Bedrock, again.concat(), PARALLEL_WHOLE);
}

#[test]
fn a_block_that_goes_on_after_its_end_breaks_the_stream() {
    let late = event("contentBlockDelta", r#"{"contentBlockIndex":1,"delta":{"text":"More."}}"#);
    check_broken(
        Wire::Bedrock,
        [frames(&PARALLEL[..12]).concat(), late].concat(),
        "bedrock stream is not readable: a block went on after its end",
    );
}

#[test]
fn input_that_comes_as_an_object_is_kept() {
    let events: &Events = &[
        ("contentBlockStart", r#"{"start":{"toolUse":{"toolUseId":"a","name":"look"}}}"#),
        ("contentBlockDelta", r#"{"delta":{"toolUse":{"input":{"day": 1.50}}}}"#),
        ("contentBlockStop", "{}"),
        ("messageStop", r#"{"stopReason":"tool_use"}"#),
    ];
    let whole = r#"{"output":{"message":{"role":"assistant","content":[{"toolUse":{"toolUseId":"a","name":"look","input":{"day": 1.50}}}]}},"stopReason":"tool_use"}"#;
    check(Wire::Bedrock, frames(events).concat(), whole);
}

#[test]
fn texts_with_citations() {
    let events: &Events = &[
        ("messageStart", r#"{"role":"assistant"}"#),
        ("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"text":"As "}}"#),
        ("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"text":"said"}}"#),
        ("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"citation":{"title": "T"}}}"#),
        ("contentBlockStop", r#"{"contentBlockIndex":0}"#),
        ("contentBlockDelta", r#"{"contentBlockIndex":1,"delta":{"text":"."}}"#),
        ("messageStop", r#"{"stopReason":"end_turn"}"#),
    ];
    let whole = r#"{"output":{"message":{"role":"assistant","content":[{"citationsContent":{"content":[{"text":"As said"}],"citations":[{"title": "T"}]}},{"text":"."}]}},"stopReason":"end_turn"}"#;
    let turn = check(Wire::Bedrock, frames(events).concat(), whole);
    assert_eq!(turn.text(), "As said.");
}

#[test]
fn what_the_limit_cut_is_withheld() {
    let cut = [&PARALLEL[..12], &[("messageStop", r#"{"stopReason":"max_tokens"}"#)]].concat();
    let whole = r#"{"output":{"message":{"role":"assistant","content":[{"reasoningContent":{"reasoningText":{"text":"Hmm.","signature":"c2ln"}}},{"text":"I will look."},{"toolUse":{"toolUseId":"tooluse_1","name":"look","type":"tool_use","input":{"day": 1.50}}}]}},"stopReason":"max_tokens"}"#;
    let turn = check(Wire::Bedrock, frames(&cut).concat(), whole);
    assert_eq!(turn.calls()[0].withheld_reason(), Some("max_tokens"));

    let cut = [&PARALLEL[..11], &[("messageStop", r#"{"stopReason":"max_tokens"}"#)]].concat();
    let whole = whole.replace(r#"{"day": 1.50}"#, r#""{\"day\":""#);
    check(Wire::Bedrock, frames(&cut).concat(), &whole);
}

#[test]
fn exceptions_and_cuts_break_the_stream() {
    let began = frames(&PARALLEL[..13]).concat();
    check_broken(Wire::Bedrock, &began, "bedrock stream ended before the message did");
    let whole = parallel();
    check_broken(
        Wire::Bedrock,
        &whole[..whole.len() - 3],
        "bedrock stream ended before the message did",
    );
    let headers =
        [(":message-type", "exception"), (":exception-type", "modelStreamErrorException")];
    let exception =
        frame(&headers, r#"{"message":"the model fell over","originalStatusCode":500}"#);
    check_broken(
        Wire::Bedrock,
        [began.clone(), exception].concat(),
        "bedrock answered with an error: modelStreamErrorException: the model fell over",
    );
    for (kind, payload) in [
        ("contentBlockDelta", r#"{"contentBlockIndex":9,"delta":{"toolUse":{"input":"{}"}}}"#),
        (
            "contentBlockDelta",
            r#"{"contentBlockIndex":9,"delta":{"text":"a","reasoningContent":{"text":"b"}}}"#,
        ),
    ] {
        check_broken(
            Wire::Bedrock,
            [began.clone(), event(kind, payload)].concat(),
            "bedrock stream is not readable: the pieces of a block don't fit together",
        );
    }
    let mut spoiled = whole;
    let last = spoiled.len() - 30;
    spoiled[last] ^= 0x20;
    check_broken(
        Wire::Bedrock,
        spoiled,
        "bedrock stream is not readable: a frame's checksum is wrong",
    );
}

#[test]
fn a_message_of_measurements_erases_no_count_and_an_empty_signature_no_signature() {
    let mut events = PARALLEL.to_vec();
    let empty = r#"{"contentBlockIndex":0,"delta":{"reasoningContent":{"signature":""}}}"#;
    events.insert(4, ("contentBlockDelta", empty));
    events.push(("metadata", r#"{"metrics":{"latencyMs":7}}"#));
    check(Wire::Bedrock, frames(&events).concat(), PARALLEL_WHOLE);
}

#[test]
fn closed_reasoning_is_joined_as_bytes() {
    let whole = |pieces: &[&str]| {
        let pieces = pieces.iter().map(|piece| {
            let delta = format!(
                r#"{{"contentBlockIndex":0,"delta":{{"reasoningContent":{{"redactedContent":"{piece}"}}}}}}"#
            );
            event("contentBlockDelta", &delta)
        });
        let end = event("messageStop", r#"{"stopReason":"end_turn"}"#);
        let stream: Vec<_> = pieces.chain([end]).flatten().collect();
        let turn = read_all_ways(Wire::Bedrock, &stream).turn.unwrap();
        let message: serde_json::Value = turn.message().unwrap().to_value().unwrap();
        message["content"][0]["reasoningContent"]["redactedContent"].as_str().unwrap().to_owned()
    };
    // "abcd" in pieces that are padded each, and as one that was cut.
    assert_eq!(whole(&["YQ==", "Yg==", "Y2Q="]), "YWJjZA==");
    assert_eq!(whole(&["YWJ", "jZA=="]), "YWJjZA==");
    assert_eq!(whole(&["YQ==", "%"]), "YQ==%");
}
