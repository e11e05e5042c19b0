//! Runs calls.
mod scheduler;
