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

/// The blocks so far. The calls come last: nothing may follow them.
#[derive(Default)]
pub(super) struct Echo {
    others: Vec<Json>,
    calls: Vec<Json>,
    repairs: Vec<Repair>,
}

impl Echo {
    /// Adds a block that is no call; `at` is its place in the message as it came.
    pub(super) fn keep(&mut self, at: usize, block: Json) {
        if !self.calls.is_empty() {
            self.note(None, format!("content[{at}] was put before the calls"));
        }
        self.others.push(block);
    }

    /// Passes over a block, and says why.
    pub(super) fn leave_out(&mut self, at: usize, why: &str) {
        self.note(None, format!("content[{at}] was left out: {why}"));
    }

    /// Adds the block of a call that waits for its result.
    pub(super) fn call(&mut self, block: Json) {
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

    /// Whether all blocks are as they came.
    pub(super) fn is_unchanged(&self) -> bool {
        self.repairs.is_empty()
    }

    /// The blocks, and what was repaired.
    pub(super) fn finish(mut self) -> (Vec<Json>, Vec<Repair>) {
        self.others.append(&mut self.calls);
        (self.others, self.repairs)
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
