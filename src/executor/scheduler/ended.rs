//! How a call ended. Others may have the same end or hear of it, and a result may be large: what is
//! done under the lock doesn't depend on its size.

use std::ops::Deref;
use std::sync::Arc;

use crate::outcome::Outcome;

#[derive(Debug)]
pub(crate) enum Ended {
    Own(Outcome),
    Shared(Arc<Outcome>),
}

impl Ended {
    /// The outcome for somebody else, too.
    pub(super) fn share(&mut self) -> Arc<Outcome> {
        let shared = match self {
            Self::Shared(outcome) => Arc::clone(outcome),
            Self::Own(outcome) => Arc::new(std::mem::replace(outcome, Outcome::Panicked(None))),
        };
        *self = Self::Shared(Arc::clone(&shared));
        shared
    }

    /// The outcome, copied where others have it. Not under the lock.
    pub(super) fn into_outcome(self) -> Outcome {
        match self {
            Self::Own(outcome) => outcome,
            Self::Shared(outcome) => Arc::unwrap_or_clone(outcome),
        }
    }
}

impl From<Outcome> for Ended {
    fn from(outcome: Outcome) -> Self {
        Self::Own(outcome)
    }
}

impl Deref for Ended {
    type Target = Outcome;

    fn deref(&self) -> &Outcome {
        match self {
            Self::Own(outcome) => outcome,
            Self::Shared(outcome) => outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Output;

    #[test]
    fn who_shares_an_end_has_the_same_one_and_the_last_takes_it() {
        let text = "x".repeat(1 << 10);
        let at = text.as_ptr();
        let place = |outcome: &Outcome| match outcome {
            Outcome::Succeeded(Output::Text { text }) => text.as_ptr(),
            other => panic!("{other:?}"),
        };
        let mut ended = Ended::from(Outcome::Succeeded(Output::text(text)));
        let (first, second) = (ended.share(), Ended::Shared(ended.share()));
        assert_eq!([place(&ended), place(&first), place(&second)], [at; 3]);
        assert_ne!(place(&second.into_outcome()), at, "others have it");
        drop(first);
        assert_eq!(place(&ended.into_outcome()), at);
    }
}
