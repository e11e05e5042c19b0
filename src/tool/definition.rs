//! A tool: what the model is told of it, and what the executor may do with it.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::call::ToolCall;
use crate::effect::{Effect, Lane};
use crate::error::Error;
use crate::json::Json;
use crate::output::Output;
use crate::policy::Retry;
use crate::schema::{self, Validator};
use crate::tool::group::Group;
use crate::tool::handler::{Arguments, Handler, Invoke, Typed};
use crate::tool::keys::{Access, IntoKeys, KeyFn, key_fn};

/// A tool whose argument type is forgotten; what a [`ToolSet`](crate::ToolSet) holds.
#[derive(Debug, Clone, Copy)]
pub enum Erased {}

/// A named function that the model may call.
///
/// `A` is the type of its arguments; it is known while the tool is built, so that the closures of
/// [`reads`](Self::reads) and [`writes`](Self::writes) need no annotation.
///
/// ```
/// use std::time::Duration;
/// use schemars::JsonSchema;
/// use serde::Deserialize;
/// use toolpool::{Tool, ToolSet};
///
/// #[derive(Deserialize, JsonSchema)]
/// struct ById {
///     /// The customer's number.
///     id: u64,
/// }
/// let tool = Tool::new("get_customer", "Customer record by number", |args: ById| {
///     Ok(format!("customer {}", args.id))
/// })
/// .read_only()
/// .timeout(Duration::from_secs(3))
/// .retries(2);
/// assert_eq!(tool.name(), "get_customer");
/// let tools = ToolSet::new().with(tool);
/// ```
pub struct Tool<A = Erased> {
    definition: Definition,
    arguments: PhantomData<fn(A)>,
}

/// A tool that borrows from the caller's stack; for [`Executor::run_scoped`](crate::Executor::run_scoped).
///
/// It has all settings of a [`Tool`] but keys, whose functions would have to outlive the scope;
/// see [`set`](Self::set). The handler may borrow; what it returns is owned, so clone what it finds.
pub struct ScopedTool<'env> {
    pub(crate) definition: Definition,
    pub(crate) handler: Box<dyn Invoke + 'env>,
}

/// All that is known of a tool.
#[derive(Clone)]
pub(crate) struct Definition {
    /// Tells tools apart in an executor's caps, whatever their names are.
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) schema: Json,
    /// Nothing where the schema can't be used.
    pub(crate) validator: Option<Validator>,
    /// What is wrong with it; told when it is registered.
    pub(crate) problem: Option<String>,
    /// What its handler's argument type takes.
    pub(crate) takes: Takes,
    pub(crate) free_text: bool,
    pub(crate) effect: Effect,
    pub(crate) lane: Option<Lane>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) grace: Option<Duration>,
    pub(crate) max_parallel: Option<usize>,
    pub(crate) max_result_bytes: Option<usize>,
    pub(crate) group: Option<Group>,
    pub(crate) retry: Option<Retry>,
    pub(crate) fallback: Option<Output>,
    pub(crate) keys: Vec<Arc<KeyFn>>,
    pub(crate) exclusive: bool,
    pub(crate) coalesce: bool,
    pub(crate) needs_approval: bool,
    pub(crate) reveal_errors: bool,
    /// Whether its handler is kept elsewhere, because it borrows.
    pub(crate) is_scoped: bool,
    /// None for a tool that is answered from outside, and for a scoped one.
    pub(crate) handler: Option<Arc<dyn Invoke>>,
}

/// What an argument type takes, as far as it can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    Object,
    Text,
    /// Whatever it decodes; its schema was given by hand.
    Anything,
}

/// What a tool and its clones are known by.
fn new_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Definition {
    /// The arguments of a call as its handler takes them, as JSON text: of one that gives free text
    /// to a provider that has no such tools, the text. Nothing where there is none.
    pub(crate) fn arguments_of<'a>(&self, call: &'a ToolCall) -> Option<&'a str> {
        match self.free_text && !call.is_free_text() {
            true => schema::text_of(call.arguments()),
            false => Some(call.arguments()),
        }
    }

    /// Whether its calls are answered from outside.
    pub(crate) fn is_deferred(&self) -> bool {
        self.handler.is_none() && !self.is_scoped
    }

    fn of_type(name: String, description: String, arguments: schema::Type) -> Self {
        let takes = if arguments.is_text { Takes::Text } else { Takes::Object };
        Self { takes, ..Self::new(name, description, arguments.schema) }
    }

    fn new(name: String, description: String, schema: Result<Json, Error>) -> Self {
        let compiled = schema.and_then(|schema| Ok((Validator::compile(&schema)?, schema)));
        let (schema, validator, problem) = match compiled {
            Ok((validator, schema)) => (schema, Some(validator), None),
            Err(error) => (schema::empty(), None, Some(error.to_string())),
        };
        Self {
            id: new_id(),
            name,
            description,
            schema,
            validator,
            problem,
            takes: Takes::Anything,
            free_text: false,
            effect: Effect::default(),
            lane: None,
            timeout: None,
            grace: None,
            max_parallel: None,
            max_result_bytes: None,
            group: None,
            retry: None,
            fallback: None,
            keys: Vec::new(),
            exclusive: false,
            coalesce: false,
            needs_approval: false,
            reveal_errors: false,
            is_scoped: false,
            handler: None,
        }
    }
}

impl<A> Tool<A> {
    fn of(definition: Definition) -> Self {
        Self { definition, arguments: PhantomData }
    }

    /// The name the model calls it by.
    pub fn name(&self) -> &str {
        &self.definition.name
    }

    /// What the model is told of it.
    pub fn description(&self) -> &str {
        &self.definition.description
    }

    /// The JSON Schema of its arguments.
    pub fn schema(&self) -> &Json {
        &self.definition.schema
    }

    /// What it may change.
    pub fn effect(&self) -> Effect {
        self.definition.effect
    }

    /// Says that it changes nothing. Defaults to [`Effect::Mutating`].
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.definition.effect = Effect::ReadOnly;
        self
    }

    /// Says that the same call twice is as good as once. Defaults to [`Effect::Mutating`].
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.definition.effect = Effect::Idempotent;
        self
    }

    /// Runs it on the Compute lane. Defaults to the executor's default lane, which is
    /// [`Lane::Blocking`] unless the executor says otherwise.
    #[must_use]
    pub fn compute(self) -> Self {
        self.lane(Lane::Compute)
    }

    /// Runs it on `lane`. Defaults to the executor's default lane.
    #[must_use]
    pub fn lane(mut self, lane: Lane) -> Self {
        self.definition.lane = Some(lane);
        self
    }

    /// How long one call may take, from its first start, all attempts and the waits between them
    /// included; [`Duration::MAX`] for as long as its batch may take. With a timeout of zero no call
    /// starts. A call that waits for what one that was walked away from still holds (a key, the last
    /// permit of its tool or group) waits for so long at most, and is then told
    /// [`KeyHeld`](crate::NotStarted::KeyHeld). Defaults to the executor's
    /// [`call_timeout`](crate::ExecutorBuilder::call_timeout), 60 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.definition.timeout = Some(timeout);
        self
    }

    /// How long before its end a call is told to stop, within its timeout and at most half of it.
    /// Defaults to the executor's [`grace`](crate::ExecutorBuilder::grace), 10 % of the timeout and
    /// at most 500 ms.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.definition.grace = Some(grace);
        self
    }

    /// At most `cap` calls of this tool at once, abandoned ones included until they return; 0 is
    /// refused at registration. A tool and its clones are counted together, whatever sets they are
    /// in; a clone that is given a cap of its own, or a tool that is made anew, for each session
    /// perhaps, is counted apart, and then a [`Group`] is what they can share. Defaults to no cap of
    /// its own.
    #[must_use]
    pub fn max_parallel(mut self, cap: usize) -> Self {
        (self.definition.id, self.definition.max_parallel) = (new_id(), Some(cap));
        self
    }

    /// Cuts a result at `bytes`; a limit smaller than the note on what was cut leaves the note alone.
    /// Defaults to the executor's
    /// [`max_result_bytes`](crate::ExecutorBuilder::max_result_bytes), 64 KiB.
    #[must_use]
    pub fn max_result_bytes(mut self, bytes: usize) -> Self {
        self.definition.max_result_bytes = Some(bytes);
        self
    }

    /// Puts it into a group of tools that share a backend. Defaults to none.
    #[must_use]
    pub fn group(mut self, group: &Group) -> Self {
        self.definition.group = Some(group.clone());
        self
    }

    /// Retries a failure that may pass up to `retries` times: 2 retries are 3 attempts, inside
    /// the one timeout. Only a tool that is read-only or idempotent is retried, or an error that
    /// the handler itself calls safe. Defaults to none.
    #[must_use]
    pub fn retries(self, retries: u32) -> Self {
        self.retry(Retry::times(retries))
    }

    /// As [`retries`](Self::retries), with its backoff. Defaults to none.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.definition.retry = Some(retry);
        self
    }

    /// What the model is given when the tool in the end failed, panicked or timed out; marked in the
    /// report, where the call counts as a success. A call that was refused, cancelled or never
    /// started is told as that. Defaults to none.
    #[must_use]
    pub fn fallback(mut self, output: impl Into<Output>) -> Self {
        self.definition.fallback = Some(output.into());
        self
    }

    /// Says that a call waits until nothing else of the executor runs, and that nothing starts
    /// while it runs. In a nested batch, whose caller runs, such a call is refused as
    /// [`Rejected::WouldDeadlock`](crate::Rejected::WouldDeadlock). Defaults to no.
    #[must_use]
    pub fn exclusive(mut self) -> Self {
        self.definition.exclusive = true;
        self
    }

    /// Runs identical calls of one turn (the same arguments but for white space and key order)
    /// once, and answers each: those that wait or run at the same time, and without keys also what
    /// comes after one that succeeded. Never across a write of one of its keys. Only for a tool
    /// that is read-only; refused at registration otherwise. Defaults to no.
    #[must_use]
    pub fn coalesce(mut self) -> Self {
        self.definition.coalesce = true;
        self
    }

    /// Asks for approval before a call: [`Run::approval`](crate::Run::approval) or
    /// [`ExecutorBuilder::approval`](crate::ExecutorBuilder::approval). Where neither is set it is
    /// refused. Defaults to no.
    #[must_use]
    pub fn needs_approval(mut self) -> Self {
        self.definition.needs_approval = true;
        self
    }

    /// Shows the model the text of every error, not only of those written for it, which are those
    /// made of strings. Defaults to the executor's [`reveal_errors`](crate::ExecutorBuilder::reveal_errors), no.
    #[must_use]
    pub fn reveal_errors(mut self) -> Self {
        self.definition.reveal_errors = true;
        self
    }

    /// Says that the model gives free text instead of JSON: a query, a patch, a program. The handler
    /// takes a `String`; one that takes an object is refused when the tool is registered. Defaults
    /// to no.
    ///
    /// OpenAI has such tools and calls them custom; its models write the text as it is. Every other
    /// provider is told of an object whose only key, `input`, is a string, and the handler is given
    /// that string. A schema given by hand isn't used.
    ///
    /// ```
    /// use toolpool::{Tool, ToolCall, ToolSet, execute_tool_calls};
    ///
    /// let count = Tool::new("count", "Counts words", |text: String| {
    ///     Ok(text.split_whitespace().count())
    /// });
    /// let tools = ToolSet::new().with(count.takes_free_text());
    /// let custom = ToolCall::free_text("1", "count", "to be or not");
    /// let function = ToolCall::new("2", "count", r#"{"input": "to be or not"}"#);
    /// let report = execute_tool_calls(&tools, &[custom, function])?;
    /// assert!(report.results().all(|result| result.content.to_text() == "4"));
    /// # Ok::<(), toolpool::Error>(())
    /// ```
    #[must_use]
    pub fn takes_free_text(mut self) -> Self {
        let definition = &mut self.definition;
        definition.free_text = true;
        match definition.takes {
            Takes::Text => definition.problem = None,
            Takes::Anything => {}
            Takes::Object => {
                let why = "it takes free text, so its handler has to take a `String`";
                definition.problem.get_or_insert(why.to_owned());
            }
        }
        definition.schema = schema::of_text();
        definition.validator = None;
        self
    }
}

impl<A: Arguments> Tool<A> {
    /// A tool whose schema is that of its handler's argument type. Doc comments become
    /// descriptions.
    ///
    /// A name that isn't 1 to 64 of `a-z A-Z 0-9 _ -`, starting with a letter or `_`, or
    /// arguments whose schema is no object, are refused when the tool is registered.
    ///
    /// Decoding decides whether arguments fit. With the feature `schema` they are checked against
    /// the schema first, so that ranges, patterns and unknown keys count, too.
    ///
    /// # What the model sees of an error
    /// A string that is made an error is shown to the model as it is. Of every other error, those
    /// that `?` converts and those of `anyhow::bail!` included, it learns only the kind, because
    /// nobody wrote them for it; [`ToolError::operator_text`](crate::ToolError::operator_text) has
    /// the rest. [`reveal_errors`](Self::reveal_errors) shows it those, too.
    ///
    /// ```
    /// use toolpool::{Tool, ToolCall, ToolSet, execute_tool_calls};
    ///
    /// #[derive(serde::Deserialize, schemars::JsonSchema)]
    /// struct Shelf {
    ///     /// The shelf's number, from 0.
    ///     number: String,
    /// }
    ///
    /// let count = Tool::new("count", "How much is on a shelf", |shelf: Shelf| {
    ///     let number: usize = shelf.number.parse()?; // a `ParseIntError`
    ///     let amounts = [4, 9, 2];
    ///     let amount = amounts.get(number).ok_or("there are 3 shelves")?; // a string
    ///     Ok(*amount)
    /// });
    /// let calls = ["1", "7", "x"]
    ///     .map(|number| ToolCall::new("", "count", format!(r#"{{"number": "{number}"}}"#)));
    /// let report = execute_tool_calls(&ToolSet::new().with(count), &calls)?;
    /// let told: Vec<_> = report.results().map(|result| result.content.to_text()).collect();
    /// assert_eq!(told[..2], ["9", "there are 3 shelves"]);
    /// assert!(told[2].starts_with("count failed") && !told[2].contains("digit"));
    /// # Ok::<(), toolpool::Error>(())
    /// ```
    pub fn new<S>(
        name: impl Into<String>,
        description: impl Into<String>,
        handler: impl Handler<A, S> + Send + Sync + 'static,
    ) -> Self
    where
        S: 'static,
    {
        let arguments = handler.arguments(|| schema::of_type::<A>());
        let mut definition = Definition::of_type(name.into(), description.into(), arguments);
        let validator = definition.validator.clone();
        definition.handler =
            Some(Arc::new(Typed { function: handler, validator, types: PhantomData }));
        Self::of(definition)
    }
}

impl<A: DeserializeOwned + 'static> Tool<A> {
    /// A tool whose schema is given by hand, as configuration files and other protocols give it.
    /// The handler takes whatever the arguments decode to: a `serde_json::Value`, or a
    /// `Box<serde_json::value::RawValue>` where every byte counts.
    ///
    /// Anthropic refuses a request in which a property's name isn't 1 to 64 of `a-z A-Z 0-9 _ . -`.
    ///
    /// With the feature `schema` the arguments are checked against the schema before the handler
    /// sees them; without it the schema is only told to the model. A schema that can't be used is
    /// refused when the tool is registered; with the feature also one that refers to other
    /// documents or to itself without end, or has a pattern that is none.
    pub fn with_schema<S>(
        name: impl Into<String>,
        description: impl Into<String>,
        schema: &Value,
        handler: impl Handler<A, S> + Send + Sync + 'static,
    ) -> Self
    where
        S: 'static,
    {
        let mut definition =
            Definition::new(name.into(), description.into(), schema::checked(schema));
        let validator = definition.validator.clone();
        definition.handler =
            Some(Arc::new(Typed { function: handler, validator, types: PhantomData }));
        Self::of(definition)
    }

    /// Says which keys a call reads. Calls that read or write one key behave as if run one after
    /// another in call order; reads share; calls on other keys are not held up. Defaults to none.
    #[must_use]
    pub fn reads<K: IntoKeys>(self, keys: impl Fn(&A) -> K + Send + Sync + 'static) -> Self {
        self.keyed(Access::Read, keys)
    }

    /// Says which keys a call writes; see [`reads`](Self::reads). A call that writes holds its
    /// keys until it really ended, past its timeout too.
    #[must_use]
    pub fn writes<K: IntoKeys>(self, keys: impl Fn(&A) -> K + Send + Sync + 'static) -> Self {
        self.keyed(Access::Write, keys)
    }

    fn keyed<K: IntoKeys>(
        mut self,
        access: Access,
        keys: impl Fn(&A) -> K + Send + Sync + 'static,
    ) -> Self {
        self.definition.keys.push(key_fn(access, keys));
        self
    }
}

impl Tool {
    /// A tool without a handler: its calls are always deferred to the caller, who answers them
    /// with [`Executor::resume`](crate::Executor::resume).
    pub fn deferred(
        name: impl Into<String>,
        description: impl Into<String>,
        schema: &Value,
    ) -> Self {
        Self::of(Definition::new(name.into(), description.into(), schema::checked(schema)))
    }

    pub(crate) fn into_definition(self) -> Definition {
        self.definition
    }
}

impl<A: DeserializeOwned> From<Tool<A>> for Tool {
    fn from(tool: Tool<A>) -> Self {
        Self::of(tool.definition)
    }
}

impl<'env> ScopedTool<'env> {
    /// As [`Tool::new`], for a handler that borrows.
    pub fn new<A, S>(
        name: impl Into<String>,
        description: impl Into<String>,
        handler: impl Handler<A, S> + Send + Sync + 'env,
    ) -> Self
    where
        A: Arguments,
        S: 'static,
    {
        let arguments = handler.arguments(|| schema::of_type::<A>());
        let mut definition = Definition::of_type(name.into(), description.into(), arguments);
        definition.is_scoped = true;
        let validator = definition.validator.clone();
        let handler = Box::new(Typed { function: handler, validator, types: PhantomData });
        Self { definition, handler }
    }

    /// Applies the settings of a tool: `.set(|tool| tool.read_only().retries(2))`.
    #[must_use]
    pub fn set(mut self, settings: impl FnOnce(Tool) -> Tool) -> Self {
        self.definition = settings(Tool::of(self.definition)).definition;
        self
    }
}

impl<A> Clone for Tool<A> {
    fn clone(&self) -> Self {
        Self::of(self.definition.clone())
    }
}

impl<A> fmt::Debug for Tool<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.definition.fmt(f)
    }
}

impl fmt::Debug for ScopedTool<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.definition.fmt(f)
    }
}

impl fmt::Debug for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tool")
            .field("name", &self.name)
            .field("effect", &self.effect)
            .field("lane", &self.lane)
            .finish_non_exhaustive()
    }
}
