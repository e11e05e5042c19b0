//! Tools that share a backend.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Tools that share a backend share a group: a cap on how many run at once, a rate, and the pause
/// that the backend asks for when it is rate limited.
///
/// Clones are the same group; two groups of one name are two groups.
#[derive(Debug, Clone)]
pub struct Group(Arc<Settings>);

#[derive(Debug, Clone)]
struct Settings {
    id: u64,
    name: String,
    cap: Option<usize>,
    rate: Option<(u32, Duration)>,
}

impl Group {
    /// A group without limits of its own.
    pub fn new(name: impl Into<String>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(Arc::new(Settings { id, name: name.into(), cap: None, rate: None }))
    }

    /// At most `cap` calls of the group's tools at once, abandoned ones included until they
    /// return. Defaults to no cap.
    #[must_use]
    pub fn max_parallel(self, cap: usize) -> Self {
        Self(Arc::new(Settings { cap: Some(cap), ..(*self.0).clone() }))
    }

    /// `calls` starts a `span` on average, retries included, and at most `calls` at once: a token
    /// bucket that holds `calls` and is filled evenly. Defaults to no limit.
    #[must_use]
    pub fn rate(self, calls: u32, span: Duration) -> Self {
        Self(Arc::new(Settings { rate: Some((calls, span)), ..(*self.0).clone() }))
    }

    /// The name, for reports and logs.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub(crate) fn id(&self) -> u64 {
        self.0.id
    }

    pub(crate) fn cap(&self) -> Option<usize> {
        self.0.cap
    }

    pub(crate) fn rate_limit(&self) -> Option<(u32, Duration)> {
        self.0.rate
    }
}
