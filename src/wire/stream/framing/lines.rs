//! Lines out of bytes in any split. They end with LF, CR LF or CR.

use crate::wire::stream::Problem;
use crate::wire::stream::framing::{EVENT_LIMIT, too_long};

/// What came of a line that has no end yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    begun: Vec<u8>,
    /// The last byte was CR: an LF that follows belongs to it.
    after_cr: bool,
}

impl Lines {
    /// Gives each line that ends in `bytes`, without its end. A line that lies in `bytes` as a
    /// whole isn't copied.
    pub(super) fn feed(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        if bytes.is_empty() {
            return Ok(());
        }
        if std::mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
            bytes = &bytes[1..];
        }
        while let Some(end) = memchr::memchr2(b'\n', b'\r', bytes) {
            let (line, rest) = bytes.split_at(end);
            if self.begun.is_empty() {
                each(line)?;
            } else {
                self.begin(line)?;
                let whole = std::mem::take(&mut self.begun);
                each(&whole)?;
                self.begun = whole;
                self.begun.clear();
            }
            bytes = match rest {
                [b'\r', b'\n', rest @ ..] => rest,
                [b'\r'] => {
                    self.after_cr = true;
                    &[]
                }
                rest => &rest[1..],
            };
        }
        self.begin(bytes)
    }

    fn begin(&mut self, part: &[u8]) -> Result<(), Problem> {
        if self.begun.len() + part.len() > EVENT_LIMIT {
            return Err(too_long());
        }
        self.begun.extend_from_slice(part);
        Ok(())
    }

    /// The line that has no end.
    pub(super) fn last(&mut self) -> Option<Vec<u8>> {
        (!self.begun.is_empty()).then(|| std::mem::take(&mut self.begun))
    }
}
