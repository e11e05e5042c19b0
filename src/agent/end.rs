//! How a run ended.

use std::fmt;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};

use crate::executor::Suspended;
use crate::json::Json;
use crate::output::Output;
use crate::turn::StopReason;

/// How a run ended. Whatever it is, every call in the conversation is answered, so it can be gone
/// on with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "end", content = "detail", rename_all = "snake_case")]
#[non_exhaustive]
pub enum End {
    /// The model answered.
    Answer(String),
    /// A tool that ends the run was called and succeeded.
    ToolEnded {
        /// The tool.
        tool: String,
        /// What it was called with.
        arguments: Json,
        /// What it gave.
        output: Output,
    },
    /// The model was asked as often as a run may, and still wants to call tools.
    MaxTurns,
    /// The token budget is used up.
    Budget {
        /// The tokens the run took.
        used: u64,
    },
    /// The run's time is over.
    Deadline,
    /// The model made the same call too many turns in a row.
    Repeated {
        /// The tool.
        tool: String,
        /// In how many turns in a row, those not counted in which it didn't start; in the last it
        /// wasn't run.
        times: u32,
    },
    /// The model refused, or a filter stopped it; what it said.
    Refused(String),
    /// The message ended before the model was done, without a call; or it was to hold calls, and
    /// holds neither a call nor a word; or the context is full, and its calls, if it holds any, are
    /// withheld. A message with calls that was cut short in another way, such as by the output limit,
    /// is no end: the model is told that they weren't run, and is asked again.
    CutShort {
        /// Why.
        stop: StopReason,
        /// What it had said.
        text: String,
    },
    /// The run was cancelled, or its executor was shut down.
    Cancelled,
    /// Calls wait for decisions or results from outside. The conversation knows, too; go on with
    /// [`Agent::resume`](crate::Agent::resume).
    Suspended(Suspended),
}

/// An end as it is stored. Which detail it has, its name tells, which may come later; so it isn't
/// read by serde's own tags, through which raw JSON doesn't get.
#[derive(Deserialize)]
struct Stored {
    end: String,
    #[serde(default)]
    detail: Option<Json>,
}

impl Stored {
    fn detail<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.detail.as_ref().map_or("null", Json::as_str))
    }

    fn read(&self) -> Result<End, serde_json::Error> {
        #[derive(Deserialize)]
        struct ToolEnded {
            tool: String,
            arguments: Json,
            output: Output,
        }
        #[derive(Deserialize)]
        struct Budget {
            used: u64,
        }
        #[derive(Deserialize)]
        struct Repeated {
            tool: String,
            times: u32,
        }
        #[derive(Deserialize)]
        struct CutShort {
            stop: StopReason,
            text: String,
        }
        Ok(match self.end.as_str() {
            "answer" => End::Answer(self.detail()?),
            "tool_ended" => {
                let ToolEnded { tool, arguments, output } = self.detail()?;
                End::ToolEnded { tool, arguments, output }
            }
            "max_turns" => End::MaxTurns,
            "budget" => End::Budget { used: self.detail::<Budget>()?.used },
            "deadline" => End::Deadline,
            "repeated" => {
                let Repeated { tool, times } = self.detail()?;
                End::Repeated { tool, times }
            }
            "refused" => End::Refused(self.detail()?),
            "cut_short" => {
                let CutShort { stop, text } = self.detail()?;
                End::CutShort { stop, text }
            }
            "cancelled" => End::Cancelled,
            "suspended" => End::Suspended(self.detail()?),
            other => {
                return Err(serde_json::Error::custom(format_args!("no end is named {other:?}")));
            }
        })
    }
}

impl<'de> Deserialize<'de> for End {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Stored::deserialize(deserializer)?.read().map_err(D::Error::custom)
    }
}

impl End {
    /// The stable name, as in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Answer(_) => "answer",
            Self::ToolEnded { .. } => "tool_ended",
            Self::MaxTurns => "max_turns",
            Self::Budget { .. } => "budget",
            Self::Deadline => "deadline",
            Self::Repeated { .. } => "repeated",
            Self::Refused(_) => "refused",
            Self::CutShort { .. } => "cut_short",
            Self::Cancelled => "cancelled",
            Self::Suspended(_) => "suspended",
        }
    }

    /// The answer, where there is one.
    pub fn answer(&self) -> Option<&str> {
        match self {
            Self::Answer(text) => Some(text),
            _ => None,
        }
    }

    /// Whether the model or a tool brought the run to its end, and nothing cut it off.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Answer(_) | Self::ToolEnded { .. })
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(_) => f.write_str("the model answered"),
            Self::ToolEnded { tool, .. } => write!(f, "the tool {tool} ended the run"),
            Self::MaxTurns => f.write_str("the model was asked as often as it may be"),
            Self::Budget { used } => write!(f, "the token budget is used up: {used} tokens"),
            Self::Deadline => f.write_str("the run's time is over"),
            Self::Repeated { tool, times } => {
                write!(f, "the model made the same call of {tool} in {times} turns in a row")
            }
            Self::Refused(_) => f.write_str("the model refused"),
            Self::CutShort { stop, .. } => write!(f, "the model's message was cut short: {stop}"),
            Self::Cancelled => f.write_str("the run was cancelled"),
            Self::Suspended(suspended) => match suspended.pending().count() {
                1 => f.write_str("a call waits for a decision"),
                count => write!(f, "{count} calls wait for a decision"),
            },
        }
    }
}
