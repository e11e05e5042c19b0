//! One JSON value a line.

use crate::wire::stream::Problem;
use crate::wire::stream::framing::lines::Lines;
use crate::wire::stream::framing::{Each, utf8};

/// A line that has no end yet.
#[derive(Debug, Default)]
pub(in crate::wire::stream) struct Ndjson {
    lines: Lines,
}

impl Ndjson {
    pub(super) fn feed(&mut self, bytes: &[u8], each: &mut Each<'_>) -> Result<(), Problem> {
        self.lines.feed(bytes, |line| event(line, each))
    }

    /// The last line may have no end.
    pub(super) fn finish(&mut self, each: &mut Each<'_>) -> Result<(), Problem> {
        self.lines.last().map_or(Ok(()), |line| event(&line, each))
    }
}

fn event(line: &[u8], each: &mut Each<'_>) -> Result<(), Problem> {
    match line.iter().all(u8::is_ascii_whitespace) {
        true => Ok(()),
        false => each("", utf8(line)?),
    }
}
