//! What is written down of one row.

use std::sync::Arc;

use crate::agent::{End, Log};
use crate::call::ToolCall;
use crate::error::{Error, ToolError, ToolErrorKind};
use crate::executor::Recorder;
use crate::json::Json;
use crate::outcome::Outcome;
use crate::rows::journal::Journal;
use crate::rows::record::Record;
use crate::rows::row::Row;
use crate::text::digest;
use crate::turn::{Turn, Usage};

/// Writes down what happens to a row.
pub(super) struct RowLog {
    journal: Arc<Journal>,
    row: String,
    prompt: String,
}

impl RowLog {
    pub(super) fn new(journal: &Arc<Journal>, row: &Row) -> Self {
        Self { journal: Arc::clone(journal), row: row.key.clone(), prompt: row.digest() }
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
        end: Option<&End>,
    ) -> Result<(), Error> {
        self.journal.append(&Record::Answered {
            row: self.row.clone(),
            turn: number,
            prompt: self.prompt.clone(),
            messages: messages.to_vec(),
            usage,
            end: end.cloned(),
        })
    }

    fn recorder(&self, number: u64) -> Arc<dyn Recorder> {
        let (journal, row) = (Arc::clone(&self.journal), self.row.clone());
        Arc::new(TurnLog { journal, row, turn: number })
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
}

impl Recorder for TurnLog {
    fn starting(&self, index: usize, _: &ToolCall) -> Result<(), ToolError> {
        let intent = Record::Intent { row: self.row.clone(), turn: self.turn, index };
        self.journal.append(&intent).map_err(|error| {
            let text = "not run: it couldn't be written down";
            ToolError::new(ToolErrorKind::Other, text).with_details(error)
        })
    }

    fn ended(&self, index: usize, outcome: &Outcome) {
        let (row, outcome) = (self.row.clone(), outcome.clone());
        let result = Record::Result { row, turn: self.turn, index, outcome };
        if let Err(error) = self.journal.append(&result) {
            // The run stops at its next line; the intent is left open, which is the truth.
            log::error!("the result of a call is lost: {error}");
        }
    }
}
