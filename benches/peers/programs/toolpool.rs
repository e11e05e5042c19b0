use toolpool::model::Client;
use toolpool::{Agent, Tool, ToolSet};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tools = ToolSet::new().with(Tool::new("time", "The time", || Ok("noon")).read_only());
    let agent = Agent::builder(Client::openai("gpt-5").build()?, tools).build()?;
    println!("{}", agent.ask("What time is it?")?);
    Ok(())
}
