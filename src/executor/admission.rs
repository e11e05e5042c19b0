//! Whether a call may be scheduled at all. Pure: a call, the tools and the limits.

use std::sync::Arc;

use crate::call::{CallState, ToolCall};
use crate::executor::settings::Settings;
use crate::outcome::{NotStarted, Outcome, Rejected};
use crate::tool::{Definition, ToolSet};

/// Most names of tools that a turn's unknown ones are compared with, some milliseconds' worth: those
/// of a thousand tools with those of its first two calls.
const MOST_COMPARED: usize = 2000;
/// Most names told of an unknown tool's place.
const NAMES_TOLD: usize = 20;

/// The place in its set of the tool that a call asks for, or how the call ends instead.
pub(super) fn admit(
    call: &ToolCall,
    index: usize,
    tools: &ToolSet,
    settings: &Settings,
) -> Result<usize, Outcome> {
    if index >= settings.max_calls {
        return Err(Outcome::Rejected(Rejected::TooManyCalls(settings.max_calls)));
    }
    match call.state() {
        CallState::Complete => {}
        CallState::Withheld(reason) => {
            return Err(Outcome::NotStarted(NotStarted::Withheld(reason)));
        }
        CallState::Malformed(why) => {
            if let Some(stop) = call.withheld_reason() {
                return Err(Outcome::NotStarted(NotStarted::Withheld(stop.to_owned())));
            }
            let quote = quote(call.arguments());
            let why = format!("the arguments can't be read: {why}; they begin {quote}");
            return Err(bad_arguments(why));
        }
    }
    let at = tools.position(call.name()).ok_or_else(|| {
        // A turn of made-up names must not hold up its own deadline.
        let is_cheap = tools.len().saturating_mul(index + 1) <= MOST_COMPARED;
        let nearest = is_cheap.then(|| tools.nearest(call.name())).flatten();
        Outcome::Rejected(unknown(nearest, tools))
    })?;
    check_arguments(call, &tools.definitions()[at], settings)?;
    Ok(at)
}

fn check_arguments(
    call: &ToolCall,
    tool: &Arc<Definition>,
    settings: &Settings,
) -> Result<(), Outcome> {
    let bytes = call.arguments().len();
    if bytes > settings.max_argument_bytes {
        let limit = settings.max_argument_bytes;
        return Err(bad_arguments(format!("the arguments have {bytes} bytes, {limit} at most")));
    }
    let Some(scan) = call.scanned() else { return Ok(()) };
    if scan.depth > settings.max_argument_depth {
        let (depth, limit) = (scan.depth, settings.max_argument_depth);
        return Err(bad_arguments(format!("the arguments nest {depth} deep, {limit} at most")));
    }
    if let Some(key) = scan.duplicate_key.as_ref().filter(|_| !settings.allow_duplicate_keys) {
        return Err(bad_arguments(format!("the key `{key}` stands twice in the arguments")));
    }
    if call.is_free_text() && !tool.free_text {
        return Err(bad_arguments("it takes a JSON object".to_owned()));
    }
    if tool.arguments_of(call).is_none() {
        return Err(bad_arguments("it takes a JSON object of one string, `input`".to_owned()));
    }
    Ok(())
}

fn bad_arguments(why: String) -> Outcome {
    Outcome::Rejected(Rejected::BadArguments(why))
}

/// The beginning of a text, in quotes and escaped.
fn quote(text: &str) -> String {
    let end = text.floor_char_boundary(60);
    let dots = if end < text.len() { "…" } else { "" };
    format!("{:?}{dots}", &text[..end])
}

fn unknown(nearest: Option<&str>, tools: &ToolSet) -> Rejected {
    let names = tools.definitions().iter().map(|definition| definition.name.clone());
    Rejected::UnknownTool {
        nearest: nearest.map(str::to_owned),
        available: names.take(NAMES_TOLD).collect(),
        more: tools.len().saturating_sub(NAMES_TOLD),
    }
}
