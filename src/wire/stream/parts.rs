//! What several formats have in common, above all those whose calls stand in `tool_calls`.

use std::borrow::Cow;

use serde::de::MapAccess;
use serde_json::value::RawValue;

use crate::call::{CallState, ToolCall};
use crate::turn::StopReason;
use crate::wire::failure;
use crate::wire::fields::{self, Given};
use crate::wire::stream::{Problem, push_json};
use crate::wire::tool_calls::{self, Element};

/// Keys of a message that nothing is known of: the last value of each, as it came.
///
/// Only objects and lists that hold something: a text of unknown meaning may be a piece or the
/// whole, and providers refuse what neither is.
#[derive(Debug, Default)]
pub(super) struct Kept(Vec<(String, Box<RawValue>)>);

impl Kept {
    fn is_worth_it(value: &RawValue) -> bool {
        let text = value.get();
        let inner = text.strip_prefix(['{', '[']).unwrap_or_default().trim_ascii();
        inner.len() > 1
    }

    pub(super) fn keep(&mut self, key: &str, value: &RawValue) {
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some((_, last)) => *last = value.to_owned(),
            None => self.0.push((key.to_owned(), value.to_owned())),
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(name, _)| name == key)
    }

    /// Adds them as further members of an object.
    pub(super) fn write(&self, out: &mut String) {
        for (key, value) in &self.0 {
            push_raw(out, key, Some(value));
        }
    }
}

/// Keeps the value of a key that nothing is known of, where that is worth it.
pub(super) fn other<'a, A: MapAccess<'a>>(
    key: &[u8],
    map: &mut A,
    others: &mut Vec<(String, &'a RawValue)>,
) -> Result<(), A::Error> {
    let other: Option<&RawValue> = fields::value(map)?;
    let other = other.filter(|value| Kept::is_worth_it(value));
    others.extend(other.map(|value| (fields::key_text(key), value)));
    Ok(())
}

/// The text of a piece, empty where there is none.
pub(super) fn text<'a>(piece: Option<&'a RawValue>, what: &str) -> Result<Cow<'a, str>, Problem> {
    let text = piece.map_or(Some("".into()), |piece| fields::string(piece.get()));
    text.ok_or_else(|| Problem::unreadable(format_args!("{what} is no text")))
}

/// The object of a piece, without keys where there is none.
pub(super) fn object<T: Default>(
    piece: Option<Given<Option<T>>>,
    what: &str,
) -> Result<T, Problem> {
    let object = piece.map_or(Some(T::default()), |Given(object)| object);
    object.ok_or_else(|| Problem::unreadable(format_args!("{what} is no object")))
}

/// That a list holds an object, if anything.
pub(super) fn check_list<T>(list: &[Option<T>], what: &str) -> Result<(), Problem> {
    failure::check_list(list, what)
        .map_err(|_| Problem::unreadable(format_args!("{what} is no list of objects")))
}

/// Adds `,"key":"text"`, unless the text is empty.
pub(super) fn push_text(out: &mut String, key: &str, text: &str) {
    if !text.is_empty() {
        out.push_str(",\"");
        out.push_str(key);
        out.push_str("\":");
        push_json(out, text);
    }
}

/// Adds `,"key":value`, if there is one.
pub(super) fn push_raw(out: &mut String, key: &str, value: Option<&RawValue>) {
    if let Some(value) = value {
        out.push(',');
        push_json(out, key);
        out.push(':');
        out.push_str(value.get());
    }
}

/// Adds the elements with commas between them.
pub(super) fn push_list<T>(
    out: &mut String,
    elements: impl IntoIterator<Item = T>,
    mut push: impl FnMut(&mut String, T),
) {
    for (at, element) in elements.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        push(out, element);
    }
}

/// The calls that an element of `tool_calls` holds, which is the `at`-th.
pub(super) fn calls(element: &str, at: usize, stop: &StopReason) -> Vec<ToolCall> {
    let mut calls = Vec::new();
    if let Ok(Some(element)) = fields::parse::<Element<'_>>(element) {
        tool_calls::add_calls(&element, at, stop, &mut calls);
    }
    calls
}

/// Whether a call can be read, so that more of it would spoil it.
pub(super) fn is_readable(call: &ToolCall) -> bool {
    !matches!(call.state(), CallState::Malformed(_))
}
