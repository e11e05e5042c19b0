//! The spans of feature `tracing`. A binary of its own: whether a span is of interest to anybody is
//! cached for the whole process, and other tests have no subscriber.
#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop")]

use std::sync::Arc;

use parking_lot::Mutex;
use toolpool::{Executor, Tool, ToolCall, ToolSet, Turn};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tracing_core::span::Current;

/// Remembers spans, and which are entered; good for one thread at a time.
#[derive(Clone, Default)]
struct Spans {
    all: Arc<Mutex<Vec<Span>>>,
    entered: Arc<Mutex<Vec<u64>>>,
}

struct Span {
    id: u64,
    metadata: &'static Metadata<'static>,
    parent: Option<u64>,
    fields: Vec<(&'static str, String)>,
}

impl Visit for Span {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.fields.push((field.name(), format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.push((field.name(), value.to_owned()));
    }
}

impl Subscriber for Spans {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut all = self.all.lock();
        let id = all.len() as u64 + 1;
        let parent = attributes.parent().map(Id::into_u64);
        let mut span = Span { id, metadata: attributes.metadata(), parent, fields: Vec::new() };
        attributes.record(&mut span);
        all.push(span);
        Id::from_u64(id)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        let mut spans = self.all.lock();
        if let Some(span) = spans.iter_mut().find(|span| span.id == id.into_u64()) {
            values.record(span);
        }
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, id: &Id) {
        self.entered.lock().push(id.into_u64());
    }

    fn exit(&self, _: &Id) {
        self.entered.lock().pop();
    }

    fn current_span(&self) -> Current {
        let entered = self.entered.lock().last().copied();
        let all = self.all.lock();
        match all.iter().find(|span| Some(span.id) == entered) {
            Some(span) => Current::new(Id::from_u64(span.id), span.metadata),
            None => Current::none(),
        }
    }
}

#[test]
fn every_attempt_has_a_span_below_the_callers() {
    let spans = Spans::default();
    let fail = Tool::new("fail", "", || -> Result<u8, _> { Err("no".into()) });
    let executor = Executor::new(ToolSet::new().with(fail)).unwrap();
    let turn = Turn::from_calls([ToolCall::new("call_7", "fail", "")]);
    tracing::subscriber::with_default(spans.clone(), || {
        let caller = tracing::info_span!("caller");
        let _ = caller.in_scope(|| executor.run(&turn));
    });
    let spans = spans.all.lock();
    let attempt = spans.iter().find(|span| span.metadata.name() == "execute_tool").unwrap();
    let field = |name| attempt.fields.iter().find(|field| field.0 == name).map(|field| &*field.1);
    assert_eq!(field("gen_ai.tool.name"), Some("fail"));
    assert_eq!(field("gen_ai.tool.call.id"), Some("call_7"));
    assert_eq!(field("error.type"), Some("other"));
    assert!(
        spans
            .iter()
            .any(|span| span.metadata.name() == "caller" && Some(span.id) == attempt.parent)
    );
}

#[test]
fn a_span_tells_of_a_panic_and_of_a_call_that_was_over_before_it() {
    let spans = Spans::default();
    let panics = Tool::new("panics", "", || -> Result<(), _> { panic!("as asked") });
    let late = Tool::new("late", "", || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        Ok(())
    });
    let late = late.timeout(std::time::Duration::from_millis(10));
    let executor = Executor::new(ToolSet::new().with(panics).with(late)).unwrap();
    tracing::subscriber::with_default(spans.clone(), || {
        for name in ["panics", "late"] {
            let _ = executor.run(&Turn::from_calls([ToolCall::new("1", name, "")]));
        }
    });
    assert!(executor.shutdown(std::time::Duration::from_secs(60)));
    let kinds: Vec<_> = spans.all.lock().iter().flat_map(|span| span.fields.clone()).collect();
    let kinds = kinds.iter().filter(|field| field.0 == "error.type").map(|field| &*field.1);
    assert_eq!(kinds.collect::<Vec<_>>(), ["panicked", "timed_out"]);
}

/// Panics when it is asked for the current span, or when one is given back.
struct Panics {
    when_asked: bool,
}

impl Subscriber for Panics {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}

    fn current_span(&self) -> Current {
        assert!(!self.when_asked, "as asked");
        static CALLSITE: Callsite = Callsite;
        static METADATA: Metadata<'static> = tracing_core::metadata! {
            name: "caller",
            target: "spans",
            level: tracing_core::Level::INFO,
            fields: &[],
            callsite: &CALLSITE,
            kind: tracing_core::metadata::Kind::SPAN,
        };
        Current::new(Id::from_u64(7), &METADATA)
    }

    fn try_close(&self, id: Id) -> bool {
        assert!(id.into_u64() != 7, "as asked");
        true
    }
}

struct Callsite;

impl tracing_core::Callsite for Callsite {
    fn set_interest(&self, _: tracing_core::Interest) {}

    fn metadata(&self) -> &Metadata<'_> {
        unreachable!("nobody registers it")
    }
}

#[test]
fn a_subscriber_that_panics_for_the_caller_costs_no_report() {
    let executor = Executor::new(ToolSet::new().with(Tool::new("look", "", || Ok(1)))).unwrap();
    let turn = Turn::from_calls([ToolCall::new("call_8", "look", "")]);
    for when_asked in [true, false] {
        let report =
            tracing::subscriber::with_default(Panics { when_asked }, || executor.run(&turn));
        assert!(report.all_succeeded(), "{report:?}");
        assert_eq!(executor.stats().batches, 0);
    }
}
