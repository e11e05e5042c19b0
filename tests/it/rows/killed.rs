//! `kill -9` at random moments, again and again, until all rows are done.
//!
//! `TOOLPOOL_KILLS` says how often; 20 unless it is set.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use toolpool::rows::{Row, Rows};

use super::clerk::{self, Book};
use super::{Folder, ms};

const FOLDER: &str = "TOOLPOOL_ROWS_CHILD";
const ROWS: u64 = 60;
const NAME: &str = "rows::killed::the_program_that_is_killed";

/// Not a test of its own: what the test below starts and kills.
#[test]
fn the_program_that_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let agent = clerk::agent(&Book::new(folder), ms(1));
    let rows = Rows::builder(&agent).threads(4).journal(folder.join("journal.jsonl")).build();
    let rows = rows.unwrap();
    std::fs::write(folder.join("ready"), "").unwrap();
    let mut told = String::new();
    let all = (0..ROWS).map(|n| Row::new(n, format!("r{n}")));
    let report = rows
        .run(all, |result| {
            told += &format!("{} {}\n", result.key, result.answer().unwrap_or("failed"));
        })
        .unwrap();
    assert_eq!((report.done, report.failed, report.unfinished), (ROWS, 0, 0));
    std::fs::write(folder.join("told"), told).unwrap();
}

fn start(folder: &Path) -> Child {
    std::fs::remove_file(folder.join("ready")).unwrap_or_default();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--test-threads=1"])
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    child.unwrap()
}

#[test]
fn no_row_is_lost_or_doubled_and_no_booking_silently_repeated() {
    let wanted = std::env::var("TOOLPOOL_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let random = RandomState::new();
    let (mut kills, mut runs, mut unknown) = (0_u32, 0, 0);
    while kills < wanted {
        let folder = Folder::new();
        loop {
            let mut child = start(&folder.0);
            let mut waited = 0;
            while !folder.0.join("ready").exists() && child.try_wait().unwrap().is_none() {
                std::thread::sleep(ms(1));
                waited += 1;
                assert!(waited < 60_000, "the program doesn't start");
            }
            if kills < wanted {
                let moment = random.hash_one((runs, kills)) % 120_000;
                std::thread::sleep(Duration::from_micros(moment));
                if child.try_wait().unwrap().is_none() {
                    child.kill().unwrap();
                    child.wait().unwrap();
                    kills += 1;
                    continue;
                }
            }
            assert!(child.wait().unwrap().success(), "the program failed by itself");
            break;
        }
        runs += 1;
        unknown += check(&folder.0);
    }
    println!(
        "{kills} kills over {runs} runs of {ROWS} rows, {unknown} bookings with an unknown outcome"
    );
}

/// Checks a run that is done; how often the model was told that an outcome is unknown.
fn check(folder: &Path) -> usize {
    let told = std::fs::read_to_string(folder.join("told")).unwrap();
    let told: Vec<_> = told.lines().collect();
    let expected: HashSet<_> = (0..ROWS).map(|n| format!("{n} booked r{n}")).collect();
    assert_eq!(told.len(), expected.len());
    assert!(told.iter().all(|line| expected.contains(*line)), "{told:?}");

    let entries = Book::new(folder).entries();
    let mut keys = HashSet::new();
    let mut booked: HashMap<&str, u32> = HashMap::new();
    for (account, key) in &entries {
        assert!(keys.insert(key), "{account}: the same call ran twice");
        *booked.entry(account).or_default() += 1;
    }
    assert_eq!(entries.len() as u64, 2 * ROWS, "a booking is missing or too many");
    assert!(booked.values().all(|times| *times == 1), "a booking is doubled: {booked:?}");

    let journal = std::fs::read_to_string(folder.join("journal.jsonl")).unwrap();
    let (mut ends, mut intents, mut unknown) = (HashMap::<String, u32>::new(), HashSet::new(), 0);
    for line in journal.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let answered = &line["answered"];
        if answered["end"].is_object() {
            *ends.entry(answered["row"].to_string()).or_default() += 1;
        }
        if line["intent"].is_object() {
            assert!(intents.insert(line["intent"].to_string()), "a call started twice: {line}");
        }
        for message in answered["messages"].as_array().into_iter().flatten() {
            let content = message["content"].as_str().unwrap_or_default();
            unknown += usize::from(content.starts_with("outcome unknown"));
        }
    }
    assert_eq!(ends.len() as u64, ROWS);
    assert!(ends.values().all(|times| *times == 1), "a row ended twice: {ends:?}");
    assert!(intents.len() >= entries.len(), "a booking without an intent");
    unknown
}
