//! toolpool itself, with all its limits on.

use std::time::{Duration, Instant};

use serde_json::json;
use toolpool::{Executor, FailurePolicy, Tool, ToolSet, Turn, Wire};

use super::{Ran, Rival, Settings};
use crate::work::Work;

pub struct Toolpool {
    executor: Executor,
    turn: Turn,
    reply: bool,
}

impl Toolpool {
    pub fn new(settings: Settings, reply: bool) -> Self {
        let tools = Work::ALL.into_iter().fold(ToolSet::new(), |tools, work| {
            tools.with(Tool::new(work.name(), "Works", move || work.call().map_err(Into::into)))
        });
        let policy = match settings.deadline {
            Some(_) => FailurePolicy::inline(),
            None => FailurePolicy::abort_on_first(),
        };
        let executor = Executor::builder(tools)
            .max_calls(settings.threads)
            .blocking_threads(settings.threads)
            .call_timeout(Duration::from_secs(20))
            .deadline(settings.deadline.unwrap_or(Duration::from_secs(30)))
            .policy(policy)
            .build()
            .expect("the tools are fine");
        Self { executor, turn: Turn::from_calls([]), reply }
    }
}

impl Rival for Toolpool {
    fn prepare(&mut self, calls: &[Work]) {
        let calls = (0..).zip(calls).map(|(at, work): (usize, &Work)| {
            let function = json!({"name": work.name(), "arguments": "{}"});
            json!({"id": format!("call_{at}"), "type": "function", "function": function})
        });
        let message =
            json!({"role": "assistant", "content": null, "tool_calls": calls.collect::<Vec<_>>()});
        let body = json!({"choices": [{"finish_reason": "tool_calls", "message": message}]});
        self.turn = Wire::OpenAi.parse(&body.to_string()).expect("a body that can be read");
    }

    fn run(&mut self) -> Ran {
        let start = Instant::now();
        let report = self.executor.run(&self.turn);
        if self.reply {
            let reply = self.turn.reply(&report);
            assert_eq!(reply.len(), report.calls().len() + 1);
        }
        let took = start.elapsed();
        let results = report.results().map(|result| Some(result.content.to_text())).collect();
        Ran { took, results }
    }
}
