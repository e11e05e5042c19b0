//! Runs that wait for a decision.

use super::*;

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

/// An agent whose payments wait for decisions.
fn defers(model: ScriptedModel) -> Agent {
    let pay = Tool::new("pay", "Pays", || Ok("paid")).needs_approval();
    Agent::builder(model, ToolSet::new().with(pay))
        .approval(|requests| requests.iter().map(|_| Approval::Defer).collect())
        .build()
        .unwrap()
}

#[test]
fn a_suspended_turn_of_a_model_that_makes_its_own_is_of_the_conversations_format() {
    for wire in Wire::ALL {
        let model =
            ScriptedModel::new(wire).turn(Turn::from_calls([ToolCall::new("c", "pay", "")]));
        let agent = defers(model);
        let mut conversation = agent.conversation();
        conversation.user("Pay.");
        assert_eq!(agent.run(&mut conversation).unwrap().name(), "suspended");
        let stored = serde_json::to_string(&conversation).unwrap();
        let read: Conversation = serde_json::from_str(&stored).unwrap();
        assert_eq!(read, conversation, "{wire}");
    }
}

#[test]
fn what_is_said_while_a_turn_waits_comes_behind_its_results_in_every_format() {
    for (wire, gives_up) in Wire::ALL.into_iter().flat_map(|wire| [(wire, false), (wire, true)]) {
        let calls = ["c", "d"].map(|id| ToolCall::new(id, "pay", "{}"));
        let model = ScriptedModel::new(wire)
            .turn(Turn::from_calls(calls).for_wire(wire))
            .turn(Turn::from_calls([]).for_wire(wire));
        let agent = defers(model.clone());
        let mut conversation = agent.conversation();
        conversation.user("Pay.");
        assert_eq!(agent.run(&mut conversation).unwrap().name(), "suspended");
        conversation.user("Hurry up.");
        conversation.push(wire.user_message("By card."));
        conversation.user("Thanks.");
        assert_eq!(conversation.messages().len(), 1, "{wire}");

        let stored = serde_json::to_string(&conversation).unwrap();
        let mut loaded: Conversation = serde_json::from_str(&stored).unwrap();
        assert_eq!(loaded, conversation, "{wire}");
        if gives_up {
            assert!(loaded.give_up_waiting());
        } else {
            let end = agent.resume(&mut loaded, [(0, Resolution::Allow)]).unwrap();
            assert_eq!((end.name(), loaded.messages().len()), ("suspended", 1), "{wire}");
            loaded.user("Well?");
            agent.resume(&mut loaded, [(1, Resolution::Allow)]).unwrap();
            assert_eq!(texts(&model.asked()[1].messages).matches("Well?").count(), 1, "{wire}");
        }
        is_intact(&loaded);
        let told = texts(loaded.messages());
        let result = if gives_up { "pending" } else { "paid" };
        let order = ["Pay.", result, "Hurry up.", "By card.", "Thanks."];
        let places = order.map(|said| told.rfind(said).unwrap_or_else(|| panic!("{said}: {told}")));
        assert!(places.is_sorted(), "{wire}: {told}");
        assert_eq!(told.matches("Hurry up.").count(), 1, "{wire}");
    }
}

#[test]
fn a_message_kept_back_that_is_none_of_the_format_is_refused_when_it_is_loaded() {
    let ask = Tool::deferred("ask", "", &serde_json::json!({ "type": "object" }));
    let model = script().turn(Turn::from_calls([ToolCall::new("1", "ask", "{}")]));
    let (_, mut conversation) =
        run(&Agent::builder(model, ToolSet::new().with(ask)).build().unwrap());
    let without = serde_json::to_string(&conversation).unwrap();
    assert!(!without.contains("later"), "as it was stored before");
    conversation.push(Wire::OpenAi.user_message("Hurry up."));
    let stored = serde_json::to_string(&conversation).unwrap();
    let broken = stored.replace(r#"{"message":{"role""#, r#"{"message":{"roll""#);
    assert_ne!(stored, broken);
    let error = serde_json::from_str::<Conversation>(&broken).unwrap_err().to_string();
    assert!(error.contains("conversation is broken"), "{error}");
}
