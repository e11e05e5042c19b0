//! The rules of this repository: what may use what, what must not be in it, how large a file gets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::faults::EXCLUDED;

/// The layers: their modules, and the layers they may use beside their own. Within a layer a
/// module may use those that stand before it, so there is no cycle anywhere.
const LAYERS: &[(&str, &[&str], &[&str])] = &[
    ("base", &["sync", "text", "error", "time", "logging", "json", "cancel", "effect"], &[]),
    ("data", &["call", "output", "outcome", "turn", "report", "schema", "bound"], &["base"]),
    ("policies", &["policy"], &["base", "data"]),
    ("tools", &["tool"], &["base", "data", "policies"]),
    ("executor", &["executor"], &["base", "data", "policies", "tools"]),
    ("timeline", &["timeline"], &["base", "data"]),
    ("wire", &["wire"], &["base", "data", "tools"]),
    ("outside", &["model"], &["base", "data", "tools", "wire"]),
    (
        "loops",
        &["agent", "rows"],
        &["base", "data", "policies", "tools", "executor", "timeline", "wire", "outside"],
    ),
    ("docs", &["docs"], &[]),
];

/// What only some modules may name: the words, who may, why.
const KEPT_TO: &[(&[&str], &[&str], &str)] = &[
    (
        &["rayon_core::", "rayon::", "thread::Builder", "thread::spawn", "thread::scope"],
        &["executor", "model", "rows"],
        "threads are started by the executor and by what owns a process or a connection",
    ),
    (
        &["Instant::now", "SystemTime"],
        &["sync", "time", "cancel", "tool", "executor", "model", "agent", "rows"],
        "time is an argument in all that only decides",
    ),
    (
        &["log::log!", "log::error!", "log::warn!", "log::info!", "log::debug!", "log::trace!"],
        &["logging"],
        "the logger may panic, and is called in one place only",
    ),
    (
        &["crossbeam_channel::"],
        &["sync", "tool", "executor", "model", "agent", "rows"],
        "what only decides knows no channel",
    ),
    (
        &["std::net", "std::process", "ureq::"],
        &["model"],
        "the network and processes are at the edge",
    ),
    (&["std::fs", "fs::"], &["bound", "rows", "executor"], "files are at the edge"),
];

const MOST_LINES: usize = 700;
const MOST_CORE_CRATES: usize = 45;
/// How many faults the catalogue has.
const FAULTS: u32 = 165;

struct File {
    /// Relative to the repository, with `/`.
    path: String,
    text: String,
}

impl File {
    /// The module right below the crate's root, empty for the root itself.
    fn module(&self) -> &str {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        let module = path.split('/').next().unwrap_or_default();
        if module == "lib" { "" } else { module }
    }

    fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }

    /// The lines that aren't tests; tests stand last in a file.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_test = self.is_test();
        let all = || self.text.lines();
        let attribute = all().zip(all().skip(1)).position(|(attribute, module)| {
            attribute == "#[cfg(test)]" && module.contains("mod ") && module.ends_with('{')
        });
        let end = attribute.unwrap_or(usize::MAX);
        (1..).zip(all()).take_while(move |(n, _)| !is_test && *n <= end)
    }

    /// The lines that are neither tests nor comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folder` that are text.
fn files(folder: &str) -> Vec<File> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().map(Result::unwrap) {
            let path = entry.path();
            let name = entry.file_name();
            if path.is_dir() {
                if name != "target" && name != ".git" {
                    folders.push(path);
                }
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                let path = path.strip_prefix(root()).unwrap().to_str().unwrap();
                found.push(File { path: path.replace('\\', "/"), text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn sources() -> Vec<File> {
    let mut sources = files("src");
    sources.retain(|file| file.path.ends_with(".rs"));
    assert!(sources.len() > 10, "the sources are not where they should be");
    sources
}

/// Fails with one line a finding.
fn none(findings: Vec<String>) {
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

/// The modules that a code line names: `crate::a`, `crate::{a::…, b}`.
fn used_modules(code: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for (at, start) in code.match_indices("crate::") {
        let rest = &code[at + start.len()..];
        match rest.strip_prefix('{') {
            None => used.extend(first_name(rest)),
            Some(group) => {
                let mut depth = 0;
                let mut part = String::new();
                for c in group.chars() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => used.extend(first_name(&std::mem::take(&mut part))),
                        _ => part.push(c),
                    }
                }
                used.extend(first_name(&part));
            }
        }
    }
    used
}

fn first_name(path: &str) -> Option<String> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let name: String = path.trim_start().chars().take_while(|c| is_name(*c)).collect();
    Some(name).filter(|name| !name.is_empty())
}

#[test]
fn the_parser_of_paths_reads_groups() {
    let used = used_modules("use crate::{\n    a::{b, c},\n    d::e,\n};\nlet x = crate::f::g();");
    assert_eq!(used.into_iter().collect::<Vec<_>>(), ["a", "d", "f"]);
}

#[test]
fn a_module_uses_only_the_layers_above_it() {
    let place = |module: &str| {
        LAYERS.iter().enumerate().find_map(|(layer, (_, modules, _))| {
            Some((layer, modules.iter().position(|name| *name == module)?))
        })
    };
    let mut findings = Vec::new();
    for file in sources().iter().filter(|file| !file.module().is_empty()) {
        let module = file.module();
        let Some((layer, at)) = place(module) else {
            findings.push(format!("{}: the module {module} is in no layer", file.path));
            continue;
        };
        let code: Vec<_> = file.code().map(|(_, line)| line).collect();
        for used in used_modules(&code.join("\n")) {
            let allowed = match place(&used) {
                _ if used == module => true,
                Some((other, before)) if other == layer => before < at,
                Some((other, _)) => LAYERS[layer].2.contains(&LAYERS[other].0),
                None => false,
            };
            if !allowed {
                findings.push(format!("{}: {module} must not use crate::{used}", file.path));
            }
        }
    }
    none(findings);
}

#[test]
fn the_layers_have_no_cycle() {
    for (n, (name, _, uses)) in LAYERS.iter().enumerate() {
        for used in *uses {
            let at = LAYERS.iter().position(|(layer, ..)| layer == used);
            assert!(at.is_some_and(|at| at < n), "{name} uses {used}, which isn't before it");
        }
    }
}

#[test]
fn threads_clocks_and_files_are_kept_to_their_places() {
    let mut findings = Vec::new();
    for file in sources() {
        for (words, modules, why) in KEPT_TO {
            if modules.contains(&file.module()) {
                continue;
            }
            for (n, line) in file.code() {
                if let Some(word) = words.iter().find(|word| line.contains(*word)) {
                    findings.push(format!("{}:{n}: {word}: {why}", file.path));
                }
            }
        }
    }
    none(findings);
}

#[test]
fn the_scheduler_is_pure() {
    let outside =
        ["Instant::now", "thread::", "crossbeam_channel", "rayon", "parking_lot", "Mutex"];
    let mut findings = Vec::new();
    for file in sources().iter().filter(|file| file.path.contains("/scheduler/")) {
        for (n, line) in file.code() {
            if let Some(word) = outside.iter().find(|word| line.contains(*word)) {
                findings.push(format!("{}:{n}: {word}", file.path));
            }
        }
    }
    none(findings);
}

/// The crates of the normal dependency tree, this one excepted.
fn crates(features: &str) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
    let output = Command::new(cargo)
        .args(["tree", "--edges", "normal", "--prefix", "none", "--format", "{p}", features])
        .current_dir(root())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = text.lines().filter(|line| !line.starts_with("toolpool "));
    lines.map(|line| line.trim_end_matches(" (*)").to_owned()).collect()
}

#[test]
fn no_async_runtime_is_in_the_tree() {
    let forbidden = |line: &&String| {
        let name = line.split(' ').next().unwrap_or_default();
        matches!(name, "tokio" | "async-std" | "smol" | "futures") || name.starts_with("futures-")
    };
    let crates = crates("--all-features");
    assert!(crates.len() > 5, "{crates:?}");
    none(crates.iter().filter(forbidden).cloned().collect());
}

#[test]
fn the_core_stays_small() {
    let crates = crates("--no-default-features");
    // This crate is one of them.
    let count = crates.len() + 1;
    println!("the core's tree has {count} crates");
    assert!(count <= MOST_CORE_CRATES, "{count} crates: {crates:#?}");
    none(crates.into_iter().filter(|line| line.starts_with("ureq ")).collect());
}

/// From this version on clients can interrupt a read, and no known hole is open.
const LEAST_UREQ: [u32; 3] = [3, 5, 2];

#[test]
fn fault_165_nothing_is_unsafe_and_the_client_is_new_enough() {
    let lib = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    assert!(lib.contains("#![forbid(unsafe_code)]"));
    let is_allowed = |file: &File| {
        file.text.contains("allow(unsafe_code") || file.text.contains("expect(unsafe_code")
    };
    none(files("src").into_iter().filter(is_allowed).map(|file| file.path).collect());
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let version = lock.split("name = \"ureq\"\nversion = \"").nth(1).unwrap();
    let version: Vec<u32> =
        version.split('"').next().unwrap().split('.').map(|part| part.parse().unwrap()).collect();
    assert!(version[..] >= LEAST_UREQ[..], "{version:?}");
}

#[test]
fn files_stay_small() {
    let lines = |file: &File| file.lines().count();
    let large = sources().into_iter().filter(|file| lines(file) > MOST_LINES);
    none(
        large
            .map(|file| format!("{}: {} lines without its tests", file.path, lines(&file)))
            .collect(),
    );
}

#[test]
fn every_module_says_what_it_does() {
    let headless = |file: &File| !file.text.starts_with("//!");
    let is_test = |file: &File| file.path.ends_with(".rs") && !file.path.starts_with("tests/ui/");
    let tests = files("tests").into_iter().filter(is_test);
    let all = sources().into_iter().filter(|file| !file.is_test()).chain(tests);
    none(all.filter(headless).map(|file| format!("{}: no //! header", file.path)).collect());
}

#[test]
fn no_example_is_skipped() {
    let mut findings = Vec::new();
    for file in sources() {
        for (n, line) in (1..).zip(file.text.lines()) {
            let line = line.trim_start();
            if line.starts_with("//") && line.contains("```") && line.contains("ignore") {
                findings.push(format!("{}:{n}: an example that nobody compiles", file.path));
            }
        }
    }
    none(findings);
}

#[test]
fn the_library_prints_nothing() {
    let mut findings = Vec::new();
    for file in sources() {
        for (n, line) in file.code() {
            if ["println!", "eprintln!", "print!(", "dbg!("].iter().any(|word| line.contains(word))
            {
                findings.push(format!("{}:{n}: {line}", file.path));
            }
        }
    }
    none(findings);
}

#[test]
fn nothing_of_one_machine_or_of_unfinished_work_is_left() {
    // Spelled in two parts, so that this file doesn't contain them.
    let words = [
        ["/ho", "me/"],
        ["/ro", "ot/"],
        ["/Us", "ers/"],
        ["/tm", "p/"],
        ["C:\\", "Users"],
        ["FIX", "ME"],
        ["TO", "DO"],
        ["todo", "!("],
        ["unimple", "mented!("],
        ["#[ig", "nore]"],
        ["DESIGN", ".md"],
    ]
    .map(|parts| parts.concat());
    let mut findings = Vec::new();
    for file in files("") {
        if file.path == "Cargo.lock" || file.path.starts_with("LICENSE") {
            continue;
        }
        for (n, line) in (1..).zip(file.text.lines()) {
            for word in words.iter().filter(|word| line.contains(*word)) {
                findings.push(format!("{}:{n}: {word}", file.path));
            }
        }
    }
    none(findings);
}

#[test]
fn examples_and_benches_are_documented() {
    let docs: String = ["README.md", "CONTRIBUTING.md"]
        .map(|name| std::fs::read_to_string(root().join(name)).unwrap_or_default())
        .concat();
    let mut findings = Vec::new();
    for folder in ["examples", "benches"] {
        for entry in std::fs::read_dir(root().join(folder)).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
            let is_program =
                path.extension().is_some_and(|end| end == "rs") || path.join("main.rs").exists();
            if is_program && !docs.contains(name) {
                findings.push(format!("{folder}/{name}: neither in README.md nor CONTRIBUTING.md"));
            }
        }
    }
    none(findings);
}

/// What tests hand to a process of their own.
const BETWEEN_TESTS: &[&str] = &["TOOLPOOL_TEST_ALONE", "TOOLPOOL_ROWS_CHILD"];

#[test]
fn every_variable_is_documented() {
    let docs = std::fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let mut findings = Vec::new();
    for file in ["src", "tests", ".ci"].into_iter().flat_map(files) {
        for (at, start) in file.text.match_indices("TOOLPOOL_") {
            let is_name = |c: char| c.is_ascii_uppercase() || c == '_';
            let rest = &file.text[at + start.len()..];
            let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            let name = file.text[at..at + start.len() + end].trim_end_matches('_');
            let is_known = docs.contains(&format!("`{name}`")) || BETWEEN_TESTS.contains(&name);
            if end > 0 && !is_known {
                findings.push(format!("{}: {name} isn't in CONTRIBUTING.md", file.path));
            }
        }
    }
    none(findings);
}

/// What the manifest's section lists.
fn section(name: &str) -> Vec<String> {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let lines = manifest.lines().skip_while(|line| *line != name).skip(1);
    let entries = lines.take_while(|line| !line.starts_with('['));
    let entries = entries.filter(|line| !line.starts_with('#'));
    entries.filter_map(|line| Some(line.split_once('=')?.0.trim().to_owned())).collect()
}

#[test]
fn every_dependency_has_its_reason() {
    let design = std::fs::read_to_string(root().join("src/docs/design.md")).unwrap();
    let dependencies = section("[dependencies]");
    assert!(dependencies.len() > 5, "{dependencies:?}");
    let unnamed = dependencies.into_iter().filter(|name| !design.contains(&format!("`{name}`")));
    none(
        unnamed.map(|name| format!("src/docs/design.md doesn't say what {name} is for")).collect(),
    );
}

#[test]
fn every_feature_is_explained() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let features = section("[features]").into_iter().filter(|name| name != "default");
    let unnamed = features.filter(|name| !readme.contains(&format!("| `{name}` |")));
    none(
        unnamed.map(|name| format!("README.md doesn't say what the feature {name} does")).collect(),
    );
}

/// The numbers of the tests named `fault_NNN_…`.
fn tested_faults() -> BTreeMap<u32, usize> {
    let mut tested = BTreeMap::new();
    for file in files("src").into_iter().chain(files("tests")) {
        for (at, start) in file.text.match_indices("fn fault_") {
            let number = file.text[at + start.len()..].split('_').next().unwrap_or_default();
            if let Ok(number) = number.parse() {
                *tested.entry(number).or_default() += 1;
            }
        }
    }
    tested
}

/// No fault that had a test or a reason loses it. `UPDATE_FAULTS=1` records the present state.
#[test]
fn no_fault_number_vanishes() {
    let record = root().join("tests/it/faults/recorded.txt");
    let tested = tested_faults();
    let excluded: BTreeSet<u32> = EXCLUDED.iter().map(|(number, _)| *number).collect();
    assert!(EXCLUDED.iter().all(|(_, why)| why.len() > 10), "an exclusion gives its reason");
    let known: BTreeSet<u32> = tested.keys().chain(&excluded).copied().collect();
    let strange = known.iter().filter(|number| !(1..=FAULTS).contains(*number));
    none(strange.map(|number| format!("there is no fault {number}")).collect());
    let open: Vec<String> = (1..=FAULTS)
        .filter(|number| !known.contains(number))
        .map(|number| number.to_string())
        .collect();
    println!(
        "faults: {} of {FAULTS} tested (by {} tests), {} excluded, {} open: {}",
        tested.len(),
        tested.values().sum::<usize>(),
        excluded.difference(&tested.keys().copied().collect()).count(),
        open.len(),
        open.join(" ")
    );
    if std::env::var_os("UPDATE_FAULTS").is_some() {
        let lines: String = known.iter().map(|number| format!("{number}\n")).collect();
        std::fs::write(&record, lines).unwrap();
    }
    let recorded = std::fs::read_to_string(&record).unwrap();
    let recorded = recorded.split_whitespace().map(|number| number.parse::<u32>().unwrap());
    let gone = recorded.filter(|number| !known.contains(number));
    none(
        gone.map(|number| format!("fault {number} has neither test nor reason any more")).collect(),
    );
}
