use genai::Client;
use genai::chat::{ChatMessage, ChatRequest};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let request = ChatRequest::new(vec![ChatMessage::user("What time is it?")]);
    let client = Client::new()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let response = runtime.block_on(client.exec_chat("gpt-5", request, None))?;
    println!("{:?}", response.first_text());
    Ok(())
}
