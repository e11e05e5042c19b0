//! A policy that is the user's own code.

use std::fmt;
use std::sync::Arc;

use crate::policy::failure::{Decision, Settled};

/// What the user's function is.
pub(crate) type Decide = dyn Fn(&Settled<'_>) -> Decision + Send + Sync;

/// The user's function: it may block or panic, so it is called without a lock.
#[derive(Clone)]
pub(super) struct Custom(pub(super) Arc<Decide>);

impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("custom(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::Decision::{Abort, Continue, Enough};
    use crate::policy::failure::FailurePolicy;
    use crate::policy::failure::tests::{decisions, failure, success};

    #[test]
    fn a_custom_policy_sees_the_counts_with_the_call_included() {
        let policy = FailurePolicy::custom(|batch| {
            assert_eq!(batch.calls(), 3);
            match (batch.succeeded, batch.failed, batch.pending) {
                (1, 0, 2) => Continue,
                (1, 1, 1) => Abort,
                (2, 1, 0) => Enough,
                counts => panic!("{counts:?}"),
            }
        });
        let calls = [("a", success()), ("b", failure()), ("c", success())];
        assert_eq!(decisions(&policy, &calls), [Continue, Abort, Enough]);
    }
}
