//! The checker notices what it is there for: replies that are spoiled in any of the ways that
//! providers refuse.

use serde_json::{Value, json};
use toolpool::{Json, Turn, Wire};

use super::checker::broken_rules;
use super::made_up::report;

fn parallel(wire: Wire) -> (Turn, Vec<Value>) {
    let name = match wire {
        Wire::Ollama | Wire::OpenAiResponses => "every-outcome",
        _ => "parallel",
    };
    let path = format!("{}/tests/fixtures/wire/{wire}/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let turn = wire.parse(&std::fs::read(path).unwrap()).unwrap();
    assert!(turn.calls().len() > 1);
    let messages = turn.reply(&report(&turn, 0));
    (turn, messages.iter().map(|message| message.to_value().unwrap()).collect())
}

fn check(turn: &Turn, messages: &[Value], what: &str) {
    let messages: Vec<Json> = messages.iter().map(Json::from_value).collect();
    assert!(!broken_rules(turn, &messages).is_empty(), "{}: {what}: {messages:#?}", turn.wire());
}

#[test]
fn a_lost_or_repeated_message_is_noticed() {
    for wire in Wire::ALL {
        let (turn, messages) = parallel(wire);
        check(&turn, &[], "nothing");
        check(&turn, &messages[..messages.len() - 1], "the last message is lost");
        check(&turn, &messages[1..], "the echo is lost");
        let mut twice = messages.clone();
        twice.extend(messages.last().cloned());
        check(&turn, &twice, "the last message stands twice");
    }
}

/// The list of results, and of the echo's blocks, in one message each.
fn spoil(wire: Wire, what: &str, spoiled: impl Fn(&mut Vec<Value>, &mut Vec<Value>)) {
    let list = if wire == Wire::Gemini { "parts" } else { "content" };
    let (turn, mut messages) = parallel(wire);
    let [echo, results] = messages.as_mut_slice() else { panic!("{messages:?}") };
    let (Value::Array(echo), Value::Array(results)) = (&mut echo[list], &mut results[list]) else {
        panic!("{echo} {results}")
    };
    spoiled(echo, results);
    check(&turn, &messages, what);
}

#[test]
fn results_that_do_not_fit_are_noticed() {
    for wire in [Wire::Anthropic, Wire::Bedrock, Wire::Gemini] {
        spoil(wire, "a result is lost", |_, results| drop(results.pop()));
        spoil(wire, "a result stands twice", |_, results| results.push(results[0].clone()));
        spoil(wire, "a call is lost", |echo, _| drop(echo.pop()));
        spoil(wire, "a text before the results", |_, results| {
            results.insert(0, json!({ "type": "text", "text": "see" }));
        });
    }
    for wire in [Wire::Anthropic, Wire::Bedrock] {
        spoil(wire, "thinking is lost", |echo, _| drop(echo.remove(0)));
        spoil(wire, "the results are swapped", |_, results| results.swap(0, 1));
        spoil(wire, "a text after the calls", |echo, _| echo.push(json!({ "text": "so" })));
    }
}

#[test]
fn contents_that_are_refused_are_noticed() {
    spoil(Wire::Anthropic, "an empty result", |_, results| results[0]["content"] = json!([]));
    spoil(Wire::Anthropic, "an image in an error", |_, results| {
        let source = json!({ "type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo=" });
        results[0]["content"] = json!([{ "type": "image", "source": source }]);
        results[0]["is_error"] = json!(true);
    });
    spoil(Wire::Anthropic, "arguments that are no object", |echo, _| {
        echo.last_mut().unwrap()["input"] = json!("{}");
    });
    spoil(Wire::Bedrock, "JSON that is no object", |_, results| {
        results[0]["toolResult"]["content"] = json!([{ "json": [1] }]);
    });
    spoil(Wire::Bedrock, "an illegal name", |echo, _| {
        echo.last_mut().unwrap()["toolUse"]["name"] = json!("a.b");
    });
    spoil(Wire::Gemini, "a response that is no object", |_, results| {
        results[0]["functionResponse"]["response"] = json!("15");
    });
    spoil(Wire::Gemini, "an id that nobody gave", |_, results| {
        results[0]["functionResponse"]["id"] = json!("x");
    });
}
