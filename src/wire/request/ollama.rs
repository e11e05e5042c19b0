//! The request of Ollama `/api/chat`.

use serde::Serialize;

use crate::turn::Wire;
use crate::wire::raw::RawObject;
use crate::wire::request::{Parameters, Prompt, ToolChoice, set_some, with_system};

#[derive(Serialize)]
struct Options {
    #[serde(skip_serializing_if = "Option::is_none")]
    num_predict: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Think<'a> {
    Switch(bool),
    Level(&'a str),
}

pub(super) fn body<'a>(prompt: &Prompt<'_>, parameters: &Parameters<'_>) -> RawObject<'a> {
    let mut body = RawObject::default();
    body.set("model", parameters.model);
    // Left out, it would mean yes.
    body.set("stream", &parameters.stream);
    if parameters.max_tokens.is_some() || parameters.temperature.is_some() {
        let (num_predict, temperature) = (parameters.max_tokens, parameters.temperature);
        body.set("options", &Options { num_predict, temperature });
    }
    let think = parameters.effort.map(|effort| match effort {
        "none" | "off" | "false" => Think::Switch(false),
        "on" | "true" => Think::Switch(true),
        level => Think::Level(level),
    });
    set_some(&mut body, "think", think);
    if !prompt.tools.is_empty() && prompt.choice != ToolChoice::None {
        body.set("tools", &Wire::Ollama.tools(&prompt.tools));
    }
    body.set("messages", &with_system(prompt));
    body
}
