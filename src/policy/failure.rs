//! What one failed call does to the others of its batch.

use std::fmt;
use std::sync::Arc;

use crate::error::Error;
use crate::outcome::Outcome;
use crate::policy::abort_after::AbortAfter;
use crate::policy::custom::{Custom, Decide};
use crate::policy::require::Require;

/// What one failed call does to the others of its batch.
///
/// Whatever it decides, the report is complete: one result a call. An abort is told by
/// [`Report::aborted`](crate::Report::aborted).
///
/// | policy | the batch ends early |
/// | --- | --- |
/// | [`inline`](Self::inline), the default | never |
/// | [`abort_on_first`](Self::abort_on_first) | when a call has failed |
/// | [`abort_after(n)`](Self::abort_after) | when more than `n` calls have failed |
/// | [`require(names)`](Self::require) | when a call of one of these tools has failed |
/// | [`custom(f)`](Self::custom) | when `f` says so |
///
/// A policy sees how a call ended, not how its attempts did: a call that succeeds at its third
/// attempt has succeeded. All outcomes but [`Outcome::Succeeded`] are failures, a call that was
/// refused, didn't start in time, or was stopped by its batch's deadline among them.
///
/// What it doesn't do: undo what a call has done, or stop a thread. What runs is told to stop and
/// has its grace to do so.
#[derive(Clone, Default)]
pub struct FailurePolicy(Kind);

#[derive(Clone, Default)]
enum Kind {
    #[default]
    Inline,
    AbortAfter(AbortAfter),
    Require(Require),
    Custom(Custom),
}

/// What is known when a call has just settled.
#[derive(Debug, Clone, Copy)]
pub struct Settled<'a> {
    /// The call's index in the turn.
    pub index: usize,
    /// Its tool's name.
    pub name: &'a str,
    /// How it ended, all retries done.
    pub outcome: &'a Outcome,
    /// How many calls of the batch have succeeded so far, this one included.
    pub succeeded: usize,
    /// How many have failed so far, this one included.
    pub failed: usize,
    /// How many are still to settle.
    pub pending: usize,
}

impl Settled<'_> {
    /// How many calls the batch has, as far as they have been handed in.
    pub fn calls(&self) -> usize {
        self.succeeded + self.failed + self.pending
    }
}

/// What becomes of the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// It goes on.
    Continue,
    /// It has failed: what runs is cancelled, what waits isn't started.
    Abort,
    /// Enough has succeeded: what runs is cancelled, what waits isn't started.
    Enough,
}

impl FailurePolicy {
    /// Errors go back inline, each in its place; nothing is aborted. The default.
    pub fn inline() -> Self {
        Self(Kind::Inline)
    }

    /// Aborts the batch as soon as one call has failed; `abort_after(0)`.
    pub fn abort_on_first() -> Self {
        Self::abort_after(0)
    }

    /// Tolerates `failures` failed calls; the one after them aborts the batch. So `abort_after(2)`
    /// goes on after the second failure and aborts at the third.
    pub fn abort_after(failures: usize) -> Self {
        Self(Kind::AbortAfter(AbortAfter { failures }))
    }

    /// Aborts the batch when a call of one of these tools has failed. Failures of other tools go
    /// back inline, and a named tool that the model doesn't call isn't missed.
    ///
    /// A name that no tool has is a mistake, told as an [`Error`] when the executor is built. Where
    /// it is a run's own policy, the batch is aborted before anything starts.
    pub fn require(tools: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(Kind::Require(Require::new(tools.into_iter().map(Into::into))))
    }

    /// Asks `decide` each time a call has settled, on the thread that waits for the batch. No call
    /// of the batch starts until it has answered, so it must be quick: while it blocks, the batch
    /// can't meet its deadline. A panic in it aborts the batch. A [batch](crate::Batch) that still
    /// grows has nobody who waits for it: `decide` is asked in [`finish`](crate::Batch::finish) of
    /// the calls that have ended by then, and until then it holds up no other.
    ///
    /// # A quorum
    /// Enough when `k` calls have succeeded, or all where the turn has fewer; aborted at once when
    /// that has become impossible.
    ///
    /// ```
    /// use toolpool::{Decision, FailurePolicy, Outcome, Output, Settled};
    ///
    /// fn quorum(k: usize) -> impl Fn(&Settled<'_>) -> Decision + Send + Sync {
    ///     move |batch| {
    ///         let needed = k.min(batch.calls());
    ///         if batch.succeeded >= needed {
    ///             Decision::Enough
    ///         } else if batch.succeeded + batch.pending < needed {
    ///             Decision::Abort
    ///         } else {
    ///             Decision::Continue
    ///         }
    ///     }
    /// }
    /// let policy = FailurePolicy::custom(quorum(2));
    ///
    /// // What it says of a turn of four calls:
    /// let outcome = &Outcome::Succeeded(Output::text("4 in stock"));
    /// let ended = |succeeded, failed| {
    ///     let pending = 4 - succeeded - failed;
    ///     Settled { index: 0, name: "stock", outcome, succeeded, failed, pending }
    /// };
    /// assert_eq!(quorum(2)(&ended(1, 2)), Decision::Continue);
    /// assert_eq!(quorum(2)(&ended(2, 1)), Decision::Enough);
    /// assert_eq!(quorum(2)(&ended(1, 3)), Decision::Abort, "one success, and nobody left");
    /// assert_eq!(quorum(9)(&ended(3, 0)), Decision::Continue, "nine of four are all four");
    /// assert_eq!(quorum(9)(&ended(2, 1)), Decision::Abort);
    /// assert_eq!(quorum(0)(&ended(0, 1)), Decision::Enough);
    /// ```
    ///
    /// # First success
    /// A race of several sources: the first result ends the batch, a failure ends nothing. A
    /// result that comes later is dropped.
    ///
    /// ```
    /// use toolpool::{Decision, FailurePolicy, Outcome, Output, Settled};
    ///
    /// fn first_success(batch: &Settled<'_>) -> Decision {
    ///     if batch.succeeded > 0 { Decision::Enough } else { Decision::Continue }
    /// }
    /// let policy = FailurePolicy::custom(first_success);
    ///
    /// let outcome = &Outcome::Succeeded(Output::text("51.5 N"));
    /// let ended = |succeeded, failed| {
    ///     let pending = 3 - succeeded - failed;
    ///     Settled { index: 1, name: "geocode", outcome, succeeded, failed, pending }
    /// };
    /// assert_eq!(first_success(&ended(0, 1)), Decision::Continue);
    /// assert_eq!(first_success(&ended(1, 1)), Decision::Enough);
    /// ```
    pub fn custom(decide: impl Fn(&Settled<'_>) -> Decision + Send + Sync + 'static) -> Self {
        Self(Kind::Custom(Custom(Arc::new(decide))))
    }

    /// The policy's function where it is user code, which must not run under a lock.
    pub(crate) fn as_custom(&self) -> Option<&Arc<Decide>> {
        match &self.0 {
            Kind::Custom(custom) => Some(&custom.0),
            Kind::Inline | Kind::AbortAfter(_) | Kind::Require(_) => None,
        }
    }

    /// The decision of a policy that isn't user code; [`Decision::Continue`] for one that is.
    pub(crate) fn decide(&self, settled: &Settled<'_>) -> Decision {
        match &self.0 {
            Kind::Inline | Kind::Custom(_) => Decision::Continue,
            Kind::AbortAfter(policy) => policy.decide(settled),
            Kind::Require(policy) => policy.decide(settled),
        }
    }

    /// Whether the policy makes sense for these tools; `find` tells whether there is one of a
    /// name, or else the name that was probably meant.
    pub(crate) fn check<'a>(
        &self,
        find: impl Fn(&str) -> Result<usize, Option<&'a str>>,
    ) -> Result<(), Error> {
        match &self.0 {
            Kind::Require(policy) => policy.check(find),
            Kind::Inline | Kind::AbortAfter(_) | Kind::Custom(_) => Ok(()),
        }
    }
}

impl fmt::Debug for FailurePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Inline => f.write_str("FailurePolicy::inline()"),
            Kind::AbortAfter(policy) => write!(f, "FailurePolicy::{policy:?}"),
            Kind::Require(policy) => write!(f, "FailurePolicy::{policy:?}"),
            Kind::Custom(policy) => write!(f, "FailurePolicy::{policy:?}"),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::error::ToolError;
    use crate::output::Output;

    pub(in crate::policy) fn success() -> Outcome {
        Outcome::Succeeded(Output::text("fine"))
    }

    pub(in crate::policy) fn failure() -> Outcome {
        Outcome::Failed(ToolError::from("broken"))
    }

    /// What a policy decides, call by call, when the calls settle in this order.
    pub(in crate::policy) fn decisions(
        policy: &FailurePolicy,
        calls: &[(&str, Outcome)],
    ) -> Vec<Decision> {
        let (mut succeeded, mut failed) = (0, 0);
        let decide = |(index, (name, outcome)): (usize, &(&str, Outcome))| {
            if outcome.is_success() {
                succeeded += 1;
            } else {
                failed += 1;
            }
            let pending = calls.len() - succeeded - failed;
            let settled = Settled { index, name, outcome, succeeded, failed, pending };
            match policy.as_custom() {
                Some(custom) => custom(&settled),
                None => policy.decide(&settled),
            }
        };
        calls.iter().enumerate().map(decide).collect()
    }

    #[test]
    fn fault_068_inline_never_ends_a_batch() {
        let calls = [("a", failure()), ("b", success()), ("c", failure())];
        assert_eq!(decisions(&FailurePolicy::default(), &calls), [Decision::Continue; 3]);
    }

    #[test]
    fn debug_shows_what_the_policy_is() {
        let shown = [
            FailurePolicy::inline(),
            FailurePolicy::abort_on_first(),
            FailurePolicy::abort_after(2),
            FailurePolicy::require(["a", "b"]),
            FailurePolicy::custom(|_| Decision::Continue),
        ]
        .map(|policy| format!("{policy:?}"));
        assert_eq!(
            shown,
            [
                "FailurePolicy::inline()",
                "FailurePolicy::abort_after(0)",
                "FailurePolicy::abort_after(2)",
                r#"FailurePolicy::require(["a", "b"])"#,
                "FailurePolicy::custom(..)",
            ]
        );
    }
}
