//! OpenAI Chat Completions: chunks, in all the ways that compatible servers write them.
//!
//! Which call a piece belongs to: that of its `index`; where that is missing, that of its id; a
//! piece with neither goes on with the last call, or, where there are several, with that in its
//! place, unless it has a name. A name with a new id begins a call even at an index that was there,
//! and so does another name than the call's once that has arguments; before, it is the rest of the
//! name. Arguments alone begin no call while the last one's end is missing. The id is set once, a name
//! that is said again counts once, arguments are appended, `null` is absent. A whole `message` behind
//! pieces says what they said.
//!
//! No chunk says that a call ends. A call is taken for whole when a later one begins or a
//! `finish_reason` comes, and its arguments are an object then; else it waits for the end, because
//! some servers say `finish_reason` in every chunk.
//!
//! A stream ends with a `finish_reason` or with `[DONE]`; some servers leave out one of them. A
//! stream with neither was cut, however whole its calls look: others might have followed.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use serde::de::MapAccess;
use serde_json::value::RawValue;

use crate::turn::{StopKind, StopReason, Usage};
use crate::wire::fields::{self, Fields, Given, fields};
use crate::wire::openai::{Tokens, stop};
use crate::wire::stream::parts::{self, Kept, push_list, push_raw, push_text};
use crate::wire::stream::tell::{Tell, Told};
use crate::wire::stream::{Format, Problem, is_done};

mod arguments;
mod call;
mod content;
mod reasoning;

use arguments::Arguments;
use call::{Call, FunctionPiece, Piece};
use content::Content;
use reasoning::Details;

fields! {
    struct Chunk<'a> {
        object: Cow<'a, str>,
        choices: Vec<Option<Choice<'a>>>,
        usage: &'a RawValue,
        x_groq: &'a RawValue,
        error: &'a RawValue,
    }

    struct Groq<'a> {
        usage: &'a RawValue,
        error: &'a RawValue,
    }

    struct Choice<'a> {
        index: u64,
        delta: Delta<'a>,
        message: Delta<'a>,
        finish_reason: Cow<'a, str>,
        usage: &'a RawValue,
    }
}

/// Texts that come in pieces, beside the content.
const TEXTS: [&str; 6] =
    ["refusal", "reasoning", "reasoning_content", "reasoning_opaque", "reasoning_text", "thinking"];

/// So many choices there may be; OpenAI makes no more.
const MOST_CHOICES: usize = 128;

/// A piece of the message.
#[derive(Debug, Default)]
struct Delta<'a> {
    content: Option<&'a RawValue>,
    tool_calls: Option<Given<Vec<Option<Piece<'a>>>>>,
    function_call: Option<FunctionPiece<'a>>,
    reasoning_details: Option<&'a RawValue>,
    thinking_blocks: Option<&'a RawValue>,
    texts: [Option<Cow<'a, str>>; TEXTS.len()],
    others: Vec<(String, &'a RawValue)>,
}

impl<'a> Fields<'a> for Delta<'a> {
    fn field<A: MapAccess<'a>>(&mut self, key: &[u8], map: &mut A) -> Result<bool, A::Error> {
        match key {
            b"content" => self.content = fields::value(map)?,
            b"tool_calls" => self.tool_calls = fields::value::<&RawValue, A>(map)?.and_then(pieces),
            b"function_call" => self.function_call = fields::value(map)?,
            b"reasoning_details" => self.reasoning_details = fields::value(map)?,
            b"thinking_blocks" => self.thinking_blocks = fields::value(map)?,
            b"role" => return Ok(false),
            _ => match TEXTS.iter().position(|text| text.as_bytes() == key) {
                Some(text) => self.texts[text] = fields::value(map)?,
                None => parts::other(key, map, &mut self.others)?,
            },
        }
        Ok(true)
    }
}

/// The pieces of calls; an object is one piece. What can't be read is one that is no object.
fn pieces(raw: &RawValue) -> Option<Given<Vec<Option<Piece<'_>>>>> {
    let pieces = match raw.get().starts_with('{') {
        true => fields::parse(raw.get()).map(|piece| Some(Given(vec![piece]))),
        false => fields::parse(raw.get()),
    };
    pieces.unwrap_or_else(|_| Some(Given(vec![None])))
}

/// The message so far.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// Which of several choices is read: the first that came.
    choice: Option<u64>,
    /// The others, of which one may hold what belongs to the first.
    others: BTreeMap<u64, Self>,
    content: Content,
    texts: [Option<String>; TEXTS.len()],
    details: Details,
    thinking: Details,
    kept: Kept,
    /// Whether pieces came, so that a whole message repeats them.
    in_pieces: bool,
    calls: Vec<Call>,
    /// The first call of the last piece that began any.
    group: usize,
    /// The last call with an index, and with an id.
    by_index: HashMap<u64, usize>,
    by_id: HashMap<String, usize>,
    /// How many of them were told.
    told: usize,
    /// The one call of older days.
    legacy: Call,
    stop: Option<StopReason>,
    usage: Option<Box<RawValue>>,
    done: bool,
}

impl Format for Stream {
    fn event(&mut self, name: &str, data: &str, tell: &mut Tell<'_>) -> Result<(), Problem> {
        if self.done {
            return Ok(());
        }
        if is_done(data) {
            self.done = true;
            return Ok(());
        }
        let chunk: Option<Chunk<'_>> = fields::parse(data).map_err(|e| Problem::event(&e, data))?;
        let Some(chunk) = chunk else { return Ok(()) };
        let says = |error: &RawValue| error.get().starts_with(['{', '"']) && error.get() != "\"\"";
        if chunk.error.is_some_and(says)
            || name == "error"
            || chunk.object.as_deref() == Some("error")
        {
            return Err(Problem::of_the_provider(data));
        }
        let groq = chunk.x_groq.and_then(fields::part::<Groq<'_>>).unwrap_or_default();
        if let Some(said) = chunk.x_groq.filter(|_| groq.error.is_some_and(says)) {
            return Err(Problem::of_the_provider(said.get()));
        }
        self.count(chunk.usage.or(groq.usage));
        for choice in chunk.choices.into_iter().flatten().flatten() {
            let index = choice.index.unwrap_or_default();
            if *self.choice.get_or_insert(index) == index {
                // Moonshot counts here.
                self.count(choice.usage);
                self.choice(choice, tell)?;
            } else if self.others.len() < MOST_CHOICES || self.others.contains_key(&index) {
                let other = self.others.entry(index).or_default();
                other.choice(choice, &mut Tell::new(&mut Told::default(), &mut |_| {}))?;
            }
        }
        Ok(())
    }

    fn end(&mut self, tell: &mut Tell<'_>) -> Result<String, Problem> {
        if self.stop.is_none() && !self.done {
            return Err(Problem::cut());
        }
        if !self.content.says_something() {
            tell.text(self.refusal());
        }
        let mut body = String::from("{\"choices\":[");
        let choices = self.choice.map(|_| &*self).into_iter().chain(self.others.values());
        push_list(&mut body, choices, |body, choice| choice.write_choice(body));
        body.push(']');
        push_raw(&mut body, "usage", self.usage.as_deref());
        body.push('}');
        Ok(body)
    }
}

impl Stream {
    fn choice(&mut self, choice: Choice<'_>, tell: &mut Tell<'_>) -> Result<(), Problem> {
        self.in_pieces |= choice.delta.is_some();
        let delta = match (choice.delta, choice.message) {
            (None, Some(message)) if self.in_pieces => Some(self.rest_of(message)),
            (delta, message) => delta.or(message),
        };
        if let Some(delta) = delta {
            self.delta(delta, tell)?;
        }
        let Some(raw) = choice.finish_reason.filter(|raw| !raw.is_empty()) else { return Ok(()) };
        // Some servers say more than one: a veto stays.
        if !self.stop.as_ref().is_some_and(StopReason::forbids_calls) {
            self.stop = Some(stop(Some(&raw), Some(self.refusal())));
        }
        self.tell_whole(tell);
        Ok(())
    }

    /// What a whole message at the end says that no piece has said.
    fn rest_of<'a>(&self, mut message: Delta<'a>) -> Delta<'a> {
        message.content = message.content.filter(|_| !self.content.says_something());
        message.tool_calls = message.tool_calls.filter(|_| self.calls.is_empty());
        message.function_call = message.function_call.filter(|_| self.legacy.name.is_empty());
        message.reasoning_details = message.reasoning_details.filter(|_| self.details.is_empty());
        message.thinking_blocks = message.thinking_blocks.filter(|_| self.thinking.is_empty());
        for (text, known) in message.texts.iter_mut().zip(&self.texts) {
            *text = text.take().filter(|_| known.as_ref().is_none_or(String::is_empty));
        }
        message
    }

    fn delta(&mut self, delta: Delta<'_>, tell: &mut Tell<'_>) -> Result<(), Problem> {
        if let Some(content) = delta.content {
            self.content.add(content, tell)?;
        }
        for (text, piece) in self.texts.iter_mut().zip(&delta.texts) {
            if let Some(piece) = piece {
                text.get_or_insert_default().push_str(piece);
            }
        }
        if let Some(details) = delta.reasoning_details {
            self.details.add(details);
        }
        if let Some(blocks) = delta.thinking_blocks {
            self.thinking.add(blocks);
        }
        for (key, value) in delta.others {
            // Of audio the id is what goes back, and it comes first.
            if key != "audio" || !self.kept.has("audio") {
                self.kept.keep(&key, value);
            }
        }
        if let Some(function) = delta.function_call {
            self.legacy.add_function(function);
        }
        let pieces = delta.tool_calls.map(|Given(pieces)| pieces).unwrap_or_default();
        parts::check_list(&pieces, "tool_calls of a delta")?;
        let (first, several) = (self.calls.len(), pieces.len() > 1);
        for (nth, piece) in pieces.into_iter().flatten().enumerate() {
            self.piece(piece, several.then_some(nth), tell)?;
        }
        if self.calls.len() > first {
            self.group = first;
        }
        Ok(())
    }

    /// Takes a piece, which is the `nth` of several.
    fn piece(
        &mut self,
        piece: Piece<'_>,
        nth: Option<usize>,
        tell: &mut Tell<'_>,
    ) -> Result<(), Problem> {
        let at = match self.place(&piece, nth) {
            Some(at) => at,
            None => {
                self.tell_whole(tell);
                self.calls.push(Call::default());
                let at = self.calls.len() - 1;
                self.by_index.extend(piece.index.map(|index| (index, at)));
                at
            }
        };
        let call = &mut self.calls[at];
        // Gateways to Claude begin with an empty object that isn't meant.
        let is_empty = call.arguments.text().trim_ascii() == "{}";
        if at >= self.told && is_empty && piece.begins_an_object() {
            call.arguments = Arguments::default();
            call.examined = 0;
        }
        let had_id = !call.id.is_empty();
        let written = call.arguments.text().len();
        call.add(piece);
        if at < self.told && !call.arguments.text()[written..].trim_ascii().is_empty() {
            return Err(Problem::unreadable("a call went on after it was whole"));
        }
        if !had_id && !call.id.is_empty() {
            self.by_id.insert(call.id.clone(), at);
        }
        Ok(())
    }

    /// The call that the piece belongs to; nothing where it begins one.
    fn place(&self, piece: &Piece<'_>, nth: Option<usize>) -> Option<usize> {
        let id = piece.id.as_deref().unwrap_or_default();
        let has_name = piece.name().is_some_and(|name| !name.is_empty());
        let last = self.calls.len().checked_sub(1);
        let at = match piece.index.map(|index| self.by_index.get(&index)) {
            Some(None) if id.is_empty() && !has_name && piece.has_arguments() => {
                last.filter(|at| *at >= self.told && !self.calls[*at].is_whole())?
            }
            Some(at) => {
                let at = *at?;
                let call = &self.calls[at];
                // A call whose id came late is no other call.
                let is_late = call.id.is_empty() && at >= self.told;
                if has_name && call.has_other_id(id) && !is_late && !call.goes_on_with(piece) {
                    return None;
                }
                at
            }
            None if !id.is_empty() => *self.by_id.get(id)?,
            // A call whose name comes late is no other call.
            None if has_name => {
                last.filter(|at| *at >= self.told && self.calls[*at].name.is_empty())?
            }
            // Of several pieces that say nothing else the place tells the call.
            None => nth.map(|nth| self.group + nth).filter(|at| Some(*at) <= last).or(last)?,
        };
        let call = &self.calls[at];
        // Without ids, or without indices, a second whole call can only be told by its arguments.
        let anew = (id.is_empty() || piece.index.is_none())
            && has_name
            && piece.has_arguments()
            && call.came_whole();
        let renamed = piece.name().is_some_and(|name| call.is_other(name) && call.is_whole());
        (!anew && !renamed).then_some(at)
    }

    /// Tells the calls, which are whole because another begins or the message has a stop reason.
    /// One without arguments, or whose arguments can't be read, may still go on; it waits for the
    /// end, with all that follow it.
    fn tell_whole(&mut self, tell: &mut Tell<'_>) {
        let missing = StopReason::new(StopKind::Missing, "");
        while let Some(call) = self.calls.get_mut(self.told) {
            let length = call.arguments.text().len();
            if !call.may_be_all() || std::mem::replace(&mut call.examined, length) == length {
                return;
            }
            let mut element = String::new();
            call.write(&mut element);
            let calls = parts::calls(&element, self.told, self.stop.as_ref().unwrap_or(&missing));
            if !calls.iter().all(parts::is_readable) {
                return;
            }
            calls.iter().for_each(|call| tell.call(call));
            self.told += 1;
        }
    }

    fn refusal(&self) -> &str {
        self.texts[0].as_deref().unwrap_or_default()
    }

    /// Takes the tokens that were counted. Some servers end with a count of none.
    fn count(&mut self, usage: Option<&RawValue>) {
        let counts = |usage| {
            let tokens: Option<Tokens<'_>> = fields::part(usage);
            tokens.is_some_and(|tokens| Usage::from(tokens) != Usage::default())
        };
        if let Some(usage) = usage.filter(|usage| self.usage.is_none() || counts(usage)) {
            self.usage = Some(usage.to_owned());
        }
    }

    fn write_choice(&self, out: &mut String) {
        out.push_str("{\"message\":");
        self.write(out);
        push_text(out, "finish_reason", self.stop.as_ref().map_or("", |stop| &stop.raw));
        out.push('}');
    }

    fn write(&self, out: &mut String) {
        out.push_str("{\"role\":\"assistant\",\"content\":");
        let is_silent = self.calls.is_empty() && self.legacy.name.is_empty();
        let is_silent = is_silent && self.refusal().is_empty() && !self.kept.has("audio");
        self.content.write(out, is_silent);
        for (key, text) in TEXTS.iter().zip(&self.texts) {
            match text.as_deref() {
                // DeepSeek and Moonshot want it back even where it is empty.
                Some("") if *key == "reasoning_content" => {
                    out.push_str(",\"reasoning_content\":\"\"");
                }
                text => push_text(out, key, text.unwrap_or_default()),
            }
        }
        self.details.write(out, "reasoning_details");
        self.thinking.write(out, "thinking_blocks");
        self.kept.write(out);
        if !self.calls.is_empty() {
            out.push_str(",\"tool_calls\":[");
            push_list(out, &self.calls, |out, call| call.write(out));
            out.push(']');
        }
        if !self.legacy.name.is_empty() {
            out.push_str(",\"function_call\":");
            self.legacy.write_function(out);
        }
        out.push('}');
    }
}
