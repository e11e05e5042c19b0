//! What a worker does with user code: decoding, the handler, its result, its panic.
//!
//! Everything of the user's happens here, inside `catch_unwind`; only plain data leaves.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use log::Level;

use crate::bound::{Bounded, Taken};
use crate::call::ToolCall;
use crate::error::{ToolError, ToolErrorKind, bounded};
use crate::executor::around;
use crate::executor::job::RunShared;
use crate::executor::say;
use crate::executor::scheduler::{Finish, Prepared};
use crate::executor::settings::Settings;
use crate::json;
use crate::outcome::{Outcome, Rejected};
use crate::output::Output;
use crate::report::Note;
use crate::tool::{CallContext, Definition, Invoke};

/// Most keys of one call, and most bytes of one key.
const MAX_KEYS: usize = 10_000;
const MAX_KEY_BYTES: usize = 1 << 20;

/// A panic, as far as it can be told.
pub(super) struct Panic(Option<String>);

/// Runs user code; what it panics with is told, and dropped with care.
fn contained<T>(run: impl FnOnce() -> T) -> Result<T, Panic> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|payload| Panic(panic_text(payload)))
}

/// Drops what may be the last handle to values of the user's: their drops may panic.
pub(crate) fn let_go<T>(last: T) {
    guarded("a value that was dropped", || drop(last));
}

/// Drops what it holds with care, wherever it is dropped.
pub(crate) struct Careful<T>(Option<T>);

impl<T> Careful<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }

    #[cfg(feature = "tracing")]
    pub(crate) fn get(&self) -> &T {
        self.0.as_ref().expect("it holds its value until it is dropped")
    }
}

impl<T> Drop for Careful<T> {
    fn drop(&mut self) {
        let_go(self.0.take());
    }
}

/// Runs user code whose result nobody waits for.
pub(crate) fn guarded(what: &str, run: impl FnOnce()) {
    // Its message isn't told: there might be a secret in it.
    if contained(run).is_err() {
        say::warn(format_args!("{what} panicked"));
    }
}

fn panic_text(payload: Box<dyn Any + Send>) -> Option<String> {
    let text = match payload.downcast_ref::<&str>() {
        Some(text) => Some(bounded(text)),
        None => payload.downcast_ref::<String>().map(|text| bounded(text)),
    };
    // A payload's own drop may panic, and so may the drop of what that panics with.
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
    text
}

/// Decodes the arguments, runs the handler and makes its value an output.
pub(super) fn invoke(
    handler: &dyn Invoke,
    run: &RunShared,
    definition: &Definition,
    call: &ToolCall,
    cx: &CallContext,
) -> Result<Result<Bounded, ToolError>, Panic> {
    let arguments = definition.arguments_of(call).unwrap_or_default();
    let invoke = || around::wrap(run.around.as_ref(), cx, || handler.invoke(arguments, cx));
    #[cfg(feature = "tracing")]
    let invoke = || crate::executor::spans::in_span(&run.caller, call, cx, invoke);
    contained(invoke)
}

/// A result, what is noted of it, and what it has taken of its batch's allowance.
pub(super) fn delivered(bounded: Bounded) -> (Output, Vec<Note>, Taken) {
    let Bounded { output, cut, media_left_out, taken } = bounded;
    let mut notes: Vec<_> = cut.map(Note::Cut).into_iter().collect();
    notes.extend(taken.file().map(|file| Note::KeptIn(file.display().to_string())));
    notes.extend(Some(media_left_out).filter(|left_out| *left_out > 0).map(Note::MediaLeftOut));
    (output, notes, taken)
}

/// What an attempt's result means for the scheduler, and what it has taken of its batch's allowance.
pub(super) fn finish(
    result: Result<Result<Bounded, ToolError>, Panic>,
    definition: &Definition,
    settings: &Settings,
    attempt: u32,
) -> (Finish, Taken) {
    let mut notes = Vec::new();
    let mut pause = None;
    let mut taken = Taken::default();
    let mut outcome = match result {
        Ok(Ok(bounded)) => {
            let output;
            (output, notes, taken) = delivered(bounded);
            Outcome::Succeeded(output)
        }
        Ok(Err(error)) if error.is_bad_arguments() => {
            Outcome::Rejected(Rejected::BadArguments(error.model_text().to_owned()))
        }
        Ok(Err(error)) => {
            if error.kind() == ToolErrorKind::RateLimited {
                pause = error.retry_after();
            }
            let reveal = definition.reveal_errors || settings.reveal_errors;
            Outcome::Failed(if reveal { error.reveal() } else { error })
        }
        Err(Panic(message)) => Outcome::Panicked(message),
    };
    settings.redact(&mut outcome);
    let retry = definition
        .retry
        .as_ref()
        .and_then(|retry| retry.allows(attempt, definition.effect, &outcome, settings.random()));
    (Finish { outcome, notes, retry, pause }, taken)
}

/// Computes a call's keys, and what identical calls have in common.
pub(super) fn prepare(definition: &Definition, call: &ToolCall) -> Result<Prepared, Outcome> {
    let mut prepared = Prepared::default();
    let arguments = definition.arguments_of(call).unwrap_or_default();
    for keys in &definition.keys {
        match contained(|| keys(arguments)) {
            Ok(Ok(keys)) => prepared.keys.extend(keys),
            Ok(Err(error)) => {
                let text = error.model_text().to_owned();
                return Err(Outcome::Rejected(Rejected::BadArguments(text)));
            }
            Err(Panic(message)) => return Err(Outcome::Panicked(message)),
        }
    }
    let too_much = if prepared.keys.len() > MAX_KEYS {
        Some(format!("it concerns {} things, {MAX_KEYS} at most", prepared.keys.len()))
    } else {
        let long = prepared.keys.iter().find(|used| used.key.len() > MAX_KEY_BYTES);
        long.map(|used| format!("it names a thing of {} bytes", used.key.len()))
    };
    if let Some(why) = too_much {
        return Err(Outcome::Rejected(Rejected::BadArguments(why)));
    }
    if definition.coalesce {
        prepared.identity = Some(format!("{}\n{}", definition.id, json::canonical(arguments)));
    }
    Ok(prepared)
}

/// One line a finished attempt: `debug` for success, `info` for failure, `warn` for a panic.
/// Nothing where it wouldn't be logged.
pub(super) fn finish_line(call: &ToolCall, outcome: &Outcome) -> Option<(Level, String)> {
    let level = match outcome {
        Outcome::Succeeded(_) => Level::Debug,
        Outcome::Panicked(_) => Level::Warn,
        _ => Level::Info,
    };
    if level > log::max_level() {
        return None;
    }
    let name = call.name();
    let line = match outcome {
        Outcome::Panicked(message) => {
            format!("{name:?} panicked: {:?}", message.as_deref().unwrap_or("no message"))
        }
        Outcome::Failed(error) => format!("{name:?} failed: {:?}", error.to_string()),
        other => format!("{name:?}: {}", other.name()),
    };
    Some((level, line))
}
