//! How a plain function becomes a tool's handler: arguments decoded, the result serialised, on the
//! thread that runs it.

use std::any::{Any, TypeId};
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bound::{self, Bounded};
use crate::error::ToolError;
use crate::output::Output;
use crate::tool::context::CallContext;

/// A function that can be a tool's handler: of no argument, of its arguments, or of its arguments
/// and a [`CallContext`]; it returns `Result<impl Serialize, ToolError>`.
///
/// The parameters' types must be written in a closure. `Shape` tells the three forms apart and is
/// always inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be a tool's handler",
    label = "not a handler",
    note = "a handler is `|| ..`, `|args: T| ..` or `|args: T, cx: &CallContext| ..` with the types written out",
    note = "it returns `Result<impl Serialize, ToolError>`, and `T` derives `Deserialize` and `JsonSchema`"
)]
pub trait Handler<Args, Shape> {
    /// Runs the function and makes its value an output.
    #[doc(hidden)]
    fn handle(&self, args: Args, cx: &CallContext) -> Result<Bounded, ToolError>;
}

impl<F, R> Handler<(), fn() -> R> for F
where
    F: Fn() -> Result<R, ToolError>,
    R: Serialize + 'static,
{
    fn handle(&self, (): (), cx: &CallContext) -> Result<Bounded, ToolError> {
        to_output(self()?, cx)
    }
}

impl<F, A, R> Handler<A, fn(A) -> R> for F
where
    F: Fn(A) -> Result<R, ToolError>,
    R: Serialize + 'static,
{
    fn handle(&self, args: A, cx: &CallContext) -> Result<Bounded, ToolError> {
        to_output(self(args)?, cx)
    }
}

impl<F, A, R> Handler<A, fn(A, &CallContext) -> R> for F
where
    F: Fn(A, &CallContext) -> Result<R, ToolError>,
    R: Serialize + 'static,
{
    fn handle(&self, args: A, cx: &CallContext) -> Result<Bounded, ToolError> {
        to_output(self(args, cx)?, cx)
    }
}

fn to_output<R: Serialize + 'static>(value: R, cx: &CallContext) -> Result<Bounded, ToolError> {
    if TypeId::of::<R>() == TypeId::of::<Output>() {
        let value: Box<dyn Any> = Box::new(value);
        if let Ok(output) = value.downcast::<Output>() {
            return bound::output(*output, cx.result_limit());
        }
        return Err("an output lost its type".into());
    }
    bound::serialized(&value, cx.result_limit())
}

/// A handler with its types erased.
pub(crate) trait Invoke: Send + Sync {
    fn invoke(&self, arguments: &str, cx: &CallContext) -> Result<Bounded, ToolError>;
}

/// The one implementation of [`Invoke`].
pub(crate) struct Typed<F, A, S> {
    pub(crate) function: F,
    pub(crate) types: PhantomData<fn(A) -> S>,
}

impl<F, A, S> Invoke for Typed<F, A, S>
where
    F: Handler<A, S> + Send + Sync,
    A: DeserializeOwned + 'static,
{
    fn invoke(&self, arguments: &str, cx: &CallContext) -> Result<Bounded, ToolError> {
        self.function.handle(decode(arguments)?, cx)
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
