//! Gemini `generateContent`.

use serde_json::Value;
use toolpool::Turn;

use super::{Rules, came, elements, is_made_of, text, word};

pub(super) fn check(turn: &Turn, contents: &[Value], rules: &mut Rules) {
    let came = came(turn);
    let Some((echo, results)) = contents.split_first() else {
        let nothing = came.is_none_or(|came| elements(&came, "parts").iter().all(is_empty));
        let holds = nothing && (turn.calls().is_empty() || turn.message().is_some());
        return rules.demand(holds, "the model's content is missing");
    };
    rules.only_keys(echo, &["role", "parts"], "echo");
    rules.demand(text(echo, "role") == "model", "echo: role");
    let parts = elements(echo, "parts");
    rules.demand(!parts.is_empty(), "echo: parts must not be empty");
    let calls: Vec<&Value> = parts.iter().filter_map(|part| part.get("functionCall")).collect();
    let is_empty_text = |part: &Value| part["text"] == "" && is_empty(part);
    rules.demand(!parts.iter().any(is_empty_text), "echo: it has an empty text parameter");
    for call in &calls {
        check_call(call, rules);
    }
    rules.unique(ids(&calls), "echo: ids");
    if let Some(came) = came {
        let same = signatures(parts) == signatures(elements(&came, "parts"));
        rules.demand(same, "echo: every thoughtSignature must come back on its part");
    }

    if calls.is_empty() {
        return rules.demand(results.is_empty(), "a content that no call asked for");
    }
    let [results] = results else {
        return rules.demand(false, "all results must be in one content");
    };
    rules.only_keys(results, &["role", "parts"], "results");
    rules.demand(text(results, "role") == "user", "results: role");
    let results = elements(results, "parts");
    rules.demand(
        results.len() == calls.len(),
        "the number of function response parts is equal to the number of function call parts",
    );
    for (part, call) in results.iter().zip(&calls) {
        rules.only_keys(part, &["functionResponse"], "results");
        check_response(&part["functionResponse"], call, rules);
    }
}

/// Whether nothing is in a part, or no more than an empty text or a call that is none.
fn is_empty(part: &Value) -> bool {
    let no_call = |call: &Value| {
        !call["name"].is_string() && !call["id"].is_string() && call["args"].is_null()
    };
    let is_null = |(key, value): (&String, &Value)| key == "functionCall" && value.is_null();
    let beside_text = |(key, value): (&String, &Value)| {
        let is_unsigned = key == "thoughtSignature" && value == "";
        key == "text" || key == "thought" || is_unsigned || is_null((key, value))
    };
    let says_nothing = part["text"].as_str().is_none_or(str::is_empty)
        && part.as_object().is_some_and(|members| members.iter().all(beside_text));
    says_nothing
        || part.as_object().is_none_or(|members| members.iter().all(is_null))
        || part.get("functionCall").is_some_and(|call| !call.is_null() && no_call(call))
}

/// The signatures, each with how many calls stand before its part.
fn signatures(parts: &[Value]) -> Vec<(usize, &Value)> {
    let called = |part: &&Value| part["functionCall"].is_object() && !is_empty(part);
    let before = |at: usize| parts[..at].iter().filter(called).count();
    let signed = parts
        .iter()
        .enumerate()
        .filter(|(_, part)| !is_empty(part) && part.get("thoughtSignature").is_some())
        .filter(|(_, part)| part["thoughtSignature"] != "");
    signed.map(|(at, part)| (before(at), &part["thoughtSignature"])).collect()
}

fn ids<'a>(calls: &[&'a Value]) -> impl Iterator<Item = &'a str> {
    calls.iter().filter_map(|call| call["id"].as_str())
}

fn check_call(call: &Value, rules: &mut Rules) {
    rules.demand(is_name(text(call, "name")), format!("echo: name {:?}", text(call, "name")));
    let arguments = &call["args"];
    let holds = arguments.is_null() || arguments.is_object();
    rules.demand(holds, format!("echo: args {arguments}"));
    let id = &call["id"];
    let holds = id.is_null() || id.as_str().is_some_and(|id| !id.is_empty());
    rules.demand(holds, format!("echo: id {id}"));
}

fn is_name(name: &str) -> bool {
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    starts && is_made_of(name, 128, |c| word(c) || c == '.' || c == ':')
}

fn check_response(response: &Value, call: &Value, rules: &mut Rules) {
    let name = text(response, "name");
    rules.only_keys(response, &["name", "id", "response", "parts"], name);
    rules.demand(call["name"] == response["name"], format!("{name}: not the call's name"));
    rules.demand(call.get("id") == response.get("id"), format!("{name}: not the call's id"));
    let told = response["response"].as_object();
    let (output, error) = (&response["response"]["output"], &response["response"]["error"]);
    let one = |told: &serde_json::Map<_, _>| {
        told.len() == 1 && (told.contains_key("output") || told.contains_key("error"))
    };
    rules.demand(
        told.is_some_and(one),
        format!("{name}: response must be an object with output or error"),
    );
    let words = |value: &Value| value.as_str().is_none_or(|text| !text.trim().is_empty());
    rules.demand(words(output) && words(error), format!("{name}: an empty response"));
    for part in elements(response, "parts") {
        let data = &part["inlineData"];
        let holds = !text(data, "mimeType").is_empty() && !text(data, "data").is_empty();
        rules.demand(holds && error.is_null(), format!("{name}: part {part}"));
    }
}
