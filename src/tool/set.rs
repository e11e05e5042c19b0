//! Tools, unique by name.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::effect::Effect;
use crate::error::Error;
use crate::json::Json;
use crate::tool::definition::{Definition, ScopedTool, Tool};
use crate::tool::handler::Invoke;

/// Least likeness of a name that is suggested, from 0 to 1.
const LIKENESS: f64 = 0.7;

/// Tools, unique by name. Cheap to clone.
///
/// ```
/// use toolpool::{Tool, ToolSet};
///
/// let tools = ToolSet::new().with(Tool::new("now", "The time", || Ok("noon")));
/// assert!(tools.try_with(Tool::new("now", "Another", || Ok("late"))).is_err());
/// ```
#[derive(Clone, Default)]
pub struct ToolSet(Arc<Inner>);

#[derive(Clone, Default)]
struct Inner {
    tools: Vec<Arc<Definition>>,
    by_name: HashMap<String, usize>,
    problem: Option<String>,
}

/// What the model is told of one tool.
#[derive(Debug, Clone, Copy)]
pub struct ToolInfo<'a>(&'a Definition);

impl<'a> ToolInfo<'a> {
    /// The name.
    pub fn name(self) -> &'a str {
        &self.0.name
    }

    /// The description.
    pub fn description(self) -> &'a str {
        &self.0.description
    }

    /// The JSON Schema of the arguments.
    pub fn schema(self) -> &'a Json {
        &self.0.schema
    }

    /// What it may change.
    pub fn effect(self) -> Effect {
        self.0.effect
    }

    /// Whether it takes free text instead of JSON.
    pub fn takes_free_text(self) -> bool {
        self.0.free_text
    }
}

impl ToolSet {
    /// No tools.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tool. What is wrong with it is told when an executor is built of the set; to learn
    /// it here, use [`try_with`](Self::try_with).
    #[must_use]
    pub fn with(self, tool: impl Into<Tool>) -> Self {
        self.with_definition(tool.into().into_definition())
    }

    fn with_definition(mut self, definition: Definition) -> Self {
        if let Err(error) = self.add(definition) {
            self.remember(&error);
        }
        self
    }

    /// Keeps the first mistake for who builds an executor of the set.
    fn remember(&mut self, error: &Error) {
        Arc::make_mut(&mut self.0).problem.get_or_insert_with(|| error.to_string());
    }

    /// Adds a tool to a copy of the set.
    ///
    /// # Errors
    /// A name that is empty, invalid or taken; a schema whose root is no object; settings that
    /// contradict each other.
    pub fn try_with(&self, tool: impl Into<Tool>) -> Result<Self, Error> {
        self.try_with_definition(tool.into().into_definition())
    }

    fn try_with_definition(&self, definition: Definition) -> Result<Self, Error> {
        let mut set = self.clone();
        set.add(definition)?;
        Ok(set)
    }

    /// Whether every tool could be added.
    ///
    /// # Errors
    /// The first tool that could not, as [`try_with`](Self::try_with) tells it.
    pub fn check(&self) -> Result<(), Error> {
        match &self.0.problem {
            Some(problem) => Err(Error::config(problem)),
            None => Ok(()),
        }
    }

    fn add(&mut self, definition: Definition) -> Result<(), Error> {
        check_definition(&definition)?;
        if self.0.by_name.contains_key(&definition.name) {
            let name = &definition.name;
            return Err(Error::config(format_args!("two tools are named {name:?}")));
        }
        let inner = Arc::make_mut(&mut self.0);
        inner.by_name.insert(definition.name.clone(), inner.tools.len());
        inner.tools.push(Arc::new(definition));
        Ok(())
    }

    /// How many tools there are.
    pub fn len(&self) -> usize {
        self.0.tools.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.tools.is_empty()
    }

    /// The tools in the order they were added.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = ToolInfo<'_>> {
        self.0.tools.iter().map(|definition| ToolInfo(definition))
    }

    /// The tool of exactly that name.
    pub fn get(&self, name: &str) -> Option<ToolInfo<'_>> {
        self.find(name).map(|definition| ToolInfo(definition))
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Arc<Definition>> {
        self.0.by_name.get(name).map(|at| &self.0.tools[*at])
    }

    /// The tool of that name, or where there is none the name that was probably meant.
    pub(crate) fn look_up(&self, name: &str) -> Result<usize, Option<&str>> {
        self.position(name).ok_or_else(|| self.nearest(name))
    }

    /// The name most like that one, if any is.
    pub(crate) fn nearest(&self, name: &str) -> Option<&str> {
        // A name far longer than any tool's isn't a slip of the pen, and costs time to compare.
        if name.len() > 96 {
            return None;
        }
        let mut nearest: Option<(f64, &str)> = None;
        for definition in self.definitions() {
            let like = strsim::jaro_winkler(name, &definition.name);
            if like >= LIKENESS && nearest.is_none_or(|(best, _)| like > best) {
                nearest = Some((like, &definition.name));
            }
        }
        nearest.map(|(_, name)| name)
    }

    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.0.by_name.get(name).copied()
    }

    pub(crate) fn definitions(&self) -> &[Arc<Definition>] {
        &self.0.tools
    }
}

impl fmt::Debug for ToolSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(ToolInfo::name)).finish()
    }
}

fn check_definition(definition: &Definition) -> Result<(), Error> {
    let name = &definition.name;
    let starts = |c: char| c.is_ascii_alphabetic() || c == '_';
    let goes_on = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.starts_with(starts) || !name.chars().all(goes_on) || name.len() > 64 {
        return Err(Error::config(format_args!(
            "a tool can't be named {name:?}: 1 to 64 of a-z A-Z 0-9 _ -, starting with a letter or _"
        )));
    }
    if let Some(problem) = &definition.problem {
        return Err(Error::config(format_args!("the tool {name:?} can't be used: {problem}")));
    }
    let group = definition.group.as_ref();
    let rate = group.and_then(|group| group.rate_limit());
    let breaker = group.and_then(|group| group.breaker());
    let contradiction = if definition.max_parallel == Some(0) {
        "max_parallel is 0, so it could never run"
    } else if group.is_some_and(|group| group.cap() == Some(0)) {
        "its group's max_parallel is 0, so it could never run"
    } else if rate.is_some_and(|(calls, _)| calls == 0) {
        "its group's rate is 0, so it could never run"
    } else if rate.is_some_and(|(_, span)| span.is_zero()) {
        "its group's rate is per no time at all"
    } else if breaker.is_some_and(|(failures, _)| failures == 0) {
        "its group breaks after 0 failures, so it could never run"
    } else if breaker.is_some_and(|(_, rest)| rest.is_zero()) {
        "its group rests for no time at all when it breaks"
    } else if definition.coalesce && definition.effect != Effect::ReadOnly {
        "only a read-only tool can be coalesced"
    } else {
        return Ok(());
    };
    let named = match group {
        Some(group) if contradiction.starts_with("its group") => format!(" ({:?})", group.name()),
        _ => String::new(),
    };
    Err(Error::config(format_args!("the tool {name:?} can't be used: {contradiction}{named}")))
}

/// Tools that borrow from the caller's stack, unique by name; taken by value by
/// [`Executor::run_scoped`](crate::Executor::run_scoped).
#[derive(Default)]
pub struct ScopedToolSet<'env> {
    pub(crate) set: ToolSet,
    pub(crate) handlers: Vec<Box<dyn Invoke + 'env>>,
}

impl<'env> ScopedToolSet<'env> {
    /// No tools.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tool. What is wrong with it is told by
    /// [`Executor::run_scoped`](crate::Executor::run_scoped).
    #[must_use]
    pub fn with(mut self, tool: ScopedTool<'env>) -> Self {
        match self.set.add(tool.definition) {
            Ok(()) => self.handlers.push(tool.handler),
            Err(error) => self.set.remember(&error),
        }
        self
    }

    /// What the model is told of the tools.
    pub fn tools(&self) -> &ToolSet {
        &self.set
    }
}

impl fmt::Debug for ScopedToolSet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.set.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::tool::group::Group;

    fn tool(name: &str) -> Tool {
        Tool::new(name, "", || Ok(1)).into()
    }

    fn refused(tool: Tool) -> String {
        let error = ToolSet::new().try_with(tool.clone()).unwrap_err();
        assert!(error.is_config());
        let set = ToolSet::new().with(tool);
        assert!(set.is_empty(), "what is refused isn't in the set");
        assert_eq!(set.check().unwrap_err().to_string(), error.to_string());
        error.to_string()
    }

    #[test]
    fn fault_162_names_that_providers_refuse_are_refused() {
        let odd =
            ["", " ", "a b", "1a", "-a", "a.b", "naïve", "a\n", "a/b", "a\0", &"a".repeat(65)];
        for name in odd {
            assert!(refused(tool(name)).starts_with("a tool can't be named"), "{name:?}");
        }
        assert!(refused(tool(&"x".repeat(100_000))).len() < 3000);
        for name in ["a", "_", "a-1_B", &"a".repeat(64)] {
            assert_eq!(ToolSet::new().with(tool(name)).check().map_err(|e| e.to_string()), Ok(()));
        }
    }

    #[test]
    fn fault_162_two_tools_of_one_name_are_refused_and_many_tools_are_not() {
        let set = ToolSet::new().with(tool("a"));
        let error = set.try_with(tool("a")).unwrap_err();
        assert_eq!(error.to_string(), r#"two tools are named "a""#);
        assert!(set.try_with(tool("A")).is_ok(), "names are told apart by their letters' case");
        let twice = set.with(tool("a")).with(tool("b"));
        assert_eq!(twice.len(), 2);
        assert!(twice.check().is_err(), "what comes later doesn't hide a mistake");

        let many = (0..10_000).fold(ToolSet::new(), |set, n| set.with(tool(&format!("t{n}"))));
        assert!(many.check().is_ok());
        assert_eq!(many.get("t9999").map(ToolInfo::name), Some("t9999"));
        assert_eq!(many.iter().map(ToolInfo::name).nth(77), Some("t77"));
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        let with = |set: fn(Tool) -> Tool| refused(set(tool("t")));
        assert!(with(|tool| tool.max_parallel(0)).contains("could never run"));
        assert!(with(|tool| tool.coalesce()).contains("only a read-only tool can be coalesced"));
        assert!(with(|tool| tool.group(&Group::new("g").max_parallel(0))).contains("group's max"));
        let second = Duration::from_secs(1);
        assert!(refused(tool("t").group(&Group::new("g").rate(0, second))).contains("rate is 0"));
        let never = Group::new("g").rate(1, Duration::ZERO);
        assert!(refused(tool("t").group(&never)).contains("no time"));
        let broken = |failures, rest| Group::new("g").break_after(failures, rest);
        assert!(refused(tool("t").group(&broken(0, second))).contains("after 0 failures"));
        assert!(refused(tool("t").group(&broken(1, Duration::ZERO))).contains("for no time"));
        assert!(ToolSet::new().try_with(tool("t").read_only().coalesce()).is_ok());
    }

    #[test]
    fn a_borrowed_tool_takes_free_text_where_its_handler_takes_a_string() {
        let text = ScopedTool::new("t", "", |text: String| Ok(text.len()));
        let set = ScopedToolSet::new().with(text.set(|tool| tool.takes_free_text()));
        assert_eq!(set.tools().check().map_err(|e| e.to_string()), Ok(()));
        let nothing = ScopedTool::new("t", "", || Ok(1)).set(|tool| tool.takes_free_text());
        let refused = ScopedToolSet::new().with(nothing).tools().check().unwrap_err();
        assert!(refused.to_string().contains("has to take a `String`"), "{refused}");
    }

    #[test]
    fn a_type_around_a_text_type_takes_free_text() {
        #[derive(serde::Deserialize, schemars::JsonSchema)]
        struct Sql(String);
        #[derive(serde::Deserialize, schemars::JsonSchema)]
        struct Query(Sql);
        let query = Tool::new("t", "", |Query(Sql(text)): Query| Ok(text.len()));
        let set = ToolSet::new().with(query.takes_free_text());
        assert_eq!(set.check().map_err(|e| e.to_string()), Ok(()));
    }

    #[test]
    fn schemas_whose_root_is_no_object_are_refused() {
        let of = |schema| refused(Tool::deferred("t", "", &schema));
        assert!(of(json!({ "type": "string" })).contains(r#"must be of type "object""#));
        assert!(of(json!({})).contains("must have the type"));
        assert!(of(json!(true)).contains("must have the type"));
        let text = Tool::new("t", "", |text: String| Ok(text));
        assert!(refused(text.into()).contains("says `takes_free_text`"));
        let number = Tool::new("t", "", |n: u8| Ok(n));
        assert!(refused(number.into()).contains("object"));
        let nothing = Tool::new("t", "", |(): ()| Ok(1)).takes_free_text();
        assert!(refused(nothing.into()).contains("has to take a `String`"));
        let nothing = Tool::new("t", "", |(): ()| Ok(1));
        assert_eq!(nothing.schema().as_str(), r#"{"properties":{},"type":"object"}"#);
        assert!(ToolSet::new().try_with(nothing).is_ok());
    }
}
