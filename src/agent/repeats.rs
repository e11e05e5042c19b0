//! Notices a model that makes the same call turn after turn. Pure.

use std::collections::HashMap;

use crate::call::ToolCall;
use crate::json;
use crate::outcome::Outcome;
use crate::report::CallReport;

/// Deeper or longer arguments are the same where their text is: sorting keys costs depth times size.
const DEEPEST: usize = 64;
const LONGEST: usize = 1 << 20;

/// The name and the arguments of a call.
type Key = (String, String);

/// In how many turns in a row each call of the last turn was made.
///
/// Calls that didn't start, though nothing is wrong with them, don't count: the model is told that it
/// may make them again.
#[derive(Debug, Default)]
pub(super) struct Repeats(HashMap<Key, u32>);

impl Repeats {
    /// In how many turns in a row a call of the coming turn is made, if it starts.
    pub(super) fn with(&self, call: &ToolCall) -> u32 {
        self.before(&key(call)).saturating_add(1)
    }

    fn before(&self, key: &Key) -> u32 {
        self.0.get(key).copied().unwrap_or(0)
    }

    /// Takes note of a turn; for each of its calls, in how many turns in a row it was made, or 0 where
    /// it doesn't count. The same call twice in one turn counts once.
    pub(super) fn note(&mut self, calls: &[CallReport]) -> Vec<u32> {
        let mut latest = HashMap::new();
        let mut note = |call: &CallReport| {
            let key = key(&call.call);
            let (before, counts) = (self.before(&key), counts(&call.outcome));
            let times = before.saturating_add(u32::from(counts));
            let known = latest.entry(key).or_insert(times);
            *known = times.max(*known);
            if counts { times } else { 0 }
        };
        let times = calls.iter().map(&mut note).collect();
        self.0 = latest;
        times
    }
}

fn counts(outcome: &Outcome) -> bool {
    outcome.has_started() || matches!(outcome, Outcome::Rejected(_)) && !outcome.is_retryable()
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
    use crate::outcome::{NotStarted, Rejected};

    fn call(arguments: &str) -> ToolCall {
        ToolCall::new("x", "f", arguments)
    }

    fn ended(arguments: &str, outcome: Outcome) -> CallReport {
        CallReport::never_run(call(arguments), outcome)
    }

    fn ran(arguments: &str) -> CallReport {
        ended(arguments, Outcome::Panicked(None))
    }

    #[test]
    fn a_call_is_counted_over_turns_in_a_row() {
        let mut repeats = Repeats::default();
        assert_eq!(repeats.note(&[ran(r#"{"a":1,"b":2}"#)]), [1]);
        assert_eq!(repeats.note(&[ran(r#"{ "b":2, "a":1 }"#), ran("{}")]), [2, 1]);
        assert_eq!(repeats.with(&call("{}")), 2);
        assert_eq!(repeats.note(&[ran("{}"), ran("{}")]), [2, 2], "twice in a turn is once");
        assert_eq!(repeats.note(&[ran(r#"{"a":1,"b":2}"#)]), [1], "not in a row");
    }

    #[test]
    fn a_call_that_did_not_start_neither_counts_nor_breaks_the_row() {
        let cut = || ended("{}", Outcome::NotStarted(NotStarted::Withheld("length".to_owned())));
        let mut repeats = Repeats::default();
        for _ in 0..3 {
            assert_eq!(repeats.note(&[cut()]), [0]);
        }
        assert_eq!(repeats.with(&call("{}")), 1);
        assert_eq!(repeats.note(&[ran("{}")]), [1]);
        assert_eq!(repeats.note(&[cut()]), [0]);
        let busy = || ended("{}", Outcome::Rejected(Rejected::Busy));
        assert_eq!(repeats.note(&[ran("{}"), busy()]), [2, 0]);
        assert_eq!(
            repeats.note(&[ended("{}", Outcome::Cancelled { started: false, abort: None })]),
            [0]
        );
        let denied = Outcome::Rejected(Rejected::Denied(String::new()));
        assert_eq!(repeats.note(&[ended("{}", denied)]), [3], "to be told again won't help");
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
            let other = text.replace("{\"b\"", "{ \"b\"") + " ";
            let mut repeats = Repeats::default();
            let began = Instant::now();
            let counts = [text, text, &other].map(|text| repeats.note(&[ran(text)])[0]);
            assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
            assert_eq!(counts, [1, 2, 1]);
        }
    }
}
