//! What a model or its provider can send, from the body to the reply.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use proptest::prelude::*;
use serde_json::{Value, json};
use toolpool::wire::StreamEvent;
use toolpool::{Executor, Note, Outcome, Rejected, Report, Tool, ToolCall, ToolSet, Turn, Wire};

use super::harness::{
    CANARY, Case, Rig, alone, check_report, ms, names, repeat, slack, told, turn,
};
use crate::wire::checker::check_reply;

/// Gives its arguments back, as the handler decoded them.
fn echo() -> Tool<Value> {
    let object = json!({ "type": "object" });
    Tool::with_schema("echo", "", &object, |args: Value| Ok(args)).read_only()
}

/// The body of a message with these calls, each an id, a name and arguments: JSON texts. An empty
/// one is left out.
fn body(wire: Wire, calls: &[(String, String, String)]) -> String {
    let object = |members: &[(&str, &str)]| {
        let members = members.iter().filter(|(_, value)| !value.is_empty());
        let members: Vec<_> = members.map(|(key, value)| format!("{key:?}:{value}")).collect();
        format!("{{{}}}", members.join(","))
    };
    let list = |make: &dyn Fn(&str, &str, &str) -> String| {
        let calls: Vec<_> = calls.iter().map(|(id, name, args)| make(id, name, args)).collect();
        calls.join(",")
    };
    match wire {
        Wire::Anthropic => {
            let calls = list(&|id, name, args| {
                object(&[("type", r#""tool_use""#), ("id", id), ("name", name), ("input", args)])
            });
            format!(
                r#"{{"type":"message","role":"assistant","stop_reason":"tool_use","content":[{calls}]}}"#
            )
        }
        Wire::OpenAi => {
            let calls = list(&|id, name, args| {
                let function = object(&[("name", name), ("arguments", args)]);
                object(&[("id", id), ("type", r#""function""#), ("function", &function)])
            });
            format!(
                r#"{{"choices":[{{"finish_reason":"tool_calls","message":{{"role":"assistant","content":null,"tool_calls":[{calls}]}}}}]}}"#
            )
        }
        Wire::OpenAiResponses => {
            let calls = list(&|id, name, args| {
                let kind = ("type", r#""function_call""#);
                object(&[kind, ("call_id", id), ("name", name), ("arguments", args)])
            });
            format!(r#"{{"object":"response","status":"completed","output":[{calls}]}}"#)
        }
        Wire::Gemini => {
            let calls = list(&|id, name, args| {
                object(&[("functionCall", &object(&[("id", id), ("name", name), ("args", args)]))])
            });
            format!(
                r#"{{"candidates":[{{"content":{{"role":"model","parts":[{calls}]}},"finishReason":"STOP"}}]}}"#
            )
        }
        Wire::Bedrock => {
            let calls = list(&|id, name, args| {
                let call = object(&[("toolUseId", id), ("name", name), ("input", args)]);
                object(&[("toolUse", &call)])
            });
            format!(
                r#"{{"output":{{"message":{{"role":"assistant","content":[{calls}]}}}},"stopReason":"tool_use"}}"#
            )
        }
        Wire::Cohere => {
            let calls = list(&|id, name, args| {
                let function = object(&[("name", name), ("arguments", args)]);
                object(&[("id", id), ("type", r#""function""#), ("function", &function)])
            });
            format!(
                r#"{{"message":{{"role":"assistant","tool_calls":[{calls}]}},"finish_reason":"TOOL_CALL"}}"#
            )
        }
        Wire::Ollama => {
            let calls = list(&|id, name, args| {
                let function = object(&[("name", name), ("arguments", args)]);
                object(&[("id", id), ("function", &function)])
            });
            format!(
                r#"{{"message":{{"role":"assistant","content":"","tool_calls":[{calls}]}},"done":true,"done_reason":"stop"}}"#
            )
        }
        other => panic!("no body is written down for {other}"),
    }
}

/// Whether the format's arguments are JSON inside a string.
fn in_a_string(wire: Wire) -> bool {
    matches!(wire, Wire::OpenAi | Wire::OpenAiResponses | Wire::Cohere)
}

/// Arguments as the format writes them.
fn spelled(wire: Wire, arguments: &str) -> String {
    if in_a_string(wire) { text(arguments) } else { arguments.to_owned() }
}

fn text(text: &str) -> String {
    Value::from(text).to_string()
}

/// A call of `echo` that says which it is.
fn nth(wire: Wire, n: usize) -> (String, String, String) {
    (text(&format!("id_{n}")), text("echo"), spelled(wire, &format!(r#"{{"n":{n}}}"#)))
}

/// Reads a body, runs its turn and checks the reply by the provider's rules.
fn answer(rig: &Rig, wire: Wire, body: &str) -> (Turn, Report) {
    let turn = wire.parse(body).unwrap_or_else(|error| panic!("{wire}: {error}: {body:.300}"));
    let report = rig.run(&turn);
    check_reply(&turn, &turn.reply(&report));
    (turn, report)
}

#[test]
fn fault_080_names_of_no_tool_are_refused_in_words_that_are_bounded_and_escaped() {
    let long = "n".repeat(10_000);
    let odd = [
        "",
        &long,
        "echo\nx",
        "../../x",
        "\0",
        "\x1b[31mecho",
        "e\u{202e}ohc",
        "echo;rm -rf",
        "名",
    ];
    let mut tools = ToolSet::new().with(echo());
    for n in 0..30 {
        tools = tools.with(Tool::new(format!("tool_{n}"), "", || Ok(())));
    }
    Case::new(tools).check(|case| {
        let calls = odd.iter().enumerate().map(|(n, name)| ToolCall::new(n.to_string(), *name, ""));
        let report = case.run(&Turn::from_calls(calls));
        for (index, call) in report.calls().iter().enumerate() {
            let Outcome::Rejected(Rejected::UnknownTool { available, more, .. }) = &call.outcome
            else {
                panic!("{call:?}");
            };
            assert_eq!((available.len(), *more), (20, 11));
            let told = told(&report, index);
            assert!(told.len() < 1000, "{told}");
            assert!(!told.contains(|c: char| c.is_control() || c == '\u{202e}'), "{told:?}");
        }
        for wire in Wire::ALL {
            let mut calls: Vec<_> = odd
                .iter()
                .enumerate()
                .map(|(n, name)| (text(&n.to_string()), text(name), spelled(wire, "{}")))
                .collect();
            calls.push(nth(wire, 7));
            let (turn, report) = answer(case, wire, &body(wire, &calls));
            assert_eq!(turn.calls().len(), odd.len() + 1, "{wire}");
            for (call, name) in report.calls().iter().zip(odd) {
                assert_eq!(call.call.name(), name, "{wire}");
                assert!(matches!(call.outcome, Outcome::Rejected(_)), "{wire}: {call:?}");
            }
            assert_eq!(told(&report, odd.len()), r#"{"n":7}"#, "{wire}: the others run");
        }
    });
}

#[test]
fn fault_081_a_name_is_the_tools_own_or_no_tools() {
    let near = ["Echo", "ECHO", "echo ", " echo", "echo\u{200b}", "e\u{301}cho", "ｅcho", "ech"];
    Case::new(ToolSet::new().with(echo())).check(|case| {
        let report = case.run(&turn(near.map(|name| (name, ""))));
        assert_eq!(names(&report), ["unknown_tool"; 8]);
        assert!(told(&report, 2).contains("did you mean echo?"), "but it may be suggested");
        for wire in Wire::ALL {
            let calls = near.map(|name| (text(name), text(name), spelled(wire, "{}")));
            let (_, report) = answer(case, wire, &body(wire, &calls));
            assert!(report.calls().iter().all(|call| call.attempts == 0), "{wire}: {report:?}");
        }
    });
}

#[test]
fn fault_082_ids_prove_nothing_and_come_back_as_they_were() {
    let long = text(&"i".repeat(1 << 20));
    let ids = [
        r#""same""#,
        r#""same""#,
        r#""""#,
        "",
        "null",
        "7",
        "-1.5",
        &long,
        r#""\u0000\u001b[2J""#,
        r#""same""#,
        "true",
        "[]",
        r#"{"a":1}"#,
        r#"" ""#,
    ];
    let started = Arc::new(AtomicUsize::new(0));
    let counts = {
        let started = Arc::clone(&started);
        let object = json!({ "type": "object" });
        Tool::with_schema("echo", "", &object, move |args: Value| {
            started.fetch_add(1, Ordering::Relaxed);
            Ok(args)
        })
    };
    Case::new(ToolSet::new().with(counts)).check(|case| {
        for wire in Wire::ALL {
            started.store(0, Ordering::Relaxed);
            let mut calls: Vec<_> = (0..ids.len()).map(|n| nth(wire, n)).collect();
            for (call, id) in calls.iter_mut().zip(ids) {
                call.0 = id.to_owned();
            }
            let (turn, report) = answer(case, wire, &body(wire, &calls));
            assert_eq!(turn.calls().len(), ids.len(), "{wire}");
            for (index, call) in report.calls().iter().enumerate() {
                if call.outcome.is_success() {
                    assert_eq!(told(&report, index), format!(r#"{{"n":{index}}}"#), "{wire}");
                    assert_eq!(call.attempts, 1);
                } else {
                    assert!(matches!(call.outcome, Outcome::Rejected(_)), "{wire}: {call:?}");
                }
            }
            let ran = report.calls().iter().filter(|call| call.attempts > 0).count();
            assert_eq!(started.load(Ordering::Relaxed), ran, "{wire}: each once");
            for index in [0, 1, 2, 3, 7, 8, 9] {
                let call = &report[index];
                assert!(call.outcome.is_success(), "{wire} {}: {:?}", ids[index], call.outcome);
                let id = serde_json::from_str::<String>(ids[index]).unwrap_or_default();
                assert_eq!(call.call.id(), id, "{wire}: byte for byte");
            }
            let flagged: Vec<_> = (0..ids.len())
                .filter(|index| report[*index].notes.contains(&Note::DuplicateId(0)))
                .collect();
            assert_eq!(flagged, [1, 9], "{wire}");
        }
    });
}

#[test]
fn fault_083_equal_calls_are_two_calls_unless_the_tool_says_otherwise() {
    let counter = |name: &str| {
        let runs = AtomicUsize::new(0);
        Tool::new(name, "", move || Ok(runs.fetch_add(1, Ordering::Relaxed)))
    };
    let tools =
        ToolSet::new().with(counter("counts")).with(counter("shares").read_only().coalesce());
    Case::new(tools).parallel(1).check(|case| {
        let report = case.run(&repeat("counts", 4));
        let results: HashSet<_> = (0..4).map(|index| told(&report, index)).collect();
        assert_eq!(results.len(), 4, "{report:?}");
        let report = case.run(&repeat("shares", 4));
        assert!((0..4).all(|index| told(&report, index) == "0"), "{report:?}");
        assert_eq!(report[3].notes, [Note::CoalescedWith(0)]);
    });
}

/// Arguments as texts, and whether they are an object that a tool gets.
const ARGUMENTS: &[(&str, Option<&str>)] = &[
    ("", Some("{}")),
    (" \n", Some("{}")),
    ("null", Some("{}")),
    ("{}", Some("{}")),
    (r#" {"a" : 1} "#, Some(r#"{"a":1}"#)),
    ("[]", None),
    ("[{}]", None),
    ("7", None),
    ("true", None),
    (r#""text""#, None),
    (r#""{\"a\":1}""#, None),
    ("{\"a\":1,}", None),
    ("{a:1}", None),
    ("{'a':1}", None),
    (r#"{}{"a":1}"#, None),
    (r#"{"a":1"#, None),
    (r#"{"a":"b"#, None),
    (r#"{"a":NaN}"#, None),
    ("{\"a\":\"\n\"}", None),
    ("```json\n{}\n```", None),
];

#[test]
fn fault_084_arguments_that_are_no_object_are_refused_with_their_place_and_the_others_run() {
    let huge = format!(r#"{{"a":"{}"}}"#, "x".repeat(50 << 20));
    Case::new(ToolSet::new().with(echo())).check(|case| {
        for wire in [Wire::OpenAi, Wire::OpenAiResponses, Wire::Cohere] {
            let mut calls: Vec<_> = ARGUMENTS
                .iter()
                .enumerate()
                .map(|(n, (args, _))| (text(&format!("id_{n}")), text("echo"), text(args)))
                .collect();
            calls.push(nth(wire, 77));
            let (_, report) = answer(case, wire, &body(wire, &calls));
            for (index, (args, expected)) in ARGUMENTS.iter().enumerate() {
                let told = told(&report, index);
                match expected {
                    Some(expected) => assert_eq!(&told, expected, "{wire}: {args:?}"),
                    None => {
                        let name = report[index].outcome.name();
                        assert_eq!(name, "bad_arguments", "{wire}: {args:?}");
                        assert!(told.len() < 500, "{wire}: {told}");
                        let placed =
                            told.contains("byte") || told.contains("must be a JSON object");
                        assert!(placed, "{wire}: {args:?}: {told}");
                    }
                }
            }
            assert_eq!(told(&report, ARGUMENTS.len()), r#"{"n":77}"#, "{wire}");
        }
        // Where arguments are a part of the body, the body's own syntax holds.
        for wire in Wire::ALL {
            let odd = ["", "null", "{}", "[]", "7", "true", r#""text""#, r#""""#];
            let mut calls: Vec<_> = (0..odd.len()).map(|n| nth(wire, n)).collect();
            for (call, args) in calls.iter_mut().zip(odd) {
                call.2 = args.to_owned();
            }
            calls.push(nth(wire, 77));
            let (_, report) = answer(case, wire, &body(wire, &calls));
            for (index, args) in odd.iter().enumerate() {
                match index {
                    0..3 => assert_eq!(told(&report, index), "{}", "{wire}: {args:?}"),
                    3..7 => assert_eq!(names(&report)[index], "bad_arguments", "{wire}: {args:?}"),
                    // An empty text is nothing where texts are expected.
                    _ => assert!(matches!(names(&report)[index], "bad_arguments" | "succeeded")),
                }
            }
            assert_eq!(told(&report, odd.len()), r#"{"n":77}"#, "{wire}");
        }
        let wire = Wire::OpenAi;
        let calls = [(text("big"), text("echo"), text(&huge)), nth(wire, 1)];
        let (_, report) = answer(case, wire, &body(wire, &calls));
        assert!(told(&report, 0).contains("bytes, 1048576 at most"), "{}", told(&report, 0));
        assert_eq!(told(&report, 1), r#"{"n":1}"#);
    });
}

#[test]
fn fault_085_arguments_nest_as_deep_as_is_allowed_and_no_deeper() {
    let nested = |depth: usize| {
        let lists = depth - 1;
        format!(r#"{{"a":{}{}}}"#, "[".repeat(lists), "]".repeat(lists))
    };
    let in_text = format!(r#"{{"a":{}}}"#, text(&"[{".repeat(1 << 18)));
    Case::new(ToolSet::new().with(echo())).set(|b| b.max_argument_bytes(16 << 20)).check(|case| {
        let arguments =
            [nested(64), nested(65), nested(1000), nested(1 << 20), in_text, "[".repeat(1 << 20)];
        let report = case.run(&turn(arguments.iter().map(|args| ("echo", args.clone()))));
        let expected = [
            "succeeded",
            "bad_arguments",
            "bad_arguments",
            "bad_arguments",
            "succeeded",
            "bad_arguments",
        ];
        assert_eq!(names(&report), expected);
        assert!(told(&report, 1).contains("nest 65 deep, 64 at most"), "{}", told(&report, 1));
        for wire in Wire::ALL {
            let mut calls: Vec<_> = (0..3).map(|n| nth(wire, n)).collect();
            calls[0].2 = spelled(wire, &nested(64));
            calls[1].2 = spelled(wire, &nested(65));
            let (_, report) = answer(case, wire, &body(wire, &calls));
            assert_eq!(names(&report), ["succeeded", "bad_arguments", "succeeded"], "{wire}");
            // A body that is nested too deep to be read isn't, and that is all.
            let mut calls = [nth(wire, 0), nth(wire, 1)];
            calls[1].2 = spelled(wire, &"[".repeat(1 << 20));
            if let Ok(turn) = wire.parse(&body(wire, &calls)) {
                assert_eq!(names(&case.run(&turn)), ["succeeded", "bad_arguments"], "{wire}");
            }
        }
    });
}

#[test]
fn fault_086_a_key_that_stands_twice_is_refused_however_it_is_spelled() {
    let twice = [
        r#"{"path":"/safe","path":"/etc/passwd"}"#,
        r#"{"path":"/safe","p\u0061th":"/etc/passwd"}"#,
        r#"{"a":[{"b":1,"b":2}]}"#,
        r#"{"":1,"":1}"#,
    ];
    let once = r#"{"path":{"path":1},"Path":2,"path ":3}"#;
    let tools = || ToolSet::new().with(echo());
    Case::new(tools()).check(|case| {
        for wire in Wire::ALL {
            let mut calls: Vec<_> = (0..=twice.len()).map(|n| nth(wire, n)).collect();
            for (call, args) in calls.iter_mut().zip(twice.into_iter().chain([once])) {
                call.2 = spelled(wire, args);
            }
            let (_, report) = answer(case, wire, &body(wire, &calls));
            for (index, args) in twice.iter().enumerate() {
                assert_eq!(report[index].outcome.name(), "bad_arguments", "{wire} {args}");
                assert!(told(&report, index).contains("twice"), "{wire}: {}", told(&report, index));
            }
            assert!(report[twice.len()].outcome.is_success(), "{wire}");
        }
    });
    Case::new(tools()).set(|b| b.allow_duplicate_keys()).check(|case| {
        let report = case.run(&turn(twice.map(|args| ("echo", args))));
        assert!(report.all_succeeded(), "whoever asks for it: {report:?}");
    });
}

#[test]
fn fault_087_numbers_come_to_the_tool_as_they_were_written() {
    let numbers = ["18446744073709551616", "-0", "1e-999", "0.1", "2.1e67", "-1.50", "1E+2"];
    let object = json!({ "type": "object" });
    let raw = Tool::with_schema("raw", "", &object, |args: Box<serde_json::value::RawValue>| {
        Ok(args.get().to_owned())
    });
    Case::new(ToolSet::new().with(raw)).check(|case| {
        for wire in Wire::ALL {
            let mut calls: Vec<_> = (0..numbers.len()).map(|n| nth(wire, n)).collect();
            for (call, number) in calls.iter_mut().zip(numbers) {
                call.1 = text("raw");
                call.2 = spelled(wire, &format!(r#"{{"n":{number}}}"#));
            }
            let (_, report) = answer(case, wire, &body(wire, &calls));
            for (index, number) in numbers.iter().enumerate() {
                assert_eq!(told(&report, index), format!(r#"{{"n":{number}}}"#), "{wire}");
            }
        }
    });
}

#[test]
fn fault_088_bytes_that_are_no_text_and_halves_of_characters() {
    Case::new(ToolSet::new().with(echo())).check(|case| {
        for wire in Wire::ALL {
            let whole = body(wire, &[nth(wire, 0), nth(wire, 1)]);
            for bad in
                [&b"\xff"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"]
            {
                let mut bytes = whole.clone().into_bytes();
                let at = whole.find("id_0").unwrap();
                bytes.splice(at..at, bad.iter().copied());
                let error = wire.parse(&bytes).unwrap_err();
                assert!(error.to_string().contains("not UTF-8"), "{wire}: {error}");
            }
            // What is text but odd goes through, or is refused for that call alone.
            let odd = [
                r#"{"a":"\ud800"}"#,
                r#"{"a":"\udc00\ud800"}"#,
                r#"{"a":"\u0000"}"#,
                r#"{"a":"\uffff"}"#,
                "{\"a\":\"\u{ffff}\u{10ffff}\"}",
                r#"{"\ud83d":1}"#,
            ];
            let mut calls: Vec<_> = (0..=odd.len()).map(|n| nth(wire, n)).collect();
            for (call, args) in calls.iter_mut().zip(odd) {
                call.2 = spelled(wire, args);
            }
            let (_, report) = answer(case, wire, &body(wire, &calls));
            for (index, args) in odd.iter().enumerate() {
                let call = &report[index];
                match serde_json::from_str::<Value>(args) {
                    Ok(value) => assert_eq!(told(&report, index), value.to_string(), "{wire}"),
                    Err(_) => assert_eq!(call.outcome.name(), "bad_arguments", "{wire} {args}"),
                }
            }
            assert_eq!(told(&report, odd.len()), format!(r#"{{"n":{}}}"#, odd.len()), "{wire}");
            // In a name and in an id, too.
            let mut calls = [nth(wire, 0), nth(wire, 1), nth(wire, 2)];
            calls[0].0 = r#""\ud800""#.to_owned();
            calls[1].1 = r#""ech\udfff""#.to_owned();
            if let Ok(turn) = wire.parse(&body(wire, &calls)) {
                let report = case.run(&turn);
                assert_eq!(told(&report, 2), r#"{"n":2}"#, "{wire}");
                assert!(!report[1].outcome.is_success(), "{wire}");
                check_reply(&turn, &turn.reply(&report));
            }
        }
    });
}

/// By how much memory grew while `work` ran, at its highest, in bytes.
#[cfg(target_os = "linux")]
fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let status = |key: &str| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
    };
    // Sets the highest to what it is now.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS:");
    let value = work();
    (value, status("VmHWM:").saturating_sub(before))
}

#[cfg(target_os = "linux")]
#[test]
fn fault_091_arguments_over_their_limit_are_refused_before_a_tree_is_made_of_them() {
    let Some(run) =
        alone(fault_091_arguments_over_their_limit_are_refused_before_a_tree_is_made_of_them)
    else {
        let zeros = format!(r#"{{"a":[{}0]}}"#, "0,".repeat(5_000_000));
        let executor = Executor::new(ToolSet::new().with(echo())).unwrap();
        for wire in [Wire::OpenAi, Wire::Anthropic] {
            let mut call = nth(wire, 0);
            call.2 = spelled(wire, &zeros);
            let body = body(wire, &[call]);
            let ((turn, report), peak) = peak(|| {
                let turn = wire.parse(&body).unwrap();
                let report = executor.run(&turn);
                (turn, report)
            });
            eprintln!("{wire}: {} MiB for {} MiB", peak >> 20, body.len() >> 20);
            check_report(&turn, &report);
            assert!(told(&report, 0).contains("1048576 at most"), "{wire}");
            // A tree of it takes 160 MB.
            assert!(peak < 64 << 20, "{wire}: {} MiB", peak >> 20);
        }
        return;
    };
    assert!(run.status.success(), "{}", run.stderr);
    println!("{}", run.stderr);
}

/// The turn of a stream of OpenAI Chat whose chunks have these `tool_calls`, cut at every
/// `size` bytes, and what was told of it.
fn streamed(chunks: &[&str], size: usize) -> (Turn, Vec<ToolCall>) {
    let mut stream = String::new();
    for calls in chunks {
        let (calls, finish) = match *calls {
            "finish" => ("", r#","finish_reason":"tool_calls""#),
            calls => (calls, ""),
        };
        stream += &format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{calls}]}}{finish}}}]}}\n\n"
        );
    }
    stream += "data: [DONE]\n\n";
    let mut told = Vec::new();
    let mut tell = |event: StreamEvent<'_>| {
        if let StreamEvent::Call(call) = event {
            told.push(call.clone());
        }
    };
    let mut assembler = Wire::OpenAi.stream();
    for piece in stream.as_bytes().chunks(size) {
        assembler.feed(piece, &mut tell).unwrap();
    }
    let turn = assembler.finish(&mut tell).unwrap();
    (turn, told)
}

#[test]
fn fault_092_deltas_that_are_out_of_order_or_incomplete_are_put_together_or_refused() {
    // What the chunks hold, and what the model is told of each call.
    let cases: &[(&str, &[&str], &[&str])] = &[
        (
            "without indexes",
            &[
                r#"{"id":"a","function":{"name":"echo","arguments":"{\"n\":"}}"#,
                r#"{"function":{"arguments":"1}"}}"#,
                r#"{"id":"b","function":{"name":"echo","arguments":"{\"n\":2}"}}"#,
                "finish",
            ],
            &[r#"{"n":1}"#, r#"{"n":2}"#],
        ),
        (
            "interleaved, the id in the first piece only",
            &[
                r#"{"index":0,"id":"a","function":{"name":"echo","arguments":""}}"#,
                r#"{"index":1,"id":"b","function":{"name":"echo","arguments":"{\"n\":"}}"#,
                r#"{"index":0,"function":{"arguments":"{\"n\":1"}}"#,
                r#"{"index":1,"function":{"arguments":"2}"}}"#,
                r#"{"index":0,"function":{"arguments":"}"}}"#,
                "finish",
            ],
            &[r#"{"n":1}"#, r#"{"n":2}"#],
        ),
        (
            "one index, two ids",
            &[
                r#"{"index":0,"id":"a","function":{"name":"echo","arguments":"{\"n\":1}"}}"#,
                r#"{"index":0,"id":"b","function":{"name":"echo","arguments":"{\"n\":2}"}}"#,
                "finish",
            ],
            &[r#"{"n":1}"#, r#"{"n":2}"#],
        ),
        (
            "no arguments at all",
            &[r#"{"index":0,"id":"a","function":{"name":"echo"}}"#, "finish"],
            &["{}"],
        ),
        (
            "no ids",
            &[
                r#"{"index":0,"function":{"name":"echo","arguments":"{\"n\":1}"}}"#,
                r#"{"index":1,"function":{"name":"echo","arguments":"{\"n\":2}"}}"#,
                "finish",
            ],
            &[r#"{"n":1}"#, r#"{"n":2}"#],
        ),
        (
            "arguments that never end",
            &[
                r#"{"index":0,"id":"a","function":{"name":"echo","arguments":"{\"n\":1}"}}"#,
                r#"{"index":1,"id":"b","function":{"name":"echo","arguments":"{\"n\":"}}"#,
                "finish",
            ],
            &[r#"{"n":1}"#, "bad_arguments"],
        ),
        (
            "a name in two pieces",
            &[
                r#"{"index":0,"id":"a","function":{"name":"ec","arguments":""}}"#,
                r#"{"index":0,"function":{"name":"ho","arguments":"{\"n\":1}"}}"#,
                "finish",
            ],
            &["unknown_tool"],
        ),
        (
            "pieces after the end",
            &[
                r#"{"index":0,"id":"a","function":{"name":"echo","arguments":"{\"n\":1}"}}"#,
                "finish",
                r#"{"index":1,"id":"b","function":{"name":"echo","arguments":"{\"n\":2}"}}"#,
            ],
            &[r#"{"n":1}"#, r#"{"n":2}"#],
        ),
        (
            "indexes from behind",
            &[
                r#"{"index":1,"id":"b","function":{"name":"echo","arguments":"{\"n\":2}"}}"#,
                r#"{"index":0,"id":"a","function":{"name":"echo","arguments":"{\"n\":1}"}}"#,
                "finish",
            ],
            &[r#"{"n":2}"#, r#"{"n":1}"#],
        ),
    ];
    Case::new(ToolSet::new().with(echo())).check(|case| {
        for (what, chunks, expected) in cases {
            let (turn, told_early) = streamed(chunks, usize::MAX);
            assert_eq!(turn.calls(), told_early, "{what}: each is told once, in order");
            for size in [1, 7] {
                assert_eq!(streamed(chunks, size).0, turn, "{what}: however it is cut");
            }
            let report = case.run(&turn);
            check_reply(&turn, &turn.reply(&report));
            let results: Vec<_> = report
                .calls()
                .iter()
                .enumerate()
                .map(|(index, call)| match call.outcome.is_success() {
                    true => told(&report, index),
                    false => call.outcome.name().to_owned(),
                })
                .collect();
            assert_eq!(&results, expected, "{what}");
        }
    });
}

#[test]
fn fault_093_text_unknown_parts_and_more_calls_than_are_run() {
    Case::new(ToolSet::new().with(echo())).check(|case| {
        for wire in Wire::ALL {
            let calls: Vec<_> = (0..2000).map(|n| nth(wire, n)).collect();
            let (turn, report) = answer(case, wire, &body(wire, &calls));
            assert_eq!(turn.calls().len(), 2000, "{wire}");
            assert!((0..128).all(|index| told(&report, index) == format!(r#"{{"n":{index}}}"#)));
            let surplus = Outcome::Rejected(Rejected::TooManyCalls(128));
            assert!((128..2000).all(|index| report[index].outcome == surplus), "{wire}");
        }
        let calls: Vec<_> = (0..10_000).map(|n| nth(Wire::OpenAi, n)).collect();
        let (_, report) = answer(case, Wire::OpenAi, &body(Wire::OpenAi, &calls));
        assert_eq!(report.failures().count(), 10_000 - 128);

        let text_too = r#"{"role":"assistant","type":"message","stop_reason":"tool_use","content":[
            {"type":"text","text":"Let me see."},
            {"type":"hologram","id":"h","data":[1]},
            {"type":"tool_use","id":"a","name":"echo","input":{"n":1}},
            {"type":"server_tool_use","id":"s","name":"web_search","input":{}},
            {"type":"tool_use","id":"b","name":"echo","input":{"n":2}}]}"#;
        let (turn, report) = answer(case, Wire::Anthropic, text_too);
        assert_eq!(turn.text(), "Let me see.");
        assert_eq!([told(&report, 0), told(&report, 1)], [r#"{"n":1}"#, r#"{"n":2}"#]);
        let unknown = r#"{"choices":[{"finish_reason":"tool_calls","message":{"role":"assistant",
            "content":"Both.","tool_calls":[
            {"id":"a","type":"function","function":{"name":"echo","arguments":"{\"n\":1}"}},
            {"id":"b","type":"telepathy","telepathy":{"name":"echo"}}]}}]}"#;
        let (turn, report) = answer(case, Wire::OpenAi, unknown);
        assert_eq!(turn.text(), "Both.");
        assert_eq!(names(&report), ["succeeded"]);
        // A part that nobody can answer must not go back, or it would stay unanswered.
        let replies = turn.reply(&report);
        assert!(
            replies.iter().all(|message| !message.as_str().contains("telepathy")),
            "{replies:?}"
        );
        assert!(turn.message().is_some_and(|came| came.as_str().contains("telepathy")));
    });
}

#[test]
fn fault_094_a_message_that_calls_nothing_though_it_says_so() {
    Case::new(ToolSet::new().with(echo())).check(|case| {
        for wire in Wire::ALL {
            let turn = wire.parse(&body(wire, &[]));
            let turn = turn.unwrap_or_else(|error| panic!("{wire}: {error}"));
            let began = Instant::now();
            let report = case.run(&turn);
            assert!(began.elapsed() < slack());
            assert_eq!((turn.calls().len(), report.calls().len()), (0, 0), "{wire}");
            assert!(report.all_succeeded() && report.into_result().is_ok());
        }
        assert_eq!(case.stats().blocking_threads, 0, "no thread for nothing");
    });
}

#[test]
fn fault_095_every_kind_of_result_is_written_as_each_provider_wants_it() {
    let tools = ToolSet::new()
        .with(echo())
        .with(Tool::new("empty", "", || Ok("")))
        .with(Tool::new("blank", "", || Ok(" \n")))
        .with(Tool::new("nothing", "", || Ok(())))
        .with(Tool::new("fails", "", || Err::<(), _>("".into())))
        .with(Tool::new("panics", "", || -> Result<(), _> { panic!() }))
        .with(Tool::new("slow", "", || Ok(std::thread::sleep(ms(300)))).timeout(ms(50)))
        .with(Tool::new("marks", "", || Ok("<tool_result>\u{0} </tool_result>\u{2028}")));
    Case::new(tools).check(|case| {
        let order =
            ["echo", "empty", "blank", "nothing", "fails", "panics", "slow", "marks", "none"];
        let expected = [
            "succeeded",
            "succeeded",
            "succeeded",
            "succeeded",
            "failed",
            "panicked",
            "timed_out",
            "succeeded",
            "unknown_tool",
        ];
        for wire in Wire::ALL {
            let mut calls: Vec<_> = (0..order.len()).map(|n| nth(wire, n)).collect();
            for (call, name) in calls.iter_mut().zip(order) {
                call.1 = text(name);
            }
            // The rules of each provider are checked in `answer`.
            let (turn, report) = answer(case, wire, &body(wire, &calls));
            assert_eq!(names(&report), expected, "{wire}");
            let replies = turn.reply(&report);
            let all: String = replies.iter().map(|message| message.as_str()).collect();
            let mut from = 0;
            for index in 0..order.len() {
                // Formats without ids tell results apart by their order.
                if let Some(at) = all[from..].find(&format!("\"id_{index}\"")) {
                    from += at;
                }
            }
            assert!(from > 0 || matches!(wire, Wire::Ollama | Wire::Gemini), "{wire}: {all}");
        }
    });
}

#[test]
fn fault_096_what_is_quoted_of_arguments_is_short_and_holds_no_secret() {
    let typed = Tool::new("typed", "", |args: Typed| Ok(args.n));
    Case::new(ToolSet::new().with(echo()).with(typed)).check(|case| {
        let broken = format!(r#"{{"key":"{CANARY}","#);
        let long = format!(r#"{{"a":"{}"#, "x".repeat(1 << 16));
        let wrong = format!(r#"{{"n":"{CANARY}"}}"#);
        let key = format!(r#"{{"{CANARY}":1,"{CANARY}":2}}"#);
        let longer = format!(r#"{{"n":"{}"}}"#, "\u{1b}[2J".repeat(1 << 12));
        let report = case.run(&turn([
            ("echo", broken),
            ("echo", long),
            ("typed", wrong),
            ("echo", key),
            ("typed", longer),
        ]));
        for (index, call) in report.calls().iter().enumerate() {
            assert_eq!(call.outcome.name(), "bad_arguments", "{index}");
            let told = told(&report, index);
            assert!(told.len() < 3 << 10, "{} bytes", told.len());
            assert!(!told.contains(CANARY), "{told}");
        }
        assert!(told(&report, 0).contains("[redacted]"), "{}", told(&report, 0));
    });
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Typed {
    n: u64,
}

/// Reads any bytes as every format, runs what comes of it, and checks what must hold.
fn digest(executor: &Executor, bytes: &[u8]) {
    for wire in Wire::ALL {
        let Ok(turn) = wire.parse(bytes) else { continue };
        let report = executor.run(&turn);
        check_report(&turn, &report);
        assert_eq!(report.results().len(), turn.calls().len());
        check_reply(&turn, &turn.reply(&report));
    }
}

/// Pieces of bodies.
fn pieces() -> impl Strategy<Value = String> {
    let call =
        (0..4_usize, "[a-z\\\\\"{}:,0-9 ]{0,12}", "[ -~]{0,20}").prop_map(|(n, name, args)| {
            let id = ["\"a\"", "\"\"", "null", ""][n].to_owned();
            (id, text(&name), text(&args))
        });
    (prop::sample::select(&Wire::ALL[..]), prop::collection::vec(call, 0..4))
        .prop_map(|(wire, calls)| body(wire, &calls))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fault_097_any_bytes_are_read_or_refused_and_what_is_read_is_answered(
        mut bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            pieces().prop_map(String::into_bytes),
        ],
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        thread_local! {
            static EXECUTOR: Executor = Executor::new(ToolSet::new().with(echo())).unwrap();
        }
        for (at, byte) in &changes {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
        }
        EXECUTOR.with(|executor| digest(executor, &bytes));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn fault_097_reading_takes_memory_in_proportion_to_the_body() {
    const SIZE: usize = 1 << 19;
    const FACTOR: usize = 40;
    let Some(run) = alone(fault_097_reading_takes_memory_in_proportion_to_the_body) else {
        let fill = |piece: &str| vec![piece; SIZE / piece.len()].join(",");
        for wire in Wire::ALL {
            let arguments = [
                format!(r#"{{"a":"{}"}}"#, "x".repeat(SIZE)),
                format!(r#"{{"a":"{}"}}"#, "\\\"".repeat(SIZE / 2)),
                format!(r#"{{"a":[{}]}}"#, fill("0")),
                format!(r#"{{"a":[{}]}}"#, fill("{}")),
                format!(r#"{{{}}}"#, fill(r#""k":0"#)),
                "[".repeat(SIZE),
            ];
            let mut bodies: Vec<_> = arguments
                .iter()
                .map(|args| body(wire, &[(text("1"), text("echo"), spelled(wire, args))]))
                .collect();
            let calls: Vec<_> = (0..SIZE / 100).map(|n| nth(wire, n)).collect();
            bodies.push(body(wire, &calls));
            bodies.push(format!("[{}]", fill("0")));
            bodies
                .push(format!(r#"{{"choices":[{0}],"content":[{0}],"output":[{0}]}}"#, fill("{}")));
            for (n, body) in bodies.iter().enumerate() {
                let (turn, peak) = peak(|| wire.parse(body));
                let ratio = peak as f64 / body.len() as f64;
                let read = turn.map_or(0, |turn| turn.calls().len());
                eprintln!("{wire} {n}: {ratio:.1} of {} MiB, {read} calls", body.len() >> 20);
                assert!(peak < FACTOR * body.len() + (2 << 20), "{wire} {n}: {ratio:.1}");
            }
        }
        return;
    };
    assert!(run.status.success(), "{}", run.stderr);
    println!("{}", run.stderr);
}
