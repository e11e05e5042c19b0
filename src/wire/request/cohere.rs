//! The request of Cohere v2.

use crate::turn::Wire;
use crate::wire::raw::RawObject;
use crate::wire::request::{Parameters, Prompt, ToolChoice, set_some, with_system};

pub(super) fn body<'a>(prompt: &Prompt<'_>, parameters: &Parameters<'_>) -> RawObject<'a> {
    let mut body = RawObject::default();
    body.set("model", parameters.model);
    set_some(&mut body, "max_tokens", parameters.max_tokens);
    set_some(&mut body, "temperature", parameters.temperature);
    set_some(&mut body, "reasoning_effort", parameters.effort);
    if !prompt.tools.is_empty() {
        body.set("tools", &Wire::Cohere.tools(&prompt.tools));
        let choice = match prompt.choice {
            ToolChoice::Auto => None,
            ToolChoice::Required | ToolChoice::Tool(_) => Some("REQUIRED"),
            ToolChoice::None => Some("NONE"),
        };
        set_some(&mut body, "tool_choice", choice);
    }
    set_some(&mut body, "stream", parameters.stream.then_some(true));
    body.set("messages", &with_system(prompt));
    body
}
