//! The providers' formats: bodies of our own writing in, replies out, each held against the
//! provider's rules and against a golden file.

mod checker;
mod cohere;
mod golden;
mod made_up;

mod anthropic;
mod bedrock;
mod gemini;
mod ollama;
mod openai;
mod openai_responses;
