//! agnt: a whole agent with a backend that plays a script.

use agnt::{Agent, LlmBackend, Message, Tool};
use agnt_core::BackendError;
use serde_json::{Value, json};

use super::script::Script;
use super::{Ran, Rival, Settings};
use crate::work::Work;

struct Scripted(Script);

fn message(value: Value) -> Message {
    serde_json::from_value(value).expect("a message")
}

impl LlmBackend for Scripted {
    fn model(&self) -> &str {
        "scripted"
    }

    fn chat(
        &self,
        messages: &[Message],
        _tools: &Value,
        _on_token: Option<&mut dyn FnMut(&str)>,
    ) -> Result<Message, BackendError> {
        let results = || {
            let results = messages.iter().filter(|message| message.role == "tool");
            results.map(|message| message.content.clone()).collect()
        };
        Ok(self.0.asked(results, |calls| match calls {
            Some(calls) => {
                let calls = calls.iter().enumerate().map(|(at, work)| {
                    let function = json!({"name": work.name(), "arguments": "{}"});
                    json!({"id": format!("call_{at}"), "type": "function", "function": function})
                });
                message(json!({"role": "assistant", "tool_calls": calls.collect::<Vec<_>>()}))
            }
            None => message(json!({"role": "assistant", "content": "all done"})),
        }))
    }
}

struct Worker(Work);

impl Tool for Worker {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn description(&self) -> &str {
        "Works"
    }

    fn schema(&self) -> Value {
        json!({"type": "object", "properties": {}})
    }

    fn call(&self, _args: Value) -> Result<String, String> {
        self.0.call()
    }
}

pub struct Agnt {
    script: Script,
    settings: Settings,
}

impl Agnt {
    pub fn new(settings: Settings) -> Self {
        Self { script: Script::default(), settings }
    }
}

impl Rival for Agnt {
    fn prepare(&mut self, calls: &[Work]) {
        self.script.prepare(calls);
    }

    fn run(&mut self) -> Ran {
        let mut agent = Agent::new(Scripted(self.script.clone()), "Work.");
        // Without a sink for tokens it would print them.
        agent.on_token = Some(Box::new(|_| ()));
        // By default it hands the model no more than the last 40 messages.
        agent.max_window = usize::MAX;
        agent.max_step_duration = self.settings.deadline;
        for work in Work::ALL {
            agent.tools.register(Box::new(Worker(work)));
        }
        self.script.ran(|| agent.step("go"))
    }
}
