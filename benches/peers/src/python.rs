//! The Python rivals, in processes of their own. Where there is no Python they are left out.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::faults::{self, Finding};
use crate::measure::Row;

/// An interpreter that has the packages.
pub struct Python {
    interpreter: PathBuf,
    script: PathBuf,
}

#[derive(Deserialize)]
struct Rival {
    name: String,
    deadline: String,
}

impl Python {
    /// The one that the script `run` made, told in `PEERS_PYTHON`.
    pub fn find() -> Option<Self> {
        let interpreter = PathBuf::from(std::env::var_os("PEERS_PYTHON")?);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/peers.py");
        interpreter.exists().then_some(Self { interpreter, script })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.interpreter);
        command.arg(&self.script).args(arguments);
        command
    }

    fn ask<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T, Box<dyn Error>> {
        let output = self.command(arguments).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err(
                format!("python's {} failed: {}", arguments.join(" "), output.status).into()
            );
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    pub fn versions(&self) -> Result<Vec<(String, String)>, Box<dyn Error>> {
        let versions: serde_json::Map<String, serde_json::Value> = self.ask(&["versions"])?;
        let text = |(name, version): (String, serde_json::Value)| {
            (name, version.as_str().unwrap_or_default().to_owned())
        };
        Ok(versions.into_iter().map(text).collect())
    }

    pub fn measure(&self, budget: Duration) -> Result<Vec<Row>, Box<dyn Error>> {
        self.ask(&["measure", &budget.as_secs_f64().to_string()])
    }

    /// Of failing and hanging tools: Python has exceptions, and no panics beside them.
    pub fn faults(&self) -> Result<Vec<Finding>, Box<dyn Error>> {
        let rivals: Vec<Rival> = self.ask(&["rivals"])?;
        let mut findings = Vec::new();
        for Rival { name, deadline } in &rivals {
            for fault in ["fail", "hang"] {
                let command = self.command(&["probe", name, fault]);
                findings.push(faults::watch(command, name, fault, Some(deadline)));
            }
        }
        Ok(findings)
    }
}
