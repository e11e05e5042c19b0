//! Who is asked: names, addresses, headers and environment variables of the providers.

use crate::turn::Wire;

/// A server that speaks the format of OpenAI Chat, with its usual address and the environment
/// variable of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Server {
    /// Cerebras; `CEREBRAS_API_KEY`.
    Cerebras,
    /// DeepSeek; `DEEPSEEK_API_KEY`.
    DeepSeek,
    /// Fireworks; `FIREWORKS_API_KEY`.
    Fireworks,
    /// Groq; `GROQ_API_KEY`.
    Groq,
    /// llama.cpp's server on this machine, port 8080; no key, or `LLAMA_API_KEY`.
    LlamaCpp,
    /// LM Studio on this machine, port 1234; no key.
    LmStudio,
    /// Mistral; `MISTRAL_API_KEY`. It may refuse a message of the user right after the results of
    /// tools. One stands there where a result holds an image or a document, which this format has
    /// no other place for, and where a conversation goes on after a run that ended with results.
    Mistral,
    /// Ollama on this machine, port 11434; no key, or `OLLAMA_API_KEY`.
    Ollama,
    /// OpenRouter; `OPENROUTER_API_KEY`.
    OpenRouter,
    /// Together; `TOGETHER_API_KEY`.
    Together,
    /// vLLM on this machine, port 8000; no key, or `VLLM_API_KEY`.
    Vllm,
    /// xAI; `XAI_API_KEY`.
    Xai,
}

impl Server {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Cerebras,
        Self::DeepSeek,
        Self::Fireworks,
        Self::Groq,
        Self::LlamaCpp,
        Self::LmStudio,
        Self::Mistral,
        Self::Ollama,
        Self::OpenRouter,
        Self::Together,
        Self::Vllm,
        Self::Xai,
    ];

    /// The stable name.
    pub fn name(self) -> &'static str {
        self.provider().name
    }

    /// The address it has as a rule.
    pub fn base_url(self) -> &'static str {
        self.provider().base_url
    }

    /// The environment variables in which its key is looked for.
    pub fn key_variables(self) -> &'static [&'static str] {
        self.provider().keys
    }

    pub(super) fn provider(self) -> Provider {
        let (name, base_url, keys, needs_key): (_, _, &'static [&'static str], _) = match self {
            Self::Cerebras => {
                ("cerebras", "https://api.cerebras.ai/v1", &["CEREBRAS_API_KEY"], true)
            }
            Self::DeepSeek => {
                ("deepseek", "https://api.deepseek.com/v1", &["DEEPSEEK_API_KEY"], true)
            }
            Self::Fireworks => {
                ("fireworks", "https://api.fireworks.ai/inference/v1", &["FIREWORKS_API_KEY"], true)
            }
            Self::Groq => ("groq", "https://api.groq.com/openai/v1", &["GROQ_API_KEY"], true),
            Self::LlamaCpp => ("llama.cpp", "http://localhost:8080/v1", &["LLAMA_API_KEY"], false),
            Self::LmStudio => ("lm-studio", "http://localhost:1234/v1", &[], false),
            Self::Mistral => ("mistral", "https://api.mistral.ai/v1", &["MISTRAL_API_KEY"], true),
            Self::Ollama => ("ollama", "http://localhost:11434/v1", &["OLLAMA_API_KEY"], false),
            Self::OpenRouter => {
                ("openrouter", "https://openrouter.ai/api/v1", &["OPENROUTER_API_KEY"], true)
            }
            Self::Together => {
                ("together", "https://api.together.xyz/v1", &["TOGETHER_API_KEY"], true)
            }
            Self::Vllm => ("vllm", "http://localhost:8000/v1", &["VLLM_API_KEY"], false),
            Self::Xai => ("xai", "https://api.x.ai/v1", &["XAI_API_KEY"], true),
        };
        Provider {
            name,
            wire: Wire::OpenAi,
            base_url,
            keys,
            needs_key,
            auth: Auth::Bearer,
            compatible: true,
        }
    }
}

/// How the key goes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Auth {
    Bearer,
    Header(&'static str),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Provider {
    pub(super) name: &'static str,
    pub(super) wire: Wire,
    /// `{region}` is filled in.
    pub(super) base_url: &'static str,
    pub(super) keys: &'static [&'static str],
    pub(super) needs_key: bool,
    pub(super) auth: Auth,
    pub(super) compatible: bool,
}

impl Provider {
    /// The one whose format it is.
    pub(super) fn of(wire: Wire) -> Self {
        let (base_url, keys, auth): (_, &'static [&'static str], _) = match wire {
            Wire::Anthropic => {
                ("https://api.anthropic.com", &["ANTHROPIC_API_KEY"], Auth::Header("x-api-key"))
            }
            Wire::OpenAi | Wire::OpenAiResponses => {
                ("https://api.openai.com/v1", &["OPENAI_API_KEY"], Auth::Bearer)
            }
            Wire::Gemini => (
                "https://generativelanguage.googleapis.com/v1beta",
                &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
                Auth::Header("x-goog-api-key"),
            ),
            Wire::Bedrock => (
                "https://bedrock-runtime.{region}.amazonaws.com",
                &["AWS_BEARER_TOKEN_BEDROCK"],
                Auth::Bearer,
            ),
            Wire::Cohere => {
                ("https://api.cohere.com", &["CO_API_KEY", "COHERE_API_KEY"], Auth::Bearer)
            }
            Wire::Ollama => ("http://localhost:11434", &["OLLAMA_API_KEY"], Auth::Bearer),
        };
        Self {
            name: wire.name(),
            wire,
            base_url,
            keys,
            needs_key: wire != Wire::Ollama,
            auth,
            compatible: false,
        }
    }
}

/// The address of a request. A query of the base address stays at the end.
pub(super) fn address(wire: Wire, base: &str, model: &str, stream: bool) -> String {
    let (base, query) = match base.split_once('?') {
        Some((base, query)) => (base, Some(query)),
        None => (base, None),
    };
    let base = base.trim_end_matches('/');
    let listed = model.split_once('/').filter(|(kind, _)| ["models", "tunedModels"].contains(kind));
    let (kind, model) = match (wire, listed) {
        // As the provider lists its models.
        (Wire::Gemini, Some((kind, model))) => (kind, encoded(model)),
        _ => ("models", encoded(model)),
    };
    let mut queries: Vec<&str> = Vec::new();
    let path = match wire {
        Wire::Anthropic if base.ends_with("/v1") => "/messages".to_owned(),
        Wire::Anthropic => "/v1/messages".to_owned(),
        Wire::OpenAi => "/chat/completions".to_owned(),
        Wire::OpenAiResponses => "/responses".to_owned(),
        Wire::Gemini if stream => {
            queries.push("alt=sse");
            format!("/{kind}/{model}:streamGenerateContent")
        }
        Wire::Gemini => format!("/{kind}/{model}:generateContent"),
        Wire::Bedrock if stream => format!("/model/{model}/converse-stream"),
        Wire::Bedrock => format!("/model/{model}/converse"),
        Wire::Cohere if base.ends_with("/v2") => "/chat".to_owned(),
        Wire::Cohere => "/v2/chat".to_owned(),
        Wire::Ollama if base.ends_with("/api") => "/chat".to_owned(),
        Wire::Ollama => "/api/chat".to_owned(),
    };
    queries.extend(query.filter(|query| !query.is_empty()));
    let mark = if queries.is_empty() { "" } else { "?" };
    format!("{base}{path}{mark}{}", queries.join("&"))
}

/// The content type that a stream is asked for as.
pub(super) fn stream_type(wire: Wire) -> &'static str {
    match wire {
        Wire::Bedrock => "application/vnd.amazon.eventstream",
        Wire::Ollama => "application/x-ndjson",
        _ => "text/event-stream",
    }
}

/// A name as one segment of a path.
fn encoded(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let plain = |wire, base| address(wire, base, "m", false);
        assert_eq!(plain(Wire::Anthropic, "http://a"), "http://a/v1/messages");
        assert_eq!(plain(Wire::Anthropic, "http://a/v1/"), "http://a/v1/messages");
        assert_eq!(plain(Wire::OpenAi, "http://a/v1"), "http://a/v1/chat/completions");
        assert_eq!(
            plain(Wire::OpenAi, "http://a/d?api-version=1"),
            "http://a/d/chat/completions?api-version=1"
        );
        assert_eq!(plain(Wire::OpenAiResponses, "http://a/v1"), "http://a/v1/responses");
        assert_eq!(plain(Wire::Cohere, "http://a"), "http://a/v2/chat");
        assert_eq!(plain(Wire::Ollama, "http://a/"), "http://a/api/chat");
        assert_eq!(
            address(Wire::Gemini, "http://a/v1beta?k=v", "g", true),
            "http://a/v1beta/models/g:streamGenerateContent?alt=sse&k=v"
        );
        let listed = |model| address(Wire::Gemini, "http://a", model, false);
        assert_eq!(listed("models/g"), "http://a/models/g:generateContent");
        assert_eq!(listed("tunedModels/g"), "http://a/tunedModels/g:generateContent");
        assert_eq!(listed("other/g"), "http://a/models/other%2Fg:generateContent");
        assert_eq!(
            address(Wire::Bedrock, "http://a", "arn:aws/x", false),
            "http://a/model/arn%3Aaws%2Fx/converse"
        );
    }

    #[test]
    fn servers_have_distinct_names_and_whole_addresses() {
        let names: std::collections::HashSet<_> =
            Server::ALL.iter().map(|server| server.name()).collect();
        assert_eq!(names.len(), Server::ALL.len());
        for server in Server::ALL {
            let url = server.base_url();
            let is_local = url.starts_with("http://localhost:");
            assert!(is_local || url.starts_with("https://"), "{url}");
            assert_eq!(is_local, !server.provider().needs_key, "{url}");
        }
    }
}
