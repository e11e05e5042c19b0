//! The integration tests: one binary, a module a behaviour.
#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what was measured is printed")]
#![allow(
    clippy::unit_arg,
    clippy::needless_question_mark,
    reason = "a tool that only waits or fails gives Ok(what it does?) like every other"
)]

mod agent;
mod api;
mod batch;
mod early_start;
mod executor;
mod faults;
mod handlers;
mod machine;
#[cfg(feature = "http")]
mod model;
mod readme;
mod rows;
mod tidy;
mod timeline;
mod wire;
mod workers;
