//! Calls that start while the model writes.

use super::*;

type Seen = Arc<parking_lot::Mutex<Vec<&'static str>>>;

/// A model that writes a call, goes on writing, and then is done or breaks off.
struct Streaming {
    turn: Turn,
    breaks: bool,
    asked: AtomicU32,
    /// What has run; the message ends once a call has that reads, if it is given.
    seen: Option<Seen>,
}

impl Model for Streaming {
    fn name(&self) -> &str {
        "streaming"
    }

    fn wire(&self) -> Wire {
        Wire::OpenAi
    }

    fn respond(&self, _: &Request<'_>) -> Result<Turn, ModelError> {
        unreachable!("the agent streams")
    }

    fn stream(
        &self,
        _: &Request<'_>,
        tell: &mut dyn FnMut(StreamEvent<'_>),
    ) -> Result<Turn, ModelError> {
        if self.asked.fetch_add(1, Ordering::Relaxed) > 0 {
            return Ok(Turn::from_calls([]));
        }
        for call in self.turn.calls() {
            tell(StreamEvent::Call(call));
            std::thread::sleep(ms(100));
        }
        if let Some(seen) = &self.seen {
            assert!(eventually(|| seen.lock().contains(&"reads")));
        }
        match self.breaks {
            true => Err(ModelError::new(ModelErrorKind::Interrupted, "streaming", "cut")),
            false => Ok(self.turn.clone()),
        }
    }
}

fn noted(effect: &'static str, seen: &Seen) -> Tool<N> {
    let seen = Arc::clone(seen);
    Tool::new(effect, "", move |_: N| {
        seen.lock().push(effect);
        Ok(effect)
    })
}

#[test]
fn calls_that_read_start_while_the_model_writes_and_others_wait() {
    for breaks in [false, true] {
        let seen = Seen::default();
        let tools =
            ToolSet::new().with(noted("reads", &seen).read_only()).with(noted("writes", &seen));
        let calls = ["writes", "reads"].map(|name| ToolCall::new(name, name, r#"{"n":1}"#));
        let model = Streaming {
            turn: Turn::from_calls(calls),
            breaks,
            asked: AtomicU32::default(),
            seen: Some(Arc::clone(&seen)),
        };
        let agent = Agent::builder(model, tools).build().unwrap();
        let (end, conversation) = run(&agent);
        if breaks {
            assert_eq!(end.unwrap_err().model().unwrap().kind(), ModelErrorKind::Interrupted);
            assert_eq!(conversation.messages().len(), 1);
            assert_eq!(*seen.lock(), ["reads"], "what changes something has not started");
        } else {
            assert!(end.unwrap().is_done());
            assert_eq!(*seen.lock(), ["reads", "writes"]);
            assert_eq!(conversation.stats().calls, 2);
        }
    }
}

#[test]
fn without_early_start_nothing_runs_before_the_message_is_complete() {
    let seen = Arc::default();
    let tools = ToolSet::new().with(noted("reads", &seen).read_only());
    let calls = [ToolCall::new("1", "reads", r#"{"n":1}"#)];
    let model = Streaming {
        turn: Turn::from_calls(calls),
        breaks: true,
        asked: AtomicU32::default(),
        seen: None,
    };
    let agent = Agent::builder(model, tools).no_early_start().build().unwrap();
    assert!(run(&agent).0.is_err());
    assert!(seen.lock().is_empty());
}
