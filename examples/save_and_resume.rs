//! A conversation that waits for somebody's decision, is stored, and goes on in another process.
//!
//! The model wants to look an order up and to refund it. Looking up runs at once; the refund needs
//! approval, and nobody is there to give it. So the conversation is written to a file. Later it is
//! read from there, the decision is made, and the loop goes on with the results it had.
//!
//! `cargo run --example save_and_resume`
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;
use toolpool::agent::{Agent, Conversation, End};
use toolpool::model::ScriptedModel;
use toolpool::{Approval, Executor, Resolution, Tool, ToolCall, ToolSet, Turn, Wire};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Deserialize, JsonSchema)]
struct Order {
    /// The order's number.
    order: u64,
}

/// The agent as each process makes it; only what the model says differs.
fn agent(model: ScriptedModel) -> Result<Agent> {
    let tools = ToolSet::new()
        .with(
            Tool::new("get_order", "An order by its number", |args: Order| {
                println!("  get_order({}) runs", args.order);
                Ok(format!("order {}: one kettle, 39.90, arrived broken", args.order))
            })
            .read_only(),
        )
        .with(
            Tool::new("refund", "Refunds an order", |args: Order| {
                println!("  refund({}) runs", args.order);
                Ok(format!("refunded 39.90 for order {}", args.order))
            })
            .needs_approval(),
        );
    let executor = Executor::builder(tools)
        .approval(|requests| requests.iter().map(|_| Approval::Defer).collect())
        .build()?;
    Ok(Agent::builder(model, executor).system("You look after customers.").build()?)
}

fn main() -> Result<()> {
    let path = std::env::temp_dir().join(format!("conversation-{}.json", std::process::id()));
    let ended = save(&path).and_then(|()| resume(&path));
    std::fs::remove_file(&path).unwrap_or_default();
    ended
}

/// The first process: it ends while a decision is pending.
fn save(path: &Path) -> Result<()> {
    println!("The first process:");
    let model = ScriptedModel::new(Wire::Anthropic).turn(
        Turn::from_calls([
            ToolCall::new("toolu_1", "get_order", r#"{"order": 1042}"#),
            ToolCall::new("toolu_2", "refund", r#"{"order": 1042}"#),
        ])
        .for_wire(Wire::Anthropic),
    );
    let agent = agent(model)?;
    let mut conversation = agent.conversation();
    conversation.user("My kettle came broken. Order 1042. I want my money back.");
    let End::Suspended(suspended) = agent.run(&mut conversation)? else {
        return Err("nothing waits for a decision".into());
    };
    for (index, call) in suspended.pending() {
        println!("  call {index} waits: {} {}", call.name(), call.arguments());
    }
    std::fs::write(path, serde_json::to_string_pretty(&conversation)?)?;
    println!("  stored {} bytes\n", std::fs::metadata(path)?.len());
    Ok(())
}

/// The second process: somebody has decided.
fn resume(path: &Path) -> Result<()> {
    println!("The second process:");
    let model = ScriptedModel::new(Wire::Anthropic).body(
        r#"{"role": "assistant", "stop_reason": "end_turn", "content":
            [{"type": "text", "text": "I refunded 39.90 for your kettle."}],
            "usage": {"input_tokens": 310, "output_tokens": 15}}"#,
    );
    let agent = agent(model)?;
    let mut conversation: Conversation = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let waits = conversation.suspended().map(|suspended| suspended.pending().map(|(n, _)| n));
    let decisions: Vec<_> =
        waits.into_iter().flatten().map(|index| (index, Resolution::Allow)).collect();
    let end = agent.resume(&mut conversation, decisions)?;
    println!("  {}", end.answer().unwrap_or("no answer"));
    println!("\nThe conversation, every call answered:");
    for message in conversation.messages() {
        println!("  {message}");
    }
    Ok(())
}
