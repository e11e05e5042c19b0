//! The two kinds of error: [`ToolError`], a failure the model is told, and [`Error`], a mistake in
//! configuration or input that the program is told.

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Most text kept of an error, for the model and for the operator each, in bytes.
pub(crate) const ERROR_TEXT_LIMIT: usize = 2 * 1024;
/// Most causes kept of an error.
const CAUSES_LIMIT: usize = 8;

/// What kind of failure a tool reports. One table gives each its stable name, whether a retry may
/// help, and the default text for the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ToolErrorKind {
    /// Anything that has no kind of its own.
    Other,
    /// The arguments don't make sense to the tool.
    InvalidArguments,
    /// What was asked for doesn't exist.
    NotFound,
    /// The tool may not do that.
    PermissionDenied,
    /// The state of the world forbids it: it exists already, it was changed meanwhile.
    Conflict,
    /// The backend asks to slow down.
    RateLimited,
    /// The backend can't be reached or is overloaded for now.
    Unavailable,
    /// The backend didn't answer in time.
    TimedOut,
    /// The tool noticed that it was cancelled.
    Cancelled,
    /// The tool did its work, but its result can't be told: it can't be serialised, or is an image or
    /// a document over its limit.
    BadResult,
}

struct KindFacts {
    name: &'static str,
    retryable: bool,
    text: &'static str,
}

impl ToolErrorKind {
    fn facts(self) -> KindFacts {
        let (name, retryable, text) = match self {
            Self::Other => ("other", false, "failed"),
            Self::InvalidArguments => ("invalid_arguments", false, "failed: invalid arguments"),
            Self::NotFound => ("not_found", false, "failed: not found"),
            Self::PermissionDenied => ("permission_denied", false, "failed: permission denied"),
            Self::Conflict => ("conflict", false, "failed: conflict with the current state"),
            Self::RateLimited => ("rate_limited", true, "failed: rate limited, try again later"),
            Self::Unavailable => ("unavailable", true, "failed: temporarily unavailable"),
            Self::TimedOut => ("timed_out", true, "failed: the backend did not answer in time"),
            Self::Cancelled => ("cancelled", false, "failed: cancelled"),
            Self::BadResult => ("bad_result", false, "ran, but its result can't be shown"),
        };
        KindFacts { name, retryable, text }
    }

    /// The stable name, as in JSON.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// Whether the same call may succeed when it is made again.
    pub fn is_retryable(self) -> bool {
        self.facts().retryable
    }

    /// What the model is told when the tool gives no words of its own.
    pub fn default_text(self) -> &'static str {
        self.facts().text
    }
}

/// A failure that a tool reports, told to the model as data.
///
/// Text for the model and text for the operator never mix. Strings are the author's words and are
/// shown to the model; any other error that `?` converts tells the model only its kind, and the
/// operator everything, unless the tool says
/// [`reveal_errors`](crate::Tool::reveal_errors). The kind is that of the I/O error in its chain of
/// causes, if there is one. All texts are cut at 2 KiB.
///
/// It isn't a [`std::error::Error`] itself, so that `?` converts every other error.
///
/// ```
/// use toolpool::{ToolError, ToolErrorKind};
///
/// fn port(text: &str) -> Result<u16, ToolError> {
///     if text.is_empty() {
///         return Err("give a port number".into()); // shown to the model
///     }
///     Ok(text.parse()?) // the model learns "failed", the operator the reason
/// }
/// assert_eq!(port("").unwrap_err().model_text(), "give a port number");
/// assert_eq!(port("x").unwrap_err().model_text(), "failed");
/// assert!(port("x").unwrap_err().operator_text().contains("invalid digit"));
///
/// let busy = ToolError::new(ToolErrorKind::Unavailable, "the warehouse is being counted");
/// assert!(busy.is_retryable());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolError {
    kind: ToolErrorKind,
    /// The author's words, or nothing: then the kind's default text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    details: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    causes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_after: Option<Duration>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    safe_to_retry: bool,
    #[serde(skip)]
    undecoded: bool,
}

impl ToolError {
    /// An error with words for the model.
    pub fn new(kind: ToolErrorKind, text: impl fmt::Display) -> Self {
        Self { text: Some(bounded(&text)), ..Self::of_kind(kind) }
    }

    /// An error that tells the model its kind's default text.
    pub fn of_kind(kind: ToolErrorKind) -> Self {
        Self {
            kind,
            text: None,
            details: String::new(),
            causes: Vec::new(),
            retry_after: None,
            safe_to_retry: false,
            undecoded: false,
        }
    }

    /// Adds what only the operator learns.
    #[must_use]
    pub fn with_details(mut self, details: impl fmt::Display) -> Self {
        self.details = bounded(&details);
        self
    }

    /// Says how long to wait before another attempt. Makes the error retryable.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Says that nothing was changed, so that another attempt is safe even for a tool that
    /// mutates. Makes the error retryable.
    #[must_use]
    pub fn safe_to_retry(mut self) -> Self {
        self.safe_to_retry = true;
        self
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ToolErrorKind {
        self.kind
    }

    /// What the model is told.
    pub fn model_text(&self) -> &str {
        self.text.as_deref().unwrap_or_else(|| self.kind.default_text())
    }

    /// What the operator is told: the details, or the model's text when there are none.
    pub fn operator_text(&self) -> &str {
        if self.details.is_empty() { self.model_text() } else { &self.details }
    }

    /// The chain of causes below the error, outermost first, at most 8.
    pub fn causes(&self) -> &[String] {
        &self.causes
    }

    /// How long the backend asked to wait before another attempt.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether the same call may succeed when it is made again.
    pub fn is_retryable(&self) -> bool {
        self.safe_to_retry || self.retry_after.is_some() || self.kind.is_retryable()
    }

    /// Whether the tool itself called another attempt safe.
    pub fn is_safe_to_retry(&self) -> bool {
        self.safe_to_retry
    }

    /// Whether the tool may have changed something all the same.
    pub(crate) fn effect_unknown(&self) -> bool {
        let is_unknown = match self.kind {
            ToolErrorKind::TimedOut
            | ToolErrorKind::Unavailable
            | ToolErrorKind::Cancelled
            | ToolErrorKind::BadResult => true,
            ToolErrorKind::Other
            | ToolErrorKind::InvalidArguments
            | ToolErrorKind::NotFound
            | ToolErrorKind::PermissionDenied
            | ToolErrorKind::Conflict
            | ToolErrorKind::RateLimited => false,
        };
        is_unknown && !self.safe_to_retry
    }

    /// Arguments that can't be decoded, told as they are: the text is about what the model wrote.
    pub(crate) fn bad_arguments(why: impl fmt::Display) -> Self {
        Self {
            undecoded: true,
            ..Self::new(ToolErrorKind::InvalidArguments, format_args!("invalid arguments: {why}"))
        }
    }

    /// Whether it came of decoding the arguments, before the handler ran.
    pub(crate) fn is_bad_arguments(&self) -> bool {
        self.undecoded
    }

    pub(crate) fn redact(&mut self, redact: &mut dyn FnMut(&str) -> String) {
        let texts = self.text.iter_mut().chain(&mut self.causes).chain([&mut self.details]);
        for text in texts {
            *text = redact(text);
        }
    }

    /// Shows the operator's text to the model where it would learn only the kind.
    pub(crate) fn reveal(mut self) -> Self {
        if self.text.is_none() && !self.details.is_empty() {
            self.text = Some(self.details.clone());
        }
        self
    }
}

/// For the operator: the details and their causes.
impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.operator_text())?;
        for cause in &self.causes {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl<E> From<E> for ToolError
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn from(error: E) -> Self {
        let words = is_string::<E>();
        of_error(error.into(), words)
    }
}

fn of_error(error: Box<dyn std::error::Error + Send + Sync>, words: bool) -> ToolError {
    if words {
        return ToolError::new(ToolErrorKind::Other, error);
    }
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause.filter(|_| causes.len() < CAUSES_LIMIT) {
        causes.push(bounded(&error));
        cause = error.source();
    }
    ToolError { details: bounded(&error), causes, ..ToolError::of_kind(kind_of(&*error)) }
}

/// Whether `E` is one of the strings that convert into a boxed error. A type's name is the only
/// thing known of an `E` that may borrow; were a name ever spelled differently, the text would be
/// hidden from the model, not revealed.
fn is_string<E>() -> bool {
    let name = std::any::type_name::<E>();
    matches!(name, "&str" | "alloc::string::String") || name.starts_with("alloc::borrow::Cow<")
}

/// The kind of the outermost I/O error in the chain that has one of ours.
fn kind_of(error: &(dyn std::error::Error + 'static)) -> ToolErrorKind {
    let chain = std::iter::successors(Some(error), |error| error.source());
    let mut io = chain.take(CAUSES_LIMIT).filter_map(|error| error.downcast_ref().map(kind_of_io));
    io.find(|kind| *kind != ToolErrorKind::Other).unwrap_or(ToolErrorKind::Other)
}

fn kind_of_io(error: &std::io::Error) -> ToolErrorKind {
    use std::io::ErrorKind as Io;
    match error.kind() {
        Io::NotFound => ToolErrorKind::NotFound,
        Io::PermissionDenied => ToolErrorKind::PermissionDenied,
        Io::AlreadyExists => ToolErrorKind::Conflict,
        Io::TimedOut | Io::WouldBlock => ToolErrorKind::TimedOut,
        Io::ConnectionRefused
        | Io::ConnectionReset
        | Io::ConnectionAborted
        | Io::NotConnected
        | Io::BrokenPipe
        | Io::HostUnreachable
        | Io::NetworkUnreachable
        | Io::NetworkDown => ToolErrorKind::Unavailable,
        _ => ToolErrorKind::Other,
    }
}

/// The text of `value`, cut at [`ERROR_TEXT_LIMIT`]; formatting stops there, so a value that would
/// print without end doesn't.
pub(crate) fn bounded(value: &dyn fmt::Display) -> String {
    bounded_to(value, ERROR_TEXT_LIMIT)
}

/// As [`bounded`], cut at `limit` bytes.
pub(crate) fn bounded_to(value: &dyn fmt::Display, limit: usize) -> String {
    struct Bounded {
        text: String,
        limit: usize,
    }
    impl fmt::Write for Bounded {
        fn write_str(&mut self, more: &str) -> fmt::Result {
            let room = self.limit.saturating_sub(self.text.len());
            if more.len() <= room {
                self.text.push_str(more);
                return Ok(());
            }
            self.text.push_str(&more[..more.floor_char_boundary(room)]);
            self.text.push('…');
            Err(fmt::Error)
        }
    }
    let mut out = Bounded { text: String::new(), limit };
    // An error is our own stop, or the value's refusal to print; either way what came is kept.
    let _ = write!(out, "{value}");
    out.text
}

/// A mistake in configuration or input: a tool set that can't be used, a body that can't be read.
///
/// Opaque, the size of a pointer; its text names the place. A tool's failure is never an `Error`:
/// it is data for the model, a [`ToolError`].
pub struct Error(Box<Repr>);

struct Repr {
    kind: ErrorKind,
    message: String,
    #[cfg_attr(not(feature = "http"), allow(dead_code, reason = "for the model clients"))]
    broken: Option<Broken>,
}

/// Why a provider's answer is no message, where that is known.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "http"), allow(dead_code, reason = "for the model clients"))]
pub(crate) enum Broken {
    /// It ended too early.
    Cut,
    /// The provider said so: the name it gave the error outside of it, if any, and the error.
    Said { name: String, body: String },
    /// It has another shape: why, and the part of it that goes behind, longer than it is shown.
    Odd { why: String, quoted: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    Config,
    Input,
    Aborted,
    Io,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl fmt::Display) -> Self {
        Self(Box::new(Repr { kind, message: bounded(&message), broken: None }))
    }

    #[cfg(feature = "wire")]
    pub(crate) fn because(mut self, broken: Option<Broken>) -> Self {
        self.0.broken = broken;
        self
    }

    /// Why a provider's answer is no message.
    #[cfg(feature = "http")]
    pub(crate) fn broken(&self) -> Option<&Broken> {
        self.0.broken.as_ref()
    }

    pub(crate) fn config(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    pub(crate) fn input(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Input, message)
    }

    /// A tool, a tool set or a setting can't be used.
    pub fn is_config(&self) -> bool {
        self.0.kind == ErrorKind::Config
    }

    /// Something that was to be read isn't what it should be.
    pub fn is_input(&self) -> bool {
        self.0.kind == ErrorKind::Input
    }

    /// A stream of a provider ended before its message did, as one does whose connection broke.
    #[cfg(feature = "wire")]
    pub fn is_cut(&self) -> bool {
        matches!(self.0.broken, Some(Broken::Cut))
    }

    /// The batch was aborted; from [`Report::into_result`](crate::Report::into_result).
    pub fn is_aborted(&self) -> bool {
        self.0.kind == ErrorKind::Aborted
    }

    /// A file, a thread or a connection failed.
    pub fn is_io(&self) -> bool {
        self.0.kind == ErrorKind::Io
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

/// The text alone, so that it can be read where `main` returns the error.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_shown_and_other_errors_hidden() {
        let shown: [ToolError; 3] =
            ["a".into(), String::from("b").into(), std::borrow::Cow::Borrowed("c").into()];
        assert_eq!(shown.map(|error| error.model_text().to_owned()), ["a", "b", "c"]);

        let io = std::io::Error::new(std::io::ErrorKind::NotFound, "secret/path");
        let hidden = ToolError::from(io);
        assert_eq!(hidden.model_text(), "failed: not found");
        assert_eq!(hidden.operator_text(), "secret/path");
        assert_eq!(hidden.reveal().model_text(), "secret/path");
    }

    #[test]
    fn the_kind_is_that_of_the_io_error_among_the_causes() {
        #[derive(Debug)]
        struct Wrapped(std::io::Error);
        impl fmt::Display for Wrapped {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("can't ask the warehouse")
            }
        }
        impl std::error::Error for Wrapped {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                Some(&self.0)
            }
        }
        use std::io::ErrorKind as Io;
        let kind = |io: Io| ToolError::from(Wrapped(io.into())).kind();
        assert_eq!(kind(Io::ConnectionRefused), ToolErrorKind::Unavailable);
        assert_eq!(kind(Io::WouldBlock), ToolErrorKind::TimedOut);
        assert_eq!(kind(Io::InvalidData), ToolErrorKind::Other);
        let nested = std::io::Error::other(Wrapped(Io::NotFound.into()));
        assert_eq!(ToolError::from(nested).kind(), ToolErrorKind::NotFound);
    }

    #[test]
    fn endless_texts_and_causes_are_cut() {
        #[derive(Debug)]
        struct Endless;
        impl fmt::Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                loop {
                    f.write_str("again and again ")?;
                }
            }
        }
        impl std::error::Error for Endless {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                Some(self)
            }
        }
        let error = ToolError::from(Endless);
        assert!(error.operator_text().len() <= ERROR_TEXT_LIMIT + '…'.len_utf8());
        assert_eq!(error.causes().len(), CAUSES_LIMIT);
    }

    #[test]
    fn the_programs_error_is_its_text_where_main_returns_it() {
        let error = Error::config("two tools are named \"look\"");
        assert_eq!(format!("{error:?}"), "two tools are named \"look\"");
    }

    #[test]
    fn the_programs_error_is_as_small_as_a_pointer() {
        assert_eq!(size_of::<Result<(), Error>>(), size_of::<usize>());
    }
}
