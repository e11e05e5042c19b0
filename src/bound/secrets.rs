//! Texts that must not get out, and what stands in their place.
//!
//! From a result they are taken before it is cut, so that no cut leaves half of one. Other texts
//! (an error's, a panic's) are cut by whoever makes them, with a `…`; what is left of a secret
//! there is taken out, too. A secret that is spelled otherwise, in base64 for example, isn't found.

use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;

use memchr::memmem;
use serde_json::Value;

/// What stands in the place of a secret.
const REDACTED: &str = "[redacted]";
/// What stands where a text was cut.
const CUT: char = '…';
/// So many bytes are looked through at once.
const BLOCK: usize = 8 << 10;

/// Some secrets. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Arc<Vec<String>>);

impl Secrets {
    /// Adds one, and how it is spelled in JSON, by those that escape a slash, too.
    pub(crate) fn add(&mut self, secret: String) {
        let secrets = Arc::make_mut(&mut self.0);
        let quoted = Value::from(secret.as_str()).to_string();
        let spelled = quoted.get(1..quoted.len() - 1).unwrap_or_default();
        if spelled != secret {
            secrets.push(spelled.to_owned());
        }
        if spelled.contains('/') {
            secrets.push(spelled.replace('/', "\\/"));
        }
        secrets.push(secret);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them is the empty text.
    pub(crate) fn has_empty(&self) -> bool {
        self.0.iter().any(String::is_empty)
    }

    /// The text without them, and without what a cut left of them.
    pub(crate) fn redacted(&self, text: &str) -> String {
        if self.is_empty() {
            return text.to_owned();
        }
        let mut found = Vec::with_capacity(text.len());
        self.replace(text.as_bytes(), text.len(), &mut |bytes| found.extend_from_slice(bytes));
        let text = String::from_utf8_lossy(&found);
        if !text.contains(CUT) {
            return text.into_owned();
        }
        let pieces = text.split(CUT).collect::<Vec<_>>();
        let last = pieces.len() - 1;
        let mut out = String::with_capacity(text.len());
        for (n, mut piece) in pieces.into_iter().enumerate() {
            if n > 0 {
                out.push(CUT);
                if let Some(tail) = self.tail_before(piece) {
                    out.push_str(REDACTED);
                    piece = &piece[tail..];
                }
            }
            // What is quoted is cut inside its quotes.
            let (inner, quote) = match piece.strip_suffix('"') {
                Some(inner) if n < last => (inner, "\""),
                _ => (piece, ""),
            };
            match self.head_behind(inner).filter(|_| n < last) {
                Some(head) => out.extend([&inner[..inner.len() - head], REDACTED, quote]),
                None => out.push_str(piece),
            }
        }
        out
    }

    /// Hands on the bytes with the secrets replaced that begin before `end`; returns how many bytes
    /// that were. Of two that begin at one place the longer counts.
    fn replace(&self, bytes: &[u8], end: usize, say: &mut dyn FnMut(&[u8])) -> usize {
        let next = |secret: &String, from: usize| {
            memmem::find(&bytes[from..], secret.as_bytes()).map(|at| from + at)
        };
        let mut found: Vec<_> = self.0.iter().map(|secret| (next(secret, 0), secret)).collect();
        let mut from = 0;
        loop {
            let first = found.iter().filter_map(|(at, secret)| Some(((*at)?, *secret)));
            let first = first.min_by_key(|(at, secret)| (*at, Reverse(secret.len())));
            let Some((at, secret)) = first.filter(|(at, _)| *at < end) else {
                say(&bytes[from..end.max(from)]);
                return end.max(from);
            };
            say(&bytes[from..at]);
            say(REDACTED.as_bytes());
            from = at + secret.len();
            for (at, secret) in &mut found {
                if at.is_some_and(|at| at < from) {
                    *at = next(secret, from);
                }
            }
        }
    }

    /// How many bytes of a secret's beginning the text ends with.
    fn head_behind(&self, text: &str) -> Option<usize> {
        let most = text.len();
        let cuts = self.0.iter().flat_map(|secret| cuts(secret, most).map(|at| &secret[..at]));
        cuts.filter(|head| text.ends_with(head)).map(str::len).max()
    }

    /// How many bytes of a secret's end the text begins with.
    fn tail_before(&self, text: &str) -> Option<usize> {
        let tails = self.0.iter().flat_map(|secret| {
            cuts(secret, text.len())
                .map(|at| &secret[secret.ceil_char_boundary(secret.len() - at)..])
        });
        tails.filter(|tail| text.starts_with(tail)).map(str::len).max()
    }

    fn longest(&self) -> usize {
        self.0.iter().map(String::len).max().unwrap_or_default()
    }
}

/// Where a secret can be cut so that what is left tells something, and is in a text of `most` bytes:
/// a few characters could be anything's.
fn cuts(secret: &str, most: usize) -> impl Iterator<Item = usize> {
    let least = (secret.len() / 4).clamp(1, 8);
    (least..secret.len().min(most.saturating_add(1))).filter(|at| secret.is_char_boundary(*at))
}

/// Hides them: they could be printed with the settings.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

/// Takes secrets out of a text that comes piece by piece.
#[derive(Default)]
pub(super) struct Redactor {
    secrets: Secrets,
    /// What isn't handed on yet, because a secret may begin in it.
    held: Vec<u8>,
}

impl Redactor {
    pub(super) fn new(secrets: &Secrets) -> Self {
        Self { secrets: secrets.clone(), held: Vec::new() }
    }

    /// Takes the next bytes and hands on what is certain.
    pub(super) fn feed(&mut self, mut bytes: &[u8], say: &mut dyn FnMut(&[u8])) {
        if self.secrets.is_empty() {
            return say(bytes);
        }
        while !bytes.is_empty() {
            let (block, rest) = bytes.split_at(bytes.len().min(BLOCK));
            bytes = rest;
            self.held.extend_from_slice(block);
            let certain = (self.held.len() + 1).saturating_sub(self.secrets.longest());
            if certain >= BLOCK {
                let done = self.secrets.replace(&self.held, certain, say);
                self.held.drain(..done);
            }
        }
    }

    /// Hands on the rest.
    pub(super) fn finish(self, say: &mut dyn FnMut(&[u8])) {
        self.secrets.replace(&self.held, self.held.len(), say);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(texts: &[&str]) -> Secrets {
        let mut secrets = Secrets::default();
        texts.iter().for_each(|text| secrets.add((*text).to_owned()));
        secrets
    }

    #[test]
    fn what_a_cut_left_of_a_secret_is_taken_out() {
        let secrets = secrets(&["sk-0123456789", "päß\"wörter"]);
        let redacted = |text| secrets.redacted(text);
        assert_eq!(redacted("a sk-0123456789 b"), "a [redacted] b");
        assert_eq!(redacted("key sk-01…"), "key [redacted]…");
        assert_eq!(redacted(r#"at "key sk-01234"… again"#), r#"at "key [redacted]"… again"#);
        assert_eq!(redacted("…6789 and on"), "…[redacted] and on");
        assert_eq!(redacted("key sk-0…6789"), "key [redacted]…[redacted]");
        assert_eq!(redacted("päß\"w…ter"), "[redacted]…[redacted]");
        assert_eq!(redacted(r#"{"a":"päß\"wörter"}"#), r#"{"a":"[redacted]"}"#);
        // What ends otherwise, or with a character that a secret happens to begin with, stays.
        for text in ["a sk-01234", "tools… sk", "6789", "9 of 10", "wait s…", "…9"] {
            assert_eq!(redacted(text), text);
        }
        assert_eq!(Secrets::default().redacted("sk-01…"), "sk-01…");
    }

    #[test]
    fn a_slash_may_be_escaped() {
        let secrets = secrets(&["wJal/K7/\"x\""]);
        for text in [r#"wJal/K7/"x""#, r#"wJal/K7/\"x\""#, r#"wJal\/K7\/\"x\""#] {
            assert_eq!(secrets.redacted(text), "[redacted]", "{text}");
        }
    }

    #[test]
    fn a_text_in_pieces_is_redacted_as_the_whole_is() {
        let secrets = secrets(&["canary-1", "canary-123", "ü"]);
        let whole = "canary-12 canary-123canary-1ücanary-".repeat(3000) + "canary-1";
        for size in [1, 2, 7, 100, 8 << 10, 1 << 20] {
            let (mut redactor, mut out) = (Redactor::new(&secrets), Vec::new());
            for piece in whole.as_bytes().chunks(size) {
                redactor.feed(piece, &mut |bytes| out.extend_from_slice(bytes));
            }
            redactor.finish(&mut |bytes| out.extend_from_slice(bytes));
            assert_eq!(String::from_utf8(out).unwrap(), secrets.redacted(&whole), "{size}");
        }
    }
}
