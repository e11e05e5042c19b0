//! One spelling for JSON texts that mean the same.

use super::scan::{Events, unquoted, walk};
use crate::text;

/// The text without white space, with every object's keys sorted and every string escaped in the
/// one way. Numbers keep their spelling: `1` and `1.0` stay two things. A text that isn't JSON
/// comes back as it is.
pub(crate) fn canonical(text: &str) -> String {
    let mut writer = Writer::default();
    match walk(text, &mut writer) {
        Ok(()) => writer.out,
        Err(_) => text.to_owned(),
    }
}

#[derive(Default)]
struct Writer {
    out: String,
    open: Vec<Level>,
}

/// An open array, or an object with its members so far: the key, and where the member starts.
enum Level {
    Array,
    Object { members: Vec<(String, usize)> },
}

impl Events<'_> for Writer {
    fn open(&mut self, object: bool) {
        self.out.push(if object { '{' } else { '[' });
        self.open.push(if object { Level::Object { members: Vec::new() } } else { Level::Array });
    }

    fn close(&mut self) {
        match self.open.pop() {
            Some(Level::Object { members }) => {
                if !members.is_sorted_by(|a, b| a.0 <= b.0) {
                    self.sort(members);
                }
                self.out.push('}');
            }
            _ => self.out.push(']'),
        }
    }

    fn comma(&mut self) {
        self.out.push(',');
    }

    fn key(&mut self, quoted: &str, escaped: bool) {
        let start = self.out.len();
        self.scalar(quoted, escaped);
        self.out.push(':');
        if let Some(Level::Object { members }) = self.open.last_mut() {
            members.push((unquoted(quoted, escaped).into_owned(), start));
        }
    }

    fn scalar(&mut self, text: &str, escaped: bool) {
        if escaped {
            self.out += &serde_json::Value::from(unquoted(text, true)).to_string();
        } else {
            self.out += text;
        }
    }
}

impl Writer {
    /// Writes the members of the innermost object again, by key; equal keys stay in order.
    fn sort(&mut self, members: Vec<(String, usize)>) {
        let Some(start) = members.first().map(|(_, start)| *start) else { return };
        let mut sorted = String::with_capacity(self.out.len() - start);
        for (n, at) in text::sorted(members.len(), |at| &members[at].0).into_iter().enumerate() {
            if n > 0 {
                sorted.push(',');
            }
            let end = members.get(at + 1).map_or(self.out.len(), |(_, next)| next - 1);
            sorted += &self.out[members[at].1..end];
        }
        self.out.truncate(start);
        self.out += &sorted;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_that_mean_the_same_are_spelled_the_same() {
        let check = |text: &str, expected: &str| assert_eq!(canonical(text), expected);
        check(r#" { "b" : 1 , "a" : [ ] } "#, r#"{"a":[],"b":1}"#);
        check(
            r#"{"b":{"d":1,"c":[{"z":0,"y":0}]},"a":2}"#,
            r#"{"a":2,"b":{"c":[{"y":0,"z":0}],"d":1}}"#,
        );
        check(r#"{"\u0061":"\u00e9\/"}"#, r#"{"a":"é/"}"#);
        check("[1.0, 1, 1e2, -0]", "[1.0,1,1e2,-0]");
        check(r#"{"a,}":1,"a":2}"#, r#"{"a":2,"a,}":1}"#);
        check(r#"{"b":1,"a":2,"b":3}"#, r#"{"a":2,"b":1,"b":3}"#);
        check("", "");
        check("{\"a\":", "{\"a\":");
    }

    #[test]
    fn a_deep_text_does_not_overflow_the_stack() {
        let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert_eq!(canonical(&deep).len(), deep.len());
    }

    proptest! {
        #![proptest_config(super::super::scan::tests::config(256))]

        #[test]
        fn a_tree_is_spelled_as_its_sorted_form(value in super::super::scan::tests::tree()) {
            // Without its feature for order, a `Value` keeps its keys sorted.
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(canonical(&pretty), value.to_string());
        }
    }
}
