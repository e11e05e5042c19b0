//! What is told to the caller while a stream arrives, and what of it was told already.

use crate::call::ToolCall;
use crate::turn::Turn;
use crate::wire::stream::StreamEvent;

/// What was told so far of the message.
#[derive(Debug, Default)]
pub(super) struct Told {
    calls: usize,
    text: bool,
    apart: bool,
}

/// The way to the caller.
pub(super) struct Tell<'a> {
    told: &'a mut Told,
    to: &'a mut dyn FnMut(StreamEvent<'_>),
}

impl<'a> Tell<'a> {
    pub(super) fn new(told: &'a mut Told, to: &'a mut dyn FnMut(StreamEvent<'_>)) -> Self {
        Self { told, to }
    }

    /// A piece of the visible text. It begins a line if something else came since the last one, as
    /// in the text of a whole message.
    pub(super) fn text(&mut self, piece: &str) {
        if piece.is_empty() {
            return;
        }
        if self.told.apart && self.told.text {
            (self.to)(StreamEvent::Text("\n"));
        }
        (self.to)(StreamEvent::Text(piece));
        self.told.text = true;
        self.told.apart = false;
    }

    /// A block that is no visible text.
    pub(super) fn apart(&mut self) {
        self.told.apart = true;
    }

    /// The next call of the message, with its element set. It must be told only if all calls
    /// before it were.
    pub(super) fn call(&mut self, call: &ToolCall) {
        self.told.calls += 1;
        (self.to)(StreamEvent::Call(call));
    }

    /// How many calls were told.
    pub(super) fn calls(&self) -> usize {
        self.told.calls
    }

    /// Whether nothing was told.
    pub(super) fn is_silent(&self) -> bool {
        !self.told.text && self.told.calls == 0
    }

    /// The message begins anew. Nothing is said of it if nothing was told before.
    pub(super) fn restart(&mut self) {
        if !self.is_silent() {
            (self.to)(StreamEvent::Restarted);
        }
        *self.told = Told::default();
    }

    /// The calls of the whole message that weren't told yet.
    pub(super) fn rest(&mut self, turn: &Turn) {
        for call in turn.calls().iter().skip(self.told.calls) {
            self.call(call);
        }
    }
}
