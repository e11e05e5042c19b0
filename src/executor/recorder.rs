//! Who writes down, on the worker, what calls that change something do.

use crate::call::ToolCall;
use crate::error::ToolError;
use crate::outcome::Outcome;

/// Told of every attempt of a mutating call, on its worker, right before and right after the
/// handler. What it takes counts as the call's own time.
pub(crate) trait Recorder: Send + Sync {
    /// The handler of the call at `index` is about to run. On an error it doesn't, and the call
    /// fails with it.
    fn starting(&self, index: usize, call: &ToolCall) -> Result<(), ToolError>;

    /// The handler has ended like this, perhaps too late for the batch.
    fn ended(&self, index: usize, outcome: &Outcome);
}
