//! Characters that are cut in two: a piece of text may end with the first half of a surrogate pair
//! and the next begin with the second, where a server cuts its text by UTF-16 units. An event that
//! ends so waits for the next one, and the halves go together in it.

use crate::wire::stream::Problem;
use crate::wire::stream::framing::Each;
use crate::wire::surrogates::lone_halves;

/// The length of `\ud83d`.
const ESCAPE: usize = 6;

/// The event that waits.
#[derive(Debug, Default)]
pub(super) struct Halves {
    held: Option<(String, String)>,
}

impl Halves {
    pub(super) fn event(
        &mut self,
        name: &str,
        data: &str,
        each: &mut Each<'_>,
    ) -> Result<(), Problem> {
        if self.held.is_none() && !has_unit(data.as_bytes()) {
            return each(name, data);
        }
        let mut data = data.to_owned();
        if let Some((name, mut first)) = self.held.take() {
            if let (Some(high), Some(low)) = (ending(&first), beginning(&data)) {
                data.insert_str(low, &first[high..high + ESCAPE]);
                first.replace_range(high..high + ESCAPE, "");
            }
            each(&name, &first)?;
        }
        match ending(&data) {
            Some(_) => self.held = Some((name.to_owned(), data)),
            None => each(name, &data)?,
        }
        Ok(())
    }

    /// There are no more events.
    pub(super) fn finish(&mut self, each: &mut Each<'_>) -> Result<(), Problem> {
        self.held.take().map_or(Ok(()), |(name, data)| each(&name, &data))
    }
}

/// Whether there is a `\u` escape, or what looks like one.
fn has_unit(data: &[u8]) -> bool {
    memchr::memchr_iter(b'\\', data).any(|at| data.get(at + 1) == Some(&b'u'))
}

/// Where the first half stands that a string ends with.
fn ending(data: &str) -> Option<usize> {
    lone_halves(data)
        .filter(|(at, unit)| {
            (0xd800..0xdc00).contains(unit) && data[at + ESCAPE..].starts_with('"')
        })
        .last()
        .map(|(at, _)| at)
}

/// Where the second half stands that a string begins with.
fn beginning(data: &str) -> Option<usize> {
    let mut halves = lone_halves(data);
    halves
        .find(|(at, unit)| (0xdc00..0xe000).contains(unit) && data[..*at].ends_with('"'))
        .map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(events: &[&str], expected: &[&str]) {
        let mut halves = Halves::default();
        let mut got = Vec::new();
        let mut each = |_: &str, data: &str| {
            got.push(data.to_owned());
            Ok(())
        };
        for event in events {
            halves.event("", event, &mut each).unwrap();
        }
        halves.finish(&mut each).unwrap();
        assert_eq!(got, expected);
    }

    #[test]
    fn halves_of_one_character_come_together_and_all_else_stays() {
        check(
            &[r#"{"t":"a\ud83d"}"#, r#"{"t":"\ude00b"}"#],
            &[r#"{"t":"a"}"#, r#"{"t":"\ud83d\ude00b"}"#],
        );
        // Three in a row, the middle one of nothing else.
        check(
            &[r#"{"t":"\uD83D"}"#, r#"{"t":"\uDE00\ud83d"}"#, r#"{"t":"\ude01"}"#],
            &[r#"{"t":""}"#, r#"{"t":"\uD83D\uDE00"}"#, r#"{"t":"\ud83d\ude01"}"#],
        );
        for alone in [
            [r#"{"t":"a\ud83d"}"#, r#"{"t":"b"}"#],
            [r#"{"t":"a"}"#, r#"{"t":"\ude00"}"#],
            [r#"{"t":"\ud83d\ude00"}"#, r#"{"t":"\ude00"}"#],
            [r#"{"t":"{\"\\ud83d"}"#, r#"{"t":"\\ude00\"}"}"#],
            [r#"{"t":"a\ud83d"}"#, r#"{"t":"b\ude00"}"#],
            [r#"{"t":"\u00e9"}"#, r#"{"t":"a\ud83d"}"#],
        ] {
            check(&alone, &alone);
        }
    }
}
