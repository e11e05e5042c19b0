//! Anthropic Messages: events.

use crate::wire::stream::tell::Tell;
use crate::wire::stream::{Format, Problem};

/// The message so far.
#[derive(Debug, Default)]
pub(super) struct Stream {}

impl Format for Stream {
    fn event(&mut self, _name: &str, _data: &str, _tell: &mut Tell<'_>) -> Result<(), Problem> {
        Err(Problem::unreadable("streams of this format are not read yet"))
    }

    fn end(&mut self, _tell: &mut Tell<'_>) -> Result<String, Problem> {
        Err(Problem::cut())
    }
}
