//! What is logged. The logger is the user's: it may panic, and nothing here does for that.

use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use log::Level;

pub(super) fn say(level: Level, what: fmt::Arguments<'_>) {
    if level > log::max_level() {
        return;
    }
    let logged = catch_unwind(AssertUnwindSafe(|| log::log!(target: "toolpool", level, "{what}")));
    if let Err(payload) = logged {
        // Its drop may panic, too.
        mem::forget(payload);
    }
}

pub(super) fn warn(what: fmt::Arguments<'_>) {
    say(Level::Warn, what);
}
