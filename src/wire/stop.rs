//! Which stop reasons forbid running a message's calls.
//!
//! A stop reason never says whether there are calls, or whether they are whole: it is a veto and
//! nothing else.

use crate::turn::{StopKind, StopReason};

impl StopReason {
    /// Whether the message was cut short or stopped, so that none of its calls may run.
    pub(crate) fn forbids_calls(&self) -> bool {
        match self.kind {
            StopKind::MaxTokens
            | StopKind::ContextExceeded
            | StopKind::Refusal
            | StopKind::ContentFilter
            | StopKind::Pause
            | StopKind::Failed => true,
            StopKind::ToolUse
            | StopKind::EndTurn
            | StopKind::StopSequence
            | StopKind::Missing
            | StopKind::Unknown => false,
        }
    }
}
