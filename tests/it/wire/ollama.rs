//! Ollama `/api/chat`.

use toolpool::{Turn, Wire};

use super::golden;
use super::openai::{calls_from_anywhere, lines, tools};

#[test]
fn bodies_and_replies_are_as_in_the_golden_files() {
    golden::check_folder(Wire::Ollama);
}

#[test]
fn calls_that_were_parsed_elsewhere_get_a_message() {
    let lines = lines(&calls_from_anywhere().for_wire(Wire::Ollama));
    assert_eq!(lines.len(), 5);
    assert!(lines[0].contains(r#""arguments":{"input":"SELECT \"a\"\n"}"#), "{lines:?}");
    let nothing = Turn::from_calls([]).for_wire(Wire::Ollama);
    assert_eq!(super::openai::lines(&nothing), [r#"{"role":"assistant","content":""}"#]);
}

#[test]
fn there_are_functions_alone() {
    let tools = Wire::Ollama.tools(&tools());
    assert!(tools.as_str().ends_with(
        r#"{"type":"function","function":{"name":"write_sql","description":"Runs SQL","parameters":{"additionalProperties":false,"properties":{"input":{"type":"string"}},"required":["input"],"type":"object"}}}]"#
    ));
}
