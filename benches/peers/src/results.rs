//! All that was measured, as it is kept from one run to the next.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::build_cost::BuildCost;
use crate::faults::Finding;
use crate::machine::Machine;
use crate::measure::Row;
use crate::rivals::{TOKIO, TOOLPOOL};

/// toolpool's own benches whose tables belong on the page, in its order.
pub const OWN: [&str; 6] = ["overhead", "scale", "allocations", "fanout", "early_start", "keys"];

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Results {
    /// On which the rivals were measured.
    pub date: String,
    /// With so few rounds that the figures are only a sign of life.
    pub quick: bool,
    pub machine: Machine,
    pub versions: Vec<(String, String)>,
    pub rows: Vec<Row>,
    pub faults: Vec<Finding>,
    /// What toolpool's own benches printed, by name.
    pub own: BTreeMap<String, String>,
    pub build_cost: Option<BuildCost>,
}

/// What those benches printed that were run this time.
pub fn own(here: &Path) -> BTreeMap<String, String> {
    let read = |name: &str| {
        let text = std::fs::read_to_string(here.join(format!("target/own/{name}.txt"))).ok()?;
        Some((name.to_owned(), text.trim().to_owned()))
    };
    OWN.into_iter().filter_map(read).collect()
}

impl Results {
    pub fn read(path: &Path) -> Option<Self> {
        serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
    }

    pub fn write(&self, path: &Path) -> Result<(), Box<dyn Error>> {
        Ok(std::fs::write(path, serde_json::to_string_pretty(self)? + "\n")?)
    }

    pub fn row(&self, rival: &str, work: &str, n: usize) -> Option<&Row> {
        self.rows.iter().find(|row| row.rival == rival && row.work == work && row.n == n)
    }

    /// How much more a rival costs than toolpool.
    pub fn ratio(&self, rival: &str, work: &str, n: usize) -> Option<f64> {
        let row = self.row(rival, work, n)?;
        let ours = || self.row(TOOLPOOL, work, n).map(|ours| row.micros / ours.micros);
        row.ratio.or_else(ours)
    }

    /// Prints where toolpool's overhead changed by more than a fifth, as a multiple of tokio's in
    /// the same run, so that a slower machine isn't taken for slower code.
    pub fn tell_changes(&self, before: &Self) {
        let mut changed = 0;
        for row in self.rows.iter().filter(|row| row.rival == TOOLPOOL) {
            let to_tokio = |results: &Self| Some(1.0 / results.ratio(TOKIO, &row.work, row.n)?);
            let (Some(now), Some(then)) = (to_tokio(self), to_tokio(before)) else { continue };
            let change = now / then;
            if !(0.8..=1.2).contains(&change) {
                changed += 1;
                let word = if change > 1.0 { "REGRESSION" } else { "improvement" };
                println!(
                    "{word}: {} × {}: {now:.2} of tokio's overhead, {then:.2} on {}",
                    row.n, row.work, before.date
                );
            }
        }
        println!("{changed} changes of more than 20 % since {}", before.date);
    }
}
