//! What a message says beside its calls: a string, or an array of parts.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::wire::fields::{self, fields};

fields! {
    struct Part<'a> {
        text: Cow<'a, str>,
        refusal: Cow<'a, str>,
    }
}

/// The texts of a message's content, joined, and whether the model refused in it. Thinking isn't
/// among them.
pub(super) fn said(content: Option<&RawValue>) -> (Cow<'_, str>, bool) {
    let Some(content) = content else { return ("".into(), false) };
    if let Some(text) = fields::string(content.get()) {
        return (text, false);
    }
    let parts: Vec<Option<Part<'_>>> = fields::part(content).unwrap_or_default();
    let (mut said, mut refused) = (String::new(), false);
    for part in parts.into_iter().flatten() {
        refused |= part.refusal.as_deref().is_some_and(|refusal| !refusal.is_empty());
        said += part.text.or(part.refusal).as_deref().unwrap_or_default();
    }
    (said.into(), refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_a_string_or_parts() {
        let said_of = |text: &str| {
            let raw: Box<RawValue> = serde_json::from_str(text).unwrap();
            let (text, refused) = said(Some(&raw));
            (text.into_owned(), refused)
        };
        assert_eq!(said_of(r#""a\n""#), ("a\n".into(), false));
        let parts = r#"[{"type":"thinking","thinking":[{"text":"no"}]},
            {"type":"text","text":"a"},null,{"text":"b"}]"#;
        assert_eq!(said_of(parts), ("ab".into(), false));
        assert_eq!(said_of(r#"[{"type":"refusal","refusal":"no"}]"#), ("no".into(), true));
        assert_eq!(said_of("7"), (String::new(), false));
        assert_eq!(said(None), ("".into(), false));
    }
}
