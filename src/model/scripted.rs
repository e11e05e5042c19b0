//! A model for tests: it plays prepared answers and remembers what it was asked.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::json::Json;
use crate::model::error::{ModelError, ModelErrorKind};
use crate::model::request::Request;
use crate::model::{Model, tell_all};
use crate::time::Deadline;
use crate::turn::{Turn, Wire};
use crate::wire::{Parameters, StreamEvent, ToolChoice};

const NAME: &str = "scripted";

/// A model that plays prepared answers in order and remembers what it was asked. Clones share
/// both.
///
/// ```
/// use toolpool::model::{Model, Request, ScriptedModel};
/// use toolpool::{ToolCall, Turn, Wire};
///
/// let model = ScriptedModel::new(Wire::OpenAi)
///     .turn(Turn::from_calls([ToolCall::new("call_1", "now", "{}")]))
///     .answer(|asked| Turn::from_calls([]).for_wire(asked.wire));
/// let turn = model.respond(&Request::new(&[]).system("Be brief."))?;
/// assert_eq!(turn.calls().len(), 1);
/// assert_eq!(model.asked()[0].system, "Be brief.");
/// # Ok::<(), toolpool::model::ModelError>(())
/// ```
#[derive(Clone)]
pub struct ScriptedModel {
    wire: Wire,
    script: Arc<Mutex<Script>>,
}

type Scene = Box<dyn FnOnce(&Asked, &mut Stage<'_, '_>) -> Result<Turn, ModelError> + Send>;

/// Where an answer is played.
struct Stage<'a, 'b> {
    request: &'a Request<'a>,
    /// Nothing where the turn is asked for as a whole.
    tell: Option<&'a mut (dyn FnMut(StreamEvent<'_>) + 'b)>,
}

#[derive(Default)]
struct Script {
    scenes: VecDeque<Scene>,
    asked: Vec<Asked>,
}

/// What a [`ScriptedModel`] was asked.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Asked {
    /// The format.
    pub wire: Wire,
    /// The system prompt.
    pub system: String,
    /// The messages.
    pub messages: Vec<Json>,
    /// The tools' names.
    pub tools: Vec<String>,
    /// Whether a tool had to be called.
    pub choice: ToolChoice,
    /// Whether several calls were allowed; nothing where it wasn't said.
    pub parallel: Option<bool>,
    /// The body that would have gone to a provider.
    pub body: Json,
}

impl ScriptedModel {
    /// A model of this format with nothing to say yet.
    pub fn new(wire: Wire) -> Self {
        Self { wire, script: Arc::default() }
    }

    /// Next, this turn.
    #[must_use]
    pub fn turn(self, turn: Turn) -> Self {
        self.then(move |_| Ok(turn))
    }

    /// Next, this response body, read as the format has it; one that can't be read is an error of
    /// the model.
    #[must_use]
    pub fn body(self, body: impl Into<String>) -> Self {
        let (wire, body) = (self.wire, body.into());
        self.then(move |_| {
            wire.parse(&body)
                .map_err(|error| ModelError::new(ModelErrorKind::Unreadable, NAME, error))
        })
    }

    /// Next, this failure.
    #[must_use]
    pub fn error(self, error: ModelError) -> Self {
        self.then(move |_| Err(error))
    }

    /// Next, the turn that `answer` makes of what was asked.
    #[must_use]
    pub fn answer(self, answer: impl FnOnce(&Asked) -> Turn + Send + 'static) -> Self {
        self.then(move |asked| Ok(answer(asked)))
    }

    /// Next, what `scene` makes of what was asked.
    #[must_use]
    pub fn then(
        self,
        scene: impl FnOnce(&Asked) -> Result<Turn, ModelError> + Send + 'static,
    ) -> Self {
        self.play(Box::new(move |asked, stage| {
            let turn = scene(asked)?;
            if let Some(tell) = &mut stage.tell {
                tell_all(&turn, tell);
            }
            Ok(turn)
        }))
    }

    /// Next, this stream as the format has it, each piece after a pause. A stream that can't be
    /// read is an error of the model.
    #[must_use]
    pub fn streamed<P: Into<Vec<u8>>>(
        self,
        pieces: impl IntoIterator<Item = (Duration, P)>,
    ) -> Self {
        let pieces: Vec<(Duration, Vec<u8>)> =
            pieces.into_iter().map(|(pause, piece)| (pause, piece.into())).collect();
        self.play(Box::new(move |asked, stage| {
            let mut assembler = asked.wire.stream();
            let mut nobody = |_: StreamEvent<'_>| {};
            let broken = |error| ModelError::new(ModelErrorKind::Unreadable, NAME, error);
            for (pause, piece) in pieces {
                let Request { cancel, deadline, .. } = stage.request;
                if cancel.wait(Deadline::after(Instant::now(), pause).min(*deadline)) {
                    return Err(ModelError::new(ModelErrorKind::Cancelled, NAME, ""));
                }
                if deadline.has_passed(Instant::now()) {
                    let what = "the request's deadline";
                    return Err(ModelError::new(ModelErrorKind::TimedOut, NAME, what));
                }
                match &mut stage.tell {
                    Some(tell) => assembler.feed(&piece, tell),
                    None => assembler.feed(&piece, &mut nobody),
                }
                .map_err(broken)?;
            }
            match &mut stage.tell {
                Some(tell) => assembler.finish(tell),
                None => assembler.finish(&mut nobody),
            }
            .map_err(broken)
        }))
    }

    fn play(self, scene: Scene) -> Self {
        self.script.lock().scenes.push_back(scene);
        self
    }

    /// What it was asked so far, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.script.lock().asked.clone()
    }

    /// How many answers are left.
    pub fn left(&self) -> usize {
        self.script.lock().scenes.len()
    }
}

impl Model for ScriptedModel {
    fn name(&self) -> &str {
        NAME
    }

    fn wire(&self) -> Wire {
        self.wire
    }

    /// The next answer. A request that is cancelled takes none; a script that has ended is an
    /// error.
    fn respond(&self, request: &Request<'_>) -> Result<Turn, ModelError> {
        self.next(request, None)
    }

    fn stream(
        &self,
        request: &Request<'_>,
        tell: &mut dyn FnMut(StreamEvent<'_>),
    ) -> Result<Turn, ModelError> {
        self.next(request, Some(tell))
    }
}

impl ScriptedModel {
    fn next(
        &self,
        request: &Request<'_>,
        tell: Option<&mut dyn FnMut(StreamEvent<'_>)>,
    ) -> Result<Turn, ModelError> {
        if request.cancel.is_cancelled() {
            return Err(ModelError::new(ModelErrorKind::Cancelled, NAME, ""));
        }
        let prompt = &request.prompt;
        let asked = Asked {
            wire: self.wire,
            system: prompt.system.to_owned(),
            messages: prompt.messages.to_vec(),
            tools: prompt.tools.iter().map(|tool| tool.name().to_owned()).collect(),
            choice: prompt.choice.clone(),
            parallel: prompt.parallel,
            body: self.wire.request(prompt, &Parameters::new(NAME)),
        };
        let scene = {
            let mut script = self.script.lock();
            script.asked.push(asked.clone());
            script.scenes.pop_front()
        };
        match scene {
            Some(scene) => scene(&asked, &mut Stage { request, tell }),
            None => {
                let ended = "the script has no answer left";
                Err(ModelError::new(ModelErrorKind::Configuration, NAME, ended))
            }
        }
    }
}

impl fmt::Debug for ScriptedModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedModel")
            .field("wire", &self.wire)
            .field("left", &self.left())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::CancelToken;

    #[test]
    fn answers_come_in_order_and_what_was_asked_is_remembered() {
        let model = ScriptedModel::new(Wire::OpenAi)
            .body(r#"{"choices":[{"message":{"content":"one"}}]}"#)
            .body("<html>")
            .error(ModelError::new(ModelErrorKind::Overloaded, "scripted", "busy"));
        let ask = || model.respond(&Request::new(&[]).system("s"));
        assert_eq!(ask().unwrap().text(), "one");
        assert_eq!(ask().unwrap_err().kind(), ModelErrorKind::Unreadable);
        assert!(ask().unwrap_err().is_transient());
        assert_eq!(ask().unwrap_err().kind(), ModelErrorKind::Configuration);
        assert_eq!(model.asked().len(), 4);
        assert_eq!(model.asked()[0].system, "s");
    }

    #[test]
    fn a_cancelled_request_takes_no_answer() {
        let model = ScriptedModel::new(Wire::OpenAi).turn(Turn::from_calls([]));
        let token = CancelToken::new();
        token.cancel();
        assert!(model.respond(&Request::new(&[]).cancel(&token)).unwrap_err().is_cancelled());
        assert_eq!((model.left(), model.asked().len()), (1, 0));
    }

    #[test]
    fn a_stream_ends_at_the_requests_deadline_and_with_its_cancellation() {
        let long = Duration::from_secs(60);
        let model = || ScriptedModel::new(Wire::OpenAi).streamed([(long, "data: [DONE]")]);
        let soon = Deadline::after(Instant::now(), Duration::from_millis(5));
        let error = model().respond(&Request::new(&[]).deadline(soon)).unwrap_err();
        assert!(error.is_timeout(), "{error}");
        let token = CancelToken::new();
        let canceller = std::thread::spawn({
            let token = token.clone();
            move || token.cancel()
        });
        let error = model().respond(&Request::new(&[]).cancel(&token)).unwrap_err();
        assert!(error.is_cancelled(), "{error}");
        canceller.join().unwrap();
    }

    #[test]
    fn what_is_no_stream_is_told_at_the_end() {
        let model: &dyn Model = &ScriptedModel::new(Wire::OpenAi).body(
            r#"{"choices":[{"message":{"content":"hm","tool_calls":[{"id":"a","function":{"name":"f","arguments":"{}"}}]}}]}"#,
        );
        let mut told = Vec::new();
        let turn = model
            .stream(&Request::new(&[]), &mut |event| {
                told.push(match event {
                    StreamEvent::Text(text) => text.to_owned(),
                    StreamEvent::Call(call) => call.name().to_owned(),
                    StreamEvent::Restarted => "restarted".to_owned(),
                });
            })
            .unwrap();
        assert_eq!((told, turn.calls().len()), (vec!["hm".to_owned(), "f".to_owned()], 1));
    }
}
