//! How fast bodies and streams are read, beside the least that any reader does.
//!
//! - `whole`: `Wire::parse` of a body, against `serde_json::from_slice::<Value>` of the same bytes
//! - `stream`: an assembler that is fed a stream, against splitting the stream into lines and
//!   `from_slice::<Value>` of each payload; of Amazon's event stream into frames, whose checksums
//!   are compared
//!
//! On the project's own fixtures, or on recorded traffic where `TOOLPOOL_CORPUS` names it (then on
//! streams, too, whose framing was recorded). All bodies of a format are read one after another;
//! the throughput is theirs together.
//!
//! `cargo bench --no-default-features --bench wire`
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::print_stdout, reason = "what a bench leaves out is said")]

mod common;

use std::hint::black_box;
use std::path::{Path, PathBuf};

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

fn whole(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("whole");
    for one in corpus().map_or_else(own, |corpus| recorded(&corpus, false)) {
        if one.bodies.is_empty() {
            continue;
        }
        group.throughput(Throughput::Bytes(one.bytes()));
        group.bench_with_input(BenchmarkId::new("parse", one.wire), &one, |bencher, one| {
            bencher.iter(|| {
                for body in &one.bodies {
                    let _ = black_box(one.wire.parse(body));
                }
            });
        });
        group.bench_with_input(BenchmarkId::new("value", one.wire), &one, |bencher, one| {
            bencher.iter(|| {
                for body in &one.bodies {
                    let _ = black_box(serde_json::from_slice::<Value>(body));
                }
            });
        });
    }
    group.finish();
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
    let mut group = criterion.benchmark_group("stream");
    for one in recorded(&corpus, true) {
        if one.bodies.is_empty() {
            continue;
        }
        group.throughput(Throughput::Bytes(one.bytes()));
        group.bench_with_input(BenchmarkId::new("assemble", one.wire), &one, |bencher, one| {
            bencher.iter(|| {
                for body in &one.bodies {
                    let mut assembler = one.wire.stream();
                    let mut tell = |event: StreamEvent<'_>| _ = black_box(event);
                    let _ = assembler.feed(body, &mut tell);
                    let _ = black_box(assembler.finish(&mut tell));
                }
            });
        });
        group.bench_with_input(BenchmarkId::new("values", one.wire), &one, |bencher, one| {
            bencher.iter(|| {
                for body in &one.bodies {
                    values(body);
                }
            });
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = common::criterion(); targets = whole, stream }
criterion_main!(benches);
