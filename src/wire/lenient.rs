//! Fields read as what they should be, or as absent where they are something else: a provider's
//! odd value in one place must not make the whole body unreadable.
//!
//! For `#[serde(deserialize_with = "…")]`, always with `default`. One pass, no tree. Broken JSON
//! is still an error.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};

/// A string; borrowed where it holds no escapes.
pub(super) fn text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Cow<'de, str>>, D::Error> {
    struct Text;
    impl<'de> Lenient<'de> for Text {
        type Value = Cow<'de, str>;

        fn borrowed(self, text: &'de str) -> Option<Self::Value> {
            Some(text.into())
        }

        fn owned(self, text: String) -> Option<Self::Value> {
            Some(text.into())
        }
    }
    from.deserialize_any(Read(Text, PhantomData))
}

/// The text of a message: a string, or the texts of an array of content parts, joined. Thinking
/// parts aren't among them.
pub(super) fn content<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Cow<'de, str>>, D::Error> {
    #[derive(Deserialize)]
    struct Part<'a> {
        #[serde(borrow, default, deserialize_with = "text")]
        text: Option<Cow<'a, str>>,
    }
    struct Content;
    impl<'de> Lenient<'de> for Content {
        type Value = Cow<'de, str>;

        fn borrowed(self, text: &'de str) -> Option<Self::Value> {
            Some(text.into())
        }

        fn owned(self, text: String) -> Option<Self::Value> {
            Some(text.into())
        }

        fn seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Option<Self::Value>, A::Error> {
            let mut joined = String::new();
            while let Some(part) = seq.next_element_seed(Element::<Part<'de>>(PhantomData))? {
                joined += part.and_then(|part| part.text).as_deref().unwrap_or_default();
            }
            Ok(Some(joined.into()))
        }
    }
    from.deserialize_any(Read(Content, PhantomData))
}

/// A count; fractions are cut, anything below zero is absent.
pub(super) fn count<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    struct Count;
    impl Lenient<'_> for Count {
        type Value = u64;

        fn number(self, number: f64) -> Option<u64> {
            // The cast saturates; counts of tokens are far below what an f64 holds exactly.
            (number >= 0.0).then_some(number as u64)
        }
    }
    from.deserialize_any(Read(Count, PhantomData))
}

/// An object.
pub(super) fn object<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Object<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Lenient<'de> for Object<T> {
        type Value = T;

        fn map<A: MapAccess<'de>>(self, map: A) -> Result<Option<T>, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(Some)
        }
    }
    from.deserialize_any(Read(Object(PhantomData), PhantomData))
}

/// An array of objects; an element that is no object is `None`, anything but an array is empty.
pub(super) fn list<'de, D, T>(from: D) -> Result<Vec<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct List<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Lenient<'de> for List<T> {
        type Value = Vec<Option<T>>;

        fn seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Option<Self::Value>, A::Error> {
            let mut list = Vec::new();
            while let Some(element) = seq.next_element_seed(Element(PhantomData))? {
                list.push(element);
            }
            Ok(Some(list))
        }
    }
    Ok(from.deserialize_any(Read(List(PhantomData), PhantomData))?.unwrap_or_default())
}

/// An element of an array, as [`object`].
struct Element<T>(PhantomData<T>);
impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Element<T> {
    type Value = Option<T>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<T>, D::Error> {
        object(from)
    }
}

/// What is made of each kind of value; nothing, unless a reader says otherwise.
trait Lenient<'de>: Sized {
    type Value;

    fn borrowed(self, text: &'de str) -> Option<Self::Value> {
        self.owned(text.to_owned())
    }

    fn owned(self, _text: String) -> Option<Self::Value> {
        None
    }

    fn number(self, _number: f64) -> Option<Self::Value> {
        None
    }

    fn seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Option<Self::Value>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<Self::Value>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

struct Read<'de, L>(L, PhantomData<&'de ()>);

impl<'de, L: Lenient<'de>> Visitor<'de> for Read<'de, L> {
    type Value = Option<L::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(self.0.borrowed(text))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(self.0.owned(text.to_owned()))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Self::Value, E> {
        Ok(self.0.owned(text))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(self.0.number(number as f64))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(self.0.number(number as f64))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
        Ok(self.0.number(number))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        self.0.seq(seq)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        self.0.map(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Sample<'a> {
        #[serde(borrow, deserialize_with = "text")]
        text: Option<Cow<'a, str>>,
        #[serde(deserialize_with = "count")]
        count: Option<u64>,
        #[serde(borrow, deserialize_with = "content")]
        content: Option<Cow<'a, str>>,
        #[serde(borrow, deserialize_with = "object")]
        object: Option<Box<Sample<'a>>>,
        #[serde(borrow, deserialize_with = "list")]
        list: Vec<Option<Sample<'a>>>,
    }

    fn read(text: &str) -> Sample<'_> {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn what_fits_is_read_in_place() {
        let sample = read(
            r#"{"text":"a","count":7,"object":{"text":"b\n"},"list":[{"count":1.0},null,3,{}]}"#,
        );
        assert!(matches!(sample.text, Some(Cow::Borrowed("a"))));
        assert_eq!(sample.count, Some(7));
        assert_eq!(sample.object.and_then(|o| o.text).as_deref(), Some("b\n"));
        let counts: Vec<_> = sample.list.iter().map(|e| e.as_ref().map(|e| e.count)).collect();
        assert_eq!(counts, [Some(Some(1)), None, None, Some(None)]);
    }

    #[test]
    fn what_does_not_fit_is_absent() {
        for odd in ["null", "true", "-3", "1.5", "\"x\"", "[[1],{}]", "{\"text\":[{}]}"] {
            let all = format!(
                r#"{{"text":{odd},"count":{odd},"object":{odd},"list":{odd},"more":{odd}}}"#
            );
            let sample = read(&all);
            assert_eq!(sample.text.is_some(), odd == "\"x\"", "{odd}");
            assert_eq!(sample.count, (odd == "1.5").then_some(1), "{odd}");
            assert_eq!(sample.object.is_some(), odd.starts_with('{'), "{odd}");
            assert_eq!(sample.list.len(), if odd.starts_with('[') { 2 } else { 0 }, "{odd}");
        }
    }

    #[test]
    fn content_is_a_string_or_parts() {
        assert_eq!(read(r#"{"content":"a"}"#).content.as_deref(), Some("a"));
        let parts = r#"{"content":[{"type":"thinking","thinking":[{"text":"no"}]},
            {"type":"text","text":"a"},null,{"text":"b"}]}"#;
        assert_eq!(read(parts).content.as_deref(), Some("ab"));
        assert_eq!(read(r#"{"content":null}"#).content, None);
    }

    #[test]
    fn broken_json_is_an_error() {
        assert!(serde_json::from_str::<Sample<'_>>(r#"{"text":[1,}"#).is_err());
    }
}
