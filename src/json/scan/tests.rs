use super::super::canonical;
use super::*;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// Any tree without floats, whose spelling would be `serde_json`'s own.
pub(in crate::json) fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map("[a-c\"\\\\é]{0,2}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The members of an object in order, repeated keys included.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Members<'de>, M::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// The same answer by `serde_json` alone: nothing where it refuses the text.
fn expected(text: &str) -> Option<Scan> {
    let mut scan = Scan { is_object: false, depth: 0, duplicate_key: None };
    let value: &RawValue = serde_json::from_str(text).ok()?;
    visit(value.get(), "", 0, &mut scan)?;
    scan.is_object = value.get().starts_with('{');
    Some(scan)
}

fn visit(text: &str, path: &str, depth: usize, scan: &mut Scan) -> Option<()> {
    match text.as_bytes()[0] {
        b'{' => {
            scan.depth = scan.depth.max(depth + 1);
            let Members(members) = serde_json::from_str(text).ok()?;
            for (n, (key, value)) in members.iter().enumerate() {
                let dot = if path.is_empty() { "" } else { "." };
                let path = format!("{path}{dot}{key}");
                if members[..n].iter().any(|(other, _)| other == key) {
                    scan.duplicate_key.get_or_insert_with(|| path.clone());
                }
                visit(value.get(), &path, depth + 1, scan)?;
            }
        }
        b'[' => {
            scan.depth = scan.depth.max(depth + 1);
            let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            for (n, item) in items.iter().enumerate() {
                visit(item.get(), &format!("{path}[{n}]"), depth + 1, scan)?;
            }
        }
        b'"' => drop(serde_json::from_str::<String>(text).ok()?),
        _ => {}
    }
    Some(())
}

fn check(text: &str) {
    assert_eq!(scan(text).ok(), expected(text), "{text:?}");
}

fn error(text: &str) -> String {
    scan(text).unwrap_err().to_string()
}

fn duplicate(text: &str) -> Option<String> {
    scan(text).unwrap().duplicate_key
}

#[test]
fn what_serde_json_takes_is_taken_and_nothing_else() {
    for text in [
        "",
        " ",
        "{}",
        "{ }",
        "[]",
        "[ ]",
        "null",
        "nul",
        "nulll",
        "true",
        "false",
        "truefalse",
        "0",
        "-0",
        "-",
        "01",
        "-01",
        "1.",
        ".1",
        "1.5",
        "1e",
        "1e5",
        "1E+5",
        "1e-",
        "1e999",
        "-1e-999",
        "184467440737095516160",
        "NaN",
        "Infinity",
        "+1",
        "0x10",
        "1_0",
        "1 2",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1",
        "1]",
        "]",
        "{",
        "}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{a:1}",
        "{'a':1}",
        "{1:2}",
        "{\"a\" : 1 , \"b\":[{}]}",
        "{}{}",
        "{\"a\":1]",
        "[1}",
        "\u{feff}{}",
        "{}\u{a0}",
        "\u{b}{}",
        "\n\r\t {}\n",
        "{}/*c*/",
        "\0",
        "[\0]",
        "\"",
        "\"\\\"",
        "\"\\\\\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12G4\"",
        "\"\\u00e9\"",
        "\"\\ud83d\\ude00\"",
        "\"\\ud83d\"",
        "\"\\ud83d\\n\"",
        "\"\\ud83d\\u0041\"",
        "\"\\ude00\"",
        "\"\\ud83d\\ud83d\"",
        "\"tab\t\"",
        "\"\u{7f}\u{80}\u{ffff}\"",
        "\"12345678\u{1f}\"",
        "\"1234567\"",
        "\"12345678\"",
        "\"123456789\\\"é0\"",
        "\"\u{1}\"",
        "\"ééééééééé\"",
        "\"!!!!!!!!!!#########\"",
    ] {
        check(text);
    }
}

#[test]
fn errors_name_the_byte() {
    assert_eq!(error(r#"{"id": "#), "the text ends too early at byte 7");
    assert_eq!(error("[1, 2"), "the text ends too early at byte 5");
    assert_eq!(error(r#"{"id": 7,}"#), "expected a key in double quotes at byte 9");
    assert_eq!(error("{}{}"), "something after the value at byte 2");
    assert_eq!(error("{'id': 7}"), "expected a key in double quotes at byte 1");
    assert_eq!(error(r#"{"id": None}"#), "expected a value at byte 7");
    assert_eq!(error(r#"{"a" 1}"#), "expected ':' at byte 5");
    assert_eq!(error("{\"a\": \"x\ny\"}"), "a control character in a string at byte 8");
    assert_eq!(error(r#"["\ud800x"]"#), "half of a surrogate pair at byte 2");
    assert_eq!(error(r#"["\q"]"#), "an unknown escape at byte 3");
    assert_eq!(error("[007]"), "a number with a leading zero at byte 2");
}

#[test]
fn the_first_duplicate_key_is_found_whatever_its_spelling() {
    assert_eq!(duplicate(r#"{"path":"/safe","path":"/etc"}"#).as_deref(), Some("path"));
    assert_eq!(duplicate(r#"{"a":[0,{"b":{"k":1,"\u006b":2}}]}"#).as_deref(), Some("a[1].b.k"));
    assert_eq!(duplicate(r#"{"a":1,"a":{"b":1,"b":2}}"#).as_deref(), Some("a"));
    assert_eq!(duplicate(r#"{"a":{"x":1},"b":{"x":1},"c":[{"x":1},{"x":1}]}"#), None);
    assert_eq!(duplicate(r#"{"é":1,"e\u0301":2}"#), None, "normal forms are different keys");
    let long = format!(r#"{{"{0}":1,"{0}":2}}"#, "é".repeat(200));
    assert_eq!(duplicate(&long), Some("é".repeat(100) + "…"));
}

#[test]
fn a_duplicate_among_many_keys_is_found() {
    for count in [MANY_KEYS - 1, MANY_KEYS, MANY_KEYS + 1, MANY_KEYS + 2, 1000] {
        for twice in [0, count / 2, count - 1] {
            let members: Vec<_> =
                (0..count).chain([twice]).map(|n| format!(r#""k{n}":{{"k{n}":[{{}}]}}"#)).collect();
            let text = format!(r#"[{{"in":{{{}}}}}]"#, members.join(","));
            assert_eq!(duplicate(&text), Some(format!("[0].in.k{twice}")));
            let without = format!("{{{}}}", members[..count].join(","));
            assert_eq!(duplicate(&without), None);
            let deep = without.replace("[{}]", r#"[{"x":1,"x":2}]"#);
            assert_eq!(duplicate(&deep).as_deref(), Some("k0.k0[0].x"));
        }
    }
}

#[test]
fn fault_085_nothing_is_read_deeper_than_the_limit() {
    let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    assert_eq!(scan(&nested(DEPTH_LIMIT)).unwrap().depth, DEPTH_LIMIT);
    assert_eq!(error(&nested(DEPTH_LIMIT + 1)), "more than 10000 levels at byte 10000");
    assert_eq!(error(&"[".repeat(1_000_000)), "more than 10000 levels at byte 10000");
    assert_eq!(error(&r#"{"a":"#.repeat(1_000_000)), "more than 10000 levels at byte 50000");
    assert_eq!(canonical(&nested(1_000_000)), nested(1_000_000), "as it is");
    let levels = DEPTH_LIMIT - 1;
    let objects = format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
    assert_eq!(scan(&objects).unwrap().depth, levels);
    let twice = objects.replacen('1', r#"{"b":1,"b":2}"#, 1);
    assert_eq!(duplicate(&twice).unwrap().len(), PATH_LIMIT + '…'.len_utf8());
}

/// So many cases, the same each time, or `TOOLPOOL_FUZZ_CASES` new ones.
pub(in crate::json) fn config(cases: u32) -> ProptestConfig {
    match std::env::var("TOOLPOOL_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()) {
        Some(cases) => ProptestConfig { cases, ..ProptestConfig::default() },
        None => ProptestConfig { rng_seed: RngSeed::Fixed(1), ..ProptestConfig::with_cases(cases) },
    }
}

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn trees_are_read_as_serde_json_reads_them(value in tree(), pretty: bool) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        check(&text.unwrap());
    }

    #[test]
    fn broken_trees_are_refused_as_serde_json_refuses_them(
        value in tree(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..4u8, "[\\[\\]{}:,\"\\\\u0-9eE.+\\-a-d \n\u{1}]"), 1..4),
    ) {
        let mut text: Vec<char> = value.to_string().chars().collect();
        for (at, change, new) in changes {
            let at = at.index(text.len() + 1);
            match change {
                0 => text.truncate(at),
                1 if at < text.len() => drop(text.remove(at)),
                2 if at < text.len() => text[at] = new.chars().next().unwrap(),
                _ => text.insert(at, new.chars().next().unwrap()),
            }
        }
        check(&text.into_iter().collect::<String>());
    }

    #[test]
    fn any_mixture_of_tokens_is_judged_as_serde_json_judges_it(
        tokens in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"a\"", "\"b\"", "\"\\u0061\"", "\"\\ud83d\"", "\"", "\\", "1", "-", "0", ".", "e",
            "true", "null", " ", "\n", "é", "\u{1}", "\"a\":", "\"b\":1,", "{\"a\":",
        ]), 0..12),
    ) {
        check(&tokens.concat());
    }
}
