//! Streams: what is told while a turn arrives, and what becomes of one that breaks off.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use toolpool::model::{
    Client, ClientBuilder, Model, ModelError, ModelErrorKind, Request, ScriptedModel, StreamEvent,
};
use toolpool::{CancelToken, Executor, Json, Tool, ToolSet, Turn, Wire};

use super::replay::{Answer, Replay};
use super::{KEY, SAID_HI, client_of, ms, within};
use crate::machine;

/// Text, a call in two pieces, another call, the end: one event an entry, the last four of the
/// second call and the end.
fn events(wire: Wire) -> Vec<&'static str> {
    match wire {
        Wire::Anthropic => vec![
            r#"{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","content":[],"usage":{"input_tokens":7,"output_tokens":1}}}"#,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Let me see."}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t1","name":"look","input":{}}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"at\":"}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"\"é1\"}"}}"#,
            r#"{"type":"content_block_stop","index":1}"#,
            r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"t2","name":"pay","input":{}}}"#,
            r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"sum\":2}"}}"#,
            r#"{"type":"content_block_stop","index":2}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":5}}"#,
            r#"{"type":"message_stop"}"#,
        ],
        _ => vec![
            r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":"Let me see."}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"look","arguments":"{\"at\":"}}]}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"é1\"}"}}]}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_2","type":"function","function":{"name":"pay","arguments":"{\"sum\":2}"}}]}}]}"#,
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5}}"#,
            "[DONE]",
        ],
    }
}

fn sse(events: &[&str], line_end: &str) -> String {
    let lines = events.iter().map(|data| format!("data: {data}{line_end}{line_end}"));
    lines.collect()
}

fn all(wire: Wire) -> String {
    sse(&events(wire), "\n")
}

/// The stream up to the middle of the second call's arguments.
fn cut(wire: Wire) -> String {
    let all = all(wire);
    all[..all.find(r#"{\"sum"#).unwrap() + 5].to_owned()
}

/// The stream up to the first call's first piece, and then this event.
fn interrupted(wire: Wire, by: &str) -> String {
    let events = events(wire);
    let call = events.iter().position(|event| event.contains("look")).unwrap();
    let with: Vec<&str> = events[..=call].iter().copied().chain([by]).collect();
    sse(&with, "\n")
}

fn error(wire: Wire, kind: &str) -> String {
    let error = format!(r#""error":{{"type":"{kind}","message":"upstream died"}}"#);
    if wire == Wire::Anthropic {
        format!(r#"{{"type":"error",{error}}}"#)
    } else {
        format!("{{{error}}}")
    }
}

const WIRES: [Wire; 2] = [Wire::Anthropic, Wire::OpenAi];

fn builder(wire: Wire, server: &Replay) -> ClientBuilder {
    match wire {
        Wire::Anthropic => Client::anthropic("claude").base_url(server.url()).api_key(KEY),
        _ => client_of(server),
    }
}

/// What was told, a word an event, and what came of it.
fn stream(model: &impl Model) -> (Vec<String>, Result<Turn, ModelError>) {
    let mut told = Vec::new();
    let conversation = [model.wire().user_message("hello")];
    let request = Request::new(&conversation).deadline(within(ms(60_000)));
    let turn = model.stream(&request, &mut |event| {
        told.push(match event {
            StreamEvent::Text(text) => text.to_owned(),
            StreamEvent::Call(call) => format!("{} {}", call.name(), call.arguments()),
            StreamEvent::Restarted => "restarted".to_owned(),
            other => format!("{other:?}"),
        });
    });
    (told, turn)
}

fn check_whole((told, turn): (Vec<String>, Result<Turn, ModelError>)) {
    let turn = turn.unwrap();
    assert_eq!(told.last().unwrap(), r#"pay {"sum":2}"#);
    assert_eq!(told[told.len() - 2], r#"look {"at":"é1"}"#);
    assert_eq!(told[..told.len() - 2].concat(), "Let me see.");
    assert_eq!((turn.text(), turn.calls().len()), ("Let me see.", 2));
    assert_eq!(turn.usage().output_tokens, 5);
}

fn client(wire: Wire, server: &Replay) -> Client {
    builder(wire, server).build().unwrap()
}

#[test]
fn a_stream_is_asked_for_and_told_while_it_arrives() {
    let _shared = machine::shared();
    for wire in WIRES {
        let pieces: Vec<_> =
            events(wire).iter().map(|event| (ms(200), sse(&[event], "\n"))).collect();
        let server = Replay::new([Answer::stream(pieces)]);
        let client = client(wire, &server);
        let began = Instant::now();
        let mut first = None;
        let conversation = [wire.user_message("hello")];
        let request = Request::new(&conversation).deadline(within(ms(60_000)));
        let turn = client.stream(&request, &mut |_| {
            first.get_or_insert(began.elapsed());
        });
        assert_eq!(turn.unwrap().calls().len(), 2);
        let (first, whole) = (first.unwrap(), began.elapsed());
        println!("{wire}: first told after {first:?} of {whole:?}");
        assert!(first + ms(400) < whole, "{first:?} of {whole:?}");
        let seen = server.seen().remove(0);
        assert_eq!(seen.header("accept"), Some("text/event-stream"));
        let body = Json::parse(seen.body).unwrap().to_value().unwrap();
        assert_eq!(body["stream"], true);
    }
}

#[test]
fn fault_109_a_stream_in_any_shape_is_the_same_turn() {
    for wire in WIRES {
        let events = events(wire);
        let undone: Vec<_> = events.iter().copied().filter(|event| *event != "[DONE]").collect();
        let shapes = [
            all(wire),
            sse(&events, "\r\n"),
            sse(&undone, "\n"),
            all(wire).replace("data: ", ": a comment\n\ndata:"),
        ];
        for shape in shapes {
            let server = Replay::new([
                Answer::stream([(ms(0), shape.clone())]),
                Answer::stream(shape.bytes().map(|byte| (ms(0), [byte]))),
            ]);
            let client = client(wire, &server);
            check_whole(stream(&client));
            check_whole(stream(&client));
            for size in [1, 2, 7, 64] {
                let pieces = shape.as_bytes().chunks(size).map(|piece| (ms(0), piece));
                check_whole(stream(&ScriptedModel::new(wire).streamed(pieces)));
            }
        }
    }
}

#[test]
fn a_whole_body_in_the_place_of_a_stream_is_understood() {
    let server = Replay::new([Answer::json(SAID_HI)]);
    let (told, turn) = stream(&client(Wire::OpenAi, &server));
    assert_eq!((told, turn.unwrap().text()), (vec!["hi".to_owned()], "hi"));
}

#[test]
fn fault_109_of_a_stream_that_breaks_off_only_whole_calls_are_told_and_none_is_run() {
    for wire in WIRES {
        let failed = interrupted(wire, &error(wire, "server_error"));
        let faults = [
            (Answer::stream([(ms(0), cut(wire) + "x")]).cut_after(cut(wire).len()), "broke"),
            (Answer::stream([(ms(0), cut(wire))]), "stream"),
            (Answer::stream([(ms(0), failed)]), "upstream died"),
            (Answer::stream([(ms(0), interrupted(wire, "garbage"))]), "not readable"),
        ];
        for (answer, what) in faults {
            let server = Replay::new([answer, Answer::json(SAID_HI)]);
            let ran = Arc::new(AtomicUsize::new(0));
            let tool = |name| {
                let ran = Arc::clone(&ran);
                let schema = serde_json::json!({ "type": "object" });
                Tool::with_schema(
                    name,
                    "Changes something",
                    &schema,
                    move |_: serde_json::Value| Ok(ran.fetch_add(1, Ordering::SeqCst)),
                )
            };
            let tools = ToolSet::new().with(tool("look")).with(tool("pay"));
            let executor = Executor::builder(tools).build().unwrap();
            let mut batch = executor.begin();
            let mut told = Vec::new();
            let conversation = [wire.user_message("hello")];
            let request = Request::new(&conversation).deadline(within(ms(60_000)));
            let turn = client(wire, &server).stream(&request, &mut |event| {
                if let StreamEvent::Call(call) = event {
                    told.push(call.name().to_owned());
                    batch.push(call.clone());
                }
            });
            let error = turn.unwrap_err();
            assert!(error.to_string().contains(what), "{what}: {error}");
            assert_eq!(error.attempts(), 1, "what was told can't be taken back: {error}");
            assert!(!told.contains(&"pay".to_owned()), "{what}: {told:?}");
            let report = batch.broken();
            assert_eq!(report.results().len(), told.len());
            assert_eq!(ran.load(Ordering::SeqCst), 0);
            assert_eq!(server.left(), 1);
        }
    }
}

#[test]
fn a_stream_of_which_nothing_was_told_is_asked_for_again() {
    for wire in WIRES {
        let overloaded = error(wire, "overloaded_error");
        for broken in [
            Answer::stream([(ms(0), all(wire))]).cut_after(9),
            Answer::stream([(ms(0), sse(&[&overloaded], "\n"))]),
            Answer::error(503, "{}"),
            Answer::reset(),
        ] {
            let server = Replay::new([broken, Answer::stream([(ms(0), all(wire))])]);
            check_whole(stream(&client(wire, &server)));
            assert_eq!(server.seen().len(), 2);
        }
    }
}

#[test]
fn an_error_in_a_stream_has_the_kind_that_its_name_says() {
    for wire in WIRES {
        for (name, kind) in [
            ("rate_limit_error", ModelErrorKind::RateLimited),
            ("authentication_error", ModelErrorKind::Unauthorized),
            ("invalid_request_error", ModelErrorKind::Invalid),
            ("request_too_large", ModelErrorKind::RequestTooLarge),
            ("api_error", ModelErrorKind::ServerFailed),
        ] {
            // After a piece of text, so that nothing is asked again.
            let body = sse(&[events(wire)[..3].to_vec(), vec![&error(wire, name)]].concat(), "\n");
            let server = Replay::new([Answer::stream([(ms(0), body)])]);
            let error = stream(&client(wire, &server)).1.unwrap_err();
            assert_eq!((error.kind(), error.attempts()), (kind, 1), "{wire}: {error}");
        }
        let server = Replay::new([Answer::stream([(ms(0), cut(wire))]).cut_after(5000)]);
        let error = stream(&client(wire, &server)).1.unwrap_err();
        assert_eq!(error.kind(), ModelErrorKind::Interrupted, "{wire}: {error}");
        let server = Replay::new([Answer::stream([(ms(0), "data: {\n\n".to_owned())])]);
        let error = stream(&client(wire, &server)).1.unwrap_err();
        assert_eq!(error.kind(), ModelErrorKind::Unreadable, "{wire}: {error}");
    }
}

#[test]
fn a_call_that_the_server_could_not_read_in_a_stream_is_asked_for_once_more() {
    let bad = r#"{"error":{"message":"no call","type":"invalid_request_error","code":"tool_use_failed","failed_generation":"<f","status_code":400}}"#;
    let bad = || Answer::stream([(ms(0), sse(&[bad], "\n"))]);
    let server = Replay::new([bad(), Answer::stream([(ms(0), all(Wire::OpenAi))])]);
    check_whole(stream(&client(Wire::OpenAi, &server)));
    let server = Replay::new([bad(), bad(), bad()]);
    let error = stream(&client(Wire::OpenAi, &server)).1.unwrap_err();
    assert_eq!((error.attempts(), error.kind()), (2, ModelErrorKind::Invalid), "{error}");
}

#[test]
fn a_stream_that_falls_silent_ends_with_the_idle_timeout() {
    for wire in WIRES {
        let server = Replay::new([Answer::stream([(ms(0), cut(wire)), (ms(60_000), "x".into())])]);
        let client = builder(wire, &server).idle_timeout(ms(200)).build().unwrap();
        let began = Instant::now();
        let (told, turn) = stream(&client);
        let error = turn.unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (ModelErrorKind::TimedOut, 1), "{error}");
        assert!(!told.is_empty());
        assert!(began.elapsed() < ms(30_000), "{:?}", began.elapsed());
    }
}

#[test]
fn a_cancelled_stream_ends_at_once_and_tells_no_more() {
    for wire in WIRES {
        let server = Replay::new([Answer::stream([(ms(0), cut(wire)), (ms(60_000), "x".into())])]);
        let client = client(wire, &server);
        let token = CancelToken::new();
        let conversation = [wire.user_message("hello")];
        let request = Request::new(&conversation).cancel(&token).deadline(within(ms(60_000)));
        let began = Instant::now();
        let error = client.stream(&request, &mut |_| token.cancel()).unwrap_err();
        assert!(error.is_cancelled(), "{error}");
        assert!(began.elapsed() < ms(30_000), "{:?}", began.elapsed());
    }
}
