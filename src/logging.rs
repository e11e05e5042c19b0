//! Lines for who runs the program. The logger is the user's: it may panic, and nothing that goes on
//! here ends for that.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use log::Level;

use crate::text::Shown;

/// Most characters of a line.
const LONGEST: usize = 4096;

/// Logs on this thread, on one line: what a model or a provider wrote can't look like another one.
pub(crate) fn log(level: Level, what: fmt::Arguments<'_>) {
    if level > log::max_level() {
        return;
    }
    let line = what.to_string();
    let line = Shown::new(&line, LONGEST);
    let logged = catch_unwind(AssertUnwindSafe(|| log::log!(target: "toolpool", level, "{line}")));
    if let Err(payload) = logged {
        // Its drop may panic, too.
        std::mem::forget(payload);
    }
}
