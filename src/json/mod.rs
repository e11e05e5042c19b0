//! JSON text kept as text, and the one scanner that looks at it before anybody decodes it.
//!
//! No value tree is built here, and nothing recurses.

mod canonical;
mod scan;

pub(crate) use canonical::canonical;
pub(crate) use scan::{Scan, scan};

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::error::Error;

/// Valid JSON, kept byte for byte: key order, number spelling and white space survive.
/// Cheap to clone.
///
/// It serialises with `serde_json` as the text itself, so a `Vec<Json>` of messages goes into a
/// request body unchanged.
///
/// ```
/// use toolpool::Json;
///
/// let message = Json::parse(r#"{"b":1.50,"a":2}"#)?;
/// assert_eq!(serde_json::to_string(&[&message])?, r#"[{"b":1.50,"a":2}]"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Json(Arc<Box<RawValue>>);

impl Json {
    /// Takes text that must be one JSON value.
    ///
    /// # Errors
    /// Text that isn't JSON; the error names the position.
    pub fn parse(text: impl Into<String>) -> Result<Self, Error> {
        RawValue::from_string(text.into())
            .map(|raw| Self(Arc::new(raw)))
            .map_err(|error| Error::input(format_args!("not JSON: {error}")))
    }

    /// The JSON text of a value.
    ///
    /// # Errors
    /// A value that JSON can't hold, such as a map whose keys are no strings.
    pub fn of(value: &(impl Serialize + ?Sized)) -> Result<Self, Error> {
        serde_json::value::to_raw_value(value)
            .map(|raw| Self(Arc::new(raw)))
            .map_err(|error| Error::input(format_args!("not to be written as JSON: {error}")))
    }

    /// The JSON text of a tree, which can always be written.
    pub fn from_value(value: &serde_json::Value) -> Self {
        Self::valid(value.to_string())
    }

    /// A text that is JSON for certain: it was written as such, or stands in the source.
    pub(crate) fn valid(text: impl Into<String>) -> Self {
        let raw = RawValue::from_string(text.into());
        Self(raw.unwrap_or_else(|_| RawValue::NULL.to_owned()).into())
    }

    /// A part of a text that was read as JSON already.
    #[cfg(feature = "wire")]
    pub(crate) fn from_raw(raw: &RawValue) -> Self {
        Self(Arc::new(raw.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// The text as a tree. Use [`as_str`](Self::as_str) where every digit and the order of keys
    /// count.
    ///
    /// # Errors
    /// JSON that no tree can hold: a number too large for its type, such as `1e999`, half of a
    /// surrogate pair, more than 127 levels.
    ///
    /// ```
    /// use toolpool::Json;
    ///
    /// assert_eq!(Json::parse("[1, 2]")?.to_value()?[1], 2);
    /// assert!(Json::parse("1e999")?.to_value().is_err());
    /// # Ok::<(), toolpool::Error>(())
    /// ```
    pub fn to_value(&self) -> Result<serde_json::Value, Error> {
        self.as_str()
            .parse()
            .map_err(|error| Error::input(format_args!("no tree can hold this JSON: {error}")))
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Json {}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(|raw| Self(Arc::new(raw)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_tree_can_hold_is_told() {
        let deep = format!("{}{}", "[".repeat(128), "]".repeat(128));
        for (text, why) in [
            ("1e999", "number out of range at line 1 column 5"),
            (r#"{"a":[-1e999]}"#, "number out of range at line 1 column 12"),
            (r#""\ud800""#, "unexpected end of hex escape at line 1 column 8"),
            (&deep, "recursion limit exceeded at line 1 column 128"),
        ] {
            let error = Json::parse(text).unwrap().to_value().unwrap_err();
            assert_eq!(error.to_string(), format!("no tree can hold this JSON: {why}"));
            assert!(error.is_input());
        }
        assert!(Json::parse("null").unwrap().to_value().unwrap().is_null());
        assert_eq!(Json::parse(&deep[1..255]).unwrap().to_value().unwrap().to_string().len(), 254);
    }
}
