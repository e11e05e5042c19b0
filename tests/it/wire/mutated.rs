//! Bodies of ours with bytes changed, cut, doubled and mixed: whatever they are, they are read or
//! refused, and what is read is answered.

use std::path::Path;
use std::sync::OnceLock;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use toolpool::{Turn, Wire};

use super::checker::check_reply;
use super::made_up::report;

/// Every body of every format.
fn bodies() -> &'static [(Wire, Vec<u8>)] {
    static BODIES: OnceLock<Vec<(Wire, Vec<u8>)>> = OnceLock::new();
    BODIES.get_or_init(|| {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wire");
        let mut bodies = Vec::new();
        for wire in Wire::ALL {
            let folder = std::fs::read_dir(fixtures.join(wire.name()));
            let mut paths: Vec<_> =
                folder.into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
            paths.sort();
            paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
            bodies.extend(paths.iter().map(|path| (wire, std::fs::read(path).unwrap())));
        }
        bodies
    })
}

#[derive(Debug, Clone)]
enum Change {
    /// Another byte.
    Set(u8),
    /// Bytes that mean something.
    Insert(&'static str),
    /// As many bytes taken out.
    Remove(usize),
    /// As many bytes written twice.
    Double(usize),
    /// All that follows taken out.
    Cut,
}

const PIECES: &[&str] = &[
    "null",
    "[]",
    "{}",
    "\"\"",
    "0",
    "-1e999",
    "\"",
    "\\",
    "\\ud800",
    ",",
    "{\"type\":\"error\"}",
    "\"tool_calls\":null,",
    "\"id\":\"\",",
    "\"name\":{},",
    "\"content\":[null],",
    "é",
];

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        any::<u8>().prop_map(Change::Set),
        proptest::sample::select(PIECES).prop_map(Change::Insert),
        (1..60_usize).prop_map(Change::Remove),
        (1..60_usize).prop_map(Change::Double),
        Just(Change::Cut),
    ]
}

fn changed(mut body: Vec<u8>, changes: &[(proptest::sample::Index, Change)]) -> Vec<u8> {
    for (at, change) in changes {
        if body.is_empty() {
            return body;
        }
        let at = at.index(body.len());
        let rest = body.len() - at;
        match change {
            Change::Set(byte) => body[at] = *byte,
            Change::Insert(piece) => drop(body.splice(at..at, piece.bytes())),
            Change::Remove(n) => drop(body.drain(at..at + rest.min(*n))),
            Change::Double(n) => {
                let twice = body[at..at + rest.min(*n)].to_vec();
                drop(body.splice(at..at, twice));
            }
            Change::Cut => body.truncate(at),
        }
    }
    body
}

/// The formats in which what the server did itself is echoed without being looked at.
const SERVER_RUN: [Wire; 3] = [Wire::Anthropic, Wire::Gemini, Wire::Bedrock];

fn check(turn: &Turn, is_of_its_wire: bool) {
    let report = report(turn, 0);
    assert_eq!(report.results().len(), turn.calls().len());
    let reply = turn.reply(&report);
    // A number beyond all bounds is JSON, but not to the checker.
    let can_be_checked = reply.iter().all(|message| message.to_value().is_ok());
    if is_of_its_wire && can_be_checked && !SERVER_RUN.contains(&turn.wire()) {
        check_reply(turn, &reply);
    }
}

/// The same cases each time, or `TOOLPOOL_FUZZ_CASES` new ones.
fn config() -> ProptestConfig {
    let cases = std::env::var("TOOLPOOL_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok());
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    match cases {
        Some(cases) => ProptestConfig { cases, ..config },
        None => ProptestConfig { cases: 4_000, rng_seed: RngSeed::Fixed(1), ..config },
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_changed_body_is_read_or_refused_and_never_a_panic(
        body in any::<proptest::sample::Index>(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), change()), 1..4),
        other in any::<proptest::sample::Index>(),
    ) {
        let (wire, body) = body.get(bodies());
        let body = changed(body.clone(), &changes);
        if let Ok(turn) = wire.parse(&body) {
            check(&turn, true);
        }
        // A body in another format than it is taken for.
        let other = *other.get(&Wire::ALL);
        if let Ok(turn) = other.parse(&body) {
            check(&turn, false);
        }
        let _ = Wire::detect(&body);
    }
}
