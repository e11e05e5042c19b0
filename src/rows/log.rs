//! What is written down of one row.

use std::sync::Arc;

use log::Level;
use parking_lot::Mutex;

use crate::agent::{End, Log};
use crate::call::ToolCall;
use crate::error::{Error, ToolError, ToolErrorKind};
use crate::executor::Recorder;
use crate::json::Json;
use crate::logging::log;
use crate::outcome::Outcome;
use crate::rows::journal::Journal;
use crate::rows::record::Record;
use crate::rows::row::Row;
use crate::rows::state::UnknownCalls;

use crate::text::digest;
use crate::turn::{Turn, Usage};

/// Writes down what happens to a row.
pub(super) struct RowLog {
    journal: Arc<Journal>,
    row: String,
    prompt: String,
    unknown: Arc<Mutex<UnknownCalls>>,
}

impl RowLog {
    /// `unknown` are those of earlier runs.
    pub(super) fn new(journal: &Arc<Journal>, row: &Row, unknown: UnknownCalls) -> Self {
        Self {
            journal: Arc::clone(journal),
            row: row.key.clone(),
            prompt: row.digest(),
            unknown: Arc::new(Mutex::new(unknown)),
        }
    }

    /// The tools of those calls that started and have no result at the moment.
    pub(super) fn unknown(&self) -> Vec<String> {
        self.unknown.lock().values().cloned().collect()
    }
}

impl Log for RowLog {
    fn asked(&self, number: u64, turn: &Turn) -> Result<(), Error> {
        self.journal.append(&Record::Turn {
            row: self.row.clone(),
            turn: number,
            prompt: self.prompt.clone(),
            message: turn.clone(),
        })
    }

    fn answered(
        &self,
        number: u64,
        messages: &[Json],
        usage: Usage,
        container: Option<&str>,
        end: Option<&End>,
    ) -> Result<(), Error> {
        self.journal.append(&Record::Answered {
            row: self.row.clone(),
            turn: number,
            prompt: self.prompt.clone(),
            messages: messages.to_vec(),
            usage,
            container: container.map(str::to_owned),
            end: end.cloned(),
        })
    }

    fn recorder(&self, number: u64) -> Arc<dyn Recorder> {
        let (journal, row) = (Arc::clone(&self.journal), self.row.clone());
        Arc::new(TurnLog { journal, row, turn: number, unknown: Arc::clone(&self.unknown) })
    }

    fn seed(&self, number: u64) -> String {
        let turn = number.to_string();
        digest([self.journal.id(), self.row.as_str(), turn.as_str()])
    }
}

/// Writes down what the mutating calls of a turn do.
struct TurnLog {
    journal: Arc<Journal>,
    row: String,
    turn: u64,
    unknown: Arc<Mutex<UnknownCalls>>,
}

impl Recorder for TurnLog {
    fn starting(&self, index: usize, call: &ToolCall) -> Result<(), ToolError> {
        let (row, tool) = (self.row.clone(), call.name().to_owned());
        let intent = Record::Intent { row, turn: self.turn, index, tool };
        self.journal.append(&intent).map_err(|error| {
            let text = "not run: it couldn't be written down";
            ToolError::new(ToolErrorKind::Other, text).with_details(error)
        })?;
        self.unknown.lock().insert((self.turn, index), call.name().to_owned());
        Ok(())
    }

    fn ended(&self, index: usize, outcome: &Outcome) {
        self.unknown.lock().remove(&(self.turn, index));
        let (row, outcome) = (self.row.clone(), outcome.clone());
        let result = Record::Result { row, turn: self.turn, index, outcome };
        if let Err(error) = self.journal.append(&result) {
            // The run stops at its next line; the intent is left open, which is the truth.
            log(Level::Error, format_args!("the result of a call is lost: {error}"));
        }
    }
}
