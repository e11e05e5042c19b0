//! What is told of a run while it goes on.

use crate::call::ToolCall;
use crate::report::Report;
use crate::turn::{Turn, Usage};

/// What happens in a run, told in order on the thread that runs it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum AgentEvent<'a> {
    /// The model is asked; how often in this run, from 1.
    Asking(u32),
    /// More of the model's text.
    Text(&'a str),
    /// A call that is whole. Whether it runs is known with the [`Turn`](Self::Turn).
    Call(&'a ToolCall),
    /// The message began anew: text and calls that were told since [`Asking`](Self::Asking) are
    /// void.
    Restarted,
    /// The model's message is complete.
    Turn(&'a Turn),
    /// The calls of the turn are answered.
    Results(&'a Report),
    /// The tokens of the conversation so far.
    Usage(Usage),
}
