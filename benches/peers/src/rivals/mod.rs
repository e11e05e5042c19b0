//! The rivals: each runs the same calls its own way. Measures nothing but the time of one turn.

mod agnt;
mod plain;
mod pool;
mod rig;
mod script;

use std::time::Duration;

use crate::work::Work;

/// One turn's worth of calls, run.
#[derive(Debug)]
pub struct Ran {
    /// From the calls being known until all results are there. An agent's: from the moment the
    /// model's message is handed to it until it asks the model again.
    pub took: Duration,
    /// In call order; none where there is no result.
    pub results: Vec<Option<String>>,
}

pub trait Rival {
    /// Gets ready to run these calls; not timed.
    fn prepare(&mut self, calls: &[Work]);

    fn run(&mut self) -> Ran;
}

/// What a rival is made with.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How many calls may run at once; each rival gets as many threads as it has a setting for.
    pub threads: usize,
    /// When the turn should be over, for a rival that can be told.
    pub deadline: Option<Duration>,
}

/// A rival as the tables know it.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    pub name: &'static str,
    /// How it was told the deadline when one call hangs; none where nothing can be said.
    pub deadline: Option<&'static str>,
    pub make: fn(Settings) -> Box<dyn Rival>,
}

pub const TOOLPOOL: &str = "toolpool";
pub const TOKIO: &str = "tokio spawn_blocking + join_all";
pub const BARE: &str = "bare hand-offs";
pub const SCOPE: &str = "thread::scope";

pub const ALL: &[Entry] = &[
    Entry {
        name: TOOLPOOL,
        deadline: Some("`deadline` of the executor"),
        make: |settings| Box::new(pool::Toolpool::new(settings, false)),
    },
    Entry {
        name: "toolpool, reply written",
        deadline: Some("`deadline` of the executor"),
        make: |settings| Box::new(pool::Toolpool::new(settings, true)),
    },
    Entry { name: BARE, deadline: None, make: |settings| Box::new(plain::Bare::new(settings)) },
    Entry { name: SCOPE, deadline: None, make: |_| Box::new(plain::Scope::default()) },
    Entry {
        name: "rayon par_iter",
        deadline: None,
        make: |settings| Box::new(plain::Rayon::new(settings, false)),
    },
    Entry {
        name: "rayon::scope",
        deadline: None,
        make: |settings| Box::new(plain::Rayon::new(settings, true)),
    },
    Entry {
        name: TOKIO,
        deadline: Some("`timeout` around each handle"),
        make: |settings| Box::new(plain::Tokio::new(settings)),
    },
    Entry {
        name: "rig, blocking tools",
        deadline: Some("`timeout` around the prompt; it has none of its own"),
        make: |settings| Box::new(rig::Rig::new(settings, false)),
    },
    Entry {
        name: "rig, async tools",
        deadline: Some("`timeout` around the prompt; it has none of its own"),
        make: |settings| Box::new(rig::Rig::new(settings, true)),
    },
    Entry {
        name: "agnt",
        deadline: Some("`max_step_duration`"),
        make: |settings| Box::new(agnt::Agnt::new(settings)),
    },
];

pub fn named(name: &str) -> Option<&'static Entry> {
    ALL.iter().find(|entry| entry.name == name)
}
