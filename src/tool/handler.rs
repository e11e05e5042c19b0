//! How a plain function becomes a tool's handler: arguments decoded, the result serialised, on the
//! thread that runs it.

use std::any::{Any, TypeId};
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bound::{self, Bounded};
use crate::error::ToolError;
use crate::output::Output;
use crate::schema::{self, Validator};
use crate::tool::context::CallContext;

/// What the arguments of a typed tool are: a type that derives `Deserialize` and `JsonSchema` and
/// borrows nothing. Implemented for every such type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be a tool's arguments",
    label = "the arguments of a tool derive `Deserialize` and `JsonSchema`",
    note = "write `#[derive(serde::Deserialize, schemars::JsonSchema)]` above the type, and let it own what it holds: `String`, not `&str`; both crates stand among your dependencies",
    note = "where a JSON Schema is given by hand, `Tool::with_schema` takes any type that derives `Deserialize`, such as `serde_json::Value`",
    note = "a handler is `|| ..`, `|args: T| ..` or `|args: T, cx: &CallContext| ..`; without arguments, the last is `|(): (), cx: &CallContext| ..`"
)]
pub trait Arguments: DeserializeOwned + JsonSchema + 'static {}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned + JsonSchema + 'static> Arguments for T {}

/// A function that can be a tool's handler: of no argument, of its arguments, or of its arguments
/// and a [`CallContext`]; it returns `Result<impl Serialize, ToolError>`.
///
/// The parameters' types must be written in a closure. `Shape` tells the three forms apart and is
/// always inferred.
///
/// What it returns the model reads as JSON, a text as it is. `()` and `None` are told as `null`, which
/// says little: `Ok("done")` says more, or `Ok("no such order")`.
///
/// Not every provider has a mark for a failed result: OpenAI, Chat and Responses, Cohere and Ollama
/// have none, and there the text is all that tells the model. So write the text of an error such that
/// it reads as one: "failed: the shelf is locked", not "shelf 7".
///
/// # What isn't a handler
/// A function that doesn't return a `Result`:
///
/// ```compile_fail,E0277
/// # use toolpool::Tool;
/// Tool::new("now", "The time", || "noon"); // write `|| Ok("noon")`
/// ```
///
/// A result that can't be serialised:
///
/// ```compile_fail,E0277
/// # use toolpool::Tool;
/// struct Customer; // derive `serde::Serialize`
/// Tool::new("customer", "A customer", || Ok(Customer));
/// ```
///
/// An error of one's own as the return type, where `?` would convert it:
///
/// ```compile_fail,E0277
/// # use toolpool::Tool;
/// fn read() -> std::io::Result<String> {
///     std::fs::read_to_string("motd")
/// }
/// Tool::new("motd", "The message of the day", read); // write `|| Ok(read()?)`
/// ```
///
/// A string as the error, where it has to be made a [`ToolError`]:
///
/// ```compile_fail,E0277
/// # use toolpool::Tool;
/// Tool::new("stock", "How many there are", || {
///     if true {
///         return Err("the shelf is empty"); // write `Err("the shelf is empty".into())`
///     }
///     Ok(1)
/// });
/// ```
///
/// Arguments without a schema, or that can't be decoded:
///
/// ```compile_fail,E0277
/// # use toolpool::Tool;
/// #[derive(serde::Deserialize)] // and `schemars::JsonSchema`
/// struct ById {
///     id: u64,
/// }
/// Tool::new("customer", "A customer", |args: ById| Ok(args.id));
/// ```
///
/// ```compile_fail,E0277
/// # use toolpool::Tool;
/// #[derive(schemars::JsonSchema)] // and `serde::Deserialize`
/// struct ById {
///     id: u64,
/// }
/// Tool::new("customer", "A customer", |args: ById| Ok(args.id));
/// ```
///
/// A parameter whose type isn't written:
///
/// ```compile_fail,E0282
/// # use toolpool::Tool;
/// Tool::new("customer", "A customer", |args| Ok(args.id));
/// ```
///
/// A context without arguments before it:
///
/// ```compile_fail,E0277
/// # use toolpool::{CallContext, Tool};
/// Tool::new("where", "Where it runs", |cx: &CallContext| Ok(cx.index())); // `|(): (), cx: ..|`
/// ```
///
/// Arguments that borrow from the text they are decoded from. Of these the compiler says that an
/// `implementation of Deserialize is not general enough`:
///
/// ```compile_fail
/// # use toolpool::Tool;
/// let object = serde_json::json!({ "type": "object" });
/// Tool::with_schema("count", "Counts", &object, |text: &str| Ok(text.len())); // `text: String`
/// ```
///
/// A context that is taken by value:
///
/// ```compile_fail,E0277
/// # use toolpool::{CallContext, Tool};
/// Tool::new("wait", "Waits", |(): (), cx: CallContext| Ok(cx.index())); // write `&CallContext`
/// ```
///
/// An async function or closure. It gives a future, and no runtime is here that would run it; block
/// on it inside, with the runtime that you have:
///
/// ```compile_fail,E0277
/// # use toolpool::Tool;
/// Tool::new("now", "The time", async || Ok("noon")); // `move || runtime.block_on(now())`
/// ```
///
/// A variable that is borrowed and not moved, because the call may outlive it (for borrowing
/// there is [`ScopedTool`](crate::ScopedTool)):
///
/// ```compile_fail,E0373
/// # use toolpool::Tool;
/// let greeting = String::from("hello");
/// Tool::new("greet", "Greets", || Ok(greeting.clone())); // write `move || ..`
/// ```
///
/// A variable that threads can't share, because calls of one tool run side by side:
///
/// ```compile_fail,E0277
/// # use toolpool::Tool;
/// let count = std::cell::Cell::new(0); // an `AtomicU64` would do
/// Tool::new("count", "Counts", move || Ok(count.get()));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be a tool's handler",
    label = "not a handler",
    note = "a handler is `|| ..`, `|args: T| ..` or `|args: T, cx: &CallContext| ..`, with the types written out; without arguments, the last is `|(): (), cx: &CallContext| ..`",
    note = "it returns `Result<R, ToolError>`: a closure ends with `Ok(value)`, and `?` makes a `ToolError` of any error, so a function with an error of its own is wrapped: `|args: T| Ok(function(args)?)`; of a string it is `Err(text.into())`",
    note = "`R` derives `serde::Serialize`; `T` derives `serde::Deserialize` and `schemars::JsonSchema`"
)]
pub trait Handler<Args, Shape> {
    /// Runs the function and makes its value an output.
    #[doc(hidden)]
    fn handle(
        &self,
        args: impl FnOnce() -> Result<Args, ToolError>,
        cx: &CallContext,
    ) -> Result<Bounded, ToolError>;

    /// What its arguments are.
    #[doc(hidden)]
    fn arguments(&self, of_type: impl FnOnce() -> schema::Type) -> schema::Type {
        of_type()
    }
}

impl<F, R> Handler<(), fn() -> R> for F
where
    F: Fn() -> Result<R, ToolError>,
    R: Serialize + 'static,
{
    // Without arguments there is nothing to decode and no schema to make, so neither is compiled.
    fn handle(
        &self,
        _: impl FnOnce() -> Result<(), ToolError>,
        cx: &CallContext,
    ) -> Result<Bounded, ToolError> {
        returned(self(), cx)
    }

    fn arguments(&self, _: impl FnOnce() -> schema::Type) -> schema::Type {
        schema::Type::nothing()
    }
}

impl<F, A, R> Handler<A, fn(A) -> R> for F
where
    F: Fn(A) -> Result<R, ToolError>,
    R: Serialize + 'static,
{
    fn handle(
        &self,
        args: impl FnOnce() -> Result<A, ToolError>,
        cx: &CallContext,
    ) -> Result<Bounded, ToolError> {
        returned(self(args()?), cx)
    }
}

impl<F, A, R> Handler<A, fn(A, &CallContext) -> R> for F
where
    F: Fn(A, &CallContext) -> Result<R, ToolError>,
    R: Serialize + 'static,
{
    fn handle(
        &self,
        args: impl FnOnce() -> Result<A, ToolError>,
        cx: &CallContext,
    ) -> Result<Bounded, ToolError> {
        returned(self(args()?, cx), cx)
    }
}

/// The handler has returned: what it gave becomes an output.
fn returned<R: Serialize + 'static>(
    result: Result<R, ToolError>,
    cx: &CallContext,
) -> Result<Bounded, ToolError> {
    cx.returned();
    let value = result?;
    let (limit, allowance) = cx.result_limit();
    let mut value = Some(value);
    let any: &mut dyn Any = &mut value;
    if let Some(output) = any.downcast_mut::<Option<Output>>().and_then(Option::take) {
        return bound::output(output, limit, allowance);
    }
    // A text is what it would be after it was written as JSON and read again.
    if limit.secrets.is_empty()
        && let Some(text) = any.downcast_mut::<Option<String>>().and_then(Option::take)
    {
        return bound::output(Output::Text { text }, limit, allowance);
    }
    match &value {
        Some(value) => bound::serialized(value, limit, allowance, &|| cx.is_settled()),
        None => Err("an output lost its value".into()),
    }
}

/// A handler with its types erased.
pub(crate) trait Invoke: Send + Sync {
    fn invoke(&self, arguments: &str, cx: &CallContext) -> Result<Bounded, ToolError>;
}

/// The one implementation of [`Invoke`].
pub(crate) struct Typed<F, A, S> {
    pub(crate) function: F,
    /// Nothing where the schema can't be used; such a tool can't be registered.
    pub(crate) validator: Option<Validator>,
    pub(crate) types: PhantomData<fn(A) -> S>,
}

impl<F, A, S> Invoke for Typed<F, A, S>
where
    F: Handler<A, S> + Send + Sync,
    A: DeserializeOwned + 'static,
{
    fn invoke(&self, arguments: &str, cx: &CallContext) -> Result<Bounded, ToolError> {
        if let Some(validator) = &self.validator
            // Free text has no schema.
            && !arguments.starts_with('"')
        {
            validator.validate(arguments).map_err(ToolError::bad_arguments)?;
        }
        self.function.handle(|| decode(arguments), cx)
    }
}

/// Decodes arguments; the error names the path of the bad field and marks itself as one of
/// arguments. `()` takes any object.
pub(crate) fn decode<A: DeserializeOwned + 'static>(arguments: &str) -> Result<A, ToolError> {
    let arguments = if TypeId::of::<A>() == TypeId::of::<()>() { "null" } else { arguments };
    serde_json::from_str(arguments).map_err(|error| {
        let mut deserializer = serde_json::Deserializer::from_str(arguments);
        let located: Result<A, _> = serde_path_to_error::deserialize(&mut deserializer);
        match located {
            Err(located) if located.path().iter().next().is_some() => ToolError::bad_arguments(
                format_args!("{} at `{}`", located.inner(), located.path()),
            ),
            _ => ToolError::bad_arguments(error),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use schemars::JsonSchema;
    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::*;
    use crate::bound::{Allowance, ResultLimit};
    use crate::call::ToolCall;
    use crate::cancel::CancelToken;
    use crate::error::ToolErrorKind;
    use crate::output::Block;
    use crate::report::Report;
    use crate::time::Deadline;
    use crate::tool::context::{Closers, Host};
    use crate::tool::definition::Tool;
    use crate::turn::Turn;

    struct NoHost {
        call: ToolCall,
        cancel: CancelToken,
        closers: Closers,
        limit: ResultLimit,
        allowance: Allowance,
    }

    impl NoHost {
        fn of(call: ToolCall) -> Self {
            let limit = ResultLimit {
                text: 1000,
                media: 1000,
                media_count: 9,
                spill: None,
                secrets: Default::default(),
            };
            Self {
                call,
                cancel: CancelToken::new(),
                closers: Closers::default(),
                limit,
                allowance: Allowance::new(1000, 1000),
            }
        }
    }

    impl Host for NoHost {
        fn returned(&self) {}

        fn call(&self) -> &ToolCall {
            &self.call
        }

        fn index(&self) -> usize {
            3
        }

        fn cancel(&self) -> &CancelToken {
            &self.cancel
        }

        fn is_cancelled(&self) -> bool {
            self.cancel.is_cancelled()
        }

        fn seed(&self) -> &str {
            "seed"
        }

        fn value(&self) -> Option<&(dyn Any + Send + Sync)> {
            Some(&7_u8)
        }

        fn result_limit(&self) -> (&ResultLimit, &Allowance) {
            (&self.limit, &self.allowance)
        }

        fn is_settled(&self) -> bool {
            false
        }

        fn run_nested(self: Arc<Self>, _: &Turn, _: &CallContext) -> Report {
            Report::new(Vec::new(), Duration::ZERO, None)
        }

        fn closers(&self) -> &Closers {
            &self.closers
        }

        fn progress(&self, _: &str) {}
    }

    /// What a tool makes of the arguments.
    fn invoke<A: DeserializeOwned>(tool: Tool<A>, arguments: &str) -> Result<Output, ToolError> {
        invoke_with(tool, ToolCall::new("1", "tool", arguments))
    }

    fn invoke_with<A: DeserializeOwned>(
        tool: Tool<A>,
        call: ToolCall,
    ) -> Result<Output, ToolError> {
        let definition = Tool::from(tool).into_definition();
        assert_eq!(definition.problem, None);
        let arguments = call.arguments().to_owned();
        let cx = CallContext::new(Arc::new(NoHost::of(call)), 2, Default::default());
        let handler = definition.handler.unwrap();
        handler.invoke(&arguments, &cx).map(|bounded| bounded.output)
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Refund {
        order: Order,
        #[schemars(range(min = 1))]
        cents: Option<u32>,
    }

    #[derive(Deserialize, JsonSchema)]
    struct Order {
        number: u64,
    }

    fn refund() -> Tool<Refund> {
        Tool::new("refund", "", |refund: Refund| Ok(json!([refund.order.number, refund.cents])))
    }

    fn json(text: &str) -> Output {
        Output::Json { text: text.to_owned() }
    }

    #[test]
    fn what_a_handler_returns_becomes_text_json_or_blocks() {
        let none = |value: Value| invoke(Tool::new("t", "", move || Ok(value.clone())), "{}");
        assert_eq!(none(json!("a\"b")), Ok("a\"b".into()));
        assert_eq!(none(json!({ "a": 1.0 })), Ok(json(r#"{"a":1.0}"#)));
        assert_eq!(none(json!(null)), Ok(json("null")));
        assert_eq!(invoke(Tool::new("t", "", || Ok(())), "{}"), Ok(json("null")));
        assert_eq!(invoke(Tool::new("t", "", || Ok("text")), "{}"), Ok("text".into()));
        for text in ["", "a\"b\n\u{1}ä", &"ä1\"".repeat(400)] {
            let owned = text.to_owned();
            let given = invoke(Tool::new("t", "", move || Ok(owned.clone())), "{}");
            assert_eq!(given, none(json!(text)), "a `String` needs no way through JSON");
        }
        let blocks = Output::blocks([Block::text("a"), Block::text("b")]);
        let again = blocks.clone();
        assert_eq!(invoke(Tool::new("t", "", move || Ok(blocks.clone())), "{}"), Ok(again));
    }

    #[test]
    fn a_handler_sees_its_arguments_and_its_context() {
        assert_eq!(invoke(refund(), r#"{"order":{"number":5}}"#), Ok(json("[5,null]")));
        let all = Tool::new("t", "", |args: Order, cx: &CallContext| {
            let user: Option<&u8> = cx.get();
            Ok((args.number, cx.index(), cx.attempt(), cx.idempotency_key(), user.copied()))
        });
        // The key ends with a digest of the arguments, so it is the same in every run.
        let seen = json(r#"[1,3,2,"seed-3-498d50481631b340",7]"#);
        assert_eq!(invoke(all, r#"{"number":1}"#), Ok(seen));
        let any = Tool::new("t", "", |(): ()| Ok(1));
        assert_eq!(invoke(any, r#"{"unasked":1}"#), Ok(json("1")));
    }

    #[test]
    fn who_receives_is_woken_by_the_cancel_itself_and_has_no_time_left() {
        let minute = Duration::from_secs(60);
        let host = Arc::new(NoHost::of(ToolCall::new("1", "tool", "")));
        let cancel = host.cancel.clone();
        let cx = CallContext::new(host, 1, Deadline::after(Instant::now(), minute));
        assert!(cx.remaining() > minute / 2);
        let (_open, channel) = crossbeam_channel::unbounded::<u8>();
        std::thread::scope(|scope| {
            let receives = scope.spawn(|| cx.recv(&channel).map(Some));
            let for_a_minute = scope.spawn(|| cx.recv_timeout(&channel, minute));
            std::thread::sleep(Duration::from_millis(20));
            // As where the system gives no thread for callbacks: nobody runs them.
            drop(cancel.signal());
            for waits in [receives, for_a_minute] {
                let error = waits.join().unwrap().unwrap_err();
                assert_eq!(error.kind(), ToolErrorKind::Cancelled);
            }
        });
        assert_eq!(cx.remaining(), Duration::ZERO);
    }

    #[test]
    fn fault_087_raw_arguments_keep_every_byte_and_numbers_are_never_cut() {
        use serde_json::value::RawValue;
        let object = &json!({ "type": "object" });
        let raw = Tool::with_schema("t", "", object, |raw: Box<RawValue>| Ok(raw.get().len()));
        let text = r#"{"a": 18446744073709551616,  "b":-0, "c":0.10}"#;
        assert_eq!(invoke(raw, text), Ok(json(&text.len().to_string())));
        let number = Tool::new("t", "", |order: Order| Ok(order.number));
        for number_text in ["18446744073709551616", "-1", "1.5", "1e999", "NaN"] {
            let arguments = format!(r#"{{"number":{number_text}}}"#);
            assert!(invoke(number.clone(), &arguments).is_err(), "{arguments}");
        }
    }

    #[test]
    fn fault_089_bad_arguments_are_told_with_their_path() {
        let problem = |arguments| {
            let error = invoke(refund(), arguments).unwrap_err();
            assert_eq!(error.kind(), ToolErrorKind::InvalidArguments);
            assert!(error.model_text().starts_with("invalid arguments: "), "{error}");
            error.model_text().to_owned()
        };
        assert!(problem(r#"{"order":{"number":"x"}}"#).contains("`order.number`"));
        assert!(problem(r#"{"order":{}}"#).contains("number"));
        assert!(problem(r#"{"order":{"number":1},"note":"x"}"#).contains("note"));
        assert!(problem(r#"{"order":7}"#).contains("order"));
    }

    #[cfg(feature = "schema")]
    #[test]
    fn fault_089_the_schema_is_checked_before_the_handler_sees_anything() {
        let problem = |arguments| invoke(refund(), arguments).unwrap_err().model_text().to_owned();
        assert_eq!(
            problem(r#"{"order":{"number":1},"cents":0}"#),
            "invalid arguments: 0 is less than the minimum of 1 at `cents`"
        );
        let schema = json!({
            "type": "object",
            "properties": { "path": { "type": "string", "pattern": "^[a-z/]+$" } },
            "required": ["path"],
            "additionalProperties": false
        });
        let dynamic =
            || Tool::with_schema("read", "", &schema, |args: Value| Ok(args["path"].clone()));
        assert_eq!(invoke(dynamic(), r#"{"path":"a/b"}"#), Ok("a/b".into()));
        assert!(invoke(dynamic(), r#"{"path":"../x"}"#).is_err());
        assert!(invoke(dynamic(), r#"{"path":"a","mode":1}"#).is_err());
        let free = Tool::new("t", "", |text: String| Ok(text));
        assert!(Tool::from(free).into_definition().problem.is_some(), "a string is no object");
    }

    #[test]
    fn free_text_reaches_a_handler_as_a_string() {
        let object = &json!({ "type": "object" });
        let tool = Tool::with_schema("sql", "", object, |text: String| Ok(text)).takes_free_text();
        let call = ToolCall::free_text("1", "sql", "select \"a\"\n");
        assert_eq!(invoke_with(tool, call), Ok("select \"a\"\n".into()));
    }
}
