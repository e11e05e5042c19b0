//! Spells a schema so that all providers and servers take it and pass it on to the model; what it
//! allows stays the same.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

/// Keywords that hold a schema, or a list of them.
const HOLD_ONE: [&str; 16] = [
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "oneOf",
    "prefixItems",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];
/// Of them, those that everybody knows as a yes or a no.
const MAY_BE_BOOL: [&str; 4] =
    ["additionalItems", "additionalProperties", "unevaluatedItems", "unevaluatedProperties"];
/// Keywords that hold schemas by name.
const HOLD_NAMED: [&str; 5] =
    ["$defs", "definitions", "dependentSchemas", "patternProperties", "properties"];

/// The schema in plainer words:
///
/// - `true` as `{}`: Ollama and llama.cpp can't read it;
/// - `const` as an `enum` of one, and a choice of texts that are each described as an `enum` whose
///   description names them: Gemini and Ollama don't tell the model of the others;
/// - a list says that its `items` may be anything: OpenAI wants to hear it.
pub(super) fn plain(schema: &Value) -> Value {
    let map = match schema {
        Value::Bool(true) => return json!({}),
        Value::Bool(false) => return json!({ "not": {} }),
        Value::Object(map) => map,
        other => return other.clone(),
    };
    let mut plainer: Map<_, _> =
        map.iter().map(|(key, value)| (key.clone(), keyword(key, value))).collect();
    if !plainer.contains_key("enum")
        && let Some(only) = plainer.remove("const")
    {
        plainer.insert("enum".to_owned(), json!([only]));
    }
    let is_list = plainer.get("type").is_some_and(|kind| kind == "array");
    if is_list && !["items", "prefixItems", "$ref"].iter().any(|key| plainer.contains_key(*key)) {
        plainer.insert("items".to_owned(), json!({}));
    }
    join_texts(&mut plainer);
    Value::Object(plainer)
}

fn keyword(key: &str, value: &Value) -> Value {
    match value {
        Value::Bool(_) if MAY_BE_BOOL.contains(&key) => value.clone(),
        Value::Array(schemas) if HOLD_ONE.contains(&key) => schemas.iter().map(plain).collect(),
        _ if HOLD_ONE.contains(&key) => plain(value),
        Value::Object(named) if HOLD_NAMED.contains(&key) => {
            named.iter().map(|(name, schema)| (name.clone(), plain(schema))).collect()
        }
        _ => value.clone(),
    }
}

/// Makes one `enum` of a choice between texts.
fn join_texts(schema: &mut Map<String, Value>) {
    let is_free = |key| schema.get(key).is_none();
    let has_kind = schema.get("type").is_some_and(|kind| kind != "string");
    let Some(key) = ["oneOf", "anyOf"].into_iter().find(|key| schema.contains_key(*key)) else {
        return;
    };
    if has_kind || !is_free("enum") || !(is_free("oneOf") || is_free("anyOf")) {
        return;
    }
    let choices = schema.get(key).and_then(Value::as_array).into_iter().flatten();
    let Some(choices) = choices.map(texts).collect::<Option<Vec<_>>>() else { return };
    let mut all: Vec<_> = choices.iter().flat_map(|(texts, _)| texts.iter().copied()).collect();
    let told = all.len();
    let mut seen = HashSet::new();
    all.retain(|text| seen.insert(*text));
    // Of `oneOf` a text that two choices have is allowed by neither.
    if all.is_empty() || key == "oneOf" && all.len() < told {
        return;
    }
    let own = schema.get("description").and_then(Value::as_str).map(str::to_owned);
    let each = choices.iter().filter_map(|(texts, description)| {
        description.map(|description| format!("{}: {description}", texts.join(", ")))
    });
    let lines: Vec<_> = own.into_iter().chain(each).collect();
    let all = json!(all);
    schema.remove(key);
    schema.insert("type".to_owned(), json!("string"));
    schema.insert("enum".to_owned(), all);
    if !lines.is_empty() {
        schema.insert("description".to_owned(), json!(lines.join("\n")));
    }
}

/// The texts that a schema allows, and what it says of them, where it is no more than that.
fn texts(schema: &Value) -> Option<(Vec<&str>, Option<&str>)> {
    let map = schema.as_object()?;
    let known = ["description", "enum", "title", "type"];
    let is_plain = map.keys().all(|key| known.contains(&key.as_str()))
        && map.get("type").is_none_or(|kind| kind == "string");
    let texts = map.get("enum")?.as_array()?.iter().map(Value::as_str).collect::<Option<_>>()?;
    let description = map.get("description").and_then(Value::as_str);
    is_plain.then_some((texts, description.filter(|description| !description.is_empty())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schema: Value, expected: Value) {
        let made = plain(&schema);
        assert_eq!(made, expected, "{schema}");
        assert_eq!(plain(&made), expected, "once more");
    }

    #[test]
    fn yes_and_no_are_schemas_where_a_schema_stands() {
        check(
            json!({"type": "object", "additionalProperties": false, "default": true,
                "properties": {"any": true, "none": false, "list": {"type": "array", "items": true}}}),
            json!({"type": "object", "additionalProperties": false, "default": true,
                "properties": {"any": {}, "none": {"not": {}}, "list": {"type": "array", "items": {}}}}),
        );
        check(json!({"anyOf": [true, {"not": true}]}), json!({"anyOf": [{}, {"not": {}}]}));
    }

    #[test]
    fn what_is_a_value_stays_as_it_is() {
        for value in [json!([{"const": 1}]), json!({"items": true}), json!({"type": "array"})] {
            check(json!({"default": value}), json!({"default": value}));
            check(json!({"enum": [value]}), json!({"enum": [value]}));
            check(json!({"const": value}), json!({"enum": [value]}));
        }
        // A property may have any name.
        check(
            json!({"properties": {"const": {"const": 1}, "items": {"type": "integer"}}}),
            json!({"properties": {"const": {"enum": [1]}, "items": {"type": "integer"}}}),
        );
    }

    #[test]
    fn a_list_of_anything_says_so() {
        check(json!({"type": "array"}), json!({"type": "array", "items": {}}));
        let pair = json!({"type": "array", "prefixItems": [{"type": "string"}, {"type": "null"}]});
        check(pair.clone(), pair);
    }

    #[test]
    fn texts_that_are_described_are_one_choice() {
        check(
            json!({"description": "How.", "oneOf": [
                {"const": "fast", "type": "string", "description": "In a hurry."},
                {"enum": ["slow", "steady"], "type": "string"},
                {"const": "never", "description": "Not at all."}]}),
            json!({"type": "string", "enum": ["fast", "slow", "steady", "never"],
                "description": "How.\nfast: In a hurry.\nnever: Not at all."}),
        );
        check(
            json!({"anyOf": [{"const": "a", "description": ""}, {"enum": ["b", "a"]}]}),
            json!({"type": "string", "enum": ["a", "b"]}),
        );
        for other in [
            json!({"oneOf": [{"enum": ["a"]}, {"enum": ["a", "b"]}]}),
            json!({"oneOf": [{"enum": ["a"]}, {"type": "null"}]}),
            json!({"oneOf": [{"enum": ["a"]}, {"enum": [1]}]}),
            json!({"anyOf": [{"enum": ["a"], "minLength": 3}]}),
            json!({"oneOf": [{"enum": ["a"]}], "enum": ["a"]}),
            json!({"oneOf": []}),
        ] {
            check(other.clone(), other);
        }
    }
}
