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

/// A schema given by hand, refused unless its root is an object schema.
pub(crate) fn checked(schema: &Value) -> Result<Json, Error> {
    match schema.get("type") {
        Some(Value::String(kind)) if kind == "object" => Ok(Json::from_value(schema)),
        Some(other) => Err(Error::config(format_args!(
            "the schema's root must be of type \"object\", not {other}"
        ))),
        None => Err(Error::config("the schema's root must have the type \"object\"")),
    }
}
