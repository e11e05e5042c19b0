use async_openai::Client;
use async_openai::types::chat::{
    ChatCompletionRequestUserMessageArgs, CreateChatCompletionRequestArgs,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let question =
        ChatCompletionRequestUserMessageArgs::default().content("What time is it?").build()?;
    let request = CreateChatCompletionRequestArgs::default()
        .model("gpt-5")
        .messages([question.into()])
        .build()?;
    let client = Client::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let response = runtime.block_on(client.chat().create(request))?;
    println!("{:?}", response.choices[0].message.content);
    Ok(())
}
