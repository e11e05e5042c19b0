//! A customer's record, orders and tickets, from three HTTP services that take 400, 500 and 600 ms,
//! as one model turn asks for them.
//!
//! The turn is run one call after another, then in parallel; then with a service that fails and
//! one that hangs. Everything is local: the services run on loopback, the model's turn is a
//! recorded response body.
//!
//! ```sh
//! cargo run --example customer_lookup
//! ```
#![allow(clippy::unwrap_used, reason = "the embedded service's data is its own")]
#![allow(clippy::print_stdout, reason = "an example prints")]

#[path = "customer_lookup/service.rs"]
mod service;

use std::error::Error;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use toolpool::{
    CallContext, Executor, Json, Outcome, Report, Tool, ToolError, ToolErrorKind, ToolSet, Turn,
    Wire,
};

/// What the model answered: some text and three calls.
const BODY: &str = include_str!("customer_lookup/turn.json");

#[derive(Deserialize, JsonSchema)]
struct ById {
    /// The customer's number.
    id: u64,
}

/// A GET that takes no longer than the call has left. What went wrong is told to the model by its
/// kind only; status and body are for the log.
fn get(url: &str, cx: &CallContext) -> Result<Json, ToolError> {
    let answer = ureq::get(url).config().timeout_global(Some(cx.remaining())).build().call();
    let kind = match &answer {
        Ok(_) => ToolErrorKind::Other,
        Err(ureq::Error::StatusCode(404)) => ToolErrorKind::NotFound,
        Err(ureq::Error::StatusCode(429)) => ToolErrorKind::RateLimited,
        Err(ureq::Error::StatusCode(500..)) => ToolErrorKind::Unavailable,
        Err(ureq::Error::Timeout(_)) => ToolErrorKind::TimedOut,
        Err(_) => ToolErrorKind::Unavailable,
    };
    let mut answer = answer.map_err(|error| ToolError::of_kind(kind).with_details(error))?;
    Ok(Json::parse(answer.body_mut().read_to_string()?)?)
}

/// The three tools; `orders` and `tickets` are where those services are found.
fn tools(base: &str, orders: &str, tickets: &str) -> ToolSet {
    let customer = format!("{base}/customers");
    let orders = format!("{base}/{orders}");
    let tickets = format!("{base}/{tickets}");
    ToolSet::new()
        .with(
            Tool::new("get_customer", "Customer record by number", {
                move |a: ById, cx: &CallContext| get(&format!("{customer}/{}", a.id), cx)
            })
            .read_only(),
        )
        .with(
            Tool::new("get_orders", "A customer's orders, newest first", {
                move |a: ById, cx: &CallContext| get(&format!("{orders}/{}/orders", a.id), cx)
            })
            .read_only(),
        )
        .with(
            Tool::new("get_tickets", "A customer's tickets, newest first", {
                // Careless on purpose: it doesn't ask how much time it has.
                move |a: ById| {
                    let url = format!("{tickets}/{}/tickets", a.id);
                    Ok(Json::parse(ureq::get(&url).call()?.body_mut().read_to_string()?)?)
                }
            })
            .read_only()
            .timeout(Duration::from_millis(1500)),
        )
}

fn main() -> Result<(), Box<dyn Error>> {
    let base = service::start()?;
    let turn = Wire::Anthropic.parse(BODY)?;

    println!("The model asks:");
    for call in turn.calls() {
        println!("  {}({})", call.name(), call.arguments());
    }

    let executor = Executor::builder(tools(&base, "customers", "customers")).build()?;
    println!("\nOne after another:");
    let sequential = executor.turn(&turn).max_parallel(1).run();
    print!("{}", sequential.timeline());

    println!("\nIn parallel:");
    let report = executor.run(&turn);
    print!("{}", report.timeline());

    println!("\nWhat goes back to the model:");
    for message in turn.reply(&report) {
        println!("{message}");
    }
    saving(&turn, &sequential, &report);

    println!("\nWith the orders' service broken and the tickets' hanging:");
    let ailing = executor.with_tools(tools(&base, "broken", "hangs"))?;
    let report = ailing.run(&turn);
    print!("{}", report.timeline());
    println!("\nWhat the model is told:");
    for result in report.results() {
        let sign = if result.is_error { "✗" } else { " " };
        println!("{sign} {}: {}", result.name, result.content.to_text());
    }
    println!("\nWhat only the log learns:");
    for call in report.failures() {
        let why = match &call.outcome {
            Outcome::Failed(error) => error.to_string(),
            other => other.name().to_owned(),
        };
        println!("  {}: {why}", call.call.name());
    }
    println!("  threads that were walked away from: {}", executor.stats().abandoned);
    Ok(())
}

/// What the parallel turn saved, and what the same three calls cost when the model makes one a
/// turn.
fn saving(turn: &Turn, sequential: &Report, parallel: &Report) {
    let ms = |report: &Report| report.wall().as_secs_f64() * 1e3;
    println!(
        "\nSaved by running in parallel: {:.0} ms of {:.0} ms; the longest call alone takes {:.0} ms.",
        ms(sequential) - ms(parallel),
        ms(sequential),
        parallel.calls().iter().map(|call| call.run_time().as_secs_f64() * 1e3).fold(0.0, f64::max),
    );

    let calls = turn.calls().len() as u64;
    let prompt = turn.usage().input_tokens;
    let written = turn.usage().output_tokens;
    let bytes: usize = parallel.results().map(|result| result.content.to_text().len()).sum();
    let results = bytes as u64 / 4;
    // Request k + 1 reads the prompt and what the k calls before it added: each its share of what
    // the model wrote, and its result.
    let one_turn = (prompt, prompt + written + results);
    let added = |k: u64| (written + results) * k / calls;
    let each: Vec<u64> = (0..=calls).map(|k| prompt + added(k)).collect();
    let sum: u64 = each.iter().sum();
    let terms = each.iter().map(u64::to_string).collect::<Vec<_>>().join(" + ");
    println!(
        "
In model requests and input tokens (prompt {prompt}, written by the model {written}, results
about {results}, at 4 bytes a token; no prompt cache):
  three calls in one turn    2 requests   {} + {} = {} tokens
  one call a turn            {} requests   {terms} = {sum} tokens
So one call a turn costs {} more requests and {:.1} times the input tokens, and the model's own
time for each of those requests comes on top of the tools'.",
        one_turn.0,
        one_turn.1,
        one_turn.0 + one_turn.1,
        calls + 1,
        calls - 1,
        sum as f64 / (one_turn.0 + one_turn.1) as f64,
    );
}
