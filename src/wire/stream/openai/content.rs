//! The content of a message, in pieces: strings, or lists of parts.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::wire::fields::{self, fields};
use crate::wire::raw::{self, RawObject};
use crate::wire::stream::parts::{push_list, push_text};
use crate::wire::stream::tell::Tell;
use crate::wire::stream::{Problem, push_json};

/// The content so far.
#[derive(Debug, Default)]
pub(super) struct Content {
    text: Option<String>,
    /// Once a list came; it begins with the text that came before.
    parts: Option<Vec<Part>>,
    says_something: bool,
}

/// A part; pieces of the same kind that follow each other are one.
#[derive(Debug)]
enum Part {
    Text(String),
    /// Mistral's thinking, which is a list of texts.
    Thinking(String),
    /// Databricks' thinking of Claude, up to its signature.
    Reasoning {
        text: String,
        signature: String,
    },
    Other(Box<RawValue>),
}

fields! {
    struct Piece<'a> {
        kind "type": Cow<'a, str>,
        text: Cow<'a, str>,
        refusal: Cow<'a, str>,
        thinking: Vec<Option<Thought<'a>>>,
        summary: Vec<Option<&'a RawValue>>,
    }

    struct Summary<'a> {
        kind "type": Cow<'a, str>,
        text: Cow<'a, str>,
        signature: Cow<'a, str>,
    }

    struct Thought<'a> {
        text: Cow<'a, str>,
    }
}

impl Content {
    pub(super) fn says_something(&self) -> bool {
        self.says_something
    }

    /// Adds the `content` of a chunk, and tells the text in it.
    pub(super) fn add(&mut self, content: &RawValue, tell: &mut Tell<'_>) -> Result<(), Problem> {
        if let Some(text) = fields::string(content.get()) {
            self.tell(&text, tell);
            match &mut self.parts {
                None => self.text.get_or_insert_default().push_str(&text),
                Some(_) if text.is_empty() => {}
                Some(parts) => add_text(parts, &text),
            }
            return Ok(());
        }
        if !content.get().starts_with('[') {
            let why = "the content of a delta is neither a text nor a list";
            return Err(Problem::unreadable(why));
        }
        for part in raw::array(content.get()) {
            let Some(piece) = fields::part::<Piece<'_>>(part) else { continue };
            let said = piece.text.as_deref().or(piece.refusal.as_deref()).unwrap_or_default();
            self.tell(said, tell);
            let parts = self.parts();
            let members = RawObject::read(part.get()).map_or(0, |part| part.len());
            match (piece.kind.as_deref(), &piece.text, &piece.thinking) {
                (Some("text"), Some(text), _) if members == 2 => add_text(parts, text),
                (Some("thinking"), None, Some(thoughts)) if members == 2 => {
                    let texts = thoughts.iter().flatten().filter_map(|each| each.text.as_deref());
                    add_thinking(parts, texts);
                }
                (Some("reasoning"), None, None)
                    if members == 2
                        && let Some(summary) = piece.reasoning() =>
                {
                    add_reasoning(parts, &summary);
                }
                _ => parts.push(Part::Other(part.to_owned())),
            }
        }
        Ok(())
    }

    fn tell(&mut self, text: &str, tell: &mut Tell<'_>) {
        tell.text(text);
        self.says_something |= !text.is_empty();
    }

    fn parts(&mut self) -> &mut Vec<Part> {
        self.parts.get_or_insert_with(|| {
            let text = self.text.take().filter(|text| !text.is_empty());
            text.map(Part::Text).into_iter().collect()
        })
    }

    /// Adds the content; where there is none, an empty text if the message says nothing at all.
    pub(super) fn write(&self, out: &mut String, is_silent: bool) {
        match (&self.parts, &self.text) {
            (Some(parts), _) => {
                out.push('[');
                push_list(out, parts, |out, part| part.write(out));
                out.push(']');
            }
            (None, Some(text)) => push_json(out, text),
            (None, None) => out.push_str(if is_silent { "\"\"" } else { "null" }),
        }
    }
}

impl<'a> Piece<'a> {
    /// The one text that it is, if it is reasoning of one.
    fn reasoning(&self) -> Option<Summary<'a>> {
        let [Some(only)] = self.summary.as_deref()? else { return None };
        let is_known = |(key, _)| matches!(key, "type" | "text" | "signature");
        let holds_no_more = RawObject::read(only.get())?.entries().all(is_known);
        let summary: Summary<'_> = fields::part(only)?;
        (holds_no_more && summary.kind.as_deref() == Some("summary_text")).then_some(summary)
    }
}

impl Part {
    fn write(&self, out: &mut String) {
        match self {
            Self::Text(text) => write_text(out, text),
            Self::Thinking(text) => {
                out.push_str("{\"type\":\"thinking\",\"thinking\":[");
                write_text(out, text);
                out.push_str("]}");
            }
            Self::Reasoning { text, signature } => {
                out.push_str(
                    "{\"type\":\"reasoning\",\"summary\":[{\"type\":\"summary_text\",\"text\":",
                );
                push_json(out, text);
                push_text(out, "signature", signature);
                out.push_str("}]}");
            }
            Self::Other(part) => out.push_str(part.get()),
        }
    }
}

fn write_text(out: &mut String, text: &str) {
    out.push_str("{\"type\":\"text\",\"text\":");
    push_json(out, text);
    out.push('}');
}

fn add_text(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        Some(Part::Text(all)) => all.push_str(text),
        _ => parts.push(Part::Text(text.to_owned())),
    }
}

fn add_thinking<'a>(parts: &mut Vec<Part>, texts: impl Iterator<Item = &'a str>) {
    match parts.last_mut() {
        Some(Part::Thinking(all)) => all.extend(texts),
        _ => parts.push(Part::Thinking(texts.collect())),
    }
}

fn add_reasoning(parts: &mut Vec<Part>, piece: &Summary<'_>) {
    if !matches!(parts.last(), Some(Part::Reasoning { signature, .. }) if signature.is_empty()) {
        parts.push(Part::Reasoning { text: String::new(), signature: String::new() });
    }
    if let Some(Part::Reasoning { text, signature }) = parts.last_mut() {
        text.push_str(piece.text.as_deref().unwrap_or_default());
        signature.push_str(piece.signature.as_deref().unwrap_or_default());
    }
}
