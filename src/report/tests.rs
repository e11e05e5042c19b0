use std::path::PathBuf;

use super::*;
use crate::error::{ToolError, ToolErrorKind};
use crate::outcome::{Limit, NotStarted, Rejected};
use crate::output::Block;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn abort(index: Option<usize>, cause: &str, satisfied: bool) -> Abort {
    Abort { index, cause: cause.to_owned(), satisfied }
}

/// Every kind of outcome at least once; [`kind`] keeps count.
fn outcomes() -> Vec<Outcome> {
    let document = Block::Document {
        media_type: "application/pdf".to_owned(),
        base64: "JVBERi0=".to_owned(),
        name: Some("report.pdf".to_owned()),
    };
    let image = Block::Image { media_type: "image/png".to_owned(), base64: "iVBORw0=".to_owned() };
    let timed_out =
        |limit, still_running| Outcome::TimedOut { limit, after: secs(3), still_running };
    let kinds = [
        ToolErrorKind::Other,
        ToolErrorKind::InvalidArguments,
        ToolErrorKind::NotFound,
        ToolErrorKind::PermissionDenied,
        ToolErrorKind::Conflict,
        ToolErrorKind::RateLimited,
        ToolErrorKind::Unavailable,
        ToolErrorKind::TimedOut,
        ToolErrorKind::Cancelled,
        ToolErrorKind::BadResult,
    ];
    let mut all = vec![
        Outcome::Succeeded(Output::text("done")),
        Outcome::Succeeded(Output::Json { text: "{\"b\":1.50,\"a\":2}".to_owned() }),
        Outcome::Succeeded(Output::blocks([Block::text("a map"), image, document])),
        Outcome::Failed(ToolError::from("no customer has the number 7")),
        Outcome::Failed(ToolError::from(" ")),
        Outcome::Failed(
            ToolError::of_kind(ToolErrorKind::Unavailable)
                .with_details("10.0.0.1: connection refused")
                .with_retry_after(Duration::from_millis(1500))
                .safe_to_retry(),
        ),
    ];
    all.extend(kinds.map(|kind| Outcome::Failed(ToolError::of_kind(kind))));
    all.extend([
        Outcome::Panicked(Some("index out of bounds".to_owned())),
        Outcome::Panicked(None),
        timed_out(Limit::Timeout, true),
        timed_out(Limit::Timeout, false),
        timed_out(Limit::Deadline, true),
        timed_out(Limit::Deadline, false),
        Outcome::Cancelled { started: true, abort: None },
        Outcome::Cancelled { started: false, abort: None },
        Outcome::Cancelled { started: true, abort: Some(abort(Some(2), "get_orders", false)) },
        Outcome::Cancelled { started: true, abort: Some(abort(Some(2), "get_orders", true)) },
        Outcome::Cancelled {
            started: false,
            abort: Some(abort(None, "the policy panicked", false)),
        },
    ]);
    let not_started = [
        NotStarted::Deadline,
        NotStarted::Timeout,
        NotStarted::Aborted(abort(Some(2), "get_orders", false)),
        NotStarted::NotNeeded,
        NotStarted::Shutdown,
        NotStarted::NoThread,
        NotStarted::KeyHeld { index: Some(1), tool: "write_file".to_owned() },
        NotStarted::KeyHeld { index: None, tool: "write_file".to_owned() },
        NotStarted::GroupPaused,
        NotStarted::CircuitOpen,
        NotStarted::Withheld("max_tokens".to_owned()),
        NotStarted::StreamBroken,
        NotStarted::Deferred,
    ];
    all.extend(not_started.map(Outcome::NotStarted));
    let rejected = [
        Rejected::UnknownTool {
            nearest: Some("get_orders".to_owned()),
            available: vec!["get_orders".to_owned(), "refund".to_owned()],
            more: 3,
        },
        Rejected::UnknownTool { nearest: None, available: vec!["refund".to_owned()], more: 0 },
        Rejected::UnknownTool { nearest: None, available: Vec::new(), more: 0 },
        Rejected::BadArguments("invalid arguments: expected ':' at byte 5".to_owned()),
        Rejected::TooManyCalls(128),
        Rejected::Denied("ask finance first".to_owned()),
        Rejected::Denied(String::new()),
        Rejected::Busy,
        Rejected::AbandonedLimit,
        Rejected::TooDeep(3),
        Rejected::WouldDeadlock("the key order/7".to_owned()),
    ];
    all.extend(rejected.map(Outcome::Rejected));
    all
}

/// A number for each kind, so that a new one can't be forgotten above.
fn kind(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Succeeded(Output::Text { .. }) => 0,
        Outcome::Succeeded(Output::Json { .. }) => 1,
        Outcome::Succeeded(Output::Blocks { .. }) => 2,
        Outcome::Failed(_) => 3,
        Outcome::Panicked(_) => 4,
        Outcome::TimedOut { .. } => 5,
        Outcome::Cancelled { .. } => 6,
        Outcome::NotStarted(reason) => match reason {
            NotStarted::Deadline => 7,
            NotStarted::Timeout => 8,
            NotStarted::Aborted(_) => 9,
            NotStarted::NotNeeded => 10,
            NotStarted::Shutdown => 11,
            NotStarted::NoThread => 12,
            NotStarted::KeyHeld { .. } => 13,
            NotStarted::GroupPaused => 14,
            NotStarted::CircuitOpen => 15,
            NotStarted::Withheld(_) => 16,
            NotStarted::StreamBroken => 17,
            NotStarted::Deferred => 18,
        },
        Outcome::Rejected(reason) => match reason {
            Rejected::UnknownTool { .. } => 19,
            Rejected::BadArguments(_) => 20,
            Rejected::TooManyCalls(_) => 21,
            Rejected::Denied(_) => 22,
            Rejected::Busy => 23,
            Rejected::AbandonedLimit => 24,
            Rejected::TooDeep(_) => 25,
            Rejected::WouldDeadlock(_) => 26,
        },
    }
}

fn report_of(call: ToolCall, outcome: Outcome, effect: Effect) -> CallReport {
    CallReport {
        call,
        outcome,
        effect,
        lane: Lane::Blocking,
        attempts: 1,
        submitted: Duration::ZERO,
        started: Some(Duration::from_micros(1500)),
        ended: secs(3),
        notes: Vec::new(),
    }
}

fn refund(outcome: Outcome, effect: Effect) -> CallReport {
    report_of(ToolCall::new("call_1", "refund", r#"{"order": 7}"#), outcome, effect)
}

/// Compares with a file that `UPDATE_GOLDEN=1` writes anew.
#[track_caller]
fn check_golden(name: &str, made: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/report").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(golden, made, "not as in {} (UPDATE_GOLDEN=1 renews it)", path.display());
}

#[test]
fn the_lists_leave_out_no_kind_of_outcome() {
    let mut kinds: Vec<_> = outcomes().iter().map(kind).collect();
    kinds.dedup();
    assert_eq!(kinds, (0..27).collect::<Vec<_>>());
}

#[test]
fn what_the_model_is_told_of_every_outcome_and_effect() {
    let mut golden = String::new();
    for outcome in outcomes() {
        let told = [Effect::ReadOnly, Effect::Idempotent, Effect::Mutating].map(|effect| {
            let report = refund(outcome.clone(), effect);
            assert_eq!(report.is_error(), !outcome.is_success());
            let told = report.content().to_text();
            assert!(!told.trim().is_empty(), "{outcome:?}");
            told
        });
        golden += &format!("{}\n", outcome.name());
        let [reads, idempotent, mutates] = told;
        if reads == idempotent && reads == mutates {
            golden += &format!("    {reads}\n");
        } else {
            golden += &format!("    read-only:  {reads}\n");
            golden += &format!("    idempotent: {idempotent}\n");
            golden += &format!("    mutating:   {mutates}\n");
        }
    }
    check_golden("words.golden", &golden);
}

#[test]
fn the_json_of_every_outcome_is_stable_and_read_back() {
    let mut golden = String::new();
    for outcome in outcomes() {
        let json = serde_json::to_string(&outcome).unwrap();
        assert_eq!(serde_json::from_str::<Outcome>(&json).unwrap(), outcome);
        // A tree keeps no order of keys, so reading must not depend on it.
        let tree: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(serde_json::from_value::<Outcome>(tree).unwrap(), outcome);
        golden += &format!("{json}\n");
    }
    check_golden("outcomes.golden", &golden);
}

#[test]
fn a_report_is_read_back_as_it_was() {
    let calls = [
        ToolCall::new("call_1", "refund", r#"{"order": 7,  "note":"\ud83d\ude00"}"#),
        ToolCall::new("", "", ""),
        ToolCall::new("id", "refund", r#"{"order": "#),
        ToolCall::new("id", "refund", r#"{"a":1,"a":2}"#).without_id(),
        ToolCall::new("id", "refund", "[1]").withheld("max_tokens"),
        ToolCall::new("id", "refund", "{}").withheld("refusal").in_namespace("shop"),
        ToolCall::new("id", "refund", "{}").malformed("the stream broke off"),
        ToolCall::free_text("id", "sql", "select \"a\"\n"),
        ToolCall::new("id", "refund", "{}").at_element(3),
    ];
    let notes = vec![
        Note::Fallback(Box::new(Outcome::Panicked(None))),
        Note::Cut(1_048_576),
        Note::MediaLeftOut(7),
        Note::DuplicateId(0),
        Note::CoalescedWith(1),
        Note::Edited(r#"{"order": 8}"#.to_owned()),
        Note::ProgressDropped(5),
        Note::Replaced,
    ];
    let calls = calls.into_iter().map(|call| CallReport {
        notes: notes.clone(),
        ..report_of(call, Outcome::NotStarted(NotStarted::Deadline), Effect::Idempotent)
    });
    let aborted = Some(abort(Some(1), "refund", false));
    let report = Report::new(calls.collect(), Duration::new(3, 7), aborted);
    let json = serde_json::to_string(&report).unwrap();
    let again: Report = serde_json::from_str(&json).unwrap();
    assert_eq!(again, report);
    assert_eq!(serde_json::to_string(&again).unwrap(), json);
    for (before, after) in report.calls().iter().zip(again.calls()) {
        assert_eq!(before.call.state(), after.call.state());
        assert_eq!(before.call.scanned(), after.call.scanned());
        assert_eq!(before.call.has_id(), after.call.has_id());
    }
}

#[test]
fn figures_of_a_report_add_up_and_never_overflow() {
    let with = |started: Option<u64>, ended| CallReport {
        started: started.map(secs),
        ended: secs(ended),
        ..refund(Outcome::Succeeded("done".into()), Effect::ReadOnly)
    };
    let report =
        Report::new(vec![with(Some(1), 4), with(Some(0), 2), with(None, 4)], secs(4), None);
    assert_eq!(report.sequential(), secs(5));
    assert_eq!(report.saved(), secs(1));
    assert!((report.speedup() - 1.25).abs() < 1e-9);
    assert_eq!(report[0].queue_wait(), secs(1));
    assert_eq!((report[2].queue_wait(), report[2].run_time()), (secs(4), Duration::ZERO));

    let early = report.with_message_ended(Some(secs(3)));
    assert_eq!((early.sequential(), early.saved()), (secs(5), secs(4)));
    assert!((early.speedup() - 2.0).abs() < 1e-9);

    let endless = CallReport { ended: Duration::MAX, ..with(Some(0), 0) };
    let report = Report::new(vec![endless.clone(), endless], Duration::ZERO, None);
    assert_eq!(report.sequential(), Duration::MAX);
    assert_eq!(report.speedup(), 1.0);
    let mut stored = report.clone().with_message_ended(Some(Duration::MAX));
    assert_eq!((stored.saved(), stored.saved_by_early_start()), (Duration::MAX, Duration::MAX));
    stored.merge(Report::new(vec![with(Some(1), 2), with(Some(1), 2)], Duration::MAX, None), &[0]);
    stored.merge(Report::new(vec![with(Some(1), 2), with(Some(1), 2)], secs(1), None), &[1]);
    assert_eq!((stored[1].submitted, stored.wall()), (Duration::MAX, Duration::MAX));
    let last = abort(Some(usize::MAX), "pay", false);
    assert_eq!(last.to_string(), format!("call {} (pay) failed", usize::MAX));
    let held = NotStarted::KeyHeld { index: Some(usize::MAX), tool: "pay".to_owned() };
    stored.replace(0, Outcome::NotStarted(held));
    assert!(stored[0].content().to_text().starts_with(&format!("not run: call {}", usize::MAX)));
    let backwards = with(Some(9), 4);
    assert_eq!(backwards.run_time(), Duration::ZERO);
}

#[test]
fn every_text_that_the_model_reads_can_be_redacted() {
    let hide = |text: &str| text.replace("s3cret", "***");
    let secret = || "s3cret".to_owned();
    let document = Block::Document {
        media_type: "application/pdf".to_owned(),
        base64: "AAAA".to_owned(),
        name: Some(secret()),
    };
    let of = |outcome| refund(outcome, Effect::Mutating);
    let mut calls = vec![
        of(Outcome::Succeeded(Output::text("a s3cret"))),
        of(Outcome::Succeeded(Output::Json { text: r#"{"key":"s3cret"}"#.to_owned() })),
        of(Outcome::Succeeded(Output::blocks([Block::text("s3cret"), document]))),
        of(Outcome::Failed(ToolError::from("s3cret").with_details("s3cret"))),
        of(Outcome::Panicked(Some(secret()))),
        of(Outcome::Cancelled { started: true, abort: Some(abort(None, "s3cret", false)) }),
        of(Outcome::NotStarted(NotStarted::Aborted(abort(Some(0), "s3cret", false)))),
        of(Outcome::NotStarted(NotStarted::KeyHeld { index: None, tool: secret() })),
        of(Outcome::NotStarted(NotStarted::Withheld(secret()))),
        of(Outcome::Rejected(Rejected::BadArguments(secret()))),
        of(Outcome::Rejected(Rejected::Denied(secret()))),
        of(Outcome::Rejected(Rejected::WouldDeadlock(secret()))),
    ];
    calls[0].notes.push(Note::Fallback(Box::new(Outcome::Panicked(Some(secret())))));
    let mut report = Report::new(calls, secs(1), Some(abort(None, "s3cret", false)));
    assert!(serde_json::to_string(&report).unwrap().contains("s3cret"));
    report.redact(hide);
    let text = serde_json::to_string(&report).unwrap();
    assert!(!text.contains("s3cret"), "{text}");
    assert_eq!(report[1].content(), Output::Json { text: r#"{"key":"***"}"#.to_owned() });
}

#[test]
fn an_outcome_can_be_replaced_once_or_often() {
    let before = Outcome::Succeeded("a".into());
    let mut report = Report::new(vec![refund(before.clone(), Effect::ReadOnly)], secs(1), None);
    assert_eq!(report.replace(0, Outcome::Succeeded("b".into())), Some(before));
    assert!(report.replace(0, Outcome::Succeeded("c".into())).is_some());
    assert_eq!(report.replace(1, Outcome::Panicked(None)), None);
    assert_eq!(report[0].notes, [Note::Replaced]);
    assert_eq!(report.results().next().map(|result| result.content), Some("c".into()));
}

#[test]
fn only_a_failure_makes_a_report_an_error() {
    let report = |aborted| Report::new(Vec::new(), secs(1), aborted);
    assert!(report(None).into_result().is_ok());
    assert!(report(Some(abort(Some(0), "a", true))).into_result().is_ok());
    let error = report(Some(abort(Some(0), "a", false))).into_result().unwrap_err();
    assert!(error.is_aborted());
    assert_eq!(error.to_string(), "the batch was aborted: call 1 (a) failed");
}

#[test]
fn odd_names_are_escaped_and_bounded_in_sentences() {
    let told = |name: &str| {
        let call = ToolCall::new("1", name, "{}");
        let outcome = Outcome::Rejected(Rejected::UnknownTool {
            nearest: None,
            available: vec!["refund".to_owned()],
            more: 0,
        });
        report_of(call, outcome, Effect::Mutating).content().to_text()
    };
    assert_eq!(told(""), r#"there is no tool "". The tools are: refund"#);
    assert_eq!(told("a\nb\u{1b}[31m"), r"there is no tool a\nb\u{1b}[31m. The tools are: refund");
    assert!(told(&"x".repeat(10_000)).len() < 200);
}
