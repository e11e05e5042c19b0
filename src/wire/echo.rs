//! The echoed message of formats whose content is a list of blocks and whose arguments are JSON
//! objects: put together block by block, repaired where the provider would refuse it.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::call::ToolCall;
use crate::json::Json;
use crate::wire::Repair;
use crate::wire::answers::Answer;
use crate::wire::fields;
use crate::wire::ids::quoted;
use crate::wire::raw::{self, EQUAL_KEYS, RawObject};
use crate::wire::tool_calls::object_text;

/// The blocks so far. Calls come last: nothing may follow them but thinking that led to further
/// ones, which the provider has to be given where it stood.
#[derive(Default)]
pub(super) struct Echo {
    /// Up to the last thinking that stays between calls.
    done: Vec<Json>,
    others: Vec<Json>,
    /// Whether the last of them is thinking.
    thinks: bool,
    calls: Vec<Json>,
    /// What came after the last call, with its place in the message.
    after: Vec<After>,
    repairs: Vec<Repair>,
}

struct After {
    at: usize,
    block: Json,
    is_thinking: bool,
}

impl Echo {
    /// Adds a block that is no call; `at` is its place in the message as it came.
    pub(super) fn keep(&mut self, at: usize, block: Json) {
        self.add(at, block, false);
    }

    /// Adds a block of the model's thinking.
    pub(super) fn think(&mut self, at: usize, block: Json) {
        self.add(at, block, true);
    }

    fn add(&mut self, at: usize, block: Json, is_thinking: bool) {
        match self.calls.is_empty() {
            true => {
                self.others.push(block);
                self.thinks = is_thinking;
            }
            false => self.after.push(After { at, block, is_thinking }),
        }
    }

    /// Puts blocks that came after calls before them.
    fn put_before(&mut self, blocks: impl IntoIterator<Item = After>) {
        for After { at, block, .. } in blocks {
            self.note(None, format!("content[{at}] was put before the calls"));
            self.others.push(block);
        }
    }

    /// Passes over a block, and says why.
    pub(super) fn leave_out(&mut self, at: usize, why: &str) {
        self.note(None, format!("content[{at}] was left out: {why}"));
    }

    /// Adds the block of a call that waits for its result.
    pub(super) fn call(&mut self, block: Json) {
        let mut before = std::mem::take(&mut self.after);
        let thought = before.iter().position(|after| after.is_thinking);
        let stays = before.split_off(thought.unwrap_or(before.len()));
        self.put_before(before);
        if !stays.is_empty() {
            self.done.append(&mut self.others);
            self.done.append(&mut self.calls);
            self.others.extend(stays.into_iter().map(|after| after.block));
        }
        self.calls.push(block);
    }

    /// Notes a change.
    pub(super) fn note(&mut self, index: Option<usize>, what: impl Into<String>) {
        self.repairs.push(Repair { index, what: what.into() });
    }

    /// Repairs the call that `object` holds; whether there was anything to repair.
    pub(super) fn repair(
        &mut self,
        object: &mut RawObject<'_>,
        spelling: Spelling,
        answer: &Answer<'_>,
        id: Option<&str>,
    ) -> bool {
        let before = self.repairs.len();
        let note = |what| self.note(Some(answer.index), what);
        repair(object, spelling, answer.call, id, note);
        self.repairs.len() > before
    }

    /// Whether there is no block.
    pub(super) fn is_empty(&self) -> bool {
        self.others.is_empty() && self.calls.is_empty()
    }

    /// Puts words behind thinking that would be the last block, which Claude refuses.
    pub(super) fn put_behind_thinking(&mut self, words: impl FnOnce() -> Json) {
        if self.calls.is_empty() && self.thinks {
            self.others.push(words());
            self.note(None, "words were put behind thinking, which can't be the last");
        }
    }

    /// The blocks, and what was repaired; nothing where all are as they came.
    pub(super) fn finish(mut self) -> (Vec<Json>, Vec<Repair>) {
        let after = std::mem::take(&mut self.after);
        self.put_before(after);
        let Self { mut done, mut others, mut calls, repairs, .. } = self;
        done.append(&mut others);
        done.append(&mut calls);
        (done, repairs)
    }
}

/// How a format spells a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spelling {
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    pub(super) arguments: &'static str,
    /// A legal name as it is, another one made legal.
    pub(super) legal_name: fn(&str) -> Cow<'_, str>,
    /// Whether the arguments may be missing.
    pub(super) optional: bool,
}

fn repair(
    object: &mut RawObject<'_>,
    spelling: Spelling,
    call: &ToolCall,
    id: Option<&str>,
    mut note: impl FnMut(String),
) {
    if object.deduplicate() {
        note(EQUAL_KEYS.to_owned());
    }
    if let Some(id) = id
        && object.text(spelling.id).as_deref() != Some(id)
    {
        note(match call.has_id() {
            true => format!("the id {} was replaced by {id:?}", quoted(call.id())),
            false => format!("the missing id became {id:?}"),
        });
        object.set(spelling.id, id);
    }
    let name = (spelling.legal_name)(call.name());
    let came = object.get(spelling.name).and_then(|raw| fields::string(raw.get()));
    if came.as_deref() != Some(&*name) {
        note(format!("the name {} was replaced by {name:?}", quoted(call.name())));
        object.set(spelling.name, &*name);
    }
    let arguments = object.get(spelling.arguments).map(RawValue::get);
    if !arguments.map_or(spelling.optional, |text| text.starts_with('{')) {
        let text = object_text(call);
        note(match text.as_str() {
            "{}" => "the arguments were replaced by {}".to_owned(),
            _ => "the arguments were spelled as an object".to_owned(),
        });
        object.set(spelling.arguments, &raw::literal(&text));
    }
}
