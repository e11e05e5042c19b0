//! What a model can write as arguments: no JSON, too deep, a key twice, odd numbers and characters.

use serde_json::{Value, json};
use toolpool::{Executor, Tool, ToolSet, Wire};

#[cfg(target_os = "linux")]
use super::bodies::peak;
use super::bodies::{answer, body, echo, nth, spelled, text};
use super::harness::{CANARY, Case, alone, check_report, names, told, turn};
use crate::wire::checker::check_reply;

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
    ("\u{feff}{}", None),
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
fn fault_087_a_typed_number_is_the_nearest_one_to_what_was_written() {
    // Without care the last bit of these is another one.
    let numbers = ["0.4288885300000001", "7.120236347223045e-307", "9007199254740993", "2.1e67"];
    let bits = Tool::new("bits", "", |args: Number| Ok(args.n.to_bits().to_string()));
    Case::new(ToolSet::new().with(bits)).check(|case| {
        let calls: Vec<_> = numbers.iter().map(|n| ("bits", format!(r#"{{"n":{n}}}"#))).collect();
        let report = case.run(&turn(calls.iter().map(|(name, n)| (*name, n.as_str()))));
        for (index, number) in numbers.iter().enumerate() {
            let nearest: f64 = number.parse().unwrap();
            assert_eq!(told(&report, index), nearest.to_bits().to_string(), "{number}");
        }
        let report = case.run(&turn([("bits", r#"{"n":1e999}"#)]));
        assert_eq!(names(&report), ["bad_arguments"]);
    });
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Number {
    n: f64,
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
