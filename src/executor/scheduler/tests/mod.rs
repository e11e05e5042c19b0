//! The scheduler alone, in virtual time: random event orders against promises and a model of what
//! may run, and directed cases.

mod checks;
mod ends;
mod limits;
mod nested;
mod order;
mod plan;
mod random;
mod rig;
mod simulation;
mod world;
