//! What is logged. The logger is the user's: it may panic or block, and nothing here does for that.
//!
//! A thread that nobody waits for logs its lines itself, with [`say`]. Whoever is waited for, or
//! holds a lock, leaves them with [`later`] to a thread that is started for them and ends when they
//! are logged. Where the system gives no thread they are kept for it.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use log::Level;
use parking_lot::Mutex;

pub(super) use crate::logging::log as say;

/// Most lines that wait to be logged. What comes beyond them is counted.
const MOST_LINES: usize = 4096;

static LATER: Mutex<Later> = Mutex::new(Later::new());

struct Later {
    lines: VecDeque<(Level, String)>,
    dropped: u64,
    /// Whether a thread logs them.
    logging: bool,
}

impl Later {
    const fn new() -> Self {
        Self { lines: VecDeque::new(), dropped: 0, logging: false }
    }

    fn push(&mut self, level: Level, line: String) {
        if self.lines.len() < MOST_LINES {
            self.lines.push_back((level, line));
        } else {
            self.dropped += 1;
        }
    }

    /// Starts a thread if one is needed.
    fn start(&mut self) {
        if !self.logging && !self.lines.is_empty() {
            let life: Box<dyn FnOnce() + Send> = Box::new(log_lines);
            let spawned = thread::Builder::new().name("toolpool-log".to_owned()).spawn(life);
            self.logging = spawned.is_ok();
        }
    }

    /// The next line; of those that were dropped once there is no other.
    fn next(&mut self) -> Option<(Level, String)> {
        self.lines.pop_front().or_else(|| {
            let dropped = mem::take(&mut self.dropped);
            let line = || format!("{dropped} lines were not logged: the logger is too slow");
            (dropped > 0).then(|| (Level::Warn, line()))
        })
    }
}

/// Whether a worker logs on its own thread.
static SAYING: AtomicBool = AtomicBool::new(false);

/// Logs on this thread, a worker's, unless another one does so already: a logger that blocks is to
/// cost one.
pub(super) fn say_or_later(level: Level, what: fmt::Arguments<'_>) {
    if SAYING.swap(true, Ordering::Relaxed) {
        later(level, what);
    } else {
        say(level, what);
        SAYING.store(false, Ordering::Relaxed);
    }
}

/// Has it logged by another thread.
pub(super) fn later(level: Level, what: fmt::Arguments<'_>) {
    if level > log::max_level() {
        return;
    }
    let line = what.to_string();
    let mut later = LATER.lock();
    later.push(level, line);
    later.start();
}

/// Whether by now there is a thread for lines that were kept.
pub(super) fn catch_up() {
    LATER.lock().start();
}

/// As [`later`], as a warning.
pub(super) fn warn(what: fmt::Arguments<'_>) {
    later(Level::Warn, what);
}

fn log_lines() {
    loop {
        let mut later = LATER.lock();
        let Some((level, line)) = later.next() else {
            later.logging = false;
            return;
        };
        drop(later);
        say(level, format_args!("{line}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_lines_than_may_wait_are_counted() {
        let mut later = Later::new();
        for n in 0..MOST_LINES + 3 {
            later.push(Level::Info, n.to_string());
        }
        for n in 0..MOST_LINES {
            assert_eq!(later.next(), Some((Level::Info, n.to_string())));
        }
        let told = "3 lines were not logged: the logger is too slow";
        assert_eq!(later.next(), Some((Level::Warn, told.to_owned())));
        assert_eq!(later.next(), None);
    }
}
