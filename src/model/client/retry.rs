//! Whether a request is made again, and when. Pure: no clock, no request.

use std::time::{Duration, SystemTime};

use crate::model::error::{ModelError, ModelErrorKind};
use crate::time::fraction;

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(8);

#[derive(Debug, Clone)]
pub(super) struct Retries {
    /// 2 retries are 3 attempts.
    pub(super) most: u32,
    /// The longest wait that a provider may ask for.
    pub(super) max_wait: Duration,
    /// Whether a request is sent again whose connection broke.
    pub(super) resend: bool,
}

impl Retries {
    /// The wait before the next attempt after attempt number `attempt` (from 1) ended like this;
    /// nothing where none is made. `random` is any number.
    ///
    /// A wait that the provider asks for is kept, and a little added, so that those who were
    /// turned away together don't come back together. One that leads past the deadline isn't
    /// begun.
    pub(super) fn wait(
        &self,
        attempt: u32,
        error: &ModelError,
        remaining: Option<Duration>,
        random: u64,
    ) -> Option<Duration> {
        let broken = error.kind() == ModelErrorKind::Interrupted && error.was_sent();
        if attempt > self.most || !error.is_transient() || (broken && !self.resend) {
            return None;
        }
        let fraction = fraction(random);
        let doubled = 2u32.checked_pow(attempt - 1).unwrap_or(u32::MAX);
        let backoff = FIRST_WAIT.saturating_mul(doubled).min(LONGEST_WAIT);
        let wait = match error.retry_after() {
            Some(asked) if asked > self.max_wait => return None,
            Some(asked) => asked.saturating_add(FIRST_WAIT.mul_f64(fraction / 2.0)),
            None => backoff.mul_f64(1.0 - fraction / 2.0),
        };
        remaining.is_none_or(|remaining| wait < remaining).then_some(wait)
    }
}

/// How long an answer asks to wait: `retry-after-ms`, else `retry-after` in seconds or as a date.
/// A date that has passed is no wait; what can't be read is passed over.
pub(super) fn asked_wait(
    milliseconds: Option<&str>,
    after: Option<&str>,
    now: SystemTime,
) -> Option<Duration> {
    let number = |text: &str| {
        text.trim().parse::<f64>().ok().filter(|number| *number >= 0.0 && number.is_finite())
    };
    let seconds = |number| Some(Duration::try_from_secs_f64(number).unwrap_or(Duration::MAX));
    if let Some(wait) = milliseconds.and_then(number) {
        return seconds(wait / 1000.0);
    }
    let after = after?;
    match number(after) {
        Some(number) => seconds(number),
        None => {
            let date = httpdate::parse_http_date(after.trim()).ok()?;
            Some(date.duration_since(now).unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRIES: Retries = Retries { most: 2, max_wait: Duration::from_secs(60), resend: true };

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn limited() -> ModelError {
        ModelError::new(ModelErrorKind::RateLimited, "p", "")
    }

    #[test]
    fn waits_grow_with_a_random_part_and_end_with_the_retries() {
        let wait = |attempt, random| RETRIES.wait(attempt, &limited(), None, random);
        assert_eq!(wait(1, 0), Some(FIRST_WAIT));
        assert_eq!(wait(2, 0), Some(FIRST_WAIT * 2));
        assert_eq!(wait(3, 0), None);
        let least = wait(1, u64::MAX).unwrap();
        assert!(least > FIRST_WAIT.mul_f64(0.49) && least < FIRST_WAIT.mul_f64(0.51), "{least:?}");
        let endless = Retries { most: u32::MAX, ..RETRIES };
        assert_eq!(endless.wait(u32::MAX, &limited(), None, 0), Some(LONGEST_WAIT));
    }

    #[test]
    fn fault_104_a_wait_that_is_asked_for_is_kept_unless_it_leads_past_the_end() {
        let wait = |seconds, remaining| {
            RETRIES.wait(1, &limited().with_retry_after(secs(seconds)), remaining, 0)
        };
        assert_eq!(wait(0, None), Some(secs(0)));
        assert_eq!(wait(2, None), Some(secs(2)));
        assert_eq!(wait(2, Some(secs(3))), Some(secs(2)));
        assert_eq!(wait(2, Some(secs(2))), None);
        assert_eq!(wait(3600, None), None, "longer than a program should sleep unasked");
        let patient = Retries { max_wait: secs(4000), ..RETRIES };
        let asked = limited().with_retry_after(secs(3600));
        assert_eq!(patient.wait(1, &asked, None, 0), Some(secs(3600)));
        assert!(patient.wait(1, &asked, None, u64::MAX).is_some_and(|wait| wait > secs(3600)));
    }

    #[test]
    fn fault_104_retry_after_is_seconds_or_a_date_or_garbage() {
        let now = SystemTime::UNIX_EPOCH + secs(1_000_000_000);
        let asked = |after: &str| asked_wait(None, Some(after), now);
        assert_eq!(asked("0"), Some(secs(0)));
        assert_eq!(asked(" 1.5 "), Some(Duration::from_millis(1500)));
        assert_eq!(asked("1e30"), Some(Duration::MAX), "longer than can be told is no \"at once\"");
        assert_eq!(asked(&httpdate::fmt_http_date(now + secs(7))), Some(secs(7)));
        assert_eq!(asked(&httpdate::fmt_http_date(now - secs(7))), Some(secs(0)));
        for garbage in ["", "soon", "-1", "1e400", "NaN", "Tue, 99 Foo"] {
            assert_eq!(asked(garbage), None, "{garbage}");
        }
        assert_eq!(asked_wait(Some("250"), Some("9"), now), Some(Duration::from_millis(250)));
        assert_eq!(asked_wait(Some("x"), Some("9"), now), Some(secs(9)));
    }

    #[test]
    fn fault_105_what_was_sent_is_sent_again_only_where_that_is_wanted() {
        let broken = || ModelError::new(ModelErrorKind::Interrupted, "p", "").sent();
        let careful = Retries { resend: false, ..RETRIES };
        assert!(RETRIES.wait(1, &broken(), None, 0).is_some());
        assert_eq!(careful.wait(1, &broken(), None, 0), None);
        let unsent = ModelError::new(ModelErrorKind::Unreachable, "p", "");
        assert!(careful.wait(1, &unsent, None, 0).is_some());
        assert!(careful.wait(1, &limited().sent(), None, 0).is_some(), "it was refused");
    }
}
