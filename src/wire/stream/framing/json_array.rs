//! One JSON array whose elements are the events. Only brackets and strings are looked at here:
//! whether an element is JSON, its reader finds out.

use crate::wire::stream::Problem;
use crate::wire::stream::framing::{EVENT_LIMIT, Each, too_long, utf8};

/// An element that has no end yet.
#[derive(Debug, Default)]
pub(in crate::wire::stream) struct JsonArray {
    place: Place,
    element: Vec<u8>,
    /// Open brackets within the element.
    depth: usize,
    in_string: bool,
    escaped: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Before,
    Within,
    After,
}

impl JsonArray {
    pub(super) fn feed(&mut self, bytes: &[u8], each: &mut Each<'_>) -> Result<(), Problem> {
        let mut bytes = bytes;
        while let Some((&byte, rest)) = bytes.split_first() {
            match self.place {
                Place::Before => {
                    self.place = Place::Within;
                    bytes = rest;
                }
                Place::After if byte.is_ascii_whitespace() => bytes = rest,
                Place::After => {
                    return Err(Problem::unreadable("something follows the array of events"));
                }
                Place::Within => {
                    let end = self.end(bytes);
                    let (part, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
                    match end {
                        // Nothing of it came before: it isn't copied.
                        Some(_) if self.element.is_empty() => event(part, each)?,
                        _ => {
                            if self.element.len() + part.len() > EVENT_LIMIT {
                                return Err(too_long());
                            }
                            self.element.extend_from_slice(part);
                            if end.is_some() {
                                event(&self.element, each)?;
                                self.element.clear();
                            }
                        }
                    }
                    bytes = rest;
                    if end.is_some() {
                        if bytes[0] == b']' {
                            self.place = Place::After;
                        }
                        bytes = &bytes[1..];
                    }
                }
            }
        }
        Ok(())
    }

    /// Where the comma or the bracket is that ends the element.
    fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            if std::mem::take(&mut self.escaped) {
                at += 1;
                continue;
            }
            if self.in_string {
                at += memchr::memchr2(b'"', b'\\', &bytes[at..])?;
                self.escaped = bytes[at] == b'\\';
                self.in_string = self.escaped;
                at += 1;
                continue;
            }
            match bytes[at] {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b',' | b']' if self.depth == 0 => return Some(at),
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            at += 1;
        }
        None
    }

    pub(super) fn finish(&mut self) -> Result<(), Problem> {
        match self.place == Place::After || self.element.iter().all(u8::is_ascii_whitespace) {
            true => Ok(()),
            false => Err(Problem::cut()),
        }
    }
}

fn event(element: &[u8], each: &mut Each<'_>) -> Result<(), Problem> {
    match element.iter().all(u8::is_ascii_whitespace) {
        true => Ok(()),
        false => each("", utf8(element)?),
    }
}
