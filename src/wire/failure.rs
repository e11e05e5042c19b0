//! Why a body is no message: the provider's own words where it is one of the provider's errors,
//! else what is missing and where.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use serde_json::value::RawValue;

use crate::error::{Broken, Error, bounded_to};
use crate::json;
use crate::text::Shown;
use crate::turn::Wire;
use crate::wire::fields::{self, Value, fields};
use crate::wire::raw;

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
        base_resp: MiniMax<'a>,
    }

    struct MiniMax<'a> {
        status_msg: Cow<'a, str>,
    }
}

/// Most characters that an error shows of a body.
pub(crate) const SHOWN: usize = 80;
/// Most bytes kept of that, so that a key of any length can be found in it before it is cut.
pub(super) const KEPT: usize = 8 * 1024;

/// Why a body is no message.
#[derive(Debug)]
pub(super) enum Failure {
    /// It can't be read at all.
    Unreadable(serde_json::Error),
    /// What stands at `path`, as in `choices[0].message`, or on the way to it, isn't `expected`.
    Misfit { path: String, expected: &'static str },
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Unreadable(error)
    }
}

impl Failure {
    pub(super) fn misfit(path: impl fmt::Display, expected: &'static str) -> Self {
        Self::Misfit { path: path.to_string(), expected }
    }

    /// The error that names the place; of the body it shows no more than what stands there, or the
    /// start.
    pub(super) fn error(self, wire: Wire, body: &str) -> Error {
        let text = body.trim_ascii();
        let (why, quoted) = match self {
            Self::Unreadable(_) if text.is_empty() => {
                return Error::input(format_args!("{wire} body is empty"));
            }
            Self::Unreadable(error) => {
                let hint = looks(wire, body);
                let why = match is_stream(text) {
                    true => "it is a stream, to be read with Wire::stream; it begins with: ".into(),
                    false => unreadable(&error, body),
                };
                (format!("is not readable{hint}: {why}"), text)
            }
            Self::Misfit { path, expected } => {
                if let Some(words) = providers_words(body) {
                    let said = Broken::Said { name: String::new(), body: body.to_owned() };
                    return Error::input(format_args!("{wire} answered with an error: {words}"))
                        .because(Some(said));
                }
                let (place, expected, found) = follow(text, &path, expected);
                let at = if place.is_empty() { "" } else { " at " };
                let (found, quoted) = match found {
                    Some(found) => ("found: ", found),
                    None => ("found nothing; the body begins with: ", text),
                };
                let hint = looks(wire, body);
                (format!("is no message{hint}: expected {expected}{at}{place}, {found}"), quoted)
            }
        };
        quoting(format!("{wire} body {why}"), quoted)
    }
}

/// What the body looks like, where it is another format.
fn looks(wire: Wire, body: &str) -> String {
    match Wire::detect(body) {
        Some(other) if other != wire => format!(" (this looks like {other})"),
        _ => String::new(),
    }
}

/// Whether a text begins as server-sent events do.
fn is_stream(text: &str) -> bool {
    ["data:", "event:", ":"].iter().any(|field| text.starts_with(field))
}

/// Why a text can't be read, in words that go before its start.
pub(super) fn unreadable(error: &serde_json::Error, text: &str) -> String {
    let why = json::scan(text).map_or_else(|ours| ours.to_string(), |_| error.to_string());
    format!("{why}; it begins with: ")
}

/// The error that says `why`, and behind it the start of what is quoted.
pub(super) fn quoting(why: String, quoted: &str) -> Error {
    let error = Error::input(format_args!("{why}{}", Shown::new(quoted, SHOWN)));
    error.because(Some(Broken::Odd { why, quoted: bounded_to(&quoted, KEPT) }))
}

/// That the list at `path` holds an object, if anything: elements that are none are passed over,
/// but not all of them.
pub(super) fn check_list<T>(list: &[Option<T>], path: impl fmt::Display) -> Result<(), Failure> {
    match list.iter().any(Option::is_some) || list.is_empty() {
        true => Ok(()),
        false => Err(Failure::misfit(format_args!("{path}[0]"), "an object")),
    }
}

/// Follows `path` from the value `text`: how far it leads, what should stand there, and what does.
fn follow<'a, 'p>(
    text: &'a str,
    path: &'p str,
    expected: &'static str,
) -> (&'p str, &'static str, Option<&'a str>) {
    let mut done = 0;
    let mut found = Some(text);
    loop {
        let step = path[done..].trim_start_matches('.');
        let (needed, opening) = match step.chars().next() {
            None => return (path, expected, found),
            Some('[') => ("a list", '['),
            Some(_) => ("an object", '{'),
        };
        let Some(inside) = found.filter(|text| text.starts_with(opening)) else {
            return (&path[..done], needed, found);
        };
        (done, found) = match step.strip_prefix('[').and_then(|step| step.split_once(']')) {
            Some((index, rest)) => {
                let element = index
                    .parse()
                    .ok()
                    .and_then(|at: usize| raw::array(inside).get(at).map(|element| element.get()));
                (path.len() - rest.len(), element)
            }
            None => {
                let key = step.split(['.', '[']).next().unwrap_or_default();
                let values = raw::members(inside).filter(|(name, _)| name == key);
                (path.len() - step.len() + key.len(), values.last().map(|(_, value)| value))
            }
        };
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
    let theirs = words.base_resp.and_then(|minimax| minimax.status_msg);
    let message = words.message.or(words.detail).or(theirs)?;
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
        let error =
            Failure::misfit("choices[0].message.content", "a text").error(Wire::OpenAi, body);
        assert_eq!(error.to_string(), format!("openai {expected}"), "{body}");
    }

    #[test]
    fn the_providers_words_are_passed_on() {
        check(
            r#"{"error":{"message":"slow down","type":"rate_limit","code":429}}"#,
            "answered with an error: rate_limit: slow down",
        );
        check(
            r#"{"choices":null,"base_resp":{"status_code":1004,"status_msg":"login fail"}}"#,
            "answered with an error: login fail",
        );
        check(
            r#"{"type":"error","error":{"type":"overloaded_error","message":"busy"}}"#,
            "answered with an error: overloaded_error: busy",
        );
        check(
            r#"[{"error":{"code":400,"message":"bad","status":"INVALID_ARGUMENT"}}]"#,
            "answered with an error: INVALID_ARGUMENT: bad",
        );
        check(r#"{"error":"model not found"}"#, "answered with an error: model not found");
        check(r#"{"message":"denied"}"#, "answered with an error: denied");
        check(
            r#"{"object":"error","message":"too long","type":"BadRequestError"}"#,
            "answered with an error: BadRequestError: too long",
        );
        check(
            r#"{"error":{"message":"no call","code":"tool_use_failed","failed_generation":"{x"}}"#,
            "answered with an error: tool_use_failed: no call (what the model wrote: {x)",
        );
    }

    #[test]
    fn a_stream_is_told_how_to_read_it() {
        for (stream, wire) in [
            ("event: message_start\ndata: {\"type\":\"message_start\"}\n\n", Wire::Anthropic),
            ("data: {\"choices\":[]}", Wire::OpenAi),
            ("\n: hello\n", Wire::Cohere),
        ] {
            let error = wire.parse(stream).unwrap_err().to_string();
            let why = "body is not readable: it is a stream, to be read with Wire::stream";
            let begins = stream.trim().replace('\n', "\\n");
            assert_eq!(error, format!("{wire} {why}; it begins with: {begins}"));
        }
        for body in ["database down", "<html>", "{\"data:\"", "eventual"] {
            let error = Wire::OpenAi.parse(body).unwrap_err().to_string();
            assert!(!error.contains("stream"), "{error}");
        }
    }

    #[test]
    fn else_the_place_is_named_and_what_stands_there() {
        for (body, expected) in [
            ("7", "expected an object, found: 7"),
            (" []\n", "expected an object, found: []"),
            (
                r#"{"error":null}"#,
                r#"expected a list at choices, found nothing; the body begins with: {"error":null}"#,
            ),
            (r#"{"choices":{}}"#, "expected a list at choices, found: {}"),
            (
                r#"{"choices":[]}"#,
                r#"expected an object at choices[0], found nothing; the body begins with: {"choices":[]}"#,
            ),
            (r#"{"choices":["hi"]}"#, r#"expected an object at choices[0], found: "hi""#),
            (
                r#"{"choices":[{"message":null}]}"#,
                "expected an object at choices[0].message, found: null",
            ),
            (
                r#"{"choices":[1],"choices":[{"message":{"content":5}}]}"#,
                "expected a text at choices[0].message.content, found: 5",
            ),
            (
                r#"{"choices":[{"message":{}}]}"#,
                r#"expected a text at choices[0].message.content, found nothing; the body begins with: {"choices":[{"message":{}}]}"#,
            ),
        ] {
            check(body, &format!("body is no message: {expected}"));
        }
        let long = format!("{{\"choices\":\"\u{7}{}", "x".repeat(1000) + "\"}");
        check(
            &long.replace('\u{7}', "é\u{202e}"),
            &format!(
                "body is no message: expected a list at choices, found: \"é\\u{{202e}}{}…",
                "x".repeat(69)
            ),
        );
    }

    #[test]
    fn a_body_of_another_format_is_told_as_one() {
        let error = Failure::misfit("content", "a list")
            .error(Wire::Anthropic, r#"{"choices":[{"message":{"content":"hi"}}]}"#);
        assert_eq!(
            error.to_string(),
            r#"anthropic body is no message (this looks like openai): expected a list at content, found nothing; the body begins with: {"choices":[{"message":{"content":"hi"}}]}"#
        );
    }

    #[test]
    fn a_text_that_is_no_json_is_shown_from_its_start() {
        for (body, expected) in [
            ("", "body is empty"),
            (" \n", "body is empty"),
            (
                "<html>\u{1b}[2J",
                "body is not readable: expected a value at byte 0; it begins with: <html>\\u{1b}[2J",
            ),
            (
                r#"{"choices":[{"#,
                r#"body is not readable: the text ends too early at byte 13; it begins with: {"choices":[{"#,
            ),
            (
                r#"{"n":1e999}"#,
                r#"body is not readable: number out of range at line 1 column 10; it begins with: {"n":1e999}"#,
            ),
        ] {
            let error = serde_json::from_str::<serde_json::Value>(body).unwrap_err();
            let error = Failure::from(error).error(Wire::OpenAi, body);
            assert_eq!(error.to_string(), format!("openai {expected}"), "{body}");
        }
    }
}
