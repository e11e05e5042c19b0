//! A root that is no choice between schemas: Anthropic and OpenAI refuse a request with one.

use serde_json::{Map, Value, json};

/// Keywords that a root can't have, those of choices first.
const REFUSED: [&str; 5] = ["allOf", "anyOf", "oneOf", "enum", "not"];
/// How deep choices may stand in each other, and references in them.
const DEPTH: usize = 16;

/// The schema with the properties of all choices at its root, where those required are that every
/// choice requires. It allows more than the schema itself, by which arguments are still judged.
pub(super) fn without_choice(root: Value) -> Value {
    match &root {
        Value::Object(map) if REFUSED.iter().any(|key| map.contains_key(*key)) => {
            Value::Object(merged(map, &root, DEPTH))
        }
        _ => root,
    }
}

fn merged(schema: &Map<String, Value>, root: &Value, depth: usize) -> Map<String, Value> {
    let mut whole = schema.clone();
    let mut properties = match whole.remove("properties") {
        Some(Value::Object(properties)) => properties,
        _ => Map::new(),
    };
    let mut required = names(schema);
    for key in REFUSED {
        let Some(Value::Array(choices)) = whole.remove(key) else { continue };
        if depth == 0 || key == "enum" {
            continue;
        }
        let mut by_all: Option<Vec<Value>> = None;
        for choice in &choices {
            let choice = resolved(choice, root).map(|choice| merged(choice, root, depth - 1));
            let choice = choice.unwrap_or_default();
            let needs = names(&choice);
            match &mut by_all {
                Some(by_all) if key == "allOf" => by_all.extend(needs),
                Some(by_all) => by_all.retain(|name| needs.contains(name)),
                None => by_all = Some(needs),
            }
            let Some(Value::Object(more)) = choice.get("properties") else { continue };
            for (name, schema) in more {
                add(&mut properties, name, schema);
            }
        }
        for name in by_all.unwrap_or_default() {
            if !required.contains(&name) {
                required.push(name);
            }
        }
    }
    whole.insert("properties".to_owned(), Value::Object(properties));
    if !required.is_empty() {
        whole.insert("required".to_owned(), Value::Array(required));
    }
    whole
}

/// The schema that a choice is, or that it refers to.
fn resolved<'a>(choice: &'a Value, root: &'a Value) -> Option<&'a Map<String, Value>> {
    let reference = choice.get("$ref").and_then(Value::as_str);
    let there = reference.and_then(|at| root.pointer(at.strip_prefix('#')?));
    there.unwrap_or(choice).as_object()
}

fn names(schema: &Map<String, Value>) -> Vec<Value> {
    schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default()
}

/// Adds a property; where there is one of the name, it may be either.
fn add(properties: &mut Map<String, Value>, name: &str, schema: &Value) {
    let Some(had) = properties.get_mut(name) else {
        properties.insert(name.to_owned(), schema.clone());
        return;
    };
    if had == schema {
        return;
    }
    match had.as_object_mut() {
        Some(either) if either.len() == 1 && either.contains_key("anyOf") => {
            let either = either.get_mut("anyOf").and_then(Value::as_array_mut);
            either.into_iter().for_each(|either| either.push(schema.clone()));
        }
        _ => *had = json!({ "anyOf": [had, schema] }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schema: Value, expected: &Value) {
        assert_eq!(&without_choice(schema.clone()), expected, "{schema}");
    }

    #[test]
    fn a_root_without_a_choice_stays_as_it_is() {
        let schema = json!({"type": "object", "properties": {
            "anyOf": {"anyOf": [{"type": "null"}, {"type": "string"}]}}});
        check(schema.clone(), &schema);
    }

    #[test]
    fn the_properties_of_all_choices_are_the_roots() {
        let card = json!({"type": "object", "required": ["by", "number"],
            "properties": {"by": {"enum": ["card"]}, "number": {"type": "string"}}});
        let bank = json!({"type": "object", "required": ["by", "account"],
            "properties": {"by": {"enum": ["bank"]}, "account": {"type": "string"}}});
        check(
            json!({"type": "object", "properties": {"cents": {"type": "integer"}},
                "required": ["cents"], "oneOf": [card, bank]}),
            &json!({"type": "object", "required": ["cents", "by"], "properties": {
                "cents": {"type": "integer"},
                "by": {"anyOf": [{"enum": ["card"]}, {"enum": ["bank"]}]},
                "number": {"type": "string"}, "account": {"type": "string"}}}),
        );
    }

    #[test]
    fn what_all_of_require_is_required_and_references_are_followed() {
        check(
            json!({"type": "object", "$defs": {"a": {"properties": {"x": {"type": "integer"}},
                "required": ["x"], "anyOf": [{"$ref": "#/$defs/a"}]}},
                "allOf": [{"$ref": "#/$defs/a"},
                    {"properties": {"x": {"type": "string"}, "y": {}}, "required": ["y"]},
                    {"properties": {"x": {"type": "null"}}}],
                "not": {"required": ["z"]}}),
            &json!({"type": "object", "required": ["x", "y"],
                "$defs": {"a": {"properties": {"x": {"type": "integer"}},
                    "required": ["x"], "anyOf": [{"$ref": "#/$defs/a"}]}},
                "properties": {"y": {}, "x": {"anyOf": [
                    {"type": "integer"}, {"type": "string"}, {"type": "null"}]}}}),
        );
    }

    #[test]
    fn a_choice_of_what_is_required_loses_it() {
        check(
            json!({"type": "object", "properties": {"a": {}, "b": {}},
                "anyOf": [{"required": ["a"]}, {"required": ["b"]}, true]}),
            &json!({"type": "object", "properties": {"a": {}, "b": {}}}),
        );
    }
}
