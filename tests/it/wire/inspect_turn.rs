//! The example `inspect_turn`, run as a program.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use crate::machine;

/// The program, built as the tests are: an example has no name in the environment.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let _alone = machine::alone();
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "--quiet", "--example", "inspect_turn", "--message-format=json"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let messages = String::from_utf8(built.stdout).unwrap();
        let executable = messages
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)));
        executable.expect("cargo names the executable it built")
    })
}

fn run(args: &[&str], body: &str) -> Output {
    let mut child = Command::new(program())
        .args(args)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wire"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that doesn't read its input may be gone already.
    let _ = child.stdin.take().unwrap().write_all(body.as_bytes());
    child.wait_with_output().unwrap()
}

fn lines(args: &[&str], body: &str, expected: &[&str]) {
    let output = run(args, body);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
    assert_eq!(output.status.code(), Some(0), "{args:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed.lines().collect::<Vec<_>>(), expected, "{args:?}");
}

fn refused(args: &[&str], body: &str, code: i32, what: &str) {
    let output = run(args, body);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    assert!(said.contains(what), "{args:?}: {said}");
    assert_eq!(said.matches('\n').count(), 1, "{args:?}: {said}");
    assert!(output.stdout.is_empty(), "{args:?}");
}

#[test]
fn calls_are_printed_as_json_lines() {
    lines(
        &["openai/cut-by-length.json"],
        "",
        &[
            r#"{"id":"call_a1","name":"get_weather","arguments":{"city":"Oslo"},"withheld":"length"}"#,
            r#"{"id":"call_a2","name":"file_report","malformed":"{\"summary\": \"The ca","error":"the text ends too early at byte 19","withheld":"length"}"#,
        ],
    );
    lines(
        &["--wire", "openai", "openai/custom-tool.json"],
        "",
        &[
            r#"{"id":"call_1","name":"write_sql","arguments":"SELECT \"a\"\nFROM t"}"#,
            r#"{"id":"call_2","name":"write sql","arguments":""}"#,
            r#"{"id":"call_3","name":"get_time","arguments":{}}"#,
        ],
    );
    lines(
        &["--wire", "auto", "-"],
        r#"{"message":{"role":"assistant","tool_calls":[{"function":{"name":"add","arguments":{
            "b": "x \" \\" ,
            "a": 1.50 }}}]},"done":true}"#,
        &[r#"{"id":null,"name":"add","arguments":{"b":"x \" \\","a":1.50}}"#],
    );
    lines(&["openai/no-calls.json"], "", &[]);
}

#[test]
fn with_reply_every_call_is_answered_as_unknown() {
    lines(
        &["--reply"],
        "{\"choices\":[{\"message\":{\"role\":\"assistant\",\n\"tool_calls\":[{\"id\":\"call_1\",\
         \"type\":\"function\",\"function\":{\"name\":\"now\",\"arguments\":\"{}\"}}]}}]}",
        &[
            r#"{"id":"call_1","name":"now","arguments":{}}"#,
            r#"{"role":"assistant","tool_calls":[{"id":"call_1","type":"function","function":{"name":"now","arguments":"{}"}}]}"#,
            r#"{"role":"tool","tool_call_id":"call_1","content":"there is no tool now. There are no tools"}"#,
        ],
    );
}

#[test]
fn an_unreadable_body_is_one_line_and_exit_code_3() {
    refused(&["openai/error.json"], "", 3, "Rate limit reached");
    refused(&["--wire", "openai", "openai/cut-off.json"], "", 3, "byte 54; it begins with: {");
    refused(&[], "<html>\n", 3, "no known format");
    refused(&["--wire", "cohere"], "{\"message\":\"line\\nbreak\"}", 3, "line break");
    refused(&["no/such/file.json"], "", 3, "no/such/file.json");
}

#[test]
fn a_stream_is_printed_as_its_whole_body_is() {
    let chat = ": a comment\n\n\
        data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"call_1\",\
        \"function\":{\"name\":\"add\",\"arguments\":\"\"}}]}}]}\n\n\
        data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\
        \"function\":{\"arguments\":\"{\\\"x\\\": 1}\"}}]}}]}\n\n\
        data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n\
        data: [DONE]\n\n";
    let add = r#"{"id":"call_1","name":"add","arguments":{"x": 1}}"#;
    lines(&["--stream"], chat, &[add]);
    lines(&["--stream", "--wire", "openai", "-"], chat, &[add]);
    lines(
        &["--stream", "--reply"],
        chat,
        &[
            add,
            r#"{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"add","arguments":"{\"x\": 1}"}}]}"#,
            r#"{"role":"tool","tool_call_id":"call_1","content":"there is no tool add. There are no tools"}"#,
        ],
    );
    lines(
        &["--stream"],
        "{\"message\":{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"function\":\
         {\"name\":\"add\",\"arguments\":{\"x\":1}}}]},\"done\":false}\n\
         {\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\"}\n",
        &[r#"{"id":null,"name":"add","arguments":{"x":1}}"#],
    );
    lines(
        &["--stream"],
        "[{\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"functionCall\":\
         {\"name\":\"now\"}}]}}]},\n{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"\"}]},\
         \"finishReason\":\"STOP\"}]}]",
        &[r#"{"id":null,"name":"now","arguments":{}}"#],
    );
}

#[test]
fn an_unreadable_stream_is_one_line_and_exit_code_3() {
    refused(&["--stream"], "<html>\n", 3, "no known format");
    refused(&["--stream", "--wire", "openai"], "<html>\n", 3, "it begins with: <html>");
    refused(&["--stream", "--wire", "cohere"], "", 3, "ended before the message did");
    let cut = "data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\n";
    refused(&["--stream"], cut, 3, "openai stream ended before the message did");
    let failed = "data: {\"choices\":[],\"error\":{\"message\":\"over\\nloaded\"}}\n\n";
    refused(&["--stream"], failed, 3, "answered with an error: over loaded");
}

#[test]
fn a_wrong_call_is_one_line_and_exit_code_2() {
    refused(&["--wire", "telepathy"], "", 2, "no wire is named \"telepathy\"");
    refused(&["--wire"], "", 2, "usage: inspect_turn");
    refused(&["--shout"], "", 2, "usage: inspect_turn");
    refused(&["a.json", "b.json"], "", 2, "usage: inspect_turn");
}
