//! What a provider's error tells beside its words: what kind of failure it is, and how long to
//! wait. No I/O here.

use std::time::Duration;

use serde_json::Value;

use crate::model::error::ModelErrorKind;
use crate::turn::Wire;

/// What Groq calls it when the model wrote what is no call.
const MISSPELLED: &str = "tool_use_failed";

/// What an error says in fields of its own.
#[derive(Debug, Default)]
pub(super) struct Facts {
    code: Option<u16>,
    /// What the error is called, the most particular name first.
    names: Vec<String>,
    pub(super) request_id: Option<String>,
    pub(super) retry_delay: Option<Duration>,
    /// What a router was told by the server behind it.
    upstream: Option<String>,
    /// Whether it shows what the model wrote.
    shows_generated: bool,
}

impl Facts {
    /// What `body` tells; `name` is what it is called outside of it, if anything.
    pub(super) fn of(body: &str, name: &str) -> Self {
        let given = Some(name.to_owned()).filter(|name| !name.is_empty());
        let Ok(value) = serde_json::from_str::<Value>(body) else {
            return Self { names: given.into_iter().collect(), ..Self::default() };
        };
        let value = value.get(0).unwrap_or(&value);
        let error = value.get("error").filter(|error| error.is_object()).unwrap_or(value);
        let string = |of: &Value, key: &str| of.get(key).and_then(Value::as_str).map(str::to_owned);
        let number = |key: &str| {
            let number = error.get(key)?;
            let text = number.as_str().and_then(|text| text.parse().ok());
            u16::try_from(number.as_u64().or(text)?).ok()
        };
        let delay = |detail: &Value| {
            let text = detail.get("retryDelay")?.as_str()?.strip_suffix('s')?.parse().ok()?;
            Duration::try_from_secs_f64(text).ok()
        };
        let details = error.get("details").and_then(Value::as_array);
        let names = ["code", "status", "type"].iter().filter_map(|key| string(error, key));
        Self {
            code: number("code").or_else(|| number("status_code")),
            names: names.chain(given).filter(|name| name != "error").collect(),
            request_id: string(value, "request_id"),
            retry_delay: details.into_iter().flatten().find_map(delay),
            upstream: error.get("metadata").and_then(|metadata| string(metadata, "raw")),
            shows_generated: error.get("failed_generation").is_some(),
        }
    }

    /// The words of a router with those of the server behind it.
    pub(super) fn with_upstream(&self, words: String) -> String {
        match &self.upstream {
            Some(upstream) if !words.contains(upstream.as_str()) => format!("{words}: {upstream}"),
            _ => words,
        }
    }

    /// Whether the model wrote what is no call: it writes something else when it is asked again.
    pub(super) fn is_misspelled(&self, status: u16) -> bool {
        let named = self.names.iter().any(|name| name == MISSPELLED) || self.shows_generated;
        named && matches!(status, 200..300 | 400)
    }

    /// What an error means that came where an answer had begun as a success, and whether it may
    /// pass: by its code, else by its name, and by its words where it has neither.
    pub(super) fn kind(
        &self,
        wire: Wire,
        should_retry: Option<bool>,
        words: &str,
    ) -> (ModelErrorKind, bool) {
        if let Some(code) = self.code.filter(|code| (400..600).contains(code)) {
            return self.kind_of(code, wire, true, should_retry, words);
        }
        let named = self.names.iter().find_map(|name| kind_named(name));
        let kind = match named {
            Some(kind) => kind,
            None if self.names.is_empty() => kind_by_words(words),
            None => return (ModelErrorKind::ServerFailed, false),
        };
        (kind, kind.is_transient())
    }

    /// What a status means, and whether it may pass.
    pub(super) fn kind_of(
        &self,
        status: u16,
        wire: Wire,
        asks_to_wait: bool,
        should_retry: Option<bool>,
        words: &str,
    ) -> (ModelErrorKind, bool) {
        use ModelErrorKind as Kind;
        let out_of_quota = self.names.iter().any(|name| name == "insufficient_quota");
        let asks_to_wait = asks_to_wait || self.retry_delay.is_some() || says_it_passes(words);
        let kind = match status {
            401 | 403 => Kind::Unauthorized,
            402 => Kind::OutOfQuota,
            404 => Kind::NotFound,
            // Bedrock says 424 when the model itself failed.
            408 | 424 | 504 => Kind::ServerFailed,
            413 => Kind::RequestTooLarge,
            429 if out_of_quota => Kind::OutOfQuota,
            // Told to slow down and not until when: Anthropic says so when the money is used up.
            429 if wire == Wire::Anthropic && !asks_to_wait => Kind::OutOfQuota,
            429 => Kind::RateLimited,
            503 | 529 => Kind::Overloaded,
            500.. => Kind::ServerFailed,
            _ => Kind::Invalid,
        };
        let transient = kind.is_transient() && !matches!(status, 501 | 505)
            || matches!(status, 408 | 409 | 425);
        (kind, should_retry.unwrap_or(transient))
    }
}

/// What the name of an error means. The providers spell them in their own ways: `rate_limit_error`,
/// `RESOURCE_EXHAUSTED`, `throttlingException`.
fn kind_named(name: &str) -> Option<ModelErrorKind> {
    use ModelErrorKind as Kind;
    let letters = name.chars().filter(char::is_ascii_alphanumeric);
    let name: String = letters.map(|letter| letter.to_ascii_lowercase()).collect();
    let name = name.strip_suffix("exception").unwrap_or(&name);
    Some(match name.strip_suffix("error").unwrap_or(name) {
        "invalidrequest"
        | "badrequest"
        | "invalidargument"
        | "invalidprompt"
        | "validation"
        | "failedprecondition"
        | "contextlengthexceeded"
        | "toolusefailed" => Kind::Invalid,
        "authentication" | "unauthenticated" | "invalidapikey" | "permission"
        | "permissiondenied" | "accessdenied" => Kind::Unauthorized,
        "billing" | "insufficientquota" | "servicequotaexceeded" => Kind::OutOfQuota,
        "notfound" | "modelnotfound" | "resourcenotfound" => Kind::NotFound,
        "requesttoolarge" => Kind::RequestTooLarge,
        "ratelimit" | "ratelimitexceeded" | "resourceexhausted" | "throttling"
        | "toomanyrequests" => Kind::RateLimited,
        "overloaded" | "unavailable" | "serviceunavailable" | "modelnotready" => Kind::Overloaded,
        "api" | "server" | "internal" | "internalserver" | "internalfailure" | "timeout"
        | "deadlineexceeded" | "modeltimeout" | "modelstream" | "model" => Kind::ServerFailed,
        _ => return None,
    })
}

/// Whether the words promise that it is over soon, as those of servers do that speak Anthropic's
/// format and name no time.
fn says_it_passes(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    ["overloaded", "try again later", "temporarily"].iter().any(|sign| words.contains(sign))
}

/// What the words of an error mean that has nothing else.
fn kind_by_words(words: &str) -> ModelErrorKind {
    let words = words.to_ascii_lowercase();
    let said = |signs: &[&str]| signs.iter().any(|sign| words.contains(sign));
    if said(&["quota"]) {
        ModelErrorKind::OutOfQuota
    } else if said(&["overloaded", "unavailable"]) {
        ModelErrorKind::Overloaded
    } else if said(&["rate limit", "too many requests"]) {
        ModelErrorKind::RateLimited
    } else {
        ModelErrorKind::ServerFailed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ModelErrorKind as Kind;

    fn check(wire: Wire, name: &str, body: &str, expected: (Kind, bool)) {
        let facts = Facts::of(body, name);
        assert_eq!(facts.kind(wire, None, "overloaded"), expected, "{name} {body}");
    }

    #[test]
    fn the_code_or_the_name_tells_the_kind_and_the_words_do_not() {
        let check_body = |wire, body, expected| check(wire, "", body, expected);
        let busy = r#"{"type":"error","error":{"type":"overloaded_error","message":"invalid"}}"#;
        check_body(Wire::Anthropic, busy, (Kind::Overloaded, true));
        let slow =
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"UNAVAILABLE"}}"#;
        check_body(Wire::Anthropic, slow, (Kind::RateLimited, true));
        let spent = r#"{"error":{"type":"requests","code":"insufficient_quota","message":"m"}}"#;
        check_body(Wire::OpenAi, spent, (Kind::OutOfQuota, false));
        let none = r#"{"error":{"type":"invalid_request_error","code":"model_not_found"}}"#;
        check_body(Wire::OpenAi, none, (Kind::NotFound, false));
        let event = r#"{"type":"error","code":"rate_limit_exceeded","message":"m"}"#;
        check_body(Wire::OpenAiResponses, event, (Kind::RateLimited, true));
        let failed = r#"{"status":"failed","error":{"code":"server_error","message":"m"}}"#;
        check_body(Wire::OpenAiResponses, failed, (Kind::ServerFailed, true));
        let routed = r#"{"error":{"code":502,"message":"m"}}"#;
        check_body(Wire::OpenAi, routed, (Kind::ServerFailed, true));
        let groq = r#"{"error":{"message":"m","type":"x","status_code":"413"}}"#;
        check_body(Wire::OpenAi, groq, (Kind::RequestTooLarge, false));
        let gemini = r#"[{"error":{"code":503,"status":"UNAVAILABLE","message":"m"}}]"#;
        check_body(Wire::Gemini, gemini, (Kind::Overloaded, true));
        let status = r#"{"error":{"status":"PERMISSION_DENIED","message":"m"}}"#;
        check_body(Wire::Gemini, status, (Kind::Unauthorized, false));
        let strange = r#"{"error":{"type":"teapot_error","message":"overloaded"}}"#;
        check_body(Wire::OpenAi, strange, (Kind::ServerFailed, false));
        for (name, expected) in [
            ("throttlingException", (Kind::RateLimited, true)),
            ("validationException", (Kind::Invalid, false)),
            ("modelStreamErrorException", (Kind::ServerFailed, true)),
            ("accessDeniedException", (Kind::Unauthorized, false)),
            ("InternalFailure", (Kind::ServerFailed, true)),
        ] {
            check(Wire::Bedrock, name, r#"{"message":"m"}"#, expected);
        }
    }

    #[test]
    fn too_many_requests_in_anthropics_format_are_no_spent_quota_where_it_passes() {
        let kind =
            |asks, words| Facts::of("{}", "").kind_of(429, Wire::Anthropic, asks, None, words);
        assert_eq!(kind(false, "the limit of your plan"), (Kind::OutOfQuota, false));
        assert_eq!(kind(true, "the limit of your plan"), (Kind::RateLimited, true));
        let busy = "The engine is currently overloaded, please try again later";
        assert_eq!(kind(false, busy), (Kind::RateLimited, true));
    }

    #[test]
    fn words_tell_where_there_is_nothing_else() {
        check(
            Wire::Ollama,
            "",
            r#"{"error":"the server is overloaded"}"#,
            (Kind::Overloaded, true),
        );
        let facts = Facts::of(r#"{"error":"out of memory"}"#, "");
        assert_eq!(facts.kind(Wire::Ollama, None, "out of memory").0, Kind::ServerFailed);
    }
}
