//! A span around every attempt, a child of the caller's, with the attributes that the
//! OpenTelemetry conventions for generative AI give an executed tool.

use tracing::{Dispatch, Span, dispatcher};

use crate::call::ToolCall;
use crate::error::ToolError;
use crate::tool::CallContext;

/// The caller's span, and who is told of spans on its thread.
pub(crate) struct Caller {
    span: Span,
    dispatch: Dispatch,
}

impl Caller {
    pub(super) fn current() -> Self {
        Self { span: Span::current(), dispatch: dispatcher::get_default(Dispatch::clone) }
    }
}

/// Runs an attempt in a span below the caller's; the error's kind is recorded on it.
pub(super) fn in_span<T>(
    caller: &Caller,
    call: &ToolCall,
    cx: &CallContext,
    run: impl FnOnce() -> Result<T, ToolError>,
) -> Result<T, ToolError> {
    dispatcher::with_default(&caller.dispatch, || {
        let span = tracing::info_span!(
            parent: &caller.span,
            "execute_tool",
            otel.name = format!("execute_tool {}", call.name()),
            gen_ai.operation.name = "execute_tool",
            gen_ai.tool.name = call.name(),
            gen_ai.tool.call.id = call.id(),
            toolpool.attempt = cx.attempt(),
            error.r#type = tracing::field::Empty,
        );
        let result = span.in_scope(run);
        if let Err(error) = &result {
            span.record("error.type", error.kind().name());
        }
        result
    })
}
