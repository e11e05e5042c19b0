//! Notices a model that makes the same call turn after turn. Pure.

use std::collections::HashMap;

use crate::call::ToolCall;
use crate::json;

/// Deeper or longer arguments are the same where their text is: sorting keys costs depth times size.
const DEEPEST: usize = 64;
const LONGEST: usize = 1 << 20;

/// The name and the arguments of a call.
type Key = (String, String);

/// In how many turns in a row each call of the last turn was made.
#[derive(Debug, Default)]
pub(super) struct Repeats(HashMap<Key, u32>);

impl Repeats {
    /// In how many turns in a row a call of the coming turn is made then.
    pub(super) fn with(&self, call: &ToolCall) -> u32 {
        self.after(&key(call))
    }

    fn after(&self, key: &Key) -> u32 {
        self.0.get(key).map_or(1, |times| times.saturating_add(1))
    }

    /// Takes note of a turn; for each of its calls, in how many turns in a row it was made. The
    /// same call twice in one turn counts once.
    pub(super) fn note(&mut self, calls: &[ToolCall]) -> Vec<u32> {
        let keys: Vec<_> = calls.iter().map(key).collect();
        self.0 = keys.iter().map(|key| (key.clone(), self.after(key))).collect();
        keys.iter().map(|key| self.0.get(key).copied().unwrap_or(1)).collect()
    }
}

fn key(call: &ToolCall) -> Key {
    let text = call.arguments();
    let is_small = call.scanned().is_some_and(|scan| scan.depth <= DEEPEST);
    let arguments = match is_small && text.len() <= LONGEST {
        true => json::canonical(text),
        false => text.to_owned(),
    };
    (call.name().to_owned(), arguments)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_call_is_counted_over_turns_in_a_row() {
        let call = |arguments: &str| ToolCall::new("x", "f", arguments);
        let mut repeats = Repeats::default();
        assert_eq!(repeats.note(&[call(r#"{"a":1,"b":2}"#)]), [1]);
        assert_eq!(repeats.note(&[call(r#"{ "b":2, "a":1 }"#), call("{}")]), [2, 1]);
        assert_eq!(repeats.with(&call("{}")), 2);
        assert_eq!(repeats.note(&[call("{}"), call("{}")]), [2, 2], "twice in a turn is once");
        assert_eq!(repeats.note(&[call(r#"{"a":1,"b":2}"#)]), [1], "not in a row");
    }

    #[test]
    fn deep_and_long_arguments_are_the_same_where_their_text_is() {
        let deep = format!(
            r#"{}{{"b":"{}","a":1}}{}"#,
            r#"{"b":"#.repeat(9_000),
            "x".repeat(900 << 10),
            r#","a":1}"#.repeat(9_000)
        );
        let long = format!(r#"{{"b":"{}", "a":1}}"#, "x".repeat(LONGEST));
        for text in [deep.as_str(), &long, "{nope"] {
            let call = |text: &str| ToolCall::new("x", "f", text);
            let other = text.replace("{\"b\"", "{ \"b\"") + " ";
            let mut repeats = Repeats::default();
            let began = Instant::now();
            let counts = [text, text, &other].map(|text| repeats.note(&[call(text)])[0]);
            assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
            assert_eq!(counts, [1, 2, 1]);
        }
    }
}
