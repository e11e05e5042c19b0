//! One call element of a message, as most formats have it: from its pieces to a [`ToolCall`].

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::call::ToolCall;
use crate::turn::{StopKind, StopReason};
use crate::wire::fields;

/// The text of arguments: what a string holds, anything else as it stands, nothing for none.
pub(super) fn arguments(raw: Option<&RawValue>) -> Cow<'_, str> {
    let Some(raw) = raw.map(RawValue::get) else { return "".into() };
    fields::string(raw).unwrap_or(raw.into())
}

/// The call of an element. An id that is absent or empty is none.
///
/// Empty arguments mean `{}` in a whole message; in one that was cut they are what is left of
/// more.
pub(super) fn call(
    id: Option<&str>,
    name: &str,
    arguments: Cow<'_, str>,
    stop: &StopReason,
) -> ToolCall {
    let empty = matches!(arguments.trim_ascii(), "" | "null");
    let given = id.unwrap_or_default();
    let call = if empty && stop.forbids_calls() {
        ToolCall::unreadable(given, name, arguments, "cut short before any arguments came")
    } else {
        ToolCall::new(given, name, arguments)
    };
    finish(call, id, stop)
}

/// The same where the format has stop reasons for calls: what one that is unknown means for them,
/// nobody knows. Nor does a call run that is `done`.
pub(super) fn call_unless(
    done: bool,
    id: Option<&str>,
    name: Option<&str>,
    arguments: Cow<'_, str>,
    stop: &StopReason,
) -> ToolCall {
    let call = call(id, name.unwrap_or_default(), arguments, stop);
    match done || stop.kind == StopKind::Unknown {
        true => call.withheld(stop.raw.as_str()),
        false => call,
    }
}

/// The call that is whole in a message whose stop reason isn't known yet; `calls` reads it.
pub(super) fn whole_call(
    element: usize,
    calls: impl FnOnce(&StopReason) -> Vec<ToolCall>,
) -> Option<ToolCall> {
    let call = calls(&StopReason::new(StopKind::Missing, "")).pop()?;
    Some(call.at_element(element))
}

/// The call of an element that holds free text.
pub(super) fn free_text(id: Option<&str>, name: &str, text: &str, stop: &StopReason) -> ToolCall {
    finish(ToolCall::free_text(id.unwrap_or_default(), name, text), id, stop)
}

fn finish(call: ToolCall, id: Option<&str>, stop: &StopReason) -> ToolCall {
    let call = match id {
        Some(id) if !id.is_empty() => call,
        _ => call.without_id(),
    };
    if stop.forbids_calls() { call.withheld(stop.raw.as_str()) } else { call }
}
