//! Code of the caller's around every handler, on the worker.

use std::sync::Arc;

use crate::error::ToolError;
use crate::tool::CallContext;

/// What runs around an attempt: given its context and the function that runs it.
pub(crate) type Around = dyn Fn(&CallContext, &mut dyn FnMut()) + Send + Sync;

/// Takes on the caller's thread what is carried to the workers.
pub(crate) type AroundFactory = dyn Fn() -> Arc<Around> + Send + Sync;

/// Runs an attempt inside the hook, at most once.
pub(super) fn wrap<T>(
    around: Option<&Arc<Around>>,
    cx: &CallContext,
    run: impl FnOnce() -> Result<T, ToolError>,
) -> Result<T, ToolError> {
    let Some(around) = around else { return run() };
    let mut run = Some(run);
    let mut result = None;
    around(cx, &mut || {
        if let Some(run) = run.take() {
            result = Some(run());
        }
    });
    result.unwrap_or_else(|| {
        let details = "the around hook returned without running the call";
        Err(ToolError::of_kind(crate::error::ToolErrorKind::Other).with_details(details))
    })
}
