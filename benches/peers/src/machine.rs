//! Where and with what it was measured. Names no folder and no host.

use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    pub cores: usize,
    pub processor: String,
    pub system: String,
}

impl Machine {
    pub fn this() -> Self {
        let field = |file: &str, name: &str, separator: char| {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let mut fields = text.lines().filter_map(|line| line.split_once(separator));
            let found = fields.find(|(key, _)| key.trim() == name);
            found.map(|(_, value)| value.trim().trim_matches('"').to_owned())
        };
        let unknown = || format!("{} processor", std::env::consts::ARCH);
        let system = field("/etc/os-release", "PRETTY_NAME", '=');
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let kernel = kernel.split(['-', '+']).next().unwrap_or_default().trim();
        let system = system.unwrap_or_else(|| std::env::consts::OS.to_owned());
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: field("/proc/cpuinfo", "model name", ':').unwrap_or_else(unknown),
            system: if kernel.is_empty() { system } else { format!("{system}, kernel {kernel}") },
        }
    }
}

/// Of the compiler and of the crates that are measured.
pub fn versions(here: &Path) -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let rustc = Command::new("rustc").arg("--version").output()?;
    let rustc = String::from_utf8(rustc.stdout)?;
    let rustc = rustc.split_whitespace().nth(1).unwrap_or_default().to_owned();
    let mut versions = vec![("rustc".to_owned(), rustc)];
    let lock = std::fs::read_to_string(here.join("Cargo.lock"))?;
    for name in ["toolpool", "crossbeam-channel", "rayon", "tokio", "rig-core", "rig-agent", "agnt"]
    {
        let mut lines = lock.lines().skip_while(|line| *line != format!("name = \"{name}\""));
        let version = lines.nth(1).and_then(|line| line.split('"').nth(1));
        versions.push((name.to_owned(), version.unwrap_or("unknown").to_owned()));
    }
    Ok(versions)
}

/// The day, by Coordinated Universal Time, as `2026-01-31`.
pub fn today() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (year, month, day) = date((now.as_secs() / 86_400) as i64);
    format!("{year:04}-{month:02}-{day:02}")
}

/// The date of a day since 1970-01-01, counted in years that begin in March.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    #[test]
    fn dates() {
        assert_eq!(super::date(0), (1970, 1, 1));
        assert_eq!(super::date(19_782), (2024, 2, 29));
        assert_eq!(super::date(20_454), (2026, 1, 1));
    }
}
