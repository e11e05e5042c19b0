//! What a program that uses a crate costs to build: crates, seconds, bytes. Builds each clean, one
//! after another, in a folder of its own below `target`; those that a goal compares several times,
//! in turns.

use std::error::Error;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BuildCost {
    pub date: String,
    pub programs: Vec<Program>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Program {
    pub name: String,
    pub version: String,
    pub crates: usize,
    pub seconds: f64,
    /// Processor time of the build, which a busy machine changes less; only where the system tells.
    pub cpu_seconds: Option<f64>,
    pub bytes: u64,
}

/// How often those are built that a goal compares.
const ROUNDS: usize = 3;
const COMPARED: [&str; 2] = ["toolpool, core", "rig-core"];

/// A program to build.
struct Source {
    name: &'static str,
    /// Lines of its manifest, that of the crate in question first.
    dependencies: &'static [&'static str],
    main: &'static str,
}

const TOKIO: &str = r#"tokio = { version = "1", features = ["rt-multi-thread"] }"#;
const SOURCES: [Source; 7] = [
    source(
        "toolpool, core",
        &[r#"toolpool = { path = "../../../../..", default-features = false }"#],
        include_str!("../programs/toolpool_core.rs"),
    ),
    source(
        "toolpool, core and wire",
        &[
            r#"toolpool = { path = "../../../../..", default-features = false, features = ["wire"] }"#,
        ],
        include_str!("../programs/toolpool_wire.rs"),
    ),
    source(
        "toolpool",
        &[r#"toolpool = { path = "../../../../.." }"#],
        include_str!("../programs/toolpool.rs"),
    ),
    source(
        "rig-core",
        &[r#"rig-core = "=0.44.0""#, r#"serde_json = "1""#],
        include_str!("../programs/rig_core.rs"),
    ),
    source("rig", &[r#"rig = "=0.44.0""#, TOKIO], include_str!("../programs/rig.rs")),
    source("genai", &[r#"genai = "=0.7.2""#, TOKIO], include_str!("../programs/genai.rs")),
    source(
        "async-openai",
        &[r#"async-openai = { version = "=0.43.0", features = ["chat-completion"] }"#, TOKIO],
        include_str!("../programs/async_openai.rs"),
    ),
];

const fn source(
    name: &'static str,
    dependencies: &'static [&'static str],
    main: &'static str,
) -> Source {
    Source { name, dependencies, main }
}

pub fn measure(here: &Path) -> Result<BuildCost, Box<dyn Error>> {
    let folder = here.join("target/build-cost");
    let mut builds = vec![Vec::new(); SOURCES.len()];
    // The first build after a rest brings the compiler back into memory, so it doesn't count.
    SOURCES[0].build(&folder)?;
    for round in 0..ROUNDS {
        for (source, builds) in SOURCES.iter().zip(&mut builds) {
            if round == 0 || COMPARED.contains(&source.name) {
                let program = source.build(&folder)?;
                println!("{program:?}");
                builds.push(program);
            }
        }
    }
    let programs = builds.into_iter().filter_map(median).collect();
    Ok(BuildCost { date: crate::machine::today(), programs })
}

/// The program, with the medians of the seconds that its builds took.
fn median(mut builds: Vec<Program>) -> Option<Program> {
    let middle = builds.len() / 2;
    let cpu = |program: &Program| program.cpu_seconds.unwrap_or(f64::NAN);
    builds.sort_by(|a, b| cpu(a).total_cmp(&cpu(b)));
    let cpu_seconds = builds.get(middle)?.cpu_seconds;
    builds.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    Some(Program { cpu_seconds, ..builds.swap_remove(middle) })
}

impl Source {
    fn build(&self, folder: &Path) -> Result<Program, Box<dyn Error>> {
        let name = format!("uses-{}", self.name.replace(", ", "-").replace(' ', "-"));
        let folder = folder.join(&name);
        std::fs::create_dir_all(folder.join("src"))?;
        let manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
             rust-version = \"1.95\"\n\n[workspace]\n\n[dependencies]\n{}\n",
            self.dependencies.join("\n")
        );
        std::fs::write(folder.join("Cargo.toml"), manifest)?;
        std::fs::write(folder.join("src/main.rs"), self.main)?;
        let cargo = |arguments: &[&str]| {
            let mut cargo = Command::new("cargo");
            cargo.args(arguments).current_dir(&folder).env_remove("CARGO_TARGET_DIR");
            cargo.stderr(Stdio::inherit());
            cargo
        };
        let succeeds = |arguments: &[&str]| match cargo(arguments).status()?.success() {
            true => Ok(()),
            false => Err::<(), Box<dyn Error>>(format!("cargo {arguments:?} failed").into()),
        };
        succeeds(&["fetch", "--quiet"])?;
        let tree =
            cargo(&["tree", "-e", "normal", "--prefix", "none", "--format", "{p}"]).output()?;
        let tree = String::from_utf8(tree.stdout)?;
        let crates: std::collections::BTreeSet<_> =
            tree.lines().filter_map(|line| line.split(" (").next()).collect();
        let package = self.dependencies[0].split(' ').next().unwrap_or_default();
        let version = crates.iter().find_map(|line| line.strip_prefix(package)?.strip_prefix(" v"));
        let version = version.unwrap_or("unknown").to_owned();
        let _ = std::fs::remove_dir_all(folder.join("target"));
        let (start, cpu) = (Instant::now(), children_cpu());
        succeeds(&["build", "--release", "--quiet", "--offline"])?;
        let seconds = start.elapsed().as_secs_f64();
        let cpu_seconds = children_cpu().zip(cpu).map(|(after, before)| after - before);
        let bytes = std::fs::metadata(folder.join("target/release").join(&name))?.len();
        let _ = std::fs::remove_dir_all(folder.join("target"));
        Ok(Program {
            name: self.name.to_owned(),
            version,
            crates: crates.len() - 1,
            seconds,
            cpu_seconds,
            bytes,
        })
    }
}

/// Processor seconds of this process's children that have ended, and of theirs, on Linux.
fn children_cpu() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // After the name in brackets; the 16th and 17th fields, in hundredths.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(13);
    let mut hundredths = || fields.next()?.parse::<f64>().ok();
    Some((hundredths()? + hundredths()?) / 100.0)
}
