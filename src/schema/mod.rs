//! The schema of a tool's arguments, and with the feature `schema` the check of arguments against
//! it.
//!
//! No network and no file: a schema stands on its own or is refused.

#[cfg(feature = "schema")]
mod references;
#[cfg(not(feature = "schema"))]
mod unchecked;
#[cfg(feature = "schema")]
mod validator;

#[cfg(not(feature = "schema"))]
pub(crate) use unchecked::Validator;
#[cfg(feature = "schema")]
pub(crate) use validator::Validator;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::Error;
use crate::json::Json;

/// The schema of an argument type, its subschemas inlined where that is possible: several
/// providers refuse `$ref`, and all refuse a root that is no object.
pub(crate) fn of_type<A: JsonSchema>() -> Result<Json, Error> {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    let mut schema = settings.into_generator().into_root_schema_for::<A>().to_value();
    if let Some(root) = schema.as_object_mut() {
        root.remove("title");
        if root.get("type").and_then(Value::as_str) == Some("null") {
            return Ok(empty());
        }
    }
    checked(&schema)
}

/// The schema of a tool without arguments.
pub(crate) fn empty() -> Json {
    Json::from_value(&serde_json::json!({ "type": "object", "properties": {} }))
}

/// Whether an argument type is a text.
pub(crate) fn is_text<A: JsonSchema>() -> bool {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<A>();
    schema.get("type").and_then(Value::as_str) == Some("string")
}

/// The schema of a tool that takes free text, for those providers that have no such tools.
pub(crate) fn of_text() -> Json {
    Json::from_value(&serde_json::json!({
        "type": "object",
        "properties": { "input": { "type": "string" } },
        "required": ["input"],
        "additionalProperties": false,
    }))
}

/// The text in arguments that are as [`of_text`] says, as a JSON string.
pub(crate) fn text_of(arguments: &str) -> Option<&str> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Given<'a> {
        #[serde(borrow)]
        input: &'a RawValue,
    }
    let given: Given<'_> = serde_json::from_str(arguments).ok()?;
    Some(given.input.get()).filter(|input| input.starts_with('"'))
}

/// A schema given by hand, refused unless its root is an object schema.
pub(crate) fn checked(schema: &Value) -> Result<Json, Error> {
    match schema.get("type") {
        Some(Value::String(kind)) if kind == "object" => Ok(Json::from_value(schema)),
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
