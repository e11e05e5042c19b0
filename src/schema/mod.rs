//! The schema of a tool's arguments, and with the feature `schema` the check of arguments against
//! it.
//!
//! No network and no file: a schema stands on its own or is refused.

#[cfg(feature = "wire")]
mod plain;
#[cfg(feature = "schema")]
mod references;
#[cfg(feature = "wire")]
mod root;
#[cfg(not(feature = "schema"))]
mod unchecked;
#[cfg(feature = "schema")]
mod validator;

#[cfg(not(feature = "schema"))]
pub(crate) use unchecked::Validator;
#[cfg(feature = "schema")]
pub(crate) use validator::Validator;

use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::Value;

use crate::error::Error;
use crate::json::Json;

/// An argument type.
#[doc(hidden)]
#[derive(Debug)]
pub struct Type {
    pub(crate) schema: Result<Json, Error>,
    pub(crate) is_text: bool,
}

impl Type {
    /// That of a tool without arguments.
    pub(crate) fn nothing() -> Self {
        Self { schema: Ok(empty()), is_text: false }
    }
}

/// An argument type with its schema, subschemas inlined where that is possible: several providers
/// refuse `$ref`, and all refuse a root that is no object.
pub(crate) fn of_type<A: JsonSchema>() -> Type {
    described(|generator| generator.root_schema_for::<A>())
}

fn described(schema_of: fn(&mut SchemaGenerator) -> Schema) -> Type {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    let schema = schema_of(&mut settings.into_generator());
    let kind = schema.get("type").and_then(Value::as_str);
    let is_text = kind == Some("string");
    let schema = match kind {
        Some("null") => Ok(empty()),
        _ => check(schema.as_value()).map(|()| untitled(&schema)),
    };
    Type { schema, is_text }
}

/// A schema without its root's title, which is the Rust type's name.
fn untitled(schema: &Schema) -> Json {
    let members = schema.as_object().into_iter().flatten().filter(|(name, _)| *name != "title");
    let written = members.map(|(name, value)| format!("{}:{value}", Value::from(name.as_str())));
    Json::valid(format!("{{{}}}", written.collect::<Vec<_>>().join(",")))
}

/// The schema of a tool without arguments.
pub(crate) fn empty() -> Json {
    Json::valid(r#"{"properties":{},"type":"object"}"#)
}

/// The schema of a tool that takes free text, for those providers that have no such tools.
pub(crate) fn of_text() -> Json {
    Json::valid(
        r#"{"additionalProperties":false,"properties":{"input":{"type":"string"}},"required":["input"],"type":"object"}"#,
    )
}

/// The text in arguments that are as [`of_text`] says, as a JSON string.
pub(crate) fn text_of(arguments: &str) -> Option<&str> {
    let member = arguments.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
    let input = member.strip_prefix(r#""input""#)?.trim_start().strip_prefix(':')?.trim();
    let read: Value = input.parse().ok()?;
    read.is_string().then_some(input)
}

/// The schema as a request tells it: in plain words, and where that is wanted with no choice at its
/// root. One that no tree can hold is told as it is.
#[cfg(feature = "wire")]
pub(crate) fn told(schema: &Json, may_choose: bool) -> Json {
    let Ok(value) = schema.to_value() else { return schema.clone() };
    let root = if may_choose { value } else { root::without_choice(value) };
    Json::from_value(&plain::plain(&root))
}

/// A schema given by hand, refused unless its root is an object schema.
pub(crate) fn checked(schema: &Value) -> Result<Json, Error> {
    check(schema).map(|()| Json::from_value(schema))
}

fn check(schema: &Value) -> Result<(), Error> {
    match schema.get("type") {
        Some(Value::String(kind)) if kind == "object" => Ok(()),
        Some(other) => Err(Error::config(format_args!(
            "the schema's root must be of type \"object\", not {other}{}",
            match other.as_str() {
                Some("string") => "; a tool whose handler takes a `String` says `takes_free_text`",
                _ => "",
            }
        ))),
        None => Err(Error::config("the schema's root must have the type \"object\"")),
    }
}
