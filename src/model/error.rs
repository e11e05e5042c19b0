//! Why a model didn't answer.

use std::fmt;
use std::time::Duration;

use crate::error::bounded;

/// What kind of failure kept a model from answering. One table gives each its stable name and
/// whether it may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ModelErrorKind {
    /// The request can't be made like this: an impossible address or header, a script that has
    /// ended.
    Configuration,
    /// It was called off.
    Cancelled,
    /// The answer wasn't there when the request's deadline, or the client's timeout for one
    /// attempt, was.
    TimedOut,
    /// The provider couldn't be reached; nothing was sent.
    Unreachable,
    /// The server isn't who it should be: its certificate can't be trusted.
    Untrusted,
    /// The connection broke when the request, or a part of it, had been sent.
    Interrupted,
    /// The key is wrong or missing, or may not do this.
    Unauthorized,
    /// There is no such model or address.
    NotFound,
    /// The provider doesn't accept the request as it stands.
    Invalid,
    /// The request is too large.
    RequestTooLarge,
    /// Too many requests or tokens for now.
    RateLimited,
    /// The account's money or quota is used up; waiting doesn't help.
    OutOfQuota,
    /// The provider has more to do than it can, for now.
    Overloaded,
    /// The provider failed.
    ServerFailed,
    /// The server sends elsewhere. No redirect is followed, because the key would go along.
    Redirected,
    /// What came is no message of the format.
    Unreadable,
    /// What came is larger than the client takes.
    TooLarge,
}

impl ModelErrorKind {
    fn facts(self) -> (&'static str, bool, &'static str) {
        match self {
            Self::Configuration => ("configuration", false, "can't be asked"),
            Self::Cancelled => ("cancelled", false, "was not waited for: the request is cancelled"),
            Self::TimedOut => ("timed_out", false, "did not answer in time"),
            Self::Unreachable => ("unreachable", true, "can't be reached"),
            Self::Untrusted => ("untrusted", false, "is not trusted"),
            Self::Interrupted => ("interrupted", true, "broke the connection off"),
            Self::Unauthorized => ("unauthorized", false, "refused the key"),
            Self::NotFound => ("not_found", false, "knows no such model or address"),
            Self::Invalid => ("invalid", false, "refused the request"),
            Self::RequestTooLarge => ("request_too_large", false, "found the request too large"),
            Self::RateLimited => ("rate_limited", true, "asks to slow down"),
            Self::OutOfQuota => ("out_of_quota", false, "says the quota is used up"),
            Self::Overloaded => ("overloaded", true, "is overloaded"),
            Self::ServerFailed => ("server_failed", true, "failed"),
            Self::Redirected => ("redirected", false, "sends elsewhere"),
            Self::Unreadable => ("unreadable", false, "sent what is no message"),
            Self::TooLarge => ("too_large", false, "sent more than is taken"),
        }
    }

    /// The stable name.
    pub fn name(self) -> &'static str {
        self.facts().0
    }

    /// Whether the same request may succeed later, as a rule; of one error,
    /// [`ModelError::is_transient`] knows better.
    pub fn is_transient(self) -> bool {
        self.facts().1
    }
}

/// Why a model didn't answer: what kind of failure, and what the provider said.
///
/// Opaque, the size of a pointer. Its text names the provider, the status, the request's id and
/// the provider's own message, and never the key.
#[derive(Debug)]
pub struct ModelError(Box<Repr>);

#[derive(Debug)]
struct Repr {
    kind: ModelErrorKind,
    provider: String,
    status: Option<u16>,
    request_id: Option<String>,
    message: String,
    retry_after: Option<Duration>,
    transient: bool,
    sent: bool,
    #[cfg_attr(not(feature = "http"), allow(dead_code, reason = "for the model clients"))]
    worth_another: bool,
    attempts: u32,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ModelError {
    /// An error of a model of one's own; `message` says what happened.
    pub fn new(kind: ModelErrorKind, provider: &str, message: impl fmt::Display) -> Self {
        Self(Box::new(Repr {
            kind,
            provider: provider.to_owned(),
            status: None,
            request_id: None,
            message: bounded(&message),
            retry_after: None,
            transient: kind.is_transient(),
            sent: false,
            worth_another: false,
            attempts: 1,
            source: None,
        }))
    }

    /// Adds the HTTP status.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.0.status = Some(status);
        self
    }

    /// Adds the id by which the provider knows the request.
    #[must_use]
    pub fn with_request_id(mut self, id: impl fmt::Display) -> Self {
        self.0.request_id = Some(bounded(&id));
        self
    }

    /// Adds how long the provider asks to wait.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    #[cfg(feature = "http")]
    pub(crate) fn transient(mut self, transient: bool) -> Self {
        self.0.transient = transient;
        self
    }

    #[cfg(feature = "http")]
    pub(crate) fn sent(mut self) -> Self {
        self.0.sent = true;
        self
    }

    /// What the model wrote was at fault, and it writes something else when it is asked again.
    #[cfg(feature = "http")]
    pub(crate) fn worth_another(mut self) -> Self {
        self.0.worth_another = true;
        self
    }

    #[cfg(feature = "http")]
    pub(crate) fn is_worth_another(&self) -> bool {
        self.0.worth_another
    }

    #[cfg(feature = "http")]
    pub(crate) fn after_attempts(mut self, attempts: u32) -> Self {
        self.0.attempts = attempts;
        self
    }

    #[cfg(feature = "http")]
    pub(crate) fn because(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The kind.
    pub fn kind(&self) -> ModelErrorKind {
        self.0.kind
    }

    /// The provider's name.
    pub fn provider(&self) -> &str {
        &self.0.provider
    }

    /// The HTTP status, where there was an answer.
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// The id by which the provider knows the request.
    pub fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }

    /// What the provider said, or what happened; at most 2 KiB.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// How long the provider asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        self.0.transient
    }

    /// Whether the provider may have seen the request, worked on it and counted its tokens,
    /// though no answer came.
    pub fn was_sent(&self) -> bool {
        self.0.sent
    }

    /// How many attempts were made.
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// The request was called off.
    pub fn is_cancelled(&self) -> bool {
        self.0.kind == ModelErrorKind::Cancelled
    }

    /// The answer didn't come in time.
    pub fn is_timeout(&self) -> bool {
        self.0.kind == ModelErrorKind::TimedOut
    }

    /// The provider asks to slow down.
    pub fn is_rate_limited(&self) -> bool {
        self.0.kind == ModelErrorKind::RateLimited
    }
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Repr { kind, provider, status, request_id, message, retry_after, attempts, .. } =
            &*self.0;
        write!(f, "{provider} {}", kind.facts().2)?;
        if !message.is_empty() {
            write!(f, ": {message}")?;
        }
        let mut notes = Vec::new();
        notes.extend(status.map(|status| format!("status {status}")));
        notes.extend(request_id.as_ref().map(|id| format!("request {id}")));
        notes.extend(retry_after.map(|wait| format!("asks to wait {wait:?}")));
        notes.extend((*attempts > 1).then(|| format!("{attempts} attempts")));
        if !notes.is_empty() {
            write!(f, " ({})", notes.join(", "))?;
        }
        Ok(())
    }
}

impl std::error::Error for ModelError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_provider_status_request_and_the_providers_words() {
        let error = ModelError::new(ModelErrorKind::RateLimited, "anthropic", "slow down")
            .with_status(429)
            .with_request_id("req_1")
            .with_retry_after(Duration::from_secs(30));
        assert_eq!(
            error.to_string(),
            "anthropic asks to slow down: slow down (status 429, request req_1, asks to wait 30s)"
        );
        assert!(error.is_rate_limited() && error.is_transient() && !error.was_sent());
        assert_eq!(size_of::<ModelError>(), size_of::<usize>());
    }
}
