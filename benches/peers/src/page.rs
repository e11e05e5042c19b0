//! The results as `benches/README.md`.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::faults::{DEADLINE, Finding};
use crate::goals;
use crate::measure::{LONG, SIZES};
use crate::results::{OWN, Results};
use crate::rivals::TOOLPOOL;

const HEAD: &str = "\
# Benchmarks

Written by `benches/peers/run`, which measures all of this anew; edit that, not this page.
";

const HOW: &str = "\
## How it is measured

- **Overhead of a call** is the wall time of a turn less the longest run inside a handler, divided
  by the number of calls. A no-op's run counts as nothing.
- The Rust rivals run in one process, in turn, each round in another order, and each one turn untimed
  before the one that counts; figures are medians over the rounds. A ratio is the median of the rounds' ratios to toolpool. The Python rivals run in a
  process of their own right after; their ratios are those of the medians.
- Threads are warm but where it says cold: then the making of the executor, the pool or the runtime is
  in the time. Each rival that can be told may have as many threads as there are calls, but rayon no more than 64:
  a thousand workers that look for work keep a small machine from everything else.
- toolpool runs with everything on: timeouts, a deadline, the policy `abort_on_first`, arguments
  decoded, a complete report. \"Reply written\" is that and the messages for an OpenAI request.
  Hand-offs, scopes, rayon and tokio call a closure: no arguments, no limits, results in a `Vec`.
- Agents (rig, agnt, LangGraph, pydantic-ai) are whole ones with a scripted model in the same process.
  They are timed from the moment the model's message is handed to them until they ask again.
- rig's blocking tools wrap their body in `spawn_blocking`, since a body that blocks would stop the
  others; its async tools sleep on tokio's timer and need no thread.
- A machine that does other work changes all figures together: quote ratios.
";

pub fn of(results: &Results) -> String {
    let mut page = format!("{HEAD}\n");
    if results.quick {
        page += "**A quick run: too few rounds for figures to be quoted.**\n\n";
    }
    let machine = &results.machine;
    let versions = results.versions.iter().map(|(name, version)| format!("{name} {version}"));
    let _ = writeln!(
        page,
        "{}, {} cores, {}, {}. {}.\n",
        results.date,
        machine.cores,
        machine.processor,
        machine.system,
        versions.collect::<Vec<_>>().join(", "),
    );
    page += "## What was aimed at\n\n| goal | figure | |\n| --- | --- | --- |\n";
    for goal in goals::of(results) {
        let _ = writeln!(page, "| {} | {} | {} |", goal.name, goal.figure, goal.met.name());
    }
    for (work, title, plot) in [
        ("no_op", "tools that do nothing", "overhead-no-op.svg"),
        ("nap", "tools that sleep 5 ms", "overhead-sleeping.svg"),
    ] {
        let _ = writeln!(page, "\n## Overhead a call: {title}\n");
        page += "Microseconds a call, and how many times toolpool's.\n\n";
        page += &sizes(results, work);
        let _ = writeln!(page, "\n![Overhead a call, {title}]({plot})");
    }
    let _ = writeln!(page, "\n## {LONG} calls of 20 ms\n");
    page += "Milliseconds over the longest call, and how many times toolpool's.\n\n";
    page += &long(results);
    let _ = writeln!(page, "\n![{LONG} calls of 20 ms: over the longest call](long.svg)\n");
    page += &faults(results);
    page += &own(results);
    page += &build_cost(results);
    page += HOW;
    page
}

fn rivals<'a>(results: &'a Results, work: &str) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    let rows = results.rows.iter().filter(|row| row.work == work);
    rows.map(|row| row.rival.as_str()).filter(|rival| seen.insert(*rival)).collect()
}

fn figure(value: f64, ratio: Option<f64>) -> String {
    let ratio = match ratio {
        Some(ratio) if ratio >= 10.0 => format!(" ({ratio:.0}×)"),
        Some(ratio) => format!(" ({ratio:.2}×)"),
        None => String::new(),
    };
    match value {
        value if value >= 100.0 => format!("{value:.0}{ratio}"),
        value if value >= 10.0 => format!("{value:.1}{ratio}"),
        value => format!("{value:.2}{ratio}"),
    }
}

fn sizes(results: &Results, work: &str) -> String {
    let heads = SIZES.map(|n| format!("n = {n}")).join(" | ");
    let mut table = format!("| | {heads} |\n|{}\n", " --- |".repeat(SIZES.len() + 1));
    for rival in rivals(results, work) {
        let cells = SIZES.map(|n| match results.row(rival, work, n) {
            Some(row) => figure(row.micros / n as f64, results.ratio(rival, work, n)),
            None => "-".to_owned(),
        });
        let _ = writeln!(table, "| {} | {} |", strong(rival), cells.join(" | "));
    }
    table
}

fn strong(rival: &str) -> String {
    if rival == TOOLPOOL { format!("**{rival}**") } else { rival.to_owned() }
}

fn long(results: &Results) -> String {
    let mut table = "| | warm | cold |\n| --- | --- | --- |\n".to_owned();
    for rival in rivals(results, "long_nap") {
        let cell = |work| match results.row(rival, work, LONG) {
            Some(row) => figure(row.micros / 1e3, results.ratio(rival, work, LONG)),
            None => "-".to_owned(),
        };
        let (warm, cold) = (cell("long_nap"), cell("long_nap_cold"));
        let _ = writeln!(table, "| {} | {warm} | {cold} |", strong(rival));
    }
    table
}

fn faults(results: &Results) -> String {
    let mut page = format!(
        "## When one tool of three misbehaves\n\n\
         Found out by running it, in a process of its own that is killed after 6 s. Each rival was\n\
         told a deadline of {} ms where it can be told: toolpool by its `deadline`, tokio by `timeout`\n\
         around each handle, rig by `timeout` around the prompt (it has no limit of its own), agnt by\n\
         `max_step_duration`, ThreadPoolExecutor by `result(timeout)`, LangGraph by `step_timeout`,\n\
         pydantic-ai by `tool_timeout`. \"The process lives\": it goes on after the turn and can end.\n",
        DEADLINE.as_millis()
    );
    let titles = [
        ("fail", "One returns an error", "In Python: raises an exception."),
        ("hang", "One hangs", "It never returns, and can't be told to."),
        ("panic", "One panics", "Python has no panics beside its exceptions."),
    ];
    for (fault, title, note) in titles {
        let _ = writeln!(page, "\n### {title}\n\n{note}\n");
        page += "| | one result a call | the others' results kept | back by the deadline | the process lives |\n";
        page += "| --- | --- | --- | --- | --- |\n";
        let yes = |is: bool| if is { "yes" } else { "**no**" };
        for Finding { rival, one_each, siblings_kept, in_time, lives, .. } in
            results.faults.iter().filter(|finding| finding.fault == fault)
        {
            let _ = writeln!(
                page,
                "| {} | {} | {} | {} | {} |",
                strong(rival),
                yes(*one_each),
                yes(*siblings_kept),
                yes(*in_time),
                yes(*lives),
            );
        }
    }
    page + "\n"
}

fn own(results: &Results) -> String {
    let mut page = String::new();
    for name in OWN {
        if let Some(text) = results.own.get(name) {
            let _ = writeln!(page, "## `cargo bench --bench {name}`\n\n{text}\n");
        }
    }
    page
}

fn build_cost(results: &Results) -> String {
    let Some(cost) = &results.build_cost else {
        return String::new();
    };
    let mut page = format!(
        "## What it costs to build\n\n\
         A program that uses the crate once, built clean with `cargo build --release`, sources already\n\
         fetched, on {}. toolpool's core and rig-core are built three times, in turns, and the medians\n\
         stand here. Crates are those of `cargo tree -e normal`, the program not counted.\n\
         Where the machine did other work meanwhile, the processor time is the better guide.\n\
         \"toolpool, core\" is without features and runs calls that are already known; \"core and wire\"\n\
         also reads a provider's body and writes the reply; \"toolpool\" is as it comes, an agent with\n\
         a client over HTTPS. rig-core by default has no client: it makes a request and sends none.\n\n\
         | | version | crates | build | to toolpool's core | processor time | to toolpool's core | binary |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        cost.date
    );
    let core = cost.programs.first().map_or(f64::NAN, |program| program.seconds);
    let core_cpu = cost.programs.first().and_then(|program| program.cpu_seconds);
    for program in &cost.programs {
        let cpu = match program.cpu_seconds.zip(core_cpu) {
            Some((cpu, core)) => format!("{cpu:.1} s | {:.2}×", cpu / core),
            None => "- | -".to_owned(),
        };
        let _ = writeln!(
            page,
            "| {} | {} | {} | {:.1} s | {:.2}× | {cpu} | {:.1} MB |",
            program.name,
            program.version,
            program.crates,
            program.seconds,
            program.seconds / core,
            program.bytes as f64 / 1e6,
        );
    }
    page + "\n"
}
