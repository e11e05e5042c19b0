//! rig: a whole agent with a model that plays a script.

use futures::stream;
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
use super::script::Script;
use super::{Ran, Rival, Settings};
use crate::work::Work;

#[derive(Clone)]
struct Scripted(Script);

impl Transport<MockScript> for Scripted {
    fn send(&self, request: CompletionRequest, _exchange: Exchange) -> Opening<MockFrame> {
        let answer = |calls: Option<&[Work]>| {
            let content = match calls {
                Some(calls) => (0..).zip(calls).map(|(at, work)| call(at, *work)).collect(),
                None => vec![AssistantContent::text("all done")],
            };
            let origin = Origin::new("example.api", "scripted", "");
            CompletionResponse::new(content, Usage::new(), origin, serde_json::Value::Null)
        };
        let response = Box::new(self.0.asked(|| results(&request), answer));
        let frame = Ok(MockFrame::Response(response));
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
    script: Script,
    settings: Settings,
}

impl Rig {
    pub fn new(settings: Settings, asynchronous: bool) -> Self {
        let runtime = runtime(settings.threads);
        let script = Script::default();
        let agent = {
            let _entered = runtime.enter();
            let tools = Work::ALL.map(|work| tool(work, asynchronous)).into();
            AgentBuilder::new(Model::new(MockScript::new("scripted"), Scripted(script.clone())))
                .dynamic_tools(tools)
                .build()
        };
        Self { runtime, agent, script, settings }
    }
}

impl Rival for Rig {
    fn prepare(&mut self, calls: &[Work]) {
        self.script.prepare(calls);
    }

    fn run(&mut self) -> Ran {
        let Settings { threads, deadline } = self.settings;
        let prompt = async { self.agent.prompt("go").max_turns(3).tool_concurrency(threads).await };
        let prompt = within(deadline, prompt);
        self.script.ran(|| self.runtime.block_on(prompt).transpose().map_err(Box::new))
    }
}
