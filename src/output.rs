//! What a handler gives: text, JSON, or content blocks.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, ToolError};
use crate::json::Json;

/// The result of a call that succeeded.
///
/// A handler seldom makes one: whatever it returns is serialised, a top-level string as text and
/// everything else as JSON. An `Output` is for content blocks, and for JSON that must keep its
/// bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Output {
    /// Text for the model.
    Text {
        /// The text.
        text: String,
    },
    /// A JSON value, as its text.
    Json {
        /// The JSON text.
        text: String,
    },
    /// Content blocks, in order.
    Blocks {
        /// The blocks.
        blocks: Vec<Block>,
    },
}

/// A piece of content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Block {
    /// Text.
    Text {
        /// The text.
        text: String,
    },
    /// An image. Where a format has no place for it in a result, it follows in a message of its own or
    /// is told in words; Gemini's models before version 3 refuse it.
    Image {
        /// Its media type, such as `image/png`.
        media_type: String,
        /// Its bytes in base64.
        base64: String,
    },
    /// A document, such as a PDF; as for an image.
    Document {
        /// Its media type, such as `application/pdf`.
        media_type: String,
        /// Its bytes in base64.
        base64: String,
        /// Its name, where it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
}

impl Output {
    /// Text for the model.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into() }
    }

    /// JSON that is kept byte for byte.
    pub fn json(json: &Json) -> Self {
        Self::Json { text: json.as_str().to_owned() }
    }

    /// What a handler's value becomes: a top-level string is text, all else JSON.
    ///
    /// # Errors
    /// A value that JSON can't hold, such as a map whose keys are no strings.
    pub fn of(value: &(impl Serialize + ?Sized)) -> Result<Self, ToolError> {
        Ok(Self::from_json_text(serde_json::to_string(value)?))
    }

    /// Content blocks.
    pub fn blocks(blocks: impl IntoIterator<Item = Block>) -> Self {
        Self::Blocks { blocks: blocks.into_iter().collect() }
    }

    pub(crate) fn from_json_text(text: String) -> Self {
        if text.starts_with('"')
            && let Ok(Value::String(text)) = text.parse()
        {
            return Self::Text { text };
        }
        Self::Json { text }
    }

    /// The output as one text, for providers and readers that take only text: JSON as it stands,
    /// of blocks the texts, with a note in the place of each medium.
    pub fn to_text(&self) -> String {
        match self {
            Self::Text { text } | Self::Json { text } => text.clone(),
            Self::Blocks { blocks } => {
                let parts: Vec<_> = blocks.iter().map(Block::to_text).collect();
                parts.join("\n")
            }
        }
    }

    pub(crate) fn redact(&mut self, redact: &mut dyn FnMut(&str) -> String) {
        match self {
            Self::Text { text } => *text = redact(text),
            Self::Json { text } => *self = Self::from_json_or_text(redact(text)),
            Self::Blocks { blocks } => {
                for block in blocks {
                    match block {
                        Block::Text { text } => *text = redact(text),
                        Block::Image { media_type, .. } => *media_type = redact(media_type),
                        Block::Document { media_type, name, .. } => {
                            *media_type = redact(media_type);
                            name.iter_mut().for_each(|name| *name = redact(name));
                        }
                    }
                }
            }
        }
    }

    /// JSON if `text` is JSON, else text.
    fn from_json_or_text(text: String) -> Self {
        match crate::json::scan(&text) {
            Ok(_) => Self::Json { text },
            Err(_) => Self::Text { text },
        }
    }

    /// The output as the type a handler returned.
    ///
    /// # Errors
    /// Blocks, or JSON of another shape.
    pub fn decode<T: serde::de::DeserializeOwned>(&self) -> Result<T, Error> {
        let decoded = match self {
            Self::Text { text } => T::deserialize(Value::from(text.as_str())),
            Self::Json { text } => serde_json::from_str(text),
            Self::Blocks { .. } => return Err(Error::input("an output of blocks has no value")),
        };
        decoded.map_err(|error| Error::input(format_args!("output of another shape: {error}")))
    }
}

impl Block {
    /// A block of text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into() }
    }

    pub(crate) fn to_text(&self) -> String {
        match self {
            Self::Text { text } => text.clone(),
            Self::Image { media_type, .. } => format!("[an image, {media_type}]"),
            Self::Document { media_type, name: None, .. } => format!("[a document, {media_type}]"),
            Self::Document { media_type, name: Some(name), .. } => {
                format!("[a document, {name}, {media_type}]")
            }
        }
    }
}

impl From<&str> for Output {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Output {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_as_it_was_given() {
        assert_eq!(Output::of("a\u{1F600}\n"), Ok(Output::text("a\u{1F600}\n")));
        assert_eq!(Output::of(&(1, 2.5)), Ok(Output::Json { text: "[1,2.5]".to_owned() }));
        assert_eq!(Output::of("7").unwrap().decode::<String>().unwrap(), "7");
        assert_eq!(Output::of(&vec![1, 2]).unwrap().decode::<Vec<u8>>().unwrap(), [1, 2]);
        assert!(Output::of(&vec![1, 2]).unwrap().decode::<String>().unwrap_err().is_input());
        assert!(Output::blocks([]).decode::<()>().is_err());
        let keys = std::collections::HashMap::from([((1, 2), 3)]);
        assert!(Output::of(&keys).is_err(), "keys that are no strings");
    }

    #[test]
    fn fault_025_json_that_looks_like_an_error_is_a_result() {
        let json = r#"{"is_error":true,"kind":"failed"}"#;
        let output = Output::json(&Json::parse(json).unwrap());
        let text = serde_json::to_string(&output).unwrap();
        assert_eq!(serde_json::from_str::<Output>(&text).unwrap(), output);
        assert_eq!(output.to_text(), json);
    }
}
