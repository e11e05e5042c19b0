//! Server-sent events: `event:` and `data:` lines, an empty line ends an event, lines that begin
//! with a colon are comments. Ids and retry times are passed over: nobody reconnects here. A line
//! that is nothing but a JSON object counts as an event, and one of a field `error` with such an
//! object as an event of that name, because servers that fail in mid-stream write their errors so.
//! A line of data behind one that is a whole JSON object begins an event, and so does a name behind
//! data that has one, because some leave out the empty lines.

use serde::de::IgnoredAny;

use crate::wire::stream::Problem;
use crate::wire::stream::framing::lines::Lines;
use crate::wire::stream::framing::{EVENT_LIMIT, Each, ODD_KEPT, too_long, utf8};

const FIELDS: [&[u8]; 4] = [b"data", b"event", b"id", b"retry"];

/// An event that has no end yet.
#[derive(Debug, Default)]
pub(in crate::wire::stream) struct Sse {
    lines: Lines,
    event: Event,
}

#[derive(Debug, Default)]
struct Event {
    name: Vec<u8>,
    /// The lines of data, joined by LF.
    data: Vec<u8>,
    data_lines: usize,
    /// Whether there was any line of an event.
    is_stream: bool,
    /// The first line, if it is none of an event's.
    odd: Vec<u8>,
}

impl Sse {
    pub(super) fn feed(&mut self, bytes: &[u8], each: &mut Each<'_>) -> Result<(), Problem> {
        let event = &mut self.event;
        self.lines.feed(bytes, |line| event.line(line, each))
    }

    /// Servers leave out the last empty line, so an event that ends with the stream is whole.
    pub(super) fn finish(&mut self, each: &mut Each<'_>) -> Result<(), Problem> {
        if let Some(line) = self.lines.last()
            && !FIELDS.iter().any(|field| field.starts_with(&line))
        {
            self.event.line(&line, each)?;
        }
        self.event.line(b"", each)?;
        match self.event.is_stream || self.event.odd.is_empty() {
            true => Ok(()),
            false => Err(Problem::no_events(&self.event.odd)),
        }
    }
}

impl Event {
    fn line(&mut self, line: &[u8], each: &mut Each<'_>) -> Result<(), Problem> {
        if line.is_empty() {
            return self.end(each);
        }
        let colon = memchr::memchr(b':', line).unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        let field = &line[..colon];
        self.is_stream |= matches!(field, b"data" | b"event");
        match field {
            b"data" => {
                if self.begins_anew(value) {
                    self.end(each)?;
                }
                if self.data.len() + value.len() >= EVENT_LIMIT {
                    return Err(too_long());
                }
                if self.data_lines > 0 {
                    self.data.push(b'\n');
                }
                self.data_lines += 1;
                self.data.extend_from_slice(value);
            }
            b"event" => {
                if self.data_lines > 0 && !self.name.is_empty() {
                    self.end(each)?;
                }
                self.name.clear();
                self.name.extend_from_slice(value);
            }
            _ if line.starts_with(b"{") && is_json(line) => {
                self.is_stream = true;
                return each("", utf8(line)?);
            }
            b"error" if value.starts_with(b"{") && is_json(value) => {
                self.end(each)?;
                self.is_stream = true;
                return each("error", utf8(value)?);
            }
            b"" | b"id" | b"retry" => {}
            _ if !self.is_stream && self.odd.is_empty() => {
                self.odd.extend_from_slice(&line[..line.len().min(ODD_KEPT)]);
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether a line of data is another event's, though no empty line came before it.
    fn begins_anew(&self, line: &[u8]) -> bool {
        self.data_lines == 1
            && self.data.ends_with(b"}")
            && (line.starts_with(b"{") || line == b"[DONE]")
            && is_json(&self.data)
    }

    fn end(&mut self, each: &mut Each<'_>) -> Result<(), Problem> {
        self.data_lines = 0;
        let blank = self.data.iter().all(u8::is_ascii_whitespace);
        let done = match blank {
            true => Ok(()),
            false => utf8(&self.name).and_then(|name| each(name, utf8(&self.data)?)),
        };
        self.name.clear();
        self.data.clear();
        done
    }
}

fn is_json(line: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(line).is_ok()
}
