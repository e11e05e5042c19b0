//! A span around every attempt, a child of the caller's, with the attributes that the
//! OpenTelemetry conventions for generative AI give an executed tool.

use tracing::{Dispatch, Span, dispatcher};

use crate::call::ToolCall;
use crate::error::ToolError;
use crate::executor::attempt::{self, Careful};
use crate::tool::CallContext;

/// The caller's span, and who is told of spans on its thread. Nothing where the subscriber, which
/// is the user's, panicked when it was asked.
pub(crate) struct Caller(Careful<(Span, Dispatch)>);

impl Caller {
    pub(super) fn current() -> Self {
        let mut current = (Span::none(), Dispatch::none());
        attempt::guarded("a subscriber of spans", || {
            current = (Span::current(), dispatcher::get_default(Dispatch::clone));
        });
        Self(Careful::new(current))
    }
}

/// What an attempt ends with whose handler unwinds.
struct Unwinds<'a>(&'a Span);

impl Drop for Unwinds<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.record("error.type", "panicked");
        }
    }
}

/// Runs an attempt in a span below the caller's; the error's kind is recorded on it, `panicked`, or
/// how the call had been settled before its handler returned.
pub(super) fn in_span<T>(
    caller: &Caller,
    call: &ToolCall,
    cx: &CallContext,
    run: impl FnOnce() -> Result<T, ToolError>,
) -> Result<T, ToolError> {
    let (parent, dispatch) = caller.0.get();
    dispatcher::with_default(dispatch, || {
        let span = tracing::info_span!(
            parent: parent,
            "execute_tool",
            otel.name = format!("execute_tool {}", call.name()),
            gen_ai.operation.name = "execute_tool",
            gen_ai.tool.name = call.name(),
            gen_ai.tool.call.id = call.id(),
            toolpool.attempt = cx.attempt(),
            error.r#type = tracing::field::Empty,
        );
        let unwinds = Unwinds(&span);
        let result = span.in_scope(run);
        drop(unwinds);
        match &result {
            _ if cx.is_settled() && cx.remaining().is_zero() => {
                span.record("error.type", "timed_out");
            }
            _ if cx.is_settled() => {
                span.record("error.type", "cancelled");
            }
            Err(error) => {
                span.record("error.type", error.kind().name());
            }
            Ok(_) => {}
        }
        result
    })
}
