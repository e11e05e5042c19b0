//! A JSON object taken apart and put together again: keys in their order, every part that isn't
//! touched byte for byte.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::json::Json;
use crate::wire::fields;

/// What [`RawObject::deduplicate`] does, for a log.
pub(super) const EQUAL_KEYS: &str = "keys that stood twice were left once";

/// The keys and values of an object, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct RawObject<'a>(Vec<(Cow<'a, str>, Cow<'a, RawValue>)>);

impl<'a> RawObject<'a> {
    /// The object of a text; nothing where it is something else.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The value of `key`, the last where it stands twice.
    pub(super) fn get(&self, key: &str) -> Option<&RawValue> {
        self.0.iter().rev().find(|(name, _)| name == key).map(|(_, value)| &**value)
    }

    /// Whether `key` is there with the value `null`.
    pub(super) fn is_null(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| value.get() == "null")
    }

    /// The string that `key` holds.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        fields::string(self.get(key)?.get()).map(Cow::into_owned)
    }

    /// Whether the value of `key` is a text that says something.
    pub(super) fn has_text(&self, key: &str) -> bool {
        self.text(key).is_some_and(|text| !text.is_empty())
    }

    /// Puts `value` in the place of `key`, or at the end.
    pub(super) fn set(&mut self, key: &'a str, value: &(impl Serialize + ?Sized)) {
        if let Ok(value) = serde_json::value::to_raw_value(value) {
            self.put(key.into(), value);
        }
    }

    /// Puts JSON text in the place of `key`, or at the end.
    pub(super) fn put_raw(&mut self, key: &'a str, value: &'a RawValue) {
        self.remove_but_first(key);
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = Cow::Borrowed(value),
            None => self.0.push((key.into(), Cow::Borrowed(value))),
        }
    }

    /// Puts `value` in the place of `key`, or at the end; for keys that are made.
    pub(super) fn put(&mut self, key: Cow<'a, str>, value: Box<RawValue>) {
        self.remove_but_first(&key);
        match self.0.iter_mut().find(|(name, _)| *name == key) {
            Some((_, old)) => *old = Cow::Owned(value),
            None => self.0.push((key, Cow::Owned(value))),
        }
    }

    fn remove_but_first(&mut self, key: &str) {
        let mut first = true;
        self.0.retain(|(name, _)| name != key || std::mem::take(&mut first));
    }

    /// The keys and values, in order.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// The same, borrowing nothing.
    pub(super) fn into_owned(self) -> RawObject<'static> {
        let owned = |(key, value): (Cow<'_, str>, Cow<'_, RawValue>)| {
            (Cow::Owned(key.into_owned()), Cow::Owned(value.into_owned()))
        };
        RawObject(self.0.into_iter().map(owned).collect())
    }

    /// Takes `key` out; whether it was there.
    pub(super) fn remove(&mut self, key: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|(name, _)| name != key);
        self.0.len() < before
    }

    /// Takes `key` out if its value is `null`; whether it was there so.
    pub(super) fn remove_null(&mut self, key: &str) -> bool {
        self.is_null(key) && self.remove(key)
    }

    /// Takes all out whose value is `null`; whether there were any.
    pub(super) fn remove_nulls(&mut self) -> bool {
        let before = self.0.len();
        self.0.retain(|(_, value)| value.get() != "null");
        self.0.len() < before
    }

    /// Leaves the last of equal keys, in the place of the first; whether there were any.
    pub(super) fn deduplicate(&mut self) -> bool {
        let before = self.0.len();
        let mut at = 0;
        while at < self.0.len() {
            let name = self.0[at].0.clone();
            if let Some(last) = self.0.iter().rposition(|(other, _)| *other == name)
                && last > at
            {
                self.0[at].1 = self.0[last].1.clone();
                let mut nth = 0;
                self.0.retain(|(other, _)| {
                    nth += 1;
                    nth <= at + 1 || *other != name
                });
            }
            at += 1;
        }
        self.0.len() < before
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// The elements of an array's text; none where it is something else.
pub(super) fn array(text: &str) -> Vec<&RawValue> {
    serde_json::from_str(text).unwrap_or_default()
}

/// The keys of an object's text, and its values as they stand there. It must have been read as JSON
/// before: it isn't looked at closely, and that is what makes it quick.
pub(super) fn members(text: &str) -> impl Iterator<Item = (Cow<'_, str>, &str)> {
    let mut at = usize::from(text.starts_with('{'));
    std::iter::from_fn(move || {
        at = next(text, at, b"\"")?;
        let key = text.get(at..end_of_string(text, at)?)?;
        at = next(text, at + key.len(), b":")? + 1;
        at += text.get(at..)?.bytes().position(|byte| !byte.is_ascii_whitespace())?;
        let value = text.get(at..end_of_value(text, at)?)?;
        at += value.len();
        Some((fields::string(key)?, value))
    })
}

/// The place of one of these bytes, over white space and commas.
fn next(text: &str, at: usize, wanted: &[u8]) -> Option<usize> {
    let rest = text.as_bytes().get(at..)?;
    let found = rest.iter().position(|byte| !byte.is_ascii_whitespace() && *byte != b',')?;
    wanted.contains(&rest[found]).then_some(at + found)
}

/// Where the string ends whose quote is at this place.
fn end_of_string(text: &str, at: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = at + 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

fn end_of_value(text: &str, start: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = start;
    let mut depth = 0_usize;
    loop {
        match bytes.get(at)? {
            b'"' => at = end_of_string(text, at)?,
            b'{' | b'[' => (depth, at) = (depth + 1, at + 1),
            b'}' | b']' if depth == 0 => return Some(at),
            b'}' | b']' => (depth, at) = (depth - 1, at + 1),
            b',' if depth == 0 => return Some(at),
            byte if depth == 0 && byte.is_ascii_whitespace() => return Some(at),
            _ => {
                at += 1;
                continue;
            }
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

/// The text of a value that can always be written.
pub(super) fn json(value: &impl Serialize) -> Json {
    Json::of(value).unwrap_or_else(|_| Json::from_raw(RawValue::NULL))
}

/// A text that is JSON already; `null` where it isn't.
pub(super) fn literal(text: &str) -> Json {
    Json::parse(text).unwrap_or_else(|_| Json::from_raw(RawValue::NULL))
}

impl Serialize for RawObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

impl<'de> Deserialize<'de> for RawObject<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawObject<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(key) = map.next_key_seed(fields::Key)? {
                    let value = map.next_value::<&RawValue>()?;
                    entries.push((key, Cow::Borrowed(value)));
                }
                Ok(RawObject(entries))
            }
        }
        from.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_touched_keeps_its_bytes_and_its_place() {
        let mut object =
            RawObject::read(r#"{"b": 1.50, "a":{"z" :1,"y":2}, "c":"é\u00e9"}"#).unwrap();
        object.set("b", "new");
        object.set("d", &[1]);
        assert_eq!(
            json(&object).as_str(),
            r#"{"b":"new","a":{"z" :1,"y":2},"c":"é\u00e9","d":[1]}"#
        );
        assert!(object.remove("a"));
        assert!(!object.remove("a"));
        assert_eq!((object.len(), object.text("b").as_deref()), (3, Some("new")));
    }

    #[test]
    fn the_members_of_an_object_are_found_without_reading_it() {
        let text =
            r#" { "a" :1.5e3 , "b":[1,{"c":"]}"}],"\u00e9\"\\":"x\"\\","d": {},"e":null,"f":true}"#;
        let found: Vec<_> = members(text.trim()).collect();
        let expected = [
            ("a", "1.5e3"),
            ("b", r#"[1,{"c":"]}"}]"#),
            ("é\"\\", r#""x\"\\""#),
            ("d", "{}"),
            ("e", "null"),
            ("f", "true"),
        ];
        assert_eq!(found, expected.map(|(key, value)| (Cow::from(key), value)));
        for nothing in ["{}", "{ }", "[]", "", "7", "{\"a", "{\"a\":", "{\"a\":\"", "{\"\\"] {
            assert_eq!(members(nothing).count(), 0, "{nothing}");
        }
    }

    #[test]
    fn of_a_key_that_stands_twice_the_last_counts_and_one_is_left() {
        let mut object = RawObject::read(r#"{"a":1,"b":2,"a":null}"#).unwrap();
        assert!(object.is_null("a"));
        object.set("a", &3);
        assert_eq!(json(&object).as_str(), r#"{"a":3,"b":2}"#);

        let mut object = RawObject::read(r#"{"a":1,"b":2,"a":3,"c":4,"b":5,"a":6}"#).unwrap();
        assert!(object.deduplicate());
        assert!(!object.deduplicate());
        assert_eq!(json(&object).as_str(), r#"{"a":6,"b":5,"c":4}"#);
    }

    #[test]
    fn anything_else_is_no_object() {
        for text in ["[]", "1", "", "{"] {
            assert!(RawObject::read(text).is_none(), "{text}");
        }
        assert!(array("{}").is_empty());
    }
}
