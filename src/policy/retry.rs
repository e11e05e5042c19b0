//! How often a failed attempt is made again, and after which wait.

use std::time::Duration;

/// How often a failed attempt is made again, and after which wait.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    retries: u32,
    base: Duration,
    max: Duration,
    factor: f64,
    jitter: f64,
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
        }
    }
}
