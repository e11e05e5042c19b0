// Without its feature `reqwest` it can't ask a model: the request is all that there is to make.
use rig_core::completion::CompletionRequest;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let request = CompletionRequest::new("What time is it?").temperature(0.2);
    request.validate_message_content()?;
    println!("{}", serde_json::to_string(&request.chat_history)?);
    Ok(())
}
