//! What a JSON string says, while it is written.

/// Takes the bytes of one JSON string, quotes included, and gives what it says.
#[derive(Default)]
pub(super) struct Unescape {
    state: State,
    /// The first half of a surrogate pair.
    high: Option<u32>,
}

#[derive(Default)]
enum State {
    #[default]
    Plain,
    Backslash,
    Hex {
        digits: u8,
        code: u32,
    },
}

impl Unescape {
    /// Takes the next bytes, in pieces of any size, and hands on what they say.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut say: impl FnMut(&[u8])) {
        while let Some((&first, rest)) = bytes.split_first() {
            match &mut self.state {
                State::Plain => {
                    let end = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\'));
                    let end = end.unwrap_or(bytes.len());
                    if end > 0 {
                        self.high = None;
                        say(&bytes[..end]);
                        bytes = &bytes[end..];
                        continue;
                    }
                    if first == b'\\' {
                        self.state = State::Backslash;
                    }
                }
                State::Backslash => {
                    self.state = State::Plain;
                    match first {
                        b'b' => say(b"\x08"),
                        b'f' => say(b"\x0c"),
                        b'n' => say(b"\n"),
                        b'r' => say(b"\r"),
                        b't' => say(b"\t"),
                        b'u' => self.state = State::Hex { digits: 0, code: 0 },
                        other => say(&[other]),
                    }
                }
                State::Hex { digits, code } => {
                    *digits += 1;
                    *code = *code * 16 + char::from(first).to_digit(16).unwrap_or_default();
                    if *digits == 4 {
                        let code = *code;
                        self.state = State::Plain;
                        self.unit(code, &mut say);
                    }
                }
            }
            bytes = rest;
        }
    }

    /// One UTF-16 unit. Half of a pair, which no serialiser writes, is dropped or
    /// becomes U+FFFD.
    fn unit(&mut self, code: u32, say: &mut impl FnMut(&[u8])) {
        let code = match (code, self.high.take()) {
            (0xD800..=0xDBFF, _) => {
                self.high = Some(code);
                return;
            }
            (0xDC00..=0xDFFF, Some(high)) => 0x10000 + ((high - 0xD800) << 10) + (code - 0xDC00),
            _ => code,
        };
        let char = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        say(char.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said(text: &str, piece: usize) -> String {
        let mut unescape = Unescape::default();
        let mut out = Vec::new();
        for bytes in text.as_bytes().chunks(piece) {
            unescape.feed(bytes, |said| out.extend_from_slice(said));
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_escape_is_read_in_pieces_of_any_size() {
        let text = r#""a\"\\\/\b\f\n\r\t\u00e9\ud83d\uDE00\u0000é😀z""#;
        let expected: String = serde_json::from_str(text).unwrap();
        for piece in 1..=text.len() {
            assert_eq!(said(text, piece), expected);
        }
        assert_eq!(said(r#""\ud83dx\ude00\ud83d\u0041""#, 3), "x\u{fffd}A");
    }

    proptest! {
        #![proptest_config(super::super::tests::config())]

        #[test]
        fn what_serde_json_escapes_is_read_back(text: String, piece in 1..9usize) {
            prop_assert_eq!(said(&serde_json::to_string(&text).unwrap(), piece), text);
        }
    }
}
