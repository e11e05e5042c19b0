//! Structs read from JSON objects, forgivingly: a key that is unknown is passed over, one that is
//! missing or holds something else is absent, of one that stands twice the last counts. A
//! provider's odd value in one place must not make the whole body unreadable; broken JSON does.
//! Where a value of another kind must not be taken for none, the field is [`Given`].
//!
//! One pass, no tree; strings and raw parts are borrowed from the body.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use crate::wire::raw;

/// Declares structs whose fields are all `Option`s of the types given. The key is the field's
/// name, or the text after it:
///
/// ```text
/// fields! {
///     struct Block<'a> {
///         kind "type": Cow<'a, str>,
///         input: &'a RawValue,
///     }
/// }
/// ```
macro_rules! fields {
    ($($(#[$meta:meta])* $vis:vis struct $name:ident<$life:lifetime> {
        $($field:ident $($key:literal)?: $type:ty,)*
    })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Default)]
        $vis struct $name<$life> {
            $($vis $field: Option<$type>,)*
            $vis _body: std::marker::PhantomData<&$life ()>,
        }

        impl<$life> $crate::wire::fields::Fields<$life> for $name<$life> {
            fn field<A: serde::de::MapAccess<$life>>(
                &mut self,
                key: &[u8],
                map: &mut A,
            ) -> Result<bool, A::Error> {
                $(if key == $crate::wire::fields::key!($field $($key)?).as_bytes() {
                    $crate::wire::fields::value_into(map, &mut self.$field)?;
                    return Ok(true);
                })*
                Ok(false)
            }
        }
    )*};
}

macro_rules! key {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $key:literal) => {
        $key
    };
}

pub(super) use {fields, key};

/// What a field can hold.
pub(super) trait Value<'de>: Sized {
    /// The value, or nothing where it is of another kind.
    fn read<D: Deserializer<'de>>(from: D) -> Result<Option<Self>, D::Error>;

    /// The same, where it is to stand: structs are large, and moving them costs more than reading.
    fn read_into<D: Deserializer<'de>>(from: D, place: &mut Option<Self>) -> Result<(), D::Error> {
        *place = Self::read(from)?;
        Ok(())
    }
}

/// What holds the keys of an object: a struct made by [`fields!`], or one that reads its keys in a
/// way of its own.
pub(super) trait Fields<'de>: Default {
    /// Reads the value of `key`; false, and nothing is read, where the key is unknown.
    fn field<A: MapAccess<'de>>(&mut self, key: &[u8], map: &mut A) -> Result<bool, A::Error>;
}

impl<'de, T: Fields<'de>> Value<'de> for T {
    fn read<D: Deserializer<'de>>(from: D) -> Result<Option<Self>, D::Error> {
        let mut object = None;
        Self::read_into(from, &mut object)?;
        Ok(object)
    }

    fn read_into<D: Deserializer<'de>>(from: D, place: &mut Option<Self>) -> Result<(), D::Error> {
        members(from, place).map(|_| ())
    }
}

/// A whole text as `T`; nothing where it is JSON of another kind.
pub(super) fn parse<'de, T: Value<'de>>(text: &'de str) -> Result<Option<T>, serde_json::Error> {
    let mut value = None;
    parse_into(text, &mut value)?;
    Ok(value)
}

/// The same, where it is to stand.
pub(super) fn parse_into<'de, T: Value<'de>>(
    text: &'de str,
    place: &mut Option<T>,
) -> Result<(), serde_json::Error> {
    let mut from = serde_json::Deserializer::from_str(text);
    T::read_into(&mut from, place)?;
    from.end()
}

/// A part of a text that was read already.
pub(super) fn part<'de, T: Value<'de>>(raw: &'de RawValue) -> Option<T> {
    parse(raw.get()).ok().flatten()
}

/// The elements of a list that was read already; one that can't be read is `None`. Anything but a
/// list counts as one whose only element is `None`.
pub(super) fn list<'de, T: Value<'de>>(raw: &'de RawValue) -> Vec<Option<T>> {
    match parse(raw.get()) {
        Ok(list) => list.map(|Given(list)| list).unwrap_or_default(),
        // A number beyond all bounds spoils only the element that it stands in.
        Err(_) if raw.get().starts_with('[') => {
            raw::array(raw.get()).into_iter().map(part).collect()
        }
        Err(_) => vec![None],
    }
}

/// As [`list`], with elements that hold nothing for those that can't be read.
pub(super) fn filled_list<'de, T: Value<'de> + Default>(raw: &'de RawValue) -> Vec<T> {
    list(raw).into_iter().map(Option::unwrap_or_default).collect()
}

/// What a JSON string token says. Lone surrogates, which JSON allows and Rust doesn't, become
/// U+FFFD.
pub(super) fn string(token: &str) -> Option<Cow<'_, str>> {
    let inner = token.strip_prefix('"')?.strip_suffix('"')?;
    match memchr::memchr(b'\\', inner.as_bytes()) {
        None => Some(inner.into()),
        Some(first) => unescaped(inner, first).map(Cow::Owned),
    }
}

/// The text without escapes, the first of which stands at `escape`.
fn unescaped(mut text: &str, mut escape: usize) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    loop {
        out.push_str(&text[..escape]);
        let kind = *text.as_bytes().get(escape + 1)?;
        text = text.get(escape + 2..)?;
        out.push(match kind {
            b'"' | b'\\' | b'/' => kind.into(),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = unit(text)?;
                text = &text[4..];
                let second = text.strip_prefix("\\u").and_then(unit);
                match (first, second) {
                    (0xd800..0xdc00, Some(second @ 0xdc00..0xe000)) => {
                        text = &text[6..];
                        char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))?
                    }
                    _ => char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER),
                }
            }
            _ => return None,
        });
        match memchr::memchr(b'\\', text.as_bytes()) {
            Some(next) => escape = next,
            None => break,
        }
    }
    out.push_str(text);
    Some(out)
}

/// The code unit of a `\u` escape, whose digits the text begins with.
fn unit(text: &str) -> Option<u32> {
    let digits = text.get(..4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u32::from_str_radix(digits, 16).ok()
}

impl<'de> Value<'de> for &'de RawValue {
    fn read<D: Deserializer<'de>>(from: D) -> Result<Option<Self>, D::Error> {
        let raw = <&RawValue>::deserialize(from)?;
        Ok((raw.get() != "null").then_some(raw))
    }
}

impl<'de> Value<'de> for Cow<'de, str> {
    fn read<D: Deserializer<'de>>(from: D) -> Result<Option<Self>, D::Error> {
        Ok(string(<&RawValue>::deserialize(from)?.get()))
    }
}

/// A count, also one in quotes; fractions are cut, anything below zero is absent.
impl<'de> Value<'de> for u64 {
    fn read<D: Deserializer<'de>>(from: D) -> Result<Option<Self>, D::Error> {
        let text = <&RawValue>::deserialize(from)?.get();
        let whole = text.trim_matches('"').parse().ok();
        Ok(whole.or_else(|| {
            let number: f64 = text.parse().ok()?;
            (number >= 0.0).then_some(number as u64)
        }))
    }
}

impl<'de> Value<'de> for bool {
    fn read<D: Deserializer<'de>>(from: D) -> Result<Option<Self>, D::Error> {
        Ok(<&RawValue>::deserialize(from)?.get().parse().ok())
    }
}

/// An array; an element that is of another kind is `None`.
impl<'de, T: Value<'de>> Value<'de> for Vec<Option<T>> {
    fn read<D: Deserializer<'de>>(from: D) -> Result<Option<Self>, D::Error> {
        Ok(match elements(from)? {
            Found::It(list) => Some(list),
            Found::Null | Found::Other => None,
        })
    }
}

fn elements<'de, T, D>(from: D) -> Result<Found<Vec<Option<T>>>, D::Error>
where
    T: Value<'de>,
    D: Deserializer<'de>,
{
    struct Elements<T>(PhantomData<T>);
    impl<'de, T: Value<'de>> Kind<'de> for Elements<T> {
        type Value = Vec<Option<T>>;

        fn seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Found<Self::Value>, A::Error> {
            let mut list = Vec::new();
            while let Some(Read(element)) = seq.next_element()? {
                list.push(element);
            }
            Ok(Found::It(list))
        }
    }
    from.deserialize_any(Of(Elements::<T>(PhantomData)))
}

/// What must not pass for absent though it is of another kind, unless it is `null`: it counts as an
/// object without keys, as none at all, or as an array whose one element is of another kind, too.
#[derive(Debug)]
pub(super) struct Given<T>(pub(super) T);

impl<'de, T: Fields<'de>> Value<'de> for Given<T> {
    fn read<D: Deserializer<'de>>(from: D) -> Result<Option<Self>, D::Error> {
        let mut object = None;
        Ok(match members(from, &mut object)? {
            Found::Null => None,
            Found::Other | Found::It(()) => Some(Self(object.unwrap_or_default())),
        })
    }
}

/// Nothing stands for what is no object.
impl<'de, T: Fields<'de>> Value<'de> for Given<Option<T>> {
    fn read<D: Deserializer<'de>>(from: D) -> Result<Option<Self>, D::Error> {
        let mut object = None;
        Ok(match members(from, &mut object)? {
            Found::Null => None,
            Found::Other | Found::It(()) => Some(Self(object)),
        })
    }
}

impl<'de, T: Value<'de>> Value<'de> for Given<Vec<Option<T>>> {
    fn read<D: Deserializer<'de>>(from: D) -> Result<Option<Self>, D::Error> {
        Ok(match elements(from)? {
            Found::Null => None,
            Found::Other => Some(Self(vec![None])),
            Found::It(list) => Some(Self(list)),
        })
    }
}

/// The value of the key that was just read.
pub(super) fn value<'de, T, A>(map: &mut A) -> Result<Option<T>, A::Error>
where
    T: Value<'de>,
    A: MapAccess<'de>,
{
    map.next_value().map(|Read(value)| value)
}

/// The same, where it is to stand.
pub(super) fn value_into<'de, T, A>(map: &mut A, place: &mut Option<T>) -> Result<(), A::Error>
where
    T: Value<'de>,
    A: MapAccess<'de>,
{
    map.next_value_seed(Place(place))
}

struct Place<'p, T>(&'p mut Option<T>);

impl<'de, T: Value<'de>> DeserializeSeed<'de> for Place<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        T::read_into(from, self.0)
    }
}

fn members<'de, T, D>(from: D, place: &mut Option<T>) -> Result<Found<()>, D::Error>
where
    T: Fields<'de>,
    D: Deserializer<'de>,
{
    struct Object<'p, T>(&'p mut Option<T>);
    impl<'de, T: Fields<'de>> Kind<'de> for Object<'_, T> {
        type Value = ();

        fn map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found<()>, A::Error> {
            let object = self.0.insert(T::default());
            while let Some(key) = map.next_key_seed(KeyBytes)? {
                if !object.field(&key, &mut map)? {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(Found::It(()))
        }
    }
    *place = None;
    from.deserialize_any(Of(Object(place)))
}

/// A key. Read as bytes, because those of a string may hold lone surrogates.
pub(super) struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_bytes(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_bytes<E: Error>(self, key: &'de [u8]) -> Result<Self::Value, E> {
        Ok(std::str::from_utf8(key).map_or_else(|_| key_text(key).into(), Cow::Borrowed))
    }

    fn visit_bytes<E: Error>(self, key: &[u8]) -> Result<Self::Value, E> {
        Ok(key_text(key).into())
    }
}

/// The text of a key. All that can be wrong with its bytes are halves of surrogate pairs: each is
/// one U+FFFD, as it is in a value.
pub(super) fn key_text(key: &[u8]) -> String {
    let mut text = String::with_capacity(key.len());
    for chunk in key.utf8_chunks() {
        text.push_str(chunk.valid());
        // The half's other two bytes come as chunks of their own.
        if chunk.invalid().first() == Some(&0xed) {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    text
}

/// The bytes of a key that is only compared: whether they are UTF-8 is all the same.
struct KeyBytes;

impl<'de> DeserializeSeed<'de> for KeyBytes {
    type Value = Cow<'de, [u8]>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_bytes(self)
    }
}

impl<'de> Visitor<'de> for KeyBytes {
    type Value = Cow<'de, [u8]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_bytes<E: Error>(self, key: &'de [u8]) -> Result<Self::Value, E> {
        Ok(key.into())
    }

    fn visit_bytes<E: Error>(self, key: &[u8]) -> Result<Self::Value, E> {
        Ok(key.to_owned().into())
    }
}

struct Read<T>(Option<T>);

impl<'de, T: Value<'de>> Deserialize<'de> for Read<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        T::read(from).map(Self)
    }
}

/// What was read.
enum Found<T> {
    Null,
    /// Something of another kind.
    Other,
    It(T),
}

/// What is made of arrays and objects; nothing, unless a kind says otherwise.
trait Kind<'de>: Sized {
    type Value;

    fn seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Found<Self::Value>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Found::Other)
    }

    fn map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found<Self::Value>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Found::Other)
    }
}

struct Of<K>(K);

impl<'de, K: Kind<'de>> Visitor<'de> for Of<K> {
    type Value = Found<K::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Found::Other)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Found::Other)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Found::Other)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Found::Other)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Found::Other)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Found::Null)
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

    fields! {
        struct Sample<'a> {
            text: Cow<'a, str>,
            kind "type": &'a RawValue,
            count: u64,
            object: Box<Sample<'a>>,
            list: Vec<Option<Sample<'a>>>,
        }
    }

    impl<'de> Value<'de> for Box<Sample<'de>> {
        fn read<D: Deserializer<'de>>(from: D) -> Result<Option<Self>, D::Error> {
            Ok(Sample::read(from)?.map(Box::new))
        }
    }

    fn read(text: &str) -> Sample<'_> {
        parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).unwrap()
    }

    #[test]
    fn what_fits_is_read_in_place() {
        let sample = read(
            r#"{"text":"a","count":7,"type":[1.50],"object":{"text":"b\n"},
                "list":[{"count":1.0},null,3,{}]}"#,
        );
        assert!(matches!(sample.text, Some(Cow::Borrowed("a"))));
        assert_eq!(sample.count, Some(7));
        assert_eq!(sample.kind.map(RawValue::get), Some("[1.50]"));
        assert_eq!(sample.object.and_then(|o| o.text).as_deref(), Some("b\n"));
        let list = sample.list.unwrap();
        let counts: Vec<_> = list.iter().map(|e| e.as_ref().map(|e| e.count)).collect();
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
            let len = sample.list.map(|list| list.len());
            assert_eq!(len, odd.starts_with('[').then_some(2), "{odd}");
        }
        assert_eq!(read(r#"{"count":"7"}"#).count, Some(7));
        for odd in ["\"\"", "\"inf\"", "\"NaN\"", "\"-7\"", "\" 7\""] {
            assert_eq!(read(&format!(r#"{{"count":{odd}}}"#)).count, None, "{odd}");
        }
        assert!(parse::<Sample<'_>>("[{}]").unwrap().is_none());
    }

    #[test]
    fn what_is_given_is_not_absent_unless_it_is_null() {
        for odd in ["true", "-3", "1.5", "\"x\"", "{\"text\":1}"] {
            let list = parse::<Given<Vec<Option<Sample<'_>>>>>(odd).unwrap().unwrap();
            assert!(matches!(list.0.as_slice(), [None]), "{odd}");
            assert!(parse::<Given<Sample<'_>>>(odd).unwrap().is_some(), "{odd}");
        }
        assert!(parse::<Given<Sample<'_>>>("[]").unwrap().is_some());
        assert!(parse::<Given<Sample<'_>>>("null").unwrap().is_none());
        assert!(parse::<Given<Vec<Option<Sample<'_>>>>>("null").unwrap().is_none());
    }

    #[test]
    fn the_elements_of_a_list_are_read_each_for_itself() {
        let len = |text: &str| {
            let raw: &RawValue = serde_json::from_str(text).unwrap();
            let list = list::<Sample<'_>>(raw);
            (list.len(), list.iter().flatten().count())
        };
        assert_eq!(len(r#"[{}, null, 7, {"count":1}]"#), (4, 2));
        assert_eq!(len(r#"[1e999, {}, {"list":1e999}]"#), (3, 1));
        assert_eq!(len("[]"), (0, 0));
        for odd in ["1e999", "{}", "\"x\""] {
            assert_eq!(len(odd), (1, 0), "{odd}");
        }
    }

    #[test]
    fn the_last_of_equal_keys_counts_however_it_is_spelled() {
        assert_eq!(read(r#"{"count":1,"count":2}"#).count, Some(2));
        assert_eq!(read(r#"{"count":1,"c\u006funt":2}"#).count, Some(2));
        assert_eq!(read(r#"{"count":1,"count":null}"#).count, None);
    }

    #[test]
    fn lone_surrogates_do_not_spoil_the_rest() {
        assert_eq!(key_text(b"\xed\xa0\x80a\xed\xbf\xbf\xed\xbf\xbf"), "\u{fffd}a\u{fffd}\u{fffd}");
        let sample = read(r#"{"text":"a\ud800 b\n","\udfff":1,"count":3,"type":"\ud800"}"#);
        assert_eq!(sample.text.as_deref(), Some("a\u{fffd} b\n"));
        assert_eq!(sample.count, Some(3));
        assert_eq!(sample.kind.map(RawValue::get), Some(r#""\ud800""#));
    }

    #[test]
    fn broken_json_is_an_error() {
        for broken in [r#"{"text":[1,}"#, r#"{"text":1}x"#, "", r#"{"text":"a"#] {
            assert!(parse::<Sample<'_>>(broken).is_err(), "{broken}");
        }
    }
}
