//! Why a body is no message: the provider's own words where it is one of the provider's errors,
//! else what is missing and where.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde_json::value::RawValue;

use crate::error::{Broken, Error};
use crate::turn::Wire;
use crate::wire::fields::{self, Value, fields};

fields! {
    /// The shapes of errors the providers and their proxies send: `{"error": {…}}`,
    /// `{"error": "…"}`, `{"message": …, "type": …}`, `{"detail": …}`; Gemini wraps them in an
    /// array. `failed_generation` is the call that Groq's server couldn't read.
    struct Words<'a> {
        error: &'a RawValue,
        message: Cow<'a, str>,
        detail: Cow<'a, str>,
        kind "type": Cow<'a, str>,
        status: Cow<'a, str>,
        code: Cow<'a, str>,
        failed_generation: Cow<'a, str>,
    }
}

/// The error for a body that isn't JSON.
pub(super) fn unreadable(wire: Wire, error: &serde_json::Error) -> Error {
    Error::input(format_args!("{wire} body is not readable: {error}"))
}

/// The error for a body without a message; `what` says what was looked for in vain.
pub(super) fn no_message(wire: Wire, body: &str, what: &str) -> Error {
    match providers_words(body) {
        Some(words) => {
            let said = Broken::Said { name: String::new(), body: body.to_owned() };
            Error::input(format_args!("{wire} answered with an error: {words}")).because(Some(said))
        }
        None => Error::input(format_args!("{wire} body is no message: {what}")),
    }
}

/// The type and message of an error body.
pub(crate) fn providers_words(body: &str) -> Option<String> {
    let body = body.trim_start().strip_prefix('[').unwrap_or(body);
    let words = Words::read(&mut serde_json::Deserializer::from_str(body)).ok()??;
    let words = match words.error {
        Some(error) => match fields::string(error.get()) {
            Some(text) => Words { message: Some(text), ..Words::default() },
            None => fields::part(error)?,
        },
        None => words,
    };
    let message = words.message.or(words.detail)?;
    let kind = words.kind.or(words.status).or(words.code).filter(|kind| kind != "error");
    let mut text = match kind {
        Some(kind) => format!("{kind}: {message}"),
        None => message.into_owned(),
    };
    if let Some(generated) = words.failed_generation {
        // A string takes any text.
        let _ = write!(text, " (what the model wrote: {generated})");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expected: &str) {
        let error = no_message(Wire::OpenAi, body, "no choices");
        assert_eq!(error.to_string(), expected, "{body}");
    }

    #[test]
    fn the_providers_words_are_passed_on() {
        check(
            r#"{"error":{"message":"slow down","type":"rate_limit","code":429}}"#,
            "openai answered with an error: rate_limit: slow down",
        );
        check(
            r#"{"type":"error","error":{"type":"overloaded_error","message":"busy"}}"#,
            "openai answered with an error: overloaded_error: busy",
        );
        check(
            r#"[{"error":{"code":400,"message":"bad","status":"INVALID_ARGUMENT"}}]"#,
            "openai answered with an error: INVALID_ARGUMENT: bad",
        );
        check(r#"{"error":"model not found"}"#, "openai answered with an error: model not found");
        check(r#"{"message":"denied"}"#, "openai answered with an error: denied");
        check(
            r#"{"object":"error","message":"too long","type":"BadRequestError"}"#,
            "openai answered with an error: BadRequestError: too long",
        );
        check(
            r#"{"error":{"message":"no call","code":"tool_use_failed","failed_generation":"{x"}}"#,
            "openai answered with an error: tool_use_failed: no call (what the model wrote: {x)",
        );
    }

    #[test]
    fn else_what_is_missing_is_named() {
        for body in ["{}", r#"{"error":null}"#, "[]", "7", r#"{"error":[1]}"#] {
            check(body, "openai body is no message: no choices");
        }
    }
}
