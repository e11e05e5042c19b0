use toolpool::{Executor, Tool, ToolSet, Wire};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tools = ToolSet::new().with(Tool::new("time", "The time", || Ok("noon")).read_only());
    let executor = Executor::new(tools)?;
    let turn = Wire::OpenAi.parse(&std::fs::read_to_string("body.json")?)?;
    for message in turn.reply(&executor.run(&turn)) {
        println!("{message}");
    }
    Ok(())
}
