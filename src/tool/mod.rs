//! Tools: a named function that the model may call, and what is promised about it.
//!
//! Starts no thread and knows no executor: a [`CallContext`] reaches it through the `Host` trait.

mod context;
mod definition;
mod group;
mod handler;
mod keys;
mod set;

pub use context::{CallContext, Closer};
pub use definition::{Erased, ScopedTool, Tool};
pub use group::Group;
pub use handler::{Arguments, Handler};
pub use keys::IntoKeys;
pub use set::{ScopedToolSet, ToolInfo, ToolSet};

pub(crate) use crate::effect::{Effect, Lane};
pub(crate) use context::{Closers, Host};
pub(crate) use definition::Definition;
pub(crate) use handler::Invoke;
pub(crate) use keys::{Access, KeyUse};
