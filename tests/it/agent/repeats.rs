//! What becomes of a call that is made again and again.

use super::*;

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
fn a_call_of_messages_that_were_cut_off_is_asked_for_again_until_no_turn_is_left() {
    let model = (0..7).fold(script(), |model, _| model.body(body("length", &[7])));
    let agent = Agent::builder(model, ToolSet::new().with(double())).max_turns(7).build().unwrap();
    let (end, conversation) = run(&agent);
    assert_eq!(end.unwrap(), End::MaxTurns);
    let told = texts(conversation.messages());
    assert_eq!(told.matches("call double again in a complete message").count(), 7);
    assert!(!told.contains("turns in a row"), "{told}");

    // What was run before and is run afterwards is counted on.
    let reasons = ["tool_calls", "tool_calls", "length", "tool_calls"];
    let model = reasons.iter().fold(script(), |model, reason| model.body(body(reason, &[7])));
    let agent = Agent::builder(model, ToolSet::new().with(double())).repeats(0, 3).build().unwrap();
    let (end, _) = run(&agent);
    assert_eq!(end.unwrap(), End::Repeated { tool: "double".to_owned(), times: 3 });
}
