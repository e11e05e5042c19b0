//! A folder of bodies for each format; beside each body what is made of it. `UPDATE_GOLDEN=1`
//! writes that anew.

use std::fmt::Write as _;
use std::path::Path;

use toolpool::{CallState, Turn, Wire};

use super::checker::check_reply;
use super::made_up::report;
use super::openai::{calls_from_anywhere, tools};

/// Reads every `NAME.json` of the format's folder and compares what is made of it with
/// `NAME.golden`.
pub(crate) fn check_folder(wire: Wire) {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wire").join(wire.name());
    let mut bodies: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    bodies.sort();
    assert!(!bodies.is_empty(), "no bodies in {}", folder.display());
    let mut differing = Vec::new();
    for body in bodies {
        let made = describe(wire, &std::fs::read(&body).unwrap());
        differing.extend(difference(&body.with_extension("golden"), &made));
    }
    none_differ(&differing);
}

/// Compares what is made of no body with `NAME.golden` of the format's folder.
pub(crate) fn check_made(wire: Wire, name: &str, made: &str) {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wire").join(wire.name());
    let differing: Vec<_> = difference(&folder.join(name), made).into_iter().collect();
    none_differ(&differing);
}

fn difference(golden: &Path, made: &str) -> Option<String> {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden, made).unwrap();
        return None;
    }
    let expected = std::fs::read_to_string(golden).ok();
    (expected.as_deref() != Some(made)).then(|| format!("{}\n{made}", golden.display()))
}

fn none_differ(differing: &[String]) {
    assert!(
        differing.is_empty(),
        "not as in the golden files (UPDATE_GOLDEN=1 renews them):\n{}",
        differing.join("\n")
    );
}

fn describe(wire: Wire, body: &[u8]) -> String {
    let mut out = String::new();
    let turn = match wire.parse(body) {
        Ok(turn) => turn,
        Err(error) => return format!("error: {error}\n"),
    };
    describe_turn(&mut out, &turn);
    describe_reply(&mut out, &turn);
    out
}

fn describe_reply(out: &mut String, turn: &Turn) {
    let report = report(turn, 0);
    let messages = turn.reply(&report);
    check_reply(turn, &messages);
    for message in &messages {
        writeln!(out, "message: {message}").unwrap();
    }
    for repair in turn.repairs(&report) {
        let index = repair.index.map_or("-".to_owned(), |index| index.to_string());
        writeln!(out, "repair {index}: {}", repair.what).unwrap();
    }
}

/// The tool definitions, and the reply to calls as nobody should make them.
pub(crate) fn check_what_is_made(wire: Wire) {
    let mut made = format!("tools: {}\n", wire.tools(&tools()));
    let turns = [calls_from_anywhere(), Turn::from_calls([])];
    for turn in turns.map(|turn| turn.for_wire(wire)) {
        describe_reply(&mut made, &turn);
    }
    check_made(wire, "made.golden", &made);
}

fn describe_turn(out: &mut String, turn: &Turn) {
    let stop = turn.stop();
    writeln!(out, "stop: {:?} {:?}", stop.kind, stop.raw).unwrap();
    writeln!(out, "usage: {}", serde_json::to_string(&turn.usage()).unwrap()).unwrap();
    if !turn.text().is_empty() {
        writeln!(out, "text: {:?}", turn.text()).unwrap();
    }
    for call in turn.calls() {
        let id = if call.has_id() { format!("{:?}", call.id()) } else { "no id".to_owned() };
        write!(out, "call: {id} {:?} {}", call.name(), call.arguments()).unwrap();
        if let Some(namespace) = call.namespace() {
            write!(out, ", in {namespace:?}").unwrap();
        }
        match call.state() {
            CallState::Complete => {}
            state => write!(out, ", {state:?}").unwrap(),
        }
        writeln!(out).unwrap();
    }
}
