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

/// What the compiler says where a handler doesn't fit. Its wording is the compiler's own in part,
/// so there are few of these, and they are held against one version of it; that such code doesn't
/// compile at all is tested by the documentation of `Handler`. Renewed with
/// `TRYBUILD=overwrite cargo test --test it handlers`.
#[test]
fn messages_say_what_to_write() {
    let rustc = std::process::Command::new("rustc").arg("--version").output().unwrap();
    if !rustc.stdout.starts_with(b"rustc 1.95.") {
        return;
    }
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
