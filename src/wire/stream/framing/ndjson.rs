//! One JSON value a line. Where the first line is only the beginning of a value, it is one value
//! over many lines: a whole body, made to be read by people.

use serde::de::IgnoredAny;

use crate::wire::stream::Problem;
use crate::wire::stream::framing::lines::Lines;
use crate::wire::stream::framing::{EVENT_LIMIT, Each, too_long, utf8};

/// A line that has no end yet.
#[derive(Debug, Default)]
pub(in crate::wire::stream) struct Ndjson {
    lines: Lines,
    begun: bool,
    /// The lines so far of one value.
    whole: Option<Vec<u8>>,
}

impl Ndjson {
    pub(super) fn feed(&mut self, bytes: &[u8], each: &mut Each<'_>) -> Result<(), Problem> {
        let Self { lines, begun, whole } = self;
        lines.feed(bytes, |line| {
            let is_first = !std::mem::replace(begun, true);
            if is_first && whole.is_none() && is_beginning(line) {
                *whole = Some(Vec::new());
            }
            match whole {
                None => event(line, each),
                Some(whole) if whole.len() + line.len() > EVENT_LIMIT => Err(too_long()),
                Some(whole) => {
                    whole.extend_from_slice(line);
                    whole.push(b'\n');
                    Ok(())
                }
            }
        })
    }

    /// The one value over many lines, when all of it has come.
    pub(super) fn whole(&mut self) -> Option<&[u8]> {
        let whole = self.whole.as_mut()?;
        whole.extend(self.lines.last().into_iter().flatten());
        Some(whole)
    }

    /// The last line may have no end.
    pub(super) fn finish(&mut self, each: &mut Each<'_>) -> Result<(), Problem> {
        self.lines.last().map_or(Ok(()), |line| event(&line, each))
    }
}

fn is_beginning(line: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(line).is_err_and(|error| error.is_eof())
}

fn event(line: &[u8], each: &mut Each<'_>) -> Result<(), Problem> {
    match line.iter().all(u8::is_ascii_whitespace) {
        true => Ok(()),
        false => each("", utf8(line)?),
    }
}
