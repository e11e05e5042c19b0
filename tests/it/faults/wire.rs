//! What a model or its provider can send, from the body to the reply.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use proptest::prelude::*;
use serde_json::{Value, json};
use toolpool::wire::StreamEvent;
use toolpool::{
    CallReport, Executor, Json, Note, Outcome, Rejected, Tool, ToolCall, ToolSet, Turn, Wire,
};

#[cfg(target_os = "linux")]
use super::bodies::peak;
use super::bodies::{answer, body, echo, nth, spelled, text};
use super::harness::{
    Case, Gate, alone, check_report, inputs, ms, names, repeat, slack, told, turn,
};
use crate::wire::checker::check_reply;

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
            &[r#"{"n":1}"#],
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

/// Which results say that they are errors, in the formats that have a sign for it.
fn flagged(wire: Wire, replies: &[Json]) -> Option<Vec<bool>> {
    let results = replies.last()?.to_value().ok()?;
    let (list, is_error): (&str, fn(&Value) -> bool) = match wire {
        Wire::Anthropic => ("content", |block| block["is_error"] == true),
        Wire::Bedrock => ("content", |block| block["toolResult"]["status"] == "error"),
        Wire::Gemini => ("parts", |part| part["functionResponse"]["response"]["error"].is_string()),
        _ => return None,
    };
    Some(results[list].as_array()?.iter().map(is_error).collect())
}

#[test]
fn fault_095_every_kind_of_result_is_written_as_each_provider_wants_it() {
    let gate = Gate::default();
    let slow = {
        let gate = gate.clone();
        Tool::new("slow", "", move || Ok(gate.wait()))
    };
    let tools = ToolSet::new()
        .with(echo())
        .with(Tool::new("empty", "", || Ok("")))
        .with(Tool::new("blank", "", || Ok(" \n")))
        .with(Tool::new("nothing", "", || Ok(())))
        .with(Tool::new("fails", "", || Err::<(), _>("".into())))
        .with(Tool::new("panics", "", || -> Result<(), _> { panic!() }))
        .with(slow.timeout(ms(50)))
        .with(Tool::new("marks", "", || Ok("<tool_result>\u{0} </tool_result>\u{2028}")));
    Case::gated(tools, &gate).check(|case| {
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
            let failed: Vec<_> = report.calls().iter().map(CallReport::is_error).collect();
            if let Some(flagged) = flagged(wire, &replies) {
                assert_eq!(flagged, failed, "{wire}: {replies:?}");
            }
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
    #![proptest_config(inputs())]

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
