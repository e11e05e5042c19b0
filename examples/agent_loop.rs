//! The whole loop: a model that looks three cities up at once and compares what it got.
//!
//! With `ANTHROPIC_API_KEY` or `OPENAI_API_KEY` set it asks that provider; `TOOLPOOL_MODEL` names
//! another model than the one given here. Without a key it asks a server on loopback that plays
//! prepared streams, so it runs anywhere and always says the same.
//!
//! `cargo run --example agent_loop`
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::io::Write;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use toolpool::agent::{Agent, AgentEvent, End, ParallelPolicy};
use toolpool::model::{Client, Server};
use toolpool::{CallContext, Tool, ToolSet};

use self::replay::{Answer, Replay};

#[path = "../tests/it/model/replay.rs"]
mod replay;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Deserialize, JsonSchema)]
struct City {
    /// The city's name in English.
    city: String,
}

fn main() -> Result<()> {
    let (client, _server) = model()?;
    let weather =
        Tool::new("weather", "The weather in a city now", |args: City, cx: &CallContext| {
            cx.sleep(Duration::from_millis(400))?; // a service that takes its time
            match args.city.as_str() {
                "Bern" => Ok(json!({ "celsius": 14, "sky": "clear" })),
                "Oslo" => Ok(json!({ "celsius": 3, "sky": "snow" })),
                "Rome" => Ok(json!({ "celsius": 22, "sky": "clear" })),
                other => Err(format!("no station in {other}").into()),
            }
        });
    let agent = Agent::builder(client, ToolSet::new().with(weather.read_only()))
        .system("You compare the weather. Be brief.")
        .parallel(ParallelPolicy::Encourage)
        .max_turns(6)
        .last_turn_without_tools()
        .deadline(Duration::from_secs(60))
        .build()?;

    let mut conversation = agent.conversation();
    conversation.user("Where is it warmest just now: Bern, Oslo or Rome?");
    let end = agent
        .on(&mut conversation)
        .events(|event| match event {
            AgentEvent::Asking(n) => println!("-- request {n} --"),
            AgentEvent::Text(text) => {
                print!("{text}");
                std::io::stdout().flush().unwrap_or_default();
            }
            AgentEvent::Call(call) => println!("{} {}", call.name(), call.arguments()),
            AgentEvent::Results(report) => println!("{}", report.timeline()),
            _ => {}
        })
        .run()?;
    match &end {
        End::Answer(_) => println!(),
        other => println!("no answer: {other}"),
    }

    let stats = agent.stats();
    println!(
        "{} turns, {:.1} calls a calling turn, {:.0?} saved, {} tokens read and {} written",
        stats.turns,
        stats.calls_per_turn(),
        stats.saved,
        stats.usage.input_tokens,
        stats.usage.output_tokens
    );
    Ok(())
}

/// A provider whose key is there, or the server that plays one; it must be kept.
fn model() -> Result<(Client, Option<Replay>)> {
    let has = |name: &str| std::env::var(name).is_ok_and(|key| !key.trim().is_empty());
    let named = |default: &str| std::env::var("TOOLPOOL_MODEL").unwrap_or(default.to_owned());
    if has("ANTHROPIC_API_KEY") {
        return Ok((Client::anthropic(named("claude-sonnet-4-5")).build()?, None));
    }
    if has("OPENAI_API_KEY") {
        return Ok((Client::openai(named("gpt-5-mini")).build()?, None));
    }
    println!("No key is set: a server on loopback plays the model.\n");
    let server = Replay::new([Answer::stream(calls()), Answer::stream(words())]);
    let client = Client::compatible(Server::Vllm, "played").base_url(server.url()).build()?;
    Ok((client, Some(server)))
}

/// A piece of a stream, and the pause before it.
type Piece = (Duration, String);

fn piece(delta: serde_json::Value, finish: Option<&str>) -> Piece {
    let chunk = json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] });
    (Duration::from_millis(40), format!("data: {chunk}\n\n"))
}

fn end(prompt_tokens: u64, completion_tokens: u64) -> Piece {
    let usage = json!({ "prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens });
    let chunk = json!({ "choices": [], "usage": usage });
    (Duration::ZERO, format!("data: {chunk}\n\ndata: [DONE]\n\n"))
}

fn calls() -> Vec<Piece> {
    let mut pieces = vec![piece(json!({ "role": "assistant" }), None)];
    for (index, city) in ["Bern", "Oslo", "Rome"].into_iter().enumerate() {
        let function =
            json!({ "name": "weather", "arguments": json!({ "city": city }).to_string() });
        let call = json!({ "index": index, "id": format!("call_{index}"), "type": "function",
            "function": function });
        pieces.push(piece(json!({ "tool_calls": [call] }), None));
    }
    pieces.push(piece(json!({}), Some("tool_calls")));
    pieces.push(end(140, 48));
    pieces
}

fn words() -> Vec<Piece> {
    let words =
        ["It is warmest in ", "Rome: 22 °C and clear, ", "against 14 in Bern and 3 in Oslo."];
    let mut pieces: Vec<_> =
        words.into_iter().map(|word| piece(json!({ "content": word }), None)).collect();
    pieces.push(piece(json!({}), Some("stop")));
    pieces.push(end(220, 25));
    pieces
}
