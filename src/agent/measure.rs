//! Whether a model makes its calls together, and what that saved. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::call::ToolCall;
use crate::report::Report;
use crate::turn::Usage;

/// From how many turns with one independent call each a hint is logged.
const HINT_AT: u32 = 3;
/// Shorter values stand in any text.
const SHORTEST: usize = 3;
/// How much of the earlier results is remembered, in bytes.
const REMEMBERED: usize = 1 << 20;
/// At how many values of a call's arguments is looked.
const LOOKED_AT: usize = 64;

/// Figures of a conversation, or of all runs of an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AgentStats {
    /// Turns of the model.
    pub turns: u64,
    /// Of these, turns with calls.
    pub calling_turns: u64,
    /// Calls.
    pub calls: u64,
    /// Calls that failed.
    pub failed_calls: u64,
    /// Time the batches took.
    pub wall: Duration,
    /// Time the calls would have taken one after another.
    pub sequential: Duration,
    /// Time saved by running the calls of a turn together, summed over the turns.
    pub saved: Duration,
    /// Time saved by starting calls while the model still wrote, summed over the turns.
    pub saved_by_early_start: Duration,
    /// Tokens.
    pub usage: Usage,
}

impl AgentStats {
    /// Calls a turn, over the turns that have calls: 1.0 for a model that makes one at a time, 0.0
    /// where there was none.
    pub fn calls_per_turn(&self) -> f64 {
        if self.calling_turns == 0 {
            return 0.0;
        }
        self.calls as f64 / self.calling_turns as f64
    }

    pub(super) fn turn(&mut self, usage: Usage) {
        self.turns = self.turns.saturating_add(1);
        self.usage += usage;
    }

    pub(super) fn batch(&mut self, report: &Report) {
        let add = |sum: &mut u64, more: usize| *sum = sum.saturating_add(more as u64);
        add(&mut self.calling_turns, 1);
        add(&mut self.calls, report.calls().len());
        add(&mut self.failed_calls, report.failures().count());
        let add = |sum: &mut Duration, more| *sum = sum.saturating_add(more);
        add(&mut self.wall, report.wall());
        add(&mut self.sequential, report.sequential());
        add(&mut self.saved, report.saved());
        add(&mut self.saved_by_early_start, report.saved_by_early_start());
    }
}

/// Watches whether calls that were made one a turn could have been made together.
#[derive(Debug, Default)]
pub(super) struct Independence {
    /// What was said before any result.
    asked: String,
    results: String,
    alone: u32,
    hinted: bool,
}

impl Independence {
    /// `asked` is what the user said, `results` what earlier results said.
    pub(super) fn new(asked: String, results: String) -> Self {
        let mut new = Self { asked, results, ..Self::default() };
        new.forget();
        new
    }

    /// Takes note of a turn's calls; true when it is time for a hint.
    pub(super) fn calls(&mut self, calls: &[ToolCall]) -> bool {
        match calls {
            [call] if !self.depends(call) => self.alone += 1,
            _ => self.alone = 0,
        }
        let hint = self.alone >= HINT_AT && !self.hinted;
        self.hinted |= hint;
        hint
    }

    /// Takes note of the results.
    pub(super) fn results(&mut self, report: &Report) {
        for call in report {
            self.results.push_str(&call.content().to_text());
            self.results.push('\n');
        }
        self.forget();
    }

    fn forget(&mut self) {
        for text in [&mut self.asked, &mut self.results] {
            let from = text.ceil_char_boundary(text.len().saturating_sub(REMEMBERED));
            text.drain(..from);
        }
    }

    /// Whether a value among the arguments stems from an earlier result: it stands there, and not
    /// in what was asked.
    fn depends(&self, call: &ToolCall) -> bool {
        if self.results.is_empty() {
            return false;
        }
        let mut open = vec![serde_json::from_str::<Value>(call.arguments()).unwrap_or_default()];
        let mut left = LOOKED_AT;
        while let Some(value) = open.pop()
            && left > 0
        {
            left -= 1;
            let text = match value {
                Value::Array(elements) => {
                    open.extend(elements);
                    continue;
                }
                Value::Object(members) => {
                    open.extend(members.into_iter().map(|(_, value)| value));
                    continue;
                }
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                Value::Bool(_) | Value::Null => continue,
            };
            let text = text.trim();
            if text.chars().count() >= SHORTEST
                && self.results.contains(text)
                && !self.asked.contains(text)
            {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(arguments: &str) -> ToolCall {
        ToolCall::new("1", "f", arguments)
    }

    #[test]
    fn three_independent_calls_one_a_turn_are_worth_a_hint_once() {
        let results = "the customer is C-1042".to_owned();
        let mut watch = Independence { results, ..Independence::default() };
        assert!(!watch.calls(&[call(r#"{"city":"Bern"}"#)]));
        assert!(!watch.calls(&[call(r#"{"city":"Rome"}"#)]));
        assert!(watch.calls(&[call(r#"{"city":"Oslo"}"#)]));
        assert!(!watch.calls(&[call(r#"{"city":"Riga"}"#)]));
    }

    #[test]
    fn calls_that_take_a_value_from_a_result_depend_on_it() {
        let mut watch = Independence::new("look at 4711".to_owned(), String::new());
        watch.results = r#"{"customer":"C-1042","total":1200.5,"order":4711}"#.to_owned();
        let depends = |arguments: &str| watch.depends(&call(arguments));
        assert!(depends(r#"{"id":"C-1042"}"#));
        assert!(depends(r#"{"deep":[{"amount":1200.5}]}"#));
        assert!(!depends(r#"{"id":"C-9"}"#));
        assert!(!depends(r#"{"order":4711}"#), "the user named it first");
        assert!(!depends(r#"{"n":12,"s":"C-"}"#), "too short to tell");
        assert!(!depends("{}"));
        let among = |others: usize| {
            let others = ["not in any result"].repeat(others);
            depends(&serde_json::json!({ "ids": ["C-1042"], "others": others }).to_string())
        };
        assert!(among(10));
        assert!(!among(LOOKED_AT), "the hint isn't worth a search for any number of values");
        watch.alone = 2;
        assert!(!watch.calls(&[call(r#"{"id":"C-1042"}"#)]));
        assert_eq!(watch.alone, 0);
    }

    #[test]
    fn stored_figures_beyond_all_bounds_stop_at_the_highest() {
        let json = r#"{"secs":18446744073709551615,"nanos":999999999}"#;
        let report: Report = serde_json::from_str(&format!(
            r#"{{"calls":[{{"call":{{"name":"f","arguments":"{{}}"}},
                "outcome":{{"kind":"succeeded","detail":{{"type":"text","text":""}}}},
                "effect":"mutating","lane":"blocking","attempts":1,"submitted":{json},
                "started":{{"secs":0,"nanos":0}},"ended":{json}}}],
                "wall":{json},"message_ended":{json}}}"#
        ))
        .unwrap();
        let mut stats = AgentStats { turns: u64::MAX, calls: u64::MAX, ..AgentStats::default() };
        for _ in 0..2 {
            stats.turn(Usage::default());
            stats.batch(&report);
        }
        assert_eq!((stats.turns, stats.calls, stats.calling_turns), (u64::MAX, u64::MAX, 2));
        assert_eq!((stats.wall, stats.sequential), (Duration::MAX, Duration::MAX));
        assert!(report.timeline().to_string().starts_with("1 call: wall "));
        let mut twice = report.clone();
        twice.merge(report, &[0]);
        assert_eq!((twice.wall(), twice[0].submitted), (Duration::MAX, Duration::MAX));
    }

    #[test]
    fn calls_a_turn_are_counted_over_turns_with_calls() {
        let stats = AgentStats { turns: 9, calling_turns: 4, calls: 10, ..AgentStats::default() };
        assert!((stats.calls_per_turn() - 2.5).abs() < f64::EPSILON);
        assert!(AgentStats::default().calls_per_turn().abs() < f64::EPSILON);
    }
}
