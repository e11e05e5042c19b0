//! Ollama: a line is a message of its own, with a piece of the text and whole calls; the last one
//! says `done`.

use std::borrow::Cow;

use serde::de::MapAccess;
use serde_json::value::RawValue;

use crate::turn::{StopKind, StopReason};
use crate::wire::fields::{self, Fields, Given, fields};
use crate::wire::ollama::stop;
use crate::wire::raw::RawObject;
use crate::wire::stream::parts::{self, Kept, push_list, push_text};
use crate::wire::stream::tell::Tell;
use crate::wire::stream::{Format, Problem, push_json};

fields! {
    struct Line<'a> {
        message: Piece<'a>,
        done: bool,
        done_reason: Cow<'a, str>,
        error: &'a RawValue,
    }
}

#[derive(Debug, Default)]
struct Piece<'a> {
    content: Option<&'a RawValue>,
    thinking: Option<Cow<'a, str>>,
    tool_calls: Option<Given<Vec<Option<&'a RawValue>>>>,
    others: Vec<(String, &'a RawValue)>,
}

impl<'a> Fields<'a> for Piece<'a> {
    fn field<A: MapAccess<'a>>(&mut self, key: &[u8], map: &mut A) -> Result<bool, A::Error> {
        match key {
            b"content" => self.content = fields::value(map)?,
            b"thinking" => self.thinking = fields::value(map)?,
            b"tool_calls" => self.tool_calls = fields::value(map)?,
            b"role" => return Ok(false),
            _ => parts::other(key, map, &mut self.others)?,
        }
        Ok(true)
    }
}

/// The message so far.
#[derive(Debug, Default)]
pub(super) struct Stream {
    content: String,
    thinking: String,
    calls: Vec<Box<RawValue>>,
    kept: Kept,
    /// The line that says `done`.
    last: Option<String>,
}

impl Format for Stream {
    fn event(&mut self, _name: &str, data: &str, tell: &mut Tell<'_>) -> Result<(), Problem> {
        let line: Option<Line<'_>> = fields::parse(data).map_err(|e| Problem::event(&e, data))?;
        let line = line.unwrap_or_default();
        if line.error.is_some() {
            return Err(Problem::of_the_provider(data));
        }
        if self.last.is_some() {
            return Ok(());
        }
        let done = line.done == Some(true);
        let stop = match done {
            true => stop(line.done_reason.as_deref()),
            false => StopReason::new(StopKind::Missing, ""),
        };
        let piece = line.message.unwrap_or_default();
        if let Some(content) = piece.content {
            let content = parts::text(Some(content), "the content of a message")?;
            self.content.push_str(&content);
            tell.text(&content);
        }
        self.thinking.push_str(piece.thinking.as_deref().unwrap_or_default());
        let calls = piece.tool_calls.map(|Given(calls)| calls).unwrap_or_default();
        parts::check_list(&calls, "tool_calls of a message")?;
        for call in calls.into_iter().flatten() {
            for call in parts::calls(call.get(), self.calls.len(), &stop) {
                tell.call(&call);
            }
            self.calls.push(call.to_owned());
        }
        for (key, value) in piece.others {
            self.kept.keep(&key, value);
        }
        if done {
            self.last = Some(data.to_owned());
        }
        Ok(())
    }

    fn end(&mut self, _tell: &mut Tell<'_>) -> Result<String, Problem> {
        let last = self.last.as_deref().ok_or_else(Problem::cut)?;
        let mut message = String::from("{\"role\":\"assistant\",\"content\":");
        push_json(&mut message, &self.content);
        push_text(&mut message, "thinking", &self.thinking);
        self.kept.write(&mut message);
        if !self.calls.is_empty() {
            message.push_str(",\"tool_calls\":[");
            push_list(&mut message, &self.calls, |out, call| out.push_str(call.get()));
            message.push(']');
        }
        message.push('}');
        let message = RawValue::from_string(message).map_err(Problem::unreadable)?;
        let mut body = RawObject::read(last).ok_or_else(Problem::cut)?;
        body.put("message".into(), message);
        let mut out = String::new();
        push_json(&mut out, &body);
        Ok(out)
    }
}
