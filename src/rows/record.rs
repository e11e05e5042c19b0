//! The lines of a journal.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::agent::End;
use crate::json::Json;
use crate::outcome::Outcome;
use crate::turn::{Turn, Usage};

/// The version of the lines.
pub(super) const VERSION: u32 = 2;

/// What a journal is bound to: the name of each part, and the digest of what it is.
pub(super) type Parts = BTreeMap<String, String>;

/// One line. Externally tagged, because raw JSON doesn't survive other tags.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    /// The first line.
    Journal {
        version: u32,
        id: String,
        #[serde(default)]
        parts: Parts,
    },
    /// A turn with calls came; none that changes something has started.
    Turn { row: String, turn: u64, prompt: String, message: Turn },
    /// A mutating call is about to start.
    Intent {
        row: String,
        turn: u64,
        index: usize,
        #[serde(default)]
        tool: String,
    },
    /// A mutating call has ended.
    Result { row: String, turn: u64, index: usize, outcome: Outcome },
    /// A turn is answered: these messages were added, and the next request names this container.
    /// With an end, the row has ended.
    Answered {
        row: String,
        turn: u64,
        prompt: String,
        messages: Vec<Json>,
        usage: Usage,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        container: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        end: Option<End>,
    },
    /// The row failed in another way.
    Failed { row: String, prompt: String, why: String },
}
