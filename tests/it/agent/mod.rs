//! The loop around a model: the conversation stays intact whatever happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Deserialize;
use toolpool::agent::{Agent, AgentEvent, AgentTools, Conversation, End, ParallelPolicy, parallel};
use toolpool::model::{
    Asked, Model, ModelError, ModelErrorKind, Request, ScriptedModel, StreamEvent, ToolChoice,
};
use toolpool::{
    Approval, CallContext, CancelToken, Executor, Json, Outcome, Resolution, Tool, ToolCall,
    ToolSet, Turn, Wire,
};

use crate::faults::harness::eventually;
use crate::wire::checker::check_reply;

mod answer;
mod ends;
mod repeats;
mod streaming;
mod suspended;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[derive(Deserialize, JsonSchema)]
struct N {
    n: u64,
}

fn double() -> Tool<N> {
    Tool::new("double", "Twice a number", |args: N| Ok(args.n * 2)).read_only()
}

fn words(text: &str) -> String {
    stopped("stop", text)
}

fn stopped(reason: &str, text: &str) -> String {
    serde_json::json!({
        "choices": [{ "finish_reason": reason, "message": { "role": "assistant", "content": text } }],
        "usage": { "prompt_tokens": 100, "completion_tokens": 20 },
    })
    .to_string()
}

/// A body with calls of `double`.
fn body(reason: &str, numbers: &[u64]) -> String {
    let calls: Vec<_> = numbers
        .iter()
        .enumerate()
        .map(|(n, number)| {
            serde_json::json!({ "id": format!("c{n}"), "type": "function", "function": {
                "name": "double", "arguments": format!(r#"{{"n":{number}}}"#) } })
        })
        .collect();
    serde_json::json!({
        "choices": [{ "finish_reason": reason, "message": {
            "role": "assistant", "content": null, "tool_calls": calls } }],
        "usage": { "prompt_tokens": 100, "completion_tokens": 20 },
    })
    .to_string()
}

fn script() -> ScriptedModel {
    ScriptedModel::new(Wire::OpenAi)
}

/// Starts a run with one question.
fn run(agent: &Agent) -> (Result<End, toolpool::agent::AgentError>, Conversation) {
    let mut conversation = agent.conversation();
    conversation.user("Go.");
    let end = agent.run(&mut conversation);
    is_intact(&conversation);
    (end, conversation)
}

/// A conversation can be stored and loaded, and loading checks that every call is answered.
fn is_intact(conversation: &Conversation) {
    let stored = serde_json::to_string(conversation).unwrap();
    let loaded: Conversation = serde_json::from_str(&stored).unwrap();
    assert_eq!(&loaded, conversation);
}

fn texts(messages: &[Json]) -> String {
    messages.iter().map(Json::as_str).collect::<Vec<_>>().join("\n")
}

#[test]
fn it_asks_runs_and_answers_in_every_format() {
    for wire in Wire::ALL {
        let calls = ["1", "2", "3"].map(|n| ToolCall::new(n, "double", format!(r#"{{"n":{n}}}"#)));
        let first = Turn::from_calls(calls).for_wire(wire);
        let second = Turn::from_calls([ToolCall::new("4", "nobody", "{}")]).for_wire(wire);
        let turns = [first.clone(), second.clone()];
        let model = ScriptedModel::new(wire)
            .turn(first)
            .turn(second)
            .turn(Turn::from_calls([]).for_wire(wire));
        let agent = Agent::builder(model.clone(), ToolSet::new().with(double())).build().unwrap();
        let (end, conversation) = run(&agent);
        assert_eq!(end.unwrap(), End::Answer(String::new()), "{wire}");

        // What was added after each turn is what the provider demands.
        let asked = model.asked();
        assert_eq!(asked.len(), 3, "{wire}");
        for (n, turn) in turns.iter().enumerate() {
            let added = &asked[n + 1].messages[asked[n].messages.len()..];
            check_reply(turn, added);
        }
        for told in ["2", "4", "6", "there is no tool nobody"] {
            assert!(texts(conversation.messages()).contains(told), "{wire}: {told}");
        }
        let stats = conversation.stats();
        assert_eq!((stats.turns, stats.calling_turns, stats.calls), (3, 2, 4), "{wire}");
        assert_eq!(stats.failed_calls, 1);
        assert_eq!(&agent.stats(), stats);
    }
}

#[test]
fn the_answer_comes_with_events_in_order_and_tokens_counted() {
    let model = script().body(body("tool_calls", &[4, 5])).body(words("8 and 10"));
    let agent = Agent::builder(model.clone(), ToolSet::new().with(double()))
        .system("Be exact.")
        .build()
        .unwrap();
    let mut conversation = agent.conversation();
    conversation.user("Double 4 and 5.");
    let mut told = Vec::new();
    let end = agent
        .on(&mut conversation)
        .events(|event| {
            told.push(match event {
                AgentEvent::Asking(n) => format!("asking {n}"),
                AgentEvent::Text(text) => format!("text {text}"),
                AgentEvent::Call(call) => format!("call {}", call.arguments()),
                AgentEvent::Turn(turn) => format!("turn {}", turn.calls().len()),
                AgentEvent::Results(report) => format!("results {}", report.all_succeeded()),
                AgentEvent::Usage(usage) => format!("usage {}", usage.input_tokens),
                _ => String::new(),
            });
        })
        .run()
        .unwrap();
    assert_eq!(end.answer(), Some("8 and 10"));
    let expected = [
        "asking 1",
        r#"call {"n":4}"#,
        r#"call {"n":5}"#,
        "turn 2",
        "usage 100",
        "results true",
        "asking 2",
        "text 8 and 10",
        "turn 0",
        "usage 200",
    ];
    assert_eq!(told, expected);
    assert_eq!(conversation.usage().output_tokens, 40);
    assert_eq!(model.asked()[0].system, "Be exact.");
    assert_eq!(conversation.messages().len(), 5);

    // The conversation goes on where it was.
    let later = script().body(words("You're welcome."));
    let agent = Agent::builder(later.clone(), ToolSet::new().with(double())).build().unwrap();
    conversation.user("Thanks.");
    assert!(agent.run(&mut conversation).unwrap().is_done());
    assert_eq!(later.asked()[0].messages.len(), 6);
}

#[test]
fn calls_of_a_message_that_was_cut_short_are_answered_and_the_loop_goes_on() {
    let ran = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&ran);
    let count = Tool::new("double", "", move |_: N| Ok(counted.fetch_add(1, Ordering::Relaxed)));
    let model = script().body(body("length", &[1, 2])).body(words("done"));
    let agent = Agent::builder(model, ToolSet::new().with(count.read_only())).build().unwrap();
    let (end, conversation) = run(&agent);
    assert_eq!(end.unwrap().answer(), Some("done"));
    assert_eq!(ran.load(Ordering::Relaxed), 0);
    assert!(texts(conversation.messages()).contains("not run: your message was cut short"));
}

#[test]
fn a_paused_turn_is_sent_again() {
    let paused = r#"{"role":"assistant","stop_reason":"pause_turn","content":[
        {"type":"server_tool_use","id":"s1","name":"web_search","input":{"query":"x"}}]}"#;
    let done = r#"{"role":"assistant","stop_reason":"end_turn","content":[
        {"type":"text","text":"found"}]}"#;
    let model = ScriptedModel::new(Wire::Anthropic).body(paused).body(done);
    let agent = Agent::builder(model.clone(), ToolSet::new()).build().unwrap();
    assert_eq!(agent.ask("Look it up.").unwrap(), "found");
    let again = &model.asked()[1].messages;
    assert_eq!(again.len(), 2);
    assert!(again[1].as_str().contains("server_tool_use"));
}

#[test]
fn calls_that_were_answered_within_their_message_are_no_reason_to_ask_again() {
    let body = include_str!("../../fixtures/wire/anthropic/programmatic.json");
    let roll = Tool::new("roll", "", || -> Result<u8, toolpool::ToolError> { panic!("it ran") });
    let model = ScriptedModel::new(Wire::Anthropic).body(body);
    let agent = Agent::builder(model.clone(), ToolSet::new().with(roll)).build().unwrap();
    let (end, conversation) = run(&agent);
    assert_eq!(end.unwrap().answer(), Some("Rolling.\nThree and five."));
    assert_eq!((model.asked().len(), conversation.messages().len()), (1, 2));
    assert_eq!(conversation.stats().calls, 0);
}

#[test]
fn what_the_provider_ran_itself_can_be_stored() {
    for (wire, body) in [
        (Wire::Bedrock, include_str!("../../fixtures/wire/bedrock/server_tools.json")),
        (
            Wire::OpenAiResponses,
            include_str!("../../fixtures/wire/openai-responses/run-by-the-server.json"),
        ),
        (Wire::Gemini, include_str!("../../fixtures/wire/gemini/server_tools.json")),
        (Wire::Anthropic, include_str!("../../fixtures/wire/anthropic/server_tools.json")),
    ] {
        let last = Turn::from_calls([]).for_wire(wire);
        let model = ScriptedModel::new(wire).body(body).turn(last.clone()).turn(last);
        let agent = Agent::builder(model, ToolSet::new().with(double())).build().unwrap();
        let (end, _) = run(&agent);
        assert!(end.is_ok(), "{wire}: {end:?}");
    }
}

#[test]
fn a_stored_conversation_of_any_number_of_turns_goes_on() {
    let agent = Agent::builder(script().body(words("yes")), ToolSet::new()).build().unwrap();
    let mut conversation = agent.conversation();
    conversation.user("Still there?");
    let stored = serde_json::to_string(&conversation).unwrap();
    let many = format!(r#""turns":{}"#, u64::MAX);
    let stored = stored.replacen(r#""turns":0"#, &many, 1);
    let mut conversation: Conversation = serde_json::from_str(&stored).unwrap();
    assert_eq!(conversation.stats().turns, u64::MAX);
    assert_eq!(agent.run(&mut conversation).unwrap().answer(), Some("yes"));
    is_intact(&conversation);
}

#[test]
fn a_panic_where_results_are_told_loses_none() {
    let paid = Arc::new(AtomicU32::new(0));
    let pay = {
        let paid = Arc::clone(&paid);
        Tool::new("pay", "Pays", move || Ok(paid.fetch_add(1, Ordering::SeqCst)))
    };
    let turn = || Turn::from_calls([ToolCall::new("1", "pay", "{}")]);
    let model = script().turn(turn()).turn(turn()).body(words("paid"));
    let tools = ToolSet::new().with(pay.needs_approval());
    let executor = Executor::builder(tools)
        .approval(|requests| requests.iter().map(|_| Approval::Defer).collect())
        .build()
        .unwrap();
    let agent = Agent::builder(model, &executor).build().unwrap();
    let mut conversation = agent.conversation();
    conversation.user("Pay twice.");
    let panics = |event: AgentEvent<'_>| {
        if let AgentEvent::Results(_) = event {
            panic!("nobody listens");
        }
    };
    let mut caught = |run: &dyn Fn(&mut Conversation) -> Result<End, _>| {
        let run = std::panic::AssertUnwindSafe(|| run(&mut conversation).map(|_| ()));
        let run: std::thread::Result<Result<(), toolpool::agent::AgentError>> =
            std::panic::catch_unwind(run);
        assert!(run.is_err());
        (conversation.suspended().is_some(), conversation.messages().len())
    };
    let asked = caught(&|conversation| agent.on(conversation).events(panics).run());
    assert_eq!(asked, (true, 1), "it waits for the decision");
    let allow = [(0, Resolution::Allow)];
    let answered =
        caught(&|conversation| agent.on(conversation).events(panics).resume(allow.clone()));
    assert_eq!(answered, (false, 3), "the call and its result are in it");
    assert_eq!(paid.load(Ordering::SeqCst), 1);
    assert_eq!(agent.run(&mut conversation).unwrap().name(), "suspended");
    assert_eq!(agent.resume(&mut conversation, allow).unwrap().answer(), Some("paid"));
    assert_eq!(paid.load(Ordering::SeqCst), 2);
}

#[test]
fn a_run_has_its_own_context_policy_and_approval() {
    struct User(&'static str);
    let whoami = Tool::new("whoami", "", |_: (), cx: &CallContext| {
        Ok(cx.get::<User>().map_or("nobody", |user| user.0))
    })
    .needs_approval();
    let turn = Turn::from_calls([ToolCall::new("1", "whoami", "{}")]);
    let model = script().turn(turn).body(words("ada"));
    let agent = Agent::builder(model, ToolSet::new().with(whoami))
        .approval(|requests| requests.iter().map(|_| Approval::Allow).collect())
        .policy(toolpool::FailurePolicy::abort_on_first())
        .build()
        .unwrap();
    let mut conversation = agent.conversation();
    conversation.user("Who am I?");
    agent.on(&mut conversation).context(User("ada")).run().unwrap();
    assert!(conversation.messages()[2].as_str().contains("ada"));
}

#[test]
fn the_policy_for_parallel_calls_sets_the_switch_and_the_words() {
    let asked = |policy, system: &str| {
        let model = script().body(words("ok"));
        let agent = Agent::builder(model.clone(), ToolSet::new().with(double()));
        agent.system(system).parallel(policy).build().unwrap().ask("Go.").unwrap();
        model.asked().remove(0)
    };
    let allow = asked(ParallelPolicy::Allow, "Be brief.");
    assert_eq!((allow.parallel, allow.system.as_str()), (None, "Be brief."));
    let off = asked(ParallelPolicy::Off, "");
    assert_eq!((off.parallel, off.system.as_str()), (Some(false), parallel::ONE_AT_A_TIME));
    assert!(off.body.as_str().contains(r#""parallel_tool_calls":false"#));
    let encourage = asked(ParallelPolicy::Encourage, "Be brief.");
    assert_eq!(encourage.system, format!("Be brief.\n\n{}", parallel::ENCOURAGE));
    let insist = asked(ParallelPolicy::Insist, "Be brief.");
    assert_eq!(insist.parallel, Some(true));
    assert!(insist.system.ends_with(parallel::INSIST));
}

#[test]
fn where_one_call_a_turn_is_wanted_calls_run_one_after_another() {
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (now, peak) = (Arc::clone(&running), Arc::clone(&most));
    let tool = Tool::new("double", "", move |_: N| {
        peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(ms(5));
        now.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    });
    let model = script().body(body("tool_calls", &[1, 2, 3, 4])).body(words("ok"));
    let agent = Agent::builder(model, ToolSet::new().with(tool)).parallel(ParallelPolicy::Off);
    agent.build().unwrap().ask("Go.").unwrap();
    assert_eq!(most.load(Ordering::SeqCst), 1);
}

#[test]
fn time_saved_is_summed_over_the_agents_life() {
    let nap = Tool::new("double", "", |_: N, cx: &CallContext| Ok(cx.sleep(ms(40))?));
    let model = script()
        .body(body("tool_calls", &[1, 2, 3]))
        .body(words("ok"))
        .body(body("tool_calls", &[1]))
        .body(words("ok"));
    let agent = Agent::builder(model, ToolSet::new().with(nap)).build().unwrap();
    agent.ask("One.").unwrap();
    agent.ask("Two.").unwrap();
    let stats = agent.stats();
    assert_eq!((stats.calling_turns, stats.calls), (2, 4));
    assert!((stats.calls_per_turn() - 2.0).abs() < 1e-9);
    assert!(stats.sequential >= ms(160), "{stats:?}");
    assert!(stats.saved > Duration::ZERO && stats.saved < stats.sequential, "{stats:?}");
    assert_eq!(stats.usage.input_tokens, 400);
}

/// A model that doubles 21 once in every conversation, however many there are.
struct Doubling;

impl Model for Doubling {
    fn name(&self) -> &str {
        "doubling"
    }

    fn wire(&self) -> Wire {
        Wire::OpenAi
    }

    fn respond(&self, request: &Request<'_>) -> Result<Turn, ModelError> {
        let messages = request.prompt.messages;
        let body = match messages.len() {
            1 => body("tool_calls", &[21, 4]),
            _ => words(messages[2].to_value().unwrap()["content"].as_str().unwrap_or_default()),
        };
        Ok(Wire::OpenAi.parse(&body).unwrap())
    }
}

#[test]
fn one_agent_serves_many_threads_a_rayon_worker_and_its_own_tools() {
    let agent = Agent::builder(Doubling, ToolSet::new().with(double())).build().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..10).for_each(|_| assert_eq!(agent.ask("21?").unwrap(), "42")));
        }
    });
    assert_eq!(agent.stats().calls, 160);

    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(pool.install(|| agent.ask("21?").unwrap()), "42");
    let (one, other) = pool.install(|| rayon::join(|| agent.ask("21?"), || agent.ask("21?")));
    assert_eq!((one.unwrap(), other.unwrap()), ("42".to_owned(), "42".to_owned()));

    // An agent that is a tool of another one, on the same executor, one call at a time.
    let inner = Executor::builder(ToolSet::new().with(double())).max_parallel(1).build().unwrap();
    let helper = Agent::builder(Doubling, &inner).build().unwrap();
    let ask =
        Tool::new("double", "", move |_: N| Ok(helper.ask("21?").map_err(|e| e.to_string())?));
    let outer = inner.with_tools(ToolSet::new().with(ask)).unwrap();
    let agent = Agent::builder(Doubling, AgentTools::from(outer)).build().unwrap();
    assert_eq!(agent.ask("21?").unwrap(), "42");
}

#[test]
fn keys_of_idempotency_differ_by_call_and_are_the_same_for_the_same_seed() {
    let key = Tool::new("key", "", |_: N, cx: &CallContext| Ok(cx.idempotency_key()));
    let executor = Executor::new(ToolSet::new().with(key)).unwrap();
    let turn = |numbers: [u64; 3]| {
        Turn::from_calls(numbers.map(|n| ToolCall::new("", "key", format!(r#"{{"n":{n}}}"#))))
    };
    let keys = |turn: &Turn, seed: Option<&str>| -> Vec<String> {
        let run = executor.turn(turn);
        let report = match seed {
            Some(seed) => run.idempotency_seed(seed).run(),
            None => run.run(),
        };
        let outcomes = report.calls().iter().map(|call| match &call.outcome {
            Outcome::Succeeded(output) => output.to_text(),
            other => panic!("{other:?}"),
        });
        outcomes.collect()
    };
    let first = keys(&turn([1, 1, 2]), Some("row 7, turn 2"));
    assert_eq!(first, keys(&turn([1, 1, 2]), Some("row 7, turn 2")));
    let mut all = first.clone();
    all.extend(keys(&turn([1, 1, 2]), Some("row 7, turn 3")));
    all.extend(keys(&turn([1, 1, 2]), None));
    all.extend(keys(&turn([1, 1, 2]), None));
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 12, "{all:?}");
    let other = keys(&turn([1, 1, 3]), Some("row 7, turn 2"));
    assert_eq!((&other[..2], other[2] == first[2]), (&first[..2], false), "arguments count");
}
