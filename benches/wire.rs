//! How fast bodies and streams are read, beside the least that any reader does.
//!
//! - `whole`: `Wire::parse` of a body, against `serde_json::from_slice::<Value>` of the same bytes
//! - `stream`: an assembler that is fed a stream, against splitting the stream into lines and
//!   `from_slice::<Value>` of each payload; of Amazon's event stream into frames, whose checksums
//!   are compared
//!
//! On the project's own fixtures, or on recorded traffic where `TOOLPOOL_CORPUS` names it (then on
//! streams, too, whose framing was recorded). All bodies of a format are read one after another;
//! the throughput is theirs together. Each group begins with a table, for which both are timed in
//! turn; its last column is what is aimed at: at least 1.
//!
//! `cargo bench --no-default-features --features wire --bench wire`
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::print_stdout, reason = "what a bench leaves out is said")]

mod common;

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::Value;
use toolpool::Wire;
use toolpool::wire::StreamEvent;

/// The bodies of one format.
struct Bodies {
    wire: Wire,
    bodies: Vec<Vec<u8>>,
}

impl Bodies {
    fn bytes(&self) -> u64 {
        self.bodies.iter().map(|body| body.len() as u64).sum()
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false if path.extension().is_some_and(|end| end == "json") => found.push(path),
            false => {}
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn wire_of(format: &str) -> Option<Wire> {
    Some(match format {
        "anthropic" => Wire::Anthropic,
        "openai_chat" => Wire::OpenAi,
        "openai_responses" => Wire::OpenAiResponses,
        "gemini" => Wire::Gemini,
        "bedrock_converse" => Wire::Bedrock,
        "cohere_v2" => Wire::Cohere,
        "ollama" => Wire::Ollama,
        _ => return None,
    })
}

/// The recorded bodies of a format, whole or streamed.
fn recorded(corpus: &Path, streamed: bool) -> Vec<Bodies> {
    let mut all: Vec<Bodies> =
        Wire::ALL.map(|wire| Bodies { wire, bodies: Vec::new() }).into_iter().collect();
    for path in files(&corpus.join("turns")) {
        let Some(fixture) = read(&path) else { continue };
        let framing = fixture["framing"].as_str().unwrap_or_default();
        let wanted = match streamed {
            true => matches!(framing, "sse" | "ndjson" | "aws-eventstream"),
            false => framing == "json",
        };
        let body = match &fixture["body"] {
            Value::String(text) => text.clone().into_bytes(),
            Value::Null => {
                match fixture["body_base64"].as_str().map(|coded| STANDARD.decode(coded)) {
                    Some(Ok(body)) => body,
                    _ => continue,
                }
            }
            value => value.to_string().into_bytes(),
        };
        let wire = fixture["format"].as_str().and_then(wire_of);
        if let Some(place) = all.iter_mut().find(|bodies| wanted && Some(bodies.wire) == wire) {
            place.bodies.push(body);
        }
    }
    all
}

/// The project's own whole bodies.
fn own() -> Vec<Bodies> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wire");
    let all = Wire::ALL.map(|wire| {
        let files = files(&root.join(wire.name()));
        let bodies = files.iter().filter_map(|path| std::fs::read(path).ok());
        // Those that can't be read have a test; here they would be quick to refuse.
        let bodies = bodies.filter(|body| wire.parse(body).is_ok()).collect();
        Bodies { wire, bodies }
    });
    all.into_iter().collect()
}

fn corpus() -> Option<PathBuf> {
    std::env::var_os("TOOLPOOL_CORPUS").map(PathBuf::from)
}

/// Something that is done with all bodies of a format.
type Work = fn(&Bodies);

fn parse(one: &Bodies) {
    for body in &one.bodies {
        let _ = black_box(one.wire.parse(body));
    }
}

fn value_of_each(one: &Bodies) {
    one.bodies.iter().for_each(|body| value(body));
}

fn assemble(one: &Bodies) {
    for body in &one.bodies {
        let mut assembler = one.wire.stream();
        let mut tell = |event: StreamEvent<'_>| _ = black_box(event);
        let _ = assembler.feed(body, &mut tell);
        let _ = black_box(assembler.finish(&mut tell));
    }
}

fn values_of_each(one: &Bodies) {
    one.bodies.iter().for_each(|body| values(body));
}

/// Microseconds that `work` takes, of so many times that it can be timed.
fn micros(work: Work, one: &Bodies, times: u32) -> f64 {
    let start = Instant::now();
    for _ in 0..times {
        work(one);
    }
    start.elapsed().as_secs_f64() * 1e6 / f64::from(times)
}

/// A row of the table: both in turn, so that what else the machine does strikes both.
fn compare(group: &str, one: &Bodies, ours: Work, least: Work) {
    let times = (5_000.0 / micros(ours, one, 3)).ceil() as u32;
    let rounds = (0..common::rounds(31)).map(|_| {
        let ours = micros(ours, one, times);
        (ours, micros(least, one, times))
    });
    let rounds: Vec<_> = rounds.collect();
    println!(
        "| {group} | {} | {} | {:.1} | {:.1} | {:.2} |",
        one.wire,
        one.bytes(),
        common::median(rounds.iter().map(|round| round.0)),
        common::median(rounds.iter().map(|round| round.1)),
        common::median(rounds.iter().map(|round| round.1 / round.0)),
    );
}

/// Prints how the throughputs compare, then measures each by itself.
fn measure(
    criterion: &mut Criterion,
    name: &str,
    all: &[Bodies],
    ours: (&str, Work),
    least: (&str, Work),
) {
    println!("| | format | bytes | {}, us | {}, us | throughput |", ours.0, least.0);
    println!("| --- | --- | --- | --- | --- | --- |");
    for one in all {
        compare(name, one, ours.1, least.1);
    }
    println!();
    let mut group = criterion.benchmark_group(name);
    for one in all {
        group.throughput(Throughput::Bytes(one.bytes()));
        for (name, work) in [ours, least] {
            group.bench_with_input(BenchmarkId::new(name, one.wire), one, |bencher, one| {
                bencher.iter(|| work(one));
            });
        }
    }
    group.finish();
}

fn whole(criterion: &mut Criterion) {
    let mut all = corpus().map_or_else(own, |corpus| recorded(&corpus, false));
    all.retain(|one| !one.bodies.is_empty());
    measure(criterion, "whole", &all, ("parse", parse), ("value", value_of_each));
}

/// Parses the payloads of a stream, found as any reader has to find them.
fn values(body: &[u8]) {
    if body.starts_with(&[0]) {
        return frames(body).for_each(value);
    }
    lines(body).for_each(value);
}

fn value(payload: &[u8]) {
    let _ = black_box(serde_json::from_slice::<Value>(payload));
}

/// The payloads of Amazon's frames, up to the first whose checksums are wrong.
fn frames(mut body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let number = |bytes: &[u8]| bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
    std::iter::from_fn(move || {
        let (total, headers) = (number(body)? as usize, number(body.get(4..)?)? as usize);
        let (frame, rest) = body.split_at_checked(total)?;
        let (prelude, all) = (frame.get(..8)?, frame.get(..total.checked_sub(4)?)?);
        let right = number(&frame[8..])? == crc32fast::hash(prelude)
            && number(&frame[total - 4..])? == crc32fast::hash(all);
        body = rest;
        all.get(12 + headers..).filter(|_| right)
    })
}

/// The payloads of lines and server-sent events.
fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.split(|byte| *byte == b'\n').filter_map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match line.strip_prefix(b"data:") {
            Some(data) => Some(data.trim_ascii_start()),
            None => line.starts_with(b"{").then_some(line),
        }
    })
}

fn stream(criterion: &mut Criterion) {
    let Some(corpus) = corpus() else {
        println!("no streams: TOOLPOOL_CORPUS is not set");
        return;
    };
    let mut all = recorded(&corpus, true);
    all.retain(|one| !one.bodies.is_empty());
    measure(criterion, "stream", &all, ("assemble", assemble), ("values", values_of_each));
}

criterion_group! { name = benches; config = common::criterion(); targets = whole, stream }
criterion_main!(benches);
