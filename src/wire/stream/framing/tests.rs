use super::*;
use crate::wire::stream::tests::frame;

/// The events of a stream fed in pieces of this size.
fn events(wire: Wire, bytes: &[u8], size: usize) -> Result<Vec<(String, String)>, Problem> {
    let mut framing = Framing::new(wire);
    let mut events = Vec::new();
    let mut each = |name: &str, data: &str| {
        events.push((name.to_owned(), data.to_owned()));
        Ok(())
    };
    for piece in bytes.chunks(size) {
        framing.feed(piece, &mut each)?;
    }
    framing.finish(&mut each)?;
    Ok(events)
}

fn check(wire: Wire, bytes: &[u8], expected: &[(&str, &str)]) {
    for size in 1..=bytes.len() {
        let events = events(wire, bytes, size).unwrap();
        let events: Vec<_> = events.iter().map(|(name, data)| (&**name, &**data)).collect();
        assert_eq!(events, expected, "in pieces of {size}");
    }
}

fn check_broken(wire: Wire, bytes: &[u8], why: &str) {
    for size in 1..=bytes.len() {
        let problem = events(wire, bytes, size).unwrap_err();
        assert!(problem.text.contains(why), "{problem:?} in pieces of {size}");
    }
}

#[test]
fn server_sent_events_of_every_kind_of_line() {
    let text = "\u{feff}: hello\nid: 1\nevent: a\ndata: {\"é\":1}\n\n\
                data:two\rdata:  lines\r\r\
                event: b\r\nretry: 3\r\ndata\r\ndata: x\r\n\r\n\
                event: nothing\n\ndata: \n\ndata: [DONE]";
    let expected = [("a", "{\"é\":1}"), ("", "two\n lines"), ("b", "\nx"), ("", "[DONE]")];
    check(Wire::OpenAi, text.as_bytes(), &expected);
}

#[test]
fn lines_of_json() {
    let text = "\n{\"a\":1}\r\n\n {\"b\":\"é\"}\n{\"c\":3}";
    check(
        Wire::Ollama,
        text.as_bytes(),
        &[("", "{\"a\":1}"), ("", " {\"b\":\"é\"}"), ("", "{\"c\":3}")],
    );
}

#[test]
fn an_array_of_json() {
    let text = "[{\"a\":\"]},{\\\"[\\\\\"}\n,\r\n{\"b\":[{},[]]},7\n]\n";
    let expected = [("", "{\"a\":\"]},{\\\"[\\\\\"}\n"), ("", "\r\n{\"b\":[{},[]]}"), ("", "7\n")];
    check(Wire::Gemini, text.as_bytes(), &expected);
    check(Wire::Gemini, b" []", &[]);
    check_broken(Wire::Gemini, b"[{\"a\":1},{\"b\"", "ended before");
    check_broken(Wire::Gemini, b"[{}] {", "something follows");
}

#[test]
fn frames() {
    let event =
        |kind, payload| frame(&[(":message-type", "event"), (":event-type", kind)], payload);
    let stream = [
        event("a", "{\"x\":1}"),
        event("empty", ""),
        event("chunk", "{\"bytes\":\"eyJ5IjoyfQ==\",\"p\":\"abc\"}"),
    ]
    .concat();
    check(Wire::Bedrock, &stream, &[("a", "{\"x\":1}"), ("", "{\"y\":2}")]);
    check_broken(Wire::Bedrock, &stream[..stream.len() - 1], "ended before");
    check_broken(Wire::Bedrock, &event("chunk", "{\"bytes\":\"%\"}"), "base64");
    for at in 1..event("a", "{}").len() {
        let mut spoiled = event("a", "{}");
        spoiled[at] ^= 1;
        check_broken(Wire::Bedrock, &spoiled, "checksum");
    }
}

#[test]
fn frames_that_tell_of_errors() {
    let exception = frame(
        &[(":message-type", "exception"), (":exception-type", "throttlingException")],
        "{\"message\":\"slow down\"}",
    );
    let why = "answered with an error: throttlingException: slow down";
    check_broken(Wire::Bedrock, &exception, why);
    let error = frame(
        &[(":message-type", "error"), (":error-code", "InternalFailure"), (":error-message", "oh")],
        "",
    );
    check_broken(Wire::Bedrock, &error, "answered with an error: InternalFailure: oh");
}

#[test]
fn what_has_no_end_is_bounded() {
    let piece = vec![b'x'; 1 << 20];
    for start in ["data: ", "[\"", "{\"", ": "] {
        let mut framing = Framing::new(Wire::Gemini);
        let mut each = |_: &str, _: &str| Ok(());
        framing.feed(start.as_bytes(), &mut each).unwrap();
        let fed = (0..64).take_while(|_| framing.feed(&piece, &mut each).is_ok()).count();
        assert!((31..=32).contains(&fed), "{start}: {fed}");
    }
    let mut lines = Framing::new(Wire::Gemini);
    let mut each = |_: &str, _: &str| Ok(());
    let line = [b"data: ".as_slice(), &piece, b"\n"].concat();
    let fed = (0..64).take_while(|_| lines.feed(&line, &mut each).is_ok()).count();
    assert_eq!(fed, 31, "many lines of one event");
}

#[test]
fn only_a_line_that_is_a_whole_object_ends_its_event_before_the_next() {
    let text = "data: {\"a\":1}\ndata: {\"b\":2}\n\ndata: {\"c\":{}\ndata: }\ndata: {\"d\":4}\n\n";
    let expected = [("", "{\"a\":1}"), ("", "{\"b\":2}"), ("", "{\"c\":{}\n}\n{\"d\":4}")];
    check(Wire::OpenAi, text.as_bytes(), &expected);
    // Names stay with their data.
    let text = "event: a\ndata: {}\nevent: b\ndata: {}\ndata: []\n\ndata: {}\nevent: c\n\n";
    let expected = [("a", "{}"), ("b", "{}\n[]"), ("c", "{}")];
    check(Wire::Anthropic, text.as_bytes(), &expected);
    // Data over many lines isn't read again at each of them.
    let mut framing = Framing::new(Wire::OpenAi);
    let mut each = |_: &str, _: &str| Ok(());
    let begun = format!("data: {{\"a\":{{\"b\":\"{}\"}}\n", "x".repeat(100_000));
    framing.feed(begun.as_bytes(), &mut each).unwrap();
    for _ in 0..1 << 17 {
        framing.feed(b"data: {}\n", &mut each).unwrap();
    }
}
