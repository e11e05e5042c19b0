//! The providers' formats: bodies of our own writing in, replies out, each held against the
//! provider's rules and against a golden file.

pub(crate) mod checker;
mod golden;
mod made_up;

mod anthropic;
mod bedrock;
mod cohere;
mod definitions;
mod detect;
mod gemini;
mod inspect_turn;
mod misshapen;
mod mutated;
mod ollama;
mod openai;
mod openai_responses;
mod reshaped;
mod spoiled;
