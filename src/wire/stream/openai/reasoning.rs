//! `reasoning_details`, as OpenRouter and others send it and want it back, and `thinking_blocks`, as
//! LiteLLM does: pieces of a text, then its signature, or encrypted reasoning.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::wire::fields;
use crate::wire::raw::{self, RawObject};
use crate::wire::stream::parts::{Kept, push_list, push_text};
use crate::wire::stream::push_json;

const THINKING: &str = "thinking";
const SIGNATURE: &str = "signature";

/// The details so far.
#[derive(Debug, Default)]
pub(super) struct Details(Vec<Detail>);

/// One detail. Its texts are put together; of anything else the last value that is not `null`
/// counts.
#[derive(Debug, Default)]
struct Detail {
    kind: String,
    /// As it is spelled in JSON.
    index: String,
    text: String,
    summary: String,
    thinking: String,
    kept: Kept,
}

impl Details {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds those of a chunk.
    pub(super) fn add(&mut self, details: &RawValue) {
        for detail in raw::array(details.get()) {
            if let Some(detail) = RawObject::read(detail.get()) {
                self.piece(&detail);
            }
        }
    }

    fn piece(&mut self, piece: &RawObject<'_>) {
        let kind = piece.text("type").unwrap_or_default();
        let index = piece.get("index").map_or("", RawValue::get);
        let is_text = matches!(&*kind, "reasoning.text" | "reasoning.summary" | THINKING);
        let goes_on = self.0.last().is_some_and(|last| {
            let is_signed = kind == THINKING && last.kept.has(SIGNATURE);
            is_text && last.kind == kind && last.index == index && !is_signed
        });
        if !goes_on {
            let index = index.to_owned();
            self.0.push(Detail { kind, index, ..Detail::default() });
        }
        if let Some(detail) = self.0.last_mut() {
            detail.add(piece);
        }
    }

    /// Adds them as a further member of an object.
    pub(super) fn write(&self, out: &mut String, key: &str) {
        if !self.0.is_empty() {
            out.push(',');
            push_json(out, key);
            out.push_str(":[");
            push_list(out, &self.0, |out, detail| detail.write(out));
            out.push(']');
        }
    }
}

impl Detail {
    fn add(&mut self, piece: &RawObject<'_>) {
        for (key, value) in piece.entries() {
            let text = || fields::string(value.get()).map_or_else(String::new, Cow::into_owned);
            match key {
                "type" | "index" => {}
                "text" => self.text.push_str(&text()),
                "summary" => self.summary.push_str(&text()),
                THINKING => self.thinking.push_str(&text()),
                _ if value.get() == "null" => {}
                SIGNATURE if text().is_empty() => {}
                _ => self.kept.keep(key, value),
            }
        }
    }

    fn write(&self, out: &mut String) {
        out.push_str("{\"type\":");
        push_json(out, &self.kind);
        push_text(out, "text", &self.text);
        push_text(out, "summary", &self.summary);
        // A block whose text the provider keeps to itself has an empty one.
        if self.kind == THINKING {
            out.push_str(",\"thinking\":");
            push_json(out, &self.thinking);
        }
        self.kept.write(out);
        if !self.index.is_empty() {
            out.push_str(",\"index\":");
            out.push_str(&self.index);
        }
        out.push('}');
    }
}
