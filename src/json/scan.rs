//! One pass over a JSON text: whether it is JSON, how deep it is, whether a key stands twice.
//!
//! What is accepted is what `serde_json` decodes into strings and raw numbers, so a number may be
//! larger than any type, and a lone surrogate is refused. The stack is a vector, and nothing is read
//! deeper than [`DEPTH_LIMIT`]: a million opening brackets cost neither the thread nor memory.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::{self, Write as _};

use serde_json::Value;

/// What one pass over a JSON text tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scan {
    pub(crate) is_object: bool,
    /// Nesting depth: 0 for a scalar, 1 for `{}`.
    pub(crate) depth: usize,
    /// The path of the first key that stands twice in one object, after unescaping; at most
    /// [`PATH_LIMIT`] bytes of it.
    pub(crate) duplicate_key: Option<String>,
}

/// Why a text isn't JSON, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    /// Byte offset.
    pub(crate) at: usize,
    pub(crate) what: &'static str,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

/// Checks that `text` is one JSON value and nothing else, without recursion and without a tree.
pub(crate) fn scan(text: &str) -> Result<Scan, SyntaxError> {
    let mut scanner = Scanner::default();
    walk(text, &mut scanner)?;
    Ok(Scan {
        is_object: scanner.is_object.unwrap_or_default(),
        depth: scanner.depth,
        duplicate_key: scanner.duplicate_key,
    })
}

/// How deep a text may nest to be read. What a call's arguments may is far less, and set elsewhere.
const DEPTH_LIMIT: usize = 10_000;
/// Most bytes of a duplicate key's path.
const PATH_LIMIT: usize = 200;
/// From so many keys on, an object's keys are looked up by hash.
const MANY_KEYS: usize = 16;

#[derive(Default)]
struct Scanner<'a> {
    is_object: Option<bool>,
    depth: usize,
    duplicate_key: Option<String>,
    open: Vec<Level<'a>>,
    /// The keys of all open objects, each object's behind those of the object around it.
    keys: Vec<Cow<'a, str>>,
}

enum Level<'a> {
    Array {
        index: usize,
    },
    Object {
        /// Where its keys start in `keys`.
        start: usize,
        #[expect(clippy::box_collection, reason = "few objects need it, and a level stays small")]
        many: Option<Box<HashSet<Cow<'a, str>>>>,
    },
}

impl<'a> Events<'a> for Scanner<'a> {
    fn open(&mut self, object: bool) {
        self.is_object.get_or_insert(object);
        self.open.push(if object {
            Level::Object { start: self.keys.len(), many: None }
        } else {
            Level::Array { index: 0 }
        });
        self.depth = self.depth.max(self.open.len());
    }

    fn close(&mut self) {
        if let Some(Level::Object { start, .. }) = self.open.pop() {
            self.keys.truncate(start);
        }
    }

    fn comma(&mut self) {
        if let Some(Level::Array { index }) = self.open.last_mut() {
            *index += 1;
        }
    }

    fn key(&mut self, quoted: &'a str, escaped: bool) {
        if self.duplicate_key.is_some() {
            return;
        }
        let Some(Level::Object { start, many }) = self.open.last_mut() else { return };
        let key = unquoted(quoted, escaped);
        let known = match many {
            Some(many) => !many.insert(key.clone()),
            None => {
                let seen = &self.keys[*start..];
                let known = seen.contains(&key);
                if seen.len() == MANY_KEYS {
                    *many = Some(Box::new(seen.iter().cloned().chain([key.clone()]).collect()));
                }
                known
            }
        };
        if many.is_some() && !known {
            // Only the last key is needed from here on, as a part of the path.
            self.keys.truncate(*start);
        }
        self.keys.push(key);
        if known {
            self.duplicate_key = Some(self.path());
        }
    }

    fn scalar(&mut self, _: &'a str, _: bool) {}
}

impl Scanner<'_> {
    /// The path of the key just read, as `items[2].name`.
    fn path(&self) -> String {
        let mut path = String::new();
        for (n, level) in self.open.iter().enumerate() {
            // Writing to a string can't fail.
            let _ = match level {
                Level::Array { index } => write!(path, "[{index}]"),
                Level::Object { .. } => {
                    let end = self.open[n + 1..].iter().find_map(|level| match level {
                        Level::Object { start, .. } => Some(*start),
                        Level::Array { .. } => None,
                    });
                    let end = end.unwrap_or(self.keys.len());
                    let key = end.checked_sub(1).and_then(|at| self.keys.get(at));
                    let dot = if path.is_empty() { "" } else { "." };
                    write!(path, "{dot}{}", key.map(|key| &**key).unwrap_or_default())
                }
            };
            if path.len() > PATH_LIMIT {
                path.truncate(path.floor_char_boundary(PATH_LIMIT));
                path.push('…');
                break;
            }
        }
        path
    }
}

/// What a JSON string says; `quoted` is valid and has its quotes.
pub(super) fn unquoted(quoted: &str, escaped: bool) -> Cow<'_, str> {
    match escaped.then(|| quoted.parse()) {
        Some(Ok(Value::String(text))) => Cow::Owned(text),
        _ => Cow::Borrowed(&quoted[1..quoted.len() - 1]),
    }
}

/// What [`walk`] meets, in the order of the text.
pub(super) trait Events<'a> {
    /// `{` or `[`.
    fn open(&mut self, object: bool);
    /// `}` or `]`.
    fn close(&mut self);
    /// `,`, before the next key or element.
    fn comma(&mut self);
    /// A key with its quotes, and whether it has escapes.
    fn key(&mut self, quoted: &'a str, escaped: bool);
    /// A string with its quotes and whether it has escapes, a number, `true`, `false` or `null`.
    fn scalar(&mut self, text: &'a str, escaped: bool);
}

/// Reads one JSON value and tells `events` of it.
pub(super) fn walk<'a>(text: &'a str, events: &mut impl Events<'a>) -> Result<(), SyntaxError> {
    let mut reader = Reader { text, bytes: text.as_bytes(), at: 0 };
    // The open containers: whether each is an object.
    let mut open: Vec<bool> = Vec::new();
    loop {
        match reader.skip_space() {
            Some(b'{' | b'[') if open.len() >= DEPTH_LIMIT => {
                return Err(reader.error("more than 10000 levels"));
            }
            Some(b'{') => {
                reader.at += 1;
                events.open(true);
                if reader.skip_space() == Some(b'}') {
                    reader.at += 1;
                    events.close();
                } else {
                    open.push(true);
                    reader.key(events)?;
                    continue;
                }
            }
            Some(b'[') => {
                reader.at += 1;
                events.open(false);
                if reader.skip_space() == Some(b']') {
                    reader.at += 1;
                    events.close();
                } else {
                    open.push(false);
                    continue;
                }
            }
            _ => reader.scalar(events)?,
        }
        // A value is over: close what ends here.
        loop {
            match (reader.skip_space(), open.last()) {
                (None, None) => return Ok(()),
                (Some(_), None) => return Err(reader.error("something after the value")),
                (Some(b','), Some(object)) => {
                    reader.at += 1;
                    events.comma();
                    if *object {
                        reader.skip_space();
                        reader.key(events)?;
                    }
                    break;
                }
                (Some(b'}'), Some(true)) | (Some(b']'), Some(false)) => {
                    reader.at += 1;
                    open.pop();
                    events.close();
                }
                (_, Some(true)) => return Err(reader.error("expected ',' or '}'")),
                (_, Some(false)) => return Err(reader.error("expected ',' or ']'")),
            }
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn error(&self, what: &'static str) -> SyntaxError {
        let what = if self.at < self.bytes.len() { what } else { "the text ends too early" };
        SyntaxError { at: self.at, what }
    }

    /// The next byte that is no white space.
    fn skip_space(&mut self) -> Option<u8> {
        loop {
            match self.peek() {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                other => return other,
            }
        }
    }

    fn key(&mut self, events: &mut impl Events<'a>) -> Result<(), SyntaxError> {
        if self.peek() != Some(b'"') {
            return Err(self.error("expected a key in double quotes"));
        }
        let (key, escaped) = self.string()?;
        events.key(key, escaped);
        if self.skip_space() != Some(b':') {
            return Err(self.error("expected ':'"));
        }
        self.at += 1;
        Ok(())
    }

    fn scalar(&mut self, events: &mut impl Events<'a>) -> Result<(), SyntaxError> {
        let start = self.at;
        match self.peek() {
            Some(b'"') => {
                let (string, escaped) = self.string()?;
                events.scalar(string, escaped);
                return Ok(());
            }
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.literal("true")?,
            Some(b'f') => self.literal("false")?,
            Some(b'n') => self.literal("null")?,
            _ => return Err(self.error("expected a value")),
        }
        events.scalar(&self.text[start..self.at], false);
        Ok(())
    }

    fn literal(&mut self, literal: &str) -> Result<(), SyntaxError> {
        if !self.bytes[self.at..].starts_with(literal.as_bytes()) {
            return Err(self.error("expected a value"));
        }
        self.at += literal.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), SyntaxError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
            if let Some(b'0'..=b'9') = self.peek() {
                return Err(self.error("a number with a leading zero"));
            }
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), SyntaxError> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start { Err(self.error("expected a digit")) } else { Ok(()) }
    }

    /// A string with its quotes, and whether it has escapes.
    fn string(&mut self) -> Result<(&'a str, bool), SyntaxError> {
        let start = self.at;
        let mut escaped = false;
        self.at += 1;
        loop {
            self.skip_plain();
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok((&self.text[start..self.at], escaped));
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return Err(self.error("a control character in a string")),
            }
        }
    }

    /// Goes to the next quote, backslash or control character, eight bytes at a time.
    fn skip_plain(&mut self) {
        const ONES: u64 = u64::MAX / 255;
        const HIGH: u64 = ONES << 7;
        while let Some(chunk) = self.bytes[self.at..].first_chunk::<8>() {
            let chunk = u64::from_le_bytes(*chunk);
            let quote = chunk ^ (ONES * u64::from(b'"'));
            let backslash = chunk ^ (ONES * u64::from(b'\\'));
            // The lowest high bit that is set is the first such byte; bits above it may be wrong.
            let control = chunk.wrapping_sub(ONES * 0x20) & !chunk;
            let quote = quote.wrapping_sub(ONES) & !quote;
            let backslash = backslash.wrapping_sub(ONES) & !backslash;
            let found = (control | quote | backslash) & HIGH;
            if found != 0 {
                self.at += found.trailing_zeros() as usize / 8;
                return;
            }
            self.at += 8;
        }
        while let Some(byte) = self.peek()
            && byte != b'"'
            && byte != b'\\'
            && byte >= 0x20
        {
            self.at += 1;
        }
    }

    fn escape(&mut self) -> Result<(), SyntaxError> {
        let start = self.at;
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                return Ok(());
            }
            Some(b'u') => {}
            _ => return Err(self.error("an unknown escape")),
        }
        let lone = SyntaxError { at: start, what: "half of a surrogate pair" };
        match self.hex()? {
            0xDC00..=0xDFFF => Err(lone),
            0xD800..=0xDBFF => {
                if !self.bytes[self.at..].starts_with(b"\\u") {
                    return Err(lone);
                }
                self.at += 1;
                match self.hex()? {
                    0xDC00..=0xDFFF => Ok(()),
                    _ => Err(lone),
                }
            }
            _ => Ok(()),
        }
    }

    /// The `u` of an escape and its four digits.
    fn hex(&mut self) -> Result<u32, SyntaxError> {
        self.at += 1;
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            code = code * 16 + digit.ok_or_else(|| self.error("expected a hexadecimal digit"))?;
            self.at += 1;
        }
        Ok(code)
    }
}

#[cfg(test)]
pub(super) mod tests;
