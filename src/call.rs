//! What the model asked: one call of a tool.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::json::{self, Scan};

/// One call that a model asked for. Cheap to clone.
///
/// Ids and names are the model's and prove nothing: ids may be missing or repeat, names may be
/// unknown. A call's identity is its place in the [`Turn`](crate::Turn).
///
/// Arguments are kept as text, byte for byte. Empty text and `null` mean no arguments, `{}`.
///
/// ```
/// use toolpool::{CallState, ToolCall};
///
/// let call = ToolCall::new("call_1", "get_customer", r#"{"id": 7}"#);
/// assert_eq!(call.arguments(), r#"{"id": 7}"#);
/// assert_eq!(ToolCall::new("call_2", "list", "").arguments(), "{}");
///
/// let cut = ToolCall::new("call_3", "get_customer", r#"{"id": "#);
/// assert!(matches!(cut.state(), CallState::Malformed(_)));
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Repr", into = "Repr")]
pub struct ToolCall(Arc<Inner>);

impl fmt::Debug for ToolCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut call = f.debug_struct("ToolCall");
        call.field("id", &self.id()).field("name", &self.name());
        if let Some(namespace) = self.namespace() {
            call.field("namespace", &namespace);
        }
        call.field("arguments", &self.arguments()).field("state", &self.state()).finish()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    id: Option<String>,
    name: String,
    arguments: String,
    free_text: bool,
    namespace: Option<String>,
    withheld: Option<String>,
    /// What the scanner found, or why the arguments can't be read.
    scan: Result<Scan, String>,
    element: usize,
}

/// Whether a call may run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallState {
    /// Whole, with arguments that are a JSON object (or free text, for a tool that takes it).
    Complete,
    /// The arguments can't be read; the text says why and where.
    Malformed(String),
    /// Readable, but the model's message ended in a way that forbids running it. The text is the
    /// stop reason as the provider spelled it.
    Withheld(String),
}

impl ToolCall {
    /// A call with the arguments as JSON text. Whatever the text is, the call is made: bad
    /// arguments make it [`CallState::Malformed`].
    pub fn new(
        id: impl Into<String>,
        name: impl Into<String>,
        arguments: impl Into<String>,
    ) -> Self {
        Self::of_json(id.into(), name.into(), arguments.into())
    }

    fn of_json(id: String, name: String, mut arguments: String) -> Self {
        let scan = match arguments.trim_ascii() {
            "" | "null" => {
                arguments = "{}".to_owned();
                Ok(Scan { is_object: true, depth: 1, duplicate_key: None })
            }
            _ => match json::scan(&arguments) {
                Ok(scan) if scan.is_object => Ok(scan),
                Ok(_) => Err("arguments must be a JSON object".to_owned()),
                Err(error) => Err(error.to_string()),
            },
        };
        Self::with_scan(id, name, arguments, scan)
    }

    /// A call of a tool that takes free text instead of JSON. [`arguments`](Self::arguments) is
    /// the text as a JSON string, so that a handler takes it as a `String`.
    pub fn free_text(
        id: impl Into<String>,
        name: impl Into<String>,
        text: impl AsRef<str>,
    ) -> Self {
        Self::of_text(id.into(), name.into(), text.as_ref())
    }

    fn of_text(id: String, name: String, text: &str) -> Self {
        let arguments = serde_json::Value::from(text).to_string();
        let scan = Ok(Scan { is_object: false, depth: 0, duplicate_key: None });
        let mut call = Self::with_scan(id, name, arguments, scan);
        Arc::make_mut(&mut call.0).free_text = true;
        call
    }

    /// A call whose arguments can't be read for `reason`, whatever they are.
    pub(crate) fn unreadable(
        id: impl Into<String>,
        name: impl Into<String>,
        arguments: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self::with_scan(id.into(), name.into(), arguments.into(), Err(reason.into()))
    }

    fn with_scan(id: String, name: String, arguments: String, scan: Result<Scan, String>) -> Self {
        Self(Arc::new(Inner {
            id: Some(id),
            name,
            arguments,
            free_text: false,
            namespace: None,
            withheld: None,
            scan,
            element: 0,
        }))
    }

    /// The same call with other arguments: JSON text, or the text itself for a call of free text.
    pub(crate) fn with_arguments(&self, arguments: String) -> Self {
        let mut call = if self.is_free_text() {
            Self::free_text("", self.name(), arguments)
        } else {
            Self::new("", self.name(), arguments)
        };
        let edited = Arc::make_mut(&mut call.0);
        edited.id = self.0.id.clone();
        edited.namespace = self.0.namespace.clone();
        edited.element = self.0.element;
        call
    }

    /// The same call without an id, as some providers send it.
    #[must_use]
    pub fn without_id(mut self) -> Self {
        Arc::make_mut(&mut self.0).id = None;
        self
    }

    /// The same call in a namespace of tools.
    #[must_use]
    pub fn in_namespace(mut self, namespace: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.0).namespace = Some(namespace.into());
        self
    }

    /// The same call, not to be run because the message stopped for `reason`.
    #[must_use]
    pub fn withheld(mut self, reason: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.0).withheld = Some(reason.into());
        self
    }

    /// The same call, marked as unreadable for `reason` whatever its arguments are.
    #[must_use]
    pub fn malformed(mut self, reason: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.0).scan = Err(reason.into());
        self
    }

    /// Which of the message's call elements it came from; several calls share one when a
    /// `multi_tool_use.parallel` was unpacked.
    #[must_use]
    pub(crate) fn at_element(mut self, element: usize) -> Self {
        Arc::make_mut(&mut self.0).element = element;
        self
    }

    pub(crate) fn element(&self) -> usize {
        self.0.element
    }

    pub(crate) fn scanned(&self) -> Option<&Scan> {
        self.0.scan.as_ref().ok()
    }

    /// The id as the provider sent it, empty where it sent none. It may repeat.
    pub fn id(&self) -> &str {
        self.0.id.as_deref().unwrap_or_default()
    }

    /// Whether the provider sent an id.
    pub fn has_id(&self) -> bool {
        self.0.id.is_some()
    }

    /// The name as the model wrote it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The arguments' text as it came; `{}` where it was empty or `null` and that means no arguments.
    pub fn arguments(&self) -> &str {
        &self.0.arguments
    }

    /// Whether the arguments are free text, spelled as a JSON string.
    pub fn is_free_text(&self) -> bool {
        self.0.free_text
    }

    /// The namespace of the tool, where the provider groups tools.
    pub fn namespace(&self) -> Option<&str> {
        self.0.namespace.as_deref()
    }

    /// Whether the call may run. A call that is unreadable and withheld is `Malformed`.
    pub fn state(&self) -> CallState {
        match (&self.0.scan, &self.0.withheld) {
            (Err(why), _) => CallState::Malformed(why.clone()),
            (Ok(_), Some(reason)) => CallState::Withheld(reason.clone()),
            (Ok(_), None) => CallState::Complete,
        }
    }

    /// The stop reason that forbids running the call, readable or not.
    pub fn withheld_reason(&self) -> Option<&str> {
        self.0.withheld.as_deref()
    }
}

/// The stable JSON form.
#[derive(Serialize, Deserialize)]
struct Repr {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    name: String,
    arguments: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    free_text: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    withheld: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    malformed: Option<String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    element: usize,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

impl From<ToolCall> for Repr {
    fn from(call: ToolCall) -> Self {
        let inner = Arc::unwrap_or_clone(call.0);
        Self {
            id: inner.id,
            name: inner.name,
            arguments: inner.arguments,
            free_text: inner.free_text,
            namespace: inner.namespace,
            withheld: inner.withheld,
            malformed: inner.scan.err(),
            element: inner.element,
        }
    }
}

impl From<Repr> for ToolCall {
    fn from(repr: Repr) -> Self {
        let mut call = if let Some(why) = repr.malformed {
            Self::unreadable("", repr.name, repr.arguments, why)
        } else if repr.free_text {
            let scan = Ok(Scan { is_object: false, depth: 0, duplicate_key: None });
            Self::with_scan(String::new(), repr.name, repr.arguments, scan)
        } else {
            Self::new("", repr.name, repr.arguments)
        };
        let inner = Arc::make_mut(&mut call.0);
        inner.id = repr.id;
        inner.free_text = repr.free_text;
        inner.namespace = repr.namespace;
        inner.withheld = repr.withheld;
        inner.element = repr.element;
        call
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(arguments: &str) -> CallState {
        ToolCall::new("1", "t", arguments).state()
    }

    #[test]
    fn what_is_shown_of_a_call_is_what_can_be_asked_of_it() {
        let call = ToolCall::new("1", "look", r#"{"at":2}"#).in_namespace("n");
        assert_eq!(
            format!("{call:?}"),
            r#"ToolCall { id: "1", name: "look", namespace: "n", arguments: "{\"at\":2}", state: Complete }"#
        );
    }

    #[test]
    fn arguments_are_an_object_or_told_to_be_none() {
        for none in ["", " ", "\n", "null", " null\t"] {
            let call = ToolCall::new("1", "t", none);
            assert_eq!((call.arguments(), call.state()), ("{}", CallState::Complete), "{none:?}");
        }
        for whole in ["{}", " {\"a\":1} ", r#"{"a":{"a":"\u00e9"}}"#] {
            let call = ToolCall::new("1", "t", whole);
            assert_eq!((call.arguments(), call.state()), (whole, CallState::Complete));
        }
        for (other, why) in [
            ("[]", "arguments must be a JSON object"),
            ("7", "arguments must be a JSON object"),
            (r#""{\"a\":1}""#, "arguments must be a JSON object"),
            ("nullnull", "something after the value at byte 4"),
            ("\u{feff}{}", "expected a value at byte 0"),
            (r#"{"a":1,}"#, "expected a key in double quotes at byte 7"),
            (r#"{}{"a":1}"#, "something after the value at byte 2"),
            (r#"{"a": [1, "#, "the text ends too early at byte 10"),
        ] {
            assert_eq!(state(other), CallState::Malformed(why.to_owned()), "{other}");
            assert_eq!(ToolCall::new("1", "t", other).arguments(), other, "kept as it came");
        }
    }

    #[test]
    fn ids_are_kept_byte_for_byte_and_may_be_missing() {
        let long = "x".repeat(1 << 20);
        for id in ["", " ", "a\0b", "\u{1b}[31m", "Ä", &long] {
            let call = ToolCall::new(id, "t", "{}");
            assert_eq!((call.id(), call.has_id()), (id, true));
        }
        let call = ToolCall::new("1", "t", "{}").without_id();
        assert_eq!((call.id(), call.has_id()), ("", false));
    }

    #[test]
    fn what_is_said_of_a_copy_does_not_change_the_call() {
        let call = ToolCall::new("1", "t", "{}");
        let withheld = call.clone().withheld("max_tokens");
        assert_eq!(call.state(), CallState::Complete);
        assert_eq!(withheld.state(), CallState::Withheld("max_tokens".to_owned()));
        let both = withheld.malformed("cut");
        assert_eq!(both.state(), CallState::Malformed("cut".to_owned()));
        assert_eq!(both.withheld_reason(), Some("max_tokens"));
    }
}
