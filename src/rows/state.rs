//! What a journal knows of a row. Pure.

use std::collections::BTreeMap;

use crate::agent::{Conversation, End};
use crate::error::Error;
use crate::json::Json;
use crate::outcome::Outcome;
use crate::rows::record::Record;
use crate::turn::{Turn, Usage};

/// What a journal knows of a row.
#[derive(Debug, Default)]
pub(super) struct RowState {
    /// The digest of what was asked.
    pub(super) prompt: Option<String>,
    messages: Vec<Json>,
    /// The container that the next request names.
    container: Option<String>,
    turns: u64,
    pub(super) usage: Usage,
    open: Option<(u64, OpenTurn)>,
    pub(super) end: Option<End>,
    pub(super) failed: Option<String>,
    pub(super) unknown: UnknownCalls,
}

/// The tools of those mutating calls that started and have no result, by turn and call.
pub(super) type UnknownCalls = BTreeMap<(u64, usize), String>;

/// A turn that isn't answered.
#[derive(Debug)]
pub(super) struct OpenTurn {
    pub(super) turn: Turn,
    /// The mutating calls that had started, and how they ended, where that is known.
    pub(super) calls: BTreeMap<usize, Option<Outcome>>,
}

impl RowState {
    /// Takes a line about the row.
    pub(super) fn take(&mut self, record: Record) {
        match record {
            Record::Journal { .. } => {}
            // A file that was put together of copies says again what is known.
            Record::Turn { turn, .. } | Record::Answered { turn, .. } if turn <= self.turns => {}
            Record::Turn { turn, prompt, message, .. } => {
                self.prompt = Some(prompt);
                self.failed = None;
                self.open = Some((turn, OpenTurn { turn: message, calls: BTreeMap::new() }));
            }
            Record::Intent { turn, index, tool, .. } => {
                self.unknown.insert((turn, index), tool);
                self.note(turn, index, None);
            }
            Record::Result { turn, index, outcome, .. } => {
                self.unknown.remove(&(turn, index));
                self.note(turn, index, Some(outcome));
            }
            Record::Answered { turn, prompt, messages, usage, container, end, .. } => {
                self.prompt = Some(prompt);
                self.failed = None;
                self.open = None;
                self.turns = turn;
                self.usage += usage;
                self.container = container;
                self.end = end.filter(End::is_recorded);
                match self.end {
                    Some(_) => self.messages = Vec::new(),
                    None => self.messages.extend(messages),
                }
            }
            Record::Failed { prompt, why, .. } => {
                self.prompt = Some(prompt);
                self.failed = Some(why);
            }
        }
    }

    /// The tokens that its turns took, read and written.
    pub(super) fn tokens(&self) -> u64 {
        let mut usage = self.usage;
        usage += self.open.as_ref().map(|(_, open)| open.turn.usage()).unwrap_or_default();
        usage.input_tokens.saturating_add(usage.output_tokens)
    }

    /// A line about a call of an answered turn is that of a call that was walked away from: the
    /// model was told so, and is told nothing else.
    fn note(&mut self, turn: u64, index: usize, outcome: Option<Outcome>) {
        if let Some((_, open)) = self.open.as_mut().filter(|(number, _)| *number == turn) {
            open.calls.insert(index, outcome);
        }
    }

    /// Puts what was said into a conversation; gives the turn that isn't answered.
    pub(super) fn into_conversation(
        self,
        conversation: &mut Conversation,
    ) -> Result<Option<OpenTurn>, Error> {
        let mut messages = conversation.messages().to_vec();
        messages.extend(self.messages);
        *conversation = Conversation::with_messages(conversation.wire(), messages)?
            .in_container(self.container);
        let stats = conversation.stats_mut();
        stats.usage = self.usage;
        stats.turns = self.turns;
        Ok(self.open.map(|(number, open)| {
            stats.turns = number;
            open
        }))
    }
}
