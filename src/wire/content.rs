//! What a message says beside its calls: a string, or an array of parts.

use std::borrow::Cow;
use std::fmt;

use serde_json::value::RawValue;

use crate::wire::failure::{Failure, check_list};
use crate::wire::fields::{self, fields};

fields! {
    struct Part<'a> {
        text: Cow<'a, str>,
        refusal: Cow<'a, str>,
    }
}

/// The texts of a message's content, joined, and whether the model refused in it. Thinking isn't
/// among them.
///
/// # Errors
/// Something else than a text or a list; `path` is its place.
pub(super) fn said(
    content: Option<&RawValue>,
    path: impl fmt::Display,
) -> Result<(Cow<'_, str>, bool), Failure> {
    let Some(content) = content else { return Ok(("".into(), false)) };
    if let Some(text) = fields::string(content.get()) {
        return Ok((text, false));
    }
    let parts: Vec<Option<Part<'_>>> = fields::list(content);
    check_list(&parts, path)?;
    let (mut said, mut refused) = (String::new(), false);
    for part in parts.into_iter().flatten() {
        refused |= part.refusal.as_deref().is_some_and(|refusal| !refusal.is_empty());
        said += part.text.or(part.refusal).as_deref().unwrap_or_default();
    }
    Ok((said.into(), refused))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_a_string_or_parts() {
        let said_of = |text: &str| {
            let raw: Box<RawValue> = serde_json::from_str(text).unwrap();
            said(Some(&raw), "content").map(|(text, refused)| (text.into_owned(), refused)).ok()
        };
        assert_eq!(said_of(r#""a\n""#), Some(("a\n".into(), false)));
        let parts = r#"[{"type":"thinking","thinking":[{"text":"no"}]},
            {"type":"text","text":"a"},null,{"text":"b"}]"#;
        assert_eq!(said_of(parts), Some(("ab".into(), false)));
        assert_eq!(said_of(r#"[{"type":"refusal","refusal":"no"}]"#), Some(("no".into(), true)));
        assert_eq!(said_of("[]"), Some((String::new(), false)));
        assert_eq!(said(None, "").ok(), Some(("".into(), false)));
        for odd in ["7", "{}", r#"["a"]"#] {
            assert_eq!(said_of(odd), None, "{odd}");
        }
    }
}
