//! What a tool does here: the same body for every rival. Knows no rival.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What one call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    NoOp,
    /// Sleeps 5 ms.
    Nap,
    /// Sleeps 20 ms.
    LongNap,
    Fail,
    Hang,
    Panic,
}

/// What a call answers that ends well.
pub const DONE: &str = "done";

/// The longest run inside a handler since it was last asked for, in nanoseconds.
static LONGEST: AtomicU64 = AtomicU64::new(0);

impl Work {
    pub const ALL: [Self; 6] =
        [Self::NoOp, Self::Nap, Self::LongNap, Self::Fail, Self::Hang, Self::Panic];

    pub fn name(self) -> &'static str {
        match self {
            Self::NoOp => "no_op",
            Self::Nap => "nap",
            Self::LongNap => "long_nap",
            Self::Fail => "fail",
            Self::Hang => "hang",
            Self::Panic => "panic",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|work| work.name() == name)
    }

    fn nap(self) -> Duration {
        Duration::from_millis(if self == Self::LongNap { 20 } else { 5 })
    }

    /// Does it, and keeps the thread for as long.
    pub fn call(self) -> Result<String, String> {
        match self {
            Self::NoOp => Ok(DONE.to_owned()),
            Self::Nap | Self::LongNap => {
                let start = Instant::now();
                thread::sleep(self.nap());
                note(start);
                Ok(DONE.to_owned())
            }
            Self::Fail => Err("it broke".to_owned()),
            Self::Hang => loop {
                thread::sleep(Duration::from_secs(3600));
            },
            Self::Panic => panic!("it panicked"),
        }
    }

    /// Does it as an asynchronous tool would.
    pub async fn call_async(self) -> Result<String, String> {
        match self {
            Self::Nap | Self::LongNap => {
                let start = Instant::now();
                tokio::time::sleep(self.nap()).await;
                note(start);
                Ok(DONE.to_owned())
            }
            Self::Hang => std::future::pending().await,
            Self::NoOp | Self::Fail | Self::Panic => self.call(),
        }
    }
}

fn note(start: Instant) {
    let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    LONGEST.fetch_max(nanos, Ordering::Relaxed);
}

/// The longest nap since this was last asked. No-ops aren't timed and count as nothing.
pub fn take_longest() -> Duration {
    Duration::from_nanos(LONGEST.swap(0, Ordering::Relaxed))
}
