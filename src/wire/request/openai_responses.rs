//! The request of OpenAI Responses.

use serde::Serialize;

use crate::turn::Wire;
use crate::wire::raw::RawObject;
use crate::wire::request::openai::choice;
use crate::wire::request::{Parameters, Prompt, set_some};

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Named<'a> {
    Function { name: &'a str },
    Custom { name: &'a str },
}

#[derive(Serialize)]
struct Reasoning<'a> {
    effort: &'a str,
}

pub(super) fn body<'a>(prompt: &Prompt<'_>, parameters: &Parameters<'_>) -> RawObject<'a> {
    let mut body = RawObject::default();
    body.set("model", parameters.model);
    set_some(&mut body, "max_output_tokens", parameters.max_tokens);
    set_some(&mut body, "temperature", parameters.temperature);
    set_some(&mut body, "reasoning", parameters.effort.map(|effort| Reasoning { effort }));
    if !prompt.system.is_empty() {
        body.set("instructions", prompt.system);
    }
    if !prompt.tools.is_empty() {
        body.set("tools", &Wire::OpenAiResponses.tools(&prompt.tools));
        let function = |name| Named::Function { name };
        let custom = |name| Named::Custom { name };
        set_some(&mut body, "tool_choice", choice(prompt, function, custom));
        set_some(&mut body, "parallel_tool_calls", prompt.parallel);
    }
    set_some(&mut body, "stream", parameters.stream.then_some(true));
    body.set("input", prompt.messages);
    body
}
