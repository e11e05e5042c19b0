//! The model that an agent is given: it plays two answers, the calls and the end. A turn is timed
//! from its first answer to the second question.

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Ran;
use crate::work::Work;

#[derive(Clone, Default)]
pub struct Script(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    calls: Vec<Work>,
    answered: Option<Instant>,
    took: Option<Duration>,
    results: Vec<Option<String>>,
}

impl Script {
    pub fn prepare(&self, calls: &[Work]) {
        self.0.lock().calls = calls.to_vec();
    }

    /// The agent asks: it is answered with these calls, or with none when it has their results.
    pub fn asked<T>(
        &self,
        results: impl FnOnce() -> Vec<Option<String>>,
        answer: impl FnOnce(Option<&[Work]>) -> T,
    ) -> T {
        let now = Instant::now();
        let mut state = self.0.lock();
        let answer = match state.answered {
            None => answer(Some(&state.calls)),
            Some(answered) => {
                state.took = Some(now - answered);
                state.results = results();
                answer(None)
            }
        };
        state.answered = Some(Instant::now());
        answer
    }

    /// Lets the agent go through it once. One that didn't ask again took as long as it ran.
    pub fn ran<T, E: Display>(&self, agent: impl FnOnce() -> Result<T, E>) -> Ran {
        {
            let mut state = self.0.lock();
            *state = State { calls: std::mem::take(&mut state.calls), ..State::default() };
        }
        let start = Instant::now();
        let ended = agent();
        let mut state = self.0.lock();
        if let Err(error) = ended {
            state.results.push(Some(format!("the run ended: {error}")));
        }
        let took = state.took.unwrap_or_else(|| start.elapsed());
        Ran { took, results: std::mem::take(&mut state.results) }
    }
}
