use rig::prelude::*;
use rig::providers::openai::{self, OpenAI};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let agent = AgentBuilder::new(OpenAI::from_env()?.completion(openai::GPT_5_2)).build();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!("{}", runtime.block_on(async { agent.prompt("What time is it?").await })?.output());
    Ok(())
}
