//! What one failed call does to the others of its batch.

use std::fmt;
use std::sync::Arc;

use crate::outcome::Outcome;

/// What one failed call does to the others of its batch.
///
/// Whatever it decides, the report is complete: one result a call.
#[derive(Clone, Default)]
pub struct FailurePolicy(Kind);

#[derive(Clone, Default)]
enum Kind {
    #[default]
    Inline,
    Custom(Arc<dyn Fn(&Settled<'_>) -> Decision + Send + Sync>),
}

/// What is known when a call has just settled.
#[derive(Debug, Clone, Copy)]
pub struct Settled<'a> {
    /// The call's index in the turn.
    pub index: usize,
    /// Its tool's name.
    pub name: &'a str,
    /// How it ended, all retries done.
    pub outcome: &'a Outcome,
    /// How many calls of the batch have succeeded so far, this one included.
    pub succeeded: usize,
    /// How many have failed so far, this one included.
    pub failed: usize,
    /// How many are still to settle.
    pub pending: usize,
}

/// What becomes of the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It goes on.
    Continue,
    /// It has failed: what runs is cancelled, what waits isn't started.
    Abort,
    /// Enough has succeeded: what runs is cancelled, what waits isn't started.
    Enough,
}

impl FailurePolicy {
    /// Errors go back inline, each in its place; nothing is aborted. The default.
    pub fn inline() -> Self {
        Self(Kind::Inline)
    }

    /// Asks `decide` each time a call has settled.
    pub fn custom(decide: impl Fn(&Settled<'_>) -> Decision + Send + Sync + 'static) -> Self {
        Self(Kind::Custom(Arc::new(decide)))
    }

    /// The policy's function where it is user code, which must not run under a lock.
    pub(crate) fn as_custom(&self) -> Option<&Arc<dyn Fn(&Settled<'_>) -> Decision + Send + Sync>> {
        match &self.0 {
            Kind::Custom(decide) => Some(decide),
            Kind::Inline => None,
        }
    }

    /// The decision of a policy that isn't user code.
    pub(crate) fn decide(&self, _settled: &Settled<'_>) -> Decision {
        Decision::Continue
    }
}

impl fmt::Debug for FailurePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FailurePolicy")
    }
}
