//! What a rival does when one call of three fails, hangs or panics: found out by running it, in a
//! process of its own with a time limit.

use std::error::Error;
use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::rivals::{self, BARE, Settings};
use crate::work::{DONE, Work};

pub const FAULTS: [Work; 3] = [Work::Fail, Work::Hang, Work::Panic];
/// By when the turn should be over, where the rival can be told.
pub const DEADLINE: Duration = Duration::from_millis(500);
/// How much later still counts as by the deadline.
const SLACK: Duration = Duration::from_millis(500);
/// When the process is killed.
const LIMIT: Duration = Duration::from_secs(6);

/// What was seen.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Finding {
    pub rival: String,
    pub fault: String,
    /// How it was told the deadline.
    pub deadline: Option<String>,
    pub one_each: bool,
    pub siblings_kept: bool,
    pub in_time: bool,
    /// It went on after the turn and ended by itself, without an error.
    pub lives: bool,
}

/// What a probe prints when the turn is over.
#[derive(Debug, Serialize, Deserialize)]
struct Seen {
    results: Vec<Option<String>>,
    millis: f64,
}

/// The process in which it is tried out.
pub fn probe(rival: &str, fault: &str) -> Result<(), Box<dyn Error>> {
    let entry = rivals::named(rival).ok_or("no such rival")?;
    let fault = Work::named(fault).ok_or("no such fault")?;
    let mut rival = (entry.make)(Settings { threads: 3, deadline: Some(DEADLINE) });
    rival.prepare(&[Work::Nap, fault, Work::Nap]);
    let start = Instant::now();
    let results = rival.run().results;
    let millis = start.elapsed().as_secs_f64() * 1e3;
    println!("{}", serde_json::to_string(&Seen { results, millis })?);
    Ok(())
}

pub fn all() -> Vec<Finding> {
    let this = std::env::current_exe().expect("the path of this program");
    let rivals = rivals::ALL.iter().filter(|entry| entry.name != BARE);
    rivals
        .filter(|entry| entry.name != "toolpool, reply written")
        .flat_map(|entry| FAULTS.map(|fault| (entry, fault)))
        .map(|(entry, fault)| {
            let mut command = Command::new(&this);
            command.args(["probe", entry.name, fault.name()]);
            watch(command, entry.name, fault.name(), entry.deadline)
        })
        .collect()
}

/// Runs one probe and says what it showed.
pub fn watch(mut command: Command, rival: &str, fault: &str, deadline: Option<&str>) -> Finding {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("the probe starts");
    let (start, mut lives) = (Instant::now(), None);
    while lives.is_none() && start.elapsed() < LIMIT {
        thread::sleep(Duration::from_millis(5));
        lives = child.try_wait().ok().flatten().map(|status| status.success());
    }
    let _ = child.kill();
    let _ = child.wait();
    let mut printed = String::new();
    if let Some(stdout) = &mut child.stdout {
        let _ = stdout.read_to_string(&mut printed);
    }
    let seen = printed.lines().find_map(|line| serde_json::from_str::<Seen>(line).ok());
    let results = seen.as_ref().map_or(&[][..], |seen| &seen.results);
    let done = |at: usize| matches!(results.get(at), Some(Some(text)) if text.contains(DONE));
    let latest = (DEADLINE + SLACK).as_secs_f64() * 1e3;
    let finding = Finding {
        rival: rival.to_owned(),
        fault: fault.to_owned(),
        deadline: deadline.map(str::to_owned),
        one_each: results.len() == 3 && results.iter().all(Option::is_some),
        siblings_kept: done(0) && done(2),
        in_time: seen.as_ref().is_some_and(|seen| seen.millis < latest),
        lives: lives == Some(true),
    };
    println!("{rival}, one call of three is to {fault}: {results:?}, ended well: {lives:?}");
    finding
}
