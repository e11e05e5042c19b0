//! One attempt: a request is sent, its answer read within bounds, and what went wrong is named.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::time::{Duration, Instant, SystemTime};

use ureq::http::{HeaderMap, Response};
use ureq::{Body, Error};

use crate::error::Broken;
use crate::model::Model;
use crate::model::client::Client;
use crate::model::client::facts::Facts;
use crate::model::client::lines::Lease;
use crate::model::client::provider::stream_type;
use crate::model::client::retry::asked_wait;
use crate::model::error::{ModelError, ModelErrorKind};
use crate::model::request::Request;
use crate::text::Shown;
use crate::time::{Deadline, FOR_EVER};
use crate::wire::{SHOWN, providers_words};

/// Most that is read of an answer that is an error.
const ERROR_BODY: u64 = 64 * 1024;
/// So little time that no request can be made in it.
const NOTHING_LEFT: Duration = Duration::from_millis(20);
/// Most that is shown of an error without words that are known.
const START: usize = 200;
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

/// Whether a `Content-Encoding` is one: `identity` stands for none, and some servers and proxies
/// write `none`.
fn is_encoded(name: &str) -> bool {
    let name = name.trim();
    !["", "identity", "none"].iter().any(|none| name.eq_ignore_ascii_case(none))
}

impl Head {
    fn of<T>(response: &Response<T>) -> Self {
        let headers = response.headers();
        let header = |name| text(headers, name);
        Self {
            status: response.status().as_u16(),
            request_id: REQUEST_ID_HEADERS.iter().find_map(|name| header(name)).map(str::to_owned),
            content_type: header("content-type").unwrap_or("no content type").to_owned(),
            encoding: header("content-encoding").filter(|name| is_encoded(name)).map(str::to_owned),
            location: header("location").map(str::to_owned),
            retry_after: asked_wait(
                header("retry-after-ms"),
                header("retry-after"),
                SystemTime::now(),
            ),
            should_retry: header("x-should-retry").and_then(|text| text.trim().parse().ok()),
        }
    }

    fn asks_to_wait(&self) -> bool {
        self.retry_after.is_some()
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
        // What is added to an instant there must not overflow.
        let timeout = self.settings.timeout.min(left.unwrap_or(FOR_EVER)).min(FOR_EVER);
        let mut config = post.header("accept", accept).config();
        config = config
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(timeout));
        if stream {
            config = config.timeout_per_read(Some(self.settings.idle_timeout.min(FOR_EVER)));
        }
        let response = config.build().send(body).map_err(|error| self.failed(request, error))?;
        let mut head = Head::of(&response);
        head.request_id = head.request_id.map(|id| self.hidden(&id));
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
        match self.drain(request, body, self.settings.max_body_bytes, take) {
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

    /// An answer that is a success by its status and no message; `body` is what came of one that
    /// is no stream.
    pub(super) fn no_message(
        &self,
        head: &Head,
        body: Option<&[u8]>,
        why: &crate::error::Error,
    ) -> ModelError {
        let why = match why.broken() {
            Some(Broken::Said { name, body }) => return self.said(head, name, body).sent(),
            Some(Broken::Cut) => {
                return head.on(self.error(ModelErrorKind::Interrupted, why)).sent();
            }
            // Cut when no secret is left in it that could be cut, too.
            Some(Broken::Odd { why, quoted }) => {
                format!("{why}{}", Shown::new(&self.hidden(quoted), SHOWN))
            }
            None => why.to_string(),
        };
        let what = match body {
            Some(body) => format!("{why} ({}, {} bytes)", head.content_type, body.len()),
            None => why,
        };
        head.on(self.error(ModelErrorKind::Unreadable, what)).sent()
    }

    /// An error that the provider sent, and the name it gave it outside of its body, if any.
    fn said(&self, head: &Head, name: &str, body: &str) -> ModelError {
        let facts = Facts::of(body, name);
        let words = match providers_words(body) {
            Some(words) => facts.with_upstream(words),
            None => self.start_of(body),
        };
        let words = match name {
            "" => words,
            name => format!("{name}: {words}"),
        };
        let (kind, transient) = match head.status {
            200..300 => facts.kind(self.wire(), head.should_retry, &words),
            status => {
                facts.kind_of(status, self.wire(), head.asks_to_wait(), head.should_retry, &words)
            }
        };
        let words = if words.is_empty() { "no reason given".to_owned() } else { words };
        let mut error = head.on(self.error(kind, words)).transient(transient);
        if let (None, Some(id)) = (&head.request_id, &facts.request_id) {
            error = error.with_request_id(self.hidden(id));
        }
        if facts.is_misspelled(head.status) {
            error = error.worth_another();
        }
        match head.retry_after.or(facts.retry_delay) {
            Some(wait) => error.with_retry_after(wait),
            None => error,
        }
    }

    /// The start of a text, to be shown; cut when no secret is left in it that could be cut, too.
    fn start_of(&self, text: &str) -> String {
        self.hidden(text).chars().filter(|c| !c.is_control()).take(START).collect()
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
        self.said(&head, "", &String::from_utf8_lossy(&read))
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
