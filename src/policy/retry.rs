//! How often a failed attempt is made again, and after which wait.

use std::time::Duration;

use crate::effect::Effect;
use crate::error::ToolError;
use crate::outcome::Outcome;
use crate::time::fraction;

/// How often a failed attempt is made again, and after which wait.
///
/// `Fallback(Timeout(Retry(handler)))`, outermost first: the call's one timeout spans all attempts
/// and the waits between them, and an attempt that can't start before the call's end isn't made.
///
/// Another attempt is made when all of this holds:
/// - the handler returned a failure that may pass
///   ([`ToolError::is_retryable`](crate::ToolError::is_retryable)), or panicked where
///   [`on_panic`](Self::on_panic) allows it; never after a timeout, because that attempt may still
///   run;
/// - the tool is read-only or idempotent, or the handler called this error
///   [safe to retry](crate::ToolError::safe_to_retry);
/// - there are retries left.
///
/// The wait before retry n is `backoff × factor^(n − 1)`, at most `max_backoff`, less a random part
/// of it up to `jitter`. Where the error says how long to wait, it is at least that long.
///
/// | setting | default | waits of the defaults |
/// | --- | --- | --- |
/// | `backoff` | 100 ms | 50–100 ms, 100–200 ms, 200–400 ms … |
/// | `factor` | 2 | |
/// | `max_backoff` | 10 s | |
/// | `jitter` | 0.5 | |
/// | `on_panic` | no | |
///
/// ```
/// use std::time::Duration;
/// use toolpool::{Retry, Tool};
///
/// let patient = Retry::times(4).backoff(Duration::from_secs(1)).jitter(0.2);
/// let tool = Tool::new("rates", "Exchange rates", || Ok([1.08, 0.85])).read_only().retry(patient);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    retries: u32,
    base: Duration,
    max: Duration,
    factor: f64,
    jitter: f64,
    on_panic: bool,
}

impl Retry {
    /// Up to `retries` retries: 2 retries are 3 attempts.
    pub fn times(retries: u32) -> Self {
        Self {
            retries,
            base: Duration::from_millis(100),
            max: Duration::from_secs(10),
            factor: 2.0,
            jitter: 0.5,
            on_panic: false,
        }
    }

    /// The wait before the first retry. Defaults to 100 ms.
    #[must_use]
    pub fn backoff(mut self, base: Duration) -> Self {
        self.base = base;
        self
    }

    /// The longest wait, except where the error asks for a longer one. Defaults to 10 s.
    #[must_use]
    pub fn max_backoff(mut self, max: Duration) -> Self {
        self.max = max;
        self
    }

    /// By how much each wait is longer than the one before. Less than 1 counts as 1, the same
    /// wait each time. Defaults to 2.
    #[must_use]
    pub fn factor(mut self, factor: f64) -> Self {
        self.factor = factor.max(1.0);
        self
    }

    /// Which part of a wait is random, from 0 (none) to 1 (all of it), so that calls that failed
    /// together don't come back together. Values outside are taken to the nearer end. Defaults to
    /// 0.5.
    #[must_use]
    pub fn jitter(mut self, part: f64) -> Self {
        self.jitter = if part > 0.0 { part.min(1.0) } else { 0.0 };
        self
    }

    /// Whether a panic is retried, too, where the tool is read-only or idempotent. Defaults to no.
    #[must_use]
    pub fn on_panic(mut self, retry: bool) -> Self {
        self.on_panic = retry;
        self
    }

    /// Whether there is another attempt after attempt number `attempt` (from 1) of a tool of this
    /// `effect` ended like this, and after which wait. `random` is any number.
    pub(crate) fn allows(
        &self,
        attempt: u32,
        effect: Effect,
        outcome: &Outcome,
        random: u64,
    ) -> Option<Duration> {
        let repeatable = matches!(effect, Effect::ReadOnly | Effect::Idempotent);
        match outcome {
            Outcome::Failed(error) if repeatable || error.is_safe_to_retry() => {
                self.wait(attempt, error, random)
            }
            Outcome::Panicked(_) if repeatable && self.on_panic => self.backoff_of(attempt, random),
            _ => None,
        }
    }

    /// The wait after attempt number `attempt` (from 1) failed with `error`; nothing where a retry
    /// can't help or none is left.
    pub(crate) fn wait(&self, attempt: u32, error: &ToolError, random: u64) -> Option<Duration> {
        if !error.is_retryable() {
            return None;
        }
        let asked = error.retry_after().unwrap_or_default();
        self.backoff_of(attempt, random).map(|wait| wait.max(asked))
    }

    fn backoff_of(&self, attempt: u32, random: u64) -> Option<Duration> {
        if attempt > self.retries {
            return None;
        }
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let grown = self.base.as_secs_f64() * self.factor.powi(exponent).min(f64::MAX);
        let wait = Duration::try_from_secs_f64(grown).unwrap_or(self.max).min(self.max);
        let less = wait.as_secs_f64() * self.jitter * fraction(random);
        Some(wait.saturating_sub(Duration::try_from_secs_f64(less).unwrap_or(wait)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ToolErrorKind;
    use crate::outcome::{Limit, NotStarted};

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn unavailable() -> ToolError {
        ToolError::of_kind(ToolErrorKind::Unavailable)
    }

    fn allowed(retry: &Retry, effect: Effect, outcome: &Outcome) -> bool {
        retry.allows(1, effect, outcome, 0).is_some()
    }

    #[test]
    fn two_retries_are_three_attempts() {
        let retry = Retry::times(2);
        let again: Vec<_> =
            (1..=3).map(|attempt| retry.wait(attempt, &unavailable(), 0).is_some()).collect();
        assert_eq!(again, [true, true, false]);
        assert_eq!(Retry::times(0).wait(1, &unavailable(), 0), None);
    }

    #[test]
    fn waits_grow_to_their_maximum_and_never_overflow() {
        let retry = Retry::times(u32::MAX).jitter(0.0).max_backoff(MS(700));
        let wait = |attempt| retry.wait(attempt, &unavailable(), 99).unwrap();
        assert_eq!([wait(1), wait(2), wait(3), wait(4)], [MS(100), MS(200), MS(400), MS(700)]);
        assert_eq!(wait(u32::MAX), MS(700));
        assert_eq!(wait(0), MS(100), "there is no attempt 0, and no overflow below it");

        let huge = Retry::times(9)
            .backoff(Duration::MAX)
            .max_backoff(Duration::MAX)
            .factor(f64::INFINITY)
            .jitter(0.0);
        assert_eq!(huge.wait(9, &unavailable(), 0), Some(Duration::MAX));
        let nothing = Retry::times(9).backoff(Duration::ZERO).factor(f64::INFINITY);
        assert_eq!(nothing.wait(9, &unavailable(), 0), Some(Duration::ZERO));
        let odd = Retry::times(9).factor(f64::NAN).jitter(f64::NAN);
        assert_eq!(odd.wait(5, &unavailable(), u64::MAX), Some(MS(100)));
    }

    #[test]
    fn jitter_takes_at_most_its_part_away() {
        let wait = |jitter, random| {
            Retry::times(1).jitter(jitter).wait(1, &unavailable(), random).unwrap()
        };
        assert_eq!(wait(0.5, 0), MS(100));
        assert!(wait(0.5, u64::MAX) >= MS(50) && wait(0.5, u64::MAX) < MS(51));
        assert_eq!(wait(0.5, u64::MAX / 2 + 1), MS(75));
        assert!(wait(1.0, u64::MAX) < MS(1));
        assert_eq!(wait(-3.0, u64::MAX), MS(100));
        assert!(wait(7.0, u64::MAX) < MS(1));
    }

    #[test]
    fn the_wait_that_the_backend_asks_for_is_kept() {
        let retry = Retry::times(1).jitter(0.0).max_backoff(MS(100));
        let wait = |asked| retry.wait(1, &unavailable().with_retry_after(asked), 0);
        assert_eq!(wait(MS(2000)), Some(MS(2000)), "past the longest backoff");
        assert_eq!(wait(MS(0)), Some(MS(100)), "and never sooner than ours");
        assert_eq!(wait(Duration::MAX), Some(Duration::MAX));
    }

    #[test]
    fn a_tool_that_mutates_is_retried_only_where_its_error_calls_it_safe() {
        let retry = Retry::times(1).on_panic(true);
        let failed = Outcome::Failed(unavailable());
        assert!(allowed(&retry, Effect::ReadOnly, &failed));
        assert!(allowed(&retry, Effect::Idempotent, &failed));
        assert!(!allowed(&retry, Effect::Mutating, &failed));
        assert!(!allowed(&retry, Effect::Mutating, &Outcome::Panicked(None)));
        let safe = Outcome::Failed(ToolError::from("not sent").safe_to_retry());
        assert!(allowed(&retry, Effect::Mutating, &safe));
    }

    #[test]
    fn a_panic_is_retried_only_on_request() {
        let panicked = Outcome::Panicked(None);
        assert!(!allowed(&Retry::times(1), Effect::ReadOnly, &panicked));
        assert!(allowed(&Retry::times(1).on_panic(true), Effect::ReadOnly, &panicked));
    }

    #[test]
    fn only_failures_that_may_pass_are_retried() {
        let retry = Retry::times(5).on_panic(true);
        let never = [
            Outcome::Failed(ToolError::of_kind(ToolErrorKind::NotFound)),
            Outcome::Failed(ToolError::from("no such customer")),
            Outcome::TimedOut { limit: Limit::Timeout, after: MS(1), still_running: false },
            Outcome::TimedOut { limit: Limit::Deadline, after: MS(1), still_running: true },
            Outcome::Cancelled { started: true, abort: None },
            Outcome::NotStarted(NotStarted::NoThread),
            Outcome::Succeeded("fine".into()),
        ];
        for outcome in never {
            assert!(!allowed(&retry, Effect::ReadOnly, &outcome), "{outcome:?}");
        }
    }
}
