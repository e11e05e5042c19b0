//! The request of Bedrock Converse.

use serde::Serialize;

use crate::json::Json;
use crate::turn::Wire;
use crate::wire::raw::{self, RawObject};
use crate::wire::request::{Parameters, Prompt, Text, ToolChoice, set_some};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Inference {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
}

#[derive(Serialize)]
struct OutputConfig<'a> {
    effort: &'a str,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct Name<'a> {
    name: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Choice<'a> {
    Any(Empty),
    Tool(Name<'a>),
}

const CACHE_POINT: &str = r#"{"cachePoint":{"type":"default"}}"#;

/// The model's name and whether to stream stand in the address.
pub(super) fn body<'a>(prompt: &Prompt<'_>, parameters: &Parameters<'_>) -> RawObject<'a> {
    let mut body = RawObject::default();
    // A model that knows no cache refuses a request that asks for it.
    let is_claude = parameters.model.contains("anthropic.");
    let caches_tools = parameters.cache && is_claude;
    let caches_system = parameters.cache && (is_claude || parameters.model.contains("amazon.nova"));
    if !prompt.tools.is_empty() {
        let definitions = Wire::Bedrock.tools(&prompt.tools);
        let mut config = RawObject::read(definitions.as_str()).unwrap_or_default();
        if caches_tools {
            let listed = config.get("tools").map(|tools| raw::array(tools.get()));
            let tools: Vec<Json> = listed.into_iter().flatten().map(Json::from_raw).collect();
            let point = raw::literal(CACHE_POINT);
            config.set("tools", &tools.into_iter().chain([point]).collect::<Vec<_>>());
        }
        let choice = match &prompt.choice {
            ToolChoice::Required => Some(Choice::Any(Empty {})),
            ToolChoice::Tool(name) => Some(Choice::Tool(Name { name })),
            ToolChoice::Auto | ToolChoice::None => None,
        };
        set_some(&mut config, "toolChoice", choice);
        body.set("toolConfig", &config);
    }
    if !prompt.system.is_empty() {
        let text = raw::json(&Text { text: prompt.system });
        let point = caches_system.then(|| raw::literal(CACHE_POINT));
        body.set("system", &[text].into_iter().chain(point).collect::<Vec<_>>());
    }
    body.set("messages", prompt.messages);
    if parameters.max_tokens.is_some() || parameters.temperature.is_some() {
        let (max_tokens, temperature) = (parameters.max_tokens, parameters.temperature);
        body.set("inferenceConfig", &Inference { max_tokens, temperature });
    }
    set_some(&mut body, "outputConfig", parameters.effort.map(|effort| OutputConfig { effort }));
    body
}
