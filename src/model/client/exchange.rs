//! One attempt: a request is sent, its answer read within bounds, and what went wrong is named.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use ureq::http::{HeaderMap, Response};
use ureq::{Body, Error};

use crate::model::Model;
use crate::model::client::Client;
use crate::model::client::lines::Lease;
use crate::model::client::provider::stream_type;
use crate::model::client::retry::asked_wait;
use crate::model::error::{ModelError, ModelErrorKind};
use crate::model::request::Request;
use crate::time::Deadline;
use crate::turn::Wire;
use crate::wire::providers_words;

/// Most that is read of an answer that is an error.
const ERROR_BODY: u64 = 64 * 1024;
/// So little time that no request can be made in it.
const NOTHING_LEFT: Duration = Duration::from_millis(20);
/// Most that is shown of an answer that is no message.
const SHOWN: usize = 200;
/// What Groq calls it when the model wrote what is no call.
const MISSPELLED: &str = "tool_use_failed";
/// The signs of it in a text.
const MISSPELLINGS: [&str; 2] = [MISSPELLED, "(what the model wrote: "];
const REQUEST_ID_HEADERS: [&str; 4] =
    ["request-id", "x-request-id", "x-amzn-requestid", "x-amzn-request-id"];

/// An answer whose status is a success and whose body is still to be read.
pub(super) struct Answer {
    pub(super) head: Head,
    body: Body,
}

/// What an answer says before its body.
pub(super) struct Head {
    status: u16,
    request_id: Option<String>,
    content_type: String,
    encoding: Option<String>,
    location: Option<String>,
    retry_after: Option<Duration>,
    should_retry: Option<bool>,
}

impl Head {
    fn of<T>(response: &Response<T>) -> Self {
        let headers = response.headers();
        let header = |name| text(headers, name);
        Self {
            status: response.status().as_u16(),
            request_id: REQUEST_ID_HEADERS.iter().find_map(|name| header(name)).map(str::to_owned),
            content_type: header("content-type").unwrap_or("no content type").to_owned(),
            encoding: header("content-encoding").map(str::to_owned),
            location: header("location").map(str::to_owned),
            retry_after: asked_wait(
                header("retry-after-ms"),
                header("retry-after"),
                SystemTime::now(),
            ),
            should_retry: header("x-should-retry").and_then(|text| text.trim().parse().ok()),
        }
    }

    fn on(&self, error: ModelError) -> ModelError {
        let error = error.with_status(self.status);
        match &self.request_id {
            Some(id) => error.with_request_id(id),
            None => error,
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

impl Client {
    /// Sends the request and reads the head of the answer; an answer that is an error is read and
    /// named.
    pub(super) fn open(
        &self,
        lease: &Lease<'_>,
        request: &Request<'_>,
        body: &str,
        stream: bool,
    ) -> Result<Answer, ModelError> {
        if request.cancel.is_cancelled() {
            return Err(self.error(ModelErrorKind::Cancelled, ""));
        }
        let left = request.deadline.remaining(Instant::now());
        if left.is_some_and(|left| left.is_zero()) {
            return Err(self.error(ModelErrorKind::TimedOut, "no time was left to ask"));
        }
        let mut post = lease.agent.post(self.address(stream)).content_type("application/json");
        for (name, value) in &self.headers {
            post = post.header(name, value);
        }
        let accept = if stream { stream_type(self.wire()) } else { "application/json" };
        let timeout = left.map_or(self.timeout, |left| left.min(self.timeout));
        let mut config = post.header("accept", accept).config();
        config = config
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(timeout));
        if stream {
            config = config.timeout_per_read(Some(self.idle_timeout));
        }
        let response = config.build().send(body).map_err(|error| self.failed(request, error))?;
        let head = Head::of(&response);
        let answer = Answer { head, body: response.into_body() };
        match answer.head.status {
            200..300 => Ok(answer),
            300..400 => Err(self.redirected(&answer.head)),
            _ => Err(self.refused(request, answer)),
        }
    }

    /// Reads a body to its end, or until nobody takes it any more, and hands on what comes, as it
    /// comes.
    pub(super) fn read(
        &self,
        request: &Request<'_>,
        answer: Answer,
        take: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<Head, ModelError> {
        let Answer { head, body } = answer;
        if let Some(encoding) = &head.encoding {
            let what = format_args!("the encoding {encoding:?}, which nobody asked for");
            return Err(head.on(self.error(ModelErrorKind::Unreadable, what)).sent());
        }
        match self.drain(request, body, self.max_body_bytes, take) {
            Ok(()) => Ok(head),
            Err(error) => Err(head.on(error)),
        }
    }

    fn drain(
        &self,
        request: &Request<'_>,
        body: Body,
        most: u64,
        take: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), ModelError> {
        let mut reader = body.into_with_config().limit(most).reader();
        let mut buffer = vec![0; 16 * 1024];
        loop {
            match reader.read(&mut buffer) {
                // An agent that is shut down may look like a body that has ended.
                _ if request.cancel.is_cancelled() => {
                    return Err(self.error(ModelErrorKind::Cancelled, "").sent());
                }
                Ok(0) => return Ok(()),
                Ok(n) if take(&buffer[..n]).is_break() => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(request, error.into())),
            }
        }
    }

    /// A body that is a success by its status and no message.
    pub(super) fn no_message(
        &self,
        head: &Head,
        body: &[u8],
        why: &crate::error::Error,
    ) -> ModelError {
        let text = String::from_utf8_lossy(body);
        if let Some(words) = providers_words(&text) {
            let facts = Facts::of(&text);
            let words = facts.with_upstream(words);
            let (kind, transient) = match facts.code {
                Some(code) if code >= 400 => kind_of(code, self.wire(), &facts, head),
                _ => kind_by_name(&words),
            };
            return head.on(self.error(kind, words)).transient(transient).sent();
        }
        let (kind, size, start) = (&head.content_type, body.len(), self.start_of(&text));
        let what = format_args!("{why} ({kind}, {size} bytes: {start})");
        head.on(self.error(ModelErrorKind::Unreadable, what)).sent()
    }

    /// A stream that broke off or is none.
    pub(super) fn broken_stream(&self, head: &Head, why: &crate::error::Error) -> ModelError {
        let why = why.to_string();
        let (kind, transient) = kind_by_name(&why);
        let misspelled = MISSPELLINGS.iter().any(|sign| why.contains(sign));
        let error = head.on(self.error(kind, why)).transient(transient).sent();
        if misspelled { error.worth_another() } else { error }
    }

    /// The start of a text, to be shown; cut when no secret is left in it that could be cut, too.
    fn start_of(&self, text: &str) -> String {
        self.hidden(text).chars().filter(|c| !c.is_control()).take(SHOWN).collect()
    }

    fn redirected(&self, head: &Head) -> ModelError {
        let to = head.location.as_deref().unwrap_or("nowhere");
        let to = to.split(['?', '#']).next().unwrap_or_default();
        let what = format_args!("to {to}, which is not followed");
        head.on(self.error(ModelErrorKind::Redirected, what))
    }

    fn refused(&self, request: &Request<'_>, answer: Answer) -> ModelError {
        let Answer { head, body } = answer;
        let mut read = Vec::new();
        let mut take = |more: &[u8]| {
            read.extend_from_slice(more);
            ControlFlow::Continue(())
        };
        // What could be read of it has to do, except where nobody wants it any more.
        if let Err(error) = self.drain(request, body, ERROR_BODY, &mut take)
            && error.is_cancelled()
        {
            return error;
        }
        let text = String::from_utf8_lossy(&read);
        let facts = Facts::of(&text);
        let words = match providers_words(&text) {
            Some(words) => facts.with_upstream(words),
            None => match self.start_of(&text) {
                start if start.is_empty() => "no reason given".to_owned(),
                start => start,
            },
        };
        let (kind, transient) = kind_of(head.status, self.wire(), &facts, &head);
        let mut error = head.on(self.error(kind, words)).transient(transient);
        if let (None, Some(id)) = (&head.request_id, &facts.request_id) {
            error = error.with_request_id(id);
        }
        if head.status == 400 && facts.names(MISSPELLED) {
            error = error.worth_another();
        }
        match head.retry_after.or(facts.retry_delay) {
            Some(wait) => error.with_retry_after(wait),
            None => error,
        }
    }

    /// Names what kept a request from being sent or its answer from being read.
    fn failed(&self, request: &Request<'_>, error: Error) -> ModelError {
        use ModelErrorKind as Kind;
        if request.cancel.is_cancelled() {
            return self.error(Kind::Cancelled, "").sent();
        }
        let left = request.deadline.remaining(Instant::now());
        let late = left.is_some_and(|left| left < NOTHING_LEFT);
        let named = |kind| self.error(kind, &error);
        let named = match &error {
            Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect) if !late => {
                named(Kind::Unreachable)
            }
            Error::Timeout(_) => {
                let after = match request.deadline {
                    Deadline::At(_) if late => "the request's deadline".to_owned(),
                    _ => format!("the client's timeout ({error})"),
                };
                self.error(Kind::TimedOut, after).sent()
            }
            Error::HostNotFound | Error::ConnectionFailed | Error::ConnectProxyFailed(_) => {
                named(Kind::Unreachable)
            }
            Error::Io(io) => match io.kind() {
                io::ErrorKind::ConnectionRefused
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::NetworkDown
                | io::ErrorKind::AddrNotAvailable
                | io::ErrorKind::NotFound
                | io::ErrorKind::Other => named(Kind::Unreachable),
                io::ErrorKind::PermissionDenied => named(Kind::Unreachable).transient(false),
                io::ErrorKind::InvalidData => named(Kind::Untrusted),
                _ => named(Kind::Interrupted).sent(),
            },
            Error::Tls(_) | Error::Rustls(_) | Error::Pem(_) | Error::TlsRequired => {
                named(Kind::Untrusted)
            }
            Error::BodyExceedsLimit(most) => {
                self.error(Kind::TooLarge, format_args!("over {most} bytes, decompressed")).sent()
            }
            Error::LargeResponseHeader(..) => named(Kind::TooLarge).sent(),
            Error::Protocol(_) | Error::Decompress(..) | Error::BodyStalled => {
                named(Kind::Unreadable).sent()
            }
            Error::TooManyRedirects | Error::RedirectFailed => named(Kind::Redirected).sent(),
            _ => named(Kind::Configuration),
        };
        named.because(error)
    }
}

/// What an error's body tells beside its words.
#[derive(Default)]
struct Facts {
    code: Option<u16>,
    names: Vec<String>,
    request_id: Option<String>,
    retry_delay: Option<Duration>,
    /// What a router was told by the server behind it.
    upstream: Option<String>,
}

impl Facts {
    fn of(body: &str) -> Self {
        let Ok(value) = serde_json::from_str::<Value>(body) else { return Self::default() };
        let value = value.get(0).unwrap_or(&value);
        let error = value.get("error").unwrap_or(value);
        let string = |of: &Value, key: &str| of.get(key).and_then(Value::as_str).map(str::to_owned);
        let delay = |detail: &Value| {
            let text = detail.get("retryDelay")?.as_str()?.strip_suffix('s')?.parse().ok()?;
            Duration::try_from_secs_f64(text).ok()
        };
        let details = error.get("details").and_then(Value::as_array);
        Self {
            code: error
                .get("code")
                .and_then(Value::as_u64)
                .and_then(|code| u16::try_from(code).ok()),
            names: ["type", "code", "status"].iter().filter_map(|key| string(error, key)).collect(),
            request_id: string(value, "request_id"),
            retry_delay: details.into_iter().flatten().find_map(delay),
            upstream: error.get("metadata").and_then(|metadata| string(metadata, "raw")),
        }
    }

    /// The words of a router with those of the server behind it.
    fn with_upstream(&self, words: String) -> String {
        match &self.upstream {
            Some(upstream) if !words.contains(upstream.as_str()) => format!("{words}: {upstream}"),
            _ => words,
        }
    }

    fn names(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }
}

/// What a status means, and whether it may pass.
fn kind_of(status: u16, wire: Wire, facts: &Facts, head: &Head) -> (ModelErrorKind, bool) {
    use ModelErrorKind as Kind;
    let asks_to_wait = head.retry_after.is_some() || facts.retry_delay.is_some();
    let kind = match status {
        401 | 403 => Kind::Unauthorized,
        402 => Kind::OutOfQuota,
        404 => Kind::NotFound,
        408 | 504 => Kind::ServerFailed,
        413 => Kind::RequestTooLarge,
        429 if facts.names("insufficient_quota") => Kind::OutOfQuota,
        // Told to slow down and not until when: Anthropic says so when the money is used up.
        429 if wire == Wire::Anthropic && !asks_to_wait => Kind::OutOfQuota,
        429 => Kind::RateLimited,
        503 | 529 => Kind::Overloaded,
        500.. => Kind::ServerFailed,
        _ => Kind::Invalid,
    };
    let transient =
        kind.is_transient() && !matches!(status, 501 | 505) || matches!(status, 408 | 409 | 425);
    (kind, head.should_retry.unwrap_or(transient))
}

/// What the provider's words mean where no status tells it, because the answer began as a success.
fn kind_by_name(words: &str) -> (ModelErrorKind, bool) {
    let said = |names: &[&str]| names.iter().any(|name| words.contains(name));
    let kind = if said(&["insufficient_quota"]) {
        ModelErrorKind::OutOfQuota
    } else if said(&["invalid_request_error", "INVALID_ARGUMENT", "validationException"]) {
        ModelErrorKind::Invalid
    } else if said(&["overloaded", "UNAVAILABLE", "serviceUnavailable"]) {
        ModelErrorKind::Overloaded
    } else if said(&["rate_limit", "RESOURCE_EXHAUSTED", "throttling"]) {
        ModelErrorKind::RateLimited
    } else if said(&["stream ended before the message did"]) {
        ModelErrorKind::Interrupted
    } else if said(&["stream is not readable", "body is not readable", "body is no message"]) {
        ModelErrorKind::Unreadable
    } else {
        ModelErrorKind::ServerFailed
    };
    let transient = said(&["api_error", "server_error", "INTERNAL", "internalServer"]);
    (kind, transient || kind.is_transient() && kind != ModelErrorKind::ServerFailed)
}
