//! A report drawn for a reader: who waited, who ran when, what running in parallel saved.
//!
//! Reads a [`Report`](crate::Report) and nothing else: no clock, no thread, no terminal.

mod gantt;

pub use gantt::Timeline;
