//! What was recorded goes through a client: a stream gives the turn it gives without a network,
//! an error tells the provider's own words.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use toolpool::model::{Client, ClientBuilder, Model, ModelErrorKind, Request};
use toolpool::wire::StreamEvent;
use toolpool::{Json, Turn, Wire};

use crate::fixture::Fixture;
use crate::replay::{Answer, Replay};

fn client(wire: Wire) -> ClientBuilder {
    let builder = match wire {
        Wire::Anthropic => Client::anthropic("m"),
        Wire::OpenAiResponses => Client::openai_responses("m"),
        Wire::Gemini => Client::gemini("m"),
        Wire::Bedrock => Client::bedrock("m"),
        Wire::Cohere => Client::cohere("m"),
        Wire::Ollama => Client::ollama("m"),
        _ => Client::openai("m"),
    };
    builder.api_key("key-of-nobody").retries(0)
}

pub(crate) fn stream(wire: Wire, fixture: &Fixture) -> Result<(), String> {
    let bytes = fixture.stream(wire);
    let server = Replay::new([Answer::stream(
        bytes.chunks(bytes.len() / 3 + 1).map(|piece| (Duration::ZERO, piece)),
    )]);
    let client = client(wire).base_url(server.url()).build().map_err(|error| error.to_string())?;
    let turn = client.stream(&Request::new(&[]), &mut |_| {});
    match (turn, alone(wire, &bytes)) {
        (Ok(turn), Ok(alone)) if turn == alone => Ok(()),
        (Err(_), Err(_)) => Ok(()),
        (turn, alone) => Err(format!("{turn:?}\nalone: {alone:?}")),
    }
}

fn alone(wire: Wire, bytes: &[u8]) -> Result<Turn, toolpool::Error> {
    let mut stream = wire.stream();
    let mut tell = |_: StreamEvent<'_>| {};
    stream.feed(bytes, &mut tell)?;
    stream.finish(&mut tell)
}

/// An answer with an error's status.
#[derive(Deserialize)]
pub(crate) struct Refused {
    uri: String,
    status: u16,
    body: String,
}

impl Refused {
    /// All that were recorded.
    pub(crate) fn read(folder: &Path) -> Vec<Self> {
        let text = std::fs::read_to_string(folder.join("errors/recorded_http_errors.json"));
        serde_json::from_str(&text.unwrap()).unwrap()
    }

    pub(crate) fn name(&self, number: usize) -> String {
        format!("refused::{number}_status_{}", self.status)
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        let wire = match &*self.uri {
            uri if uri.contains("/v1/messages") => Wire::Anthropic,
            uri if uri.contains("/responses") => Wire::OpenAiResponses,
            uri if uri.contains("generativelanguage") => Wire::Gemini,
            uri if uri.contains("bedrock") => Wire::Bedrock,
            _ => Wire::OpenAi,
        };
        let is_misspelled = self.body.contains("tool_use_failed");
        let answer = Answer::error(self.status, self.body.clone());
        let server = Replay::new([answer.clone(), answer]);
        let client = client(wire).base_url(server.url()).build().map_err(|e| e.to_string())?;
        let error = client.respond(&Request::new(&[])).expect_err("an error's status");
        let body = Json::parse(self.body.clone())
            .and_then(|body| body.to_value())
            .map_err(|e| e.to_string())?;
        let said = body["error"]["message"].as_str().or(body["message"].as_str());
        let said = said.map(|said| said.chars().take(500).collect::<String>());
        let kinds: &[ModelErrorKind] = match self.status {
            400 => &[ModelErrorKind::Invalid],
            404 => &[ModelErrorKind::NotFound],
            429 => &[ModelErrorKind::RateLimited, ModelErrorKind::OutOfQuota],
            _ => &[ModelErrorKind::ServerFailed],
        };
        let facts = [
            error.status() == Some(self.status),
            kinds.contains(&error.kind()),
            said.is_some_and(|said| error.message().contains(&said)),
            error.attempts() == if is_misspelled { 2 } else { 1 },
            error.request_id() == body.get("request_id").and_then(Value::as_str),
        ];
        match facts {
            [true, true, true, true, true] => Ok(()),
            _ => Err(format!("{facts:?}: {error}\n{}", self.body)),
        }
    }
}
