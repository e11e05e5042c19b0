//! Which functions can be handlers.

use schemars::JsonSchema;
use serde::Deserialize;
use toolpool::{CallContext, Tool, ToolError, ToolSet};

#[derive(Deserialize, JsonSchema)]
struct ById {
    id: String,
}

#[test]
fn closures_and_functions_of_every_shape_are_handlers() {
    fn plain(args: ById) -> Result<String, ToolError> {
        Ok(args.id)
    }
    fn full(args: ById, cx: &CallContext) -> Result<u32, ToolError> {
        cx.check()?;
        Ok(args.id.parse()?)
    }
    let tools = ToolSet::new()
        .with(Tool::new("none", "", || Ok(1)))
        .with(
            Tool::new("args", "", |args: ById| Ok(args.id.parse::<u32>()?))
                .writes(|a| format!("x/{}", a.id)),
        )
        .with(Tool::new("context", "", |args: ById, cx: &CallContext| {
            cx.check()?;
            let text = std::fs::read_to_string(&args.id)?;
            Ok(serde_json::json!({ "text": text }))
        }))
        .with(Tool::new("plain", "", plain))
        .with(Tool::new("full", "", full).read_only());
    tools.check().unwrap();
    assert_eq!(tools.len(), 5);
}
