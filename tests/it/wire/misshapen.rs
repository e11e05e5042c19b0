//! Bodies of the wrong shape: an error that names the place and shows what stands there, unless it
//! is one call that is wrong. That one is answered beside the others.

use toolpool::{Approval, ApprovalRequest, Executor, Tool, ToolSet, Turn, Wire};

use super::checker::check_reply;

fn check(wire: Wire, body: &str, why: &str) {
    let error = wire.parse(body).map(|turn| turn.calls().to_vec()).unwrap_err();
    assert!(error.is_input());
    assert_eq!(error.to_string(), format!("{wire} body is {why}"), "{body}");
}

#[test]
fn what_is_no_json_is_shown_from_its_start() {
    for wire in Wire::ALL {
        check(wire, "", "empty");
        check(wire, "\u{feff} \n", "empty");
        check(
            wire,
            "not json",
            "not readable: expected a value at byte 0; it begins with: not json",
        );
        let page = format!("<html>\n<p>{}", "x".repeat(1000));
        let start = format!("<html>\\n<p>{}…", "x".repeat(68));
        check(
            wire,
            &page,
            &format!("not readable: expected a value at byte 0; it begins with: {start}"),
        );
        check(
            wire,
            r#"{"a":[1,2"#,
            r#"not readable: the text ends too early at byte 9; it begins with: {"a":[1,2"#,
        );
        let error = wire.parse(b"{\"a\":\"\xff\"}").unwrap_err().to_string();
        assert!(error.starts_with(&format!("{wire} body is not UTF-8: ")), "{error}");
    }
}

#[test]
fn a_body_that_is_no_object_is_told_so() {
    for wire in Wire::ALL {
        for body in ["5", "null", "\"hello\"", "[]", "[{}]"] {
            check(wire, body, &format!("no message: expected an object, found: {body}"));
        }
    }
}

#[test]
fn a_part_of_another_kind_is_named() {
    let cases = [
        (Wire::Anthropic, r#"{"content":5}"#, "a list at content, found: 5"),
        (
            Wire::Anthropic,
            r#"{"content":{"type":"text"}}"#,
            r#"a list at content, found: {"type":"text"}"#,
        ),
        (Wire::Anthropic, r#"{"content":["hi"]}"#, r#"an object at content[0], found: "hi""#),
        (Wire::Anthropic, r#"{"content":null}"#, "a list at content, found: null"),
        (Wire::OpenAi, r#"{"choices":"none"}"#, r#"a list at choices, found: "none""#),
        (Wire::OpenAi, r#"{"choices":[5]}"#, "an object at choices[0], found: 5"),
        (
            Wire::OpenAi,
            r#"{"choices":[{"message":[]}]}"#,
            "an object at choices[0].message, found: []",
        ),
        (
            Wire::OpenAi,
            r#"{"choices":[{"message":{"content":5}}]}"#,
            "a list at choices[0].message.content, found: 5",
        ),
        (
            Wire::OpenAi,
            r#"{"choices":[{"message":{"content":"hi","tool_calls":{"id":"a"}}}]}"#,
            r#"a list at choices[0].message.tool_calls, found: {"id":"a"}"#,
        ),
        (
            Wire::OpenAi,
            r#"{"choices":[{"message":{"tool_calls":["look"]}}]}"#,
            r#"an object at choices[0].message.tool_calls[0], found: "look""#,
        ),
        (Wire::OpenAiResponses, r#"{"output":"hi"}"#, r#"a list at output, found: "hi""#),
        (Wire::OpenAiResponses, r#"{"output":[[]]}"#, "an object at output[0], found: []"),
        (
            Wire::OpenAiResponses,
            r#"{"output":[{"type":"reasoning"},{"type":"message","content":7}]}"#,
            "a list at output[1].content, found: 7",
        ),
        (Wire::Gemini, r#"{"candidates":{}}"#, "a list at candidates, found: {}"),
        (Wire::Gemini, r#"{"candidates":[true]}"#, "an object at candidates[0], found: true"),
        (
            Wire::Gemini,
            r#"{"candidates":[{"content":"hi"}]}"#,
            r#"an object at candidates[0].content, found: "hi""#,
        ),
        (
            Wire::Gemini,
            r#"{"candidates":[{"content":{"parts":{"text":"hi"}}}]}"#,
            r#"a list at candidates[0].content.parts, found: {"text":"hi"}"#,
        ),
        (Wire::Bedrock, r#"{"output":5}"#, "an object at output, found: 5"),
        (
            Wire::Bedrock,
            r#"{"output":{"message":"hi"}}"#,
            r#"an object at output.message, found: "hi""#,
        ),
        (
            Wire::Bedrock,
            r#"{"output":{"message":{"content":"hi"}}}"#,
            r#"a list at output.message.content, found: "hi""#,
        ),
        (
            Wire::Bedrock,
            r#"{"output":{"message":{"content":[7]}}}"#,
            "an object at output.message.content[0], found: 7",
        ),
        (Wire::Cohere, r#"{"message":7}"#, "an object at message, found: 7"),
        (Wire::Cohere, r#"{"message":{"content":{}}}"#, "a list at message.content, found: {}"),
        (Wire::Cohere, r#"{"message":{"tool_calls":7}}"#, "a list at message.tool_calls, found: 7"),
        (Wire::Ollama, r#"{"message":[1],"done":true}"#, "an object at message, found: [1]"),
        (
            Wire::Ollama,
            r#"{"message":{"content":[]},"done":true}"#,
            "a text at message.content, found: []",
        ),
        (
            Wire::Ollama,
            r#"{"message":{"content":"","tool_calls":"look"},"done":true}"#,
            r#"a list at message.tool_calls, found: "look""#,
        ),
    ];
    for (wire, body, expected) in cases {
        check(wire, body, &format!("no message: expected {expected}"));
    }
    assert!(Wire::ALL.iter().all(|wire| cases.iter().any(|case| case.0 == *wire)));
    let why =
        "no message (this looks like openai-responses): expected an object at output, found: []";
    check(Wire::Bedrock, r#"{"output":[]}"#, why);
}

#[test]
fn a_part_that_is_missing_is_named() {
    for (wire, body, expected) in [
        (Wire::Anthropic, r#"{"role":"assistant"}"#, "a list at content"),
        (Wire::OpenAi, r#"{"id":"x"}"#, "a list at choices"),
        (Wire::OpenAi, r#"{"choices":[{"text":"hi"}]}"#, "an object at choices[0].message"),
        (Wire::OpenAiResponses, r#"{"status":"completed"}"#, "a list at output"),
        (Wire::Gemini, r#"{"usageMetadata":{}}"#, "a list at candidates"),
        (Wire::Bedrock, r#"{"output":{"message":{}}}"#, "a list at output.message.content"),
        (Wire::Cohere, r#"{"id":"x"}"#, "an object at message"),
        (Wire::Ollama, r#"{"response":"hi"}"#, "an object at message"),
    ] {
        let why =
            format!("no message: expected {expected}, found nothing; the body begins with: {body}");
        check(wire, body, &why);
    }
}

/// A call without a name, without an id or of the wrong kind, as the format writes it, and behind
/// it one that is whole.
fn odd_calls(wire: Wire) -> Vec<String> {
    let list = |odd: &[&str], whole: &str| -> Vec<String> {
        odd.iter().map(|odd| format!("{odd},{whole}")).collect()
    };
    let chat = || {
        list(
            &[
                r#"{"type":"function","function":{}}"#,
                r#"{"id":"x","type":"function"}"#,
                r#"{"id":"x","function":5}"#,
                r#"{"id":5,"function":{"name":5,"arguments":"{}"}}"#,
            ],
            r#"{"id":"b","type":"function","function":{"name":"look","arguments":"{}"}}"#,
        )
    };
    let within = |calls: Vec<String>, before: &str, after: &str| -> Vec<String> {
        calls.iter().map(|calls| format!("{before}{calls}{after}")).collect()
    };
    match wire {
        Wire::Anthropic => within(
            list(
                &[
                    r#"{"type":"tool_use"}"#,
                    r#"{"type":"tool_use","id":"x","input":{}}"#,
                    r#"{"type":"tool_use","id":5,"name":5,"input":5}"#,
                ],
                r#"{"type":"tool_use","id":"b","name":"look","input":{}}"#,
            ),
            r#"{"content":["#,
            r#"],"stop_reason":"tool_use"}"#,
        ),
        Wire::OpenAi => within(
            chat(),
            r#"{"choices":[{"message":{"role":"assistant","tool_calls":["#,
            r#"]},"finish_reason":"tool_calls"}]}"#,
        ),
        Wire::Cohere => within(
            chat(),
            r#"{"message":{"role":"assistant","tool_calls":["#,
            r#"]},"finish_reason":"TOOL_CALL"}"#,
        ),
        Wire::Ollama => within(
            list(
                &[r#"{"function":{}}"#, r#"{"type":"function"}"#, r#"{"function":"look"}"#],
                r#"{"function":{"name":"look","arguments":{}}}"#,
            ),
            r#"{"message":{"role":"assistant","content":"","tool_calls":["#,
            r#"]},"done":true,"done_reason":"stop"}"#,
        ),
        Wire::OpenAiResponses => within(
            list(
                &[
                    r#"{"type":"function_call"}"#,
                    r#"{"type":"function_call","call_id":"x","arguments":"{}"}"#,
                    r#"{"type":"function_call","call_id":5,"name":5}"#,
                ],
                r#"{"type":"function_call","call_id":"b","name":"look","arguments":"{}"}"#,
            ),
            r#"{"status":"completed","output":["#,
            "]}",
        ),
        Wire::Gemini => within(
            list(
                &[
                    r#"{"functionCall":{"args":{}}}"#,
                    r#"{"functionCall":{"id":"x"}}"#,
                    r#"{"functionCall":{"id":"x","name":5}}"#,
                ],
                r#"{"functionCall":{"name":"look","args":{}}}"#,
            ),
            r#"{"candidates":[{"content":{"role":"model","parts":["#,
            r#"]},"finishReason":"STOP"}]}"#,
        ),
        Wire::Bedrock => within(
            list(
                &[
                    r#"{"toolUse":{}}"#,
                    r#"{"toolUse":5}"#,
                    r#"{"toolUse":{"toolUseId":"x","input":{}}}"#,
                ],
                r#"{"toolUse":{"toolUseId":"b","name":"look","input":{}}}"#,
            ),
            r#"{"output":{"message":{"role":"assistant","content":["#,
            r#"]}},"stopReason":"tool_use"}"#,
        ),
        other => panic!("no body is written down for {other}"),
    }
}

#[test]
fn one_bad_call_is_answered_beside_the_others() {
    let tools = ToolSet::new().with(Tool::new("look", "Looks", || Ok("seen")).read_only());
    let executor = Executor::new(tools).unwrap();
    for wire in Wire::ALL {
        for body in odd_calls(wire) {
            let turn = wire.parse(&body).unwrap_or_else(|error| panic!("{body}: {error}"));
            let report = executor.run(&turn);
            check_reply(&turn, &turn.reply(&report));
            let names: Vec<_> = report.calls().iter().map(|call| call.outcome.name()).collect();
            assert_eq!(names.len(), 2, "{wire} {body}");
            assert!(["unknown_tool", "bad_arguments"].contains(&names[0]), "{body}: {names:?}");
            assert_eq!(names[1], "succeeded", "{body}");
        }
    }
}

#[test]
fn a_number_beyond_all_bounds_is_told_or_spoils_only_its_element() {
    for wire in Wire::ALL {
        let body = odd_calls(wire).swap_remove(0);
        let (before, after) = body.rsplit_once("[{").unwrap();
        let turn = wire.parse(&format!("{before}[1e999,{{{after}"));
        // Formats whose calls are read with the message around them refuse it all.
        if matches!(wire, Wire::OpenAi | Wire::Gemini | Wire::Cohere | Wire::Ollama) {
            let error = turn.unwrap_err().to_string();
            assert!(error.contains("not readable: number out of range at line 1"), "{error}");
        } else {
            assert_eq!(turn.unwrap().calls().len(), 2, "{wire}");
        }
    }
}

#[test]
fn counts_beyond_all_bounds_stop_at_the_highest() {
    let body = r#"{"choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":1e30,
        "completion_tokens":1e30,"total_tokens":7,
        "completion_tokens_details":{"reasoning_tokens":1e30}}}"#;
    let mut usage = Wire::OpenAi.parse(body).unwrap().usage();
    usage += usage;
    assert_eq!((usage.input_tokens, usage.output_tokens), (u64::MAX, u64::MAX));
}

#[test]
fn a_report_of_another_turn_answers_nothing() {
    let openai = |id: &str, name: &str, n: u8| {
        let body = format!(
            r#"{{"choices":[{{"finish_reason":"tool_calls","message":{{"role":"assistant",
            "tool_calls":[{{"id":"{id}","type":"function",
            "function":{{"name":"{name}","arguments":"{{\"n\":{n}}}"}}}}]}}}}]}}"#
        );
        Wire::OpenAi.parse(&body).unwrap()
    };
    let gemini = |_: &str, name: &str, n: u8| {
        let call = format!(r#"{{"functionCall":{{"name":"{name}","args":{{"n": {n}}}}}}}"#);
        let content = format!(r#"{{"role":"model","parts":[{call}]}}"#);
        let candidate = format!(r#"{{"finishReason":"STOP","content":{content}}}"#);
        Wire::Gemini.parse(&format!(r#"{{"candidates":[{candidate}]}}"#)).unwrap()
    };
    let tools = || {
        let tools = ["one", "two"].map(|name| Tool::new(name, "", move || Ok("result")));
        tools.into_iter().fold(ToolSet::new(), |set, tool| set.with(tool.needs_approval()))
    };
    let approves = |answer: Approval| {
        let answers = move |requests: &[ApprovalRequest<'_>]| vec![answer.clone(); requests.len()];
        Executor::builder(tools()).approval(answers).build().unwrap()
    };
    let told = |turn: &Turn, other: &Turn, answer: Approval| {
        let messages = turn.reply(&approves(answer).run(other));
        check_reply(turn, &messages);
        messages[1].as_str().to_owned()
    };
    type Makes<'a> = &'a dyn Fn(&str, &str, u8) -> Turn;
    for make in [&openai as Makes<'_>, &gemini] {
        let turn = make("a", "one", 1);
        // Told by the stream with another id, or edited by an approver: it is the same call.
        let edit = Approval::Edit(r#"{"n":9}"#.to_owned());
        for (id, answer) in [("a", Approval::Allow), ("b", Approval::Allow), ("a", edit)] {
            let told = told(&turn, &make(id, "one", 1), answer);
            assert!(told.contains("result") && !told.contains("no result"), "{told}");
        }
        for (id, name, n) in [("a", "one", 2), ("b", "one", 2), ("a", "two", 1)] {
            let told = told(&turn, &make(id, name, n), Approval::Allow);
            assert!(told.contains("no result of this call is known"), "{told}");
        }
    }
    // Arguments may be spelled in another way by whoever parsed them.
    let spelled = Turn::from_calls([toolpool::ToolCall::new("a", "one", r#"{ "n" : 1 }"#)]);
    let told = told(&openai("a", "one", 1), &spelled, Approval::Allow);
    assert!(!told.contains("no result"), "{told}");
}
