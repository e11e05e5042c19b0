//! Bedrock Converse: blocks of content, which may begin without saying so.
//!
//! A call is whole where its block ends.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::wire::bedrock;
use crate::wire::call_element::arguments;
use crate::wire::fields::{self, fields};
use crate::wire::raw::{self, RawObject};
use crate::wire::stream::parts::{self, push_list};
use crate::wire::stream::tell::Tell;
use crate::wire::stream::{Format, Problem, is_done, push_string, to_json};

fields! {
    struct Event<'a> {
        role: Cow<'a, str>,
        index "contentBlockIndex": u64,
        start: Start<'a>,
        delta: Delta<'a>,
        stop_reason "stopReason": Cow<'a, str>,
        usage: &'a RawValue,
    }

    struct Start<'a> {
        tool_use "toolUse": &'a RawValue,
        tool_result "toolResult": &'a RawValue,
    }

    struct Kind<'a> {
        kind "type": Cow<'a, str>,
    }

    struct Delta<'a> {
        text: &'a RawValue,
        tool_use "toolUse": Input<'a>,
        reasoning "reasoningContent": Reasoning<'a>,
        tool_result "toolResult": &'a RawValue,
        citation: &'a RawValue,
    }

    struct Input<'a> {
        input: &'a RawValue,
    }

    struct Reasoning<'a> {
        text: Cow<'a, str>,
        signature: Cow<'a, str>,
        redacted "redactedContent": Cow<'a, str>,
    }
}

/// The message so far.
#[derive(Debug, Default)]
pub(super) struct Stream {
    role: Option<String>,
    blocks: Vec<Block>,
    /// Where the block of an index is.
    places: BTreeMap<u64, usize>,
    /// The index that was asked for last, and where its block is.
    last: Option<(u64, usize)>,
    /// How many of the blocks are calls.
    calls: usize,
    stop_reason: Option<String>,
    usage: Option<Box<RawValue>>,
}

#[derive(Debug)]
enum Block {
    Open(Box<Open>),
    /// Its JSON text.
    Done(String),
}

/// What came of a block. Which kind it is, its pieces tell.
#[derive(Debug, Default)]
struct Open {
    /// Which call it is, if it is one.
    call: Option<usize>,
    tool_use: Option<Box<RawValue>>,
    input: String,
    tool_result: Option<Box<RawValue>>,
    results: Vec<Box<RawValue>>,
    text: String,
    citations: Vec<Box<RawValue>>,
    is_reasoning: bool,
    reasoning: String,
    signature: Option<String>,
    redacted: String,
    /// What the pieces before held, decoded.
    redacted_bytes: Vec<u8>,
}

impl Format for Stream {
    fn event(&mut self, name: &str, data: &str, tell: &mut Tell<'_>) -> Result<(), Problem> {
        // Without the frames' headers, the name is the key that holds the event.
        if name.is_empty() {
            return self.named(data, tell);
        }
        if name.ends_with("Exception") {
            return Err(Problem::exception(name, data));
        }
        let mut event = None;
        fields::parse_into(data, &mut event).map_err(|error| Problem::event(&error, data))?;
        let Some(event): &mut Option<Event<'_>> = &mut event else { return Ok(()) };
        match name {
            "messageStart" => self.role = event.role.take().map(Cow::into_owned),
            "contentBlockStart" => {
                self.start(event.index, event.start.take().unwrap_or_default(), tell)?;
            }
            "contentBlockDelta" => {
                self.delta(event.index, event.delta.get_or_insert_default(), tell)?;
            }
            "contentBlockStop" => self.stop(event.index, tell),
            "messageStop" => {
                self.stop_reason = Some(event.stop_reason.take().unwrap_or_default().into_owned());
            }
            // One of measurements alone counts nothing.
            "metadata" => self.usage = event.usage.map(ToOwned::to_owned).or(self.usage.take()),
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, _tell: &mut Tell<'_>) -> Result<String, Problem> {
        let Some(stop_reason) = &self.stop_reason else { return Err(Problem::cut()) };
        let blocks = std::mem::take(&mut self.blocks).into_iter().filter_map(|block| match block {
            Block::Open(open) => open.whole(),
            Block::Done(whole) => Some(whole),
        });
        let blocks: Vec<String> = blocks.collect();
        let mut body = String::with_capacity(256 + blocks.iter().map(String::len).sum::<usize>());
        body.push_str(r#"{"output":{"message":{"role":"#);
        push_string(&mut body, self.role.as_deref().unwrap_or("assistant"));
        body.push_str(r#","content":["#);
        push_list(&mut body, &blocks, |body, block| body.push_str(block));
        body.push_str(r#"]}},"stopReason":"#);
        push_string(&mut body, stop_reason);
        body.push_str(r#","usage":"#);
        body.push_str(self.usage.as_deref().map_or("null", RawValue::get));
        body.push('}');
        Ok(body)
    }
}

impl Stream {
    fn named(&mut self, data: &str, tell: &mut Tell<'_>) -> Result<(), Problem> {
        if is_done(data) {
            return Ok(());
        }
        let event = serde_json::from_str::<&RawValue>(data);
        let event = event.map_err(|error| Problem::event(&error, data))?;
        let Some(event) = RawObject::read(event.get()) else { return Ok(()) };
        for (name, data) in event.entries() {
            match name {
                // A message that is no text begins a stream of another format.
                "error" | "message" if name == "error" || data.get().starts_with('"') => {
                    return Err(Problem::of_the_provider(&to_json(&event)));
                }
                "" => {}
                name => self.event(name, data.get(), tell)?,
            }
        }
        Ok(())
    }

    /// The block of an index, begun if it wasn't, and `anew` where that one has ended or others were
    /// begun since: calls are counted in the order of their blocks. Where there are no indexes, what
    /// follows the end of a block is another one.
    fn open(&mut self, index: Option<u64>, anew: bool) -> Result<&mut Open, Problem> {
        let anew = anew || index.is_none();
        let index = index.unwrap_or_default();
        let at = match self.last {
            Some((last, at)) if last == index => Some(at),
            _ => self.places.get(&index).copied(),
        };
        let at = match at {
            Some(at) if !anew || self.is_open_and_last(at) => at,
            _ => {
                self.blocks.push(Block::Open(Box::default()));
                self.places.insert(index, self.blocks.len() - 1);
                self.blocks.len() - 1
            }
        };
        self.last = Some((index, at));
        match &mut self.blocks[at] {
            Block::Open(open) => Ok(open),
            Block::Done(_) => Err(Problem::unreadable("a block went on after its end")),
        }
    }

    /// Whether the start is that of the last block, of which nothing else came yet.
    fn is_said_again(&self, index: Option<u64>, start: &Start<'_>) -> bool {
        let same = |had: &Option<Box<RawValue>>, came: Option<&RawValue>| {
            had.as_deref().map(RawValue::get) == came.map(RawValue::get)
        };
        let at = self.places.get(&index.unwrap_or_default());
        match at.filter(|at| self.is_open_and_last(**at)).map(|at| &self.blocks[*at]) {
            Some(Block::Open(open)) => {
                same(&open.tool_use, start.tool_use)
                    && same(&open.tool_result, start.tool_result)
                    && open.input.is_empty()
                    && open.results.is_empty()
            }
            _ => false,
        }
    }

    fn is_open_and_last(&self, at: usize) -> bool {
        at + 1 == self.blocks.len() && matches!(self.blocks[at], Block::Open(_))
    }

    fn start(
        &mut self,
        index: Option<u64>,
        start: Start<'_>,
        tell: &mut Tell<'_>,
    ) -> Result<(), Problem> {
        if self.is_said_again(index, &start) {
            return Ok(());
        }
        // What begins where a block is open ends it.
        self.stop(index, tell);
        let calls = self.calls;
        let block = self.open(index, true)?;
        let kind = start.tool_use.and_then(fields::part::<Kind<'_>>).and_then(|start| start.kind);
        let is_call = start.tool_use.is_some() && kind.as_deref() != Some("server_tool_use");
        block.call = is_call.then_some(calls);
        block.tool_use = start.tool_use.map(ToOwned::to_owned);
        block.tool_result = start.tool_result.map(ToOwned::to_owned);
        if start.tool_use.is_some() || start.tool_result.is_some() {
            tell.apart();
        }
        block.check()?;
        self.calls += usize::from(is_call);
        Ok(())
    }

    fn delta(
        &mut self,
        index: Option<u64>,
        delta: &mut Delta<'_>,
        tell: &mut Tell<'_>,
    ) -> Result<(), Problem> {
        let block = self.open(index, false)?;
        let text = parts::text(delta.text, "the text of a delta")?;
        tell.text(&text);
        block.text.push_str(&text);
        block.citations.extend(delta.citation.map(ToOwned::to_owned));
        let input = delta.tool_use.as_ref().and_then(|piece| piece.input);
        block.input.push_str(&arguments(input));
        if let Some(reasoning) = delta.reasoning.take() {
            tell.apart();
            block.is_reasoning = true;
            block.reasoning.push_str(&reasoning.text.unwrap_or_default());
            block.add_redacted(&reasoning.redacted.unwrap_or_default());
            if let Some(signature) = reasoning.signature.filter(|signature| !signature.is_empty()) {
                block.signature = Some(signature.into_owned());
            }
        }
        if let Some(results) = delta.tool_result {
            let results = raw::array(results.get()).into_iter();
            block.results.extend(results.map(ToOwned::to_owned));
        }
        block.check()
    }

    fn stop(&mut self, index: Option<u64>, tell: &mut Tell<'_>) {
        let place = self.places.get(&index.unwrap_or_default());
        let Some(block) = place.and_then(|at| self.blocks.get_mut(*at)) else { return };
        let Block::Open(open) = block else { return };
        let Some(whole) = open.whole() else { return };
        // A call is told when all before it were; the others come at the end.
        if let Some(element) = open.call
            && tell.calls() == element
            && let Some(call) = bedrock::call_of(&whole, element)
        {
            tell.call(&call);
        }
        *block = Block::Done(whole);
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Whole<'a> {
    ToolUse(RawObject<'a>),
    ToolResult(RawObject<'a>),
    ReasoningContent(Reasoned<'a>),
    CitationsContent { content: [Piece<'a>; 1], citations: &'a [Box<RawValue>] },
}

#[derive(Serialize)]
struct Piece<'a> {
    text: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Reasoned<'a> {
    ReasoningText {
        text: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        signature: Option<&'a str>,
    },
    RedactedContent(Cow<'a, str>),
}

impl Open {
    /// Takes more closed reasoning, whose pieces may be padded each by itself.
    fn add_redacted(&mut self, piece: &str) {
        if self.redacted.ends_with('=')
            && let Ok(bytes) = STANDARD.decode(&self.redacted)
        {
            self.redacted_bytes.extend(bytes);
            self.redacted.clear();
        }
        self.redacted.push_str(piece);
    }

    /// All of the closed reasoning, empty where there is none.
    fn redacted(&self) -> Cow<'_, str> {
        if self.redacted_bytes.is_empty() {
            return (&*self.redacted).into();
        }
        match STANDARD.decode(&self.redacted) {
            Ok(last) => STANDARD.encode([&*self.redacted_bytes, &last].concat()).into(),
            Err(_) => (STANDARD.encode(&self.redacted_bytes) + &self.redacted).into(),
        }
    }

    /// A block whose pieces don't fit together would lose some of them.
    fn check(&self) -> Result<(), Problem> {
        let kinds = [
            self.tool_use.is_some(),
            self.tool_result.is_some(),
            self.is_reasoning,
            !self.text.is_empty() || !self.citations.is_empty(),
        ];
        let lost = (self.tool_use.is_none() && !self.input.is_empty())
            || (self.tool_result.is_none() && !self.results.is_empty());
        match lost || kinds.into_iter().filter(|is_there| *is_there).count() > 1 {
            true => Err(Problem::unreadable("the pieces of a block don't fit together")),
            false => Ok(()),
        }
    }

    /// The block as it stands in a whole message; nothing if nothing came of it.
    fn whole(&self) -> Option<String> {
        let whole = if let Some(start) = &self.tool_use {
            let Some(mut call) = RawObject::read(start.get()) else {
                return Some(format!(r#"{{"toolUse":{start}}}"#));
            };
            match serde_json::from_str::<&RawValue>(&self.input) {
                Ok(input) => call.put_raw("input", input),
                Err(_) if !self.input.trim_ascii().is_empty() => call.set("input", &self.input),
                Err(_) if call.get("input").is_none() => call.set("input", &RawObject::default()),
                Err(_) => {}
            }
            Whole::ToolUse(call)
        } else if let Some(start) = &self.tool_result {
            let Some(mut result) = RawObject::read(start.get()) else {
                return Some(format!(r#"{{"toolResult":{start}}}"#));
            };
            result.set("content", &self.results);
            Whole::ToolResult(result)
        } else if let redacted = self.redacted()
            && !redacted.is_empty()
        {
            Whole::ReasoningContent(Reasoned::RedactedContent(redacted))
        } else if self.is_reasoning {
            let (text, signature) = (&*self.reasoning, self.signature.as_deref());
            Whole::ReasoningContent(Reasoned::ReasoningText { text, signature })
        } else if !self.citations.is_empty() {
            let content = [Piece { text: &self.text }];
            Whole::CitationsContent { content, citations: &self.citations }
        } else if !self.text.is_empty() {
            let mut whole = String::from(r#"{"text":"#);
            push_string(&mut whole, &self.text);
            whole.push('}');
            return Some(whole);
        } else {
            return None;
        };
        Some(to_json(&whole))
    }
}
