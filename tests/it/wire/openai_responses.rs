//! OpenAI Responses.

use toolpool::{Turn, Wire};

use super::golden;
use super::openai::{calls_from_anywhere, lines, tools};

#[test]
fn bodies_and_replies_are_as_in_the_golden_files() {
    golden::check_folder(Wire::OpenAiResponses);
}

#[test]
fn calls_that_were_parsed_elsewhere_get_items() {
    let lines = lines(&calls_from_anywhere().for_wire(Wire::OpenAiResponses));
    assert_eq!(lines.len(), 8);
    assert_eq!(
        lines[0],
        r#"{"type":"function_call","call_id":"toolu_1","name":"get_time","arguments":"{\"zone\": \"Europe/Oslo\"}"}"#
    );
    assert!(lines[3].starts_with(r#"{"type":"custom_tool_call","call_id":"call_"#), "{lines:?}");
    assert!(lines[7].starts_with(r#"{"type":"custom_tool_call_output","call_id":"call_"#));
    let nothing = Turn::from_calls([]).for_wire(Wire::OpenAiResponses);
    assert!(super::openai::lines(&nothing).is_empty());
}

#[test]
fn tools_are_declared_in_their_order() {
    assert_eq!(
        Wire::OpenAiResponses.tools(&tools()).as_str(),
        r#"[{"type":"function","name":"now","description":"The time","parameters":{"properties":{},"type":"object"},"strict":false},"#
            .to_owned()
            + r#"{"type":"function","name":"add","parameters":{"properties":{"x":{"type":"number"}},"type":"object"},"strict":false},"#
            + r#"{"type":"custom","name":"write_sql","description":"Runs SQL"}]"#
    );
}
