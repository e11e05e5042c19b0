//! Ollama.

use super::*;
use crate::turn::StopKind;

const LINES: &[&str] = &[
    r#"{"model":"m","message":{"role":"assistant","content":"","thinking":"So "},"done":false}"#,
    r#"{"model":"m","message":{"role":"assistant","content":"","thinking":"be it"},"done":false}"#,
    r#"{"model":"m","message":{"role":"assistant","content":"Let me "},"done":false}"#,
    r#"{"model":"m","message":{"role":"assistant","content":"see"},"done":false}"#,
    r#"{"model":"m","message":{"role":"assistant","content":"","tool_calls":[{"function":{"name":"add","arguments":{"x": 1.50}}}]},"done":false}"#,
    r#"{"model":"m","message":{"role":"assistant","content":"","tool_calls":[{"id":"call_2","function":{"index":1,"name":"add","arguments":{}}}]},"done":false}"#,
    r#"{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","prompt_eval_count":3,"eval_count":4}"#,
];

fn stream(lines: &[&str]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

pub(super) fn text_and_calls() -> String {
    stream(LINES)
}

#[test]
fn lines_make_the_whole_body() {
    let whole = r#"{"message":{"role":"assistant","content":"Let me see","thinking":"So be it","tool_calls":[{"function":{"name":"add","arguments":{"x": 1.50}}},{"id":"call_2","function":{"index":1,"name":"add","arguments":{}}}]},"done":true,"done_reason":"stop","prompt_eval_count":3,"eval_count":4}"#;
    let turn = check(Wire::Ollama, stream(LINES), whole);
    assert_eq!(turn.usage().input_tokens, 3);
    let lines: Vec<_> = LINES.iter().map(|line| format!("{line}\n").into_bytes()).collect();
    let told = [("add", 4), ("add", 5)].map(|(name, at)| (name.to_owned(), at));
    assert_eq!(moments(Wire::Ollama, &lines), told);
    // A whole body is a stream of one line, whose end may be missing.
    check(Wire::Ollama, whole, whole);
    let pretty: serde_json::Value = serde_json::from_str(whole).unwrap();
    let pretty = serde_json::to_string_pretty(&pretty).unwrap();
    check(Wire::Ollama, &*pretty, &pretty);
    check(Wire::Ollama, format!("\n{pretty}\n"), &pretty);
    let cut = &pretty[..pretty.len() - 3];
    check_broken(
        Wire::Ollama,
        cut,
        "ollama body is not readable: the text ends too early at byte 490; it begins with: \
         {\\n  \"done\": true,\\n  \"done_reason\": \"stop\",\\n  \"eval_count\": 4,\\n  \"message\": …",
    );
}

#[test]
fn a_character_cut_in_two_comes_whole() {
    let lines = LINES.join("\n").replace("Let me ", r"Let me \ud83d").replace("see", r"\ude00 see");
    let whole =
        r#"{"message":{"role":"assistant","content":"Let me \ud83d\ude00 see"},"done":true}"#;
    let text = read_all_ways(Wire::Ollama, lines.as_bytes()).text;
    assert_eq!(text, Wire::Ollama.parse(whole).unwrap().text());
    let alone = lines.replace(r"\ude00", "");
    assert_eq!(read_all_ways(Wire::Ollama, alone.as_bytes()).text, "Let me \u{fffd} see");
}

#[test]
fn a_cut_message_runs_nothing() {
    let lines: Vec<_> = LINES.iter().map(|line| line.replace("\"stop\"", "\"length\"")).collect();
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    let turn = read_all_ways(Wire::Ollama, stream(&lines).as_bytes()).turn.unwrap();
    assert_eq!((turn.stop().kind, turn.calls().len()), (StopKind::MaxTokens, 2));
    assert!(
        turn.calls().iter().all(|call| matches!(call.state(), crate::call::CallState::Withheld(_)))
    );
}

#[test]
fn errors_and_streams_without_an_end() {
    let broken = |stream: String, why: &str| check_broken(Wire::Ollama, stream, why);
    broken(stream(&LINES[..6]), "ollama stream ended before the message did");
    broken(
        stream(&[LINES[0], r#"{"error":"model runner has stopped"}"#]),
        "ollama answered with an error: model runner has stopped",
    );
    broken(
        stream(&[LINES[0], "{\"message\":"]),
        "ollama stream is not readable: an event is no JSON: the text ends too early at byte 11; it begins with: {\"message\":",
    );
}
