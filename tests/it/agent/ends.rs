//! Every way a run ends.

use super::*;

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
    let told = texts(conversation.messages());
    assert!(told.contains("not run: the message was stopped by a filter"), "{told}");
    assert!(!told.contains("again"), "{told}");
    let (end, _) = run(&agent(script().body(stopped("length", "it was a dark and"))));
    let end = end.unwrap();
    assert!(matches!(&end, End::CutShort { text, .. } if text == "it was a dark and"), "{end:?}");
    assert!(!end.is_done() && end.to_string().contains("length"));
    let (end, _) = run(&agent(script().body(stopped("a_new_reason", " "))));
    assert_eq!(end.unwrap().name(), "cut_short");
    let (end, _) = run(&agent(script().body(stopped("a_new_reason", "yes"))));
    assert_eq!(end.unwrap().answer(), Some("yes"));
    let (end, _) = run(&agent(script().body(stopped("tool_calls", ""))));
    assert_eq!(end.unwrap().name(), "cut_short", "the calls were lost on the way");
    let (end, _) = run(&agent(script().body(stopped("tool_calls", "yes"))));
    assert_eq!(end.unwrap().answer(), Some("yes"));
    let error = agent(script().body(stopped("length", "it"))).ask("A story?").unwrap_err();
    assert_eq!(error.end().map(End::name), Some("cut_short"));
    assert_eq!(error.conversation().unwrap().messages().len(), 2);
}

#[test]
fn calls_that_the_output_limit_cut_are_asked_for_again_and_those_beyond_the_context_are_not() {
    let built = |model| {
        let agent = Agent::builder(model, ToolSet::new().with(double()));
        agent.no_early_start().build().unwrap()
    };
    let model = script().body(body("length", &[1])).body(body("tool_calls", &[1]));
    let (end, conversation) = run(&built(model.body(words("2"))));
    assert_eq!(end.unwrap().answer(), Some("2"));
    assert!(conversation.messages()[2].as_str().contains("call double again"));

    let full = Wire::Anthropic.parse(
        r#"{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"double","input":{"n":1}}],
            "stop_reason":"model_context_window_exceeded"}"#,
    );
    let (end, conversation) = run(&built(ScriptedModel::new(Wire::Anthropic).turn(full.unwrap())));
    assert_eq!(end.unwrap().name(), "cut_short");
    assert!(conversation.messages()[2].as_str().contains("not run: the context is full"));
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
fn it_ends_when_its_executor_is_shut_down() {
    let executor = Executor::new(ToolSet::new().with(double())).unwrap();
    let model = script().body(body("tool_calls", &[1, 2])).body(words("on and on"));
    let agent = Agent::builder(model, &executor).build().unwrap();
    executor.shutdown(ms(0));
    let (end, conversation) = run(&agent);
    assert!(matches!(end, Ok(End::Cancelled)), "{end:?}");
    assert!(texts(conversation.messages()).contains("shutting down"));
}
