//! What was aimed at, and whether these results reach it.

use crate::measure::{LONG, SIZES};
use crate::results::Results;
use crate::rivals::{SCOPE, TOKIO, TOOLPOOL};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Met {
    Yes,
    No,
    NotMeasured,
}

impl Met {
    pub fn name(self) -> &'static str {
        match self {
            Self::Yes => "met",
            Self::No => "MISSED",
            Self::NotMeasured => "not measured",
        }
    }
}

pub struct Goal {
    pub name: &'static str,
    pub figure: String,
    pub met: Met,
}

fn goal(name: &'static str, figure: Option<(String, bool)>) -> Goal {
    match figure {
        Some((figure, met)) => Goal { name, figure, met: if met { Met::Yes } else { Met::No } },
        None => Goal { name, figure: "-".to_owned(), met: Met::NotMeasured },
    }
}

/// A cell of a table that one of toolpool's own benches printed, as a number.
fn cell(results: &Results, bench: &str, row: &str, column: usize) -> Option<f64> {
    let lines = results.own.get(bench)?.lines();
    let mut cells = lines.map(|line| line.trim_matches('|').split('|').map(str::trim));
    let mut found = cells.find_map(|mut cells| (cells.next()? == row).then_some(cells))?;
    found.nth(column - 1)?.split(' ').next()?.parse().ok()
}

/// The least ratio of a rival to toolpool over both works and all sizes, and where.
fn least(results: &Results, rival: &str) -> Option<(f64, String, Vec<String>)> {
    let mut least: Option<(f64, String)> = None;
    let mut below = Vec::new();
    for work in ["no_op", "nap"] {
        for n in SIZES {
            let ratio = results.ratio(rival, work, n)?;
            if least.as_ref().is_none_or(|(so_far, _)| ratio < *so_far) {
                least = Some((ratio, format!("{n} × {work}")));
            }
            if ratio < 1.0 {
                below.push(format!("{n} × {work} ({:.2})", 1.0 / ratio));
            }
        }
    }
    least.map(|(ratio, place)| (ratio, place, below))
}

pub fn of(results: &Results) -> Vec<Goal> {
    let tokio = least(results, TOKIO).map(|(ratio, place, below)| {
        let missed = match &below[..] {
            [] => String::new(),
            below => format!("; more than tokio's at {}", below.join(", ")),
        };
        let most = 1.0 / ratio;
        (format!("at most {most:.2} of tokio's, at {place}{missed}"), below.is_empty())
    });
    let python = |rival: &str| {
        least(results, rival)
            .map(|(ratio, place, _)| (format!("at least {ratio:.0}×, at {place}"), ratio >= 20.0))
    };
    let millis = |rival: &str, work: &str| Some(results.row(rival, work, LONG)?.micros / 1e3);
    let warm = millis(TOOLPOOL, "long_nap").map(|ms| (format!("{ms:.1} ms"), ms <= 10.0));
    let cold = millis(TOOLPOOL, "long_nap_cold").zip(millis(SCOPE, "long_nap_cold"));
    let cold = cold.map(|(ours, scope)| {
        (format!("{ours:.1} ms beside {scope:.1} ms: {:.2}", ours / scope), ours <= scope * 1.1)
    });
    let pairs = results.own.get("overhead").and_then(|text| {
        let ratio: f64 = text.split("ratio ").nth(1)?.split(' ').next()?.parse().ok()?;
        Some((format!("{ratio:.2}"), ratio <= 1.3))
    });
    let at_most = |bench: &str, row: &str, column: usize, most: f64| {
        let figure = cell(results, bench, row, column)?;
        Some((format!("{figure}"), figure <= most))
    };
    let core = |pick: fn(&crate::build_cost::Program) -> f64, name: &str| {
        let programs = &results.build_cost.as_ref()?.programs;
        programs.iter().find(|program| program.name == name).map(pick)
    };
    let part = |pick: fn(&crate::build_cost::Program) -> f64| {
        core(pick, "toolpool, core").zip(core(pick, "rig-core")).map(|(ours, rig)| ours / rig)
    };
    let build = part(|p| p.seconds).map(|time| {
        let cpu = part(|p| p.cpu_seconds.unwrap_or(f64::NAN)).unwrap_or(f64::NAN);
        (format!("{time:.2} of its time, {cpu:.2} of its processor time"), time <= 0.25)
    });
    let crates = core(|p| p.crates as f64, "toolpool, core");
    vec![
        goal("overhead a call at or below tokio `spawn_blocking` + join, every n", tokio),
        goal("overhead ≥ 20× less than LangGraph's", python("LangGraph ToolNode")),
        goal("overhead ≥ 20× less than pydantic-ai's", python("pydantic-ai")),
        goal("500 calls of 20 ms, warm: ≤ 10 ms over the longest call", warm),
        goal("500 calls of 20 ms, cold: beside `thread::scope`, to 10 %", cold),
        goal("3 calls of 5 ms: overhead ≤ 1.3× that of bare hand-offs", pairs),
        goal("a call of 100 000 ≤ 2× one of 1 000", at_most("scale", "100000", 3, 2.0)),
        goal("a call of 100 000 ≤ 1.3× one of 10 000", at_most("scale", "100000", 4, 1.3)),
        goal("≤ 1 KiB a queued call, of 100 000", at_most("allocations", "100000", 1, 1024.0)),
        goal("≤ 6 allocations a no-op call, at n = 100", at_most("allocations", "100", 1, 6.0)),
        goal("core: clean release build ≤ 1/4 of rig-core's", build),
        goal("core: ≤ 45 crates", crates.map(|crates| (format!("{crates}"), crates <= 45.0))),
    ]
}
