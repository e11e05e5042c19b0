//! Recorded traffic: every turn that real providers sent is read as it was meant, and answered as
//! the provider demands.
//!
//! The recordings aren't part of the project; `TOOLPOOL_CORPUS` names their folder. Without it
//! the tests count as ignored, which the usual harness can't decide at run time.
#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop")]

#[expect(dead_code, reason = "the integration tests use more of it")]
#[path = "../it/wire/checker/mod.rs"]
mod checker;
#[path = "../it/wire/made_up.rs"]
mod made_up;

mod fixture;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "http")]
#[path = "../it/model/replay.rs"]
mod replay;
mod shape;
mod stream;
mod whole;

use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use toolpool::Wire;

use fixture::Fixture;

const CORPUS: &str = "TOOLPOOL_CORPUS";

/// The formats' names in the recordings.
const FORMATS: &[(&str, Wire)] = &[
    ("anthropic", Wire::Anthropic),
    ("openai_chat", Wire::OpenAi),
    ("openai_responses", Wire::OpenAiResponses),
    ("cohere_v2", Wire::Cohere),
    ("ollama", Wire::Ollama),
    ("bedrock_converse", Wire::Bedrock),
    ("gemini", Wire::Gemini),
];

type Check = fn(Wire, &Fixture) -> Result<(), String>;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = match std::env::var_os(CORPUS) {
        Some(folder) => trials(Path::new(&folder)),
        None => vec![
            Trial::test("recordings::TOOLPOOL_CORPUS_is_not_set", || {
                Err("set TOOLPOOL_CORPUS to the folder of the recordings".into())
            })
            .with_ignored_flag(true),
        ],
    };
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trials(folder: &Path) -> Vec<Trial> {
    let index = folder.join("index.jsonl");
    let lines = std::fs::read_to_string(&index)
        .unwrap_or_else(|error| panic!("{CORPUS}: {}: {error}", index.display()));
    let trials = lines
        .lines()
        .map(|line| serde_json::from_str::<fixture::Line>(line).unwrap())
        .filter_map(|line| {
            let wire = FORMATS.iter().find(|(format, _)| *format == line.format)?.1;
            let path = folder.join(&line.file);
            let name = Path::new(&line.file).file_stem()?.to_str()?.to_owned();
            let (kind, check): (_, Check) = match line.streaming {
                true => ("stream", stream::check),
                false => ("whole", whole::check),
            };
            Some(Trial::test(format!("{kind}::{wire}::{name}"), move || {
                check(wire, &Fixture::read(&path)).map_err(Into::into)
            }))
        });
    #[cfg(feature = "http")]
    let trials = trials.chain(over_http(folder, &lines));
    trials.collect()
}

/// The same streams, and the errors, through a client.
#[cfg(feature = "http")]
fn over_http(folder: &Path, lines: &str) -> Vec<Trial> {
    let streams = lines
        .lines()
        .map(|line| serde_json::from_str::<fixture::Line>(line).unwrap())
        .filter(|line| line.streaming)
        .filter_map(|line| {
            let wire = FORMATS.iter().find(|(format, _)| *format == line.format)?.1;
            let path = folder.join(&line.file);
            let name = format!("http::{wire}::{}", Path::new(&line.file).file_stem()?.to_str()?);
            Some(Trial::test(name, move || {
                http::stream(wire, &Fixture::read(&path)).map_err(Into::into)
            }))
        });
    let refused = http::Refused::read(folder).into_iter().enumerate().map(|(number, refused)| {
        Trial::test(refused.name(number), move || refused.check().map_err(Into::into))
    });
    streams.chain(refused).collect()
}
