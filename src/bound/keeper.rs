//! A writer that keeps the head and the tail of what is written.

use std::io;

use crate::bound::secrets::Redactor;
use crate::bound::spill::Spill;
use crate::bound::unescape::Unescape;
use crate::bound::{Allowance, Bounded, ResultLimit, Taken, Why, note, note_room};
use crate::output::Output;

/// How often one that is over the limit asks whether it is still wanted: it may have no end.
const ASK_EACH: u64 = 64 << 10;

/// Takes the JSON of a value piece by piece and never holds more than the limit. A value that is
/// one string is kept as the text it says.
pub(super) struct Keeper<'a> {
    limit: &'a ResultLimit,
    is_dropped: &'a dyn Fn() -> bool,
    string: Option<Unescape>,
    redactor: Option<Redactor>,
    begun: bool,
    /// All of it, as long as it is within the limit; then the head, and behind it a ring that
    /// holds the tail.
    kept: Vec<u8>,
    total: u64,
    /// How many bytes there were when it was last asked whether anybody wants them.
    asked_at: u64,
    over: Option<Over>,
}

/// What is known once the limit is passed.
struct Over {
    head: usize,
    /// Where the ring ends.
    end: usize,
    /// Where the next byte goes: the oldest of the ring, once it is full.
    at: usize,
    spill: Option<Spill>,
}

impl<'a> Keeper<'a> {
    pub(super) fn new(limit: &'a ResultLimit, is_dropped: &'a dyn Fn() -> bool) -> Self {
        let redactor = (!limit.secrets.is_empty()).then(|| Redactor::new(&limit.secrets));
        Self {
            limit,
            is_dropped,
            string: None,
            redactor,
            begun: false,
            kept: Vec::new(),
            total: 0,
            asked_at: 0,
            over: None,
        }
    }

    /// Takes what the value says, secrets still in it.
    fn take(&mut self, bytes: &[u8]) {
        match self.redactor.take() {
            None => self.push(bytes),
            Some(mut redactor) => {
                redactor.feed(bytes, &mut |piece| self.push(piece));
                self.redactor = Some(redactor);
            }
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        if self.over.is_none() {
            if bytes.len() <= self.limit.text - self.kept.len() {
                return self.append(bytes, self.limit.text);
            }
            self.go_over(self.limit.text, Why::Own);
        }
        let Some(over) = &mut self.over else { return };
        over.spill = over.spill.take().and_then(|spill| spill.write(bytes));
        let end = over.end;
        let room = end - self.kept.len();
        let (bytes, rest) = bytes.split_at(room.min(bytes.len()));
        self.append(bytes, end);
        self.turn(rest);
    }

    /// Appends what fits below `limit`, without reserving past it.
    fn append(&mut self, bytes: &[u8], limit: usize) {
        let needed = self.kept.len() + bytes.len();
        if needed > self.kept.capacity() {
            let capacity = (self.kept.capacity() * 2).min(limit).max(needed);
            self.kept.reserve_exact(capacity - self.kept.len());
        }
        self.kept.extend_from_slice(bytes);
    }

    /// Opens the file, and makes what is kept a head and a ring of this size together, their note
    /// included.
    fn go_over(&mut self, size: usize, why: Why) {
        let spill = self.limit.spill.as_deref().and_then(Spill::create);
        let spill = spill.and_then(|spill| spill.write(&self.kept));
        let file = spill.as_ref().map(Spill::path);
        let end = size.saturating_sub(note_room(why, file));
        let head = end / 2;
        if let Some(surplus) = self.kept.len().checked_sub(end) {
            self.kept.copy_within(head + surplus.., head);
            self.kept.truncate(end);
        }
        self.over = Some(Over { head, end, at: head, spill });
    }

    /// Writes over the oldest bytes of the ring.
    fn turn(&mut self, bytes: &[u8]) {
        let Some(Over { head, at, .. }) = &mut self.over else { return };
        let ring = &mut self.kept[*head..];
        let bytes = &bytes[bytes.len().saturating_sub(ring.len())..];
        let start = *at - *head;
        let first = bytes.len().min(ring.len() - start);
        ring[start..start + first].copy_from_slice(&bytes[..first]);
        ring[..bytes.len() - first].copy_from_slice(&bytes[first..]);
        if !ring.is_empty() {
            *at = *head + (start + bytes.len()) % ring.len();
        }
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.kept.capacity()
    }

    pub(super) fn finish(mut self, allowance: &Allowance) -> Bounded {
        if let Some(redactor) = self.redactor.take() {
            redactor.finish(&mut |piece| self.push(piece));
        }
        let wanted = if self.over.is_some() { self.limit.text } else { self.kept.len() };
        let mut taken = Taken::default();
        let room = allowance.take_text(wanted, &mut taken);
        let why = if room < wanted { Why::Together } else { Why::Own };
        if why == Why::Together && self.over.is_none() {
            self.go_over(room, why);
        }
        let Some(over) = self.over else {
            let text = String::from_utf8(self.kept)
                .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
            let output = match self.string {
                Some(_) => Output::Text { text },
                None => Output::Json { text },
            };
            return Bounded { taken, ..output.into() };
        };
        let tail = [&self.kept[over.at..], &self.kept[over.head..over.at]].concat();
        let file = over.spill.as_ref().map(Spill::path);
        let size = room.saturating_sub(note_room(why, file)).min(over.end);
        let (head, tail) = (&self.kept[..size / 2], &tail[tail.len() - (size - size / 2)..]);
        let (head, tail) = (whole_start(head), whole_end(tail));
        let left_out = self.total - (head.len() + tail.len()) as u64;
        taken.file = over.spill.and_then(Spill::keep);
        let note = note(left_out, self.total, why, taken.file.as_deref());
        let text = head.to_owned() + &note + tail;
        Bounded { cut: Some(self.total), taken, ..Output::Text { text }.into() }
    }
}

/// The bytes without a character that is cut at the end.
fn whole_start(bytes: &[u8]) -> &str {
    bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid())
}

/// The bytes without a character that is cut at the beginning.
fn whole_end(bytes: &[u8]) -> &str {
    bytes.utf8_chunks().last().map_or("", |chunk| chunk.valid())
}

impl io::Write for Keeper<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.begun && bytes.starts_with(b"\"") {
            self.string = Some(Unescape::default());
        }
        self.begun = true;
        match self.string.take() {
            None => self.take(bytes),
            Some(mut string) => {
                string.feed(bytes, |piece| self.take(piece));
                self.string = Some(string);
            }
        }
        if self.over.is_some() && self.total - self.asked_at > ASK_EACH {
            self.asked_at = self.total;
            if (self.is_dropped)() {
                return Err(io::Error::other("the call is over"));
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
