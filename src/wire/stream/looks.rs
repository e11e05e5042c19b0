//! Which format a stream looks like, by its first events: one of another format has no end that its
//! reader knows, and is no connection that broke.

use crate::error::{Broken, bounded_to};
use crate::turn::Wire;
use crate::wire::detect;
use crate::wire::failure::KEPT;
use crate::wire::stream::Problem;
use crate::wire::stream::tell::Tell;

/// How many events are looked at.
const EVENTS: usize = 8;

#[derive(Debug)]
pub(super) struct Looks {
    wire: Wire,
    /// How many events are still to be looked at.
    left: usize,
    /// Another format, and the event that is known to be of it.
    other: Option<(Wire, String)>,
}

impl Looks {
    pub(super) fn new(wire: Wire) -> Self {
        Self { wire, left: EVENTS, other: None }
    }

    pub(super) fn event(&mut self, name: &str, data: &str) {
        let Some(left) = self.left.checked_sub(1) else { return };
        self.left = left;
        if let Some(known) = detect::of_event(name, data) {
            self.left = 0;
            let other = Some(known).filter(|known| *known != self.wire);
            self.other = other.map(|other| (other, bounded_to(&data.trim_ascii(), KEPT)));
        }
    }

    /// The problem, or what is behind it where nothing of the stream was understood.
    pub(super) fn explain(&self, problem: Problem, tell: &Tell<'_>) -> Problem {
        match self.problem(tell) {
            Some(other) if !matches!(problem.broken, Some(Broken::Said { .. })) => other,
            _ => problem,
        }
    }

    /// That the stream is of another format.
    pub(super) fn problem(&self, tell: &Tell<'_>) -> Option<Problem> {
        let (other, event) = self.other.as_ref().filter(|_| tell.is_silent())?;
        Some(Problem::of_another(*other, event))
    }
}
