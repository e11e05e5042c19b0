use toolpool::{Executor, Tool, ToolCall, ToolSet, Turn};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tools = ToolSet::new().with(Tool::new("time", "The time", || Ok("noon")).read_only());
    let executor = Executor::new(tools)?;
    let turn = Turn::from_calls([ToolCall::new("call_1", "time", "{}")]);
    for result in executor.run(&turn).results() {
        println!("{}: {}", result.id, result.content.to_text());
    }
    Ok(())
}
