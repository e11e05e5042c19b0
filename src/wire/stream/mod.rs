//! A response that is still being written: bytes in any split become the pieces of its text, each
//! call as soon as it is known to be whole, and at the end the [`Turn`] that the whole body would
//! have given.
//!
//! Two halves. `framing` cuts the bytes into events; the format's file puts the events together
//! into the message that a whole body would hold, and has the format's own parser read it. Nothing
//! is parsed twice but that message, once, at the end. No I/O here, no thread and no clock.

mod framing;
mod halves;
mod looks;
mod parts;
mod tell;

mod anthropic;
mod bedrock;
mod cohere;
mod gemini;
mod ollama;
mod openai;
mod openai_responses;

use std::fmt;

use crate::call::ToolCall;
use crate::error::{Broken, Error};
use crate::json;
use crate::turn::{Turn, Wire};
use crate::wire::failure::{self, providers_words};
use crate::wire::stream::framing::Framing;
use crate::wire::stream::halves::Halves;
use crate::wire::stream::looks::Looks;
use crate::wire::stream::tell::{Tell, Told};

/// Most bytes of one stream; what is kept of it is of the same order.
const STREAM_LIMIT: usize = 128 << 20;

/// What a stream tells while it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamEvent<'a> {
    /// A piece of what the model says. All pieces together are [`Turn::text`]; only where a server
    /// mixes the pieces of several blocks they come in another order than the blocks' own.
    Text(&'a str),
    /// A call that is whole, as it will stand in [`Turn::calls`]; each is told once, in that order.
    ///
    /// Whether it may run is known only at the end: a stop reason may still forbid it. That is
    /// what [`Batch::push`](crate::Batch::push) heeds.
    Call(&'a ToolCall),
    /// The message began anew, as proxies do when their connection fails: what was told before is
    /// not part of it. A [`Batch`](crate::Batch) that was begun with it is begun anew, too.
    Restarted,
}

/// Puts together one streamed response. Made by [`Wire::stream`].
///
/// The framing is found out from the first bytes: server-sent events, lines of JSON, an array of
/// JSON, Amazon's event stream. A server that sends a whole body although a stream was asked for
/// is understood, too. A character that the server cuts in two, as a surrogate pair over two
/// pieces of text, comes whole with the second.
///
/// ```
/// use toolpool::wire::StreamEvent;
/// use toolpool::{Executor, Tool, ToolSet, Wire};
///
/// let tools = ToolSet::new().with(Tool::new("look", "Looks", || Ok("seen")).read_only());
/// let executor = Executor::new(tools)?;
/// let mut batch = executor.begin();
/// let mut said = String::new();
/// let mut tell = |event: StreamEvent<'_>| match event {
///     StreamEvent::Text(piece) => said += piece,
///     StreamEvent::Call(call) => batch.push(call.clone()), // runs from now on
///     StreamEvent::Restarted => {
///         said.clear();
///         batch = executor.begin(); // the old one is cancelled
///     }
///     _ => {}
/// };
///
/// # let body = concat!(
/// #     "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"I look.\"}]}}]}\n\n",
/// #     "data: {\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"name\":\"look\"}}]},",
/// #     "\"finishReason\":\"STOP\"}]}\n\n",
/// # );
/// let mut stream = Wire::Gemini.stream();
/// for bytes in body.as_bytes().chunks(100) {
///     stream.feed(bytes, &mut tell)?; // as they are read from the connection
/// }
/// let turn = stream.finish(&mut tell)?;
/// let report = batch.finish(&turn);
/// assert_eq!(said, "I look.");
/// assert_eq!(report[0].content().to_text(), "seen");
/// # Ok::<(), toolpool::Error>(())
/// ```
pub struct Assembler {
    wire: Wire,
    framing: Framing,
    halves: Halves,
    looks: Looks,
    format: Box<dyn Format>,
    told: Told,
    fed: usize,
    broken: Option<Problem>,
}

impl Wire {
    /// Reads a response body as it arrives.
    pub fn stream(self) -> Assembler {
        let format: Box<dyn Format> = match self {
            Self::Anthropic => Box::<anthropic::Stream>::default(),
            Self::OpenAi => Box::<openai::Stream>::default(),
            Self::OpenAiResponses => Box::<openai_responses::Stream>::default(),
            Self::Gemini => Box::<gemini::Stream>::default(),
            Self::Bedrock => Box::<bedrock::Stream>::default(),
            Self::Cohere => Box::<cohere::Stream>::default(),
            Self::Ollama => Box::<ollama::Stream>::default(),
        };
        let framing = Framing::new(self);
        Assembler {
            wire: self,
            framing,
            halves: Halves::default(),
            looks: Looks::new(self),
            format,
            told: Told::default(),
            fed: 0,
            broken: None,
        }
    }
}

impl Assembler {
    /// Takes the next bytes, of any number and cut anywhere, and tells what they complete: `tell` is
    /// a `&mut` to a closure.
    ///
    /// # Errors
    /// A stream that isn't of this format, or that the provider ends with an error, which the text
    /// then quotes; also one of more than 128 MiB, or with one event of more than 32 MiB. Of an
    /// event that is no JSON at most 80 characters are shown. From then on every call gives that
    /// error, and no turn will come of it: nothing that was told may run any further.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        tell: &mut dyn FnMut(StreamEvent<'_>),
    ) -> Result<(), Error> {
        if let Some(problem) = &self.broken {
            return Err(problem.error(self.wire));
        }
        let mut tell = Tell::new(&mut self.told, tell);
        self.fed = self.fed.saturating_add(bytes.len());
        let done = match self.fed > STREAM_LIMIT {
            true => Err(Problem::unreadable("it is longer than 128 MiB")),
            false => {
                let (format, halves, looks) = (&mut self.format, &mut self.halves, &mut self.looks);
                let mut each = |name: &str, data: &str| {
                    looks.event(name, data);
                    format.event(name, data, &mut tell)
                };
                self.framing.feed(bytes, &mut |name, data| halves.event(name, data, &mut each))
            }
        };
        let done = done.map_err(|problem| self.looks.explain(problem, &tell));
        done.map_err(|problem| self.break_off(problem))
    }

    /// The stream is at its end. Gives the turn, and tells the calls that were not told before.
    ///
    /// # Errors
    /// As those of [`feed`](Self::feed); also a stream that ended before the message did, of which
    /// [`Error::is_cut`] is true. One that looks like another format isn't cut: the error says so.
    pub fn finish(mut self, tell: &mut dyn FnMut(StreamEvent<'_>)) -> Result<Turn, Error> {
        if let Some(problem) = &self.broken {
            return Err(problem.error(self.wire));
        }
        let mut tell = Tell::new(&mut self.told, tell);
        if let Some(body) = self.framing.whole() {
            let turn = self.wire.parse(body)?;
            tell.text(turn.text());
            tell.rest(&turn);
            return Ok(turn);
        }
        let (format, halves, looks) = (&mut self.format, &mut self.halves, &mut self.looks);
        let mut each = |name: &str, data: &str| {
            looks.event(name, data);
            format.event(name, data, &mut tell)
        };
        let body = self
            .framing
            .finish(&mut |name, data| halves.event(name, data, &mut each))
            .and_then(|()| halves.finish(&mut each))
            .map_err(|problem| if problem.unfinished { Problem::cut() } else { problem })
            .and_then(|()| self.format.end(&mut tell))
            .map_err(|problem| self.looks.explain(problem, &tell).error(self.wire))?;
        let turn = self.wire.parse(&body).map_err(|error| match self.looks.problem(&tell) {
            Some(problem) => problem.error(self.wire),
            None => error,
        })?;
        tell.rest(&turn);
        Ok(turn)
    }

    fn break_off(&mut self, problem: Problem) -> Error {
        let error = problem.error(self.wire);
        self.broken = Some(problem);
        error
    }
}

impl fmt::Debug for Assembler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Assembler");
        debug.field("wire", &self.wire).field("fed", &self.fed);
        debug.field("broken", &self.broken.is_some()).finish_non_exhaustive()
    }
}

/// Gives a stream's events while `each` wants more and they can be read.
pub(super) fn look_into(bytes: &[u8], each: &mut dyn FnMut(&str, &str) -> bool) {
    // The format matters only to bytes that are no frames.
    let mut framing = Framing::new(Wire::Bedrock);
    // How the look ends is all the same.
    let _ = framing.feed(bytes, &mut |name, data| match each(name, data) {
        true => Ok(()),
        false => Err(Problem::cut()),
    });
}

/// One format's events, put together.
trait Format: fmt::Debug + Send + Sync {
    /// Takes the next event. `name` is empty where the framing has none; `data` is never blank.
    fn event(&mut self, name: &str, data: &str, tell: &mut Tell<'_>) -> Result<(), Problem>;

    /// The stream is at its end: the body that the provider would have sent as a whole.
    /// Calls that weren't told yet need not be.
    fn end(&mut self, tell: &mut Tell<'_>) -> Result<String, Problem>;
}

/// Why a stream can't be read on: a sentence whose subject is the format.
#[derive(Debug)]
struct Problem {
    text: String,
    /// The text that goes behind, which is cut where it is shown.
    quoted: Option<String>,
    broken: Option<Broken>,
    /// More of the event might have followed.
    unfinished: bool,
}

/// What OpenAI ends its streams with, and servers that copy it those of other formats.
const DONE: &str = "[DONE]";

fn is_done(data: &str) -> bool {
    data.trim_ascii() == DONE
}

impl Problem {
    fn new(text: String) -> Self {
        Self { text, quoted: None, broken: None, unfinished: false }
    }

    fn unreadable(why: impl fmt::Display) -> Self {
        Self::new(format!("stream is not readable: {why}"))
    }

    /// Text that is none of the framings.
    fn no_events(text: &[u8]) -> Self {
        let quoted = Some(String::from_utf8_lossy(text).into_owned());
        Self { quoted, ..Self::unreadable("there is no event in it; it begins with: ") }
    }

    /// An event that is not JSON.
    fn event(error: &serde_json::Error, data: &str) -> Self {
        let why = failure::unreadable(error, data);
        let quoted = Some(data.trim_ascii().to_owned());
        // Neither takes every end for one that came too early: `tr` is one to serde, `1.` to ours.
        let unfinished = error.is_eof()
            || json::scan(data).is_err_and(|ours| ours.at == data.len())
            || DONE.starts_with(data.trim_ascii());
        Self { quoted, unfinished, ..Self::unreadable(format_args!("an event is no JSON: {why}")) }
    }

    /// An event that is not UTF-8.
    fn utf8(error: std::str::Utf8Error) -> Self {
        let unfinished = error.error_len().is_none();
        Self { unfinished, ..Self::unreadable(format_args!("an event is not UTF-8: {error}")) }
    }

    /// The stream ended, and the message didn't.
    fn cut() -> Self {
        let text = "stream ended before the message did".to_owned();
        Self { broken: Some(Broken::Cut), ..Self::new(text) }
    }

    /// Events of another format, as this one.
    fn of_another(other: Wire, event: &str) -> Self {
        let text =
            format!("stream is no message (this looks like {other}); an event begins with: ");
        Self { quoted: Some(event.to_owned()), ..Self::new(text) }
    }

    /// An error that the provider sent; `data` is the event.
    fn of_the_provider(data: &str) -> Self {
        Self::exception("", data)
    }

    /// An error that has its name beside it, if it is given one.
    fn exception(name: &str, data: &str) -> Self {
        let words = providers_words(data);
        let words = words.as_deref().unwrap_or(data);
        let (name, body) = (name.to_owned(), data.to_owned());
        let text = match name.as_str() {
            "" => format!("answered with an error: {words}"),
            name => format!("answered with an error: {name}: {words}"),
        };
        Self { broken: Some(Broken::Said { name, body }), ..Self::new(text) }
    }

    fn error(&self, wire: Wire) -> Error {
        let why = format!("{wire} {}", self.text);
        match &self.quoted {
            Some(quoted) => failure::quoting(why, quoted),
            None => Error::input(why).because(self.broken.clone()),
        }
    }
}

/// The JSON text of a value that can always be written.
fn to_json(value: &(impl serde::Serialize + ?Sized)) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

/// Adds a value's JSON text.
fn push_json(out: &mut String, value: &(impl serde::Serialize + ?Sized)) {
    out.push_str(&to_json(value));
}

/// Adds a text as a JSON string.
fn push_string(out: &mut String, text: &str) {
    if text.bytes().any(|byte| byte < b' ' || matches!(byte, b'"' | b'\\')) {
        return push_json(out, text);
    }
    out.push('"');
    out.push_str(text);
    out.push('"');
}

#[cfg(test)]
mod tests;
