//! rig: a whole agent with a model that plays two answers, the calls and the end. Timed from the
//! first answer to the second question.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream;
use parking_lot::Mutex;
use rig_agent::AgentBuilder;
use rig_agent::agent::Agent;
use rig_agent::completion::{CompletionRequest, CompletionResponse, Usage};
use rig_agent::tool::{DynamicTool, ToolErrorKind, ToolExecutionError, ToolOutput};
use rig_core::driver::{Exchange, Model, Opened, Opening, Transport};
use rig_core::message::{
    AssistantContent, Message, Origin, ToolCall, ToolFunction, ToolName, ToolResultContent,
    UserContent,
};
use rig_core::test_utils::{MockFrame, MockScript};
use tokio::runtime::Runtime;

use super::plain::{runtime, within};
use super::{Ran, Rival, Settings};
use crate::work::Work;

/// What the model says, and what it notices.
#[derive(Default)]
struct Script {
    calls: Vec<Work>,
    answered: Option<Instant>,
    took: Option<Duration>,
    results: Vec<Option<String>>,
}

#[derive(Clone, Default)]
struct Scripted(Arc<Mutex<Script>>);

impl Transport<MockScript> for Scripted {
    fn send(&self, request: CompletionRequest, _exchange: Exchange) -> Opening<MockFrame> {
        let now = Instant::now();
        let mut script = self.0.lock();
        let content = match script.answered {
            None => script.calls.iter().enumerate().map(|(at, work)| call(at, *work)).collect(),
            Some(answered) => {
                script.took = Some(now - answered);
                script.results = results(&request);
                vec![AssistantContent::text("all done")]
            }
        };
        let origin = Origin::new("example.api", "scripted", "");
        let response =
            CompletionResponse::new(content, Usage::new(), origin, serde_json::Value::Null);
        let frame = Ok(MockFrame::Response(Box::new(response)));
        script.answered = Some(Instant::now());
        Opening::ready(Opened::new(stream::iter([frame])))
    }
}

fn name(work: Work) -> ToolName {
    ToolName::new(work.name()).expect("a good name")
}

fn call(at: usize, work: Work) -> AssistantContent {
    let function = ToolFunction::new(name(work), serde_json::json!({}));
    AssistantContent::ToolCall(ToolCall::from_wire(format!("call_{at}"), function))
}

/// The results that the model is shown.
fn results(request: &CompletionRequest) -> Vec<Option<String>> {
    let Some(Message::User { content }) = request.chat_history.last() else {
        return Vec::new();
    };
    let result = |item: &UserContent| match item {
        UserContent::ToolResult(result) => match result.content.first() {
            Some(ToolResultContent::Text(text)) => Some(text.text.clone()),
            other => Some(format!("{other:?}")),
        },
        _ => None,
    };
    content.iter().map(result).collect()
}

fn tool(work: Work, asynchronous: bool) -> DynamicTool {
    let schema = serde_json::json!({"type": "object", "properties": {}});
    DynamicTool::new(name(work), "Works", schema, move |_| {
        Box::pin(async move {
            let answer = if asynchronous {
                work.call_async().await
            } else {
                let joined = tokio::task::spawn_blocking(move || work.call()).await;
                joined.unwrap_or_else(|panicked| Err(panicked.to_string()))
            };
            let failed = |text| ToolExecutionError::new(ToolErrorKind::Provider, text);
            answer.map(ToolOutput::text).map_err(failed)
        })
    })
}

pub struct Rig {
    runtime: Runtime,
    agent: Agent,
    model: Scripted,
    settings: Settings,
}

impl Rig {
    pub fn new(settings: Settings, asynchronous: bool) -> Self {
        let runtime = runtime(settings.threads);
        let model = Scripted::default();
        let agent = {
            let _entered = runtime.enter();
            let tools = Work::ALL.map(|work| tool(work, asynchronous)).into();
            AgentBuilder::new(Model::new(MockScript::new("scripted"), model.clone()))
                .dynamic_tools(tools)
                .build()
        };
        Self { runtime, agent, model, settings }
    }
}

impl Rival for Rig {
    fn prepare(&mut self, calls: &[Work]) {
        self.model.0.lock().calls = calls.to_vec();
    }

    fn run(&mut self) -> Ran {
        {
            let mut script = self.model.0.lock();
            script.answered = None;
            script.took = None;
            script.results.clear();
        }
        let start = Instant::now();
        let prompt = async {
            let prompt = self.agent.prompt("go").max_turns(3);
            prompt.tool_concurrency(self.settings.threads).await
        };
        let ended = self.runtime.block_on(within(self.settings.deadline, prompt));
        let mut script = self.model.0.lock();
        if let Some(Err(error)) = ended {
            script.results.push(Some(format!("the run ended: {error}")));
        }
        let took = script.took.unwrap_or_else(|| start.elapsed());
        Ran { took, results: std::mem::take(&mut script.results) }
    }
}
