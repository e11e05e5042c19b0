//! OpenAI Responses: events with a `type`. An item of the output is whole at its
//! `response.output_item.done`, and those items are the turn's, because their calls were told; the
//! last event holds the rest of the response. Its `output`, which some servers leave empty, counts
//! where it holds more.
//!
//! Items are told apart by `output_index`, because proxies vary their ids. Where it is missing they
//! end in the order they began in; another item at an index that is taken goes to the end. A call
//! whose item never ends is put together from its beginning and its arguments, at their end or in
//! pieces, and one that ends without them is filled up so. Where the last event knows of no call at
//! all, those count whose arguments were whole.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet, VecDeque};

use serde_json::value::RawValue;

use crate::turn::{StopKind, StopReason, Wire};
use crate::wire::content;
use crate::wire::fields::{self, fields};
use crate::wire::openai_responses::{Item, Kind};
use crate::wire::raw::{self, RawObject};
use crate::wire::stream::parts::push_list;
use crate::wire::stream::tell::Tell;
use crate::wire::stream::{Format, Problem, is_done, push_json};

fields! {
    struct Event<'a> {
        kind "type": Cow<'a, str>,
        object: Cow<'a, str>,
        output_index: u64,
        item: &'a RawValue,
        delta: &'a RawValue,
        name: &'a RawValue,
        arguments: &'a RawValue,
        input: &'a RawValue,
        response: &'a RawValue,
        error: &'a RawValue,
    }

    struct Last<'a> {
        output: &'a RawValue,
        error: &'a RawValue,
    }
}

/// The response so far.
#[derive(Debug, Default)]
pub(super) struct Stream {
    items: BTreeMap<u64, Slot>,
    /// What the items that ended are told apart by.
    ended: HashSet<String>,
    /// Where items are that began without an index: calls, and others.
    open: [VecDeque<u64>; 2],
    /// Up to which item calls were told, and how many items they were.
    next: u64,
    own: usize,
    said: bool,
    last: Option<Box<RawValue>>,
}

/// An item.
#[derive(Debug, Default)]
struct Slot {
    /// A call as it began, with its arguments once they are whole.
    begun: Option<Box<RawValue>>,
    /// Its arguments as they came in pieces, until they are whole.
    pieces: String,
    whole: Option<Box<RawValue>>,
    /// Whether its arguments are whole.
    is_complete: bool,
    /// Whether a call may come of it.
    may_call: bool,
    said: bool,
}

impl Format for Stream {
    fn event(&mut self, name: &str, data: &str, tell: &mut Tell<'_>) -> Result<(), Problem> {
        if is_done(data) || self.last.is_some() {
            return Ok(());
        }
        let event: Option<Event<'_>> = fields::parse(data).map_err(|e| Problem::event(&e, data))?;
        let event = event.unwrap_or_default();
        let kind = event.kind.as_deref().unwrap_or(name);
        match kind {
            "response.created" => {
                tell.restart();
                *self = Self::default();
            }
            "response.output_item.added" => self.added(&event, tell),
            "response.output_item.done" => self.done(&event, tell)?,
            "response.function_call_arguments.done" => {
                self.complete(&event, "arguments", event.arguments);
            }
            "response.custom_tool_call_input.done" => self.complete(&event, "input", event.input),
            "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta" => {
                let piece = event.delta.and_then(|delta| fields::string(delta.get()));
                if let Some(slot) = self.unfinished(&event) {
                    slot.pieces.push_str(&piece.unwrap_or_default());
                }
            }
            "response.output_text.delta" | "response.refusal.delta" => {
                let text = event.delta.and_then(|delta| fields::string(delta.get()));
                let text = text.unwrap_or_default();
                if !text.is_empty() {
                    tell.text(&text);
                    self.said = true;
                    let at = event.output_index.unwrap_or_else(|| match self.items.is_empty() {
                        true => self.begin(false),
                        false => self.after_last(1),
                    });
                    self.items.entry(at).or_default().said = true;
                }
            }
            "response.completed"
            | "response.incomplete"
            | "response.failed"
            | "response.cancelled"
            | "response.done" => {
                let last: Option<Last<'_>> = event.response.and_then(fields::part);
                if last.is_none_or(|last| last.error.is_some()) {
                    return Err(Problem::of_the_provider(
                        event.response.map_or(data, RawValue::get),
                    ));
                }
                self.last = event.response.map(|last| match kind {
                    "response.completed" | "response.done" => last.to_owned(),
                    veto => with_status(last, &veto["response.".len()..]),
                });
            }
            "error" => return Err(Problem::of_the_provider(data)),
            "" if event.object.as_deref() == Some("response") => {
                self.last = serde_json::from_str(data).ok();
            }
            "" if event.error.is_some() => return Err(Problem::of_the_provider(data)),
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, tell: &mut Tell<'_>) -> Result<String, Problem> {
        let last = self.last.as_deref().ok_or_else(Problem::cut)?;
        self.items.values_mut().for_each(Slot::put_together);
        let output = fields::part::<Last<'_>>(last).and_then(|last| last.output);
        let came = output.map_or_else(Vec::new, |output| raw::array(output.get()));
        let whole = || self.items.values().filter_map(|slot| slot.whole.as_deref());
        let calls = |items: &mut dyn Iterator<Item = &RawValue>| {
            items.filter_map(fields::part::<Item<'_>>).filter(|it| it.call_kind().is_some()).count()
        };
        let (told, held) = (calls(&mut whole()), calls(&mut came.iter().copied()));
        let holds_more = came.len() > whole().count() || held > told;
        // Where the last event forgets a call altogether, it was made all the same.
        let is_lost = |slot: &&Slot| told + held == 0 && slot.whole.is_none() && slot.is_complete;
        let lost: Vec<_> =
            self.items.values().filter(is_lost).filter_map(|slot| self.unended(slot)).collect();
        let body = if holds_more && lost.is_empty() {
            last.get().to_owned()
        } else {
            let mut output = String::from("[");
            let items: Vec<_> = if came.is_empty() {
                let items = self.items.values();
                items
                    .filter_map(|slot| slot.whole.as_deref().or_else(|| self.unended(slot)))
                    .collect()
            } else {
                let items = if holds_more { came } else { whole().collect() };
                items.into_iter().chain(lost).collect()
            };
            push_list(&mut output, items, |out, item| out.push_str(item.get()));
            output.push(']');
            let output = RawValue::from_string(output).map_err(Problem::unreadable)?;
            let mut response = RawObject::read(last.get()).ok_or_else(Problem::cut)?;
            response.put("output".into(), output);
            let mut body = String::new();
            push_json(&mut body, &response);
            body
        };
        if !self.said
            && let Ok(turn) = Wire::OpenAiResponses.parse(&body)
        {
            tell.text(turn.text());
        }
        Ok(body)
    }
}

impl Stream {
    /// The index after the last item's, less `back`.
    fn after_last(&self, back: u64) -> u64 {
        let next = self.items.last_key_value().map_or(0, |(last, _)| last.saturating_add(1));
        next.saturating_sub(back)
    }

    fn added(&mut self, event: &Event<'_>, tell: &mut Tell<'_>) {
        let Some((raw, item)) = event.item.and_then(|raw| Some((raw, fields::part(raw)?))) else {
            return;
        };
        let item: Item<'_> = item;
        if item.kind.as_deref() != Some("message") {
            tell.apart();
        }
        let at = event.output_index.unwrap_or_else(|| self.begin(item.call_kind().is_some()));
        let slot = self.items.entry(at).or_default();
        slot.may_call = item.call_kind().is_some();
        slot.begun = slot.may_call.then(|| raw.to_owned());
    }

    /// A place for an item that begins without an index.
    fn begin(&mut self, is_call: bool) -> u64 {
        let at = self.after_last(0);
        self.open[usize::from(is_call)].push_back(at);
        at
    }

    /// What came of a call that never ended, unless it did at another index.
    fn unended<'a>(&self, slot: &'a Slot) -> Option<&'a RawValue> {
        let begun = slot.begun.as_deref()?;
        let key = fields::part::<Item<'_>>(begun)?.key();
        (!key.is_some_and(|key| self.ended.contains(&key))).then_some(begun)
    }

    /// The call that an event about its arguments is of, whose item may end yet or not.
    fn unfinished(&mut self, event: &Event<'_>) -> Option<&mut Slot> {
        let at = event.output_index.unwrap_or_else(|| self.after_last(1));
        self.items.get_mut(&at).filter(|slot| slot.whole.is_none() && slot.begun.is_some())
    }

    fn complete(&mut self, event: &Event<'_>, key: &str, arguments: Option<&RawValue>) {
        if let Some((slot, arguments)) = self.unfinished(event).zip(arguments) {
            slot.fill(key, arguments, event.name);
            slot.is_complete = true;
        }
    }

    fn done(&mut self, event: &Event<'_>, tell: &mut Tell<'_>) -> Result<(), Problem> {
        let Some((raw, item)) = event.item.and_then(|raw| Some((raw, fields::part(raw)?))) else {
            return Err(Problem::unreadable("an item is no object"));
        };
        let item: Item<'_> = item;
        let is_call = item.call_kind().is_some();
        let open = |stream: &mut Self| stream.open[usize::from(is_call)].pop_front();
        let mut at = match event.output_index {
            Some(at) => at,
            None => open(self).unwrap_or_else(|| self.after_last(0)),
        };
        let is_new = item.key().is_none_or(|key| self.ended.insert(key));
        if let Some(taken) = self.items.get(&at).and_then(|slot| slot.whole.as_deref()) {
            if !is_new || taken.get() == raw.get() {
                return Ok(());
            }
            at = self.after_last(0);
        }
        if at < self.next && is_call {
            return Err(Problem::unreadable("calls came out of order"));
        }
        let is_new = !self.items.contains_key(&at);
        let slot = self.items.entry(at).or_default();
        slot.may_call = is_call;
        if item.kind.as_deref() == Some("message") {
            if !slot.said {
                let (text, _) = content::said(item.content, "").map_err(|_| {
                    Problem::unreadable("the content of an item is neither a text nor a list")
                })?;
                tell.text(&text);
                slot.said = true;
                self.said |= !text.is_empty();
            }
        } else if is_new {
            tell.apart();
        }
        slot.put_together();
        let begun = slot.begun.as_deref().filter(|_| is_call);
        let filled = begun.and_then(|begun| filled(raw, begun));
        slot.whole = Some(filled.unwrap_or_else(|| raw.to_owned()));
        self.tell_whole(tell);
        Ok(())
    }

    /// Tells the calls that no call before them is still missing of.
    fn tell_whole(&mut self, tell: &mut Tell<'_>) {
        let missing = StopReason::new(StopKind::Missing, "");
        let mut next = self.next;
        for (at, slot) in self.items.range(self.next..) {
            match &slot.whole {
                Some(item) if slot.may_call => {
                    let mut calls = Vec::new();
                    if let Some(item) = fields::part::<Item<'_>>(item) {
                        item.add_calls(self.own, &missing, &mut calls);
                    }
                    calls.iter().for_each(|call| tell.call(call));
                    self.own += 1;
                }
                None if slot.may_call => break,
                _ => {}
            }
            next = at.saturating_add(1);
        }
        self.next = next;
    }
}

impl Slot {
    /// Gives the call as it began its arguments, and a name where it has none.
    fn fill(&mut self, key: &str, arguments: &RawValue, name: Option<&RawValue>) {
        self.pieces.clear();
        let begun = self.begun.as_deref().and_then(|raw| RawObject::read(raw.get()));
        let Some(mut item) = begun else { return };
        item.put_raw(key, arguments);
        item.remove("status");
        if let (None, Some(name)) = (item.get("name"), name) {
            item.put_raw("name", name);
        }
        let item = serde_json::value::to_raw_value(&item);
        self.begun = item.ok().or(self.begun.take());
    }

    /// Takes the pieces for all of the arguments, where no event said what those are.
    fn put_together(&mut self) {
        if self.pieces.is_empty() {
            return;
        }
        let pieces = std::mem::take(&mut self.pieces);
        let kind = self.begun.as_deref().and_then(fields::part::<Item<'_>>);
        let key = match kind.and_then(|item| item.call_kind()) {
            Some(Kind::Custom) => "input",
            _ => "arguments",
        };
        if let Ok(arguments) = serde_json::value::to_raw_value(&pieces) {
            self.fill(key, &arguments, None);
            self.is_complete = crate::json::scan(&pieces).is_ok_and(|scan| scan.is_object);
        }
    }
}

/// The response with the status that its event says. Some servers leave it out.
fn with_status(response: &RawValue, status: &str) -> Box<RawValue> {
    let Some(mut object) = RawObject::read(response.get()) else { return response.to_owned() };
    object.set("status", status);
    serde_json::value::to_raw_value(&object).unwrap_or_else(|_| response.to_owned())
}

/// A call that ended without what its beginning, or the end of its arguments, had said.
fn filled(ended: &RawValue, begun: &RawValue) -> Option<Box<RawValue>> {
    let (mut item, begun) = (RawObject::read(ended.get())?, RawObject::read(begun.get())?);
    let both = item.has_text("call_id") && begun.has_text("call_id");
    if both && item.text("call_id") != begun.text("call_id") {
        return None;
    }
    let mut missing = vec!["name", "call_id", "arguments", "input"];
    missing.retain(|key| !item.has_text(key) && begun.has_text(key));
    for key in &missing {
        item.put_raw(key, begun.get(key)?);
    }
    if missing.is_empty() { None } else { serde_json::value::to_raw_value(&item).ok() }
}
