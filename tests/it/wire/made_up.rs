//! Reports as an executor could have made them, without running anything.

use std::time::Duration;

use toolpool::{
    Block, CallState, Effect, Json, Lane, NotStarted, Outcome, Output, Rejected, Report, ToolCall,
    ToolError, ToolErrorKind, Turn,
};

/// A report in which the calls that may run ended in every way in turn, `shift` later, and the
/// others as they have to.
pub(crate) fn report(turn: &Turn, shift: usize) -> Report {
    let mut at = shift;
    report_with(turn, |call| match call.state() {
        CallState::Complete => {
            at += 1;
            outcome(at - 1)
        }
        CallState::Malformed(why) => Outcome::Rejected(Rejected::BadArguments(why)),
        CallState::Withheld(stop) => Outcome::NotStarted(NotStarted::Withheld(stop)),
        other => panic!("a state these tests don't know: {other:?}"),
    })
}

/// A report with these outcomes.
pub(crate) fn report_with(turn: &Turn, mut outcome: impl FnMut(&ToolCall) -> Outcome) -> Report {
    let calls = turn.calls().iter().map(|call| {
        serde_json::json!({
            "call": call,
            "outcome": outcome(call),
            "effect": Effect::ReadOnly,
            "lane": Lane::Blocking,
            "attempts": 1,
            "submitted": Duration::ZERO,
            "started": Duration::from_millis(1),
            "ended": Duration::from_millis(21),
            "notes": [],
        })
    });
    let calls: Vec<_> = calls.collect();
    let report = serde_json::json!({ "calls": calls, "wall": Duration::from_millis(22) });
    serde_json::from_value(report).unwrap()
}

/// How many outcomes there are before they repeat.
pub(crate) const OUTCOMES: usize = 8;

fn outcome(at: usize) -> Outcome {
    let png = || Block::Image { media_type: "image/png".into(), base64: "iVBORw0KGgo=".into() };
    match at % OUTCOMES {
        0 => Outcome::Succeeded(Output::text("15 °C and \"dry\"\n")),
        1 => Outcome::Succeeded(json(r#"{"b":1.50,"a":[null]}"#)),
        2 => Outcome::Failed(ToolError::new(ToolErrorKind::NotFound, "no such city")),
        3 => Outcome::Succeeded(json("[1,2]")),
        4 => Outcome::Succeeded(Output::blocks([
            Block::text("a map"),
            png(),
            Block::Document {
                media_type: "application/pdf".into(),
                base64: "JVBERi0xLjQK".into(),
                name: Some("maps (2).pdf".into()),
            },
            Block::Image { media_type: "image/tiff".into(), base64: "SUkqAA==".into() },
            Block::Document { media_type: "audio/mpeg".into(), base64: "SUQz".into(), name: None },
        ])),
        5 => Outcome::Succeeded(Output::text("")),
        6 => Outcome::Succeeded(Output::blocks([png(), Block::text("")])),
        _ => Outcome::Panicked(None),
    }
}

fn json(text: &str) -> Output {
    Output::json(&Json::parse(text).unwrap())
}
