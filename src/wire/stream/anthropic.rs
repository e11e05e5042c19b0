//! Anthropic Messages: a message of blocks, each begun, continued by deltas and ended.
//!
//! A call is whole where its block ends. Calls that code in the provider's sandbox made are told
//! at the end: only the whole message shows whether they were answered already.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::wire::anthropic;
use crate::wire::call_element::arguments;
use crate::wire::fields::{self, fields};
use crate::wire::raw::{self, RawObject};
use crate::wire::stream::parts::{self, push_list};
use crate::wire::stream::tell::Tell;
use crate::wire::stream::{Format, Problem, is_done, push_json, push_string};

fields! {
    struct Event<'a> {
        kind "type": Cow<'a, str>,
        index: u64,
        message: Start<'a>,
        content_block: &'a RawValue,
        delta: Delta<'a>,
        usage: Tokens<'a>,
        error: &'a RawValue,
    }

    struct Start<'a> {
        content: &'a RawValue,
        stop_reason: Cow<'a, str>,
        usage: Tokens<'a>,
        container: &'a RawValue,
    }

    struct Begun<'a> {
        kind "type": Cow<'a, str>,
        text: Cow<'a, str>,
        caller: Caller<'a>,
    }

    struct Caller<'a> {
        tool_id: Cow<'a, str>,
    }

    struct Delta<'a> {
        kind "type": Cow<'a, str>,
        text: &'a RawValue,
        partial_json: &'a RawValue,
        thinking: &'a RawValue,
        signature: &'a RawValue,
        citation: &'a RawValue,
        content: &'a RawValue,
        encrypted_content: &'a RawValue,
        stop_reason: Cow<'a, str>,
        container: &'a RawValue,
    }

    struct Tokens<'a> {
        input_tokens: u64,
        cache_creation_input_tokens: u64,
        cache_read_input_tokens: u64,
        output_tokens: u64,
        output_tokens_details: &'a RawValue,
    }
}

/// The message so far.
#[derive(Debug, Default)]
pub(super) struct Stream {
    begun: bool,
    blocks: Vec<Block>,
    /// Where the block of an index is, unless it is in that very place.
    places: HashMap<u64, usize>,
    /// The index that began last, and where its block is.
    last: Option<(u64, usize)>,
    /// How many of the blocks are calls.
    calls: usize,
    stop_reason: Option<String>,
    stopped: bool,
    usage: Usage,
    container: Option<Box<RawValue>>,
}

#[derive(Debug, Default, Serialize)]
struct Usage {
    #[serde(skip_serializing_if = "Option::is_none")]
    input_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_creation_input_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_read_input_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_tokens_details: Option<Box<RawValue>>,
}

#[derive(Debug)]
enum Block {
    Open(Open),
    /// Its JSON text.
    Done(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
    Call,
    Other,
}

#[derive(Debug)]
struct Open {
    start: Box<RawValue>,
    kind: Kind,
    /// Which call it is, if it is one.
    call: Option<usize>,
    /// Called by code in the provider's sandbox.
    from_code: bool,
    /// What the deltas added, by the key of the block.
    added: Vec<(&'static str, String)>,
    citations: Vec<Box<RawValue>>,
}

impl Format for Stream {
    fn event(&mut self, name: &str, data: &str, tell: &mut Tell<'_>) -> Result<(), Problem> {
        if is_done(data) {
            return Ok(());
        }
        let mut event = None;
        fields::parse_into(data, &mut event).map_err(|error| Problem::event(&error, data))?;
        let Some(event): &mut Option<Event<'_>> = &mut event else { return Ok(()) };
        if name == "error" {
            return Err(Problem::of_the_provider(data));
        }
        match event.kind.as_deref().unwrap_or(name) {
            "message_start" => {
                if self.begun {
                    *self = Self::default();
                    tell.restart();
                }
                self.begin(event.message.take().unwrap_or_default(), tell)?;
            }
            "content_block_start" => {
                if let Some(start) = event.content_block {
                    self.start(event.index, start, tell);
                }
            }
            "content_block_delta" => {
                self.delta(event.index, event.delta.get_or_insert_default(), tell)?;
            }
            "content_block_stop" => self.stop(event.index, tell),
            "message_delta" => {
                let delta = event.delta.take().unwrap_or_default();
                let stop = delta.stop_reason.map(Cow::into_owned);
                self.stop_reason = stop.or(self.stop_reason.take());
                self.container = delta.container.map(ToOwned::to_owned).or(self.container.take());
                self.usage.update(event.usage.take().unwrap_or_default());
            }
            "message_stop" => self.stopped = true,
            "error" => return Err(Problem::of_the_provider(data)),
            _ if event.error.is_some() => return Err(Problem::of_the_provider(data)),
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, _tell: &mut Tell<'_>) -> Result<String, Problem> {
        if self.stop_reason.is_none() && !self.stopped {
            return Err(Problem::cut());
        }
        let mut body = String::from(r#"{"content":["#);
        push_list(&mut body, &self.blocks, |body, block| match block {
            Block::Open(open) => body.push_str(&open.whole()),
            Block::Done(whole) => body.push_str(whole),
        });
        body.push_str(r#"],"stop_reason":"#);
        push_json(&mut body, &self.stop_reason);
        body.push_str(r#","usage":"#);
        push_json(&mut body, &self.usage);
        if let Some(container) = &self.container {
            body.push_str(r#","container":"#);
            body.push_str(container.get());
        }
        body.push('}');
        Ok(body)
    }
}

impl Stream {
    fn begin(&mut self, message: Start<'_>, tell: &mut Tell<'_>) -> Result<(), Problem> {
        self.begun = true;
        self.stop_reason = message.stop_reason.map(Cow::into_owned);
        self.usage.update(message.usage.unwrap_or_default());
        self.container = message.container.map(ToOwned::to_owned);
        // An empty text holds no blocks.
        let content = message.content.filter(|content| content.get() != "\"\"");
        let blocks = content.map(fields::list::<&RawValue>).unwrap_or_default();
        parts::check_list(&blocks, "the content of a message")?;
        for block in blocks.into_iter().flatten() {
            self.start(None, block, tell);
        }
        Ok(())
    }

    fn start(&mut self, index: Option<u64>, start: &RawValue, tell: &mut Tell<'_>) {
        self.begun = true;
        let begun: Begun<'_> = fields::part(start).unwrap_or_default();
        let kind = match begun.kind.as_deref() {
            Some("text") => Kind::Text,
            Some("thinking") => Kind::Thinking,
            Some("tool_use") => Kind::Call,
            _ => Kind::Other,
        };
        match kind {
            Kind::Text => tell.text(begun.text.as_deref().unwrap_or_default()),
            _ => tell.apart(),
        }
        if let Some(index) = index {
            if index != self.blocks.len() as u64 {
                self.places.insert(index, self.blocks.len());
            } else if !self.places.is_empty() {
                self.places.remove(&index);
            }
            self.last = Some((index, self.blocks.len()));
        }
        let call = (kind == Kind::Call).then_some(self.calls);
        self.calls += usize::from(call.is_some());
        self.blocks.push(Block::Open(Open {
            start: start.to_owned(),
            kind,
            call,
            from_code: begun.caller.is_some_and(|caller| caller.tool_id.is_some()),
            added: Vec::new(),
            citations: Vec::new(),
        }));
    }

    /// Where the block of an index is; as a rule it is the last, and that is meant where there is
    /// no index.
    fn place(&self, index: Option<u64>) -> Option<usize> {
        match (index, self.last) {
            (None, _) => self.blocks.len().checked_sub(1),
            (Some(index), Some((last, at))) if index == last => Some(at),
            (Some(index), _) => self.places.get(&index).copied().or(usize::try_from(index).ok()),
        }
    }

    fn delta(
        &mut self,
        index: Option<u64>,
        delta: &Delta<'_>,
        tell: &mut Tell<'_>,
    ) -> Result<(), Problem> {
        let place = self.place(index);
        let Some(Block::Open(block)) = place.and_then(|at| self.blocks.get_mut(at)) else {
            return Err(Problem::unreadable("a delta is of no block that is open"));
        };
        match delta.kind.as_deref().unwrap_or_else(|| delta.kind_by_keys()) {
            "text_delta" => {
                let text = parts::text(delta.text, "the text of a delta")?;
                match block.kind {
                    Kind::Text => tell.text(&text),
                    Kind::Call | Kind::Thinking => {
                        self.stray(&text, tell);
                        return Ok(());
                    }
                    Kind::Other => {}
                }
                block.added("text").push_str(&text);
            }
            "input_json_delta" => {
                let input = arguments(delta.partial_json);
                if block.takes(&input, Kind::Call)? {
                    block.added("input").push_str(&input);
                }
            }
            "thinking_delta" => {
                let thinking = parts::text(delta.thinking, "the thinking of a delta")?;
                if block.takes(&thinking, Kind::Thinking)? {
                    block.added("thinking").push_str(&thinking);
                }
            }
            "signature_delta" => {
                let signature = parts::text(delta.signature, "the signature of a delta")?;
                *block.added("signature") = signature.into_owned();
            }
            "citations_delta" => block.citations.extend(delta.citation.map(ToOwned::to_owned)),
            "compaction_delta" => {
                let parts =
                    [("content", delta.content), ("encrypted_content", delta.encrypted_content)];
                // Where it failed both are null, and stay so.
                for (key, part) in parts.into_iter().filter(|(_, part)| part.is_some()) {
                    let part = parts::text(part, "the content of a delta")?;
                    block.added(key).push_str(&part);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Text that came for a block of another kind, as SGLang sends it: it gets one of its own.
    fn stray(&mut self, text: &str, tell: &mut Tell<'_>) {
        let is_text = |block: &Block| matches!(block, Block::Open(open) if open.kind == Kind::Text);
        if !self.blocks.last().is_some_and(is_text) {
            if text.trim().is_empty() {
                return;
            }
            if let Ok(start) = RawValue::from_string(r#"{"type":"text","text":""}"#.to_owned()) {
                self.start(None, &start, tell);
            }
        }
        tell.text(text);
        if let Some(Block::Open(open)) = self.blocks.last_mut() {
            open.added("text").push_str(text);
        }
    }

    fn stop(&mut self, index: Option<u64>, tell: &mut Tell<'_>) {
        let place = self.place(index);
        let Some(block) = place.and_then(|at| self.blocks.get_mut(at)) else { return };
        let Block::Open(open) = block else { return };
        let whole = open.whole();
        // A call is told when all before it were; the others come at the end.
        if let Some(element) = open.call
            && tell.calls() == element
            && !open.from_code
            && let Some(call) = anthropic::call_of(&whole, element)
        {
            tell.call(&call);
        }
        *block = Block::Done(whole);
    }
}

impl Delta<'_> {
    /// The kind of a delta that doesn't say it.
    fn kind_by_keys(&self) -> &'static str {
        let keys = [
            (self.text, "text_delta"),
            (self.partial_json, "input_json_delta"),
            (self.thinking, "thinking_delta"),
            (self.signature, "signature_delta"),
        ];
        keys.into_iter().find(|(value, _)| value.is_some()).map_or("", |(_, kind)| kind)
    }
}

impl Usage {
    /// Counts are of the whole message so far; one that isn't repeated still holds. Proxies that don't
    /// know what was read say at the end that it was nothing.
    fn update(&mut self, new: Tokens<'_>) {
        let update = |count: &mut Option<u64>, new: Option<u64>| {
            *count = new.filter(|new| *new > 0 || count.is_none()).or(*count);
        };
        update(&mut self.input_tokens, new.input_tokens);
        update(&mut self.cache_creation_input_tokens, new.cache_creation_input_tokens);
        update(&mut self.cache_read_input_tokens, new.cache_read_input_tokens);
        update(&mut self.output_tokens, new.output_tokens);
        if let Some(details) = new.output_tokens_details {
            self.output_tokens_details = Some(details.to_owned());
        }
    }
}

impl Open {
    /// Whether a piece is one for the block. In a block of another kind it would spoil that, and an
    /// empty one is nothing.
    fn takes(&self, piece: &str, kind: Kind) -> Result<bool, Problem> {
        match self.kind == kind || self.kind == Kind::Other {
            true => Ok(true),
            false if piece.is_empty() => Ok(false),
            false => Err(Problem::unreadable("the pieces of a block don't fit together")),
        }
    }

    fn added(&mut self, key: &'static str) -> &mut String {
        let at = self.added.iter().position(|(name, _)| *name == key).unwrap_or_else(|| {
            self.added.push((key, String::new()));
            self.added.len() - 1
        });
        &mut self.added[at].1
    }

    /// The block as it stands in a whole message.
    fn whole(&self) -> String {
        let Some(start) = RawObject::read(self.start.get()) else {
            return self.start.get().to_owned();
        };
        let mut block = String::with_capacity(self.start.get().len() + 64);
        block.push('{');
        // What was added stands where the start has its key, or at the end.
        for (key, value) in start.entries() {
            push_key(&mut block, key);
            if !self.push_added(&mut block, key, &start) {
                block.push_str(value.get());
            }
        }
        let added = self.added.iter().map(|(key, _)| *key).chain(["citations"]);
        for key in added.filter(|key| start.get(key).is_none()) {
            let length = block.len();
            push_key(&mut block, key);
            if !self.push_added(&mut block, key, &start) {
                block.truncate(length);
            }
        }
        block.push('}');
        block
    }

    /// Adds the value of a key that deltas added to; whether there is one.
    fn push_added(&self, block: &mut String, key: &str, start: &RawObject<'_>) -> bool {
        if key == "citations" && !self.citations.is_empty() {
            let given = start.get(key).map(|given| raw::array(given.get()));
            let mut all = given.unwrap_or_default();
            all.extend(self.citations.iter().map(|citation| &**citation));
            push_json(block, &all);
            return true;
        }
        let Some((_, added)) = self.added.iter().find(|(name, _)| *name == key) else {
            return false;
        };
        match (key, start.text(key)) {
            // Tools without arguments have one empty piece, and those whose input came with the
            // start have none.
            ("input", _) if added.trim_ascii().is_empty() => return false,
            ("input", _) => match serde_json::from_str::<&RawValue>(added) {
                Ok(input) => block.push_str(input.get()),
                Err(_) => push_string(block, added),
            },
            ("signature", _) | (_, None) => push_string(block, added),
            (_, Some(text)) => push_string(block, &(text + added)),
        }
        true
    }
}

fn push_key(block: &mut String, key: &str) {
    if block.len() > 1 {
        block.push(',');
    }
    push_string(block, key);
    block.push(':');
}
