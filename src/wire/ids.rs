//! Ids and names for an echoed message: as they came where the provider takes them back, else
//! made so that it does.
//!
//! What is made depends on the message alone, so that the same turn gives the same bytes each
//! time and another turn gives other ids.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::text::Shown;
use crate::turn::Turn;

/// What a provider demands of ids within one message, beside that they differ.
#[derive(Debug, Clone, Copy)]
pub(super) struct IdRule {
    /// Most bytes.
    pub(super) max: usize,
    /// Which characters.
    pub(super) legal: fn(char) -> bool,
}

impl IdRule {
    fn allows(self, id: &str) -> bool {
        !is_none(id) && id.len() <= self.max && id.chars().all(self.legal)
    }
}

/// What stands where there is no id: a library of Mistral's writes the word.
fn is_none(id: &str) -> bool {
    matches!(id, "" | "null")
}

/// The text that ids are made from: the message, or the calls where there is none, and the tokens,
/// which grow from turn to turn even where a model repeats itself word by word.
fn seed(turn: &Turn) -> String {
    let usage = turn.usage();
    let mut seed = format!("{} {}\n", usage.input_tokens, usage.output_tokens);
    match turn.message() {
        Some(message) => seed += message.as_str(),
        None => {
            let calls = turn.calls().iter();
            seed.extend(calls.flat_map(|call| [call.name(), "\n", call.arguments(), "\n"]));
        }
    }
    seed
}

/// One id for each of those given, in order.
pub(super) fn ids<'a>(given: &[Option<&'a str>], rule: IdRule, turn: &Turn) -> Vec<Cow<'a, str>> {
    let mut taken: HashSet<Cow<'a, str>> = HashSet::new();
    let mut kept: Vec<Option<Cow<'a, str>>> = Vec::with_capacity(given.len());
    for id in given {
        let id = id.filter(|id| rule.allows(id)).map(Cow::Borrowed);
        kept.push(id.filter(|id| taken.insert(id.clone())));
    }
    // Where no id says who made the message it may be Mistral, too.
    let short = given.iter().flatten().all(|id| is_none(id) || is_mistrals(id));
    let mut seed = None;
    kept.into_iter()
        .map(|id| {
            id.unwrap_or_else(|| {
                let seed = seed.get_or_insert_with(|| hash(&self::seed(turn)));
                loop {
                    *seed = hash(&seed.to_string());
                    let id = if short { nine(*seed) } else { format!("call_{seed:016x}") };
                    let id: Cow<'a, str> = id.into();
                    if taken.insert(id.clone()) {
                        return id;
                    }
                }
            })
        })
        .collect()
}

/// Mistral makes and takes only ids of nine letters and digits.
fn is_mistrals(id: &str) -> bool {
    id.len() == 9 && id.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn nine(mut seed: u64) -> String {
    const DIGITS: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let digit = || {
        let digit = DIGITS[(seed % 62) as usize];
        seed /= 62;
        char::from(digit)
    };
    std::iter::repeat_with(digit).take(9).collect()
}

/// FNV-1a: the same in every version of everything.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// An id or a name as a log shows it.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", Shown::new(text, 64))
}

/// A tool's name in letters, digits, `_` and `-`, at most `max` of them. One that the model made
/// up may hold anything.
pub(super) fn name(name: &str, max: usize) -> Cow<'_, str> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() {
        return "unnamed".into();
    }
    if name.len() <= max && name.chars().all(legal) {
        return name.into();
    }
    name.chars().map(|c| if legal(c) { c } else { '_' }).take(max).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: IdRule = IdRule { max: 40, legal: |c| !c.is_control() };

    fn turn(name: &str) -> Turn {
        Turn::from_calls([crate::ToolCall::new("", name, "{}")])
    }

    #[test]
    fn ids_that_are_allowed_and_differ_stay() {
        let given = [Some("call_1"), Some("functions.add:0"), Some("AbC123xyz")];
        assert_eq!(ids(&given, RULE, &turn("a")), ["call_1", "functions.add:0", "AbC123xyz"]);
    }

    #[test]
    fn the_others_are_made_from_the_message() {
        let long = "x".repeat(41);
        let given = [Some("a"), Some("a"), None, Some(""), Some(&*long), Some("b\n")];
        let made = ids(&given, RULE, &turn("a"));
        assert_eq!(made[0], "a");
        let differing: HashSet<_> = made.iter().collect();
        assert_eq!(differing.len(), given.len());
        assert!(made.iter().all(|id| RULE.allows(id)));
        assert_eq!(made, ids(&given, RULE, &turn("a")));
        assert_ne!(made, ids(&given, RULE, &turn("b")));
    }

    #[test]
    fn among_mistrals_ids_and_where_none_is_given_one_of_mistrals_is_made() {
        for given in [
            [Some("AbC123xyz"), Some("AbC123xyz"), None],
            [None, None, None],
            [Some("null"), Some(""), Some("null")],
        ] {
            let made = ids(&given, RULE, &turn("a"));
            assert!(made.iter().all(|id| is_mistrals(id)), "{made:?}");
        }
        let made = ids(&[Some("call_1"), None], RULE, &turn("a"));
        assert!(made[1].starts_with("call_"), "{made:?}");
    }

    #[test]
    fn names_become_legal() {
        assert_eq!(name("get_customer", 64), "get_customer");
        assert_eq!(name("multi_tool_use.parallel", 64), "multi_tool_use_parallel");
        assert_eq!(name("../é\n", 64), "_____");
        assert_eq!(name("", 64), "unnamed");
        assert_eq!(name(&"n".repeat(70), 64).len(), 64);
    }
}
