//! What the model is told of a call that didn't succeed: what happened, and what to do.

use std::fmt;

use crate::effect::Effect;
use crate::error::{ToolError, ToolErrorKind};
use crate::outcome::{Abort, Limit, NotStarted, Outcome, Rejected};
use crate::text::{Shown, Span};

/// The sentence for a call of the tool `name` that panicked before its handler began.
pub(super) fn not_begun(name: &str) -> String {
    format!("not run: an internal error came before {} began", Name(name))
}

/// The sentence for a failed call of the tool `name`; of a success its text.
pub(super) fn of(name: &str, effect: Effect, outcome: &Outcome) -> String {
    let name = Name(name);
    match outcome {
        Outcome::Succeeded(output) => output.to_text(),
        Outcome::Failed(error) => failed(error, name, effect),
        Outcome::Panicked(_) => {
            format!("{name} failed: internal error; {}", advice(effect, "what it did"))
        }
        Outcome::TimedOut { limit, after, still_running } => {
            let after = Span(*after);
            let what = match limit {
                Limit::Timeout => format!("{name} timed out after {after}"),
                Limit::Deadline => {
                    format!("{name} was stopped by the deadline of the turn after {after}")
                }
            };
            match effect {
                Effect::ReadOnly | Effect::Idempotent => {
                    format!("{what}; {}", advice(effect, "it"))
                }
                Effect::Mutating if *still_running => {
                    format!("{what} and may still complete; do not repeat it, check first")
                }
                Effect::Mutating => {
                    format!("{what} and may have taken effect; do not repeat it, check first")
                }
            }
        }
        Outcome::Cancelled { started, abort } => {
            let why = match abort {
                Some(abort) => format!("cancelled: {abort}"),
                None => "cancelled".to_owned(),
            };
            if *started {
                format!("{name} was {why}; {}", advice(effect, "it"))
            } else {
                format!("not run: {why}")
            }
        }
        Outcome::NotStarted(reason) => not_started(reason, name),
        Outcome::Rejected(reason) => rejected(reason, name),
    }
}

/// The author's words as they are; where there are none, the kind's, with what to do about it.
fn failed(error: &ToolError, name: Name<'_>, effect: Effect) -> String {
    let text = error.model_text();
    let is_own = text != error.kind().default_text() && !text.trim().is_empty();
    let kind = format!("{name} {}", error.kind().default_text());
    let what = match error.kind() {
        ToolErrorKind::BadResult if is_own => format!("{kind}: {text}"),
        _ if is_own => return text.to_owned(),
        _ => kind,
    };
    match error.kind() {
        ToolErrorKind::BadResult if effect == Effect::Mutating => {
            format!("{what}; it has taken effect, do not repeat it")
        }
        _ if error.is_safe_to_retry() => format!("{what}; you may call it again"),
        ToolErrorKind::BadResult => what,
        _ if error.effect_unknown() => format!("{what}; {}", advice(effect, "it")),
        _ => what,
    }
}

fn advice(effect: Effect, what: &str) -> String {
    match effect {
        Effect::ReadOnly => "it only reads, you may call it again".to_owned(),
        Effect::Idempotent => "calling it again with the same arguments is safe".to_owned(),
        Effect::Mutating => format!("{what} may have taken effect, do not repeat it, check first"),
    }
}

fn not_started(reason: &NotStarted, name: Name<'_>) -> String {
    match reason {
        NotStarted::Deadline => {
            format!("not run: no time was left for {name}; you may call it again")
        }
        NotStarted::Timeout => {
            format!("not run: {name} could not be prepared in time; you may call it again")
        }
        NotStarted::Aborted(abort) => format!("not run: {abort}"),
        NotStarted::NotNeeded => "not run: other results were enough".to_owned(),
        NotStarted::Shutdown => "not run: the program is shutting down".to_owned(),
        NotStarted::NoThread => {
            format!("not run: the system is out of threads; you may call {name} again later")
        }
        NotStarted::KeyHeld { index, tool } => {
            let holder = match index {
                Some(index) => format!("call {} ({})", index.saturating_add(1), Name(tool)),
                None => format!("an earlier call of {}", Name(tool)),
            };
            format!(
                "not run: {holder} did not end, and {name} can't run beside it; check first, then you may call {name} again"
            )
        }
        NotStarted::GroupPaused => {
            format!(
                "not run: the backend of {name} asked to slow down; you may call it again later"
            )
        }
        NotStarted::CircuitOpen => {
            format!(
                "not run: the backend of {name} keeps failing; do without it, or call it again later"
            )
        }
        NotStarted::Withheld(stop) => format!(
            "not run: your message was cut short or stopped ({}); call {name} again in a complete message",
            Name(stop)
        ),
        NotStarted::StreamBroken => {
            format!("not run: your message broke off; call {name} again in a complete message")
        }
        NotStarted::Deferred => "not run yet: a decision is pending".to_owned(),
    }
}

fn rejected(reason: &Rejected, name: Name<'_>) -> String {
    match reason {
        Rejected::UnknownTool { nearest, available, more } => {
            let mut text = format!("there is no tool {name}");
            match nearest {
                Some(nearest) => text += &format!("; did you mean {nearest}?"),
                None => text += ".",
            }
            if available.is_empty() {
                return text + " There are no tools";
            }
            text += &format!(" The tools are: {}", available.join(", "));
            if *more > 0 {
                text += &format!(" and {more} more");
            }
            text
        }
        Rejected::BadArguments(why) => format!("{name} was not run: {why}"),
        Rejected::TooManyCalls(limit) => {
            format!(
                "not run: at most {limit} calls a message are run; call {name} in another message"
            )
        }
        Rejected::Denied(why) if why.is_empty() => format!("{name} was not approved; do not retry"),
        Rejected::Denied(why) => format!("{name} was not approved: {why}"),
        Rejected::Busy => format!("not run: too much is going on; you may call {name} again later"),
        Rejected::AbandonedLimit => {
            format!("not run: too many earlier calls hang; you may call {name} again later")
        }
        Rejected::TooDeep(limit) => format!("not run: calls may be nested {limit} deep"),
        Rejected::WouldDeadlock(what) => {
            let what = Shown::new(what, 64);
            format!("not run: {name} would wait for {what}, which waits for it")
        }
    }
}

/// A name of the model's, fit for a sentence: escaped and at most 64 characters.
#[derive(Clone, Copy)]
struct Name<'a>(&'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("\"\"");
        }
        Shown::new(self.0, 64).fmt(f)
    }
}

/// Calls are counted from 1 here, as the model counts them.
impl fmt::Display for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.satisfied, self.index) {
            (true, _) => f.write_str("other results were enough"),
            (false, Some(index)) => {
                write!(f, "call {} ({}) failed", index.saturating_add(1), Name(&self.cause))
            }
            (false, None) => f.write_str(&self.cause),
        }
    }
}
