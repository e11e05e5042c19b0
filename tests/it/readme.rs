//! What the README shows works: its sample builds and runs when it is pasted below the crates that
//! it says to add, and its two commands are those that the checks run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use crate::machine;

/// The blocks between fences: what stands after the fence, and the text.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(kind), None) => open = Some((kind.to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, text))) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block isn't closed");
    blocks
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> Vec<(String, String)> {
    blocks(&std::fs::read_to_string(root().join("README.md")).unwrap())
}

fn first(kind: &str) -> String {
    let found = readme().into_iter().find(|(other, _)| other == kind);
    found.map(|(_, text)| text).unwrap_or_default()
}

/// The locked version of each crate, so that the sample needs no registry.
fn locked() -> BTreeMap<String, String> {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let mut versions = BTreeMap::new();
    let mut name = String::new();
    for line in lock.lines() {
        let value = |key| Some(line.strip_prefix(key)?.trim_matches('"').to_owned());
        if let Some(value) = value("name = ") {
            name = value;
        } else if let Some(version) = value("version = ") {
            versions.insert(name.clone(), version);
        }
    }
    versions
}

/// A manifest's lines for `cargo add a b --features c`.
fn dependencies(commands: &str) -> String {
    let locked = locked();
    let mut lines = String::new();
    for command in commands.lines() {
        let words = command.strip_prefix("cargo add ").expect("only cargo add stands there");
        let (names, features) = words.split_once(" --features ").unwrap_or((words, ""));
        let features: Vec<_> = features.split([',', ' ']).filter(|word| !word.is_empty()).collect();
        for name in names.split(' ') {
            match name {
                "toolpool" => writeln!(lines, "toolpool = {{ path = {:?} }}", root()),
                name => {
                    let version = locked.get(name).expect("a crate of the lock file");
                    writeln!(
                        lines,
                        "{name} = {{ version = \"={version}\", features = {features:?} }}"
                    )
                }
            }
            .unwrap();
        }
    }
    lines
}

/// Builds and runs `program` as a crate of its own.
fn run(program: &str, dependencies: &str) -> Output {
    let _alone = machine::alone();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("readme");
    std::fs::create_dir_all(folder.join("src")).unwrap();
    let manifest = format!(
        "[package]\nname = \"readme\"\nedition = \"2024\"\n\n[workspace]\n\n[profile.dev]\n\
         debug = \"line-tables-only\"\n\n[dependencies]\n{dependencies}"
    );
    std::fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    let program = format!("#![deny(warnings)]\n{program}");
    std::fs::write(folder.join("src/main.rs"), program).unwrap();
    std::fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["run", "--quiet", "--offline"])
        .current_dir(&folder)
        .env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join(".."))
        .output()
        .unwrap()
}

#[test]
fn the_sample_runs_when_pasted_below_the_crates_it_names() {
    let output = run(&first("rust"), &dependencies(&first("sh")));
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    // The timeline's figures vary; all that stands before them is printed as the README shows it.
    let shown = first("text");
    let before = |text: &str| text.split(": wall ").next().unwrap_or_default().to_owned();
    assert_eq!(before(&printed), before(&shown), "\n{printed}");
    assert_eq!(printed.lines().count(), shown.lines().count(), "\n{printed}");
}

#[test]
fn the_example_shows_what_it_says() {
    let _alone = machine::alone();
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["run", "--quiet", "--example", "customer_lookup"])
        .current_dir(root())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    let after = |mark: &str| printed.split(mark).nth(1).unwrap_or_default();
    let wall = |mark, unit| {
        let text = after(mark).strip_prefix("3 calls: wall ").unwrap_or_default();
        text.split(unit).next().and_then(|text| text.parse::<f64>().ok()).unwrap_or_default()
    };
    // A machine that does other work too is slower; alone both are within 5 %.
    assert!((1.5..2.5).contains(&wall("One after another:\n", " s,")), "{printed}");
    assert!((600.0..999.0).contains(&wall("In parallel:\n", " ms,")), "{printed}");
    for told in [
        "✗ get_orders: get_orders failed: temporarily unavailable; it only reads, you may call it again\n",
        "✗ get_tickets: get_tickets timed out after 1.5 s; it only reads, you may call it again\n",
        "threads that were walked away from: 1\n",
    ] {
        assert!(printed.contains(told), "{told}\n{printed}");
    }
    let model_reads = after("What the model is told:").split("What only").next();
    assert!(model_reads.is_some_and(|text| !text.contains("503") && !text.contains("internal")));
}

#[test]
fn every_sample_is_compiled() {
    for (kind, text) in readme() {
        assert!(["rust", "sh", "text"].contains(&&*kind), "{kind}: nobody checks this:\n{text}");
    }
    let library = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    assert!(library.contains("#[cfg(doctest)]\n#[doc = include_str!(\"../README.md\")]"));
}

#[test]
fn two_commands_are_enough_for_a_fresh_machine() {
    let commands: Vec<_> = readme()
        .into_iter()
        .filter(|(kind, text)| kind == "sh" && !text.starts_with("cargo add"))
        .flat_map(|(_, text)| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert_eq!(commands, ["cargo run --example customer_lookup", "cargo test"]);
}

/// The lines of the table below a heading, without its ruler.
fn table(heading: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(root().join("README.md")).unwrap();
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap_or_default();
    let lines = section.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().replace('`', "")).collect();
    lines.filter(|line| !line.contains("---")).map(cells).collect()
}

#[test]
fn what_it_costs_is_what_was_measured() {
    let measured = std::fs::read_to_string(root().join("benches/results.json")).unwrap();
    let measured: serde_json::Value = serde_json::from_str(&measured).unwrap();
    let rows = measured["rows"].as_array().unwrap();
    let row = |rival: &str, work: &str, n: u64| {
        let is = |row: &&serde_json::Value| {
            row["rival"] == rival && row["work"] == work && row["n"] == n
        };
        rows.iter().find(is).unwrap_or_else(|| panic!("{rival}, {n} of {work} weren't measured"))
    };
    let micros = |rival, work, n| row(rival, work, n)["micros"].as_f64().unwrap();
    let ratio = |rival, work, n| {
        let of_turns = row(rival, work, n)["ratio"].as_f64();
        of_turns.unwrap_or_else(|| micros(rival, work, n) / micros("toolpool", work, n))
    };
    let works = [("no_op", 3), ("no_op", 100), ("nap", 3), ("nap", 100)];
    let table = table("What it costs");
    assert_eq!(table[0][1..], ["3 no-ops", "100 no-ops", "3 that sleep", "100 that sleep"]);
    assert_eq!(table.len(), 7);
    for line in &table[1..] {
        for ((work, n), told) in works.into_iter().zip(&line[1..]) {
            let ratio = ratio(&line[0], work, n);
            let digits = usize::from(ratio < 9.95);
            assert_eq!(*told, format!("{ratio:.digits$}×"), "{}, {n} of {work}", line[0]);
        }
    }
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let alone = format!("A turn of three that sleep takes {:.0} µs", micros("toolpool", "nap", 3));
    assert!(readme.contains(&alone), "{alone}");
}
