//! Halves of surrogate pairs in messages: a model that is cut inside a character writes them,
//! JSON's grammar allows them, and the providers refuse the next request because of them.

use crate::json::Json;
use crate::wire::{Repair, Reply};

/// Replaces each half by U+FFFD.
pub(super) fn mend(reply: &mut Reply) {
    for message in &mut reply.messages {
        let Some(mended) = mended(message.as_str()) else { continue };
        if let Ok(mended) = Json::parse(mended) {
            *message = mended;
            let what = "halves of surrogate pairs were replaced by U+FFFD".to_owned();
            reply.repairs.push(Repair { index: None, what });
        }
    }
}

/// The JSON text without lone surrogates; nothing where it has none.
pub(super) fn mended(text: &str) -> Option<String> {
    if !text.contains("\\ud") && !text.contains("\\uD") {
        return None;
    }
    let mut out = String::new();
    let mut kept = 0;
    for (escape, _) in lone_halves(text) {
        out += &text[kept..escape];
        out += "\\ufffd";
        kept = escape + 6;
    }
    if kept == 0 {
        return None;
    }
    out += &text[kept..];
    Some(out)
}

/// The places of the escapes of lone surrogates in a JSON text, and their code units.
pub(super) fn lone_halves(text: &str) -> impl Iterator<Item = (usize, u16)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while let Some(found) = text[at..].find('\\') {
            let escape = at + found;
            match unit(text, escape) {
                Some(0xd800..0xdc00) if matches!(unit(text, escape + 6), Some(0xdc00..0xe000)) => {
                    at = escape + 12;
                }
                Some(half @ 0xd800..0xe000) => {
                    at = escape + 6;
                    return Some((escape, half));
                }
                Some(_) => at = escape + 6,
                // Any other escape is of one character, which is ASCII.
                None => at = text.len().min(escape + 2),
            }
        }
        None
    })
}

/// The code unit of a `\u` escape at this place, if there is one.
fn unit(text: &str, at: usize) -> Option<u16> {
    let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_replaced_and_nothing_else() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(mended(text).as_deref(), expected, "{text}");
        };
        check(r#""a\ud83d b""#, Some(r#""a\ufffd b""#));
        check(r#""\uD83D\uDE00 \ude00""#, Some(r#""\uD83D\uDE00 \ufffd""#));
        check(r#""\ud83d\ud83d\ude00é""#, Some(r#""\ufffd\ud83d\ude00é""#));
        check(r#""\ud83d""#, Some(r#""\ufffd""#));
        check(r#""\ud83d\ude00""#, None);
        check(r#""\\ud83d and \"\\\\ud83d""#, None);
        check(r#""\u00d8""#, None);
        check(r#"{"a":1}"#, None);
    }
}
