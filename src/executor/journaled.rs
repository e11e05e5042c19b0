//! What a run with a journal is given beside its settings: who writes it, and what is in it.

use std::sync::Arc;

use crate::executor::recorder::Recorder;
use crate::executor::run::Run;
use crate::outcome::Outcome;
use crate::turn::Turn;

impl<Of> Run<'_, Of> {
    /// Who writes down what mutating calls do.
    pub(crate) fn recorder(mut self, recorder: Option<Arc<dyn Recorder>>) -> Self {
        self.options.recorder = recorder;
        self
    }
}

impl<'a> Run<'a, &'a Turn> {
    /// Calls that aren't run because it is known how they ended.
    pub(crate) fn known(mut self, outcomes: Vec<(usize, Outcome)>) -> Self {
        self.options.known = outcomes;
        self
    }
}
