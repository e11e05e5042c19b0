//! Runs all the tool calls of one model turn in parallel, on threads, from synchronous Rust, and
//! always hands back one complete reply: exactly one result a call, in call order, by the deadline.
//!
//! # Hello, tool
//!
//! A [`Tool`] is a name, a description and a function. A [`ToolSet`] holds tools.
//! [`execute_tool_calls`] runs calls and returns a [`Report`] with one result a call, in call order.
//!
//! ```
//! use toolpool::{Tool, ToolCall, ToolSet, execute_tool_calls};
//!
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! struct Who {
//!     /// Whom to greet.
//!     name: String,
//! }
//!
//! let tools = ToolSet::new()
//!     .with(Tool::new("greet", "Greets somebody", |who: Who| Ok(format!("Hello, {}!", who.name))));
//! let calls = [
//!     ToolCall::new("call_1", "greet", r#"{"name": "Ada"}"#),
//!     ToolCall::new("call_2", "greet", r#"{"nam": "Bob"}"#),
//!     ToolCall::new("call_3", "greed", r#"{"name": "Eve"}"#),
//! ];
//! let report = execute_tool_calls(&tools, &calls)?;
//!
//! let texts: Vec<_> = report.results().map(|result| result.content.to_text()).collect();
//! assert_eq!(texts[0], "Hello, Ada!");
//! assert!(texts[1].contains("name")); // what is missing, and where
//! assert!(texts[2].starts_with("there is no tool greed; did you mean greet?"));
//! # Ok::<(), toolpool::Error>(())
//! ```
//!
//! Nothing above is an `Err`: a failed call is text that the model reads and reacts to.
//!
//! # Handlers and errors
//!
//! A handler takes nothing, its arguments, or its arguments and a [`CallContext`], and returns a
//! `Result` of anything that serialises, with a [`ToolError`]. The `?` operator makes one of every
//! error, `.into()` of a string. A string is the author's words and is shown to the model; of any
//! other error the model learns only its kind, unless the tool says
//! [`reveal_errors`](Tool::reveal_errors). The operator finds the rest in the report:
//! [`ToolError::operator_text`]. OpenAI, Cohere and Ollama have no mark for a failed result, so write
//! the text of an error such that it reads as one.
//!
//! ```
//! use toolpool::{CallContext, Tool, ToolCall, ToolError, ToolErrorKind, ToolSet, execute_tool_calls};
//! # #[derive(serde::Deserialize, schemars::JsonSchema)]
//! # struct ById { id: u64 }
//!
//! fn stock(item: ById, cx: &CallContext) -> Result<u32, ToolError> {
//!     cx.check()?; // an error, should the call have been cancelled
//!     if item.id == 0 {
//!         return Err("item numbers start at 1".into());
//!     }
//!     if item.id > 100 {
//!         return Err(ToolError::of_kind(ToolErrorKind::NotFound).with_details("shelf 7, row 3"));
//!     }
//!     let text = std::fs::read_to_string("no such file")?;
//!     Ok(text.trim().parse()?)
//! }
//! let tools = ToolSet::new().with(Tool::new("stock", "How many of an item there are", stock));
//!
//! let calls = ["0", "101", "7"].map(|id| ToolCall::new("", "stock", format!(r#"{{"id": {id}}}"#)));
//! let report = execute_tool_calls(&tools, &calls)?;
//! let told: Vec<_> = report.results().map(|result| result.content.to_text()).collect();
//! assert_eq!(told, ["item numbers start at 1", "stock failed: not found", "stock failed: not found"]);
//! # Ok::<(), toolpool::Error>(())
//! ```
//!
//! # A provider's turn
//!
//! A [`Wire`] reads a provider's response body into a [`Turn`] and writes its reply: the model's
//! message as it came, then the results in the shape that the provider demands. It also writes the
//! tool definitions for the request. An [`Executor`] owns the threads and the limits, and is made
//! once.
//!
//! ```
//! use toolpool::{Executor, Tool, ToolSet, Wire};
//! # #[derive(serde::Deserialize, schemars::JsonSchema)]
//! # struct ById { id: u64 }
//!
//! let tools = ToolSet::new()
//!     .with(Tool::new("get_customer", "Customer by number", |c: ById| Ok(format!("customer {}", c.id))));
//! let definitions = Wire::OpenAi.tools(&tools); // the request's `tools`
//! assert!(definitions.as_str().contains("get_customer"));
//! let executor = Executor::builder(tools).build()?;
//!
//! let body = r#"{"choices": [{"finish_reason": "tool_calls", "message": {
//!     "role": "assistant", "content": null, "tool_calls": [{"id": "call_1", "type": "function",
//!         "function": {"name": "get_customer", "arguments": "{\"id\": 7}"}}]}}]}"#;
//! let turn = Wire::OpenAi.parse(body)?;
//! let report = executor.run(&turn);
//! let mut history = vec![]; // the request's `messages`
//! history.extend(turn.reply(&report));
//! assert_eq!(history.len(), 2); // the echoed message, and the result
//! assert!(history[1].as_str().contains("customer 7"));
//! # Ok::<(), toolpool::Error>(())
//! ```
//!
//! # Time
//!
//! A call has a timeout, from its start, of 60 s unless set; a batch has a deadline, from `run`, of
//! 300 s unless set. Near its end a call is told to stop, and [`CallContext::remaining`] counts down
//! to that moment: hand it to whatever the handler waits for. A handler that goes on regardless is
//! walked away from.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use toolpool::{CallContext, Executor, Outcome, Tool, ToolCall, ToolSet, Turn};
//!
//! let tools = ToolSet::new()
//!     .with(Tool::new("polite", "", |_: (), cx: &CallContext| {
//!         cx.sleep(Duration::from_secs(60))?; // wakes when the call should stop
//!         Ok("rested")
//!     }).timeout(Duration::from_millis(50)).read_only())
//!     .with(Tool::new("rude", "", || {
//!         std::thread::sleep(Duration::from_secs(1));
//!         Ok("rested")
//!     }).timeout(Duration::from_millis(50)));
//! let executor = Executor::builder(tools).deadline(Duration::from_secs(10)).build()?;
//!
//! let began = Instant::now();
//! let turn = Turn::from_calls(["polite", "rude"].map(|name| ToolCall::new(name, name, "")));
//! let report = executor.run(&turn);
//! assert!(began.elapsed() < Duration::from_millis(900));
//! assert!(matches!(report[1].outcome, Outcome::TimedOut { still_running: true, .. }));
//! let told = report[1].content().to_text();
//! assert!(told.starts_with("rude timed out after "));
//! assert!(told.ends_with(" and may still complete; do not repeat it, check first"));
//! assert_eq!(executor.stats().abandoned, 1);
//! # Ok::<(), toolpool::Error>(())
//! ```
//!
//! # Effects, retries, keys
//!
//! What a tool may change is declared: [`read_only`](Tool::read_only), [`idempotent`](Tool::idempotent),
//! or nothing, which is taken for mutating. Only the first two are retried. Calls that touch the
//! same thing say so with keys, [`reads`](Tool::reads) and [`writes`](Tool::writes): those on one key
//! behave as if run one after another in call order, and hold up nobody else.
//!
//! ```
//! use std::sync::atomic::{AtomicU32, Ordering};
//! use std::sync::{Arc, Mutex};
//! use toolpool::{Executor, Tool, ToolCall, ToolError, ToolErrorKind, ToolSet, Turn};
//!
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! struct Entry { account: String, cents: i64 }
//!
//! let tries = AtomicU32::new(0);
//! let journal = Arc::new(Mutex::new(vec![]));
//! let book = journal.clone();
//! let tools = ToolSet::new()
//!     .with(Tool::new("rate", "Rate of exchange", move || match tries.fetch_add(1, Ordering::Relaxed) {
//!         0 => Err(ToolError::of_kind(ToolErrorKind::Unavailable)),
//!         _ => Ok(1.17),
//!     }).read_only().retries(2)) // 2 retries = 3 attempts
//!     .with(Tool::new("book", "Books an amount", move |entry: Entry| {
//!         book.lock().unwrap().push(entry.cents);
//!         Ok("booked")
//!     }).writes(|entry| format!("account/{}", entry.account)));
//! let executor = Executor::builder(tools).build()?;
//!
//! let report = executor.run(&Turn::from_calls([
//!     ToolCall::new("1", "book", r#"{"account": "a", "cents": 500}"#),
//!     ToolCall::new("2", "rate", ""),
//!     ToolCall::new("3", "book", r#"{"account": "a", "cents": -500}"#),
//! ]));
//! assert!(report.all_succeeded());
//! assert_eq!(report[1].attempts, 2);
//! assert_eq!(*journal.lock().unwrap(), [500, -500]); // in call order
//! # Ok::<(), toolpool::Error>(())
//! ```
//!
//! # Backends
//!
//! Tools that need the same backend share a [`Group`]: how many of their calls run at once, how many
//! start in a span, and, where the backend fails again and again, a rest in which calls end at once
//! instead of each waiting for its own timeout. What a result may have is limited, too: a long one
//! is cut in its middle, with a note that the model can read, at 64 KiB
//! ([`max_result_bytes`](ExecutorBuilder::max_result_bytes)), and those of one batch at 1 MiB
//! together ([`max_batch_result_bytes`](ExecutorBuilder::max_batch_result_bytes)).
//!
//! ```
//! use std::time::Duration;
//! use toolpool::{Executor, Group, Tool, ToolCall, ToolSet, Turn};
//!
//! let warehouse = Group::new("warehouse")
//!     .max_parallel(2)
//!     .rate(10, Duration::from_secs(1))
//!     .break_after(5, Duration::from_secs(30));
//! let tools = ToolSet::new()
//!     .with(Tool::new("stock", "How many there are", || Ok(7)).read_only().group(&warehouse))
//!     .with(Tool::new("history", "All orders", || Ok("order ".repeat(1000))).group(&warehouse));
//! let executor = Executor::builder(tools).max_result_bytes(1000).build()?;
//!
//! let turn = Turn::from_calls(["stock", "history"].map(|name| ToolCall::new(name, name, "")));
//! let report = executor.run(&turn);
//! assert_eq!(report[0].content().to_text(), "7");
//! assert!(report[1].content().to_text().contains("of 6000 bytes were left out here"));
//! # Ok::<(), toolpool::Error>(())
//! ```
//!
//! # Policies
//!
//! A [`FailurePolicy`] says what a failed call does to the others. By default nothing: errors go
//! back inline. Whatever the policy, the report is complete, so a reply can always be sent.
//!
//! ```
//! use toolpool::{CallContext, Executor, FailurePolicy, Outcome, Tool, ToolCall, ToolSet, Turn};
//! # use std::time::Duration;
//!
//! let tools = ToolSet::new()
//!     .with(Tool::new("customer", "", || Err::<(), _>("no such customer".into())))
//!     .with(Tool::new("orders", "", |_: (), cx: &CallContext| Ok(cx.sleep(Duration::from_secs(5))?)));
//! let executor = Executor::builder(tools).policy(FailurePolicy::require(["customer"])).build()?;
//!
//! let turn = Turn::from_calls(["orders", "customer"].map(|name| ToolCall::new(name, name, "")));
//! let report = executor.run(&turn);
//! assert_eq!(report.aborted().unwrap().index, Some(1)); // the call that ended it
//! assert!(matches!(report[0].outcome, Outcome::Cancelled { .. }));
//! assert_eq!(turn.reply(&report).len(), 3); // the message, and a result for each call
//!
//! let inline = executor.turn(&turn).policy(FailurePolicy::inline()).deadline(Duration::from_millis(50));
//! assert!(inline.run().aborted().is_none());
//! # Ok::<(), toolpool::Error>(())
//! ```
//!
//! # Decisions
//!
//! A tool may need approval. The approver is asked once a turn, before anything runs; what it
//! defers makes the turn a [`Suspended`], which is kept as JSON and [resumed](Executor::resume) when
//! somebody has decided, in another process if need be. What has run by then isn't run again. What
//! is resumed twice runs twice, so mark it as taken in your store first; the
//! [keys](CallContext::idempotency_key) are the same, so a backend that heeds them does it once. Where
//! calls still wait then, the report makes the same turn a [`Suspended`] again.
//!
//! ```
//! use toolpool::{Approval, Executor, Resolution, Suspended, Tool, ToolCall, ToolSet, Turn};
//!
//! let tools = ToolSet::new()
//!     .with(Tool::new("orders", "Looks up orders", || Ok("one, of 20 €")).read_only())
//!     .with(Tool::new("refund", "Refunds an order", || Ok("done")).needs_approval());
//! let executor = Executor::builder(tools)
//!     .approval(|requests| requests.iter().map(|_| Approval::Defer).collect())
//!     .build()?;
//! let turn = Turn::from_calls(["orders", "refund"].map(|name| ToolCall::new(name, name, "")));
//!
//! let report = executor.run(&turn);
//! let stored = match report.into_suspended(&turn) {
//!     Ok(suspended) => serde_json::to_string(&suspended)?,
//!     Err(_report) => unreachable!("here a call is deferred; else the report is complete"),
//! };
//!
//! let suspended: Suspended = serde_json::from_str(&stored)?;
//! let decisions = suspended.pending().map(|(index, _call)| (index, Resolution::Allow));
//! let report = executor.resume(&suspended, decisions)?.run();
//! let messages = suspended.turn().reply(&report);
//! # assert_eq!((report.all_succeeded(), messages.len()), (true, 3));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Many sessions, one executor
//!
//! An executor is cheap to clone and used from many threads at once. Its limits are shared, its
//! batches don't mix, and turns take turns: one with a hundred calls doesn't hold up one with three.
//! Each run may bring its own deadline, policy, [`CancelToken`] and a value that handlers read, such
//! as who is asking; the model never sees it. A server that ends [drains](Executor::drain) its executor
//! and [shuts it down](Executor::shutdown); [`Executor::stats`] and the log tell what hangs.
//!
//! ```
//! use std::time::Duration;
//! use toolpool::{CallContext, CancelToken, Executor, Tool, ToolCall, ToolSet, Turn};
//!
//! struct User(&'static str);
//!
//! let tools = ToolSet::new().with(Tool::new("whoami", "", |_: (), cx: &CallContext| {
//!     let user: &User = cx.get().ok_or("nobody is logged in")?;
//!     Ok(user.0)
//! }));
//! let executor = Executor::builder(tools).build()?;
//! let turn = Turn::from_calls([ToolCall::new("1", "whoami", "")]);
//!
//! let hangup = CancelToken::new();
//! let report = executor
//!     .turn(&turn)
//!     .context(User("ada"))
//!     .deadline(Duration::from_secs(2))
//!     .cancel(&hangup)
//!     .run();
//! assert_eq!(report[0].content().to_text(), "ada");
//! assert_eq!(executor.run(&turn)[0].content().to_text(), "nobody is logged in");
//! # Ok::<(), toolpool::Error>(())
//! ```
//!
//! # Lanes
//!
//! Tools run on plain threads, which are kept and reused: the right place for what waits. A tool
//! that computes says [`compute`](Tool::compute) and runs on a rayon pool. Tools that borrow from
//! the caller's stack run with [`Executor::run_scoped`]; that has no deadline to promise, since a
//! scope waits for all that runs in it.
//!
//! ```
//! use toolpool::{Executor, ScopedTool, ScopedToolSet, Tool, ToolCall, ToolSet, Turn};
//! # #[derive(serde::Deserialize, schemars::JsonSchema)]
//! # struct Limit { limit: u64 }
//!
//! let tools = ToolSet::new()
//!     .with(Tool::new("sum", "Sum of all numbers below a limit", |l: Limit| Ok((0..l.limit).sum::<u64>())).compute());
//! let executor = Executor::builder(tools).build()?;
//! let sum = Turn::from_calls([ToolCall::new("1", "sum", r#"{"limit": 1000}"#)]);
//! assert_eq!(executor.run(&sum)[0].content().decode::<u64>()?, 499_500);
//!
//! let lines = ["one", "two", "three"].map(String::from);
//! let borrowing = ScopedToolSet::new()
//!     .with(ScopedTool::new("count_lines", "Number of lines", || Ok(lines.len())));
//! let count = Turn::from_calls([ToolCall::new("1", "count_lines", "")]);
//! assert_eq!(executor.run_scoped(&count, borrowing)?[0].content().decode::<usize>()?, 3);
//! # Ok::<(), toolpool::Error>(())
//! ```
//!
//! # While the model still writes
//!
//! A [`Batch`] takes calls as they become whole, as [`Wire::stream`] tells them. Those that only read
//! start at once, the others wait for the end of the message, whose stop reason decides; dropping the
//! batch cancels it. [`wire::Assembler`] has an example with a stream.
//!
//! ```
//! use toolpool::{Executor, Tool, ToolCall, ToolSet, Turn};
//!
//! let tools = ToolSet::new().with(Tool::new("look", "Looks", || Ok("seen")).read_only());
//! let executor = Executor::new(tools)?;
//! let call = ToolCall::new("call_1", "look", "");
//! let mut batch = executor.begin();
//! batch.push(call.clone()); // runs from now on, while the rest of the message arrives
//! let report = batch.finish(&Turn::from_calls([call]));
//! assert!(report.all_succeeded());
//! # Ok::<(), toolpool::Error>(())
//! ```
//!
//! # The whole loop
//!
//! Who has no loop of their own takes an [`Agent`]: it asks a [`Model`](model::Model), runs what the
//! model calls, gives back the results and asks again. [`ScriptedModel`](model::ScriptedModel) plays
//! prepared answers in tests; with the feature `http` there are clients for the providers. [`rows`]
//! has an agent answer every row of a table, with a journal from which a killed run goes on.
//!
//! A loop of one's own around another HTTP client takes its requests from [`Wire::request`]; [`wire`]
//! has an example.
//!
//! ```
//! use toolpool::model::ScriptedModel;
//! use toolpool::{Agent, Tool, ToolSet, Wire};
//!
//! let model = ScriptedModel::new(Wire::OpenAi)
//!     .body(r#"{"choices": [{"finish_reason": "tool_calls", "message": {"role": "assistant",
//!         "tool_calls": [{"id": "1", "function": {"name": "now", "arguments": "{}"}}]}}]}"#)
//!     .body(r#"{"choices": [{"finish_reason": "stop", "message": {"content": "It is noon."}}]}"#);
//! let tools = ToolSet::new().with(Tool::new("now", "The time", || Ok("12:00")).read_only());
//! let agent = Agent::builder(model, tools).build()?;
//! assert_eq!(agent.ask("What time is it?")?, "It is noon.");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is promised, and what isn't
//!
//! - One result a call, in call order, on every path; ids and names may repeat or be missing.
//! - `run` returns by its deadline, plus what the system takes to schedule a thread. A batch without
//!   a deadline ends too: every wait in it is bounded by a timeout.
//! - No tool starts after its call was settled or its batch has ended. A late result is dropped and
//!   counted.
//! - Nothing that mutates is retried, shared or started early on the library's own account.
//!
//! Not covered: a stack overflow, `abort` and `exit`, the system's out-of-memory kill, a panic
//! while panicking, any panic in a program built with `panic = "abort"`, a custom policy that blocks,
//! and a borrowed tool that hangs. A tool that must be safe from those too belongs in a process of
//! its own.
//!
//! The crate logs through [`log`](https://docs.rs/log) and prints nothing. That a tool panicked, the
//! standard library's panic hook prints, unless the program sets another.
//!
//! # Features
//!
//! The core is always there: tools, policies, the executor, reports and timelines. On top of it come,
//! all of them by default:
//!
//! - `wire`: the providers' formats, [`wire`], and with it [`Wire::parse`], [`Wire::stream`],
//!   [`Turn::reply`] and [`Wire::tools`]
//! - `agent`, which brings `wire`: [`model`], [`agent`] and [`rows`]
//! - `http`, which brings `agent`: the clients in [`model`]
//! - `priority`: [`ExecutorBuilder::tool_priority`]
//!
//! A program that gets its calls otherwise turns them off, makes its turns by [`Turn::from_calls`] and
//! builds in a fraction of the time. `schema` checks arguments against their tool's schema, `tracing`
//! has a span around every handler; both are off by default.
#![forbid(unsafe_code)]

mod cancel;
mod effect;
mod error;
mod json;
mod logging;
mod sync;
mod text;
mod time;

mod bound;
mod call;
mod outcome;
mod output;
mod report;
mod schema;
mod tool;
mod turn;

pub mod policy;

mod executor;

mod timeline;

#[cfg(feature = "wire")]
pub mod wire;

#[cfg(feature = "agent")]
pub mod model;

#[cfg(feature = "agent")]
pub mod agent;

#[cfg(feature = "agent")]
pub mod rows;

#[cfg(any(doc, doctest))]
pub mod docs;

#[cfg(feature = "agent")]
pub use agent::Agent;
pub use call::{CallState, ToolCall};
pub use cancel::{CancelToken, OnCancel};
pub use effect::{Effect, Lane};
pub use error::{Error, ToolError, ToolErrorKind};
pub use executor::{
    Approval, ApprovalRequest, Batch, Event, EventKind, Executor, ExecutorBuilder, Resolution,
    Resumed, Run, Stats, Suspended, ToolStats, execute_tool_calls,
};
pub use json::Json;
pub use outcome::{Abort, Limit, NotStarted, Outcome, Rejected};
pub use output::{Block, Output};
pub use policy::{Decision, FailurePolicy, Retry, Settled};
pub use report::{CallReport, CallResult, Note, Report};
pub use time::Deadline;
pub use timeline::Timeline;
pub use tool::{
    Arguments, CallContext, Closer, Erased, Group, Handler, IntoKeys, ScopedTool, ScopedToolSet,
    Tool, ToolInfo, ToolSet,
};
pub use turn::{StopKind, StopReason, Turn, Usage, Wire};

/// Makes the schemas of argument types. Its derive macro is in it with the feature `agent`, and
/// wherever a crate has `schemars` among its own dependencies.
pub use schemars;

/// Has the channels that [`CallContext::recv`] receives from.
pub use crossbeam_channel;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
