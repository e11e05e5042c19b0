//! Tools that share a backend.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Tools that share a backend share a group: a cap on how many run at once, a rate, the pause that
/// the backend asks for when it is rate limited, and a rest when it fails again and again.
///
/// Clones are the same group; two groups of one name are two groups, and so are a group and a clone
/// of it that was given other limits. Set the limits before the group is handed to tools.
///
/// ```
/// use std::time::Duration;
/// use toolpool::{Group, Tool, ToolSet};
///
/// // The warehouse stands two requests at once, and ten a second on average: in the first second
/// // nearly twenty may start, the ten that the bucket holds and those it is filled with.
/// let warehouse = Group::new("warehouse").max_parallel(2).rate(10, Duration::from_secs(1));
/// let tools = ToolSet::new()
///     .with(Tool::new("stock", "How many there are", || Ok(7)).read_only().group(&warehouse))
///     .with(Tool::new("order", "Orders one more", || Ok("ordered")).group(&warehouse));
/// # assert!(tools.check().is_ok());
/// ```
#[derive(Debug, Clone)]
pub struct Group(Arc<Settings>);

/// What a rate over a longer span is taken for: times are still added up with it.
const LONGEST_SPAN: Duration = Duration::from_secs(u32::MAX as u64);

#[derive(Debug, Clone)]
struct Settings {
    id: u64,
    name: String,
    cap: Option<usize>,
    rate: Option<(u32, Duration)>,
    breaker: Option<(u32, Duration)>,
}

impl Group {
    /// A group without limits of its own.
    pub fn new(name: impl Into<String>) -> Self {
        Self::of(Settings { id: 0, name: name.into(), cap: None, rate: None, breaker: None })
    }

    /// A group of its own with these settings.
    fn of(settings: Settings) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(Arc::new(Settings { id, ..settings }))
    }

    /// At most `cap` calls of the group's tools at once, abandoned ones included until they
    /// return. A cap of 0 is refused when a tool of the group is registered. Defaults to no cap.
    #[must_use]
    pub fn max_parallel(self, cap: usize) -> Self {
        Self::of(Settings { cap: Some(cap), ..Arc::unwrap_or_clone(self.0) })
    }

    /// `calls` starts a `span` on average, retries included, and at most `calls` at once: a token
    /// bucket that holds `calls` and is filled evenly. While it is emptied nearly twice as many start
    /// in one span, so for a backend with a hard window give half. No calls, or no span, are refused
    /// when a tool of the group is registered. Defaults to no limit.
    #[must_use]
    pub fn rate(self, calls: u32, span: Duration) -> Self {
        let rate = Some((calls, span.min(LONGEST_SPAN)));
        Self::of(Settings { rate, ..Arc::unwrap_or_clone(self.0) })
    }

    /// A circuit breaker: after `failures` in a row the group is left alone for `rest`. Calls of its
    /// tools that haven't started then, and new ones, end at once as
    /// [`NotStarted::CircuitOpen`](crate::NotStarted::CircuitOpen), or as their last attempt did.
    /// After the rest one call is let through while the others wait: when it succeeds all go on, and
    /// when it fails the group rests again. A call that had begun before and succeeds ends the rest,
    /// too. One that waits in a nested batch keeps the others waiting no longer, and one that waits for
    /// a key ends when it has that.
    ///
    /// Attempts count, over all batches, each not later than `rest` after the one before. One fails
    /// with a panic, its call's timeout or an error, unless its
    /// [kind](crate::ToolErrorKind) says that the backend gave an answer: `NotFound`,
    /// `PermissionDenied`, `Conflict`, `InvalidArguments`, `BadResult`. Calls that were cancelled or cut off by
    /// their batch's deadline don't count. No failures, or no rest, are refused when a tool of the
    /// group is registered. Defaults to none.
    ///
    /// ```
    /// use std::time::Duration;
    /// use toolpool::{Executor, Group, Tool, ToolCall, ToolError, ToolErrorKind, ToolSet, Turn};
    ///
    /// let backend = Group::new("search").break_after(2, Duration::from_secs(30)).max_parallel(1);
    /// let search = Tool::new("search", "Searches", || -> Result<(), _> {
    ///     Err(ToolError::new(ToolErrorKind::Unavailable, "the index is being rebuilt"))
    /// });
    /// let executor = Executor::new(ToolSet::new().with(search.group(&backend)))?;
    /// let turn = Turn::from_calls(["1", "2", "3"].map(|id| ToolCall::new(id, "search", "")));
    /// let report = executor.run(&turn);
    /// let ends: Vec<_> = report.calls().iter().map(|call| call.outcome.name()).collect();
    /// assert_eq!(ends, ["failed", "failed", "circuit_open"]);
    /// # Ok::<(), toolpool::Error>(())
    /// ```
    #[must_use]
    pub fn break_after(self, failures: u32, rest: Duration) -> Self {
        let breaker = Some((failures, rest.min(LONGEST_SPAN)));
        Self::of(Settings { breaker, ..Arc::unwrap_or_clone(self.0) })
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

    pub(crate) fn breaker(&self) -> Option<(u32, Duration)> {
        self.0.breaker
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_is_the_same_group_until_it_has_other_limits() {
        let group = Group::new("backend").max_parallel(2);
        assert_eq!(group.clone().id(), group.id());
        let wider = group.clone().max_parallel(3);
        assert_ne!(wider.id(), group.id());
        assert_eq!((group.cap(), wider.cap()), (Some(2), Some(3)));
        assert_ne!(Group::new("backend").id(), Group::new("backend").id());
    }
}
