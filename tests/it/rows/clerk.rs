//! A model and tools with an effect that can be counted: bookings in a file.
//!
//! The model books a row's two accounts. When it is told that an outcome is unknown it looks whether
//! the booking is there before it books again. It knows nothing but the conversation.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use toolpool::agent::Agent;
use toolpool::model::{Model, ModelError, Request};
use toolpool::{CallContext, Tool, ToolSet, Turn, Wire};

/// The file of bookings: an account and an idempotency key a line.
#[derive(Clone)]
pub(super) struct Book(PathBuf);

impl Book {
    pub(super) fn new(folder: &Path) -> Self {
        Self(folder.join("book.txt"))
    }

    /// Adds a line with one write.
    pub(super) fn append(&self, account: &str, key: &str) {
        let mut file = OpenOptions::new().append(true).create(true).open(&self.0).unwrap();
        file.write_all(format!("{account} {key}\n").as_bytes()).unwrap();
    }

    pub(super) fn entries(&self) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.map(|(account, key)| (account.to_owned(), key.to_owned())).collect()
    }

    pub(super) fn accounts(&self) -> Vec<String> {
        self.entries().into_iter().map(|(account, _)| account).collect()
    }
}

#[derive(Deserialize, JsonSchema)]
struct Account {
    account: String,
}

/// An agent of the clerk whose bookings take effect after `pause` and return after another.
pub(super) fn agent(book: &Book, pause: Duration) -> Agent {
    let (books, checks) = (book.clone(), book.clone());
    let tools = ToolSet::new()
        .with(Tool::new("look", "Looks at an account", |_: Account| Ok("open")).read_only())
        .with(Tool::new("book", "Books", move |args: Account, cx: &CallContext| {
            std::thread::sleep(pause);
            books.append(&args.account, &cx.idempotency_key());
            std::thread::sleep(pause);
            Ok("booked")
        }))
        .with(
            Tool::new("check", "Whether it is booked", move |args: Account| {
                let there = checks.accounts().contains(&args.account);
                Ok(if there { "there" } else { "missing" })
            })
            .read_only(),
        );
    Agent::builder(Clerk, tools).build().unwrap()
}

struct Clerk;

impl Model for Clerk {
    fn name(&self) -> &str {
        "clerk"
    }

    fn wire(&self) -> Wire {
        Wire::OpenAi
    }

    fn respond(&self, request: &Request<'_>) -> Result<Turn, ModelError> {
        let messages: Vec<Value> =
            request.prompt.messages.iter().map(|m| m.to_value().unwrap()).collect();
        let row = messages[0]["content"].as_str().unwrap_or_default();
        let mut told: BTreeMap<String, String> = BTreeMap::new();
        let mut accounts: BTreeMap<String, String> = BTreeMap::new();
        for message in &messages {
            for call in message["tool_calls"].as_array().into_iter().flatten() {
                let arguments = call["function"]["arguments"].as_str().unwrap_or_default();
                let arguments: Value = serde_json::from_str(arguments).unwrap();
                let account = arguments["account"].as_str().unwrap_or_default().to_owned();
                accounts.insert(call["id"].as_str().unwrap_or_default().to_owned(), account);
            }
            if let Some(id) = message["tool_call_id"].as_str() {
                let text = message["content"].as_str().unwrap_or_default();
                told.insert(accounts[id].clone(), text.to_owned());
            }
        }
        let mut wanted = Vec::new();
        if told.is_empty() {
            wanted.push(("look", format!("{row}/0")));
        }
        for account in [format!("{row}/1"), format!("{row}/2")] {
            match told.get(&account).map(String::as_str) {
                Some("booked" | "there") => {}
                None | Some("missing") => wanted.push(("book", account)),
                Some(_) => wanted.push(("check", account)),
            }
        }
        let calls = wanted.iter().enumerate().map(|(n, (tool, account))| {
            let arguments = json!({ "account": account }).to_string();
            json!({ "id": format!("c{}-{n}", messages.len()), "type": "function",
                "function": { "name": tool, "arguments": arguments } })
        });
        let calls: Vec<_> = calls.collect();
        let message = match calls.is_empty() {
            true => json!({ "role": "assistant", "content": format!("booked {row}") }),
            false => json!({ "role": "assistant", "content": null, "tool_calls": calls }),
        };
        let stop = if calls.is_empty() { "stop" } else { "tool_calls" };
        let body = json!({ "choices": [{ "finish_reason": stop, "message": message }],
            "usage": { "prompt_tokens": 10, "completion_tokens": 5 } });
        Ok(Wire::OpenAi.parse(&body).unwrap())
    }
}
