//! Gemini `generateContent`: each event is a response with the next parts of the content.
//!
//! A call is whole where its part is. On Vertex the arguments may come in pieces, each with the
//! path of the value it belongs to; such a call ends with the piece that announces no other, with
//! an empty call, with the next call, or with the message. A piece may repeat the id.

mod arguments;

use std::borrow::Cow;

use serde::Serialize;
use serde::de::MapAccess;
use serde_json::value::RawValue;

use crate::turn::StopKind;
use crate::wire::fields::{self, Fields, Given, fields};
use crate::wire::gemini::{self, Tokens};
use crate::wire::raw::{self, RawObject};
use crate::wire::stream::parts::{check_list, push_list};
use crate::wire::stream::tell::Tell;
use crate::wire::stream::{Format, Problem, is_done, push_json, push_string};
use arguments::{Arguments, Piece};

fields! {
    struct Event<'a> {
        candidates: Vec<Option<Candidate<'a>>>,
        prompt_feedback "promptFeedback": &'a RawValue,
        usage "usageMetadata": Tokens<'a>,
        error: &'a RawValue,
    }

    struct Candidate<'a> {
        index: u64,
        content: Content<'a>,
        finish_reason "finishReason": &'a RawValue,
    }

    struct Content<'a> {
        role: Cow<'a, str>,
        parts: Given<Vec<Option<&'a RawValue>>>,
    }

    struct Call<'a> {
        id: &'a RawValue,
        name: &'a RawValue,
        args: &'a RawValue,
        pieces "partialArgs": Vec<Option<Piece<'a>>>,
        will_continue "willContinue": bool,
    }
}

#[derive(Debug, Default)]
struct Part<'a> {
    text: Option<Cow<'a, str>>,
    thought: Option<bool>,
    signature: Option<&'a RawValue>,
    call: Option<Call<'a>>,
    /// There is something else in it.
    has_more: bool,
}

impl<'a> Fields<'a> for Part<'a> {
    fn field<A: MapAccess<'a>>(&mut self, key: &[u8], map: &mut A) -> Result<bool, A::Error> {
        match key {
            b"text" => fields::value_into(map, &mut self.text)?,
            b"thought" => fields::value_into(map, &mut self.thought)?,
            b"thoughtSignature" => fields::value_into(map, &mut self.signature)?,
            b"functionCall" => fields::value_into(map, &mut self.call)?,
            _ => {
                self.has_more = true;
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The message so far.
#[derive(Debug, Default)]
pub(super) struct Stream {
    has_candidate: bool,
    role: Option<String>,
    parts: Vec<Whole>,
    open: Option<Open>,
    calls: usize,
    finish_reason: Option<Box<RawValue>>,
    prompt_feedback: Option<Box<RawValue>>,
    usage: Usage,
}

#[derive(Debug)]
enum Whole {
    /// Pieces of plain text, put together.
    Text {
        text: String,
        thought: bool,
    },
    Part(Box<RawValue>),
}

/// A call whose arguments come in pieces.
#[derive(Debug)]
struct Open {
    part: Box<RawValue>,
    id: Option<Box<RawValue>>,
    /// Arguments that came with its beginning, until others come.
    given: Option<Box<RawValue>>,
    /// Whether the part says something, too.
    has_text: bool,
    signature: Option<Box<RawValue>>,
    arguments: Arguments,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Usage {
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_token_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_use_prompt_token_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    candidates_token_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thoughts_token_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cached_content_token_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_token_count: Option<u64>,
}

impl Format for Stream {
    fn event(&mut self, _name: &str, data: &str, tell: &mut Tell<'_>) -> Result<(), Problem> {
        if is_done(data) {
            return Ok(());
        }
        let mut event = None;
        fields::parse_into(data, &mut event).map_err(|error| Problem::event(&error, data))?;
        let Some(event): &mut Option<Event<'_>> = &mut event else { return Ok(()) };
        if event.error.is_some() {
            return Err(Problem::of_the_provider(data));
        }
        // Without a reason it only rates the prompt, and the message goes on.
        if let Some(feedback) = event.prompt_feedback.filter(|given| gemini::is_block(given)) {
            self.prompt_feedback = Some(feedback.to_owned());
        }
        self.usage.update(event.usage.take().unwrap_or_default());
        let mut candidates = event.candidates.iter_mut().flatten().flatten();
        let Some(candidate) = candidates.find(|one| one.index.unwrap_or_default() == 0) else {
            return Ok(());
        };
        self.has_candidate = true;
        let content = candidate.content.get_or_insert_default();
        if self.role.is_none() {
            self.role = content.role.take().map(Cow::into_owned);
        }
        let parts = content.parts.take().map(|Given(parts)| parts).unwrap_or_default();
        check_list(&parts, "parts of a content")?;
        for part in parts.into_iter().flatten() {
            self.part(part, tell)?;
        }
        let says = |reason: &&RawValue| gemini::stop(Some(reason)).kind != StopKind::Missing;
        if let Some(reason) = candidate.finish_reason.filter(says) {
            self.close(tell);
            // A veto stays, whatever is said after it.
            if !gemini::stop(self.finish_reason.as_deref()).forbids_calls() {
                self.finish_reason = Some(reason.to_owned());
            }
        }
        Ok(())
    }

    fn end(&mut self, tell: &mut Tell<'_>) -> Result<String, Problem> {
        if self.finish_reason.is_none() && self.prompt_feedback.is_none() {
            return Err(Problem::cut());
        }
        self.close(tell);
        let mut body = String::from("{");
        if self.has_candidate {
            body.push_str(r#""candidates":[{"#);
            if !self.parts.is_empty() {
                body.push_str(r#""content":{"role":"#);
                push_json(&mut body, self.role.as_deref().unwrap_or("model"));
                body.push_str(r#","parts":["#);
                push_list(&mut body, &self.parts, |body, part| match part {
                    Whole::Part(part) => body.push_str(part.get()),
                    Whole::Text { text, thought } => {
                        body.push_str(r#"{"text":"#);
                        push_string(body, text);
                        body.push_str(if *thought { r#","thought":true}"# } else { "}" });
                    }
                });
                body.push_str("]},");
            }
            body.push_str(r#""finishReason":"#);
            push_json(&mut body, &self.finish_reason);
            body.push_str("}],");
        }
        if let Some(feedback) = &self.prompt_feedback {
            body.push_str(r#""promptFeedback":"#);
            body.push_str(feedback.get());
            body.push(',');
        }
        body.push_str(r#""usageMetadata":"#);
        push_json(&mut body, &self.usage);
        body.push('}');
        Ok(body)
    }
}

impl Stream {
    fn part(&mut self, raw: &RawValue, tell: &mut Tell<'_>) -> Result<(), Problem> {
        let mut part: Part<'_> = fields::part(raw).unwrap_or_default();
        part.signature = part.signature.filter(|signature| signature.get() != "\"\"");
        if let Some(call) = part.call {
            let text = part.text.filter(|_| part.thought != Some(true));
            tell.text(text.as_deref().unwrap_or_default());
            return self.call(raw, call, part.signature, text.is_some(), tell);
        }
        let thought = part.thought == Some(true);
        let Some(text) = part.text else {
            tell.apart();
            self.parts.push(Whole::Part(raw.to_owned()));
            return Ok(());
        };
        let has_more = part.has_more || part.signature.is_some();
        match thought {
            true if text.is_empty() && !has_more => {}
            true => tell.apart(),
            false => tell.text(&text),
        }
        // A part with anything else in it, such as a signature, is left as it came.
        if has_more {
            self.parts.push(Whole::Part(raw.to_owned()));
        } else if let Some(Whole::Text { text: last, thought: same }) = self.parts.last_mut()
            && *same == thought
        {
            last.push_str(&text);
        } else if !text.is_empty() {
            self.parts.push(Whole::Text { text: text.into_owned(), thought });
        }
        Ok(())
    }

    fn call(
        &mut self,
        raw: &RawValue,
        mut call: Call<'_>,
        signature: Option<&RawValue>,
        has_text: bool,
        tell: &mut Tell<'_>,
    ) -> Result<(), Problem> {
        let pieces = call.pieces.unwrap_or_default();
        let goes_on = call.will_continue == Some(true);
        let id = call.id.map(RawValue::get);
        let is_same = |open: &Open| id.is_some() && id == open.id.as_deref().map(RawValue::get);
        let begins = (call.name.is_some() || call.id.is_some() || call.args.is_some())
            && !self.open.as_ref().is_some_and(is_same);
        if begins && pieces.is_empty() && !goes_on {
            self.close(tell);
            if let Some(call) = gemini::call_with(call.id, call.name, call.args, self.calls) {
                tell.call(&call);
                self.calls += 1;
            }
            if !has_text {
                tell.apart();
            }
            self.parts.push(Whole::Part(raw.to_owned()));
            return Ok(());
        }
        if begins {
            self.close(tell);
            self.open = Some(Open {
                part: raw.to_owned(),
                id: call.id.map(ToOwned::to_owned),
                given: call.args.take().map(ToOwned::to_owned),
                has_text,
                signature: None,
                arguments: Arguments::default(),
            });
        }
        let Some(open) = &mut self.open else {
            // An empty call that ends none is what some streams close with.
            return match pieces.is_empty() {
                true => Ok(()),
                false => Err(Problem::unreadable("arguments came for no call")),
            };
        };
        if (call.args.is_some() || !pieces.is_empty())
            && let Some(given) = open.given.take()
        {
            open.arguments.give(&given)?;
        }
        if let Some(args) = call.args {
            open.arguments.give(args)?;
        }
        if let Some(signature) = signature {
            open.signature = Some(signature.to_owned());
        }
        for piece in pieces.into_iter().flatten() {
            open.arguments.add(piece)?;
        }
        if !goes_on {
            self.close(tell);
        }
        Ok(())
    }

    /// Ends the call whose arguments come in pieces.
    fn close(&mut self, tell: &mut Tell<'_>) {
        if let Some(open) = self.open.take() {
            self.push(open.whole(), tell);
            if !open.has_text {
                tell.apart();
            }
        }
    }

    fn push(&mut self, part: Box<RawValue>, tell: &mut Tell<'_>) {
        if let Some(call) = gemini::call_of(part.get(), self.calls) {
            tell.call(&call);
            self.calls += 1;
        }
        self.parts.push(Whole::Part(part));
    }
}

impl Open {
    /// The part as it stands in a whole message.
    fn whole(&self) -> Box<RawValue> {
        let Some(mut part) = RawObject::read(self.part.get()) else {
            return self.part.clone();
        };
        let mut call = part.get("functionCall").map(|call| RawObject::read(call.get()));
        if let Some(Some(call)) = &mut call {
            call.remove("partialArgs");
            call.remove("willContinue");
            if call.get("args").is_none() || !self.arguments.is_empty() {
                call.set("args", &self.arguments);
            }
            let call = raw::json(call);
            part.set("functionCall", &call);
        }
        if let Some(signature) = &self.signature {
            part.set("thoughtSignature", signature);
        }
        serde_json::value::to_raw_value(&part).unwrap_or_else(|_| self.part.clone())
    }
}

impl Usage {
    /// Counts are of the whole message so far; one that isn't repeated still holds.
    fn update(&mut self, new: Tokens<'_>) {
        let update = |count: &mut Option<u64>, new: Option<u64>| *count = new.or(*count);
        update(&mut self.prompt_token_count, new.prompt);
        update(&mut self.tool_use_prompt_token_count, new.tool_use_prompt);
        update(&mut self.candidates_token_count, new.candidates);
        update(&mut self.thoughts_token_count, new.thoughts);
        update(&mut self.cached_content_token_count, new.cached);
        update(&mut self.total_token_count, new.total);
    }
}
