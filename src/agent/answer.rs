//! An answer of a type, which the model gives by calling a tool that takes it.

use std::marker::PhantomData;
use std::time::Instant;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::agent::end::End;
use crate::agent::error::AgentError;
use crate::agent::{Agent, Conversation};
use crate::tool::{Tool, ToolSet};
use crate::wire::ToolChoice;

const NAME: &str = "answer";
/// How often a model that answers in words is asked again.
const REMINDERS: u32 = 2;

/// The arguments of the tool. The answer is a member, because arguments must be an object and an
/// answer needn't.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "Answer")]
struct Given<T> {
    /// The answer.
    answer: T,
}

pub(super) fn ask_as<T>(agent: &Agent, question: &str) -> Result<T, AgentError>
where
    T: DeserializeOwned + JsonSchema + 'static,
{
    let mut conversation = agent.conversation();
    conversation.user(question);
    let given = ask_in(agent, &mut conversation);
    given.map_err(|error| error.with_conversation(conversation))
}

fn ask_in<T>(agent: &Agent, conversation: &mut Conversation) -> Result<T, AgentError>
where
    T: DeserializeOwned + JsonSchema + 'static,
{
    let tools = agent.0.executor.tools();
    let name = free_name(tools);
    let executor = agent.0.executor.with_tools(tools.try_with(tool::<T>(&name))?)?;
    let choice = match (agent.0.settings.force_tools, tools.is_empty()) {
        (false, _) => ToolChoice::Auto,
        (true, true) => ToolChoice::Tool(name.clone()),
        (true, false) => ToolChoice::Required,
    };
    let began = Instant::now();
    for reminded in 0.. {
        let mut run = agent.on(conversation).with_executor(&executor).choice(choice.clone());
        if let Some(deadline) = agent.0.settings.deadline {
            run = run.deadline(deadline.saturating_sub(began.elapsed()));
        }
        match run.ends_with(&name).run()? {
            End::ToolEnded { tool, arguments, .. } if tool == name => {
                let given: Given<T> = decoded(arguments.as_str())?;
                return Ok(given.answer);
            }
            End::Answer(text) => {
                // A model that wasn't forced may still have answered as it should.
                if let Ok(answer) = serde_json::from_str(unfenced(&text)) {
                    return Ok(answer);
                }
                if reminded == REMINDERS {
                    return Err(AgentError::ended(End::Answer(text)));
                }
                conversation.user(&format!("Give your answer by calling the tool {name}."));
            }
            end => return Err(AgentError::ended(end)),
        }
    }
    Err(AgentError::input("the model was never asked"))
}

fn tool<T: DeserializeOwned + JsonSchema + 'static>(name: &str) -> Tool<Given<T>> {
    let description = "Gives the final answer. Call it once, alone, when you know the answer.";
    let of: PhantomData<fn(T)> = PhantomData;
    Tool::new(name, description, move |_: Given<T>| {
        let _ = of;
        Ok("the answer was taken")
    })
    .read_only()
}

fn decoded<T: DeserializeOwned>(text: &str) -> Result<T, AgentError> {
    serde_json::from_str(text)
        .map_err(|error| AgentError::input(format_args!("answer of another shape: {error}")))
}

fn free_name(tools: &ToolSet) -> String {
    let mut name = NAME.to_owned();
    while tools.get(&name).is_some() {
        name = format!("final_{name}");
    }
    name
}

/// What stands in a fence of Markdown, or the text itself.
fn unfenced(text: &str) -> &str {
    let text = text.trim();
    let inner = text.strip_prefix("```").and_then(|text| text.strip_suffix("```"));
    inner.map_or(text, |inner| inner.strip_prefix("json").unwrap_or(inner).trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_are_taken_off() {
        assert_eq!(unfenced(" {\"a\":1} "), "{\"a\":1}");
        assert_eq!(unfenced("```json\n[1]\n```"), "[1]");
        assert_eq!(unfenced("```\n7\n```"), "7");
    }

    #[test]
    fn the_tools_name_is_free() {
        let taken = Tool::new("answer", "", || Ok(1));
        assert_eq!(free_name(&ToolSet::new().with(taken)), "final_answer");
        assert!(ToolSet::new().try_with(tool::<Vec<u8>>("answer")).is_ok(), "a list is no object");
    }
}
