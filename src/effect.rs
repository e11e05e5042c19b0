//! What is declared of a tool: what it may change, and which threads it runs on.
//!
//! Names only; what follows from them is decided elsewhere.

use serde::{Deserialize, Serialize};

/// What a tool may change. It decides what the executor may do on its own account; it doesn't
/// order calls, only keys and [`exclusive`](crate::Tool::exclusive) do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Changes nothing: may be retried, coalesced and started early.
    ReadOnly,
    /// Changes something, but twice is as good as once: may be retried.
    Idempotent,
    /// Changes something each time: never retried, coalesced or started early. What an undeclared
    /// tool is taken for.
    #[default]
    Mutating,
}

/// Which threads a tool runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Lane {
    /// Cached OS threads: for whatever waits (network, disk, a process).
    #[default]
    Blocking,
    /// A rayon pool as wide as the machine has cores: for whatever computes.
    Compute,
}
