//! A budget of failures.

use std::fmt;

use crate::policy::failure::{Decision, Settled};

/// Tolerates so many failures; the next one aborts.
#[derive(Clone, Copy)]
pub(super) struct AbortAfter {
    pub(super) failures: usize,
}

impl AbortAfter {
    pub(super) fn decide(self, settled: &Settled<'_>) -> Decision {
        let over = settled.failed > self.failures;
        if over && !settled.outcome.is_success() { Decision::Abort } else { Decision::Continue }
    }
}

impl fmt::Debug for AbortAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "abort_after({})", self.failures)
    }
}

#[cfg(test)]
mod tests {
    use super::Decision::{Abort, Continue};
    use crate::policy::failure::FailurePolicy;
    use crate::policy::failure::tests::{decisions, failure, success};

    #[test]
    fn fault_069_the_first_failure_aborts() {
        let calls = [("a", success()), ("b", failure()), ("c", success())];
        assert_eq!(
            decisions(&FailurePolicy::abort_on_first(), &calls),
            [Continue, Abort, Continue]
        );
    }

    #[test]
    fn fault_078_a_budget_of_k_failures_trips_exactly_at_k_plus_1() {
        let calls = [("a", failure()), ("b", failure()), ("c", success()), ("d", failure())];
        let at = |failures| {
            let decided = decisions(&FailurePolicy::abort_after(failures), &calls);
            decided.iter().position(|decision| *decision == Abort)
        };
        assert_eq!([at(0), at(1), at(2), at(3)], [Some(0), Some(1), Some(3), None]);
        assert_eq!(at(usize::MAX), None);
    }
}
