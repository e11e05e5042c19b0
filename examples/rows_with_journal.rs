//! A table worked on row by row, with a journal: a run that stops in the middle goes on where it was.
//!
//! For every order the model books an invoice and says that it did. The first run is stopped after
//! three rows, as a crash or Ctrl-C would stop it; the second has the same rows and the same
//! journal, and does only what is left. The model here is a few lines of code in place of a
//! provider, so that the example runs offline.
//!
//! `cargo run --example rows_with_journal`
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use schemars::JsonSchema;
use serde::Deserialize;
use toolpool::agent::Agent;
use toolpool::model::{Model, ModelError, ModelErrorKind, Request};
use toolpool::rows::{Row, Rows, UnknownOutcome};
use toolpool::{CancelToken, Tool, ToolCall, ToolSet, Turn, Wire};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Deserialize, JsonSchema)]
struct Invoice {
    /// The order's number.
    order: u64,
}

/// Books the order it is asked about, and then says so.
struct Clerk;

impl Model for Clerk {
    fn name(&self) -> &str {
        "clerk"
    }

    fn wire(&self) -> Wire {
        Wire::OpenAi
    }

    fn respond(&self, request: &Request<'_>) -> std::result::Result<Turn, ModelError> {
        let messages = request.prompt.messages;
        if messages.len() == 1 {
            let asked = messages[0].as_str();
            let order: String = asked.chars().filter(char::is_ascii_digit).collect();
            let call = ToolCall::new("call_1", "book", format!(r#"{{"order": {order}}}"#));
            return Ok(Turn::from_calls([call]).for_wire(Wire::OpenAi));
        }
        let said = r#"{"choices": [{"finish_reason": "stop", "message": {"content": "booked"}}]}"#;
        let unreadable = |error| ModelError::new(ModelErrorKind::Unreadable, self.name(), error);
        Wire::OpenAi.parse(said).map_err(unreadable)
    }
}

fn main() -> Result<()> {
    let path = std::env::temp_dir().join(format!("invoices-{}.jsonl", std::process::id()));
    let booked = Arc::new(AtomicUsize::new(0));
    let done = run(&path, &booked, Some(3)).and_then(|()| run(&path, &booked, None));
    std::fs::remove_file(&path).unwrap_or_default();
    println!("{} invoices for 8 orders", booked.load(Ordering::Relaxed));
    done
}

/// One process's run, stopped after so many rows.
fn run(journal: &Path, booked: &Arc<AtomicUsize>, stop_after: Option<u64>) -> Result<()> {
    let book = {
        let booked = Arc::clone(booked);
        Tool::new("book", "Books the invoice of an order", move |invoice: Invoice| {
            booked.fetch_add(1, Ordering::Relaxed);
            Ok(format!("invoice {} is booked", 9000 + invoice.order))
        })
    };
    let agent = Agent::builder(Clerk, ToolSet::new().with(book)).build()?;
    let stop = CancelToken::new();
    let rows = Rows::builder(&agent)
        .threads(1)
        .journal(journal)
        // Of a booking that a crash leaves open somebody is to find out what became of it.
        .unknown_outcome(UnknownOutcome::Fail)
        .cancel(&stop)
        .build()?;
    let orders =
        (1..=8).map(|order| Row::new(order, format!("Book the invoice of order {order}.")));
    let mut told = 0;
    let report = rows.run(orders, |row| {
        let when = if row.resumed { "before" } else { "now" };
        println!("  order {}: {} ({when})", row.key, row.answer().unwrap_or("failed"));
        if !row.unknown.is_empty() {
            println!("    to be looked at: {}", row.unknown.join(", "));
        }
        told += 1;
        if Some(told) == stop_after {
            stop.cancel();
        }
    })?;
    println!("{} done, {} of them before; {} left\n", report.done, report.resumed, 8 - report.done);
    Ok(())
}
