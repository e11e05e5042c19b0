//! Bodies of ours with values changed, taken out, repeated and moved: what is read of them is
//! answered as the provider demands.

use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::Value;
use toolpool::Wire;

use super::checker::broken_rules;
use super::made_up::{OUTCOMES, report};
use crate::faults::harness::inputs;

/// The formats whose echo is repaired whatever stands in it. The others' odd parts go back as they
/// came.
const WIRES: [Wire; 3] = [Wire::Anthropic, Wire::Bedrock, Wire::Gemini];

/// Their bodies.
static BODIES: LazyLock<Vec<(Wire, String)>> = LazyLock::new(|| {
    let mut bodies = Vec::new();
    for wire in WIRES {
        let folder = format!("tests/fixtures/wire/{wire}");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "json") {
                bodies.push((wire, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    bodies.sort_by(|a, b| (a.0.name(), &a.1).cmp(&(b.0.name(), &b.1)));
    bodies
});

/// What is put in the place of a value.
const VALUES: &[&str] = &[
    "null",
    "true",
    "7",
    "-1",
    "1.5",
    r#""""#,
    r#"" ""#,
    r#""x""#,
    r#""a b\n""#,
    "[]",
    "[null]",
    "{}",
    "[{}]",
    r#"{"type":"tool_use"}"#,
    r#"{"text":""}"#,
    r#"{"functionCall":{}}"#,
    r#""tool_use""#,
    r#""server_tool_use""#,
    r#""max_tokens""#,
    r#""length""#,
    r#""{\"a\":1}""#,
    r#""{\"a\":""#,
    r#""\u0000""#,
    r#""multi_tool_use.parallel""#,
];

/// One change to a tree.
#[derive(Debug, Clone)]
enum Change {
    Replace(Index, &'static str),
    Remove(Index),
    Repeat(Index),
    Move(Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        3 => (at(), select(VALUES)).prop_map(|(at, value)| Change::Replace(at, value)),
        1 => at().prop_map(Change::Remove),
        1 => at().prop_map(Change::Repeat),
        1 => (at(), at()).prop_map(|(from, to)| Change::Move(from, to)),
    ]
}

/// The nodes of a tree, as pointers.
fn pointers(value: &Value, here: String, found: &mut Vec<String>) {
    match value {
        Value::Array(values) => {
            for (at, value) in values.iter().enumerate() {
                pointers(value, format!("{here}/{at}"), found);
            }
        }
        Value::Object(members) => {
            for (key, value) in members {
                let key = key.replace('~', "~0").replace('/', "~1");
                pointers(value, format!("{here}/{key}"), found);
            }
        }
        _ => {}
    }
    found.push(here);
}

fn apply(body: &mut Value, change: &Change) {
    let mut all = Vec::new();
    pointers(body, String::new(), &mut all);
    match change {
        Change::Replace(at, value) => {
            *body.pointer_mut(at.get(&all).as_str()).unwrap() =
                serde_json::from_str(value).unwrap();
        }
        Change::Remove(at) => {
            let (parent, key) = at.get(&all).rsplit_once('/').unwrap_or_default();
            match body.pointer_mut(parent).unwrap() {
                Value::Array(values) if !key.is_empty() => {
                    drop(values.remove(key.parse().unwrap()))
                }
                Value::Object(members) => drop(members.remove(key)),
                _ => {}
            }
        }
        Change::Repeat(at) => {
            let (parent, key) = at.get(&all).rsplit_once('/').unwrap_or_default();
            if let Value::Array(values) = body.pointer_mut(parent).unwrap()
                && !key.is_empty()
            {
                let repeated = values[key.parse::<usize>().unwrap()].clone();
                values.push(repeated);
            }
        }
        Change::Move(from, to) => {
            let moved = body.pointer(from.get(&all).as_str()).unwrap().clone();
            *body.pointer_mut(to.get(&all).as_str()).unwrap() = moved;
        }
    }
}

fn check(wire: Wire, body: &Value, shift: usize) -> Result<(), TestCaseError> {
    let Ok(turn) = wire.parse(body) else { return Ok(()) };
    let report = report(&turn, shift);
    prop_assert_eq!(report.results().len(), turn.calls().len());
    let messages = turn.reply(&report);
    let broken = broken_rules(&turn, &messages);
    prop_assert!(broken.is_empty(), "{wire} {body}\n{broken:#?}\n{messages:#?}");
    prop_assert_eq!(turn.reply(&report), messages);
    Ok(())
}

proptest! {
    #![proptest_config(inputs())]

    #[test]
    fn fault_097_reshaped_bodies_are_answered_as_the_provider_demands(
        which in any::<Index>(),
        changes in proptest::collection::vec(change(), 1..6),
        shift in 0..OUTCOMES,
    ) {
        let (wire, body) = which.get(&BODIES);
        let Ok(mut body) = serde_json::from_str::<Value>(body) else { return Ok(()) };
        for change in &changes {
            apply(&mut body, change);
        }
        check(*wire, &body, shift)?;
    }
}
