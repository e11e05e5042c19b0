//! A conversation with a model, kept as data.

use serde::{Deserialize, Serialize};

use crate::agent::measure::AgentStats;
use crate::error::Error;
use crate::executor::Suspended;
use crate::json::Json;
use crate::report::Report;
use crate::turn::{Turn, Usage, Wire};
use crate::wire;

/// The version of the stored form.
const VERSION: u32 = 1;

/// A conversation: messages in the wire's own shape, the tokens it took, and a turn that waits for
/// decisions, if one does. Every call in its messages is answered.
///
/// It can be stored as JSON and gone on with later, by any agent whose model has the same format.
/// What is loaded is checked.
///
/// ```
/// use toolpool::Wire;
/// use toolpool::agent::Conversation;
///
/// let mut conversation = Conversation::new(Wire::Anthropic);
/// conversation.user("Who is customer 7?");
/// let stored = serde_json::to_string(&conversation)?;
/// let loaded: Conversation = serde_json::from_str(&stored)?;
/// assert_eq!(loaded, conversation);
///
/// let broken = stored.replace(r#""role":"user""#, r#""roll":"user""#);
/// assert!(serde_json::from_str::<Conversation>(&broken).is_err());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Conversation {
    wire: Wire,
    messages: Vec<Json>,
    suspended: Option<Suspended>,
    /// What was said while a turn waits, and comes behind its results.
    later: Vec<Said>,
    /// Of the latest turn that has one.
    container: Option<String>,
    stats: AgentStats,
}

/// What joins the messages: text may become part of the last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Text(String),
    Message(Json),
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    wire: Wire,
    messages: Vec<Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    suspended: Option<Suspended>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    later: Vec<Said>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    container: Option<String>,
    #[serde(default)]
    stats: AgentStats,
}

impl From<Conversation> for Stored {
    fn from(conversation: Conversation) -> Self {
        let Conversation { wire, messages, suspended, later, container, stats } = conversation;
        Self { version: VERSION, wire, messages, suspended, later, container, stats }
    }
}

impl TryFrom<Stored> for Conversation {
    type Error = Error;

    fn try_from(stored: Stored) -> Result<Self, Error> {
        if stored.version != VERSION {
            return Err(Error::input(format_args!(
                "the conversation is stored in form {}, this is form {VERSION}",
                stored.version
            )));
        }
        if stored.suspended.as_ref().is_some_and(|suspended| suspended.turn().wire() != stored.wire)
        {
            return Err(Error::input("the suspended turn is of another format"));
        }
        let Stored { wire, messages, suspended, later, container, stats, .. } = stored;
        let mut alone = Self::new(wire);
        later.iter().cloned().for_each(|said| alone.say(said));
        check(wire, &alone.messages)?;
        let read = Self::with_messages(wire, messages)?;
        let mut read = Self { suspended, container, stats, ..read };
        later.into_iter().for_each(|said| read.say(said));
        Ok(read)
    }
}

impl Conversation {
    /// A conversation in which nothing was said.
    pub fn new(wire: Wire) -> Self {
        let stats = AgentStats::default();
        let (messages, later) = (Vec::new(), Vec::new());
        Self { wire, messages, suspended: None, later, container: None, stats }
    }

    /// A conversation that was held elsewhere.
    ///
    /// # Errors
    /// Messages that aren't of the format, or a call in them that has no result.
    pub fn with_messages(wire: Wire, messages: Vec<Json>) -> Result<Self, Error> {
        check(wire, &messages)?;
        Ok(Self { messages, ..Self::new(wire) })
    }

    /// Adds what the user says. While a turn waits for decisions it is kept back, and comes behind the
    /// turn's results.
    pub fn user(&mut self, text: &str) {
        self.say(Said::Text(text.to_owned()));
    }

    /// Adds a message in the wire's own shape, such as one with an image; kept back as what
    /// [`user`](Self::user) adds. Calls and results don't belong into it.
    pub fn push(&mut self, message: Json) {
        self.say(Said::Message(message));
    }

    fn say(&mut self, said: Said) {
        if self.suspended.is_some() {
            self.later.push(said);
            return;
        }
        let message = match said {
            Said::Message(message) => message,
            Said::Text(text) => {
                let last = self.messages.last();
                match last.and_then(|last| self.wire.with_user_text(last, &text)) {
                    Some(both) => {
                        self.messages.pop();
                        both
                    }
                    None => self.wire.user_message(&text),
                }
            }
        };
        self.messages.push(message);
    }

    /// The format.
    pub fn wire(&self) -> Wire {
        self.wire
    }

    /// The messages, in the wire's own shape, without what is kept back.
    pub fn messages(&self) -> &[Json] {
        &self.messages
    }

    /// The tokens it took so far.
    pub fn usage(&self) -> Usage {
        self.stats.usage
    }

    /// Its figures so far.
    pub fn stats(&self) -> &AgentStats {
        &self.stats
    }

    /// The turn that waits for decisions; its message isn't among the messages yet.
    pub fn suspended(&self) -> Option<&Suspended> {
        self.suspended.as_ref()
    }

    /// Waits no longer: the model is told that the decision is pending, and the conversation can
    /// go on. Returns whether it was suspended.
    pub fn give_up_waiting(&mut self) -> bool {
        let Some(suspended) = self.suspended.take() else { return false };
        self.answer(suspended.turn(), suspended.report());
        true
    }

    /// The container that the next request names.
    pub(crate) fn container(&self) -> Option<&str> {
        self.container.as_deref()
    }

    pub(crate) fn in_container(self, id: Option<String>) -> Self {
        Self { container: id, ..self }
    }

    pub(crate) fn stats_mut(&mut self) -> &mut AgentStats {
        &mut self.stats
    }

    pub(crate) fn suspend(&mut self, suspended: Suspended) {
        self.suspended = Some(suspended);
    }

    pub(crate) fn take_suspended(&mut self) -> Option<Suspended> {
        self.suspended.take()
    }

    /// Adds a turn and what the model is told of its calls.
    pub(crate) fn answer(&mut self, turn: &Turn, report: &Report) {
        let turn = turn.clone().for_wire(self.wire);
        self.messages.extend(turn.reply(report));
        std::mem::take(&mut self.later).into_iter().for_each(|said| self.say(said));
        if let Some(container) = turn.container() {
            self.container = Some(container.to_owned());
        }
    }
}

fn check(wire: Wire, messages: &[Json]) -> Result<(), Error> {
    match wire::fault(wire, messages) {
        Some(fault) => {
            Err(Error::input(format_args!("the {wire} conversation is broken: {fault}")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_says_twice_is_one_message_where_roles_take_turns() {
        for wire in Wire::ALL {
            let mut conversation = Conversation::new(wire);
            conversation.user("one");
            conversation.user("two");
            let expected = if wire == Wire::Bedrock { 1 } else { 2 };
            assert_eq!(conversation.messages().len(), expected, "{wire}");
            let all: String = conversation.messages().iter().map(Json::as_str).collect();
            assert!(all.contains("one") && all.contains("two"), "{wire}");
        }
    }

    #[test]
    fn the_container_of_the_latest_turn_that_has_one_is_kept() {
        let code = r#"{"type":"server_tool_use","id":"s","name":"code_execution","input":{}}"#;
        let call =
            r#"{"type":"tool_use","id":"a","name":"look","input":{},"caller":{"tool_id":"s"}}"#;
        let turn = |rest: &str| {
            let body = format!(r#"{{"content":[{code},{call}],"stop_reason":"tool_use"{rest}}}"#);
            Wire::Anthropic.parse(&body).unwrap()
        };
        let nothing = Report::new(Vec::new(), std::time::Duration::ZERO, None);
        let mut conversation = Conversation::new(Wire::Anthropic);
        conversation
            .answer(&turn(r#","container":{"id":"container_1","expires_at":"x"}"#), &nothing);
        conversation.answer(&turn(r#","container":null"#), &nothing);
        let stored = serde_json::to_string(&conversation).unwrap();
        let loaded: Conversation = serde_json::from_str(&stored).unwrap();
        assert_eq!(loaded, conversation);

        let mut prompt = wire::Prompt::new(loaded.messages());
        prompt.container = loaded.container();
        let body = Wire::Anthropic.request(&prompt, &wire::Parameters::new("m"));
        assert!(body.as_str().contains(r#""container":"container_1""#), "{body:?}");
    }

    #[test]
    fn what_is_joined_keeps_its_bytes() {
        let results = r#"{"role":"user","content":[{"toolResult":{"toolUseId":"a","content":[{"json":{"b":1.50,"a":1e999}}]}}]}"#;
        let mut conversation = Conversation::new(Wire::Bedrock);
        conversation.push(Json::parse(results).unwrap());
        conversation.user("two");
        let expected = results.replace("}]}}]}", r#"}]}},{"text":"two"}]}"#);
        assert_eq!(conversation.messages(), [Json::parse(expected).unwrap()]);
        for other in [r#"{"role":"assistant","content":[]}"#, r#"{"role":"user","content":"hi"}"#] {
            conversation.push(Json::parse(other).unwrap());
            conversation.user("three");
        }
        assert_eq!(conversation.messages().len(), 5);
    }

    #[test]
    fn a_stored_form_of_another_version_or_with_an_open_call_is_refused() {
        let mut conversation = Conversation::new(Wire::OpenAi);
        conversation.user("hello");
        let stored = serde_json::to_string(&conversation).unwrap();
        let later = stored.replace(r#""version":1"#, r#""version":2"#);
        let error = serde_json::from_str::<Conversation>(&later).unwrap_err().to_string();
        assert!(error.starts_with("the conversation is stored in form 2"), "{error}");
        let open = r#"{"role":"assistant","tool_calls":[{"id":"a"}]}"#;
        let messages = vec![Json::parse(open).unwrap()];
        let error = Conversation::with_messages(Wire::OpenAi, messages).unwrap_err();
        assert_eq!(error.to_string(), "the openai conversation is broken: a call has no result");
    }
}
