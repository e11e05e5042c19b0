//! Streams: whole, byte by byte and at random splits they give the same turn, and that is the one
//! that was meant; what is told on the way agrees with it.

use toolpool::wire::StreamEvent;
use toolpool::{CallState, ToolCall, Turn, Wire};

use crate::fixture::Fixture;
use crate::whole::check_parsed;

/// Streams that end in an error, with a part of what is said of it.
const BROKEN: &[(&str, &str)] = &[
    (
        "openai_chat-stream-0call-test-tool-use-failed-error-streaming-with-text-i0-cf48cedf",
        "Tool choice is required, but model did not call a tool",
    ),
    (
        "openai_chat-stream-0call-test-tool-use-failed-error-streaming-i0-a52dc2b7",
        "Tool call validation failed",
    ),
    ("openai_chat-stream-0call-test-openrouter-stream-error-i0-d25106f6", "Token limit reached"),
    (
        "openai_responses-stream-0call-openai-error-1-chunks-i0-1154f703",
        "insufficient_quota: You exceeded your current quota",
    ),
];

/// What came of a stream.
#[derive(Debug, PartialEq)]
struct Read {
    turn: Result<Turn, String>,
    text: String,
    calls: Vec<ToolCall>,
}

pub(crate) fn check(wire: Wire, fixture: &Fixture) -> Result<(), String> {
    let stream = fixture.stream(wire);
    let whole = read(wire, &[&stream]);
    let bytes: Vec<&[u8]> = stream.chunks(1).collect();
    if read(wire, &bytes) != whole {
        return Err(format!("byte by byte: {:?}\nwhole: {whole:?}", read(wire, &bytes)));
    }
    for seed in 1..=8 {
        let pieces = split(&stream, seed);
        if read(wire, &pieces) != whole {
            return Err(format!("split {seed}: {:?}\nwhole: {whole:?}", read(wire, &pieces)));
        }
    }
    let broken = BROKEN.iter().find(|(id, _)| *id == fixture.id);
    let turn = match (&whole.turn, broken) {
        (Err(error), Some((_, why))) if error.contains(why) => return Ok(()),
        (Err(error), _) => return Err(error.clone()),
        (Ok(turn), Some(_)) => return Err(format!("is not broken: {turn:?}")),
        (Ok(turn), None) => turn,
    };
    if whole.text != turn.text() {
        return Err(format!("told {:?}, and the text is {:?}", whole.text, turn.text()));
    }
    check_told(&whole.calls, turn.calls())?;
    check_parsed(turn, fixture)
}

/// Each call was told once, in order and as it is in the turn, but for what only its end could
/// tell.
fn check_told(told: &[ToolCall], calls: &[ToolCall]) -> Result<(), String> {
    let is_same = |told: &ToolCall, call: &ToolCall| {
        told == call
            || (matches!(call.state(), CallState::Withheld(_))
                && (told.id(), told.name(), told.arguments())
                    == (call.id(), call.name(), call.arguments()))
    };
    let all = told.len() == calls.len();
    match all && told.iter().zip(calls).all(|(told, call)| is_same(told, call)) {
        true => Ok(()),
        false => Err(format!("told {told:?}\n of {calls:?}")),
    }
}

fn read(wire: Wire, pieces: &[&[u8]]) -> Read {
    let (mut text, mut calls) = (String::new(), Vec::new());
    let mut tell = |event: StreamEvent<'_>| match event {
        StreamEvent::Text(piece) => text += piece,
        StreamEvent::Call(call) => calls.push(call.clone()),
        StreamEvent::Restarted => {
            text.clear();
            calls.clear();
        }
        other => panic!("{other:?}"),
    };
    let mut stream = wire.stream();
    let fed = pieces.iter().try_for_each(|piece| stream.feed(piece, &mut tell));
    let turn = fed.and_then(|()| stream.finish(&mut tell)).map_err(|error| error.to_string());
    Read { turn, text, calls }
}

/// Pieces of at most 60 bytes, the same for the same seed.
fn split(stream: &[u8], seed: u64) -> Vec<&[u8]> {
    let mut state = seed;
    let mut rest = stream;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let length = (state >> 33) as usize % rest.len().min(60) + 1;
        let (piece, after) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}
