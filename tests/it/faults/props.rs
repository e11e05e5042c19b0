//! Tools and times that many cases use.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use toolpool::{Outcome, Tool};

use super::harness::Gate;

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

#[derive(Deserialize, JsonSchema)]
pub(crate) struct Number {
    pub(crate) n: u64,
}

pub(crate) fn number(n: u64) -> String {
    format!(r#"{{"n":{n}}}"#)
}

pub(crate) fn quick() -> Tool<()> {
    Tool::new("quick", "", || Ok("done"))
}

/// Waits for the gate, whatever it is told.
pub(crate) fn hangs(gate: &Gate) -> Tool<()> {
    let gate = gate.clone();
    Tool::new("hangs", "", move || {
        gate.wait();
        Ok("too late")
    })
}

pub(crate) fn still_running(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::TimedOut { still_running: true, .. })
}
