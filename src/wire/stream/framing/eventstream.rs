//! Amazon's event stream: binary frames of headers and a payload, with two checksums each.
//!
//! ```text
//! total length u32 · length of the headers u32 · CRC-32 of these 8 bytes
//! headers · payload
//! CRC-32 of all before
//! ```
//!
//! Numbers are big-endian. A `chunk` holds an event of the model's own format in base64.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::wire::fields::{self, fields};
use crate::wire::stream::Problem;
use crate::wire::stream::framing::{EVENT_LIMIT, Each, too_long, utf8};

/// Lengths and their checksum.
const PRELUDE: usize = 12;
const CHECKSUM: usize = 4;

/// A frame that has no end yet.
#[derive(Debug, Default)]
pub(in crate::wire::stream) struct EventStream {
    begun: Vec<u8>,
}

fields! {
    struct Chunk<'a> {
        bytes: Cow<'a, str>,
    }
}

impl EventStream {
    pub(super) fn feed(&mut self, mut bytes: &[u8], each: &mut Each<'_>) -> Result<(), Problem> {
        while !bytes.is_empty() {
            if self.begun.is_empty()
                && let Some(length) = length(bytes)?
                && length <= bytes.len()
            {
                let (frame, rest) = bytes.split_at(length);
                event(frame, each)?;
                bytes = rest;
                continue;
            }
            // The prelude tells how much of what came belongs to the frame.
            let wanted = length(&self.begun)?.unwrap_or(PRELUDE);
            let (part, rest) = bytes.split_at(bytes.len().min(wanted - self.begun.len()));
            self.begun.extend_from_slice(part);
            bytes = rest;
            if length(&self.begun)? == Some(self.begun.len()) {
                event(&self.begun, each)?;
                self.begun.clear();
            }
        }
        Ok(())
    }

    pub(super) fn finish(&mut self) -> Result<(), Problem> {
        if self.begun.is_empty() { Ok(()) } else { Err(Problem::cut()) }
    }
}

/// The length of the frame that begins here; nothing while its prelude isn't there.
fn length(frame: &[u8]) -> Result<Option<usize>, Problem> {
    let Some(prelude) = frame.first_chunk::<PRELUDE>() else { return Ok(None) };
    check(&prelude[..8], number(&prelude[8..]))?;
    let (length, headers) = (number(prelude) as usize, number(&prelude[4..]) as usize);
    if length > EVENT_LIMIT {
        return Err(too_long());
    }
    if length < PRELUDE + CHECKSUM || headers > length - PRELUDE - CHECKSUM {
        return Err(Problem::unreadable("the lengths of a frame contradict each other"));
    }
    Ok(Some(length))
}

fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |first| u32::from_be_bytes(*first))
}

fn check(bytes: &[u8], checksum: u32) -> Result<(), Problem> {
    match crc32fast::hash(bytes) == checksum {
        true => Ok(()),
        false => Err(Problem::unreadable("a frame's checksum is wrong")),
    }
}

/// Gives a whole frame, whose lengths were checked.
fn event(frame: &[u8], each: &mut Each<'_>) -> Result<(), Problem> {
    let (rest, checksum) = frame.split_at(frame.len() - CHECKSUM);
    check(rest, number(checksum))?;
    let (headers, payload) = rest[PRELUDE..].split_at(number(&frame[4..]) as usize);
    let headers = Headers::read(headers)?;
    let payload = utf8(payload)?;
    match headers.message_type {
        b"" | b"event" => {}
        b"exception" => return Err(Problem::exception(headers.exception_type, payload)),
        _ => return Err(Problem::exception(headers.error_code, headers.error_message)),
    }
    if headers.event_type == "chunk"
        && let Ok(Some(Chunk { bytes: Some(coded), .. })) = fields::parse::<Chunk<'_>>(payload)
    {
        let data = STANDARD
            .decode(coded.as_bytes())
            .map_err(|error| Problem::unreadable(format_args!("a chunk is not base64: {error}")))?;
        return each("", utf8(&data)?);
    }
    match payload.trim_ascii() {
        "" => Ok(()),
        payload => each(headers.event_type, payload),
    }
}

/// The headers that matter.
#[derive(Default)]
struct Headers<'a> {
    message_type: &'a [u8],
    event_type: &'a str,
    exception_type: &'a str,
    error_code: &'a str,
    error_message: &'a str,
}

impl<'a> Headers<'a> {
    fn read(mut bytes: &'a [u8]) -> Result<Self, Problem> {
        let mut headers = Self::default();
        while !bytes.is_empty() {
            let (name, value) = header(&mut bytes)
                .ok_or_else(|| Problem::unreadable("a frame's headers are cut"))?;
            let place = match name {
                b":event-type" => &mut headers.event_type,
                b":message-type" => {
                    headers.message_type = value;
                    continue;
                }
                b":exception-type" => &mut headers.exception_type,
                b":error-code" => &mut headers.error_code,
                b":error-message" => &mut headers.error_message,
                _ => continue,
            };
            *place = utf8(value)?;
        }
        Ok(headers)
    }
}

/// Takes one header: its name, and its value where that is text.
fn header<'a>(bytes: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let mut take = |length: usize| {
        let all: &'a [u8] = bytes;
        let (part, rest) = all.split_at_checked(length)?;
        *bytes = rest;
        Some(part)
    };
    let length = take(1)?[0];
    let name = take(length.into())?;
    let value: &[u8] = match take(1)?[0] {
        0 | 1 => &[],
        2 => take(1)?,
        3 => take(2)?,
        4 => take(4)?,
        5 | 8 => take(8)?,
        6 | 7 => {
            let length = u16::from_be_bytes(*take(2)?.first_chunk()?);
            take(length.into())?
        }
        9 => take(16)?,
        _ => return None,
    };
    Some((name, value))
}
