//! The request of OpenAI Chat Completions and compatible servers.

use serde::Serialize;

use crate::turn::Wire;
use crate::wire::raw::RawObject;
use crate::wire::request::{Parameters, Prompt, ToolChoice, set_some, with_system};

/// The value of `tool_choice`, here and in OpenAI Responses, which spells a tool in another way.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Choice<T> {
    Word(&'static str),
    Tool(T),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Named<'a> {
    Function { function: Name<'a> },
    Custom { custom: Name<'a> },
}

#[derive(Serialize)]
struct Name<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

pub(super) fn body<'a>(prompt: &Prompt<'_>, parameters: &Parameters<'_>) -> RawObject<'a> {
    let mut body = RawObject::default();
    body.set("model", parameters.model);
    let limit = if parameters.compatible { "max_tokens" } else { "max_completion_tokens" };
    set_some(&mut body, limit, parameters.max_tokens);
    set_some(&mut body, "temperature", parameters.temperature);
    set_some(&mut body, "reasoning_effort", parameters.effort);
    if !prompt.tools.is_empty() {
        body.set("tools", &Wire::OpenAi.tools(&prompt.tools));
        let function = |name| Named::Function { function: Name { name } };
        let custom = |name| Named::Custom { custom: Name { name } };
        set_some(&mut body, "tool_choice", choice(prompt, function, custom));
        set_some(&mut body, "parallel_tool_calls", prompt.parallel);
    }
    if parameters.stream {
        body.set("stream", &true);
        body.set("stream_options", &StreamOptions { include_usage: true });
    }
    body.set("messages", &with_system(prompt));
    body
}

pub(super) fn choice<'a, T>(
    prompt: &'a Prompt<'_>,
    function: impl FnOnce(&'a str) -> T,
    custom: impl FnOnce(&'a str) -> T,
) -> Option<Choice<T>> {
    match &prompt.choice {
        ToolChoice::Auto => None,
        ToolChoice::Required => Some(Choice::Word("required")),
        ToolChoice::None => Some(Choice::Word("none")),
        ToolChoice::Tool(name) => {
            let tool = prompt.tools.get(name);
            Some(Choice::Tool(match tool.is_some_and(|tool| tool.takes_free_text()) {
                true => custom(name),
                false => function(name),
            }))
        }
    }
}
