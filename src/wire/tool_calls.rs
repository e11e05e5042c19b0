//! `tool_calls` as OpenAI Chat, Cohere and Ollama have them in a message: read, and written back
//! in the echoed message.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::call::{CallState, ToolCall};
use crate::json::{self, Json};
use crate::report::Report;
use crate::schema;
use crate::tool::ToolSet;
use crate::turn::{StopReason, Turn};
use crate::wire::answers::{Answer, NO_CONTENT, answers};
use crate::wire::call_element::{arguments, call, free_text};
use crate::wire::fields::{self, Given, fields};
use crate::wire::ids::{self, IdRule, quoted};
use crate::wire::raw::{self, EQUAL_KEYS, RawObject};
use crate::wire::{Repair, Reply, multi_tool_use};

/// How long a tool's name may be.
pub(super) const NAME_LIMIT: usize = 64;

fields! {
    pub(super) struct Element<'a> {
        kind "type": Cow<'a, str>,
        id: Cow<'a, str>,
        function: Given<Function<'a>>,
        custom: Custom<'a>,
    }

    pub(super) struct Function<'a> {
        name: Cow<'a, str>,
        arguments: &'a RawValue,
    }

    pub(super) struct Custom<'a> {
        name: Cow<'a, str>,
        input: Cow<'a, str>,
    }
}

/// The calls of the elements, in order.
pub(super) fn calls(elements: &[Option<Element<'_>>], stop: &StopReason) -> Vec<ToolCall> {
    let mut calls = Vec::with_capacity(elements.len());
    for (at, element) in elements.iter().enumerate() {
        if let Some(element) = element {
            add_calls(element, at, stop, &mut calls);
        }
    }
    calls
}

/// Adds the calls of one element, which is the message's `at`-th.
pub(super) fn add_calls(
    element: &Element<'_>,
    at: usize,
    stop: &StopReason,
    calls: &mut Vec<ToolCall>,
) {
    if let Some(call) = element.call(stop) {
        multi_tool_use::unpack(call.at_element(at), calls);
    }
}

impl Element<'_> {
    /// The call of the element. An element whose `custom` has no name is a function's; one that
    /// neither has a `function` nor says that it is one, is none at all.
    fn call(&self, stop: &StopReason) -> Option<ToolCall> {
        let id = self.id.as_deref();
        if let Some((name, custom)) = self.named_custom() {
            return Some(free_text(id, name, custom.input.as_deref().unwrap_or_default(), stop));
        }
        match &self.function {
            Some(Given(function)) => Some(function.call(id, stop)),
            None => self.says_function().then(|| Function::default().call(id, stop)),
        }
    }

    fn is_call(&self) -> bool {
        self.function.is_some() || self.says_function() || self.named_custom().is_some()
    }

    fn says_function(&self) -> bool {
        self.kind.as_deref() == Some("function")
    }

    fn named_custom(&self) -> Option<(&str, &Custom<'_>)> {
        let custom = self.custom.as_ref()?;
        let name = custom.name.as_deref().filter(|name| !name.is_empty())?;
        Some((name, custom))
    }
}

impl Function<'_> {
    pub(super) fn call(&self, id: Option<&str>, stop: &StopReason) -> ToolCall {
        call(id, self.name(), arguments(self.arguments), stop)
    }

    pub(super) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }
}

/// How a format spells calls in a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dialect {
    /// What ids must be; nothing where a call needs none. How long they are isn't held against
    /// ids that came in this format.
    pub(super) ids: Option<IdRule>,
    /// Whether arguments are JSON in a string, and elements have a `type`.
    pub(super) strings: bool,
    /// Whether there are calls with free text.
    pub(super) custom: bool,
    /// Text beside calls stands in `tool_plan`.
    pub(super) plans: bool,
}

/// The echoed message, before it is written.
pub(super) struct Echo<'a> {
    pub(super) message: RawObject<'a>,
    /// One id for each answer, in order.
    pub(super) ids: Vec<Cow<'a, str>>,
    pub(super) repairs: Vec<Repair>,
}

/// The message with its `tool_calls` as the provider takes them back, or made from the calls.
pub(super) fn echo<'a>(turn: &'a Turn, answers: &[Answer<'a>], dialect: Dialect) -> Echo<'a> {
    let given: Vec<_> =
        answers.iter().map(|answer| answer.call.has_id().then(|| answer.call.id())).collect();
    let text = turn.message().map_or("", Json::as_str);
    let ids = match dialect.ids {
        Some(rule) if turn.message().is_none() => ids::ids(&given, rule, turn),
        Some(rule) => ids::ids(&given, IdRule { max: usize::MAX, ..rule }, turn),
        None => given.iter().map(|id| id.unwrap_or_default().into()).collect(),
    };
    let Some(mut message) = RawObject::read(text) else {
        return Echo { message: made(turn, answers, &ids, dialect), ids, repairs: Vec::new() };
    };
    let mut repairs = Vec::new();
    if message.deduplicate() {
        repairs.push(Repair { index: None, what: EQUAL_KEYS.to_owned() });
    }
    if message.text("role").as_deref() != Some("assistant") {
        message.set("role", "assistant");
        repairs.push(Repair { index: None, what: "the role was set to assistant".to_owned() });
    }
    let content = message.get("content").map_or("null", RawValue::get);
    if !content.starts_with(['"', '[', 'n']) {
        message.set("content", "");
        let what = "the content was replaced by an empty text: it is none".to_owned();
        repairs.push(Repair { index: None, what });
    }
    if let Some(elements) = message.get("tool_calls").map(|raw| raw::array(raw.get())) {
        let mut kept = Vec::with_capacity(elements.len());
        let before = repairs.len();
        for (at, element) in elements.iter().enumerate() {
            // A call that came in another place may have the same index.
            let is_call =
                fields::part(element).is_some_and(|element: Element<'_>| element.is_call());
            let answer = answers.iter().position(|answer| is_call && answer.call.element() == at);
            let object = RawObject::read(element.get());
            let (Some(nth), Some(object)) = (answer, object) else {
                let what = format!("tool_calls[{at}] was left out: it is no call");
                repairs.push(Repair { index: None, what });
                continue;
            };
            let (index, call) = (answers[nth].index, answers[nth].call);
            let mut repair = |what| repairs.push(Repair { index: Some(index), what });
            kept.push(repaired(object, call, &ids[nth], dialect, &mut repair));
        }
        if kept.is_empty() {
            message.remove("tool_calls");
            let what = "tool_calls was left out: it holds no call".to_owned();
            repairs.push(Repair { index: None, what });
        } else if repairs.len() > before {
            let kept = raw::json(&kept);
            message.set("tool_calls", &kept);
        }
    }
    Echo { message, ids, repairs }
}

fn repaired<'a>(
    mut element: RawObject<'a>,
    call: &ToolCall,
    id: &str,
    dialect: Dialect,
    repair: &mut impl FnMut(String),
) -> RawObject<'a> {
    if element.deduplicate() {
        repair(EQUAL_KEYS.to_owned());
    }
    if dialect.ids.is_some() && call.id() != id {
        repair(match call.has_id() {
            true => format!("the id {} was replaced by {}", quoted(call.id()), quoted(id)),
            false => format!("the missing id became {}", quoted(id)),
        });
        element.set("id", id);
    }
    let kind = if call.is_free_text() { "custom" } else { "function" };
    if dialect.strings && element.text("type").as_deref() != Some(kind) {
        repair(format!("the type was set to {kind}"));
        element.set("type", kind);
    }
    let other = if call.is_free_text() { "function" } else { "custom" };
    if element.remove(other) {
        repair(format!("{other} was left out: the call is a {kind}"));
    }
    let inner = element.get(kind).map_or("", RawValue::get).to_owned();
    let mut inner = RawObject::read(&inner).unwrap_or_default();
    let mut changed = inner.deduplicate();
    if changed {
        repair(EQUAL_KEYS.to_owned());
    }
    changed |= repair_name(&mut inner, NAME_LIMIT, repair);
    if !call.is_free_text() {
        changed |= repair_arguments(&mut inner, dialect.strings, repair);
    } else if inner.text("input").is_none() {
        repair("the input was replaced by an empty text".to_owned());
        inner.set("input", "");
        changed = true;
    }
    if changed {
        let inner = raw::json(&inner);
        element.set(kind, &inner);
    }
    element
}

/// Makes the name of a function legal, at most `max` characters; whether it was not.
pub(super) fn repair_name(
    function: &mut RawObject<'_>,
    max: usize,
    repair: &mut impl FnMut(String),
) -> bool {
    let name = function.text("name").unwrap_or_default();
    let legal = ids::name(&name, max);
    if name == legal {
        return false;
    }
    repair(format!("the name {} was replaced by {}", quoted(&name), quoted(&legal)));
    function.set("name", &legal);
    true
}

/// Makes the arguments of a function a JSON object, in a string if `strings`; whether they were
/// not.
pub(super) fn repair_arguments(
    function: &mut RawObject<'_>,
    strings: bool,
    repair: &mut impl FnMut(String),
) -> bool {
    let raw = function.get("arguments");
    let is_string = raw.is_some_and(|raw| raw.get().starts_with('"'));
    let text = arguments(raw);
    let is_object = json::scan(&text).is_ok_and(|scan| scan.is_object);
    // "null" is what some servers spell no arguments like, and take back.
    let is_legal = is_object || (strings && text == "null");
    if is_legal && is_string == strings {
        return false;
    }
    let text = if is_object {
        let spelling = if strings { "a string" } else { "an object" };
        repair(format!("the arguments were spelled as {spelling}"));
        text.into_owned()
    } else {
        repair("the arguments were replaced by {}".to_owned());
        "{}".to_owned()
    };
    if strings {
        function.set("arguments", &text);
    } else if let Ok(object) = Json::parse(text) {
        function.set("arguments", &object);
    }
    true
}

/// A call as a message of our own making has it.
#[derive(Serialize)]
struct Made<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<MadeFunction<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom: Option<MadeCustom<'a>>,
}

#[derive(Serialize)]
struct MadeFunction<'a> {
    name: Cow<'a, str>,
    arguments: Json,
}

#[derive(Serialize)]
struct MadeCustom<'a> {
    name: Cow<'a, str>,
    input: Json,
}

fn made<'a>(
    turn: &Turn,
    answers: &[Answer<'_>],
    ids: &[Cow<'_, str>],
    dialect: Dialect,
) -> RawObject<'a> {
    let calls = answers.iter().zip(ids).map(|(answer, id)| {
        let call = answer.call;
        let name = ids::name(call.name(), NAME_LIMIT);
        let mut made = Made { id, kind: None, function: None, custom: None };
        if call.is_free_text() && dialect.custom {
            made.custom = Some(MadeCustom { name, input: raw::literal(call.arguments()) });
        } else {
            let text = object_text(call);
            let arguments = if dialect.strings { raw::json(&text) } else { raw::literal(&text) };
            made.function = Some(MadeFunction { name, arguments });
        }
        if dialect.strings {
            made.kind = Some(if made.custom.is_some() { "custom" } else { "function" });
        }
        made
    });
    let calls: Vec<_> = calls.collect();
    let mut message = RawObject::default();
    message.set("role", "assistant");
    if dialect.plans && !calls.is_empty() {
        if !turn.text().is_empty() {
            message.set("tool_plan", turn.text());
        }
    } else if turn.text().is_empty() && !calls.is_empty() && dialect.strings {
        message.set("content", &());
    } else {
        message.set("content", turn.text());
    }
    if !calls.is_empty() {
        message.set("tool_calls", &calls);
    }
    message
}

/// The echoed message, as it came if nothing had to be repaired, and a message a result.
pub(super) fn reply(
    turn: &Turn,
    report: &Report,
    dialect: Dialect,
    result: impl Fn(&Answer<'_>, &str) -> Json,
) -> Reply {
    let answers = answers(turn, report);
    let Echo { mut message, ids, mut repairs } = echo(turn, &answers, dialect);
    if answers.is_empty() && dialect.strings {
        put_words(&mut message, &mut repairs);
    } else if dialect.plans {
        plan(&mut message, &mut repairs);
    }
    let echoed = match turn.message() {
        Some(as_it_came) if repairs.is_empty() => as_it_came.clone(),
        _ => raw::json(&message),
    };
    let results = answers.iter().zip(&ids).map(|(answer, id)| result(answer, id));
    Reply { messages: [echoed].into_iter().chain(results).collect(), repairs }
}

/// Makes text beside calls a plan: as content the provider refuses it.
fn plan(message: &mut RawObject<'_>, repairs: &mut Vec<Repair>) {
    let content =
        message.get("content").map_or_else(String::new, |content| content.get().to_owned());
    let blocks = raw::array(&content);
    let text = match fields::string(&content) {
        Some(text) => text.into_owned(),
        None => blocks.iter().filter_map(|block| text_of(block)).collect(),
    };
    if text.is_empty() {
        return;
    }
    let others: Vec<_> = blocks.into_iter().filter(|block| text_of(block).is_none()).collect();
    match others.is_empty() {
        true => drop(message.remove("content")),
        false => message.set("content", &others),
    }
    message.set("tool_plan", &(message.text("tool_plan").unwrap_or_default() + &text));
    let what = "the text beside the calls was put into tool_plan".to_owned();
    repairs.push(Repair { index: None, what });
}

/// What a block says that is nothing but a text.
fn text_of(block: &RawValue) -> Option<String> {
    let block = RawObject::read(block.get())?;
    block.text("text").filter(|_| block.text("type").is_none_or(|kind| kind == "text"))
}

/// Puts words into a message without calls that says nothing: several providers refuse it, and what
/// comes after it.
pub(super) fn put_words(message: &mut RawObject<'_>, repairs: &mut Vec<Repair>) {
    let content = message.get("content").map_or("null", RawValue::get);
    let is_empty = match content.as_bytes().first() {
        Some(b'[') => {
            let says_nothing = |block| text_of(block).is_some_and(|text| text.is_empty());
            raw::array(content).into_iter().all(says_nothing)
        }
        _ => matches!(content, "null" | "\"\""),
    };
    if is_empty {
        message.set("content", NO_CONTENT);
        let what = "words were put into a message without content".to_owned();
        repairs.push(Repair { index: None, what });
    }
}

/// The arguments of a call as the text of an object: free text becomes its only entry, `{}`
/// stands for what can't be read.
pub(super) fn object_text(call: &ToolCall) -> String {
    match call.state() {
        CallState::Malformed(_) => "{}".to_owned(),
        _ if call.is_free_text() => format!("{{\"input\":{}}}", call.arguments()),
        _ => call.arguments().to_owned(),
    }
}

#[derive(Serialize)]
struct Definition<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<DefinedFunction<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom: Option<DefinedCustom<'a>>,
}

#[derive(Serialize)]
struct DefinedFunction<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    parameters: Json,
}

#[derive(Serialize)]
struct DefinedCustom<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
}

/// The tool definitions: functions, and custom tools where the format has them.
pub(super) fn definitions(tools: &ToolSet, dialect: Dialect) -> Json {
    let definitions = tools.iter().map(|tool| {
        let (name, description) = (tool.name(), tool.description());
        if tool.takes_free_text() && dialect.custom {
            let custom = Some(DefinedCustom { name, description });
            return Definition { kind: "custom", function: None, custom };
        }
        let parameters = schema::told(tool.schema(), false);
        let function = Some(DefinedFunction { name, description, parameters });
        Definition { kind: "function", function, custom: None }
    });
    raw::json(&definitions.collect::<Vec<_>>())
}
