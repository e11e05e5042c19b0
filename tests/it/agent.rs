//! The loop: every way it ends, with the conversation intact; storing, resuming, measuring.

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
fn it_ends_after_so_many_turns_with_all_calls_answered() {
    let calls = |n| body("tool_calls", &[n]);
    let model = script().body(calls(1)).body(calls(2)).body(calls(3));
    let tools = || ToolSet::new().with(double());
    let agent = Agent::builder(model.clone(), tools()).max_turns(2).build().unwrap();
    let (end, conversation) = run(&agent);
    assert_eq!(end.unwrap(), End::MaxTurns);
    assert_eq!((model.left(), conversation.messages().len()), (1, 5));

    // With a last turn without tools the model is told, and answers.
    let model = script().body(calls(1)).body(words("as far as I know"));
    let builder = || Agent::builder(model.clone(), tools()).max_turns(2).last_turn_without_tools();
    let (end, _) = run(&builder().build().unwrap());
    assert_eq!(end.unwrap().answer(), Some("as far as I know"));
    let choices: Vec<_> = model.asked().into_iter().map(|asked| asked.choice).collect();
    assert_eq!(choices, [ToolChoice::Auto, ToolChoice::None]);

    // One that calls regardless is answered, and nothing runs.
    let ran = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&ran);
    let count = Tool::new("double", "", move |_: N| Ok(counted.fetch_add(1, Ordering::Relaxed)));
    let model = script().body(calls(1)).body(calls(2));
    let agent = Agent::builder(model, ToolSet::new().with(count))
        .max_turns(2)
        .last_turn_without_tools()
        .build()
        .unwrap();
    let (end, conversation) = run(&agent);
    assert_eq!(end.unwrap(), End::MaxTurns);
    assert_eq!(ran.load(Ordering::Relaxed), 1);
    assert!(texts(conversation.messages()).contains("no tool may be called any more"));

    assert!(Agent::builder(script(), tools()).max_turns(0).build().unwrap_err().is_config());
}

#[test]
fn it_ends_when_the_tokens_are_used_up() {
    let calls = |n| body("tool_calls", &[n]);
    let model = script().body(calls(1)).body(calls(2)).body(calls(3));
    let agent = Agent::builder(model.clone(), ToolSet::new().with(double())).token_budget(240);
    let (end, conversation) = run(&agent.build().unwrap());
    assert_eq!(end.unwrap(), End::Budget { used: 240 });
    assert_eq!((model.left(), conversation.messages().len()), (1, 5));
}

#[test]
fn it_ends_by_its_deadline() {
    let nap = Tool::new("double", "", |_: N, cx: &CallContext| Ok(cx.sleep(ms(60_000))?));
    let model = script().body(body("tool_calls", &[1])).then(|_| {
        // What the tool left of the time.
        std::thread::sleep(ms(200));
        Err(ModelError::new(ModelErrorKind::TimedOut, "scripted", ""))
    });
    let agent = Agent::builder(model, ToolSet::new().with(nap)).deadline(ms(300)).build().unwrap();
    let began = Instant::now();
    let (end, conversation) = run(&agent);
    assert_eq!(end.unwrap(), End::Deadline);
    assert!(began.elapsed() < ms(5_000), "{:?}", began.elapsed());
    assert_eq!(conversation.messages().len(), 3);
}

#[test]
fn cancelling_ends_it_while_a_tool_runs_and_while_the_model_thinks() {
    let token = CancelToken::new();
    let from_within = token.clone();
    let tool = Tool::new("double", "", move |_: N, cx: &CallContext| {
        from_within.cancel();
        Ok(cx.sleep(ms(60_000))?)
    });
    let model = script().body(body("tool_calls", &[1]));
    let agent = Agent::builder(model, ToolSet::new().with(tool)).build().unwrap();
    let mut conversation = agent.conversation();
    conversation.user("Go.");
    let end = agent.on(&mut conversation).cancel(&token).run().unwrap();
    assert_eq!(end, End::Cancelled);
    is_intact(&conversation);
    assert_eq!(conversation.messages().len(), 3, "the call is answered");

    let token = CancelToken::new();
    let from_within = token.clone();
    let model = script().then(move |_| {
        from_within.cancel();
        Err(ModelError::new(ModelErrorKind::Cancelled, "scripted", ""))
    });
    let agent = Agent::builder(model, ToolSet::new()).build().unwrap();
    let mut conversation = agent.conversation();
    conversation.user("Go.");
    assert_eq!(agent.on(&mut conversation).cancel(&token).run().unwrap(), End::Cancelled);
    assert_eq!(conversation.messages().len(), 1);
}

#[test]
fn a_refusal_and_an_answer_cut_short_are_ends_of_their_own() {
    let agent = |model| Agent::builder(model, ToolSet::new().with(double())).build().unwrap();
    let (end, _) = run(&agent(script().body(stopped("content_filter", "no"))));
    assert_eq!(end.unwrap(), End::Refused("no".to_owned()));
    let (end, conversation) = run(&agent(script().body(body("content_filter", &[1]))));
    assert_eq!(end.unwrap(), End::Refused(String::new()), "nobody asks for the call again");
    assert_eq!(conversation.messages().len(), 3, "the call is answered");
    let (end, _) = run(&agent(script().body(stopped("length", "it was a dark and"))));
    let end = end.unwrap();
    assert!(matches!(&end, End::CutShort { text, .. } if text == "it was a dark and"), "{end:?}");
    assert!(!end.is_done() && end.to_string().contains("length"));
    let (end, _) = run(&agent(script().body(stopped("a_new_reason", " "))));
    assert_eq!(end.unwrap().name(), "cut_short");
    let (end, _) = run(&agent(script().body(stopped("a_new_reason", "yes"))));
    assert_eq!(end.unwrap().answer(), Some("yes"));
    let error = agent(script().body(stopped("length", "it"))).ask("A story?").unwrap_err();
    assert_eq!(error.end().map(End::name), Some("cut_short"));
    assert_eq!(error.conversation().unwrap().messages().len(), 2);
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
    let body = include_str!("../fixtures/wire/anthropic/programmatic.json");
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
        (Wire::Bedrock, include_str!("../fixtures/wire/bedrock/server_tools.json")),
        (
            Wire::OpenAiResponses,
            include_str!("../fixtures/wire/openai-responses/run-by-the-server.json"),
        ),
        (Wire::Gemini, include_str!("../fixtures/wire/gemini/server_tools.json")),
        (Wire::Anthropic, include_str!("../fixtures/wire/anthropic/server_tools.json")),
    ] {
        let last = Turn::from_calls([]).for_wire(wire);
        let model = ScriptedModel::new(wire).body(body).turn(last.clone()).turn(last);
        let agent = Agent::builder(model, ToolSet::new().with(double())).build().unwrap();
        let (end, _) = run(&agent);
        assert!(end.is_ok(), "{wire}: {end:?}");
    }
}

#[test]
fn a_call_made_again_and_again_is_remarked_on_and_then_not_run() {
    let ran = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&ran);
    let count = Tool::new("double", "", move |_: N| Ok(counted.fetch_add(1, Ordering::Relaxed)));
    let tools = ToolSet::new().with(count);
    let model = (0..6).fold(script(), |model, _| model.body(body("tool_calls", &[7])));
    let agent = Agent::builder(model.clone(), tools.clone()).build().unwrap();
    let (end, conversation) = run(&agent);
    assert_eq!(end.unwrap(), End::Repeated { tool: "double".to_owned(), times: 5 });
    assert_eq!((model.left(), ran.load(Ordering::Relaxed)), (1, 4));
    let remarked = |n: usize| conversation.messages()[n].as_str().contains("turns in a row");
    assert_eq!([2, 4, 6, 8, 10].map(remarked), [false, false, true, true, false]);

    // A tool that is meant to be polled.
    let model = (0..6).fold(script(), |model, _| model.body(body("tool_calls", &[7])));
    let polling = Agent::builder(model.body(words("ready")), tools).repeats(0, 0);
    let (end, conversation) = run(&polling.build().unwrap());
    assert_eq!(end.unwrap().answer(), Some("ready"));
    assert!(!texts(conversation.messages()).contains("turns in a row"));
}

#[test]
fn a_call_that_only_reads_and_was_made_too_often_does_not_begin_early() {
    let ran = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&ran);
    let count = move |_: N| Ok(counted.fetch_add(1, Ordering::Relaxed));
    let tools = ToolSet::new().with(Tool::new("double", "", count).read_only());
    let model = script().body(body("tool_calls", &[7])).body(body("tool_calls", &[7, 8]));
    let agent = Agent::builder(model, tools).repeats(0, 2).build().unwrap();
    let mut conversation = agent.conversation();
    conversation.user("Go.");
    let slowly = |event: AgentEvent<'_>| {
        if matches!(event, AgentEvent::Turn(_)) {
            std::thread::sleep(ms(50));
        }
    };
    let end = agent.on(&mut conversation).events(slowly).run();
    assert_eq!(end.unwrap(), End::Repeated { tool: "double".to_owned(), times: 2 });
    assert_eq!(ran.load(Ordering::Relaxed), 1);
}

#[test]
fn the_word_on_repeats_stands_behind_an_error_of_any_length() {
    let fail = Tool::new("double", "", |_: N| Err::<(), _>("ä".repeat(5000).into()));
    let model = (0..2).fold(script(), |model, _| model.body(body("tool_calls", &[7])));
    let agent = Agent::builder(model.body(words("so be it")), ToolSet::new().with(fail));
    let (end, conversation) = run(&agent.repeats(2, 0).build().unwrap());
    assert!(end.unwrap().is_done());
    let told = conversation.messages()[4].as_str();
    assert!(told.contains("ä…\\n\\nNote: ") && told.contains("what is missing."), "{told}");
}

#[test]
fn a_tool_that_is_to_end_the_run_and_is_not_there_is_told_with_the_one_that_was_meant() {
    let built = |name: &str| {
        Agent::builder(script(), ToolSet::new().with(double())).ends_with(name).build().unwrap_err()
    };
    assert_eq!(
        built("doubel").to_string(),
        r#"the run is to end with "doubel", but there is no such tool; did you mean "double"?"#
    );
    assert!(built("weather").to_string().ends_with("no such tool"));
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
fn a_tool_ends_the_run_when_it_succeeds() {
    let finish = Tool::new("finish", "", |args: N| match args.n {
        0 => Err("not zero".into()),
        n => Ok(n),
    });
    let call = |n| Turn::from_calls([ToolCall::new("1", "finish", format!(r#"{{"n":{n}}}"#))]);
    let model = script().turn(call(0)).turn(call(9)).body(words("unheard"));
    let agent = Agent::builder(model.clone(), ToolSet::new().with(finish)).ends_with("finish");
    let (end, conversation) = run(&agent.build().unwrap());
    let End::ToolEnded { tool, arguments, output } = end.unwrap() else { panic!("no tool ended") };
    assert_eq!((tool.as_str(), arguments.as_str()), ("finish", r#"{"n":9}"#));
    assert_eq!(output.decode::<u64>().unwrap(), 9);
    assert_eq!((model.left(), conversation.messages().len()), (1, 5));
    let missing = Agent::builder(script(), ToolSet::new()).ends_with("finish").build();
    assert!(missing.unwrap_err().to_string().contains("no such tool"));
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
fn a_call_that_needs_a_decision_suspends_the_conversation_and_survives_being_stored() {
    let pay = Tool::new("pay", "", |args: N, cx: &CallContext| {
        Ok(format!("paid {} by {}", args.n, cx.get::<&str>().unwrap_or(&"nobody")))
    })
    .needs_approval();
    let executor = Executor::builder(ToolSet::new().with(double()).with(pay))
        .approval(|requests| requests.iter().map(|_| Approval::Defer).collect())
        .build()
        .unwrap();
    let calls = [
        ToolCall::new("1", "double", r#"{"n":4}"#),
        ToolCall::new("2", "pay", r#"{"n":50}"#),
        ToolCall::new("3", "pay", r#"{"n":60}"#),
    ];
    let model = script().turn(Turn::from_calls(calls)).body(words("paid"));
    let agent = Agent::builder(model, &executor).build().unwrap();
    let (end, conversation) = run(&agent);
    let End::Suspended(suspended) = end.unwrap() else { panic!("not suspended") };
    assert_eq!(suspended.pending().map(|(index, _)| index).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(conversation.messages().len(), 1, "the turn waits outside");

    let stored = serde_json::to_string(&conversation).unwrap();
    let mut conversation: Conversation = serde_json::from_str(&stored).unwrap();
    assert!(agent.run(&mut conversation).unwrap_err().is_input());
    assert!(agent.resume(&mut conversation, [(0, Resolution::Allow)]).unwrap_err().is_input());
    // One decision is not enough.
    let run = agent.on(&mut conversation).context("ada");
    let end = run.resume([(1, Resolution::Allow)]).unwrap();
    assert_eq!(end.name(), "suspended");
    let deny = Resolution::Deny("too much".to_owned());
    let end = agent.resume(&mut conversation, [(2, deny)]).unwrap();
    assert_eq!(end.answer(), Some("paid"));
    let all = texts(conversation.messages());
    assert!(all.contains("paid 50 by ada") && all.contains("too much") && !all.contains("paid 60"));
    is_intact(&conversation);
    assert!(agent.resume(&mut conversation, []).unwrap_err().is_input());
}

#[test]
fn a_decision_can_be_given_up() {
    let ask = Tool::deferred("ask", "", &serde_json::json!({ "type": "object" }));
    let model = script()
        .turn(Turn::from_calls([ToolCall::new("1", "ask", "{}")]))
        .body(words("never mind"));
    let agent = Agent::builder(model, ToolSet::new().with(ask)).build().unwrap();
    let (end, mut conversation) = run(&agent);
    assert_eq!(end.unwrap().name(), "suspended");
    assert!(conversation.give_up_waiting() && !conversation.give_up_waiting());
    is_intact(&conversation);
    conversation.user("Forget it.");
    assert_eq!(agent.run(&mut conversation).unwrap().answer(), Some("never mind"));
    assert!(texts(conversation.messages()).contains("not run yet: a decision is pending"));
}

#[test]
fn an_error_of_the_model_leaves_the_conversation_to_go_on_with() {
    let broken = ModelError::new(ModelErrorKind::Overloaded, "scripted", "busy");
    let model = script().body(body("tool_calls", &[4])).error(broken).body(words("8"));
    let agent = Agent::builder(model, ToolSet::new().with(double())).build().unwrap();
    let (end, mut conversation) = run(&agent);
    let error = end.unwrap_err();
    assert_eq!(error.model().map(ModelError::kind), Some(ModelErrorKind::Overloaded));
    assert_eq!(agent.run(&mut conversation).unwrap().answer(), Some("8"));

    let mut other = Conversation::new(Wire::Gemini);
    other.user("hello");
    let error = agent.run(&mut other).unwrap_err();
    assert!(error.is_input() && error.to_string().contains("gemini"), "{error}");
    assert!(agent.run(&mut agent.conversation()).unwrap_err().is_input());
}

#[test]
fn an_answer_of_a_type_is_given_by_a_tool_and_corrected_when_it_is_wrong() {
    #[derive(Debug, PartialEq, Deserialize, JsonSchema)]
    struct Sum {
        total: u64,
    }
    let answer = |json: &str| Turn::from_calls([ToolCall::new("1", "answer", json)]);
    let model = script()
        .turn(answer(r#"{"answer": {"total": "many"}}"#))
        .turn(answer(r#"{"answer": {"total": 9}}"#));
    let agent = Agent::builder(model.clone(), ToolSet::new()).build().unwrap();
    assert_eq!(agent.ask_as::<Sum>("How many?").unwrap(), Sum { total: 9 });
    let asked = model.asked();
    assert_eq!(asked[0].choice, ToolChoice::Tool("answer".to_owned()));
    assert!(texts(&asked[1].messages).contains("total"), "it is told what is wrong");

    // A last turn without tools would be one without an answer.
    let model = script().body(body("tool_calls", &[1])).turn(answer(r#"{"answer": [2]}"#));
    let agent = Agent::builder(model, ToolSet::new().with(double())).max_turns(2);
    let agent = agent.last_turn_without_tools().build().unwrap();
    assert_eq!(agent.ask_as::<Vec<u64>>("Double 1.").unwrap(), [2]);

    // With tools of its own the model may use them first; a list is an answer, too.
    let model = script()
        .body(body("tool_calls", &[1, 2]))
        .body(words("It is 2 and 4."))
        .turn(answer(r#"{"answer": [2, 4]}"#));
    let agent = Agent::builder(model.clone(), ToolSet::new().with(double())).build().unwrap();
    assert_eq!(agent.ask_as::<Vec<u64>>("Double 1 and 2.").unwrap(), [2, 4]);
    let asked: Vec<Asked> = model.asked();
    assert_eq!(asked[0].choice, ToolChoice::Required);
    assert_eq!(asked[0].tools, ["double", "answer"]);
    assert!(texts(&asked[2].messages).contains("by calling the tool answer"));

    let model = script().body(words("```json\n[7]\n```"));
    let agent = Agent::builder(model.clone(), ToolSet::new()).never_force_tools().build().unwrap();
    assert_eq!(agent.ask_as::<Vec<u64>>("A number?").unwrap(), [7]);
    assert_eq!(model.asked()[0].choice, ToolChoice::Auto);

    let model = script().body(words("no")).body(words("no")).body(words("no"));
    let agent = Agent::builder(model, ToolSet::new()).build().unwrap();
    let error = agent.ask_as::<Sum>("How many?").unwrap_err();
    assert_eq!(error.end().and_then(End::answer), Some("no"));
    assert_eq!(error.conversation().unwrap().messages().len(), 6);
}

#[test]
fn the_deadline_is_for_an_answer_of_a_type_and_all_its_reminders() {
    let slow = |_: &Asked| {
        std::thread::sleep(Duration::from_millis(150));
        Ok(Turn::from_calls([]).for_wire(Wire::OpenAi))
    };
    let model = script().then(slow).then(slow).then(slow);
    let agent = Agent::builder(model.clone(), ToolSet::new())
        .deadline(Duration::from_millis(200))
        .build()
        .unwrap();
    let error = agent.ask_as::<Vec<u64>>("How many?").unwrap_err();
    assert_eq!(error.end(), Some(&End::Deadline));
    assert!(model.asked().len() < 3);
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

/// A model that writes a call, goes on writing, and then is done or breaks off.
struct Streaming {
    turn: Turn,
    breaks: bool,
    asked: AtomicU32,
    /// What has run; the message ends once a call has that reads, if it is given.
    seen: Option<Seen>,
}

type Seen = Arc<parking_lot::Mutex<Vec<&'static str>>>;

impl Model for Streaming {
    fn name(&self) -> &str {
        "streaming"
    }

    fn wire(&self) -> Wire {
        Wire::OpenAi
    }

    fn respond(&self, _: &Request<'_>) -> Result<Turn, ModelError> {
        unreachable!("the agent streams")
    }

    fn stream(
        &self,
        _: &Request<'_>,
        tell: &mut dyn FnMut(StreamEvent<'_>),
    ) -> Result<Turn, ModelError> {
        if self.asked.fetch_add(1, Ordering::Relaxed) > 0 {
            return Ok(Turn::from_calls([]));
        }
        for call in self.turn.calls() {
            tell(StreamEvent::Call(call));
            std::thread::sleep(ms(100));
        }
        if let Some(seen) = &self.seen {
            assert!(eventually(|| seen.lock().contains(&"reads")));
        }
        match self.breaks {
            true => Err(ModelError::new(ModelErrorKind::Interrupted, "streaming", "cut")),
            false => Ok(self.turn.clone()),
        }
    }
}

fn noted(effect: &'static str, seen: &Seen) -> Tool<N> {
    let seen = Arc::clone(seen);
    Tool::new(effect, "", move |_: N| {
        seen.lock().push(effect);
        Ok(effect)
    })
}

#[test]
fn calls_that_read_start_while_the_model_writes_and_others_wait() {
    for breaks in [false, true] {
        let seen = Seen::default();
        let tools =
            ToolSet::new().with(noted("reads", &seen).read_only()).with(noted("writes", &seen));
        let calls = ["writes", "reads"].map(|name| ToolCall::new(name, name, r#"{"n":1}"#));
        let model = Streaming {
            turn: Turn::from_calls(calls),
            breaks,
            asked: AtomicU32::default(),
            seen: Some(Arc::clone(&seen)),
        };
        let agent = Agent::builder(model, tools).build().unwrap();
        let (end, conversation) = run(&agent);
        if breaks {
            assert_eq!(end.unwrap_err().model().unwrap().kind(), ModelErrorKind::Interrupted);
            assert_eq!(conversation.messages().len(), 1);
            assert_eq!(*seen.lock(), ["reads"], "what changes something has not started");
        } else {
            assert!(end.unwrap().is_done());
            assert_eq!(*seen.lock(), ["reads", "writes"]);
            assert_eq!(conversation.stats().calls, 2);
        }
    }
}

#[test]
fn without_early_start_nothing_runs_before_the_message_is_complete() {
    let seen = Arc::default();
    let tools = ToolSet::new().with(noted("reads", &seen).read_only());
    let calls = [ToolCall::new("1", "reads", r#"{"n":1}"#)];
    let model = Streaming {
        turn: Turn::from_calls(calls),
        breaks: true,
        asked: AtomicU32::default(),
        seen: None,
    };
    let agent = Agent::builder(model, tools).no_early_start().build().unwrap();
    assert!(run(&agent).0.is_err());
    assert!(seen.lock().is_empty());
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

#[test]
fn an_end_is_read_from_members_in_any_order() {
    let call = ToolCall::new("c", "pay", r#"{"b": 1, "a": [2]}"#);
    let turn = || Turn::from_calls([call.clone()]);
    let pay = || Tool::new("pay", "Pays", || Ok("paid"));
    let ends_with = |tool: Tool, builder: &dyn Fn(ScriptedModel, ToolSet) -> Agent| {
        let agent = builder(script().turn(turn()), ToolSet::new().with(tool));
        let mut conversation = agent.conversation();
        conversation.user("Pay.");
        agent.run(&mut conversation).unwrap()
    };
    let by_tool = ends_with(pay().into(), &|model, tools| {
        Agent::builder(model, tools).ends_with("pay").build().unwrap()
    });
    let suspended = ends_with(pay().needs_approval().into(), &|model, tools| {
        let defers = |requests: &[toolpool::ApprovalRequest<'_>]| {
            requests.iter().map(|_| Approval::Defer).collect()
        };
        Agent::builder(model, tools).approval(defers).build().unwrap()
    });
    let stop = toolpool::StopReason::new(toolpool::StopKind::MaxTokens, "length");
    for end in [
        by_tool,
        suspended,
        End::Answer("yes".to_owned()),
        End::MaxTurns,
        End::Budget { used: 7 },
        End::Deadline,
        End::Repeated { tool: "pay".to_owned(), times: 5 },
        End::Refused("no".to_owned()),
        End::CutShort { stop, text: "and so".to_owned() },
        End::Cancelled,
    ] {
        let value = serde_json::to_value(&end).unwrap();
        assert_eq!(value["end"], end.name());
        assert_eq!(serde_json::from_value::<End>(value.clone()).unwrap().name(), end.name());
        // Sorted, the detail comes before the name.
        assert_eq!(serde_json::from_str::<End>(&value.to_string()).unwrap().name(), end.name());
        let text = serde_json::to_string(&end).unwrap();
        assert_eq!(serde_json::from_str::<End>(&text).unwrap(), end);
    }
    for (wrong, why) in [
        (r#"{"end": "gone"}"#, "no end is named \"gone\""),
        (r#"{"end": "tool_ended", "detail": {"tool": "a"}}"#, "missing field `arguments`"),
        (r#"{"end": "repeated", "detail": {"times": 5}}"#, "missing field `tool`"),
        (r#"{"end": "budget", "detail": {}}"#, "missing field `used`"),
        (r#"{"detail": 1}"#, "missing field `end`"),
    ] {
        let error = serde_json::from_str::<End>(wrong).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_suspended_turn_of_a_model_that_makes_its_own_is_of_the_conversations_format() {
    for wire in Wire::ALL {
        let model =
            ScriptedModel::new(wire).turn(Turn::from_calls([ToolCall::new("c", "pay", "")]));
        let pay = Tool::new("pay", "Pays", || Ok("paid")).needs_approval();
        let agent = Agent::builder(model, ToolSet::new().with(pay))
            .approval(|requests| requests.iter().map(|_| Approval::Defer).collect())
            .build()
            .unwrap();
        let mut conversation = agent.conversation();
        conversation.user("Pay.");
        assert_eq!(agent.run(&mut conversation).unwrap().name(), "suspended");
        let stored = serde_json::to_string(&conversation).unwrap();
        let read: Conversation = serde_json::from_str(&stored).unwrap();
        assert_eq!(read, conversation, "{wire}");
    }
}
