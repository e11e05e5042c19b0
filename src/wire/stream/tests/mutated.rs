//! Streams that nobody sent: bytes changed, cut out, put in twice, anywhere, at any splits.

use super::*;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// A change of a stream; places are parts of a million.
#[derive(Debug, Clone)]
enum Change {
    Put(usize, u8),
    Cut(usize, usize),
    Twice(usize, usize),
    End(usize),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let place = || 0..1_000_000_usize;
    let byte = prop_oneof![any::<u8>(), prop::sample::select(b"{}[]\",:\\0\n\r \xff".to_vec())];
    let change = prop_oneof![
        4 => (place(), byte).prop_map(|(at, byte)| Change::Put(at, byte)),
        2 => (place(), 1..200_usize).prop_map(|(at, length)| Change::Cut(at, length)),
        2 => (place(), 1..400_usize).prop_map(|(at, length)| Change::Twice(at, length)),
        1 => place().prop_map(Change::End),
    ];
    prop::collection::vec(change, 1..4)
}

fn changed(stream: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut stream = stream.to_vec();
    for change in changes {
        let place = |at: usize| at * stream.len() / 1_000_000;
        let range = |at: usize, length: usize| place(at)..stream.len().min(place(at) + length);
        match *change {
            Change::Put(at, byte) => {
                let at = place(at);
                if let Some(place) = stream.get_mut(at) {
                    *place = byte;
                }
            }
            Change::Cut(at, length) => {
                let range = range(at, length);
                stream.drain(range);
            }
            Change::Twice(at, length) => {
                let range = range(at, length);
                let part = stream[range.clone()].to_vec();
                stream.splice(range.start..range.start, part);
            }
            Change::End(at) => stream.truncate(place(at)),
        }
    }
    stream
}

/// However the bytes are split, the same is made of them; a turn holds what was told.
fn check(wire: Wire, stream: &[u8], size: usize) {
    let whole = read(wire, [stream]);
    assert_eq!(read(wire, stream.chunks(size)), whole);
    if let Ok(turn) = &whole.turn {
        match wire {
            // Blocks may be interleaved; what is told of them comes in the order of the events.
            Wire::Anthropic | Wire::Bedrock => {
                assert_eq!(letters(&whole.text), letters(turn.text()))
            }
            _ => assert_eq!(whole.text, turn.text()),
        }
        assert_eq!(whole.calls.len(), turn.calls().len());
        for (told, call) in whole.calls.iter().zip(turn.calls()) {
            assert_eq!((told.name(), told.arguments()), (call.name(), call.arguments()));
        }
        assert!(turn.message().is_some_and(|message| message.to_value().is_ok()));
    }
}

/// What a text is made of, in no order and without line breaks.
fn letters(text: &str) -> Vec<char> {
    let mut letters: Vec<_> = text.chars().filter(|c| *c != '\n').collect();
    letters.sort_unstable();
    letters
}

/// The same 400 cases each time, or `PROPTEST_CASES` new ones.
fn config() -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config,
        None => ProptestConfig { cases: 400, rng_seed: RngSeed::Fixed(1), ..config },
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn anthropic_streams(changes in changes(), size in 1..80_usize) {
        let stream = anthropic::thinking_text_and_calls().concat();
        check(Wire::Anthropic, &changed(stream.as_bytes(), &changes), size);
    }

    #[test]
    fn bedrock_frames(changes in changes(), size in 1..80_usize) {
        check(Wire::Bedrock, &changed(&bedrock::parallel(), &changes), size);
        let lines = bedrock::lines();
        check(Wire::Bedrock, &changed(lines.as_bytes(), &changes), size);
    }

    #[test]
    fn gemini_events(changes in changes(), size in 1..80_usize) {
        check(Wire::Gemini, &changed(&gemini::parallel(), &changes), size);
        check(Wire::Gemini, &changed(gemini::array().as_bytes(), &changes), size);
    }

    #[test]
    fn openai_chunks(changes in changes(), size in 1..80_usize) {
        let stream = openai::text_and_calls();
        check(Wire::OpenAi, &changed(stream.as_bytes(), &changes), size);
    }

    /// What is told of a response stands in it twice more, so changes may tell it differently.
    #[test]
    fn openai_responses_events(changes in changes(), size in 1..80_usize) {
        let stream = changed(&openai_responses::text_and_calls(), &changes);
        let whole = read(Wire::OpenAiResponses, [&*stream]);
        assert_eq!(read(Wire::OpenAiResponses, stream.chunks(size)), whole);
    }

    #[test]
    fn cohere_events(changes in changes(), size in 1..80_usize) {
        check(Wire::Cohere, &changed(&cohere::plan_and_calls(), &changes), size);
    }

    #[test]
    fn ollama_lines(changes in changes(), size in 1..80_usize) {
        let stream = ollama::text_and_calls();
        check(Wire::Ollama, &changed(stream.as_bytes(), &changes), size);
    }
}
