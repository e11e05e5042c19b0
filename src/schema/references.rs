//! Whether a schema can be applied in bounded steps.
//!
//! A schema may come from a server that means no good. Refused are references to other documents,
//! references that lead back to where they started without going a step into the value, and
//! references that fan out into more steps than anybody's honest schema has. A recursive type,
//! which goes into the value with each round, is fine.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

/// Most subschemas that one value may have to be held against at one place.
const MOST_STEPS: u64 = 10_000;
/// Most subschemas and references on the way to one of them.
const MOST_NESTED: usize = 100;

/// Keywords with one schema, or an array of them, for the same place in the value.
const SAME_PLACE: [&str; 7] = ["allOf", "anyOf", "oneOf", "not", "if", "then", "else"];
/// Keywords whose values are a map of schemas for the same place.
const SAME_PLACE_MAPS: [&str; 2] = ["dependentSchemas", "dependencies"];
/// Keywords with one schema, or an array of them, for places inside the value.
const INSIDE: [&str; 9] = [
    "items",
    "prefixItems",
    "additionalItems",
    "contains",
    "additionalProperties",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contentSchema",
];
/// Keywords whose values are a map of schemas for places inside the value, or for reference.
const INSIDE_MAPS: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];
const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];

/// Whether the schema stands on its own and ends.
pub(super) fn check(root: &Value) -> Result<(), String> {
    let mut check = Check { root, anchors: HashMap::new(), costs: HashMap::new() };
    let all = check.all_schemas()?;
    for schema in all {
        check.cost_of(schema, 0)?;
    }
    Ok(())
}

struct Check<'a> {
    root: &'a Value,
    anchors: HashMap<&'a str, &'a Value>,
    /// What each schema costs; nothing while it is being counted.
    costs: HashMap<*const Value, Option<Cost>>,
}

#[derive(Clone, Copy)]
struct Cost {
    steps: u64,
    height: usize,
}

impl<'a> Check<'a> {
    /// Every schema there is, those that only a reference leads to included.
    fn all_schemas(&mut self) -> Result<Vec<&'a Value>, String> {
        let mut seen: HashSet<*const Value> = HashSet::new();
        let mut found = Vec::new();
        let mut pending = vec![self.root];
        let mut references = Vec::new();
        loop {
            while let Some(schema) = pending.pop() {
                if !seen.insert(schema) {
                    continue;
                }
                found.push(schema);
                for key in ["$anchor", "$dynamicAnchor"] {
                    if let Some(name) = schema.get(key).and_then(Value::as_str) {
                        self.anchors.insert(name, schema);
                    }
                }
                // A document within the document would make `#` mean another place.
                if let Some(id @ Value::String(_)) = schema.get("$id")
                    && !std::ptr::eq(schema, self.root)
                {
                    return Err(format!("the schema has a \"$id\" below its root: {id}"));
                }
                pending.extend(children(schema, &SAME_PLACE, &SAME_PLACE_MAPS));
                pending.extend(children(schema, &INSIDE, &INSIDE_MAPS));
                references.push(schema);
            }
            // Anchors may stand behind the references to them.
            for schema in references.drain(..) {
                pending.extend(self.targets(schema)?);
            }
            if pending.is_empty() {
                return Ok(found);
            }
        }
    }

    /// What it takes to hold a value against this schema at the value's own place.
    fn cost_of(&mut self, schema: &'a Value, nested: usize) -> Result<Cost, String> {
        match self.costs.get(&std::ptr::from_ref(schema)) {
            Some(Some(cost)) => return Ok(*cost),
            Some(None) => return Err("the schema refers to itself without end".to_owned()),
            None if nested > MOST_NESTED => return Err(too_nested()),
            None => self.costs.insert(schema, None),
        };
        let mut cost = Cost { steps: 1, height: 1 };
        let targets = self.targets(schema)?;
        for next in children(schema, &SAME_PLACE, &SAME_PLACE_MAPS).chain(targets) {
            let inner = self.cost_of(next, nested + 1)?;
            cost.steps = cost.steps.saturating_add(inner.steps);
            cost.height = cost.height.max(inner.height + 1);
        }
        if cost.height > MOST_NESTED {
            return Err(too_nested());
        }
        if cost.steps > MOST_STEPS {
            return Err(format!("the schema takes over {MOST_STEPS} steps at one place"));
        }
        self.costs.insert(schema, Some(cost));
        Ok(cost)
    }

    /// What the references of a schema lead to.
    fn targets(&self, schema: &Value) -> Result<Vec<&'a Value>, String> {
        let references = REFERENCES.iter().filter_map(|key| schema.get(key)?.as_str());
        references.map(|reference| self.target(reference)).collect()
    }

    fn target(&self, reference: &str) -> Result<&'a Value, String> {
        let Some(fragment) = reference.strip_prefix('#') else {
            return Err(format!("the schema refers to another document: {reference:?}"));
        };
        let fragment = percent_decoded(fragment);
        let target = if fragment.is_empty() || fragment.starts_with('/') {
            self.root.pointer(&fragment)
        } else {
            self.anchors.get(&*fragment).copied()
        };
        target.ok_or_else(|| format!("the schema refers to what it doesn't have: {reference:?}"))
    }
}

fn too_nested() -> String {
    format!("the schema's references are nested over {MOST_NESTED} deep")
}

fn children<'a>(
    schema: &'a Value,
    keywords: &'static [&str],
    maps: &'static [&str],
) -> impl Iterator<Item = &'a Value> {
    let direct = keywords.iter().filter_map(|key| schema.get(key)).flat_map(|value| {
        let one = (!value.is_array()).then_some(value);
        one.into_iter().chain(value.as_array().into_iter().flatten())
    });
    let mapped = maps.iter().filter_map(|key| schema.get(key)?.as_object());
    direct.chain(mapped.flat_map(serde_json::Map::values))
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let code = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(code) if *byte == b'%' => {
                out.push(code);
                at += 3;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(schema: &Value) -> String {
        check(schema).expect_err("a refusal")
    }

    #[test]
    fn circles_are_refused_wherever_they_go_through() {
        for key in ["$ref", "$dynamicRef"] {
            assert!(refusal(&json!({ key: "#" })).contains("without end"));
        }
        for keyword in ["allOf", "anyOf", "oneOf"] {
            let schema =
                json!({ "properties": { "a": { keyword: [{}, { "$ref": "#/properties/a" }] } } });
            assert!(refusal(&schema).contains("without end"), "{keyword}");
        }
        for keyword in ["not", "if", "then", "else"] {
            let schema = json!({ "$defs": { "a": { keyword: { "$ref": "#b" } }, "b": { "$anchor": "b", "$ref": "#/$defs/a" } } });
            assert!(refusal(&schema).contains("without end"), "{keyword}");
        }
        let schema = json!({ "dependentSchemas": { "x": { "$ref": "#" } } });
        assert!(refusal(&schema).contains("without end"));
        let hidden = json!({ "items": { "$ref": "#/x-own/a%7Eb/0" }, "x-own": { "a~b": [{ "$ref": "#/x-own/a~0b/0" }] } });
        assert!(refusal(&hidden).contains("without end"), "{}", refusal(&hidden));
        let hidden = json!({ "items": { "$ref": "#/x-own/a%20b/0" }, "x-own": { "a b": [{ "$ref": "#/x-own/a%20b/0" }] } });
        assert!(refusal(&hidden).contains("without end"), "{}", refusal(&hidden));
    }

    #[test]
    fn recursive_types_and_properties_with_telling_names_are_fine() {
        let fine = [
            json!({ "properties": { "left": { "$ref": "#" }, "right": { "$ref": "#" } } }),
            json!({ "items": { "anyOf": [{ "$ref": "#" }, { "type": "null" }] } }),
            json!({ "properties": { "$ref": { "type": "string" }, "$id": { "type": "string" } } }),
            json!({ "enum": [{ "$ref": "https://example.com" }], "default": { "$ref": "#" } }),
            json!({ "$id": "https://example.com/tool", "$ref": "#/$defs/a", "$defs": { "a": {} } }),
            json!({ "$ref": "#a", "$defs": { "a": { "$anchor": "a" } } }),
        ];
        for schema in fine {
            assert_eq!(check(&schema), Ok(()), "{schema}");
        }
    }

    #[test]
    fn references_that_multiply_are_refused() {
        let defs: serde_json::Map<_, _> = (0..40)
            .map(|n| {
                let next = json!({ "$ref": format!("#/$defs/{}", n + 1) });
                (n.to_string(), json!({ "anyOf": [next, next] }))
            })
            .chain([("40".to_owned(), json!({ "type": "string" }))])
            .collect();
        let bomb = json!({ "properties": { "a": { "$ref": "#/$defs/0" } }, "$defs": defs });
        assert!(refusal(&bomb).contains("over 10000 steps"));
    }

    #[test]
    fn a_long_chain_of_references_does_not_overflow_the_stack() {
        let defs: serde_json::Map<_, _> = (0..100_000)
            .map(|n| (n.to_string(), json!({ "$ref": format!("#/$defs/{}", n + 1) })))
            .collect();
        let chain = json!({ "$ref": "#/$defs/0", "$defs": defs });
        assert!(refusal(&chain).contains("doesn't have"));
        let mut chain = chain;
        chain["$defs"]["100000"] = json!({});
        assert!(refusal(&chain).contains("over 100 deep"));
    }

    #[test]
    fn a_document_within_the_document_is_refused() {
        let schema =
            json!({ "properties": { "a": { "$id": "https://example.com/b", "$ref": "#" } } });
        assert!(refusal(&schema).contains("below its root"));
    }
}
