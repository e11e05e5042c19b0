//! Cohere v2: events with a `type`, in which each call has an end of its own.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::turn::{StopKind, StopReason};
use crate::wire::call_element::arguments;
use crate::wire::fields::{self, Given, fields};
use crate::wire::stream::parts::{self, push_list, push_raw, push_text};
use crate::wire::stream::tell::Tell;
use crate::wire::stream::{Format, Problem, is_done, push_json};

fields! {
    struct Event<'a> {
        kind "type": Cow<'a, str>,
        index: u64,
        delta: Delta<'a>,
        message: &'a RawValue,
        error: &'a RawValue,
    }

    struct Delta<'a> {
        message: Piece<'a>,
        finish_reason: Cow<'a, str>,
        usage: &'a RawValue,
        error: Cow<'a, str>,
    }

    struct Piece<'a> {
        tool_plan: &'a RawValue,
        content: Given<Option<ContentPiece<'a>>>,
        tool_calls: Given<Option<CallPiece<'a>>>,
        citations: &'a RawValue,
    }

    struct ContentPiece<'a> {
        kind "type": Cow<'a, str>,
        text: &'a RawValue,
        thinking: &'a RawValue,
    }

    struct CallPiece<'a> {
        id: Cow<'a, str>,
        function: FunctionPiece<'a>,
    }

    struct FunctionPiece<'a> {
        name: Cow<'a, str>,
        arguments: &'a RawValue,
    }
}

/// The message so far.
#[derive(Debug, Default)]
pub(super) struct Stream {
    plan: String,
    blocks: Vec<Block>,
    calls: Vec<Call>,
    citations: Vec<Box<RawValue>>,
    /// How many calls were told: those that ended, and had none before them that didn't.
    told: usize,
    stop: String,
    usage: Option<Box<RawValue>>,
    done: bool,
}

#[derive(Debug, Default)]
struct Block {
    thinking: bool,
    text: String,
}

#[derive(Debug, Default)]
struct Call {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
    ended: bool,
}

impl Format for Stream {
    fn event(&mut self, name: &str, data: &str, tell: &mut Tell<'_>) -> Result<(), Problem> {
        if is_done(data) {
            return Ok(());
        }
        let event: Option<Event<'_>> = fields::parse(data).map_err(|e| Problem::event(&e, data))?;
        let event = event.unwrap_or_default();
        let (index, delta) = (event.index, event.delta.unwrap_or_default());
        let piece = delta.message.unwrap_or_default();
        match event.kind.as_deref().unwrap_or(name) {
            "message-start" => {
                tell.restart();
                *self = Self::default();
                self.plan(piece.tool_plan, tell)?;
            }
            "tool-plan-delta" => self.plan(piece.tool_plan, tell)?,
            "content-start" | "content-delta" => {
                let begins = event.kind.as_deref().unwrap_or(name) == "content-start";
                let content = parts::object(piece.content, "the content of a message")?;
                self.content(content, begins, tell)?;
            }
            "tool-call-start" => {
                self.calls.push(Call { index, ..Call::default() });
                self.call(index, piece.tool_calls)?;
            }
            "tool-call-delta" => self.call(index, piece.tool_calls)?,
            "tool-call-end" => {
                if let Some(call) = self.open(index) {
                    call.ended = true;
                }
                self.tell_ended(tell);
            }
            "citation-start" => self.citations.extend(piece.citations.map(ToOwned::to_owned)),
            "message-end" => {
                if let Some(error) = delta.error.filter(|error| !error.is_empty()) {
                    return Err(Problem::of_the_provider(&error));
                }
                self.stop = delta.finish_reason.unwrap_or_default().into_owned();
                self.usage = delta.usage.map(ToOwned::to_owned);
                self.done = true;
            }
            "" if event.message.or(event.error).is_some() => {
                return Err(Problem::of_the_provider(data));
            }
            "error" => return Err(Problem::of_the_provider(data)),
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, _tell: &mut Tell<'_>) -> Result<String, Problem> {
        if !self.done {
            return Err(Problem::cut());
        }
        let mut body = String::from("{\"message\":{\"role\":\"assistant\"");
        push_text(&mut body, "tool_plan", &self.plan);
        if !self.blocks.is_empty() || self.calls.is_empty() {
            body.push_str(",\"content\":[");
            push_list(&mut body, &self.blocks, |out, block| block.write(out));
            body.push(']');
        }
        if !self.calls.is_empty() {
            body.push_str(",\"tool_calls\":[");
            push_list(&mut body, &self.calls, |out, call| call.write(out));
            body.push(']');
        }
        if !self.citations.is_empty() {
            body.push_str(",\"citations\":[");
            push_list(&mut body, &self.citations, |out, citation| out.push_str(citation.get()));
            body.push(']');
        }
        body.push('}');
        push_text(&mut body, "finish_reason", &self.stop);
        push_raw(&mut body, "usage", self.usage.as_deref());
        body.push('}');
        Ok(body)
    }
}

impl Stream {
    fn plan(&mut self, piece: Option<&RawValue>, tell: &mut Tell<'_>) -> Result<(), Problem> {
        let piece = parts::text(piece, "the tool_plan of a message")?;
        self.plan.push_str(&piece);
        tell.text(&piece);
        Ok(())
    }

    fn content(
        &mut self,
        piece: ContentPiece<'_>,
        begins: bool,
        tell: &mut Tell<'_>,
    ) -> Result<(), Problem> {
        let thinking = piece.thinking.is_some() || piece.kind.as_deref() == Some("thinking");
        if begins || self.blocks.last().is_none_or(|block| block.thinking != thinking) {
            self.blocks.push(Block { thinking, text: String::new() });
        }
        let (text, what) = match thinking {
            true => (piece.thinking, "the thinking of a content"),
            false => (piece.text, "the text of a content"),
        };
        let text = parts::text(text, what)?;
        if let Some(block) = self.blocks.last_mut() {
            block.text.push_str(&text);
        }
        if !thinking {
            tell.text(&text);
        }
        Ok(())
    }

    /// The call of an index that has no end yet.
    fn open(&mut self, index: Option<u64>) -> Option<&mut Call> {
        let told = self.told;
        let mut open = self.calls[told..].iter_mut().rev().filter(|call| !call.ended);
        open.find(|call| index.is_none() || call.index == index)
    }

    fn call(
        &mut self,
        index: Option<u64>,
        piece: Option<Given<Option<CallPiece<'_>>>>,
    ) -> Result<(), Problem> {
        let piece = parts::object(piece, "tool_calls of a message")?;
        let Some(call) = self.open(index) else {
            return Err(Problem::unreadable("a piece of a call that doesn't go on"));
        };
        let function = piece.function.unwrap_or_default();
        set(&mut call.id, piece.id);
        set(&mut call.name, function.name);
        call.arguments.push_str(&arguments(function.arguments));
        Ok(())
    }

    fn tell_ended(&mut self, tell: &mut Tell<'_>) {
        let missing = StopReason::new(StopKind::Missing, "");
        while let Some(call) = self.calls.get(self.told).filter(|call| call.ended) {
            let mut element = String::new();
            call.write(&mut element);
            for call in parts::calls(&element, self.told, &missing) {
                tell.call(&call);
            }
            self.told += 1;
        }
    }
}

fn set(text: &mut String, piece: Option<Cow<'_, str>>) {
    if text.is_empty() {
        text.push_str(piece.as_deref().unwrap_or_default());
    }
}

impl Block {
    fn write(&self, out: &mut String) {
        let kind = if self.thinking { "thinking" } else { "text" };
        out.push_str("{\"type\":");
        push_json(out, kind);
        out.push_str(",\"");
        out.push_str(kind);
        out.push_str("\":");
        push_json(out, &self.text);
        out.push('}');
    }
}

impl Call {
    fn write(&self, out: &mut String) {
        out.push('{');
        if !self.id.is_empty() {
            out.push_str("\"id\":");
            push_json(out, &self.id);
            out.push(',');
        }
        out.push_str("\"type\":\"function\",\"function\":{\"name\":");
        push_json(out, &self.name);
        out.push_str(",\"arguments\":");
        push_json(out, &self.arguments);
        out.push_str("}}");
    }
}
