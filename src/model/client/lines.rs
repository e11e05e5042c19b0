//! Connections to a provider: one agent for each request under way, so that cancelling one leaves
//! the others alone, kept afterwards so that the next request finds an open connection.

use std::sync::Arc;

use parking_lot::Mutex;
use ureq::Agent;
use ureq::config::Config;
use ureq::unversioned::transport::DefaultConnector;

use crate::cancel::{CancelToken, OnCancel};
use crate::model::client::resolve::{LineResolver, Names};

/// Most agents kept for later.
const MOST_IDLE: usize = 16;

/// The agents of one client.
#[derive(Debug)]
pub(super) struct Lines {
    config: Config,
    names: Names,
    idle: Mutex<Vec<Line>>,
}

#[derive(Debug)]
struct Line {
    agent: Agent,
    /// Of the request it is used for.
    cancel: Arc<Mutex<CancelToken>>,
}

impl Lines {
    pub(super) fn new(config: Config, names: Names) -> Self {
        Self { config, names, idle: Mutex::default() }
    }

    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    /// An agent for one request. When `cancel` is cancelled, what the agent does is interrupted.
    pub(super) fn lease(&self, cancel: &CancelToken) -> Lease<'_> {
        let line = self.idle.lock().pop().unwrap_or_else(|| self.line());
        *line.cancel.lock() = cancel.clone();
        let agent = line.agent.clone();
        let alive = Arc::new(Mutex::new(Some(line)));
        let on_cancel = cancel.on_cancel({
            let alive = Arc::clone(&alive);
            move || {
                // Under the lock, so that an agent is either shut down or kept for another request.
                let mut alive = alive.lock();
                if let Some(line) = alive.take() {
                    line.agent.shutdown();
                }
            }
        });
        Lease { lines: self, agent, alive, _on_cancel: on_cancel }
    }

    fn line(&self) -> Line {
        let cancel = Arc::default();
        let resolver = LineResolver { names: self.names.clone(), cancel: Arc::clone(&cancel) };
        let connector = DefaultConnector::default();
        Line { agent: Agent::with_parts(self.config.clone(), connector, resolver), cancel }
    }
}

/// An agent while one request uses it.
pub(super) struct Lease<'a> {
    lines: &'a Lines,
    pub(super) agent: Agent,
    alive: Arc<Mutex<Option<Line>>>,
    _on_cancel: OnCancel,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let Some(line) = self.alive.lock().take() else { return };
        *line.cancel.lock() = CancelToken::new();
        let mut idle = self.lines.idle.lock();
        if idle.len() < MOST_IDLE {
            idle.push(line);
        }
    }
}
