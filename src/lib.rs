//! toolpool
#![forbid(unsafe_code)]

mod cancel;
mod effect;
mod error;
mod json;
mod text;
mod time;

mod bound;
mod call;
mod outcome;
mod output;
mod report;
mod schema;
mod tool;
mod turn;

pub mod policy;

mod executor;

mod timeline;

pub mod wire;

#[cfg(any(doc, doctest))]
pub mod docs;

pub use call::{CallState, ToolCall};
pub use cancel::{CancelToken, OnCancel};
pub use effect::{Effect, Lane};
pub use error::{Error, ToolError, ToolErrorKind};
pub use executor::{Executor, ExecutorBuilder, Run, Stats, ToolStats, execute_tool_calls};
pub use json::Json;
pub use outcome::{Abort, Limit, NotStarted, Outcome, Rejected};
pub use output::{Block, Output};
pub use policy::{Decision, FailurePolicy, Retry, Settled};
pub use report::{CallReport, CallResult, Note, Report};
pub use time::Deadline;
pub use timeline::Timeline;
pub use tool::{
    CallContext, Closer, Erased, Group, Handler, IntoKeys, ScopedTool, ScopedToolSet, Tool,
    ToolInfo, ToolSet,
};
pub use turn::{StopKind, StopReason, Turn, Usage, Wire};

pub use schemars;
