//! The scheduler alone, in virtual time: random event orders against promises and a model of what
//! may run, and directed cases.

mod checks;
mod plan;
mod random;
mod simulation;
mod world;
