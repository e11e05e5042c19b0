//! The arguments of a call, in pieces. As a rule each goes on where the last one ended; some servers
//! say all of them again at the end, and some say in every piece all that they have so far.
//!
//! Each byte is looked at once or twice, however many pieces there are.

use crate::json::{canonical, scan};

/// The arguments so far.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    text: String,
    nesting: Nesting,
    /// Where the last piece begins.
    last: usize,
    /// Whether a piece came that doesn't begin with the one before.
    are_parts: bool,
    /// Where the object begins that they are, if they are one.
    object: Option<usize>,
}

impl Arguments {
    /// Takes a piece, unless it says all of them again.
    pub(super) fn add(&mut self, piece: &str) {
        if !self.are_said_again(piece.trim_ascii()) {
            self.push(piece);
        }
    }

    /// Takes a piece, whatever it says.
    pub(super) fn push(&mut self, piece: &str) {
        self.are_parts |= !piece.starts_with(&self.text[self.last..]);
        self.last = self.text.len();
        self.text.push_str(piece);
        self.nesting.add(piece);
        // White space makes nothing whole, and spoils nothing.
        if !piece.trim_ascii().is_empty() {
            self.object = self.find_object();
        }
    }

    /// All that came.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// What is meant of it.
    pub(super) fn meant(&self) -> &str {
        &self.text[self.object.unwrap_or_default()..]
    }

    /// Whether nothing can be missing.
    pub(super) fn are_whole(&self) -> bool {
        self.object.is_some()
    }

    fn find_object(&self) -> Option<usize> {
        if self.nesting.end == End::Here && is_object(&self.text) {
            return Some(0);
        }
        let grew = self.last > 0 && !self.are_parts && is_object(&self.text[self.last..]);
        // Parts of what repeats itself may look so, too, but what they begin can still end.
        (grew && !may_go_on(&self.text)).then_some(self.last)
    }

    /// Whether a piece says all that came, if with other white space.
    fn are_said_again(&self, piece: &str) -> bool {
        piece.starts_with('{')
            && piece.ends_with('}')
            && self.are_whole()
            && canonical(piece) == canonical(self.meant())
    }
}

/// Whether text is JSON as far as it goes.
pub(super) fn may_go_on(text: &str) -> bool {
    scan(text).is_err_and(|error| error.at >= text.len())
}

fn is_object(text: &str) -> bool {
    scan(text).is_ok_and(|scan| scan.is_object)
}

/// Where the brackets of a text end. Only those and strings are looked at.
#[derive(Debug, Default)]
struct Nesting {
    depth: usize,
    in_string: bool,
    escaped: bool,
    end: End,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum End {
    #[default]
    Missing,
    Here,
    Before,
}

impl Nesting {
    fn add(&mut self, piece: &str) {
        for byte in piece.bytes() {
            if std::mem::take(&mut self.escaped) {
                continue;
            }
            match byte {
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string || byte.is_ascii_whitespace() => {}
                _ if self.end != End::Missing => self.end = End::Before,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        self.end = End::Here;
                    }
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pieces: &[&str], meant: &str, are_whole: bool) {
        let mut arguments = Arguments::default();
        pieces.iter().for_each(|piece| arguments.add(piece));
        assert_eq!((arguments.meant(), arguments.are_whole()), (meant, are_whole), "{pieces:?}");
    }

    #[test]
    fn pieces_are_put_together() {
        check(&[], "", false);
        check(&["{\"a", "\":[{", "}, \"}\\\"]\"", "]}", "\n"], "{\"a\":[{}, \"}\\\"]\"]}\n", true);
        check(&["{\"a\":", "1"], "{\"a\":1", false);
        check(&["[", "]"], "[]", false);
        check(&["{}", "{\"a\":1}"], "{}{\"a\":1}", false);
        check(&["}", "{\"a\":1}"], "}{\"a\":1}", false);
    }

    #[test]
    fn what_is_said_again_counts_once() {
        check(&["{\"a\"", ":1}", "{ \"a\": 1 }\n", "{\"a\":1}"], "{\"a\":1}", true);
        check(&["{\"a\"", ":1}", "{\"a\":2}"], "{\"a\":1}{\"a\":2}", false);
    }

    #[test]
    fn of_pieces_that_each_say_all_so_far_the_last_counts() {
        check(&["{", "{\"a\"", "{\"a\":1", "{\"a\":12}"], "{\"a\":12}", true);
        check(
            &["", "{\"a\":\"b", "{\"a\":\"bc\"}", " ", "{\"a\":\"bc\"}"],
            "{\"a\":\"bc\"} ",
            true,
        );
        // One that was cut isn't whole, nor are parts that only look so.
        check(&["{", "{\"a\"", "{\"a\":1"], "{{\"a\"{\"a\":1", false);
        check(&["{\"a\":", "{\"a\":1}"], "{\"a\":{\"a\":1}", false);
        check(&["{\"a\":", "{\"a\":1}", "}"], "{\"a\":{\"a\":1}}", true);
        check(&["{\"a", "{\"b\":1}"], "{\"a{\"b\":1}", false);
    }

    #[test]
    fn many_pieces_cost_no_more_than_few() {
        let mut arguments = Arguments::default();
        arguments.add(&format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20)));
        for _ in 0..1 << 17 {
            arguments.add("{}");
            arguments.add(" ");
        }
        assert!(!arguments.are_whole());
    }
}
