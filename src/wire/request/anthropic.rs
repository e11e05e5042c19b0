//! The request of Anthropic Messages.

use serde::Serialize;

use crate::turn::Wire;
use crate::wire::raw::{self, RawObject};
use crate::wire::request::{Parameters, Prompt, ToolChoice, set_some};

/// The provider wants a limit in every request.
const MAX_TOKENS: u64 = 8192;

#[derive(Serialize)]
struct System<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<CacheControl>,
}

#[derive(Serialize)]
struct CacheControl {
    #[serde(rename = "type")]
    kind: &'static str,
}

const CACHED: CacheControl = CacheControl { kind: "ephemeral" };

#[derive(Serialize)]
struct Choice<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disable_parallel_tool_use: Option<bool>,
}

#[derive(Serialize)]
struct OutputConfig<'a> {
    effort: &'a str,
}

pub(super) fn body<'a>(prompt: &Prompt<'_>, parameters: &Parameters<'_>) -> RawObject<'a> {
    let mut body = RawObject::default();
    body.set("model", parameters.model);
    body.set("max_tokens", &parameters.max_tokens.unwrap_or(MAX_TOKENS));
    if !prompt.tools.is_empty() {
        let definitions = Wire::Anthropic.tools(&prompt.tools);
        if parameters.cache {
            body.set("tools", &with_last_cached(definitions.as_str()));
        } else {
            body.set("tools", &definitions);
        }
        set_some(&mut body, "tool_choice", choice(prompt));
    }
    if !prompt.system.is_empty() {
        let cache_control = parameters.cache.then_some(CACHED);
        body.set("system", &[System { kind: "text", text: prompt.system, cache_control }]);
    }
    body.set("messages", prompt.messages);
    set_some(&mut body, "container", prompt.container);
    set_some(&mut body, "temperature", parameters.temperature);
    set_some(&mut body, "output_config", parameters.effort.map(|effort| OutputConfig { effort }));
    set_some(&mut body, "stream", parameters.stream.then_some(true));
    body
}

/// The cache holds everything up to the mark, so one on the last tool is for all of them.
fn with_last_cached(definitions: &str) -> Vec<RawObject<'_>> {
    let definitions = raw::array(definitions);
    let mut tools: Vec<_> =
        definitions.iter().filter_map(|tool| RawObject::read(tool.get())).collect();
    if let Some(last) = tools.last_mut() {
        last.set("cache_control", &CACHED);
    }
    tools
}

fn choice<'a>(prompt: &'a Prompt<'_>) -> Option<Choice<'a>> {
    let (kind, name) = match &prompt.choice {
        ToolChoice::Auto => ("auto", None),
        ToolChoice::Required => ("any", None),
        ToolChoice::Tool(name) => ("tool", Some(&**name)),
        ToolChoice::None => ("none", None),
    };
    let disable_parallel_tool_use =
        prompt.parallel.filter(|_| kind != "none").map(|parallel| !parallel);
    (prompt.choice != ToolChoice::Auto || prompt.parallel.is_some()).then_some(Choice {
        kind,
        name,
        disable_parallel_tool_use,
    })
}
