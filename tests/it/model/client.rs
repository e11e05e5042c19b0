//! What goes over the wire and what comes of it: keys, bodies, retries, errors, kept connections.

use std::time::Duration;

use toolpool::model::{
    Client, ClientBuilder, Model, ModelError, ModelErrorKind, Request, Server, ToolChoice,
};
use toolpool::{Json, Tool, ToolSet, Wire};

use super::replay::{Answer, Replay};
use super::{KEY, SAID_HI, client_of, ms, within};

fn ask(client: &Client) -> Result<String, ModelError> {
    let conversation = [client.wire().user_message("hello")];
    Ok(client.respond(&Request::new(&conversation).deadline(within(ms(20_000))))?.text().to_owned())
}

#[test]
fn every_wire_has_its_path_its_key_and_its_body() {
    let check = |client: ClientBuilder, path: &str, key: (&str, String), answer: &str| {
        let server = Replay::new([Answer::json(answer)]);
        let client = client.base_url(server.url()).api_key(KEY).build().unwrap();
        assert_eq!(ask(&client).unwrap(), "hi", "{path}");
        let seen = server.seen().remove(0);
        assert_eq!((&*seen.method, &*seen.path), ("POST", path));
        assert_eq!(seen.header(key.0), Some(&*key.1), "{path}");
        assert_eq!(seen.header("content-type"), Some("application/json"));
        let conversation = [client.wire().user_message("hello")];
        assert_eq!(seen.body, client.body(&Request::new(&conversation)).as_str());
        seen
    };
    let bearer = || ("authorization", format!("Bearer {KEY}"));
    let seen = check(
        Client::anthropic("claude"),
        "/v1/messages",
        ("x-api-key", KEY.into()),
        r#"{"role":"assistant","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn"}"#,
    );
    assert_eq!(seen.header("anthropic-version"), Some("2023-06-01"));
    check(Client::openai("gpt"), "/chat/completions", bearer(), SAID_HI);
    check(
        Client::openai_responses("gpt"),
        "/responses",
        bearer(),
        r#"{"status":"completed","output":[{"type":"message","content":[{"type":"output_text","text":"hi"}]}]}"#,
    );
    check(
        Client::bedrock("us.amazon.nova-pro-v1:0"),
        "/model/us.amazon.nova-pro-v1%3A0/converse",
        bearer(),
        r#"{"output":{"message":{"role":"assistant","content":[{"text":"hi"}]}},"stopReason":"end_turn"}"#,
    );
    check(
        Client::gemini("gemini-3"),
        "/models/gemini-3:generateContent",
        ("x-goog-api-key", KEY.into()),
        r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"hi"}]},"finishReason":"STOP"}]}"#,
    );
    check(
        Client::cohere("command"),
        "/v2/chat",
        bearer(),
        r#"{"message":{"role":"assistant","content":[{"type":"text","text":"hi"}]},"finish_reason":"COMPLETE"}"#,
    );
    check(
        Client::ollama("qwen3"),
        "/api/chat",
        bearer(),
        r#"{"message":{"role":"assistant","content":"hi"},"done":true,"done_reason":"stop"}"#,
    );
}

#[test]
fn the_settings_shape_the_body() {
    let tools = ToolSet::new().with(Tool::new("now", "The time", || Ok("noon")));
    let server = Replay::new([Answer::json(SAID_HI)]);
    let client = Client::compatible(Server::Vllm, "qwen3")
        .base_url(server.url())
        .without_key()
        .max_tokens(50)
        .temperature(0.0)
        .reasoning_effort("low")
        .tool_choice(ToolChoice::Required)
        .extra(Json::parse(r#"{"seed":7,"temperature":null}"#).unwrap())
        .header("x-tenant", "t1")
        .build()
        .unwrap();
    let conversation = [Wire::OpenAi.user_message("hello")];
    let request = Request::new(&conversation).system("brief").tools(&tools).parallel(false);
    client.respond(&request).unwrap();
    let seen = server.seen().remove(0);
    assert_eq!(seen.header("x-tenant"), Some("t1"));
    assert_eq!(seen.header("authorization"), None);
    let tools = Wire::OpenAi.tools(&tools);
    assert_eq!(
        seen.body,
        format!(
            r#"{{"model":"qwen3","max_tokens":50,"reasoning_effort":"low","tools":{tools},"tool_choice":"required","parallel_tool_calls":false,"messages":[{{"role":"system","content":"brief"}},{{"role":"user","content":"hello"}}],"seed":7}}"#
        )
    );
}

#[test]
fn a_connection_is_kept_for_the_next_request() {
    let server = Replay::new([SAID_HI; 3].map(Answer::json));
    let client = client_of(&server).build().unwrap();
    for _ in 0..3 {
        assert_eq!(ask(&client).unwrap(), "hi");
    }
    let connections: Vec<_> = server.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0, 0, 0]);
}

#[test]
fn what_may_pass_is_asked_again_with_the_same_bytes() {
    for status in [408, 409, 429, 500, 502, 503, 529] {
        let busy = Answer::error(status, "{}").header("retry-after-ms", "1");
        let server = Replay::new([busy.clone(), busy, Answer::json(SAID_HI)]);
        let client = client_of(&server).build().unwrap();
        assert_eq!(ask(&client).unwrap(), "hi", "{status}");
        let seen = server.seen();
        assert_eq!(seen.len(), 3);
        assert!(seen.iter().all(|one| one.body == seen[0].body));
    }
}

#[test]
fn what_does_not_pass_is_told_at_once() {
    let check = |client: ClientBuilder, answer: Answer, kind: ModelErrorKind| {
        let server = Replay::new([answer, Answer::json(SAID_HI)]);
        let error = ask(&client.base_url(server.url()).api_key(KEY).build().unwrap()).unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (kind, 1), "{error}");
        assert_eq!(server.left(), 1, "{error}");
    };
    let openai = || Client::openai("m");
    for (status, kind) in [
        (400, ModelErrorKind::Invalid),
        (401, ModelErrorKind::Unauthorized),
        (402, ModelErrorKind::OutOfQuota),
        (403, ModelErrorKind::Unauthorized),
        (404, ModelErrorKind::NotFound),
        (413, ModelErrorKind::RequestTooLarge),
        (422, ModelErrorKind::Invalid),
        (501, ModelErrorKind::ServerFailed),
    ] {
        check(openai(), Answer::error(status, "{}"), kind);
    }
    let spent = r#"{"type":"error","error":{"type":"rate_limit_error","message":"spend limit"}}"#;
    check(Client::anthropic("m"), Answer::error(429, spent), ModelErrorKind::OutOfQuota);
    let spent = r#"{"error":{"message":"no money","code":"insufficient_quota"}}"#;
    check(openai(), Answer::error(429, spent), ModelErrorKind::OutOfQuota);
    let told = Answer::error(500, "{}").header("x-should-retry", "false");
    check(openai(), told, ModelErrorKind::ServerFailed);
    check(openai().retries(0), Answer::error(500, "{}"), ModelErrorKind::ServerFailed);
}

#[test]
fn an_error_names_status_request_and_the_providers_words_and_never_the_key() {
    let body = format!(r#"{{"error":{{"type":"auth","message":"bad key {KEY}, sorry"}}}}"#);
    let server = Replay::new([Answer::error(401, body).header("x-request-id", "req_7")]);
    let error = ask(&client_of(&server).build().unwrap()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "groq refused the key: auth: bad key [key], sorry (status 401, request req_7)"
    );
    assert!(!format!("{error:?}").contains(KEY));
    assert_eq!((error.provider(), error.status()), ("groq", Some(401)));
    assert_eq!(error.request_id(), Some("req_7"));
}

#[test]
fn neither_a_token_in_a_header_nor_one_in_a_request_id_is_shown() {
    let body = format!(r#"{{"error":{{"message":"bad key {KEY}"}},"request_id":"{KEY}"}}"#);
    let with_id = || Answer::error(401, body.clone()).header("x-request-id", &format!("for-{KEY}"));
    let server = Replay::new([with_id(), Answer::error(401, body.clone()), with_id()]);
    let by_header =
        || client_of(&server).without_key().header("authorization", format!("Bearer {KEY}"));
    for client in [by_header(), by_header(), client_of(&server)] {
        let error = ask(&client.build().unwrap()).unwrap_err();
        let told = format!("{error} {error:?} {:?}", error.request_id());
        assert!(told.contains("bad key [key]") && !told.contains(KEY), "{told}");
    }
}

#[test]
fn times_without_end_are_none() {
    let server = Replay::new([Answer::json(SAID_HI)]);
    let client = client_of(&server).timeout(Duration::MAX).connect_timeout(Duration::MAX);
    let client = client.idle_timeout(Duration::MAX).build().unwrap();
    assert_eq!(ask(&client).unwrap(), "hi");
    let conversation = [client.wire().user_message("hello")];
    let stream =
        "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\n\n";
    server.push(Answer::stream([(ms(0), stream)]));
    let streamed = client.stream(&Request::new(&conversation), &mut |_| ());
    assert_eq!(streamed.unwrap().text(), "hi");
}

#[test]
fn no_secret_is_cut_in_two_where_a_servers_answer_is_cut() {
    for before in [150, 190, 195, 2030] {
        let page = format!("{}{KEY}{}", "x".repeat(before), "header-secret-77");
        let message = format!(r#"{{"error":{{"message":"{page}"}}}}"#);
        for answer in [Answer::bytes("text/plain", page), Answer::error(400, message)] {
            let server = Replay::new([answer]);
            let client = client_of(&server).header("x-more", "header-secret-77").build().unwrap();
            let error = ask(&client).unwrap_err().to_string();
            assert!(!error.contains("sk-") && !error.contains("header-secret"), "{error}");
        }
    }
}

#[test]
fn a_call_that_the_server_could_not_read_is_asked_for_once_more() {
    let bad = || {
        Answer::error(
            400,
            r#"{"error":{"message":"no call","type":"invalid_request_error","code":"tool_use_failed","failed_generation":"<f"}}"#,
        )
    };
    let server = Replay::new([bad(), Answer::json(SAID_HI)]);
    assert_eq!(ask(&client_of(&server).build().unwrap()).unwrap(), "hi");
    let server = Replay::new([bad(), bad(), Answer::json(SAID_HI)]);
    let error = ask(&client_of(&server).build().unwrap()).unwrap_err();
    assert_eq!((error.attempts(), error.kind()), (2, ModelErrorKind::Invalid));
    assert!(error.message().contains("<f"), "{error}");
    assert_eq!(server.left(), 1);
}

#[test]
fn a_routers_error_tells_what_the_server_behind_it_said() {
    let body = r#"{"error":{"code":400,"message":"Provider returned error","metadata":{"raw":"no such tool","provider_name":"x"}}}"#;
    let server = Replay::new([Answer::error(400, body)]);
    let error = ask(&client_of(&server).build().unwrap()).unwrap_err();
    assert_eq!(error.message(), "Provider returned error: no such tool");
}

#[test]
fn geminis_wait_is_read_from_its_body() {
    let body = r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"slow",
        "details":[{"@type":"x.RetryInfo","retryDelay":"3600.5s"}]}}"#;
    let server = Replay::new([Answer::error(429, body)]);
    let client = Client::gemini("g").base_url(server.url()).api_key(KEY).build().unwrap();
    let error = ask(&client).unwrap_err();
    assert_eq!(error.retry_after(), Some(ms(3_600_500)));
    assert!(error.is_rate_limited() && error.attempts() == 1, "{error}");
}
