//! What goes in and what comes out.

use crate::agent::{AgentStats, End};
use crate::text::digest;
use crate::turn::Usage;

/// One row: a key that no other row has, and what the model is asked. A second row of a key fails.
/// Handlers read it with `cx.get::<Row>()`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Row {
    /// The key, such as a number in a table. It should stay the same from run to run.
    pub key: String,
    /// What the model is asked.
    pub prompt: String,
}

impl Row {
    /// A row.
    pub fn new(key: impl ToString, prompt: impl Into<String>) -> Self {
        Self { key: key.to_string(), prompt: prompt.into() }
    }

    pub(super) fn digest(&self) -> String {
        digest([self.prompt.as_str()])
    }
}

/// How a row ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RowResult {
    /// The row's key.
    pub key: String,
    /// How its conversation ended, or why it has no end: what the model's client, the budget or
    /// the journal says.
    pub end: Result<End, String>,
    /// The tokens it took in this run.
    pub usage: Usage,
    /// Whether it ended in an earlier run.
    pub resumed: bool,
    /// The tools of those calls that change something, started, and have no result: the program
    /// stopped while they ran, or they were walked away from and run on. Whether they took effect
    /// isn't known, whatever the row's end is. Empty without a journal.
    pub unknown: Vec<String>,
}

impl RowResult {
    pub(super) fn new(key: String, end: Result<End, String>) -> Self {
        Self { key, end, usage: Usage::default(), resumed: false, unknown: Vec::new() }
    }

    /// The answer, where there is one.
    pub fn answer(&self) -> Option<&str> {
        self.end.as_ref().ok()?.answer()
    }

    /// Whether the model answered, or a tool ended the conversation. All else is a failure.
    pub fn is_done(&self) -> bool {
        self.end.as_ref().is_ok_and(End::is_done)
    }
}

/// What came of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RowsReport {
    /// Rows that are done, those of earlier runs included.
    pub done: u64,
    /// Rows that failed, those of earlier runs included.
    pub failed: u64,
    /// Of both, rows that ended in an earlier run.
    pub resumed: u64,
    /// Of both, rows with a call of which it isn't known whether it took effect; see
    /// [`RowResult::unknown`].
    pub unknown: u64,
    /// Rows that were begun or handed in and are left to a later run.
    pub unfinished: u64,
    /// The tokens that the rows that ended took in this run.
    pub usage: Usage,
    /// The agent's figures of this run.
    pub stats: AgentStats,
    /// Why the run stopped before the last row, if it did.
    pub stopped: Option<Stopped>,
}

/// Why a run stopped before the last row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stopped {
    /// The token budget is used up.
    Tokens,
    /// Too many rows failed.
    Failures,
    /// It was told to, or the agent's executor was shut down.
    Cancelled,
    /// The journal can't be written.
    Journal,
}
