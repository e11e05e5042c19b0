//! Models: the clients against a server on loopback.

mod client;
#[cfg(target_os = "linux")]
mod leaks;
pub(crate) mod replay;
mod stream;

use std::time::{Duration, Instant};

use replay::Replay;
use toolpool::Deadline;
use toolpool::model::{Client, ClientBuilder, Server};

/// An answer of an OpenAI-compatible server.
pub(crate) const SAID_HI: &str =
    r#"{"choices":[{"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}"#;
pub(crate) const KEY: &str = "sk-canary-5e1fb0c2d4";

pub(crate) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

pub(crate) fn within(span: Duration) -> Deadline {
    Deadline::after(Instant::now(), span)
}

/// A client of a server that plays an OpenAI-compatible one, with a key that must never be shown.
pub(crate) fn client_of(server: &Replay) -> ClientBuilder {
    Client::compatible(Server::Groq, "llama").base_url(server.url()).api_key(KEY)
}
