//! Runs the same work through toolpool and through what people use instead, and writes
//! `benches/README.md`, its plots and `benches/results.json`. The script `run` beside this crate
//! prepares what it needs; see there for the options.
//!
//! `peers measure [--quick] [--no-rivals] [--build-cost]` · `peers probe RIVAL FAULT`

mod build_cost;
mod faults;
mod goals;
mod machine;
mod measure;
mod page;
mod plot;
mod python;
mod results;
mod rivals;
mod work;

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use results::Results;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["probe", rival, fault] => faults::probe(rival, fault),
        ["measure", ref options @ ..] => measure_all(options),
        _ => {
            Err("peers measure [--quick] [--no-rivals] [--build-cost] | peers probe RIVAL FAULT"
                .into())
        }
    }
}

fn measure_all(options: &[&str]) -> Result<(), Box<dyn Error>> {
    let quick = options.contains(&"--quick");
    let budget = Duration::from_secs_f64(if quick { 0.5 } else { 4.0 });
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let benches = here.parent().ok_or("the crate has no parent folder")?;
    let before = Results::read(&benches.join("results.json"));

    let mut results = match &before {
        Some(before) if options.contains(&"--no-rivals") => before.clone(),
        _ => {
            let (rows, faults, versions) = rivals_and_faults(here, budget)?;
            Results {
                date: machine::today(),
                quick,
                machine: machine::Machine::this(),
                versions,
                rows,
                faults,
                own: before.as_ref().map(|before| before.own.clone()).unwrap_or_default(),
                build_cost: before.as_ref().and_then(|before| before.build_cost.clone()),
            }
        }
    };
    results.own.extend(results::own(here));
    if options.contains(&"--build-cost") {
        results.build_cost = Some(build_cost::measure(here)?);
    }
    results.write(&benches.join("results.json"))?;
    plot::write(&results, benches)?;
    std::fs::write(benches.join("README.md"), page::of(&results))?;
    for goal in goals::of(&results) {
        println!("{}: {} ({})", goal.name, goal.figure, goal.met.name());
    }
    match before {
        Some(before) => results.tell_changes(&before),
        None => println!("no results from before to compare with"),
    }
    Ok(())
}

type Found = (Vec<measure::Row>, Vec<faults::Finding>, Vec<(String, String)>);

fn rivals_and_faults(here: &Path, budget: Duration) -> Result<Found, Box<dyn Error>> {
    let mut versions = machine::versions(here)?;
    let mut rows = measure::all(budget);
    let mut faults = faults::all();
    match python::Python::find() {
        Some(python) => {
            versions.extend(python.versions()?);
            rows.extend(python.measure(budget)?);
            faults.extend(python.faults()?);
        }
        None => println!("no Python: its rivals are left out"),
    }
    Ok((rows, faults, versions))
}
