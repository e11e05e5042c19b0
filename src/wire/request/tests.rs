use super::*;
use crate::tool::Tool;

fn tools() -> ToolSet {
    let schema =
        serde_json::json!({ "type": "object", "properties": { "q": { "type": "string" } } });
    let tool = |name| Tool::with_schema(name, "Finds", &schema, |_: serde_json::Value| Ok("found"));
    ToolSet::new().with(tool("find")).with(tool("look"))
}

fn messages(wire: Wire) -> Vec<Json> {
    vec![wire.user_message("hi"), raw::literal(r#"{"b":1.50, "a":"é"}"#)]
}

fn check(wire: Wire, change: impl FnOnce(&mut Prompt<'_>, &mut Parameters<'_>), expected: &str) {
    let messages = messages(wire);
    let mut prompt = Prompt { system: "be brief", ..Prompt::new(&messages) };
    let mut parameters = Parameters::new("m");
    change(&mut prompt, &mut parameters);
    let body = wire.request(&prompt, &parameters);
    assert_eq!(body.as_str(), expected, "{wire}");
    assert_eq!(body, wire.request(&prompt, &parameters), "the bytes are the same each time");
}

const HI: &str = r#"{"role":"user","content":"hi"},{"b":1.50, "a":"é"}"#;

#[test]
fn messages_go_in_byte_for_byte_and_the_system_prompt_in_its_place() {
    let in_front = format!(r#"[{{"role":"system","content":"be brief"}},{HI}]"#);
    check(Wire::OpenAi, |_, _| {}, &format!(r#"{{"model":"m","messages":{in_front}}}"#));
    check(Wire::Cohere, |_, _| {}, &format!(r#"{{"model":"m","messages":{in_front}}}"#));
    check(
        Wire::Ollama,
        |_, _| {},
        &format!(r#"{{"model":"m","stream":false,"messages":{in_front}}}"#),
    );
    check(
        Wire::OpenAiResponses,
        |_, _| {},
        &format!(r#"{{"model":"m","instructions":"be brief","input":[{HI}]}}"#),
    );
    check(
        Wire::Anthropic,
        |_, _| {},
        &format!(
            r#"{{"model":"m","max_tokens":8192,"system":[{{"type":"text","text":"be brief"}}],"messages":[{HI}]}}"#
        ),
    );
    check(
        Wire::Gemini,
        |_, _| {},
        r#"{"systemInstruction":{"parts":[{"text":"be brief"}]},"contents":[{"role":"user","parts":[{"text":"hi"}]},{"b":1.50, "a":"é"}]}"#,
    );
    check(
        Wire::Bedrock,
        |_, _| {},
        r#"{"system":[{"text":"be brief"}],"messages":[{"role":"user","content":[{"text":"hi"}]},{"b":1.50, "a":"é"}]}"#,
    );
}

#[test]
fn limits_and_switches_have_their_names() {
    let all = |prompt: &mut Prompt<'_>, parameters: &mut Parameters<'_>| {
        (prompt.system, prompt.messages) = ("", &[]);
        (parameters.max_tokens, parameters.temperature) = (Some(9), Some(0.5));
        (parameters.effort, parameters.stream) = (Some("low"), true);
    };
    check(
        Wire::OpenAi,
        all,
        r#"{"model":"m","max_completion_tokens":9,"temperature":0.5,"reasoning_effort":"low","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#,
    );
    check(
        Wire::OpenAiResponses,
        all,
        r#"{"model":"m","max_output_tokens":9,"temperature":0.5,"reasoning":{"effort":"low"},"stream":true,"input":[]}"#,
    );
    check(
        Wire::Anthropic,
        all,
        r#"{"model":"m","max_tokens":9,"messages":[],"temperature":0.5,"output_config":{"effort":"low"},"stream":true}"#,
    );
    check(
        Wire::Gemini,
        all,
        r#"{"contents":[],"generationConfig":{"maxOutputTokens":9,"temperature":0.5,"thinkingConfig":{"thinkingLevel":"low"}}}"#,
    );
    check(
        Wire::Bedrock,
        all,
        r#"{"messages":[],"inferenceConfig":{"maxTokens":9,"temperature":0.5},"outputConfig":{"effort":"low"}}"#,
    );
    check(
        Wire::Cohere,
        all,
        r#"{"model":"m","max_tokens":9,"temperature":0.5,"reasoning_effort":"low","stream":true,"messages":[]}"#,
    );
    check(
        Wire::Ollama,
        all,
        r#"{"model":"m","stream":true,"options":{"num_predict":9,"temperature":0.5},"think":"low","messages":[]}"#,
    );
    check(
        Wire::OpenAi,
        |prompt, parameters| {
            (prompt.system, prompt.messages) = ("", &[]);
            (parameters.max_tokens, parameters.compatible) = (Some(9), true);
        },
        r#"{"model":"m","max_tokens":9,"messages":[]}"#,
    );
}

/// What stands in the body beside the name, the limit and the messages; the tools' definitions,
/// whose form is tested elsewhere, are left out.
fn choice(wire: Wire, choice: ToolChoice, parallel: Option<bool>) -> String {
    let prompt = Prompt { tools: tools(), choice, parallel, ..Prompt::default() };
    let body = wire.request(&prompt, &Parameters::new("m"));
    let mut body = RawObject::read(body.as_str()).unwrap();
    for key in ["model", "max_tokens", "messages", "contents", "input", "stream"] {
        body.remove(key);
    }
    let definitions = wire.tools(&prompt.tools);
    raw::json(&body).as_str().replace(definitions.as_str(), "TOOLS")
}

#[test]
fn the_choice_and_the_switch_for_parallel_calls() {
    let one = || ToolChoice::Tool("find".into());
    let all = |wire, parallel| {
        [ToolChoice::Auto, ToolChoice::Required, one(), ToolChoice::None]
            .map(|which| choice(wire, which, parallel))
    };
    assert_eq!(
        all(Wire::Anthropic, None),
        [
            r#"{"tools":TOOLS}"#,
            r#"{"tools":TOOLS,"tool_choice":{"type":"any"}}"#,
            r#"{"tools":TOOLS,"tool_choice":{"type":"tool","name":"find"}}"#,
            r#"{"tools":TOOLS,"tool_choice":{"type":"none"}}"#,
        ]
    );
    assert_eq!(
        all(Wire::Anthropic, Some(false)),
        [
            r#"{"tools":TOOLS,"tool_choice":{"type":"auto","disable_parallel_tool_use":true}}"#,
            r#"{"tools":TOOLS,"tool_choice":{"type":"any","disable_parallel_tool_use":true}}"#,
            r#"{"tools":TOOLS,"tool_choice":{"type":"tool","name":"find","disable_parallel_tool_use":true}}"#,
            r#"{"tools":TOOLS,"tool_choice":{"type":"none"}}"#,
        ]
    );
    assert_eq!(
        all(Wire::OpenAi, Some(false)),
        [
            r#"{"tools":TOOLS,"parallel_tool_calls":false}"#,
            r#"{"tools":TOOLS,"tool_choice":"required","parallel_tool_calls":false}"#,
            r#"{"tools":TOOLS,"tool_choice":{"type":"function","function":{"name":"find"}},"parallel_tool_calls":false}"#,
            r#"{"tools":TOOLS,"tool_choice":"none","parallel_tool_calls":false}"#,
        ]
    );
    assert_eq!(
        all(Wire::OpenAiResponses, Some(true)),
        [
            r#"{"tools":TOOLS,"parallel_tool_calls":true}"#,
            r#"{"tools":TOOLS,"tool_choice":"required","parallel_tool_calls":true}"#,
            r#"{"tools":TOOLS,"tool_choice":{"type":"function","name":"find"},"parallel_tool_calls":true}"#,
            r#"{"tools":TOOLS,"tool_choice":"none","parallel_tool_calls":true}"#,
        ]
    );
    assert_eq!(
        all(Wire::Cohere, None),
        [
            r#"{"tools":TOOLS}"#,
            r#"{"tools":TOOLS,"tool_choice":"REQUIRED"}"#,
            r#"{"tools":TOOLS,"tool_choice":"REQUIRED"}"#,
            r#"{"tools":TOOLS,"tool_choice":"NONE"}"#,
        ]
    );
    assert_eq!(
        all(Wire::Ollama, None),
        [r#"{"tools":TOOLS}"#, r#"{"tools":TOOLS}"#, r#"{"tools":TOOLS}"#, "{}"]
    );
    assert_eq!(
        all(Wire::Gemini, None),
        [
            r#"{"tools":TOOLS}"#,
            r#"{"tools":TOOLS,"toolConfig":{"functionCallingConfig":{"mode":"ANY"}}}"#,
            r#"{"tools":TOOLS,"toolConfig":{"functionCallingConfig":{"mode":"ANY","allowedFunctionNames":["find"]}}}"#,
            r#"{"tools":TOOLS,"toolConfig":{"functionCallingConfig":{"mode":"NONE"}}}"#,
        ]
    );
}

#[test]
fn a_tool_that_takes_free_text_is_chosen_as_the_kind_it_is() {
    let sql = Tool::new("sql", "A query", |query: String| Ok(query)).takes_free_text();
    let choice = |wire: Wire| {
        let choice = ToolChoice::Tool("sql".into());
        let prompt = Prompt { tools: tools().with(sql.clone()), choice, ..Prompt::default() };
        let body = wire.request(&prompt, &Parameters::new("m"));
        RawObject::read(body.as_str()).unwrap().get("tool_choice").unwrap().to_string()
    };
    assert_eq!(choice(Wire::OpenAi), r#"{"type":"custom","custom":{"name":"sql"}}"#);
    assert_eq!(choice(Wire::OpenAiResponses), r#"{"type":"custom","name":"sql"}"#);
    assert_eq!(choice(Wire::Anthropic), r#"{"type":"tool","name":"sql"}"#);
}

#[test]
fn extra_is_merged_into_the_body() {
    let extra = raw::literal(r#"{"temperature":null,"reasoning":{"summary":"auto"},"seed":7}"#);
    let parameters = Parameters {
        temperature: Some(1.0),
        effort: Some("low"),
        extra: Some(&extra),
        ..Parameters::new("m")
    };
    let body = Wire::OpenAiResponses.request(&Prompt::default(), &parameters);
    assert_eq!(
        body.as_str(),
        r#"{"model":"m","reasoning":{"effort":"low","summary":"auto"},"input":[],"seed":7}"#
    );
}

#[test]
fn the_last_tool_and_the_system_prompt_are_marked_for_anthropics_cache() {
    let prompt = Prompt { system: "s", tools: tools(), ..Prompt::default() };
    let parameters = Parameters { cache: true, ..Parameters::new("m") };
    let body = Wire::Anthropic.request(&prompt, &parameters).to_value().unwrap();
    let mark = serde_json::json!({ "type": "ephemeral" });
    assert_eq!(body["system"][0]["cache_control"], mark);
    assert_eq!(body["tools"][1]["cache_control"], mark);
    assert_eq!(body["tools"][0].get("cache_control"), None);
}

#[test]
fn on_bedrock_only_models_that_know_a_cache_get_points_for_it() {
    let prompt = Prompt { system: "s", tools: tools(), ..Prompt::default() };
    let points = |model| {
        let parameters = Parameters { cache: true, ..Parameters::new(model) };
        let body = Wire::Bedrock.request(&prompt, &parameters).to_value().unwrap();
        let count = |part: &serde_json::Value| {
            part.as_array().map_or(0, |all| {
                all.iter().filter(|block| block.get("cachePoint").is_some()).count()
            })
        };
        (count(&body["toolConfig"]["tools"]), count(&body["system"]))
    };
    assert_eq!(points("us.anthropic.claude-sonnet-4"), (1, 1));
    assert_eq!(points("amazon.nova-pro-v1:0"), (0, 1));
    assert_eq!(points("meta.llama4"), (0, 0));
}
