//! Policies: what a failure does to the batch, and how a call is retried.
//!
//! Pure decisions: no thread, no clock, no channel. One file a policy.

mod abort_after;
mod custom;
mod failure;
mod require;
mod retry;

pub use failure::{Decision, FailurePolicy, Settled};
pub use retry::Retry;
