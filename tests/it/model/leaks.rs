//! What a long loop leaves behind: threads, files, memory.

use std::thread;
use std::time::Instant;

use toolpool::agent::Agent;
use toolpool::model::Request;
use toolpool::{Tool, ToolCall, ToolSet, Turn};

use super::replay::{Answer, Replay};
use super::{SAID_HI, client_of, ms, within};
use crate::faults::process::{alone_as, open_files, resident, threads};

/// Two calls of `look`, then the end of the message.
const CALLS: &str = concat!(
    r#"data: {"choices":[{"index":0,"delta":{"role":"assistant","content":"Let me see."}}]}"#,
    "\n\n",
    r#"data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c1","function":{"name":"look","arguments":"{}"}}]}}]}"#,
    "\n\n",
    r#"data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"c2","function":{"name":"look","arguments":"{}"}}]}}]}"#,
    "\n\n",
    r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
    "\n\ndata: [DONE]\n\n",
);
const WORDS: &str = concat!(
    r#"data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}"#,
    "\n\ndata: [DONE]\n\n",
);

fn stream(body: &str) -> Answer {
    Answer::stream([(ms(0), body)])
}

/// Fifteen turns over the server: ten of an agent that calls tools, five of the client alone, six
/// of the requests failing in one way or another.
fn fifteen_turns(server: &Replay, agent: &Agent) {
    let bodies = agent.model();
    let ask = || agent.ask("hello").ok();
    for _ in 0..3 {
        server.push(stream(CALLS));
        server.push(stream(WORDS));
        assert_eq!(ask().as_deref(), Some("hi"));
    }
    server.push(stream(CALLS));
    server.push(Answer::error(500, "{}"));
    assert_eq!(ask(), None);
    // In the second call: the first runs already.
    server.push(stream(CALLS).cut_after(CALLS.find("c2").unwrap()));
    assert_eq!(ask(), None);
    server.push(Answer::reset());
    assert_eq!(ask(), None);
    let conversation = [bodies.wire().user_message("hello")];
    let whole = |answer| {
        server.push(answer);
        bodies.respond(&Request::new(&conversation).deadline(within(ms(20_000)))).is_ok()
    };
    assert!(whole(Answer::json(SAID_HI)) && whole(Answer::json(SAID_HI)));
    assert!(!whole(Answer::error(429, "{}")));
    assert!(!whole(Answer::json(SAID_HI).cut_after(9)));
    assert!(!whole(Answer::json("<html>")));
    assert_eq!((server.forget(), server.left()), (15, 0));
}

/// By how much the memory of 210 turns may differ from the one of 210 turns before them. Two KiB lost a
/// turn would be more, and so would one stack.
const MOST_KIB: usize = 256;

#[test]
fn two_hundred_turns_leave_no_thread_file_or_memory_behind() {
    // One arena, so that memory that was given back is used again by whichever thread comes next.
    let test = "model::leaks::two_hundred_turns_leave_no_thread_file_or_memory_behind";
    alone_as(
        test,
        |command| {
            command.env("MALLOC_ARENA_MAX", "1");
        },
        || {
            let server = Replay::new([]);
            let client = client_of(&server).retries(0).build().unwrap();
            let look = Tool::new("look", "", || Ok("seen")).read_only();
            let nap = Tool::new("nap", "", || Ok(thread::sleep(ms(100))));
            let tools = ToolSet::new().with(look).with(nap);
            let agent = Agent::builder(client, tools).build().unwrap();
            let turns = |times: usize| {
                (0..times).for_each(|_| fifteen_turns(&server, &agent));
            };
            // What is kept for the next turn is there, more threads than a turn needs among it, and
            // the server's threads have settled.
            turns(14);
            thread::sleep(ms(500));
            let naps = Turn::from_calls([0; 6].map(|_| ToolCall::new("", "nap", "")));
            assert!(agent.executor().run(&naps).all_succeeded());
            let before = (threads(), open_files(), resident());
            turns(14);
            let end = Instant::now() + ms(10_000);
            while (threads() > before.0 || open_files() > before.1) && Instant::now() < end {
                thread::sleep(ms(5));
            }
            let after = (threads(), open_files(), resident());
            println!("figure: {} KiB more after 210 turns", after.2.saturating_sub(before.2));
            assert!(after.0 <= before.0 && after.1 <= before.1, "{before:?} {after:?}");
            assert!(after.2 <= before.2 + MOST_KIB, "{before:?} {after:?}");
        },
    );
}
