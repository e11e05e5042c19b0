//! Circuit breakers: a group whose calls fail one after another is left alone for a while, and then
//! tried with one call. The pattern is Michael Nygard's, from "Release It!".

use std::time::{Duration, Instant};

use super::batch::State;
use super::{Action, CallRef, Scheduler};
use crate::error::ToolErrorKind;
use crate::outcome::{Limit, NotStarted, Outcome};
use crate::time::Deadline;

/// After so many failures in a row nothing is let through for so long.
pub(crate) type BreakerSpec = (u32, Duration);

/// Closed at first, open after failures, and half open when the time is over: then one call is let
/// through, whose end decides.
#[derive(Debug)]
pub(super) struct Breaker {
    after: u32,
    rest: Duration,
    failures: u32,
    /// Until when the failures count; when they are enough, until when it is open.
    until: Option<Instant>,
    /// The call that is let through while it is half open.
    probe: Option<CallRef>,
}

impl Breaker {
    pub(super) fn new((after, rest): BreakerSpec) -> Self {
        Self { after, rest, failures: 0, until: None, probe: None }
    }

    fn has_tripped(&self) -> bool {
        self.failures >= self.after
    }

    /// Until when it is open, or was.
    pub(super) fn open_until(&self) -> Option<Instant> {
        self.until.filter(|_| self.has_tripped())
    }

    pub(super) fn is_open(&self, now: Instant) -> bool {
        self.open_until().is_some_and(|until| until > now)
    }

    /// Whether one made anew would be the same.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        !self.has_tripped() && self.until.is_none_or(|until| until <= now)
    }

    /// When it lets a call through: now, at an instant, or when another ends.
    pub(super) fn ready_at(&self, now: Instant) -> Deadline {
        match self.open_until() {
            Some(until) if until > now => Deadline::At(until),
            _ if self.has_tripped() && self.probe.is_some() => Deadline::Never,
            _ => Deadline::At(now),
        }
    }

    pub(super) fn let_through(&mut self, call: CallRef) {
        if self.has_tripped() {
            self.probe = Some(call);
        }
    }

    /// A call that was let through is over, or an attempt of it. `works` is what it says of the
    /// backend, if anything.
    pub(super) fn ended(&mut self, call: CallRef, works: Option<bool>, now: Instant) {
        if self.probe == Some(call) {
            self.probe = None;
        }
        match works {
            None => {}
            Some(true) => (self.failures, self.until) = (0, None),
            Some(false) => {
                if self.is_idle(now) {
                    self.failures = 0;
                }
                self.failures = self.failures.saturating_add(1);
                self.until = now.checked_add(self.rest);
            }
        }
    }
}

/// Whether an attempt's end shows that its backend works, if it shows anything: one that says no
/// works.
pub(super) fn works(outcome: &Outcome) -> Option<bool> {
    match outcome {
        Outcome::Succeeded(_) => Some(true),
        Outcome::Failed(error) => match error.kind() {
            ToolErrorKind::Cancelled => None,
            ToolErrorKind::InvalidArguments
            | ToolErrorKind::NotFound
            | ToolErrorKind::PermissionDenied
            | ToolErrorKind::Conflict
            | ToolErrorKind::BadResult => Some(true),
            ToolErrorKind::Other
            | ToolErrorKind::RateLimited
            | ToolErrorKind::Unavailable
            | ToolErrorKind::TimedOut => Some(false),
        },
        Outcome::Panicked(_) | Outcome::TimedOut { limit: Limit::Timeout, .. } => Some(false),
        // The batch had no more time, which says nothing of the call.
        Outcome::TimedOut { limit: Limit::Deadline, .. } => None,
        Outcome::Cancelled { .. } | Outcome::NotStarted(_) | Outcome::Rejected(_) => None,
    }
}

impl<P: Clone> Scheduler<P> {
    /// Ends the calls that only wait for a breaker that is open.
    pub(super) fn short_circuit(&mut self, now: Instant, out: &mut Vec<Action<P>>) {
        while self.room.pools.may_be_open(now) {
            let mut queued = self.waiting_for_permits(|terms| self.room.is_open(terms, now));
            queued.retain(|call| {
                self.slot(*call).is_some_and(|slot| {
                    matches!(slot.state, State::Ready | State::Exclusive)
                        && self.room.is_open(&slot.terms, now)
                })
            });
            if queued.is_empty() {
                return;
            }
            for call in queued {
                let last = self.slot(call).and_then(|slot| {
                    slot.last_attempt("not tried again, because the circuit is open")
                });
                let outcome = last.unwrap_or(Outcome::NotStarted(NotStarted::CircuitOpen));
                self.settle(call, outcome, now, out);
            }
        }
    }
}
