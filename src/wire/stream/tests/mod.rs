//! Streams of our own writing, each held against the whole body that says the same.

mod anthropic;
mod bedrock;
mod cohere;
mod gemini;
mod looks;
mod mutated;
mod ollama;
mod openai;
mod openai_responses;

use super::*;

/// What came of a stream.
#[derive(Debug, PartialEq)]
pub(super) struct Read {
    pub(super) turn: Result<Turn, String>,
    pub(super) text: String,
    pub(super) calls: Vec<ToolCall>,
    pub(super) restarts: usize,
}

pub(super) fn read<'a>(wire: Wire, pieces: impl IntoIterator<Item = &'a [u8]>) -> Read {
    let (mut text, mut calls, mut restarts) = (String::new(), Vec::new(), 0);
    let mut tell = |event: StreamEvent<'_>| match event {
        StreamEvent::Text(piece) => {
            assert_ne!(piece, "", "a piece of text has something in it");
            text += piece;
        }
        StreamEvent::Call(call) => calls.push(call.clone()),
        StreamEvent::Restarted => {
            restarts += 1;
            text.clear();
            calls.clear();
        }
    };
    let mut stream = wire.stream();
    let mut pieces = pieces.into_iter();
    let fed = pieces.try_for_each(|piece| stream.feed(piece, &mut tell));
    let turn = match fed {
        Ok(()) => stream.finish(&mut tell),
        Err(error) => {
            let again = stream.feed(b"\n", &mut tell).unwrap_err();
            assert_eq!(again.to_string(), error.to_string(), "it stays broken");
            stream.finish(&mut tell)
        }
    };
    Read { turn: turn.map_err(|error| error.to_string()), text, calls, restarts }
}

/// Feeds the stream in pieces of every size.
pub(super) fn read_all_ways(wire: Wire, stream: &[u8]) -> Read {
    let whole = read(wire, [stream]);
    for size in (1..40).chain([100, 1000]) {
        assert_eq!(read(wire, stream.chunks(size)), whole, "in pieces of {size}");
    }
    whole
}

/// The stream gives the turn of the whole body, and what is told on the way agrees with it.
pub(super) fn check(wire: Wire, stream: impl AsRef<[u8]>, whole: &str) -> Turn {
    let read = read_all_ways(wire, stream.as_ref());
    let turn = read.turn.unwrap();
    assert_eq!(turn, wire.parse(whole).unwrap());
    assert_eq!(read.text, turn.text());
    let facts = |calls: &[ToolCall]| -> Vec<_> {
        let facts = |call: &ToolCall| {
            let name = call.name().to_owned();
            (call.id().to_owned(), name, call.arguments().to_owned(), call.element())
        };
        calls.iter().map(facts).collect()
    };
    assert_eq!(facts(&read.calls), facts(turn.calls()));
    turn
}

/// The stream ends in an error that says this, and no turn comes of it.
pub(super) fn check_broken(wire: Wire, stream: impl AsRef<[u8]>, why: &str) {
    let error = read_all_ways(wire, stream.as_ref()).turn.unwrap_err();
    assert_eq!(error, why);
}

/// After which of the events each call was told; those told at the end are after the last.
pub(super) fn moments(wire: Wire, events: &[Vec<u8>]) -> Vec<(String, usize)> {
    let mut moments = Vec::new();
    let mut at = 0;
    let mut stream = wire.stream();
    for event in events {
        let mut tell = |event: StreamEvent<'_>| {
            if let StreamEvent::Call(call) = event {
                moments.push((call.name().to_owned(), at));
            }
        };
        stream.feed(event, &mut tell).unwrap();
        at += 1;
    }
    let mut tell = |event: StreamEvent<'_>| {
        if let StreamEvent::Call(call) = event {
            moments.push((call.name().to_owned(), at));
        }
    };
    stream.finish(&mut tell).unwrap();
    moments
}

/// Server-sent events of these data.
pub(super) fn sse(data: &[&str]) -> Vec<Vec<u8>> {
    data.iter().map(|data| format!("data: {data}\n\n").into_bytes()).collect()
}

/// A frame of Amazon's event stream.
pub(super) fn frame(headers: &[(&str, &str)], payload: &str) -> Vec<u8> {
    let mut head = vec![4, b'd', b'a', b't', b'e', 8];
    head.extend(7_u64.to_be_bytes());
    for (name, value) in headers {
        head.push(name.len() as u8);
        head.extend(name.as_bytes());
        head.push(7);
        head.extend((value.len() as u16).to_be_bytes());
        head.extend(value.as_bytes());
    }
    let mut frame = Vec::new();
    frame.extend(((12 + head.len() + payload.len() + 4) as u32).to_be_bytes());
    frame.extend((head.len() as u32).to_be_bytes());
    frame.extend(crc32fast::hash(&frame).to_be_bytes());
    frame.extend(head);
    frame.extend(payload.as_bytes());
    frame.extend(crc32fast::hash(&frame).to_be_bytes());
    frame
}

#[test]
fn a_whole_body_is_understood_too() {
    let body = r#"{"content":[{"type":"text","text":"Hi"}],"stop_reason":"end_turn"}"#;
    let turn = check(Wire::Anthropic, format!(" \n{body}\n"), body);
    assert_eq!(turn.text(), "Hi");
    check_broken(
        Wire::Bedrock,
        r#"{"message":"no such model"}"#,
        "bedrock answered with an error: no such model",
    );
    check_broken(
        Wire::Gemini,
        "[{\"error\":{\"code\":429,\"message\":\"slow down\",\"status\":\"RESOURCE_EXHAUSTED\"}}\n]",
        "gemini answered with an error: RESOURCE_EXHAUSTED: slow down",
    );
}

#[test]
fn a_piece_of_another_kind_breaks_the_stream() {
    let cases = [
        (
            Wire::Anthropic,
            r#"{"type":"message_start","message":{"content":"hi"}}"#,
            "the content of a message is no list of objects",
        ),
        (
            Wire::Anthropic,
            concat!(
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text"}}"#,
                "\n",
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":5}}"#,
            ),
            "the text of a delta is no text",
        ),
        (
            Wire::Anthropic,
            concat!(
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking"}}"#,
                "\n",
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":[]}}"#,
            ),
            "the thinking of a delta is no text",
        ),
        (
            Wire::Bedrock,
            r#"{"contentBlockDelta":{"delta":{"text":5}}}"#,
            "the text of a delta is no text",
        ),
        (
            Wire::Cohere,
            r#"{"type":"content-start","delta":{"message":{"content":"hi"}}}"#,
            "the content of a message is no object",
        ),
        (
            Wire::Cohere,
            r#"{"type":"content-delta","delta":{"message":{"content":{"text":5}}}}"#,
            "the text of a content is no text",
        ),
        (
            Wire::Cohere,
            r#"{"type":"tool-plan-delta","delta":{"message":{"tool_plan":{}}}}"#,
            "the tool_plan of a message is no text",
        ),
        (
            Wire::Cohere,
            r#"{"type":"tool-call-start","index":0,"delta":{"message":{"tool_calls":[{}]}}}"#,
            "tool_calls of a message is no object",
        ),
        (
            Wire::OpenAi,
            r#"{"choices":[{"delta":{"content":5}}]}"#,
            "the content of a delta is neither a text nor a list",
        ),
        (
            Wire::OpenAi,
            r#"{"choices":[{"delta":{"tool_calls":"look"}}]}"#,
            "tool_calls of a delta is no list of objects",
        ),
        (
            Wire::OpenAiResponses,
            r#"{"type":"response.output_item.done","item":{"type":"message","content":5}}"#,
            "the content of an item is neither a text nor a list",
        ),
        (
            Wire::Gemini,
            r#"{"candidates":[{"content":{"parts":5}}]}"#,
            "parts of a content is no list of objects",
        ),
        (Wire::Ollama, r#"{"message":{"content":5}}"#, "the content of a message is no text"),
        (
            Wire::Ollama,
            r#"{"message":{"tool_calls":{}}}"#,
            "tool_calls of a message is no list of objects",
        ),
    ];
    for (wire, event, why) in cases {
        let stream = match wire {
            Wire::Ollama => format!("{event}\n{event}\n").into_bytes(),
            _ => sse(&event.lines().collect::<Vec<_>>()).concat(),
        };
        check_broken(wire, stream, &format!("{wire} stream is not readable: {why}"));
    }
}

#[test]
fn an_event_that_is_no_json_is_shown_from_its_start() {
    for wire in Wire::ALL {
        let long = format!("{{\"a\": oh\u{202e} {}", "x".repeat(1000));
        let stream = match wire {
            Wire::Ollama => format!("{{}}\n{long}\n"),
            _ => format!("data: {long}\n\n"),
        };
        let start = format!("{{\"a\": oh\\u{{202e}} {}…", "x".repeat(62));
        let why = format!(
            "{wire} stream is not readable: an event is no JSON: expected a value at byte 6; \
             it begins with: {start}"
        );
        check_broken(wire, stream, &why);
    }
}

#[test]
fn an_error_that_is_a_line_of_its_own_is_read() {
    let error = r#"{"error":{"message":"out of memory","type":"server_error"}}"#;
    for (wire, begun) in [
        (Wire::OpenAi, openai::text_and_calls().replace("data: [DONE]\n\n", "")),
        (Wire::Anthropic, anthropic::thinking_text_and_calls().concat()),
        (Wire::Gemini, String::from_utf8(gemini::parallel()).unwrap()),
    ] {
        let why = format!("{wire} answered with an error: server_error: out of memory");
        check_broken(wire, format!("{begun}{error}\n"), &why);
        check_broken(wire, format!("{begun}{error}"), &why);
    }
    let odd = "{\n\"error\": 1\n}\n{\"a\": oh\n\n";
    let stream = openai::text_and_calls();
    let whole = read(Wire::OpenAi, [stream.as_bytes()]);
    assert_eq!(read_all_ways(Wire::OpenAi, format!("{stream}{odd}").as_bytes()), whole);
}

#[test]
fn the_format_within_frames_is_found() {
    let start = r#"{"bytes":"eyJ0eXBlIjoibWVzc2FnZV9zdGFydCIsIm1lc3NhZ2UiOnt9fQ==","p":"ab"}"#;
    let headers = [(":event-type", "chunk"), (":message-type", "event")];
    assert_eq!(Wire::detect(&frame(&headers, start)), Some(Wire::Anthropic));
    let headers = [(":event-type", "messageStart"), (":message-type", "event")];
    let start = frame(&headers, r#"{"role":"assistant"}"#);
    assert_eq!(Wire::detect(&start), Some(Wire::Bedrock));
    assert_eq!(Wire::detect(&start[..start.len() - 9]), Some(Wire::Bedrock));
}

#[test]
fn nothing_at_all_is_no_message() {
    for wire in [Wire::Anthropic, Wire::Bedrock, Wire::Gemini] {
        for stream in ["", "\n\n", ": nothing\n\n", "data: [DONE]\n\n", "id: 1\n\n"] {
            let error = read(wire, [stream.as_bytes()]).turn.unwrap_err();
            assert_eq!(error, format!("{wire} stream ended before the message did"), "{stream:?}");
        }
    }
}

#[test]
fn what_is_no_stream_is_shown_from_its_start() {
    for wire in Wire::ALL {
        for page in ["<html>\n<p>502", "upstream connect error", "Bad gateway\n\n: \n\n"] {
            let error = read_all_ways(wire, page.as_bytes()).turn.unwrap_err();
            let start = page.lines().next().unwrap();
            let why = "stream is not readable: there is no event in it; it begins with:";
            assert_eq!(error, format!("{wire} {why} {start}"));
        }
    }
}

#[test]
fn a_stream_that_is_cut_anywhere_says_so() {
    let streams = [
        (Wire::Anthropic, anthropic::thinking_text_and_calls().concat().into_bytes()),
        (
            Wire::OpenAi,
            "data: {\"choices\":[{\"delta\":{\"content\":\"é\"}}]}\n\ndata: [DONE]\n\n".into(),
        ),
        (Wire::Gemini, gemini::parallel()),
    ];
    for (wire, stream) in streams {
        for end in 1..stream.len() {
            let mut cut = wire.stream();
            let fed = cut.feed(&stream[..end], &mut |_| ());
            let ended = fed.and_then(|()| cut.finish(&mut |_| ()));
            if let Err(error) = ended {
                assert!(error.is_cut() && error.is_input(), "{wire} at {end}: {error}");
            }
        }
    }
}

#[test]
fn a_stream_without_end_is_refused() {
    let mut stream = Wire::Gemini.stream();
    let mut nobody = |_: StreamEvent<'_>| {};
    let comments = format!(": {}\n", "x".repeat(1 << 20));
    let fed = (0..200).take_while(|_| stream.feed(comments.as_bytes(), &mut nobody).is_ok());
    assert_eq!(fed.count(), STREAM_LIMIT / comments.len());
    let error = stream.finish(&mut nobody).unwrap_err().to_string();
    assert_eq!(error, "gemini stream is not readable: it is longer than 128 MiB");
}
