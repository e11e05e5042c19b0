//! Which format a body is in.

use std::path::Path;

use toolpool::Wire;

fn check(body: &str, expected: impl Into<Option<Wire>>) {
    assert_eq!(Wire::detect(body), expected.into(), "{body}");
}

/// Every body of ours that can be parsed is known for what it is.
#[test]
fn whole_bodies_are_told_apart() {
    for wire in Wire::ALL {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wire");
        for entry in std::fs::read_dir(folder.join(wire.name())).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let body = std::fs::read(&path).unwrap();
            // What can be read only because a format asks for next to nothing isn't telling.
            if wire.parse(&body).is_ok_and(|turn| !turn.stop().raw.is_empty()) {
                assert_eq!(Wire::detect(&body), Some(wire), "{}", path.display());
            }
        }
    }
}

#[test]
fn streams_are_told_by_their_beginning() {
    check(
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"role\":\"assistant\"}}\n\n",
        Wire::Anthropic,
    );
    check(
        ": PROCESSING\n\ndata: {\"object\":\"chat.completion.chunk\",\"choices\":[]}\n\n",
        Wire::OpenAi,
    );
    check(
        "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{}}\n\n",
        Wire::OpenAiResponses,
    );
    check("data: {\"candidates\": [{\"content\": {}}]}\r\n\r\n", Wire::Gemini);
    check("[{\n  \"candidates\": [{\"content\": {}}]\n}\n,\n{", Wire::Gemini);
    check("event: message-start\ndata: {\"type\":\"message-start\",\"id\":\"a\"}\n", Wire::Cohere);
    check("{\"message\":{\"role\":\"assistant\"},\"done\":false}\n{\"mess", Wire::Ollama);
    check("data: {\"contentBlockDelta\":{\"delta\":{\"text\":\"a\"}}}\n\n", Wire::Bedrock);
    let frame = b"\x00\x00\x00\x7a\x00\x00\x00\x52\xde\xad\x0b:event-type\x07\x00\x0cmessageStart";
    assert_eq!(Wire::detect(frame), Some(Wire::Bedrock));
}

#[test]
fn an_error_is_taken_for_the_likeliest_providers() {
    check(r#"{"type":"error","error":{"type":"overloaded_error"}}"#, Wire::Anthropic);
    check(r#"{"error":{"message":"slow down","type":"requests"}}"#, Wire::OpenAi);
    check(r#"{"error":{"code":400,"message":"no","status":"INVALID_ARGUMENT"}}"#, Wire::Gemini);
    check(r#"{"error":"model not found"}"#, Wire::Ollama);
}

#[test]
fn what_is_nobodys_is_not_guessed() {
    for body in ["", "<html>", "{}", "[]", "7", "data: [DONE]\n\n", "{\"message\":{}}", "\u{feff}"]
    {
        check(body, None);
    }
}
