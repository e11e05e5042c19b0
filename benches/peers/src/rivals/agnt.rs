//! agnt: a whole agent with a backend that plays two answers, the calls and the end. Timed from the
//! first answer to the second question.

use std::sync::Arc;
use std::time::{Duration, Instant};

use agnt::{Agent, LlmBackend, Message, Tool};
use agnt_core::BackendError;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{Ran, Rival, Settings};
use crate::work::Work;

#[derive(Default)]
struct Script {
    calls: Vec<Work>,
    answered: Option<Instant>,
    took: Option<Duration>,
    results: Vec<Option<String>>,
}

#[derive(Clone, Default)]
struct Scripted(Arc<Mutex<Script>>);

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
        let now = Instant::now();
        let mut script = self.0.lock();
        let answer = match script.answered {
            None => {
                let calls = script.calls.iter().enumerate().map(|(at, work)| {
                    let function = json!({"name": work.name(), "arguments": "{}"});
                    json!({"id": format!("call_{at}"), "type": "function", "function": function})
                });
                message(json!({"role": "assistant", "tool_calls": calls.collect::<Vec<_>>()}))
            }
            Some(answered) => {
                script.took = Some(now - answered);
                let results = messages.iter().filter(|message| message.role == "tool");
                script.results = results.map(|message| message.content.clone()).collect();
                message(json!({"role": "assistant", "content": "all done"}))
            }
        };
        script.answered = Some(Instant::now());
        Ok(answer)
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
    backend: Scripted,
    settings: Settings,
}

impl Agnt {
    pub fn new(settings: Settings) -> Self {
        Self { backend: Scripted::default(), settings }
    }
}

impl Rival for Agnt {
    fn prepare(&mut self, calls: &[Work]) {
        self.backend.0.lock().calls = calls.to_vec();
    }

    fn run(&mut self) -> Ran {
        {
            let mut script = self.backend.0.lock();
            script.answered = None;
            script.took = None;
            script.results.clear();
        }
        let mut agent = Agent::new(self.backend.clone(), "Work.");
        // Without a sink for tokens it would print them.
        agent.on_token = Some(Box::new(|_| ()));
        // By default it hands the model no more than the last 40 messages.
        agent.max_window = usize::MAX;
        agent.max_step_duration = self.settings.deadline;
        for work in Work::ALL {
            agent.tools.register(Box::new(Worker(work)));
        }
        let start = Instant::now();
        let ended = agent.step("go");
        let mut script = self.backend.0.lock();
        if let Err(error) = ended {
            script.results.push(Some(format!("the run ended: {error}")));
        }
        let took = script.took.unwrap_or_else(|| start.elapsed());
        Ran { took, results: std::mem::take(&mut script.results) }
    }
}
