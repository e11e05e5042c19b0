//! Schemas that providers would refuse, or not pass on to the model, as they are told.

use serde_json::{Value, json};
use toolpool::{Tool, ToolSet, Wire};

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "only its schema is looked at")]
enum Speed {
    /// In a hurry.
    Fast,
    /// Never mind.
    Slow,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(tag = "by", rename_all = "snake_case")]
#[allow(dead_code, reason = "only its schema is looked at")]
enum Way {
    Card { number: String },
    Bank { account: String },
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[allow(dead_code, reason = "only its schema is looked at")]
struct Payment {
    speed: Speed,
    note: Value,
    extras: Vec<Value>,
    #[serde(flatten)]
    way: Way,
}

/// The schema that a tool is told with, wherever the format puts it.
fn told(wire: Wire, tools: &ToolSet) -> Value {
    let definitions = wire.tools(tools).to_value().unwrap();
    let places = [
        "/0/input_schema",
        "/0/function/parameters",
        "/0/parameters",
        "/0/functionDeclarations/0/parametersJsonSchema",
        "/tools/0/toolSpec/inputSchema/json",
    ];
    let place = places.iter().find_map(|place| definitions.pointer(place));
    place.unwrap_or_else(|| panic!("{wire}: {definitions}")).clone()
}

#[test]
fn a_choice_at_the_root_is_told_as_its_properties_and_all_words_are_plain() {
    let tools = ToolSet::new().with(Tool::new("pay", "Pays", |_: Payment| Ok(())));
    for wire in Wire::ALL {
        let schema = told(wire, &tools);
        let properties = &schema["properties"];
        assert_eq!(properties["note"], json!({}), "{wire}");
        assert_eq!(properties["extras"], json!({"type": "array", "items": {}}), "{wire}");
        let speed = json!({"type": "string", "enum": ["fast", "slow"],
            "description": "fast: In a hurry.\nslow: Never mind."});
        assert_eq!(properties["speed"], speed, "{wire}");
        if wire == Wire::Gemini {
            assert_eq!(schema["oneOf"].as_array().map(Vec::len), Some(2));
            continue;
        }
        assert!(schema.get("oneOf").is_none(), "{wire}: {schema}");
        assert_eq!(properties["by"], json!({"type": "string", "enum": ["card", "bank"]}), "{wire}");
        let required = ["extras", "note", "speed", "by"].map(Value::from);
        let named = schema["required"].as_array().unwrap();
        assert!(required.iter().all(|name| named.contains(name)), "{wire}: {schema}");
        assert_eq!(named.len(), 4, "{wire}: {schema}");
    }
}
