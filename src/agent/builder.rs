//! How an agent is set up.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::agent::measure::AgentStats;
use crate::agent::parallel::ParallelPolicy;
use crate::agent::{Agent, Parts};
use crate::error::Error;
use crate::executor::{Approval, ApprovalRequest, Approver, Executor};
use crate::model::Model;
use crate::policy::FailurePolicy;
use crate::tool::ToolSet;

/// What an agent's calls run on: an executor, or tools for which one is made.
#[derive(Debug)]
#[non_exhaustive]
pub enum AgentTools {
    /// An executor, whose threads and limits are shared with whoever else uses it.
    Executor(Executor),
    /// Tools; an executor with default settings is made for them.
    Tools(ToolSet),
}

impl From<Executor> for AgentTools {
    fn from(executor: Executor) -> Self {
        Self::Executor(executor)
    }
}

impl From<&Executor> for AgentTools {
    fn from(executor: &Executor) -> Self {
        Self::Executor(executor.clone())
    }
}

impl From<ToolSet> for AgentTools {
    fn from(tools: ToolSet) -> Self {
        Self::Tools(tools)
    }
}

#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) system: String,
    pub(crate) max_turns: u32,
    pub(crate) token_budget: Option<u64>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) policy: Option<FailurePolicy>,
    pub(crate) approver: Option<Arc<Approver>>,
    pub(crate) ends_with: Vec<String>,
    pub(crate) last_turn_without_tools: bool,
    pub(crate) nudge_at: u32,
    pub(crate) stop_at: u32,
    pub(crate) parallel: ParallelPolicy,
    pub(crate) early_start: bool,
    pub(crate) force_tools: bool,
}

/// Settings of an [`Agent`].
///
/// | setting | default |
/// | --- | --- |
/// | `system` | none |
/// | `max_turns` of one run | 25 |
/// | `token_budget` of one run | none |
/// | `deadline` of one run | none |
/// | `policy` | the executor's |
/// | `approval` | that of the turn it is nested in, then the executor's |
/// | `ends_with` | no tool |
/// | `last_turn_without_tools` | no |
/// | `repeats` | a word at 3, an end at 5 |
/// | `parallel` | [`ParallelPolicy::Allow`] |
/// | early start of calls that only read | yes |
/// | tools forced in [`ask_as`](Agent::ask_as) | yes |
#[must_use = "a builder does nothing until `build`"]
pub struct AgentBuilder {
    model: Arc<dyn Model>,
    tools: AgentTools,
    settings: Settings,
}

impl AgentBuilder {
    pub(super) fn new(model: Arc<dyn Model>, tools: AgentTools) -> Self {
        Self {
            model,
            tools,
            settings: Settings {
                system: String::new(),
                max_turns: 25,
                token_budget: None,
                deadline: None,
                policy: None,
                approver: None,
                ends_with: Vec::new(),
                last_turn_without_tools: false,
                nudge_at: 3,
                stop_at: 5,
                parallel: ParallelPolicy::default(),
                early_start: true,
                force_tools: true,
            },
        }
    }

    /// The system prompt. Defaults to none.
    pub fn system(mut self, text: impl Into<String>) -> Self {
        self.settings.system = text.into();
        self
    }

    /// How often a run may ask the model. The calls of the last turn are run and answered, too. A
    /// message that was cut short with calls in it counts: they aren't run, and the model is asked
    /// again; see [`End::CutShort`](crate::agent::End::CutShort). Defaults to 25.
    pub fn max_turns(mut self, turns: u32) -> Self {
        self.settings.max_turns = turns;
        self
    }

    /// Ends a run when it has taken so many tokens, read and written together. Looked at before
    /// each request, so the last one may go past it. Defaults to none.
    pub fn token_budget(mut self, tokens: u64) -> Self {
        self.settings.token_budget = Some(tokens);
        self
    }

    /// How long a run may take. Requests and batches end by it. Defaults to no end.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.settings.deadline = Some(deadline);
        self
    }

    /// What one failed call does to the others of its turn. The loop goes on after a batch that
    /// was aborted: the model is told. Defaults to the executor's.
    pub fn policy(mut self, policy: FailurePolicy) -> Self {
        self.settings.policy = Some(policy);
        self
    }

    /// Who decides on the calls that need approval; see [`Run::approval`](crate::Run::approval).
    /// A call that is deferred suspends the conversation. Defaults to that of the turn whose tool runs
    /// the agent, and then to the executor's.
    pub fn approval(
        mut self,
        approver: impl Fn(&[ApprovalRequest<'_>]) -> Vec<Approval> + Send + Sync + 'static,
    ) -> Self {
        self.settings.approver = Some(Arc::new(approver));
        self
    }

    /// Ends a run when this tool was called and succeeded. May be given several times. Defaults
    /// to none.
    pub fn ends_with(mut self, tool: impl Into<String>) -> Self {
        self.settings.ends_with.push(tool.into());
        self
    }

    /// Forbids the model to call tools in the last of its [`max_turns`](Self::max_turns), so that
    /// it gives the best answer it has. Bedrock can't be told; there, calls in the last turn are
    /// answered as not run. [`Agent::ask_as`], whose answer is a call, pays no heed to it. Defaults to
    /// no.
    pub fn last_turn_without_tools(mut self) -> Self {
        self.settings.last_turn_without_tools = true;
        self
    }

    /// Tells the model when it makes the same call, with the same arguments, in `nudge` turns in
    /// a row, and ends the run in the `stop`-th, without running it. Nor are the other calls of that
    /// turn run, but such that only read may have begun while the model wrote. A call that didn't
    /// start, such as one of a message that was cut off, isn't counted. 0 switches either off; a tool
    /// that is meant to be polled wants that. Defaults to 3 and 5.
    pub fn repeats(mut self, nudge: u32, stop: u32) -> Self {
        (self.settings.nudge_at, self.settings.stop_at) = (nudge, stop);
        self
    }

    /// How hard the model is asked for several calls in one turn. Defaults to
    /// [`ParallelPolicy::Allow`].
    pub fn parallel(mut self, policy: ParallelPolicy) -> Self {
        self.settings.parallel = policy;
        self
    }

    /// Waits for the whole message before any call starts. Defaults to starting calls that only
    /// read while the model still writes, where it streams.
    pub fn no_early_start(mut self) -> Self {
        self.settings.early_start = false;
        self
    }

    /// Never tells a provider that a tool must be called, in [`Agent::ask_as`]; some refuse it
    /// while a model reasons. Then the model is asked in words. Defaults to telling.
    pub fn never_force_tools(mut self) -> Self {
        self.settings.force_tools = false;
        self
    }

    /// The agent.
    ///
    /// # Errors
    /// Tools that can't be used; a tool of [`ends_with`](Self::ends_with) that isn't there; 0
    /// turns.
    pub fn build(self) -> Result<Agent, Error> {
        let Self { model, tools, settings } = self;
        let executor = match tools {
            AgentTools::Executor(executor) => executor,
            AgentTools::Tools(tools) => Executor::new(tools)?,
        };
        if settings.max_turns == 0 {
            return Err(Error::config("max_turns is 0, so the model could never be asked"));
        }
        let tools = executor.tools();
        let mut ends = settings.ends_with.iter();
        if let Some((name, nearest)) =
            ends.find_map(|name| Some((name, tools.look_up(name).err()?)))
        {
            let hint = nearest.map(|nearest| format!("; did you mean {nearest:?}?"));
            return Err(Error::config(format_args!(
                "the run is to end with {name:?}, but there is no such tool{}",
                hint.unwrap_or_default()
            )));
        }
        if let Some(policy) = &settings.policy {
            policy.check(|name| executor.tools().look_up(name))?;
        }
        let stats = Arc::new(parking_lot::Mutex::new(AgentStats::default()));
        Ok(Agent(Arc::new(Parts { model, executor, settings, stats })))
    }
}

impl fmt::Debug for AgentBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentBuilder").field("model", &self.model.name()).finish_non_exhaustive()
    }
}
