//! Streams of another format than was said.

use super::*;

fn streams() -> [(Wire, Vec<u8>); 9] {
    [
        (Wire::Anthropic, anthropic::thinking_text_and_calls().concat().into()),
        (Wire::OpenAi, openai::text_and_calls().into()),
        (Wire::OpenAiResponses, openai_responses::text_and_calls()),
        (Wire::Gemini, gemini::parallel()),
        (Wire::Gemini, gemini::array().into()),
        (Wire::Bedrock, bedrock::parallel()),
        (Wire::Bedrock, bedrock::lines().into()),
        (Wire::Cohere, cohere::plan_and_calls()),
        (Wire::Ollama, ollama::text_and_calls().into()),
    ]
}

fn error(wire: Wire, stream: &[u8]) -> Error {
    let mut said = wire.stream();
    let fed = said.feed(stream, &mut |_| ());
    fed.and_then(|()| said.finish(&mut |_| ())).unwrap_err()
}

#[test]
fn a_stream_of_another_format_says_so_and_is_not_cut() {
    for (own, stream) in streams() {
        let done = [&*stream, b"data: [DONE]\n\n"].concat();
        for wire in Wire::ALL.into_iter().filter(|wire| *wire != own) {
            for stream in [&*stream, &stream[..stream.len() - 3], &done] {
                let error = error(wire, stream);
                let hint = format!(" (this looks like {own})");
                assert!(error.to_string().contains(&hint), "{own} as {wire}: {error}");
                assert!(error.is_input() && !error.is_cut(), "{own} as {wire}: {error}");
            }
        }
    }
    check_broken(
        Wire::Anthropic,
        "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\ndata: [DONE]\n\n",
        "anthropic stream is no message (this looks like openai); \
         an event begins with: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}",
    );
}

#[test]
fn a_stream_that_was_cut_looks_like_no_other() {
    for (wire, stream) in streams() {
        for end in 0..stream.len() {
            let mut cut = wire.stream();
            let fed = cut.feed(&stream[..end], &mut |_| ());
            if let Err(error) = fed.and_then(|()| cut.finish(&mut |_| ())) {
                assert!(!error.to_string().contains("looks like"), "{wire} at {end}: {error}");
            }
        }
    }
    for wire in Wire::ALL {
        for unknown in ["data: {\"type\":\"ping\"}\n\n", "data: {\"a\":1}\n\n", ": hello\n\n", ""] {
            assert!(error(wire, unknown.as_bytes()).is_cut(), "{wire}: {unknown}");
        }
    }
}

#[test]
fn an_error_of_the_provider_and_an_odd_event_behind_others_keep_their_words() {
    check_broken(
        Wire::Anthropic,
        "data: {\"error\":{\"message\":\"slow down\",\"type\":\"requests\"}}\n\n",
        "anthropic answered with an error: requests: slow down",
    );
    check_broken(
        Wire::Bedrock,
        "data: {\"message\":\"no such model\"}\n\n",
        "bedrock answered with an error: no such model",
    );
    let strange = "data: {\"candidates\":[{\"content\":{}}]}\n\n";
    let begun: String = anthropic::thinking_text_and_calls()[..6].concat();
    assert!(error(Wire::Anthropic, format!("{begun}{strange}").as_bytes()).is_cut());
}
