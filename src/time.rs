//! A point in time that may be "never".
//!
//! All arithmetic is on [`Instant`], so setting the wall clock has no effect. Time is an argument
//! wherever a decision depends on it; only the executor's threads look at the clock.

use std::time::{Duration, Instant};

/// What can be added to any instant, for what is longer.
#[cfg(feature = "agent")]
pub(crate) const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// What a random number takes of the part of a wait that is left to chance: from 0 up to but not 1.
pub(crate) fn fraction(random: u64) -> f64 {
    // The upper 53 bits are what a double holds.
    (random >> 11) as f64 / (1u64 << 53) as f64
}

/// When something has to be over: at an instant, or never.
///
/// Ordered: `Never` is later than every instant. An instant too far away to be represented is
/// `Never`, so `Deadline::after(now, Duration::MAX)` doesn't panic.
///
/// ```
/// use std::time::{Duration, Instant};
/// use toolpool::Deadline;
///
/// let now = Instant::now();
/// let soon = Deadline::after(now, Duration::from_secs(3));
/// assert!(soon < Deadline::Never);
/// assert_eq!(soon.remaining(now), Some(Duration::from_secs(3)));
/// assert_eq!(Deadline::after(now, Duration::MAX), Deadline::Never);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Deadline {
    /// At this instant.
    At(Instant),
    /// Without end.
    #[default]
    Never,
}

impl Deadline {
    /// The deadline `span` after `now`; [`Deadline::Never`] when that can't be represented.
    pub fn after(now: Instant, span: Duration) -> Self {
        now.checked_add(span).map_or(Self::Never, Self::At)
    }

    /// Time left at `now`, zero when it has passed; `None` for [`Deadline::Never`].
    pub fn remaining(self, now: Instant) -> Option<Duration> {
        match self {
            Self::At(at) => Some(at.saturating_duration_since(now)),
            Self::Never => None,
        }
    }

    /// Whether the deadline is at or before `now`.
    pub fn has_passed(self, now: Instant) -> bool {
        matches!(self, Self::At(at) if at <= now)
    }

    /// The deadline `span` earlier; `Never` stays `Never`, and so does an instant from which `span`
    /// can't be taken.
    pub fn earlier_by(self, span: Duration) -> Self {
        match self {
            Self::At(at) => at.checked_sub(span).map_or(self, Self::At),
            Self::Never => Self::Never,
        }
    }

    /// The instant, if there is one.
    pub fn instant(self) -> Option<Instant> {
        match self {
            Self::At(at) => Some(at),
            Self::Never => None,
        }
    }
}

impl From<Instant> for Deadline {
    fn from(at: Instant) -> Self {
        Self::At(at)
    }
}

impl From<Option<Instant>> for Deadline {
    fn from(at: Option<Instant>) -> Self {
        at.map_or(Self::Never, Self::At)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_052_spans_without_end_are_never_and_nothing_overflows() {
        let now = Instant::now();
        for span in [Duration::MAX, Duration::from_secs(u64::MAX), Duration::MAX / 2] {
            assert_eq!(Deadline::after(now, span), Deadline::Never);
        }
        let far = Deadline::after(now, Duration::from_secs(3600));
        assert_eq!(far.earlier_by(Duration::MAX), far);
        assert_eq!(Deadline::Never.earlier_by(Duration::MAX), Deadline::Never);
        assert_eq!(far.earlier_by(Duration::from_secs(3600)), Deadline::At(now));
    }

    #[test]
    fn what_is_past_has_no_time_left() {
        let now = Instant::now();
        let past = Deadline::At(now);
        let later = now + Duration::from_millis(5);
        assert!(past.has_passed(now) && past.has_passed(later));
        assert_eq!(past.remaining(later), Some(Duration::ZERO));
        assert!(!Deadline::Never.has_passed(later));
        assert_eq!(Deadline::Never.remaining(later), None);
        assert!(past < Deadline::At(later) && Deadline::At(later) < Deadline::Never);
        assert_eq!(Deadline::from(None), Deadline::Never);
        assert_eq!(Deadline::from(Some(now)).instant(), Some(now));
    }
}
