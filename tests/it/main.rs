//! The integration tests: one binary, a module a behaviour.
#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod batch;
mod executor;
mod faults;
mod handlers;
mod readme;
mod tidy;
mod timeline;
mod wire;
