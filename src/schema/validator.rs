//! Checks arguments against a schema and tells a model what doesn't fit.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use jsonschema::error::ValidationErrorKind;
use jsonschema::paths::{Location, LocationSegment};
use jsonschema::{PatternOptions, ValidationError};
use serde_json::Value;

use crate::error::{Error, bounded_to};
use crate::json::Json;
use crate::schema::references;

/// Most problems that are told of one call's arguments.
const MOST_PROBLEMS: usize = 3;
/// Most bytes of one problem.
const PROBLEM_LIMIT: usize = 300;
/// Most bytes of what the model wrote that are quoted back to it.
const QUOTE_LIMIT: usize = 40;
/// How often a pattern with look-around may backtrack; others never do.
const BACKTRACK_LIMIT: usize = 100_000;
/// Most bytes a compiled pattern may take.
const PATTERN_LIMIT: usize = 1 << 20;

/// A compiled schema. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Validator(Arc<jsonschema::Validator>);

impl Validator {
    /// Compiles a schema, without looking at anything outside of it.
    ///
    /// # Errors
    /// A schema that isn't one, a reference to another document, references that go in circles
    /// or multiply without end, a pattern that is no regular expression or too large.
    pub(crate) fn compile(schema: &Json) -> Result<Self, Error> {
        let schema = schema.to_value().map_err(Error::config)?;
        references::check(&schema).map_err(Error::config)?;
        let patterns = PatternOptions::fancy_regex()
            .backtrack_limit(BACKTRACK_LIMIT)
            .size_limit(PATTERN_LIMIT)
            .dfa_size_limit(PATTERN_LIMIT);
        let options = jsonschema::options().offline().with_pattern_options(patterns);
        match options.build(&schema) {
            Ok(validator) => Ok(Self(Arc::new(validator))),
            Err(error) => Err(Error::config(format_args!(
                "the schema can't be used: {}{}",
                error.masked_with(Quote(error.instance()).to_string()),
                At(error.instance_path()),
            ))),
        }
    }

    /// Checks the text of arguments; what is wrong is told in a few words, each with its path.
    pub(crate) fn validate(&self, arguments: &str) -> Result<(), String> {
        let arguments = serde_json::from_str(arguments).map_err(|error| error.to_string())?;
        if self.0.is_valid(&arguments) {
            return Ok(());
        }
        let mut problems = self.0.iter_errors(&arguments);
        let told: Vec<_> =
            problems.by_ref().take(MOST_PROBLEMS).map(|error| problem(&error)).collect();
        let mut text = told.join("; ");
        match problems.take(100).count() {
            0 => {}
            100 => text.push_str("; and many more"),
            more => {
                // Writing to a string can't fail.
                let _ = write!(text, "; and {more} more");
            }
        }
        Err(text)
    }
}

fn problem(error: &ValidationError<'_>) -> String {
    let at = At(error.instance_path());
    let what = error.masked_with(Quote(error.instance()).to_string());
    let problem = match error.kind() {
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            let forms = Forms { of: error.instance_path(), errors: context };
            format!("{} fits none of the allowed forms{at} ({forms})", Quote(error.instance()))
        }
        ValidationErrorKind::FalseSchema => {
            format!("{} isn't allowed{at}", Quote(error.instance()))
        }
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let keys: Vec<_> = unexpected.iter().take(5).map(|key| format!("`{key}`")).collect();
            let fields = if unexpected.len() == 1 { "field" } else { "fields" };
            format!("unknown {fields} {}{at}", keys.join(", "))
        }
        ValidationErrorKind::Required { property: Value::String(key) } => {
            format!("missing field `{key}`{at}")
        }
        _ => format!("{what}{at}"),
    };
    bounded_to(&problem, PROBLEM_LIMIT)
}

/// What each of several allowed forms misses first, at most three of them.
struct Forms<'a> {
    of: &'a Location,
    errors: &'a [Vec<ValidationError<'static>>],
}

impl fmt::Display for Forms<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.errors.iter().filter_map(|errors| errors.first());
        for (n, error) in first.take(3).enumerate() {
            let or = if n == 0 { "" } else { ", or " };
            write!(f, "{or}{}", error.masked_with(Quote(error.instance()).to_string()))?;
            if error.instance_path() != self.of {
                write!(f, "{}", At(error.instance_path()))?;
            }
        }
        Ok(())
    }
}

/// A value of the model's, cut.
struct Quote<'a>(&'a Value);

impl fmt::Display for Quote<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bounded_to(self.0, QUOTE_LIMIT))
    }
}

/// A place, as `` at `items[2].count` ``; nothing for the whole.
struct At<'a>(&'a Location);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        f.write_str(" at `")?;
        for (n, segment) in self.0.segments().enumerate() {
            match segment {
                LocationSegment::Index(index) => write!(f, "[{index}]")?,
                LocationSegment::Property(key) if n == 0 => f.write_str(&key)?,
                LocationSegment::Property(key) => write!(f, ".{key}")?,
            }
        }
        f.write_str("`")
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use super::*;

    fn compiled(schema: &Value) -> Validator {
        Validator::compile(&Json::from_value(schema)).unwrap()
    }

    fn refused(schema: &Value) -> String {
        match Validator::compile(&Json::from_value(schema)) {
            Ok(_) => panic!("not refused: {schema}"),
            Err(error) => {
                assert!(error.is_config());
                error.to_string()
            }
        }
    }

    fn orders() -> Validator {
        compiled(&json!({
            "type": "object",
            "properties": {
                "id": { "type": "integer", "minimum": 1 },
                "color": { "enum": ["red", "green"] },
                "items": { "type": "array", "items": {
                    "type": "object",
                    "properties": { "count": { "type": "integer" }, "sku": { "pattern": "^[A-Z]{3}$" } },
                    "required": ["count"]
                } },
                "to": { "anyOf": [{ "type": "integer" }, { "type": "object", "required": ["city"] }] }
            },
            "required": ["id"],
            "additionalProperties": false
        }))
    }

    #[test]
    fn fault_089_what_does_not_fit_is_told_with_its_path() {
        let orders = orders();
        let problem = |arguments| orders.validate(arguments).unwrap_err();
        assert_eq!(orders.validate(r#"{"id":1,"items":[{"count":2,"sku":"ABC"}]}"#), Ok(()));
        assert_eq!(problem("{}"), "missing field `id`");
        assert_eq!(problem(r#"{"id":1,"items":[{}]}"#), "missing field `count` at `items[0]`");
        assert_eq!(problem(r#"{"id":"1"}"#), r#""1" is not of type "integer" at `id`"#);
        assert_eq!(problem(r#"{"id":0}"#), "0 is less than the minimum of 1 at `id`");
        assert_eq!(problem(r#"{"id":1,"colour":"red"}"#), "unknown field `colour`");
        assert_eq!(
            problem(r#"{"id":1,"color":"blue"}"#),
            r#""blue" is not one of "red" or "green" at `color`"#
        );
        assert_eq!(
            problem(r#"{"id":1,"items":[{"count":1},{"count":"2"}]}"#),
            r#""2" is not of type "integer" at `items[1].count`"#
        );
        assert_eq!(
            problem(r#"{"id":1,"items":[{"count":1,"sku":"abc"}]}"#),
            r#""abc" does not match "^[A-Z]{3}$" at `items[0].sku`"#
        );
        assert_eq!(
            problem(r#"{"id":1,"to":"Rome"}"#),
            r#""Rome" fits none of the allowed forms at `to` ("Rome" is not of type "integer", or "Rome" is not of type "object")"#
        );
        assert!(problem("{").contains("EOF"));
    }

    #[test]
    fn many_and_large_problems_stay_short() {
        let items: Vec<_> =
            (0..1000).map(|n| json!({ "count": format!("{n}{}", "x".repeat(9000)) })).collect();
        let text = orders().validate(&json!({ "id": 1, "items": items }).to_string()).unwrap_err();
        assert!(text.len() < 1000, "{}", text.len());
        assert_eq!(text.matches("; ").count(), MOST_PROBLEMS);
        assert!(text.ends_with("and many more"), "{text}");
        let keys: serde_json::Map<_, _> =
            (0..1000).map(|n| (format!("{n}{}", "k".repeat(9000)), json!(1))).collect();
        assert!(orders().validate(&Value::Object(keys).to_string()).unwrap_err().len() < 1000);
    }

    #[test]
    fn fault_090_other_documents_are_refused_and_never_fetched() {
        for reference in [
            "https://example.com/schema.json",
            "http://127.0.0.1:1/s",
            "file:///etc/passwd",
            "other.json#/x",
            "//example.com/x",
            "urn:x:y",
        ] {
            let started = Instant::now();
            let schema = json!({ "type": "object", "properties": { "a": { "$ref": reference } } });
            let refusal = refused(&schema);
            assert!(refusal.contains(reference), "{refusal}");
            assert!(started.elapsed() < Duration::from_secs(5));
        }
        refused(&json!({ "type": "object", "$schema": "https://example.com/draft-99" }));
    }

    #[test]
    fn fault_090_patterns_that_are_none_or_too_large_are_refused() {
        for pattern in ["(", "(?<", "[z-a]", r"((a{1000}){1000}){1000}"] {
            let schema = json!({ "type": "object", "properties": { "a": { "pattern": pattern } } });
            refused(&schema);
        }
        refused(&json!({ "type": "object", "patternProperties": { "(": {} } }));
        refused(&json!({
            "type": "object",
            "properties": { "a": { "$ref": "#/$defs/tree" } },
            "$defs": { "tree": { "properties": { "a": { "$ref": "#/$defs/tree" }, "b": { "pattern": "(" } } } }
        }));
    }

    #[test]
    fn fault_090_a_pattern_that_backtracks_without_end_is_stopped() {
        let patterns = [r"^(a+)+$", r"^(?=(a+)+$)(a|a)*b$", r"^((?!b)a|aa)*(?=c)$", r"^(a|a)*\1$"];
        let long = format!("{}!", "a".repeat(50_000));
        for pattern in patterns {
            let schema = json!({ "type": "object", "properties": { "a": { "pattern": pattern } } });
            let started = Instant::now();
            let text = compiled(&schema).validate(&json!({ "a": long }).to_string()).unwrap_err();
            assert!(text.len() < 500, "{text}");
            assert!(started.elapsed() < Duration::from_secs(5), "{pattern}");
        }
    }

    #[test]
    fn fault_090_references_that_never_end_are_refused_and_recursive_types_are_not() {
        refused(&json!({ "type": "object", "$ref": "#" }));
        let list = json!({
            "type": "object",
            "properties": { "value": { "type": "integer" }, "next": { "$ref": "#" } }
        });
        let list = compiled(&list);
        assert_eq!(list.validate(r#"{"value":1,"next":{"value":2}}"#), Ok(()));
        let problem = list.validate(r#"{"next":{"next":{"value":"x"}}}"#).unwrap_err();
        assert_eq!(problem, r#""x" is not of type "integer" at `next.next.value`"#);
    }

    #[test]
    fn a_schema_that_is_none_is_refused() {
        let refusal =
            refused(&json!({ "type": "object", "properties": { "a": { "type": "int" } } }));
        assert!(refusal.contains("properties.a.type"), "{refusal}");
        refused(&json!({ "type": "object", "required": "a" }));
    }
}
