//! A model whose requests are made no faster than all rows together may.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::Level;
use parking_lot::Mutex;

use crate::cancel::CancelToken;
use crate::logging::log;
use crate::model::{Model, ModelError, ModelErrorKind, Request, StreamEvent};
use crate::rows::pace::Pace;
use crate::rows::row::Stopped;
use crate::time::FOR_EVER;
use crate::turn::{Turn, Wire};

const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What a run may take.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Budgets {
    pub(super) max_tokens: Option<u64>,
    pub(super) max_failures: Option<u64>,
}

/// What all rows of a run share.
pub(super) struct Shared {
    state: Mutex<State>,
    max_tokens: Option<u64>,
    max_failures: Option<u64>,
    retries: u32,
    pub(super) cancel: CancelToken,
    /// Cancelled with `cancel`, and when the run stops for another reason: ends waits for a turn.
    halted: CancelToken,
}

struct State {
    pace: Pace,
    /// Taken so far, in earlier runs of the journal, too.
    tokens: u64,
    failures: u64,
    stopped: Option<Stopped>,
}

impl Shared {
    pub(super) fn new(
        pace: Pace,
        tokens: u64,
        budgets: &Budgets,
        retries: u32,
        cancel: CancelToken,
    ) -> Self {
        let state = Mutex::new(State { pace, tokens, failures: 0, stopped: None });
        let Budgets { max_tokens, max_failures } = *budgets;
        let halted = cancel.child();
        Self { state, max_tokens, max_failures, retries, cancel, halted }
    }

    /// A row has failed; false, and it isn't counted, where the run was stopped before.
    pub(super) fn fails(&self) -> bool {
        let mut state = self.state.lock();
        if state.stopped.is_some() {
            return false;
        }
        state.failures += 1;
        if self.max_failures.is_some_and(|most| state.failures > most) {
            state.stopped = Some(Stopped::Failures);
            drop(state);
            self.halted.cancel();
        }
        true
    }

    /// No row begins any more, and no request is made; the first reason counts.
    pub(super) fn stop(&self, why: Stopped) {
        self.state.lock().stopped.get_or_insert(why);
        self.halted.cancel();
        if matches!(why, Stopped::Cancelled | Stopped::Journal) {
            self.cancel.cancel();
        }
    }

    pub(super) fn stopped(&self) -> Option<Stopped> {
        let stopped = self.state.lock().stopped;
        stopped.or_else(|| self.cancel.is_cancelled().then_some(Stopped::Cancelled))
    }

    /// Waits until a request may be made.
    fn wait(&self, request: &Request<'_>, name: &str) -> Result<u64, ModelError> {
        loop {
            let now = Instant::now();
            let admitted = {
                let mut state = self.state.lock();
                if self.max_tokens.is_some_and(|most| state.tokens >= most) {
                    state.stopped.get_or_insert(Stopped::Tokens);
                }
                if state.stopped.is_some() {
                    drop(state);
                    self.halted.cancel();
                    let why = "the run was stopped";
                    return Err(ModelError::new(ModelErrorKind::Cancelled, name, why));
                }
                state.pace.admit(now)
            };
            let at = match admitted {
                Ok(ticket) => return Ok(ticket),
                Err(at) => at,
            };
            if request.deadline.instant().is_some_and(|deadline| deadline < at) {
                let why = "its turn comes after the deadline";
                return Err(ModelError::new(ModelErrorKind::TimedOut, name, why));
            }
            let slept = self.halted.sleep(at.saturating_duration_since(now));
            if !slept && request.cancel.is_cancelled() {
                return Err(ModelError::new(ModelErrorKind::Cancelled, name, ""));
            }
        }
    }

    fn took(&self, ticket: u64, turn: &Turn) {
        let usage = turn.usage();
        let tokens = usage.input_tokens.saturating_add(usage.output_tokens);
        let mut state = self.state.lock();
        state.tokens = state.tokens.saturating_add(tokens);
        state.pace.took(ticket, tokens);
    }

    /// Makes all rows wait.
    fn pause(&self, error: &ModelError, attempt: u32) {
        let doubled = Duration::from_secs(1 << attempt.min(6)).min(LONGEST_PAUSE);
        let wait = error.retry_after().unwrap_or(doubled);
        log(Level::Info, format_args!("all rows wait {wait:?}: {error}"));
        let now = Instant::now();
        if let Some(until) = now.checked_add(wait).or_else(|| now.checked_add(FOR_EVER)) {
            self.state.lock().pace.pause(until);
        }
    }
}

/// A model that waits for its turn.
pub(super) struct Paced {
    pub(super) model: Arc<dyn Model>,
    pub(super) shared: Arc<Shared>,
}

impl Paced {
    fn persistently(
        &self,
        request: &Request<'_>,
        mut ask: impl FnMut(u32) -> Result<Turn, ModelError>,
    ) -> Result<Turn, ModelError> {
        let mut attempt = 0;
        loop {
            let ticket = self.shared.wait(request, self.model.name())?;
            match ask(attempt) {
                Ok(turn) => {
                    self.shared.took(ticket, &turn);
                    return Ok(turn);
                }
                Err(error) if error.is_rate_limited() => {
                    self.shared.pause(&error, attempt);
                    if attempt >= self.shared.retries {
                        return Err(error);
                    }
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Model for Paced {
    fn name(&self) -> &str {
        self.model.name()
    }

    fn wire(&self) -> Wire {
        self.model.wire()
    }

    fn respond(&self, request: &Request<'_>) -> Result<Turn, ModelError> {
        self.persistently(request, |_| self.model.respond(request))
    }

    fn stream(
        &self,
        request: &Request<'_>,
        tell: &mut dyn FnMut(StreamEvent<'_>),
    ) -> Result<Turn, ModelError> {
        self.persistently(request, |attempt| {
            if attempt > 0 {
                tell(StreamEvent::Restarted);
            }
            self.model.stream(request, tell)
        })
    }
}
