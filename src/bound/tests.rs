use std::{fs, io};

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde::Serializer;
use serde::ser::{Error as _, SerializeSeq};

use super::*;

fn limit(text: usize) -> ResultLimit {
    ResultLimit { text, media: 1000, media_count: 9, spill: None, secrets: Secrets::default() }
}

fn plenty() -> Allowance {
    Allowance::new(usize::MAX, usize::MAX)
}

/// Of a result that is the only one of its batch.
fn serialized(value: &impl Serialize, limit: &ResultLimit) -> Result<Bounded, ToolError> {
    super::serialized(value, limit, &plenty(), &|| false)
}

/// Of a result that is the only one of its batch.
fn output(output: Output, limit: &ResultLimit) -> Result<Bounded, ToolError> {
    super::output(output, limit, &plenty())
}

fn text_of(bounded: &Bounded) -> &str {
    match &bounded.output {
        Output::Text { text } => text,
        other => panic!("not a text: {other:?}"),
    }
}

/// Head and tail, and what the note says.
fn parts(text: &str) -> (&str, &str, &str) {
    let (head, rest) = text.split_once("\n[… ").unwrap();
    let (note, tail) = rest.split_once(" …]\n").unwrap();
    (head, note, tail)
}

/// An empty directory of one test's own, removed in the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("toolpool-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn files(&self) -> Vec<PathBuf> {
        fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    fn limit(&self, text: usize) -> ResultLimit {
        ResultLimit { spill: Some(self.0.clone()), ..limit(text) }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn what_is_within_the_limit_stays_as_it_is() {
    let kept = |value: &dyn Fn(&ResultLimit) -> Bounded| {
        let bounded = value(&limit(9));
        assert_eq!(bounded.cut, None);
        bounded.output
    };
    assert_eq!(kept(&|limit| serialized(&"a\"\n😀b", limit).unwrap()), Output::text("a\"\n😀b"));
    let json = Output::Json { text: "[1,2,345]".to_owned() };
    assert_eq!(kept(&|limit| serialized(&(1, 2, 345), limit).unwrap()), json);
    assert_eq!(kept(&|limit| output(json.clone(), limit).unwrap()), json);
    assert_eq!(
        kept(&|limit| output(Output::text("123456789"), limit).unwrap()),
        "123456789".into()
    );
    let empty = Output::text("");
    assert_eq!(kept(&|limit| serialized(&"", limit).unwrap()), empty);
}

#[test]
fn fault_023_a_long_text_keeps_its_head_and_its_tail() {
    let text: String = (0..2000).map(|n| format!("{n:04},")).collect();
    let bounded = serialized(&text, &limit(1000)).unwrap();
    assert_eq!(bounded.cut, Some(10_000));
    let shown = text_of(&bounded);
    assert!(shown.len() <= 1000 && shown.len() > 950, "{}", shown.len());
    let (head, note, tail) = parts(shown);
    assert!(text.starts_with(head) && text.ends_with(tail));
    assert!(head.len().abs_diff(tail.len()) <= 1);
    let left_out = 10_000 - head.len() - tail.len();
    assert_eq!(
        note,
        format!("{left_out} of 10000 bytes were left out here, because the result is too long")
    );
    let again = output(Output::text(text), &limit(1000)).unwrap();
    assert_eq!(text_of(&again), shown);
    assert_eq!(again.cut, Some(10_000));
}

#[test]
fn json_that_was_cut_is_text() {
    let numbers: Vec<u32> = (0..1000).collect();
    let json = serde_json::to_string(&numbers).unwrap();
    let bounded = serialized(&numbers, &limit(500)).unwrap();
    assert_eq!(bounded.cut, Some(json.len() as u64));
    let (head, _, tail) = parts(text_of(&bounded));
    assert!(head.starts_with("[0,1,2,") && tail.ends_with(",998,999]"));
    let again = output(Output::Json { text: json }, &limit(500)).unwrap();
    assert_eq!(text_of(&again), text_of(&bounded));
}

#[test]
fn a_limit_too_small_for_the_note_leaves_the_note() {
    for bytes in [0, 1, 7, 100] {
        let bounded = serialized(&"x".repeat(101), &limit(bytes)).unwrap();
        let (head, note, tail) = parts(text_of(&bounded));
        assert_eq!((head, tail), ("", ""));
        assert!(note.starts_with("101 of 101 bytes"));
        assert_eq!(bounded.cut, Some(101));
    }
    assert_eq!(serialized(&"", &limit(0)).unwrap().output, Output::text(""));
}

/// `count` strings of 1000 bytes, made one by one.
struct Flood {
    count: usize,
}

impl Serialize for Flood {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let piece = "0123456789".repeat(100);
        serializer.collect_seq(std::iter::repeat_n(&piece, self.count))
    }
}

/// A keeper that must never take more than its limit.
struct Watched<'a>(Keeper<'a>);

impl io::Write for Watched<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.write(bytes);
        assert!(self.0.capacity() <= 64 * 1024);
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn fault_023_a_flood_is_never_held() {
    let limit = limit(64 * 1024);
    let mut watched = Watched(Keeper::new(&limit, &|| false));
    let count = 100_000;
    serde_json::to_writer(&mut watched, &Flood { count }).unwrap();
    let bounded = watched.0.finish(&plenty());
    assert_eq!(bounded.cut, Some(2 + 1003 * count as u64 - 1), "100 MB went through");
    assert!(text_of(&bounded).len() <= 64 * 1024);
}

#[test]
fn pieces_of_any_size_leave_the_same() {
    let text: String = (0..3000).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
    let limit = limit(1000);
    let expected = output(Output::text(&text), &limit).unwrap();
    for piece in [1, 7, 100, 999, 1000, 1001, 2999, 3000] {
        let mut keeper = Keeper::new(&limit, &|| false);
        let json = format!("\"{text}\"");
        for piece in json.as_bytes().chunks(piece) {
            io::Write::write_all(&mut keeper, piece).unwrap();
            assert!(keeper.capacity() <= 1000);
        }
        assert_eq!(keeper.finish(&plenty()).output, expected.output, "{piece}");
    }
}

#[test]
fn the_whole_is_put_into_a_file_of_its_own() {
    let directory = Directory::new("spill");
    let value: Vec<String> = (0..500).map(|n| format!("é{n}\n")).collect();
    let bounded = serialized(&value, &directory.limit(1000)).unwrap();
    let files = directory.files();
    assert_eq!(files.len(), 1);
    assert_eq!(fs::read_to_string(&files[0]).unwrap(), serde_json::to_string(&value).unwrap());
    let shown = text_of(&bounded);
    assert!(shown.len() <= 1000);
    let (_, note, _) = parts(shown);
    assert!(note.ends_with(&format!("; the whole result is in the file {}", files[0].display())));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(&files[0]).unwrap().permissions().mode() & 0o777, 0o600);
    }

    let text = "naïve\n".repeat(1000);
    let bounded = serialized(&text, &directory.limit(1000)).unwrap();
    let again = output(Output::text(&text), &directory.limit(1000)).unwrap();
    assert_eq!([bounded.cut, again.cut], [Some(7000); 2]);
    let files: Vec<_> = directory.files().into_iter().filter(|file| *file != files[0]).collect();
    assert_eq!(files.len(), 2);
    for file in files {
        assert_eq!(fs::read_to_string(file).unwrap(), text, "the text, not its JSON");
    }
}

#[test]
fn a_result_within_the_limit_or_without_an_end_leaves_no_file() {
    struct Breaks;
    impl Serialize for Breaks {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut seq = serializer.serialize_seq(None)?;
            seq.serialize_element(&"x".repeat(5000))?;
            Err(S::Error::custom("the source is gone"))
        }
    }
    let directory = Directory::new("no-spill");
    assert_eq!(serialized(&"short", &directory.limit(1000)).unwrap().cut, None);
    let error = serialized(&Breaks, &directory.limit(1000)).unwrap_err();
    assert!(error.operator_text().contains("the source is gone"));
    assert!(directory.files().is_empty());
}

#[test]
fn a_file_that_can_not_be_written_is_not_named() {
    let directory = Directory::new("gone");
    let gone = ResultLimit { spill: Some(directory.0.join("missing")), ..limit(500) };
    let bounded = serialized(&"x".repeat(5000), &gone).unwrap();
    let (_, note, _) = parts(text_of(&bounded));
    assert!(note.ends_with("because the result is too long"));
    assert_eq!(bounded.cut, Some(5000));
}

#[test]
fn media_over_their_limit_are_refused_whole() {
    let image = |bytes: usize| {
        let base64 = match bytes % 3 {
            0 => "AAAA".repeat(bytes / 3),
            1 => "AAAA".repeat(bytes / 3) + "AA==",
            _ => "AAAA".repeat(bytes / 3) + "AAA=",
        };
        Block::Image { media_type: "image/png".to_owned(), base64 }
    };
    for bytes in [0, 1, 2, 3, 998, 999, 1000] {
        let blocks = Output::blocks([image(bytes), Block::text("a map")]);
        assert_eq!(output(blocks.clone(), &limit(10)).unwrap().output, blocks);
    }
    let error = output(Output::blocks([image(1001)]), &limit(10)).unwrap_err();
    assert_eq!(error.model_text(), "the image has 1001 bytes, more than the limit of 1000 bytes");
    let document = Block::Document {
        media_type: "application/pdf".to_owned(),
        base64: "AAAA".repeat(400),
        name: None,
    };
    let error = output(Output::blocks([document]), &limit(10)).unwrap_err();
    assert_eq!(
        error.model_text(),
        "the document has 1200 bytes, more than the limit of 1000 bytes"
    );
}

#[test]
fn the_texts_of_blocks_share_the_limit() {
    let image = Block::Image { media_type: "image/png".to_owned(), base64: "AAAA".to_owned() };
    let directory = Directory::new("blocks");
    let blocks = vec![
        Block::text("a".repeat(300)),
        image.clone(),
        Block::text("b".repeat(900)),
        Block::text("c".repeat(50)),
        image.clone(),
    ];
    let bounded = output(Output::Blocks { blocks }, &directory.limit(1000)).unwrap();
    assert_eq!(bounded.cut, Some(1250));
    let Output::Blocks { blocks } = &bounded.output else { panic!("{bounded:?}") };
    assert_eq!(blocks.len(), 4, "the text behind the cut is gone, the image behind it isn't");
    assert_eq!([&blocks[1], &blocks[3]], [&image, &image]);
    assert!(texts(blocks).map(str::len).sum::<usize>() <= 1000);
    let Block::Text { text } = &blocks[2] else { panic!("{blocks:?}") };
    let (head, note, tail) = parts(text);
    let left_out = 1250 - 300 - head.len() - tail.len();
    assert!(note.starts_with(&format!("{left_out} of 1250 bytes were left out here")));
    let whole = fs::read_to_string(&directory.files()[0]).unwrap();
    assert_eq!(whole.len(), 1250 + 2);
    assert!(whole.ends_with(&format!("b\n{}", "c".repeat(50))));
}

/// The same cases each time, or `TOOLPOOL_FUZZ_CASES` new ones.
pub(super) fn config() -> ProptestConfig {
    match std::env::var("TOOLPOOL_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()) {
        Some(cases) => ProptestConfig { cases, ..ProptestConfig::default() },
        None => ProptestConfig { rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() },
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_text_is_cut_at_characters_and_within_its_limit(
        text in "[aé名😀\"\\\\\n]{0,400}",
        bytes in 0..600usize,
        is_json: bool,
    ) {
        let limit = limit(bytes);
        let (bounded, whole) = if is_json {
            (serialized(&[&text], &limit).unwrap(), serde_json::to_string(&[&text]).unwrap())
        } else {
            (serialized(&text, &limit).unwrap(), text.clone())
        };
        let again = match is_json {
            true => output(Output::Json { text: whole.clone() }, &limit).unwrap(),
            false => output(Output::text(&whole), &limit).unwrap(),
        };
        prop_assert_eq!(&bounded.output, &again.output);
        prop_assert_eq!(bounded.cut, again.cut);
        if whole.len() <= bytes {
            prop_assert_eq!(bounded.output.to_text(), whole);
            prop_assert_eq!(bounded.cut, None);
        } else {
            let (head, note, tail) = parts(text_of(&bounded));
            prop_assert!(whole.starts_with(head) && whole.ends_with(tail));
            let left_out = whole.len() - head.len() - tail.len();
            let start = format!("{left_out} of {} bytes", whole.len());
            prop_assert!(note.starts_with(&start));
            prop_assert!(text_of(&bounded).len() <= bytes.max(note_room(Why::Own, None)));
        }
    }
}

#[test]
fn fault_136_media_beyond_their_number_are_left_out_with_a_note() {
    let image = || Block::Image { media_type: "image/png".to_owned(), base64: "AAAA".to_owned() };
    let few = Output::blocks((0..9).map(|_| image()).chain([Block::text("nine")]));
    let bounded = output(few.clone(), &limit(10)).unwrap();
    assert_eq!((bounded.output, bounded.media_left_out), (few, 0));

    let blocks = (0..1000).flat_map(|_| [image(), Block::text("")]);
    let many = Output::blocks([Block::text("all")].into_iter().chain(blocks));
    let bounded = output(many, &limit(10)).unwrap();
    assert_eq!((bounded.cut, bounded.media_left_out), (None, 991));
    let note = "[… 991 of 1000 images and documents were left out here, because the result has too \
                many …]";
    let kept: Vec<_> = [Block::text("all")]
        .into_iter()
        .chain((0..9).map(|_| image()))
        .chain([Block::text(note)])
        .collect();
    assert_eq!(bounded.output, Output::Blocks { blocks: kept });
}

#[test]
fn the_note_on_media_is_within_the_limit_of_the_texts() {
    let image = || Block::Image { media_type: "image/png".to_owned(), base64: "AAAA".to_owned() };
    for bytes in [250, 400, 1000] {
        for text in [bytes - 90, bytes, 5000] {
            let blocks = (0..20).map(|_| image()).chain([Block::text("x".repeat(text))]);
            let bounded = output(Output::blocks(blocks), &limit(bytes)).unwrap();
            let Output::Blocks { blocks } = &bounded.output else { panic!("no blocks") };
            assert!(texts(blocks).map(str::len).sum::<usize>() <= bytes, "{bytes} {text}");
            assert_eq!((bounded.cut, bounded.media_left_out), (Some(text as u64), 11));
        }
    }
}

#[test]
fn a_medium_with_a_long_name_is_refused() {
    let named = Block::Document {
        media_type: "application/pdf".to_owned(),
        base64: "AAAA".to_owned(),
        name: Some("n".repeat(2000)),
    };
    let error = output(Output::blocks([named]), &limit(10)).unwrap_err();
    assert_eq!(
        error.model_text(),
        "the document's type and name have 2015 bytes, more than the limit of 1024 bytes"
    );
}

#[test]
fn fault_158_who_comes_last_is_cut_to_what_the_others_left() {
    let text: String = (0..4000).map(|n| format!("{n:04},")).collect();
    let directory = Directory::new("together");
    let ways: [fn(&str, &ResultLimit, &Allowance) -> Bounded; 4] = [
        |text, limit, left| super::serialized(&text, limit, left, &|| false).unwrap(),
        |text, limit, left| super::output(Output::text(text), limit, left).unwrap(),
        |text, limit, left| {
            super::output(Output::Json { text: text.to_owned() }, limit, left).unwrap()
        },
        |text, limit, left| {
            super::output(Output::blocks([Block::text(text)]), limit, left).unwrap()
        },
    ];
    for (way, limit) in
        ways.iter().flat_map(|way| [(way, limit(9000)), (way, directory.limit(9000))])
    {
        let left = Allowance::new(15_000, 0);
        assert_eq!(way(&text[..8000], &limit, &left).cut, None);
        let before = directory.files();
        // 7000 are left: for a result within its own limit, and then for one over it.
        let mut kept = Vec::new();
        for length in [8000, 20_000] {
            let left = Allowance::new(7000, 0);
            kept.push(way(&text[..length], &limit, &left));
            let cut = kept.last().unwrap();
            assert_eq!(cut.cut, Some(length as u64));
            let shown = cut.output.to_text();
            assert!(shown.len() <= 7000 && shown.len() > 6900, "{}", shown.len());
            let (head, note, tail) = parts(&shown);
            assert!(text[..length].starts_with(head) && text[..length].ends_with(tail));
            let left_out = length - head.len() - tail.len();
            let why = "because the results of this turn are too long together";
            assert!(
                note.starts_with(&format!(
                    "{left_out} of {length} bytes were left out here, {why}"
                ))
            );
            if limit.spill.is_some() {
                let (_, file) = note.split_once("whole result is in the file ").unwrap();
                assert_eq!(fs::read_to_string(file).unwrap(), text[..length]);
            }
        }
        let files = directory.files().len() - before.len();
        assert_eq!(files, if limit.spill.is_some() { 2 } else { 0 });
        drop(kept);
        assert_eq!(directory.files(), before, "of results that nobody keeps");
        // 7000 are taken at once, and then nothing is left but what every call may say.
        assert_eq!(way(&text[..7000], &limit, &left).cut, None);
        assert_eq!(way(&text[..1024], &limit, &left).cut, None);
        let last = way(&text[..1025], &limit, &left);
        assert_eq!(last.cut, Some(1025));
        assert!(last.output.to_text().len() <= 1024);
    }
}

#[test]
fn fault_158_media_that_a_batch_has_no_room_for_are_left_out() {
    let image = |bytes: usize| Block::Image {
        media_type: "image/png".to_owned(),
        base64: "AAAA".repeat(bytes / 3),
    };
    let left = Allowance::new(1000, 900);
    let blocks = |blocks: Vec<Block>| super::output(Output::blocks(blocks), &limit(1000), &left);
    let whole = blocks(vec![image(600)]).unwrap();
    assert_eq!(whole.media_left_out, 0);
    // The second doesn't fit, the third does.
    let some = blocks(vec![Block::text("a"), image(600), image(300)]).unwrap();
    assert_eq!(some.media_left_out, 1);
    let note = "[… 1 of 2 images and documents were left out here, because the results of this turn \
                have too much of them together …]";
    let expected = Output::blocks([Block::text("a"), image(300), Block::text(note)]);
    assert_eq!(some.output, expected);
    // One that is over its own limit is refused, and takes nothing.
    assert!(blocks(vec![image(1200)]).is_err());
}
