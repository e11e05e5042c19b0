//! Notices a model that makes the same call turn after turn. Pure.

use std::collections::HashMap;

use crate::call::ToolCall;
use crate::json;

/// In how many turns in a row each call of the last turn was made.
#[derive(Debug, Default)]
pub(super) struct Repeats(HashMap<(String, String), u32>);

impl Repeats {
    /// Takes note of a turn; for each of its calls, in how many turns in a row it was made. The
    /// same call twice in one turn counts once.
    pub(super) fn note(&mut self, calls: &[ToolCall]) -> Vec<u32> {
        let keys: Vec<_> = calls
            .iter()
            .map(|call| (call.name().to_owned(), json::canonical(call.arguments())))
            .collect();
        let mut counts = HashMap::new();
        for key in &keys {
            counts.entry(key.clone()).or_insert_with(|| self.0.get(key).unwrap_or(&0) + 1);
        }
        self.0 = counts;
        keys.iter().map(|key| self.0.get(key).copied().unwrap_or(1)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_counted_over_turns_in_a_row() {
        let call = |arguments: &str| ToolCall::new("x", "f", arguments);
        let mut repeats = Repeats::default();
        assert_eq!(repeats.note(&[call(r#"{"a":1,"b":2}"#)]), [1]);
        assert_eq!(repeats.note(&[call(r#"{ "b":2, "a":1 }"#), call("{}")]), [2, 1]);
        assert_eq!(repeats.note(&[call("{}"), call("{}")]), [2, 2], "twice in a turn is once");
        assert_eq!(repeats.note(&[call(r#"{"a":1,"b":2}"#)]), [1], "not in a row");
    }
}
