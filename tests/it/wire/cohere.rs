//! Cohere v2 chat.

use toolpool::{Turn, Wire};

use super::golden;
use super::openai::{calls_from_anywhere, lines, tools};

#[test]
fn bodies_and_replies_are_as_in_the_golden_files() {
    golden::check_folder(Wire::Cohere);
}

#[test]
fn calls_that_were_parsed_elsewhere_get_a_message() {
    let lines = lines(&calls_from_anywhere().for_wire(Wire::Cohere));
    assert_eq!(lines.len(), 5);
    assert!(lines[0].contains(r#""{\"input\":\"SELECT"#), "{lines:?}");
    let nothing = Turn::from_calls([]).for_wire(Wire::Cohere);
    assert_eq!(
        super::openai::lines(&nothing),
        [r#"{"role":"assistant","content":"(no content)"}"#]
    );
}

#[test]
fn there_are_functions_alone() {
    let tools = Wire::Cohere.tools(&tools());
    assert!(tools.as_str().ends_with(
        r#"{"type":"function","function":{"name":"write_sql","description":"Runs SQL","parameters":{"additionalProperties":false,"properties":{"input":{"type":"string"}},"required":["input"],"type":"object"}}}]"#
    ));
}
