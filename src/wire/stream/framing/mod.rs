//! From bytes to events, whatever the split. Which framing a stream has is told by its first byte;
//! one file each.

mod eventstream;
mod json_array;
mod lines;
mod ndjson;
mod sse;

use crate::turn::Wire;
use crate::wire::stream::Problem;
use eventstream::EventStream;
use json_array::JsonArray;
use ndjson::Ndjson;
use sse::Sse;

/// Most bytes of one event, and of one line.
const EVENT_LIMIT: usize = 32 << 20;
/// Most bytes kept of a line that belongs to no event.
const ODD_KEPT: usize = 8 << 10;

/// Takes an event's name, empty where the framing has none, and its data, never blank.
pub(super) type Each<'a> = dyn FnMut(&str, &str) -> Result<(), Problem> + 'a;

/// How the bytes of a stream are cut into events.
#[derive(Debug)]
pub(super) enum Framing {
    /// Nothing but white space came so far.
    Unknown(Wire),
    Sse(Sse),
    Ndjson(Ndjson),
    JsonArray(JsonArray),
    EventStream(EventStream),
    /// No stream: one JSON value.
    Whole(Vec<u8>),
}

impl Framing {
    pub(super) fn new(wire: Wire) -> Self {
        Self::Unknown(wire)
    }

    pub(super) fn feed(&mut self, bytes: &[u8], each: &mut Each<'_>) -> Result<(), Problem> {
        let mut bytes = bytes;
        if let Self::Unknown(wire) = self {
            // A byte order mark is passed over wherever it is cut.
            let blank = |byte: &u8| byte.is_ascii_whitespace() || b"\xef\xbb\xbf".contains(byte);
            let Some(first) = bytes.iter().position(|byte| !blank(byte)) else { return Ok(()) };
            bytes = &bytes[first..];
            *self = match (bytes[0], *wire) {
                // The length of a frame, of which none has 16 MiB.
                (0, _) => Self::EventStream(EventStream::default()),
                (b'[', _) => Self::JsonArray(JsonArray::default()),
                (b'{', Wire::Ollama) => Self::Ndjson(Ndjson::default()),
                (b'{', _) => Self::Whole(Vec::new()),
                _ => Self::Sse(Sse::default()),
            };
        }
        match self {
            Self::Unknown(_) => Ok(()),
            Self::Sse(sse) => sse.feed(bytes, each),
            Self::Ndjson(lines) => lines.feed(bytes, each),
            Self::JsonArray(array) => array.feed(bytes, each),
            Self::EventStream(frames) => frames.feed(bytes, each),
            Self::Whole(body) => {
                body.extend_from_slice(bytes);
                match body.len() > EVENT_LIMIT {
                    true => Err(too_long()),
                    false => Ok(()),
                }
            }
        }
    }

    /// The body, if it is none of the streams.
    pub(super) fn whole(&mut self) -> Option<&[u8]> {
        match self {
            Self::Whole(body) => Some(body),
            Self::Ndjson(lines) => lines.whole(),
            _ => None,
        }
    }

    /// There are no more bytes: gives what may still wait for its end.
    pub(super) fn finish(&mut self, each: &mut Each<'_>) -> Result<(), Problem> {
        match self {
            Self::Unknown(_) | Self::Whole(_) => Ok(()),
            Self::Sse(sse) => sse.finish(each),
            Self::Ndjson(lines) => lines.finish(each),
            Self::JsonArray(array) => array.finish(),
            Self::EventStream(frames) => frames.finish(),
        }
    }
}

fn too_long() -> Problem {
    Problem::unreadable("an event is longer than 32 MiB")
}

fn utf8(bytes: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(bytes).map_err(Problem::utf8)
}

#[cfg(test)]
mod tests;
