//! Text of the model's and time spans, made fit for a reader's terminal or log.
//!
//! Nothing here is for the model's results: those stay as they are.

use std::fmt;
use std::time::Duration;

/// A text cut to so many characters, on one line, with nothing in it that moves a cursor or turns
/// the direction of writing: such characters are escaped as Rust does it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown<'a> {
    text: &'a str,
    limit: usize,
    ascii: bool,
}

impl<'a> Shown<'a> {
    pub(crate) fn new(text: &'a str, limit: usize) -> Self {
        Self { text, limit, ascii: false }
    }

    /// Also escapes all that isn't ASCII, where `ascii` says so.
    pub(crate) fn ascii(self, ascii: bool) -> Self {
        Self { ascii, ..self }
    }

    fn escapes(self, c: char) -> bool {
        c.is_control() || is_invisible(c) || (self.ascii && !c.is_ascii())
    }
}

/// At most `limit` characters, the sign of a cut and the escapes counted.
impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut room = self.limit;
        let mut out = String::new();
        // How much of `out` still leaves room for the sign of a cut.
        let mut kept = 0;
        for c in self.text.chars() {
            let width = if self.escapes(c) { c.escape_default().count() } else { 1 };
            if width > room {
                out.truncate(kept);
                out.push(if self.ascii { '~' } else { '…' });
                break;
            }
            room -= width;
            if self.escapes(c) {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
            if room > 0 {
                kept = out.len();
            }
        }
        f.write_str(&out)
    }
}

/// Characters that turn the direction of writing, join, or take no room.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// A span for a reader: `3 s`, `250 ms`, `1.5 s`, `0.3 ms`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span(pub(crate) Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        let tenths = self.0.as_micros() / 100 % 10;
        match ms {
            0..10 if tenths != 0 => write!(f, "{ms}.{tenths} ms"),
            0..1000 => write!(f, "{ms} ms"),
            _ if ms % 1000 < 50 => write!(f, "{} s", ms / 1000),
            _ => write!(f, "{:.1} s", self.0.as_secs_f64()),
        }
    }
}

/// A digest of texts, in 32 hexadecimal digits: FNV-1a of 128 bits, the same in every version of
/// everything. It tells texts apart, it doesn't protect against who wants to deceive.
pub(crate) fn digest<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    let mut add = |byte: u8| hash = (hash ^ u128::from(byte)).wrapping_mul(PRIME);
    for text in texts {
        text.bytes().for_each(&mut add);
        // No byte of UTF-8, so that texts can't run into one another.
        add(0xff);
    }
    format!("{hash:032x}")
}

/// The order of so many texts; equal ones stay in theirs. The one sort of texts: it is long in
/// machine code.
pub(crate) fn sorted<'a>(texts: usize, text: impl Fn(usize) -> &'a str) -> Vec<usize> {
    let mut order: Vec<(&str, usize)> = (0..texts).map(|at| (text(at), at)).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, at)| at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_act_on_is_escaped() {
        let shown = |text| Shown::new(text, 64).to_string();
        assert_eq!(shown("naïve 名"), "naïve 名");
        assert_eq!(shown("a\r\nb\x1b[31m\0"), r"a\r\nb\u{1b}[31m\u{0}");
        assert_eq!(shown("a\u{202e}b\u{85}"), r"a\u{202e}b\u{85}");
        assert_eq!(Shown::new("naïve", 64).ascii(true).to_string(), r"na\u{ef}ve");
    }

    #[test]
    fn a_cut_keeps_within_the_limit_and_splits_no_escape() {
        let shown = |text, limit| Shown::new(text, limit).to_string();
        assert_eq!(shown("abcd", 4), "abcd");
        assert_eq!(shown("abcde", 4), "abc…");
        assert_eq!(shown("ab\u{202e}", 8), "ab…");
        assert_eq!(shown("ab\u{202e}", 10), r"ab\u{202e}");
        assert_eq!(shown("ab\u{202e}c", 10), "ab…");
        assert_eq!(Shown::new("abcde", 4).ascii(true).to_string(), "abc~");
    }

    #[test]
    fn spans_are_rounded_to_what_a_reader_needs() {
        let span = |micros| Span(Duration::from_micros(micros)).to_string();
        assert_eq!(span(0), "0 ms");
        assert_eq!(span(50), "0 ms");
        assert_eq!(span(300), "0.3 ms");
        assert_eq!(span(5_000), "5 ms");
        assert_eq!(span(602_400), "602 ms");
        assert_eq!(span(1_501_000), "1.5 s");
        assert_eq!(span(3_049_000), "3 s");
    }
}
