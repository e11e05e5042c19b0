//! The request of Gemini.

use serde::Serialize;

use crate::turn::Wire;
use crate::wire::raw::RawObject;
use crate::wire::request::{Parameters, Prompt, Text, ToolChoice, set_some};

#[derive(Serialize)]
struct Instruction<'a> {
    parts: [Text<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolConfig<'a> {
    function_calling_config: Calling<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Calling<'a> {
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_function_names: Option<[&'a str; 1]>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Generation<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_config: Option<Thinking<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Thinking<'a> {
    thinking_level: &'a str,
}

/// The model's name and whether to stream stand in the address.
pub(super) fn body<'a>(prompt: &Prompt<'_>, parameters: &Parameters<'_>) -> RawObject<'a> {
    let mut body = RawObject::default();
    if !prompt.system.is_empty() {
        body.set("systemInstruction", &Instruction { parts: [Text { text: prompt.system }] });
    }
    if !prompt.tools.is_empty() {
        body.set("tools", &Wire::Gemini.tools(&prompt.tools));
        let config = choice(&prompt.choice)
            .map(|function_calling_config| ToolConfig { function_calling_config });
        set_some(&mut body, "toolConfig", config);
    }
    body.set("contents", prompt.messages);
    let generation = Generation {
        max_output_tokens: parameters.max_tokens,
        temperature: parameters.temperature,
        thinking_config: parameters.effort.map(|thinking_level| Thinking { thinking_level }),
    };
    if parameters.max_tokens.is_some()
        || parameters.temperature.is_some()
        || parameters.effort.is_some()
    {
        body.set("generationConfig", &generation);
    }
    body
}

fn choice(choice: &ToolChoice) -> Option<Calling<'_>> {
    let (mode, only) = match choice {
        ToolChoice::Auto => return None,
        ToolChoice::Required => ("ANY", None),
        ToolChoice::Tool(name) => ("ANY", Some([&**name])),
        ToolChoice::None => ("NONE", None),
    };
    Some(Calling { mode, allowed_function_names: only })
}
