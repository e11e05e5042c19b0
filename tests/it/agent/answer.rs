//! Answers of a type.

use super::*;

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

    let long = "About many ".to_owned() + &"many\n".repeat(99);
    let model = script().body(words("no")).body(words("no")).body(words("no"));
    let model = model.body(words(&long)).body(words(&long)).body(words(&long));
    let agent = Agent::builder(model, ToolSet::new()).build().unwrap();
    let error = agent.ask_as::<Sum>("How many?").unwrap_err();
    assert_eq!(error.end().and_then(End::answer), Some("no"));
    assert_eq!(error.conversation().unwrap().messages().len(), 6);
    let said = "no answer of the type asked for: the model answered in words: ";
    assert_eq!(error.to_string(), format!("{said}no"));
    let told = agent.ask_as::<Sum>("How many?").unwrap_err().to_string();
    assert!(told.starts_with(&format!("{said}About many many")) && told.ends_with('…'), "{told}");
    assert!(told.contains(r"many\nmany") && told.chars().count() <= said.len() + 80, "{told}");
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
