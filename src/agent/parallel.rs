//! Getting a model to ask for several calls in one turn, and not to where they depend on each
//! other: switches, and words for the system prompt. The words are here for other clients, too.
//!
//! Nothing here looks at what the model does with them; that is measured by
//! [`AgentStats`](crate::agent::AgentStats).

/// How hard a model is asked for several calls in one turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ParallelPolicy {
    /// One call a turn: the provider is told so where it has a switch for it, and the system
    /// prompt says [`ONE_AT_A_TIME`]. What comes together regardless is run one after another.
    Off,
    /// Nothing is said; providers allow several calls unless they are told otherwise.
    #[default]
    Allow,
    /// The system prompt says [`ENCOURAGE`].
    Encourage,
    /// The system prompt says [`INSIST`], and the provider is told that several calls are
    /// allowed. Some models refuse to be told; take [`Encourage`](Self::Encourage) for them.
    Insist,
}

/// A mild wording: what may be done.
pub const MENTION: &str = "You can call several tools in one message; they run at the same time.";

/// A wording that asks for it, and says when not to.
pub const ENCOURAGE: &str = "Tools run at the same time when you call them in one message. Before \
you call a tool, think of what else you will need, and make all calls that don't need each other's \
results in the same message. If a call needs something that another one returns, wait for that \
result first; never guess a value.";

/// The strongest wording, with an example.
pub const INSIST: &str = "Calling one tool at a time is slow: every message costs the user a wait. \
Plan first: list for yourself everything you have to look up or do, and put every call whose \
arguments you already know into ONE message, however many they are. They all run at the same time, \
and you get all results together. For example, to compare three customers call the customer lookup \
three times in one message, not in three messages; to read four files, read all four at once. One \
call in a message is right only if it is all that is left, or if the next one needs its result. A \
value that only a result can tell must not be guessed: make that call first.";

/// The opposite, for calls that depend on each other, to be put beside either of the others or
/// into a tool's description.
pub const DEPENDENT: &str = "When the arguments of a call depend on the result of another call, \
don't make them in the same message: wait for the result, then call.";

/// For models that are to call one tool at a time.
pub const ONE_AT_A_TIME: &str =
    "Call at most one tool in a message, and wait for its result before you call the next.";

impl ParallelPolicy {
    /// What the system prompt says; empty for nothing.
    pub fn wording(self) -> &'static str {
        match self {
            Self::Off => ONE_AT_A_TIME,
            Self::Allow => "",
            Self::Encourage => ENCOURAGE,
            Self::Insist => INSIST,
        }
    }

    /// What the provider's switch is set to; nothing where it is left alone.
    pub fn switch(self) -> Option<bool> {
        match self {
            Self::Off => Some(false),
            Self::Allow | Self::Encourage => None,
            Self::Insist => Some(true),
        }
    }

    /// A system prompt with the words at its end. The same bytes each time, for prompt caches.
    pub fn system(self, prompt: &str) -> String {
        match (prompt, self.wording()) {
            (prompt, "") => prompt.to_owned(),
            ("", wording) => wording.to_owned(),
            (prompt, wording) => format!("{prompt}\n\n{wording}"),
        }
    }
}
