//! One recording, as far as it is compared.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use toolpool::Wire;

/// A line of the index.
#[derive(Deserialize)]
pub(crate) struct Line {
    pub(crate) file: String,
    pub(crate) format: String,
    pub(crate) streaming: bool,
}

#[derive(Deserialize)]
pub(crate) struct Fixture {
    pub(crate) id: String,
    body: Option<Box<RawValue>>,
    body_base64: Option<String>,
    framing: String,
    pub(crate) expected_calls: Vec<Expected>,
    pub(crate) expected_stop: Value,
    pub(crate) next_request_results: Option<Next>,
}

/// A call as the recording's authors understood it.
#[derive(Deserialize)]
pub(crate) struct Expected {
    pub(crate) id: Option<String>,
    pub(crate) name: String,
    pub(crate) arguments: Value,
    pub(crate) arguments_raw: Option<Value>,
    pub(crate) executable: bool,
    pub(crate) namespace: Option<String>,
    pub(crate) kind: Option<String>,
}

/// How the recording client sent the results.
#[derive(Deserialize)]
pub(crate) struct Next {
    pub(crate) messages: Option<Vec<Value>>,
    pub(crate) assistant_echo: Option<Vec<Value>>,
}

impl Fixture {
    pub(crate) fn read(path: &Path) -> Self {
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    /// The body's text: that of the wire where it was kept, else as the recording has it.
    pub(crate) fn body(&self) -> String {
        let body = self.body.as_ref().map_or("", |body| body.get());
        serde_json::from_str::<String>(body).unwrap_or_else(|_| body.to_owned())
    }

    /// The bytes of a stream. Where a recording keeps the events alone, a line each, they are
    /// framed as the provider frames them.
    pub(crate) fn stream(&self, wire: Wire) -> Vec<u8> {
        if let Some(coded) = &self.body_base64 {
            return STANDARD.decode(coded).unwrap();
        }
        let body = self.body();
        if !self.framing.ends_with("(no framing recorded)") {
            return body.into_bytes();
        }
        let mut stream = String::new();
        for line in body.lines().filter(|line| !line.is_empty()) {
            if matches!(wire, Wire::Anthropic | Wire::OpenAiResponses) {
                let event: Value = serde_json::from_str(line).unwrap();
                stream += &format!("event: {}\n", event["type"].as_str().unwrap_or_default());
            }
            stream += &format!("data: {line}\n\n");
        }
        stream.into_bytes()
    }
}
