//! Anthropic Messages.

use super::*;

/// An event, framed as the provider frames it.
fn event(kind: &str, rest: &str) -> String {
    let rest = if rest.is_empty() { String::new() } else { format!(",{rest}") };
    format!("event: {kind}\ndata: {{\"type\":\"{kind}\"{rest} }}\n\n")
}

fn start(index: usize, block: &str) -> String {
    event("content_block_start", &format!(r#""index":{index},"content_block":{block}"#))
}

fn delta(index: usize, kind: &str, value: &str) -> String {
    let delta = format!(r#""index":{index},"delta":{{"type":"{kind}_delta",{value}}}"#);
    event("content_block_delta", &delta)
}

fn stop(index: usize) -> String {
    event("content_block_stop", &format!(r#""index":{index}"#))
}

fn begin() -> String {
    let usage = r#"{"input_tokens":20,"cache_read_input_tokens":5,"output_tokens":1}"#;
    event(
        "message_start",
        &format!(r#""message":{{"content":[],"stop_reason":null,"usage":{usage}}}"#),
    )
}

fn end(reason: &str) -> String {
    let usage = r#""usage":{"output_tokens":30,"input_tokens":null}"#;
    let delta = format!(r#""delta":{{"stop_reason":"{reason}","stop_sequence":null}},{usage}"#);
    event("message_delta", &delta) + &event("message_stop", "")
}

fn whole(content: &str, reason: &str) -> String {
    let usage = r#"{"input_tokens":20,"cache_read_input_tokens":5,"output_tokens":30}"#;
    format!(r#"{{"content":[{content}],"stop_reason":"{reason}","usage":{usage}}}"#)
}

const LOOK: &str = r#"{"type":"tool_use","id":"toolu_1","name":"look","input":{}}"#;

pub(super) fn thinking_text_and_calls() -> Vec<String> {
    vec![
        begin(),
        event("ping", ""),
        start(0, r#"{"type":"thinking","thinking":"","signature":""}"#),
        delta(0, "thinking", r#""thinking":"Which""#),
        delta(0, "thinking", r#""thinking":" day?\n""#),
        delta(0, "signature", r#""signature":"c2ln""#),
        stop(0),
        start(1, r#"{"type":"redacted_thinking","data":"eA=="}"#),
        stop(1),
        start(2, r#"{"type":"text","text":""}"#),
        delta(2, "text", r#""text":"Let me ""#),
        delta(2, "text", r#""text":"lo\u00f6k.""#),
        stop(2),
        start(3, LOOK),
        delta(3, "input_json", r#""partial_json":"""#),
        delta(3, "input_json", r#""partial_json":"{\"day\": \"\\u00e4\", \"n\"""#),
        delta(3, "input_json", r#""partial_json":": 1.50}""#),
        stop(3),
        start(
            4,
            r#"{"type":"tool_use","id":"toolu_2","name":"list","input":{},"caller":{"type":"direct"}}"#,
        ),
        delta(4, "input_json", r#""partial_json":"""#),
        stop(4),
        end("tool_use"),
    ]
}

#[test]
fn thinking_text_and_parallel_calls() {
    let content = r#"{"type":"thinking","thinking":"Which day?\n","signature":"c2ln"},
        {"type":"redacted_thinking","data":"eA=="},{"type":"text","text":"Let me loök."},
        {"type":"tool_use","id":"toolu_1","name":"look","input":{"day": "\u00e4", "n": 1.50}},
        {"type":"tool_use","id":"toolu_2","name":"list","input":{},"caller":{"type":"direct"}}"#;
    let content = content.replace(",\n        {", ",{");
    let events = thinking_text_and_calls();
    let turn = check(Wire::Anthropic, events.concat(), &whole(&content, "tool_use"));
    assert_eq!(turn.calls()[0].arguments(), r#"{"day": "\u00e4", "n": 1.50}"#);
    assert_eq!((turn.usage().input_tokens, turn.usage().output_tokens), (25, 30));

    let events: Vec<_> = events.into_iter().map(String::into_bytes).collect();
    let moments = moments(Wire::Anthropic, &events);
    assert_eq!(moments, [("look".to_owned(), 17), ("list".to_owned(), 20)]);
}

#[test]
fn the_input_of_the_start_counts_where_no_delta_follows() {
    let stream = [
        begin(),
        start(0, r#"{"type":"tool_use","id":"a","name":"x","input":{"region":"West"}}"#),
        stop(0),
        start(1, r#"{"type":"tool_use","id":"b","name":"y","input":{"old":1}}"#),
        delta(1, "input_json", r#""partial_json":"{\"new\":2}""#),
        stop(1),
        end("tool_use"),
    ];
    let content = r#"{"type":"tool_use","id":"a","name":"x","input":{"region":"West"}},{"type":"tool_use","id":"b","name":"y","input":{"new":2}}"#;
    check(Wire::Anthropic, stream.concat(), &whole(content, "tool_use"));
}

#[test]
fn indexes_and_kinds_of_deltas_may_be_missing_or_in_quotes() {
    let events = thinking_text_and_calls().concat();
    let whole = read(Wire::Anthropic, [events.as_bytes()]);
    assert!(whole.turn.is_ok());
    let mut without = events.clone();
    let mut quoted = events.clone();
    for index in 0..5 {
        without = without.replace(&format!(r#""index":{index},"#), "");
        without = without.replace(&format!(r#","index":{index}"#), "");
        quoted = quoted.replace(&format!(r#""index":{index}"#), &format!(r#""index":"{index}""#));
    }
    for kind in ["thinking", "signature", "text", "input_json"] {
        without = without.replace(&format!(r#""type":"{kind}_delta","#), "");
    }
    assert!(!without.contains("index") && !without.contains("text_delta"), "{without}");
    for odd in [without, quoted] {
        assert_eq!(read_all_ways(Wire::Anthropic, odd.as_bytes()), whole);
    }
}

#[test]
fn input_that_comes_as_an_object_is_kept() {
    let stream = begin()
        + &start(0, LOOK)
        + &delta(0, "input_json", r#""partial_json":{"day": 1.50}"#)
        + &stop(0)
        + &end("tool_use");
    let block = LOOK.replace("{}", r#"{"day": 1.50}"#);
    check(Wire::Anthropic, stream, &whole(&block, "tool_use"));
}

#[test]
fn input_that_is_no_json_makes_a_call_that_will_not_run() {
    let stream = [
        begin(),
        start(0, LOOK),
        delta(0, "input_json", r#""partial_json":"{\"day\": 1 \"n\"}""#),
        stop(0),
        end("tool_use"),
    ];
    let content =
        r#"{"type":"tool_use","id":"toolu_1","name":"look","input":"{\"day\": 1 \"n\"}"}"#;
    let turn = check(Wire::Anthropic, stream.concat(), &whole(content, "tool_use"));
    assert!(matches!(turn.calls()[0].state(), crate::CallState::Malformed(_)));
}

#[test]
fn what_the_limit_cut_is_withheld() {
    let stream = [
        begin(),
        start(0, LOOK),
        delta(0, "input_json", r#""partial_json":"{\"day\":1}""#),
        stop(0),
        start(1, r#"{"type":"tool_use","id":"b","name":"look","input":{}}"#),
        delta(1, "input_json", r#""partial_json":"{\"day\": \"Mon""#),
        end("max_tokens"),
    ];
    let content = r#"{"type":"tool_use","id":"toolu_1","name":"look","input":{"day":1}},{"type":"tool_use","id":"b","name":"look","input":"{\"day\": \"Mon"}"#;
    let turn = check(Wire::Anthropic, stream.concat(), &whole(content, "max_tokens"));
    assert!(turn.calls().iter().all(|call| call.withheld_reason() == Some("max_tokens")));
}

#[test]
fn a_message_that_begins_anew_replaces_the_first() {
    let first = [
        begin(),
        start(0, r#"{"type":"text","text":"Lost"}"#),
        stop(0),
        start(1, LOOK),
        stop(1),
        start(2, LOOK),
        delta(2, "input_json", r#""partial_json":"{\"da""#),
    ];
    let second = thinking_text_and_calls().concat();
    let spliced = read_all_ways(Wire::Anthropic, (first.concat() + &second).as_bytes());
    let alone = read(Wire::Anthropic, [second.as_bytes()]);
    assert_eq!(spliced, Read { restarts: 1, ..alone });

    let untold = begin() + &start(0, LOOK) + &second;
    let spliced = read_all_ways(Wire::Anthropic, untold.as_bytes());
    assert_eq!(spliced.restarts, 0, "nobody was told anything");
}

#[test]
fn calls_of_the_sandbox_wait_for_the_end() {
    let events = [
        begin(),
        start(0, LOOK),
        stop(0),
        start(
            1,
            r#"{"type":"server_tool_use","id":"srvtoolu_1","name":"code_execution","input":{}}"#,
        ),
        delta(1, "input_json", r#""partial_json":"{\"code\":1}""#),
        stop(1),
        start(
            2,
            r#"{"type":"tool_use","id":"b","name":"inner","input":{"a":1},"caller":{"type":"code_execution_20250825","tool_id":"srvtoolu_1"}}"#,
        ),
        stop(2),
        start(3, r#"{"type":"tool_use","id":"c","name":"after","input":{}}"#),
        stop(3),
        start(
            4,
            r#"{"type":"code_execution_tool_result","tool_use_id":"srvtoolu_1","content":{}}"#,
        ),
        stop(4),
        end("tool_use"),
    ];
    let content = [
        LOOK,
        r#"{"type":"server_tool_use","id":"srvtoolu_1","name":"code_execution","input":{"code":1}}"#,
        r#"{"type":"tool_use","id":"b","name":"inner","input":{"a":1},"caller":{"type":"code_execution_20250825","tool_id":"srvtoolu_1"}}"#,
        r#"{"type":"tool_use","id":"c","name":"after","input":{}}"#,
        r#"{"type":"code_execution_tool_result","tool_use_id":"srvtoolu_1","content":{}}"#,
    ];
    check(Wire::Anthropic, events.concat(), &whole(&content.join(","), "tool_use"));
    let events: Vec<_> = events.into_iter().map(String::into_bytes).collect();
    let end = events.len();
    let moments = moments(Wire::Anthropic, &events);
    let expected = [("look", 2), ("inner", end), ("after", end)];
    assert_eq!(moments, expected.map(|(name, at)| (name.to_owned(), at)));
}

#[test]
fn citations_and_texts_around_other_blocks() {
    let stream = [
        begin(),
        start(0, r#"{"type":"text","text":"A","citations":null}"#),
        delta(0, "citations", r#""citation":{"n": 1}"#),
        delta(0, "text", r#""text":"b""#),
        delta(0, "citations", r#""citation":{"n":2}"#),
        stop(0),
        start(1, r#"{"type":"text","text":"c"}"#),
        stop(1),
        start(2, r#"{"type":"unheard_of","x":1}"#),
        delta(2, "unheard_of", r#""x":2"#),
        stop(2),
        start(3, r#"{"type":"text","text":"d"}"#),
        stop(3),
        end("end_turn"),
    ];
    let content = r#"{"type":"text","text":"Ab","citations":[{"n": 1},{"n":2}]},{"type":"text","text":"c"},{"type":"unheard_of","x":1},{"type":"text","text":"d"}"#;
    let turn = check(Wire::Anthropic, stream.concat(), &whole(content, "end_turn"));
    assert_eq!(turn.text(), "Abc\nd");
}

#[test]
fn errors_and_cuts_break_the_stream() {
    let began = begin() + &start(0, LOOK) + &stop(0);
    let error = event("error", r#""error":{"type":"overloaded_error","message":"busy"}"#);
    check_broken(
        Wire::Anthropic,
        began.clone() + &error,
        "anthropic answered with an error: overloaded_error: busy",
    );
    check_broken(
        Wire::Anthropic,
        began.clone() + "data: {\"error\":{\"message\":\"gone\"}}\n\n",
        "anthropic answered with an error: gone",
    );
    check_broken(
        Wire::Anthropic,
        began.clone() + "event: error\ndata: {\"type\":\"api_error\",\"message\":\"oh\"}\n\n",
        "anthropic answered with an error: api_error: oh",
    );
    check_broken(Wire::Anthropic, &began, "anthropic stream ended before the message did");
    let stray = began.clone() + &delta(7, "text", r#""text":"?""#);
    check_broken(
        Wire::Anthropic,
        stray,
        "anthropic stream is not readable: a delta is of no block that is open",
    );
    let cut = began + "data: {\"type\":\"message_de";
    check_broken(Wire::Anthropic, &cut, "anthropic stream ended before the message did");
    let error = read(Wire::Anthropic, [cut.as_bytes(), b"\n\n"]).turn.unwrap_err();
    assert!(error.starts_with("anthropic stream is not readable: an event is no JSON"), "{error}");
}

#[test]
fn events_in_chunks_of_amazons_frames() {
    use base64::Engine as _;
    let events = thinking_text_and_calls();
    let data = |event: &String| -> Vec<u8> {
        let data = event.split_once("data: ").unwrap().1.trim_end();
        let coded = base64::engine::general_purpose::STANDARD.encode(data);
        let headers = [(":message-type", "event"), (":event-type", "chunk")];
        frame(&headers, &format!(r#"{{"bytes":"{coded}","p":"abcd"}}"#))
    };
    let frames: Vec<_> = events.iter().map(data).collect();
    // The last holds two events.
    let stop = data(&event("message_stop", ""));
    let last = data(&end("tool_use").split("\n\n").next().unwrap().to_owned());
    let stream = [frames[..frames.len() - 1].concat(), last, stop].concat();
    let framed = read_all_ways(Wire::Anthropic, &stream);
    assert_eq!(framed, read(Wire::Anthropic, [events.concat().as_bytes()]));
}

#[test]
fn a_character_cut_in_two_comes_whole_in_text_and_arguments() {
    let stream = begin()
        + &start(0, r#"{"type":"text","text":""}"#)
        + &delta(0, "text", r#""text":"Hi \ud83d""#)
        + &delta(0, "text", r#""text":"\ude00""#)
        + &stop(0)
        + &start(1, r#"{"type":"tool_use","id":"t1","name":"add","input":{}}"#)
        + &delta(1, "input_json", r#""partial_json":"{\"x\":\"\ud83d""#)
        + &delta(1, "input_json", r#""partial_json":"\ude00 \\ud83d""#)
        + &delta(1, "input_json", r#""partial_json":"\\ude00\"}""#)
        + &stop(1)
        + &end("tool_use");
    let content = r#"{"type":"text","text":"Hi 😀"},{"type":"tool_use","id":"t1","name":"add","input":{"x":"😀 \ud83d\ude00"}}"#;
    let turn = check(Wire::Anthropic, stream, &whole(content, "tool_use"));
    assert_eq!(turn.calls()[0].arguments(), r#"{"x":"😀 \ud83d\ude00"}"#);
}

#[test]
fn the_container_comes_at_the_start_or_at_the_end() {
    let container = r#""container":{"id":"container_1"}"#;
    let begun = event("message_start", &format!(r#""message":{{"content":[],{container}}}"#));
    let ended =
        event("message_delta", &format!(r#""delta":{{"stop_reason":"end_turn",{container}}}"#));
    let text = start(0, r#"{"type":"text","text":"hi"}"#) + &stop(0);
    for stream in [begun + &text + &end("end_turn"), begin() + &text + &ended] {
        let mut assembler = Wire::Anthropic.stream();
        assembler.feed(stream.as_bytes(), &mut |_| ()).unwrap();
        assert_eq!(assembler.finish(&mut |_| ()).unwrap().container(), Some("container_1"));
    }
}

#[test]
fn text_that_comes_for_a_call_has_a_block_of_its_own() {
    let text = |text: &str| delta(0, "text", &format!(r#""text":"{text}""#));
    let input = |at, text: &str| delta(at, "input_json", &format!(r#""partial_json":"{text}""#));
    let other = LOOK.replace("toolu_1", "toolu_2");
    let events = [
        begin(),
        start(0, LOOK),
        input(0, r#"{\"x\":"#),
        text(r"\n"),
        input(0, "1}"),
        text("Let me "),
        text("look."),
        stop(0),
        start(1, &other),
        input(1, ""),
        stop(1),
        end("tool_use"),
    ];
    let first = LOOK.replace(r#""input":{}"#, r#""input":{"x":1}"#);
    let content = format!(r#"{first},{{"type":"text","text":"Let me look."}},{other}"#);
    let turn = check(Wire::Anthropic, events.concat(), &whole(&content, "tool_use"));
    assert_eq!((turn.calls().len(), turn.text()), (2, "Let me look."));
}

#[test]
fn arguments_that_come_for_a_text_break_the_stream() {
    let text = r#"{"type":"text","text":"Hi"}"#;
    let pieces = |piece: &str| {
        let piece = delta(0, "input_json", &format!(r#""partial_json":"{piece}""#));
        [begin(), start(0, text), piece, stop(0), end("end_turn")].concat()
    };
    check(Wire::Anthropic, pieces(""), &whole(text, "end_turn"));
    check_broken(
        Wire::Anthropic,
        pieces("{}"),
        "anthropic stream is not readable: the pieces of a block don't fit together",
    );
}

#[test]
fn a_count_of_nothing_erases_no_count() {
    let stream = sse(&[
        r#"{"type":"message_start","message":{"content":[],"usage":{"input_tokens":12,"output_tokens":1}}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":0,"output_tokens":7}}"#,
        r#"{"type":"message_stop"}"#,
    ])
    .concat();
    let usage = read_all_ways(Wire::Anthropic, &stream).turn.unwrap().usage();
    assert_eq!((usage.input_tokens, usage.output_tokens), (12, 7));
}

#[test]
fn a_summary_comes_whole_and_one_that_failed_stays_null() {
    let block = |index: u8, delta: &str| {
        [
            format!(
                r#"{{"type":"content_block_start","index":{index},"content_block":{{"type":"compaction","content":null}}}}"#
            ),
            format!(r#"{{"type":"content_block_delta","index":{index},"delta":{delta}}}"#),
            format!(r#"{{"type":"content_block_stop","index":{index}}}"#),
        ]
    };
    let made =
        block(0, r#"{"type":"compaction_delta","content":"So far.","encrypted_content":"eA"}"#);
    let failed = block(1, r#"{"type":"compaction_delta","content":null,"encrypted_content":null}"#);
    let mut events = vec![r#"{"type":"message_start","message":{"content":[]}}"#];
    events.extend(made.iter().chain(&failed).map(String::as_str));
    events.push(r#"{"type":"message_delta","delta":{"stop_reason":"compaction"}}"#);
    check(
        Wire::Anthropic,
        sse(&events).concat(),
        r#"{"content":[{"type":"compaction","content":"So far.","encrypted_content":"eA"},{"type":"compaction","content":null}],"stop_reason":"compaction","usage":{}}"#,
    );
}
