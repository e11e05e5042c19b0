//! What the system says of this process, and tests that need a process of their own because they
//! measure or limit the whole of it.

use std::process::Command;

const ALONE: &str = "TOOLPOOL_TEST_ALONE";

/// Runs `body` in a process in which nothing else runs: this binary again, with this test alone.
/// `test` is its whole name.
pub(crate) fn alone(test: &str, body: impl FnOnce()) {
    alone_as(test, |_| (), body);
}

/// As [`alone`], in a process that `set` has a hand in.
pub(crate) fn alone_as(test: &str, set: impl FnOnce(&mut Command), body: impl FnOnce()) {
    if std::env::var(ALONE).is_ok_and(|alone| alone == test) {
        return body();
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(ALONE, test);
    set(&mut command);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{text}\n{errors}", output.status);
    assert!(text.contains("1 passed"), "no test is called {test}:\n{text}");
    // Figures that the test prints.
    for line in text.lines() {
        if let Some(at) = line.find("figure: ") {
            println!("{}", &line[at..]);
        }
    }
}

/// A figure of `/proc/self/status`: a count, or KiB.
fn status(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

pub(crate) fn threads() -> usize {
    status("Threads")
}

/// Memory in use, in KiB. Not the program's own pages: the system takes those away and brings them
/// back as it likes.
pub(crate) fn resident() -> usize {
    status("RssAnon")
}

/// The most memory that was ever in use, in KiB.
pub(crate) fn most_resident() -> usize {
    status("VmHWM").saturating_sub(status("RssFile") + status("RssShmem"))
}

/// Address space in use, in bytes.
pub(crate) fn address_space() -> u64 {
    status("VmSize") as u64 * 1024
}

pub(crate) fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Processor time so far, in ticks of 10 ms.
pub(crate) fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The name, in parentheses, may hold anything.
    let (_, figures) = stat.rsplit_once(") ").unwrap();
    let figures: Vec<&str> = figures.split(' ').collect();
    figures[11].parse::<u64>().unwrap() + figures[12].parse::<u64>().unwrap()
}
