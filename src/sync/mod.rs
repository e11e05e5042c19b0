//! What threads meet at: locks, channels, atomics, and threads themselves.
//!
//! Compiled with `--cfg shuttle` they are modelled ones, whose scheduling the tests in
//! `executor::model` vary. No logic of this crate is here.

#[cfg(shuttle)]
mod modelled;
#[cfg(not(shuttle))]
mod real;

#[cfg(shuttle)]
pub(crate) use modelled::{Condvar, Mutex, MutexGuard, atomic, channel, local, rest, thread};
#[cfg(not(shuttle))]
pub(crate) use real::{Condvar, Mutex, MutexGuard, atomic, channel, local, rest, thread};
