//! The request of OpenAI Chat Completions and compatible servers.

use serde::Serialize;

use crate::turn::Wire;
use crate::wire::raw::RawObject;
use crate::wire::request::{Prompt, Shape, ToolChoice, set_some, with_system};

#[derive(Serialize)]
#[serde(untagged)]
enum Choice<'a> {
    Word(&'static str),
    Function {
        #[serde(rename = "type")]
        kind: &'static str,
        function: Name<'a>,
    },
}

#[derive(Serialize)]
struct Name<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

pub(super) fn body<'a>(prompt: &Prompt<'_>, shape: &Shape<'_>) -> RawObject<'a> {
    let mut body = RawObject::default();
    body.set("model", shape.model);
    let limit = if shape.compatible { "max_tokens" } else { "max_completion_tokens" };
    set_some(&mut body, limit, shape.max_tokens);
    set_some(&mut body, "temperature", shape.temperature);
    set_some(&mut body, "reasoning_effort", shape.effort);
    if !prompt.tools.is_empty() {
        body.set("tools", &Wire::OpenAi.tools(&prompt.tools));
        set_some(&mut body, "tool_choice", choice(&prompt.choice));
        set_some(&mut body, "parallel_tool_calls", prompt.parallel);
    }
    if shape.stream {
        body.set("stream", &true);
        body.set("stream_options", &StreamOptions { include_usage: true });
    }
    body.set("messages", &with_system(prompt));
    body
}

fn choice(choice: &ToolChoice) -> Option<Choice<'_>> {
    match choice {
        ToolChoice::Auto => None,
        ToolChoice::Required => Some(Choice::Word("required")),
        ToolChoice::None => Some(Choice::Word("none")),
        ToolChoice::Tool(name) => {
            Some(Choice::Function { kind: "function", function: Name { name } })
        }
    }
}
