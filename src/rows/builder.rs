//! How batch work is set up.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::agent::Agent;
use crate::cancel::CancelToken;
use crate::error::Error;
use crate::model::Model;
use crate::rows::Rows;
use crate::rows::journal::{Journal, States};
use crate::rows::pace::Pace;
use crate::rows::paced::{Budgets, Paced, Shared};
use crate::rows::record::Parts;
use crate::rows::state::RowState;
use crate::text::digest;
use crate::turn::Wire;

/// What becomes of a mutating call that had started when the program stopped, and of which no
/// result is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UnknownOutcome {
    /// The model is told that the outcome is unknown, and to check before it repeats the call. What
    /// it makes of that is its own affair: [`RowResult::unknown`](crate::rows::RowResult::unknown)
    /// names the tool, however the row ends.
    #[default]
    Tell,
    /// The row fails; somebody has to look at it. Once they have, a run with
    /// [`retry_failed`](RowsBuilder::retry_failed) goes on with it, and with
    /// [`Tell`](Self::Tell) where the call took effect or the model should look, or with
    /// [`Retry`](Self::Retry) where it took none; with this one the row fails again. Both settings
    /// are for all rows of the run.
    Fail,
    /// The call is made again, with the same
    /// [idempotency key](crate::CallContext::idempotency_key). Only for tools whose backend heeds
    /// the key.
    Retry,
}

const MOST_THREADS: usize = 1000;

pub(super) struct Settings {
    pub(super) threads: usize,
    pub(super) retry_failed: bool,
    pub(super) unknown: UnknownOutcome,
}

/// Settings of [`Rows`].
///
/// | setting | default |
/// | --- | --- |
/// | `journal` | none: a run that is killed begins anew |
/// | `threads` | 8 |
/// | `requests_per_minute`, `tokens_per_minute` | no limit |
/// | `rate_limit_retries` | 5 |
/// | `max_tokens`, `max_failures` | no limit |
/// | `unknown_outcome` | [`UnknownOutcome::Tell`] |
/// | `retry_failed` | no |
#[must_use = "a builder does nothing until `build`"]
pub struct RowsBuilder {
    agent: Agent,
    journal: Option<PathBuf>,
    settings: Settings,
    requests_per_minute: Option<u32>,
    tokens_per_minute: Option<u64>,
    budgets: Budgets,
    retries: u32,
    cancel: CancelToken,
}

impl RowsBuilder {
    pub(super) fn new(agent: Agent) -> Self {
        Self {
            agent,
            journal: None,
            settings: Settings {
                threads: 8,
                retry_failed: false,
                unknown: UnknownOutcome::default(),
            },
            requests_per_minute: None,
            tokens_per_minute: None,
            budgets: Budgets::default(),
            retries: 5,
            cancel: CancelToken::new(),
        }
    }

    /// The file in which the run is written down, made if it isn't there. Defaults to none.
    pub fn journal(mut self, path: impl Into<PathBuf>) -> Self {
        self.journal = Some(path.into());
        self
    }

    /// How many rows are worked on at once; more than 1,000 are taken for 1,000. Defaults to 8.
    pub fn threads(mut self, threads: usize) -> Self {
        self.settings.threads = threads.min(MOST_THREADS);
        self
    }

    /// At most so many requests in any minute, over all rows. Defaults to no limit.
    pub fn requests_per_minute(mut self, requests: u32) -> Self {
        self.requests_per_minute = Some(requests);
        self
    }

    /// At most about so many tokens in any minute, read and written, over all rows. What a request
    /// takes is known afterwards; until then it is taken for the average. Defaults to no limit.
    pub fn tokens_per_minute(mut self, tokens: u64) -> Self {
        self.tokens_per_minute = Some(tokens);
        self
    }

    /// How often a request is made again that the provider refused because of its limits. All rows
    /// wait as long as it asks to, or 1 s, 2 s, 4 s … up to 60 s. A client that retries on its own
    /// should be told not to (`retries(0)`), so that all rows learn of it at once. Defaults to 5.
    pub fn rate_limit_retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Stops the run when so many tokens were taken, read and written together: by this run, and
    /// where there is a journal by all runs before it, as far as their turns were written down.
    /// Looked at before each request; rows that have begun are left to a later run. Defaults to no
    /// limit.
    pub fn max_tokens(mut self, tokens: u64) -> Self {
        self.budgets.max_tokens = Some(tokens);
        self
    }

    /// Stops the run when more rows than this have failed in it. Rows that are worked on at that
    /// moment are left to a later run, and only those among them are told and counted whose
    /// conversation ends nevertheless, such as one that the model refuses. Defaults to no limit.
    pub fn max_failures(mut self, failures: u64) -> Self {
        self.budgets.max_failures = Some(failures);
        self
    }

    /// What becomes of a mutating call whose outcome isn't known after a crash. Defaults to
    /// [`UnknownOutcome::Tell`].
    pub fn unknown_outcome(mut self, unknown: UnknownOutcome) -> Self {
        self.settings.unknown = unknown;
        self
    }

    /// Works again on rows that failed in an earlier run: they go on where they were. Rows that
    /// the model refused or answered in part aren't among them. Defaults to no.
    pub fn retry_failed(mut self) -> Self {
        self.settings.retry_failed = true;
        self
    }

    /// Stops the run when `token` is cancelled: requests are interrupted, calls told to stop, and
    /// rows that have begun left to a later run, but for those whose answer has come already.
    /// Defaults to none.
    pub fn cancel(mut self, token: &CancelToken) -> Self {
        self.cancel = token.child();
        self
    }

    /// Opens the journal and reads what it holds.
    ///
    /// # Errors
    /// A journal that can't be opened or read, that another process uses, or that was begun with
    /// another prompt, model or set of tools, which the error names; a limit of zero.
    pub fn build(self) -> Result<Rows, Error> {
        let zeroes = [
            ("threads", self.settings.threads == 0),
            ("requests_per_minute", self.requests_per_minute == Some(0)),
            ("tokens_per_minute", self.tokens_per_minute == Some(0)),
        ];
        if let Some((name, _)) = zeroes.into_iter().find(|(_, zero)| *zero) {
            return Err(Error::config(format_args!("{name} is 0, so nothing could ever run")));
        }
        let (journal, known) = match &self.journal {
            Some(path) => {
                let (journal, known) = Journal::open(path, &bound_to(&self.agent))?;
                (Some(Arc::new(journal)), known)
            }
            None => (None, States::new()),
        };
        let pace = Pace::new(self.requests_per_minute, self.tokens_per_minute);
        let tokens = known.values().map(RowState::tokens).fold(0, u64::saturating_add);
        let shared = Shared::new(pace, tokens, &self.budgets, self.retries, self.cancel);
        let shared = Arc::new(shared);
        let mut agent = self.agent;
        let mut parts = (*agent.0).clone();
        parts.model =
            Arc::new(Paced { model: Arc::clone(&parts.model), shared: Arc::clone(&shared) })
                as Arc<dyn Model>;
        agent.0 = Arc::new(parts);
        Ok(Rows { agent, journal, known, shared, settings: self.settings })
    }
}

/// What a journal is bound to.
fn bound_to(agent: &Agent) -> Parts {
    let parts = &agent.0;
    let (settings, tools) = (&parts.settings, parts.executor.tools());
    // Of one format, so that another model's isn't told as another set of tools.
    let schemas = Wire::OpenAi.tools(tools);
    let effects: Vec<_> = tools.iter().map(|tool| format!("{:?}", tool.effect())).collect();
    let [effects, ends] = [effects.join(" "), settings.ends_with.join(" ")];
    let digests = [
        ("model", digest([parts.model.wire().name(), parts.model.name()])),
        ("system prompt", digest([settings.system.as_str()])),
        ("policy for parallel calls", digest([settings.parallel.system("").as_str()])),
        ("set of tools", digest([schemas.as_str(), &effects])),
        ("choice of tools that end a run", digest([ends.as_str()])),
    ];
    digests.map(|(name, digest)| (name.to_owned(), digest)).into()
}

impl fmt::Debug for RowsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowsBuilder")
            .field("agent", &self.agent)
            .field("journal", &self.journal)
            .finish_non_exhaustive()
    }
}
