//! OpenAI Chat Completions and compatible servers.

use toolpool::{Output, Report, Tool, ToolCall, ToolSet, Turn, Wire};

use super::checker::check_reply;
use super::golden;
use super::made_up::report;

#[test]
fn bodies_and_replies_are_as_in_the_golden_files() {
    golden::check_folder(Wire::OpenAi);
}

/// Calls as nobody should make them.
pub(crate) fn calls_from_anywhere() -> Turn {
    Turn::from_calls([
        ToolCall::new("toolu_1", "get_time", r#"{"zone": "Europe/Oslo"}"#),
        ToolCall::new("toolu_1", "get time", ""),
        ToolCall::new("", "add", r#"{"x":"#).without_id(),
        ToolCall::free_text("x".repeat(65), "write_sql", "SELECT \"a\"\n"),
    ])
}

pub(crate) fn lines(turn: &Turn) -> Vec<String> {
    let messages = turn.reply(&report(turn, 0));
    check_reply(turn, &messages);
    messages.iter().map(ToString::to_string).collect()
}

#[test]
fn calls_that_were_parsed_elsewhere_get_a_message() {
    let lines = lines(&calls_from_anywhere());
    assert_eq!(
        lines[0],
        r#"{"role":"assistant","content":null,"tool_calls":["#.to_owned()
            + r#"{"id":"toolu_1","type":"function","function":{"name":"get_time","arguments":"{\"zone\": \"Europe/Oslo\"}"}},"#
            + r#"{"id":"call_5fb4a3b5a0ed79bf","type":"function","function":{"name":"get_time","arguments":"{}"}},"#
            + r#"{"id":"call_31a9337b9b39fd66","type":"function","function":{"name":"add","arguments":"{}"}},"#
            + r#"{"id":"call_ac29db9ed5929781","type":"custom","custom":{"name":"write_sql","input":"SELECT \"a\"\n"}}]}"#
    );
    assert_eq!(lines.len(), 5);
    assert_eq!(
        lines[3],
        r#"{"role":"tool","tool_call_id":"call_31a9337b9b39fd66","content":"add was not run: the text ends too early at byte 5\nthe arguments were: {\"x\":"}"#
    );
}

#[test]
fn a_turn_without_calls_is_a_message_alone() {
    let message = r#"{"role":"assistant","content":"(no content)"}"#;
    assert_eq!(lines(&Turn::from_calls([])), [message]);
}

#[test]
fn the_message_goes_with_its_own_format_alone() {
    let body = r#"{"message":{"role":"assistant","tool_calls":[{"function":{"name":"now","arguments":{}}}]},"done":true}"#;
    let turn = Wire::Ollama.parse(body).unwrap().for_wire(Wire::OpenAi);
    let lines = lines(&turn);
    assert!(lines[0].contains(r#""arguments":"{}""#), "{lines:?}");
    assert_eq!(lines.len(), 2);
}

#[test]
fn results_unpacked_from_one_call_stand_alone_in_another_format() {
    let body = include_str!("../../fixtures/wire/openai/multi-tool-use.json");
    let turn = Wire::OpenAi.parse(body).unwrap();
    assert_eq!((turn.calls().len(), lines(&turn).len()), (4, 3));
    assert_eq!(lines(&turn.for_wire(Wire::Cohere)).len(), 5);
}

/// Whoever makes a report of his own may make one that doesn't fit.
#[test]
fn a_report_of_another_turn_answers_every_call_all_the_same() {
    let body = include_str!("../../fixtures/wire/openai/parallel.json");
    let turn = Wire::OpenAi.parse(body).unwrap();
    let none: Report = serde_json::from_str(r#"{"calls":[],"wall":{"secs":0,"nanos":0}}"#).unwrap();
    let messages = turn.reply(&none);
    check_reply(&turn, &messages);
    assert_eq!(messages.len(), 4);
    assert!(messages[1].as_str().contains("no result of this call is known"), "{messages:?}");
    let other = report(&calls_from_anywhere(), 0);
    check_reply(&turn, &turn.reply(&other));
}

/// A set with a tool of each kind.
pub(crate) fn tools() -> ToolSet {
    let add = serde_json::json!({ "type": "object", "properties": { "x": { "type": "number" } } });
    let sql = serde_json::json!({ "type": "object" });
    ToolSet::new()
        .with(Tool::new("now", "The time", || Ok("noon")))
        .with(Tool::with_schema("add", "", &add, |_: serde_json::Value| Ok(Output::text(""))))
        .with(
            Tool::with_schema("write_sql", "Runs SQL", &sql, |sql: serde_json::Value| Ok(sql))
                .takes_free_text(),
        )
}

#[test]
fn tools_are_declared_in_their_order() {
    assert_eq!(
        Wire::OpenAi.tools(&tools()).as_str(),
        r#"[{"type":"function","function":{"name":"now","description":"The time","parameters":{"properties":{},"type":"object"}}},"#
            .to_owned()
            + r#"{"type":"function","function":{"name":"add","parameters":{"properties":{"x":{"type":"number"}},"type":"object"}}},"#
            + r#"{"type":"custom","custom":{"name":"write_sql","description":"Runs SQL"}}]"#
    );
    assert_eq!(Wire::OpenAi.tools(&ToolSet::new()).as_str(), "[]");
}
