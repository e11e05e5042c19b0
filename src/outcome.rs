//! How one call ended, and what the model is told of it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::ToolError;
use crate::output::Output;

/// How one call ended. All but `Succeeded` count as failures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// The tool gave a result.
    Succeeded(Output),
    /// The tool reported a failure.
    Failed(ToolError),
    /// The tool panicked; the message, where it was text.
    Panicked(Option<String>),
    /// The tool wasn't done in time.
    TimedOut {
        /// Which limit ended it.
        limit: Limit,
        /// How long it was given, from its start.
        after: Duration,
        /// Whether its thread still runs: what it does may still take effect.
        still_running: bool,
    },
    /// The batch was cancelled or aborted.
    Cancelled {
        /// Whether the tool had started: what it did may have taken effect.
        started: bool,
        /// Why, where a policy aborted the batch.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        abort: Option<Abort>,
    },
    /// The tool never started.
    NotStarted(NotStarted),
    /// The call was refused.
    Rejected(Rejected),
}

/// Its [name](Outcome::name).
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Which limit ended a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Limit {
    /// Its own timeout.
    Timeout,
    /// The batch's deadline.
    Deadline,
}

/// Why a policy ended a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Abort {
    /// The call that caused it, by its index in the turn; nothing for a cause that is no call. As
    /// text it is counted from 1, as models count.
    pub index: Option<usize>,
    /// Its tool's name, or what else caused it.
    pub cause: String,
    /// Whether the batch ended because enough had succeeded, not because of a failure.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub satisfied: bool,
}

/// Why a call never started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", content = "detail", rename_all = "snake_case")]
#[non_exhaustive]
pub enum NotStarted {
    /// The batch's deadline came first.
    Deadline,
    /// Its own timeout came before it could be prepared, or is zero.
    Timeout,
    /// A policy aborted the batch.
    Aborted(Abort),
    /// Enough other calls had succeeded.
    NotNeeded,
    /// The executor was shut down.
    Shutdown,
    /// The system gave no thread to run it on.
    NoThread,
    /// An abandoned call still holds what it needs: a key, the last permit of its tool or of its
    /// group, or, for an exclusive call, a key of any other. Or the first call that has its key waits
    /// for the rest of its message.
    KeyHeld {
        /// The holder's index, where it is a call of the same turn.
        index: Option<usize>,
        /// The holder's tool.
        tool: String,
    },
    /// Its group of tools is paused for longer than it may wait.
    GroupPaused,
    /// The calls of its group failed one after another, so the group is left alone for a while; see
    /// [`Group::break_after`](crate::Group::break_after).
    CircuitOpen,
    /// The model's message ended in a way that forbids running it; the stop reason.
    Withheld(String),
    /// The model's message broke off before the call could be allowed.
    StreamBroken,
    /// It waits for a decision or a result from outside.
    Deferred,
}

/// Why a call was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", content = "detail", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Rejected {
    /// No tool has that name.
    UnknownTool {
        /// The name most like it.
        nearest: Option<String>,
        /// The valid names, at most 20.
        available: Vec<String>,
        /// How many more there are.
        more: usize,
    },
    /// The arguments can't be read or don't fit; why and where.
    BadArguments(String),
    /// The turn has too many calls; how many are allowed.
    TooManyCalls(usize),
    /// It wasn't approved; the reason given.
    Denied(String),
    /// Too many calls are queued.
    Busy,
    /// Too many threads were left running.
    AbandonedLimit,
    /// Batches are nested too deep; how deep is allowed.
    TooDeep(usize),
    /// It would wait for a call that waits for it; what it would wait for.
    WouldDeadlock(String),
}

impl Outcome {
    /// Whether the tool gave a result.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Succeeded(_))
    }

    /// The stable name, as in JSON: for a call that wasn't run, the reason's.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Succeeded(_) => "succeeded",
            Self::Failed(_) => "failed",
            Self::Panicked(_) => "panicked",
            Self::TimedOut { .. } => "timed_out",
            Self::Cancelled { .. } => "cancelled",
            Self::NotStarted(reason) => reason.facts().0,
            Self::Rejected(reason) => reason.facts().0,
        }
    }

    /// Whether the same call may succeed when it is made again. Whether that is safe is another
    /// question: it depends on the tool's [`Effect`](crate::Effect).
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Succeeded(_) | Self::Panicked(_) | Self::Cancelled { .. } => false,
            Self::Failed(error) => error.is_retryable(),
            Self::TimedOut { .. } => true,
            Self::NotStarted(reason) => reason.facts().1,
            Self::Rejected(reason) => reason.facts().1,
        }
    }

    /// Whether the tool was started.
    #[cfg(feature = "agent")]
    pub(crate) fn has_started(&self) -> bool {
        match self {
            Self::NotStarted(_) | Self::Rejected(_) => false,
            Self::Cancelled { started, .. } => *started,
            Self::Succeeded(_) | Self::Failed(_) | Self::TimedOut { .. } | Self::Panicked(_) => {
                true
            }
        }
    }

    /// Whether the tool may have changed something although no result came: it ran and was cut off,
    /// or its error's kind says that nobody knows, unless the error is
    /// [safe to retry](ToolError::safe_to_retry).
    pub fn effect_unknown(&self) -> bool {
        match self {
            Self::Failed(error) => error.effect_unknown(),
            Self::TimedOut { .. } | Self::Panicked(_) => true,
            Self::Cancelled { started, .. } => *started,
            Self::Succeeded(_) | Self::NotStarted(_) | Self::Rejected(_) => false,
        }
    }
}

/// The table: stable name, whether to call again may help.
impl NotStarted {
    fn facts(&self) -> (&'static str, bool) {
        match self {
            Self::Deadline => ("deadline", true),
            Self::Timeout => ("timeout", true),
            Self::Aborted(_) => ("aborted", true),
            Self::NotNeeded => ("not_needed", false),
            Self::Shutdown => ("shutdown", false),
            Self::NoThread => ("no_thread", true),
            Self::KeyHeld { .. } => ("key_held", true),
            Self::GroupPaused => ("group_paused", true),
            Self::CircuitOpen => ("circuit_open", true),
            Self::Withheld(_) => ("withheld", true),
            Self::StreamBroken => ("stream_broken", true),
            Self::Deferred => ("deferred", false),
        }
    }
}

impl Rejected {
    fn facts(&self) -> (&'static str, bool) {
        match self {
            Self::UnknownTool { .. } => ("unknown_tool", false),
            Self::BadArguments(_) => ("bad_arguments", false),
            Self::TooManyCalls(_) => ("too_many_calls", true),
            Self::Denied(_) => ("denied", false),
            Self::Busy => ("busy", true),
            Self::AbandonedLimit => ("abandoned_limit", true),
            Self::TooDeep(_) => ("too_deep", false),
            Self::WouldDeadlock(_) => ("would_deadlock", false),
        }
    }
}

impl Outcome {
    /// Passes every text of the outcome through `redact`.
    pub(crate) fn redact(&mut self, redact: &mut dyn FnMut(&str) -> String) {
        match self {
            Self::Succeeded(output) => output.redact(redact),
            Self::Failed(error) => error.redact(redact),
            Self::Panicked(message) => {
                if let Some(message) = message {
                    *message = redact(message);
                }
            }
            Self::TimedOut { .. } => {}
            Self::Cancelled { abort, .. } => {
                if let Some(abort) = abort {
                    abort.cause = redact(&abort.cause);
                }
            }
            Self::NotStarted(reason) => match reason {
                NotStarted::Aborted(abort) => abort.cause = redact(&abort.cause),
                NotStarted::KeyHeld { tool: text, .. } | NotStarted::Withheld(text) => {
                    *text = redact(text);
                }
                NotStarted::Deadline
                | NotStarted::Timeout
                | NotStarted::NotNeeded
                | NotStarted::Shutdown
                | NotStarted::NoThread
                | NotStarted::GroupPaused
                | NotStarted::CircuitOpen
                | NotStarted::StreamBroken
                | NotStarted::Deferred => {}
            },
            Self::Rejected(reason) => match reason {
                Rejected::BadArguments(text)
                | Rejected::Denied(text)
                | Rejected::WouldDeadlock(text) => *text = redact(text),
                Rejected::UnknownTool { .. }
                | Rejected::TooManyCalls(_)
                | Rejected::Busy
                | Rejected::AbandonedLimit
                | Rejected::TooDeep(_) => {}
            },
        }
    }
}
