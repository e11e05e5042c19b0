//! A call, put together from its pieces. Which pieces are its own, the stream decides.

use std::borrow::Cow;

use serde::de::MapAccess;
use serde_json::value::RawValue;

use crate::wire::call_element;
use crate::wire::fields::{self, Fields, fields};
use crate::wire::stream::openai::arguments::{self, Arguments};
use crate::wire::stream::parts::{self, Kept};
use crate::wire::stream::push_json;

fields! {
    struct CustomPiece<'a> {
        name: Cow<'a, str>,
        input: Cow<'a, str>,
    }
}

/// A piece of a call.
#[derive(Debug, Default)]
pub(super) struct Piece<'a> {
    pub(super) index: Option<u64>,
    pub(super) id: Option<Cow<'a, str>>,
    kind: Option<Cow<'a, str>>,
    function: Option<FunctionPiece<'a>>,
    custom: Option<CustomPiece<'a>>,
    others: Vec<(String, &'a RawValue)>,
}

impl<'a> Fields<'a> for Piece<'a> {
    fn field<A: MapAccess<'a>>(&mut self, key: &[u8], map: &mut A) -> Result<bool, A::Error> {
        match key {
            b"index" => self.index = fields::value(map)?,
            b"id" => self.id = fields::value(map)?,
            b"function" => self.function = fields::value(map)?,
            b"custom" => self.custom = fields::value(map)?,
            b"type" => self.kind = fields::value(map)?,
            _ => parts::other(key, map, &mut self.others)?,
        }
        Ok(true)
    }
}

/// A piece of a call's function.
#[derive(Debug, Default)]
pub(super) struct FunctionPiece<'a> {
    name: Option<Cow<'a, str>>,
    arguments: Option<&'a RawValue>,
    others: Vec<(String, &'a RawValue)>,
}

impl<'a> Fields<'a> for FunctionPiece<'a> {
    fn field<A: MapAccess<'a>>(&mut self, key: &[u8], map: &mut A) -> Result<bool, A::Error> {
        match key {
            b"name" => self.name = fields::value(map)?,
            b"arguments" => self.arguments = fields::value(map)?,
            _ => parts::other(key, map, &mut self.others)?,
        }
        Ok(true)
    }
}

impl Piece<'_> {
    pub(super) fn name(&self) -> Option<&str> {
        let custom = self.custom.as_ref().and_then(|custom| custom.name.as_deref());
        let custom = custom.filter(|name| !name.is_empty());
        custom.or_else(|| self.function.as_ref()?.name.as_deref())
    }

    fn arguments(&self) -> Cow<'_, str> {
        call_element::arguments(self.function.as_ref().and_then(|function| function.arguments))
    }

    pub(super) fn has_arguments(&self) -> bool {
        !self.arguments().trim_ascii().is_empty()
    }

    pub(super) fn begins_an_object(&self) -> bool {
        self.arguments().trim_ascii_start().starts_with('{')
    }
}

/// A call so far.
#[derive(Debug, Default)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) name: String,
    /// Of a custom tool: its input.
    pub(super) arguments: Arguments,
    is_function: bool,
    is_custom: bool,
    kept: Kept,
    function_kept: Kept,
    pieces: usize,
    /// Whether a piece came that named it under another id.
    is_renewed: bool,
    /// How many bytes of arguments there were when they were last looked at.
    pub(super) examined: usize,
}

impl Call {
    pub(super) fn add(&mut self, piece: Piece<'_>) {
        self.pieces += 1;
        let id = piece.id.as_deref().unwrap_or_default();
        let has_name = piece.name().is_some_and(|name| !name.is_empty());
        self.is_renewed |= has_name && !self.id.is_empty() && self.has_other_id(id);
        if self.id.is_empty() {
            self.id.push_str(id);
        }
        for (key, value) in piece.others {
            self.kept.keep(&key, value);
        }
        self.is_function |= piece.kind.as_deref() == Some("function");
        let custom = piece.custom.filter(|custom| {
            self.is_custom || custom.name.as_deref().is_some_and(|name| !name.is_empty())
        });
        if let Some(custom) = custom {
            self.is_custom = true;
            self.add_name(custom.name);
            self.arguments.push(custom.input.as_deref().unwrap_or_default());
        } else if let Some(function) = piece.function.filter(|_| !self.is_custom) {
            self.add_function(function);
        }
    }

    pub(super) fn add_function(&mut self, function: FunctionPiece<'_>) {
        self.is_function = true;
        self.add_name(function.name);
        for (key, value) in function.others {
            self.function_kept.keep(&key, value);
        }
        self.arguments.add(&call_element::arguments(function.arguments));
    }

    /// Takes a piece of the name: servers that say it again in every piece say all of it, those
    /// that cut it do so before the arguments.
    fn add_name(&mut self, name: Option<Cow<'_, str>>) {
        let name = name.as_deref().unwrap_or_default();
        if self.name.is_empty() || (self.is_other(name) && self.arguments.text().is_empty()) {
            self.name.push_str(name);
        }
    }

    /// Whether a name is neither none nor the call's own.
    pub(super) fn is_other(&self, name: &str) -> bool {
        !name.is_empty() && !self.name.is_empty() && name != self.name
    }

    pub(super) fn has_other_id(&self, id: &str) -> bool {
        !id.is_empty() && self.id != id
    }

    /// Whether a piece with a name and another id is more of it.
    pub(super) fn goes_on_with(&self, piece: &Piece<'_>) -> bool {
        piece.name() == Some(&self.name)
            && (self.is_renewed
                || match self.arguments.text().trim_ascii().is_empty() {
                    true => piece.has_arguments() && arguments::may_go_on(&piece.arguments()),
                    false => arguments::may_go_on(self.arguments.text()),
                })
    }

    /// Whether its first piece was all of it.
    pub(super) fn came_whole(&self) -> bool {
        self.pieces == 1 && self.is_whole()
    }

    /// Whether what came may be all of it.
    pub(super) fn may_be_all(&self) -> bool {
        match self.is_custom {
            true => !self.arguments.text().trim_ascii().is_empty(),
            false => self.is_whole(),
        }
    }

    /// Whether nothing can be missing of its arguments.
    pub(super) fn is_whole(&self) -> bool {
        !self.is_custom && self.arguments.are_whole()
    }

    pub(super) fn write(&self, out: &mut String) {
        out.push('{');
        if !self.id.is_empty() {
            out.push_str("\"id\":");
            push_json(out, &self.id);
            out.push(',');
        }
        if self.is_custom {
            out.push_str("\"type\":\"custom\",\"custom\":{\"name\":");
            push_json(out, &self.name);
            out.push_str(",\"input\":");
            push_json(out, self.arguments.text());
            out.push('}');
        } else if self.is_function {
            out.push_str("\"type\":\"function\",\"function\":");
            self.write_function(out);
        } else {
            out.push_str("\"type\":null");
        }
        self.kept.write(out);
        out.push('}');
    }

    pub(super) fn write_function(&self, out: &mut String) {
        out.push_str("{\"name\":");
        push_json(out, &self.name);
        out.push_str(",\"arguments\":");
        push_json(out, self.arguments.meant());
        self.function_kept.write(out);
        out.push('}');
    }
}
