//! Asking a provider over HTTP, on the caller's thread.
//!
//! A request is a `POST` that changes nothing but the account's balance, so it is made again when
//! a failure may pass. Redirects are never followed, and proxies of the environment used only on
//! request: the key and the conversation go to the address that was given and nowhere else.

mod builder;
mod exchange;
mod facts;
mod lines;
mod provider;
mod resolve;
mod retry;
mod secret;

pub use builder::ClientBuilder;
pub use provider::Server;
pub use secret::Secret;

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;
use std::time::Instant;

use log::Level;
use ureq::http::{HeaderName, HeaderValue};

use crate::json::Json;
use crate::logging::log;
use crate::model::Model;
use crate::model::client::builder::Settings;
use crate::model::client::lines::Lines;
use crate::model::client::provider::{Provider, address};
use crate::model::error::{ModelError, ModelErrorKind};
use crate::model::request::Request;
use crate::turn::{Turn, Wire};
use crate::wire::{Parameters, StreamEvent, ToolChoice};

/// A model of a provider, asked over HTTP. Used from many threads at once.
///
/// | setting | default |
/// | --- | --- |
/// | key | from the provider's environment variable |
/// | `max_tokens`, `temperature`, `reasoning_effort` | the provider's |
/// | `prompt_caching` | on: tools and system prompt are marked where the provider wants it |
/// | `timeout` of one attempt | 600 s, the request's deadline if that is sooner |
/// | `connect_timeout` | 10 s, and as much for the lookup of the name |
/// | `idle_timeout`, a stream's longest silence | 300 s |
/// | `retries` | 2, after 0.5 s and 1 s, or when the provider asks to be asked again |
/// | `max_retry_wait` | 60 s |
/// | `resend` where a connection broke | yes |
/// | `max_body_bytes`, decompressed | 32 MiB |
/// | redirects | never followed |
/// | proxies of the environment | not used |
///
/// A request that is [cancelled](Request::cancel) while it waits for the provider ends at once:
/// its connection is closed. Only a TCP connect in progress isn't interrupted; it ends with the
/// connect timeout. Requests on other threads are left alone, because each has a connection of its
/// own while it lasts; afterwards connections are kept for the next request.
///
/// ```no_run
/// use toolpool::Wire;
/// use toolpool::model::{Client, Model, Request, Server};
///
/// let claude = Client::anthropic("claude-sonnet-4-5").max_tokens(4096).build()?;
/// let local = Client::compatible(Server::Vllm, "qwen3").base_url("http://gpu:8000/v1").build()?;
///
/// let conversation = [claude.wire().user_message("Who wrote Faust?")];
/// println!("{}", claude.respond(&Request::new(&conversation))?.text());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Client {
    provider: Provider,
    provider_name: String,
    base_url: String,
    has_key: bool,
    secrets: Vec<Secret>,
    headers: Vec<(HeaderName, HeaderValue)>,
    settings: Settings,
    lines: Lines,
}

impl Client {
    /// A model of Anthropic; the key is in `ANTHROPIC_API_KEY`.
    pub fn anthropic(model: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(Provider::of(Wire::Anthropic), model.into())
    }

    /// A model of OpenAI, by Chat Completions; the key is in `OPENAI_API_KEY`.
    pub fn openai(model: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(Provider::of(Wire::OpenAi), model.into())
    }

    /// A model of OpenAI, by Responses; the key is in `OPENAI_API_KEY`.
    pub fn openai_responses(model: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(Provider::of(Wire::OpenAiResponses), model.into())
    }

    /// A model of Gemini; the key is in `GEMINI_API_KEY` or `GOOGLE_API_KEY`.
    pub fn gemini(model: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(Provider::of(Wire::Gemini), model.into())
    }

    /// A model on Bedrock, by Converse; the bearer key is in `AWS_BEARER_TOKEN_BEDROCK`, the region
    /// in `AWS_REGION` or `AWS_DEFAULT_REGION`. Requests aren't signed (SigV4): an access key, as
    /// in `AWS_ACCESS_KEY_ID`, or a role won't do.
    pub fn bedrock(model: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(Provider::of(Wire::Bedrock), model.into())
    }

    /// A model of Cohere; the key is in `CO_API_KEY` or `COHERE_API_KEY`.
    pub fn cohere(model: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(Provider::of(Wire::Cohere), model.into())
    }

    /// A model of Ollama on this machine, by its own format; no key, or that in `OLLAMA_API_KEY`.
    pub fn ollama(model: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(Provider::of(Wire::Ollama), model.into())
    }

    /// A model of a server that speaks the format of OpenAI Chat; what is particular to one stands
    /// at its [`Server`]. For one that isn't listed take
    /// any and set [`base_url`](ClientBuilder::base_url), [`api_key`](ClientBuilder::api_key) and
    /// [`provider_name`](ClientBuilder::provider_name).
    pub fn compatible(server: Server, model: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(server.provider(), model.into())
    }

    /// The body that a request has, for a log or a test. It holds no key.
    pub fn body(&self, request: &Request<'_>) -> Json {
        self.body_of(request, false)
    }

    /// How many name lookups haven't come back, those that were walked away from included.
    pub fn pending_lookups(&self) -> usize {
        self.lines.names().under_way()
    }

    fn body_of(&self, request: &Request<'_>, stream: bool) -> Json {
        let mut prompt = request.prompt.clone();
        let settings = &self.settings;
        if let (ToolChoice::Auto, Some(choice)) = (&prompt.choice, &settings.choice) {
            prompt.choice = choice.clone();
        }
        let parameters = Parameters {
            max_tokens: settings.max_tokens,
            temperature: settings.temperature,
            effort: settings.effort.as_deref(),
            cache: settings.cache,
            stream,
            compatible: self.provider.compatible,
            extra: settings.extra.as_ref(),
            ..Parameters::new(&settings.model)
        };
        self.wire().request(&prompt, &parameters)
    }

    fn address(&self, stream: bool) -> String {
        address(self.wire(), &self.base_url, &self.settings.model, stream)
    }

    /// An error of this provider, in which no secret stands.
    fn error(&self, kind: ModelErrorKind, message: impl fmt::Display) -> ModelError {
        ModelError::new(kind, &self.provider_name, self.hidden(&message.to_string()))
    }

    /// `text` without the secrets that went with the request, which a server may repeat.
    fn hidden(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| secret.hidden_in(&text))
    }

    /// Makes attempts until one succeeds or another makes no sense, which is so when something of
    /// the answer was `told` already.
    fn persistently(
        &self,
        request: &Request<'_>,
        told: &Cell<bool>,
        mut attempt: impl FnMut() -> Result<Turn, ModelError>,
    ) -> Result<Turn, ModelError> {
        let mut asked_again = false;
        let mut number = 0;
        loop {
            number += 1;
            let error = match attempt() {
                Ok(turn) => return Ok(turn),
                Err(error) => error.after_attempts(number),
            };
            if told.get() {
                return Err(error);
            }
            if error.is_worth_another() && !asked_again {
                asked_again = true;
                log(Level::Debug, format_args!("asking again: {error}"));
                continue;
            }
            let remaining = request.deadline.remaining(Instant::now());
            let random = RandomState::new().hash_one(number);
            let Some(wait) = self.settings.retries.wait(number, &error, remaining, random) else {
                return Err(error);
            };
            log(Level::Debug, format_args!("asking again in {wait:?}: {error}"));
            if !request.cancel.sleep(wait) {
                return Err(self.error(ModelErrorKind::Cancelled, "").after_attempts(number));
            }
        }
    }
}

impl Model for Client {
    fn name(&self) -> &str {
        &self.settings.model
    }

    fn wire(&self) -> Wire {
        self.provider.wire
    }

    fn respond(&self, request: &Request<'_>) -> Result<Turn, ModelError> {
        let body = self.body_of(request, false);
        let lease = self.lines.lease(&request.cancel);
        self.persistently(request, &Cell::new(false), || {
            let answer = self.open(&lease, request, body.as_str(), false)?;
            let mut read = Vec::new();
            let head = self.read(request, answer, &mut |more| {
                read.extend_from_slice(more);
                ControlFlow::Continue(())
            })?;
            self.wire().parse(&read).map_err(|error| self.no_message(&head, Some(&read), &error))
        })
    }

    fn stream(
        &self,
        request: &Request<'_>,
        tell: &mut dyn FnMut(StreamEvent<'_>),
    ) -> Result<Turn, ModelError> {
        let body = self.body_of(request, true);
        let lease = self.lines.lease(&request.cancel);
        let told = Cell::new(false);
        let mut tell = |event: StreamEvent<'_>| {
            told.set(true);
            tell(event);
        };
        self.persistently(request, &told, || {
            let answer = self.open(&lease, request, body.as_str(), true)?;
            let mut assembler = self.wire().stream();
            let mut broken = None;
            let head =
                self.read(request, answer, &mut |more| match assembler.feed(more, &mut tell) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => {
                        broken = Some(error);
                        ControlFlow::Break(())
                    }
                })?;
            let turn = match broken {
                Some(error) => Err(error),
                None => assembler.finish(&mut tell),
            };
            turn.map_err(|error| self.no_message(&head, None, &error))
        })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base_url = self.base_url.split('?').next().unwrap_or_default();
        let headers: Vec<_> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Client")
            .field("provider", &self.provider_name)
            .field("model", &self.settings.model)
            .field("base_url", &base_url)
            .field("key", &if self.has_key { "set" } else { "not set" })
            .field("headers", &headers)
            .finish_non_exhaustive()
    }
}
