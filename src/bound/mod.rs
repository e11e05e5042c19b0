//! Keeps a result within its limit: head and tail of a text, with a note that the model can read.
//!
//! A value is serialised straight into a bounded buffer, so a result of any size costs the limit
//! and no more. Runs on the worker, as user code does; knows no executor.

mod allowance;
mod keeper;
mod secrets;
mod spill;
mod unescape;

use std::path::{Path, PathBuf};

use serde::Serialize;

pub(crate) use crate::bound::allowance::{Allowance, Taken};
pub(crate) use crate::bound::secrets::Secrets;
pub(crate) use crate::bound::spill::check_directory;

use crate::bound::keeper::Keeper;
use crate::bound::spill::Spill;
use crate::error::{ToolError, ToolErrorKind};
use crate::output::{Block, Output};

/// How large a result may be.
#[derive(Debug, Clone)]
pub(crate) struct ResultLimit {
    /// Bytes of text or JSON, the note of a cut included. A limit smaller than the note leaves
    /// only the note.
    pub(crate) text: usize,
    /// Bytes of one image or document, decoded.
    pub(crate) media: usize,
    /// Images and documents.
    pub(crate) media_count: usize,
    /// The directory where the whole of a cut text is put.
    pub(crate) spill: Option<PathBuf>,
    /// What is taken out of texts before they are cut.
    pub(crate) secrets: Secrets,
}

/// An output within its limit.
#[doc(hidden)]
#[derive(Debug)]
pub struct Bounded {
    pub(crate) output: Output,
    /// How many bytes of text it had, where it was cut.
    pub(crate) cut: Option<u64>,
    /// How many images and documents were left out.
    pub(crate) media_left_out: u64,
    /// What is to be given back where it isn't delivered.
    pub(crate) taken: Taken,
}

impl From<Output> for Bounded {
    /// An output that is within its limit.
    fn from(output: Output) -> Self {
        Self { output, cut: None, media_left_out: 0, taken: Taken::default() }
    }
}

/// From so many blocks on, empty texts among them go.
const MANY_BLOCKS: usize = 1024;
/// Most bytes of a medium's type and name.
const MEDIA_WORDS: usize = 1024;

/// Why something is left out of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// The result is over its own limit.
    Own,
    /// The results of the batch are over theirs.
    Together,
}

/// Serialises a handler's value within the limit, whatever its size: a top-level string is text,
/// all else JSON, and JSON that had to be cut is text. One that is long gives up when `is_dropped`
/// says that nobody wants it any more.
pub(crate) fn serialized(
    value: &impl Serialize,
    limit: &ResultLimit,
    allowance: &Allowance,
    is_dropped: &dyn Fn() -> bool,
) -> Result<Bounded, ToolError> {
    let mut keeper = Keeper::new(limit, is_dropped);
    serde_json::to_writer(&mut keeper, value)
        .map_err(|error| ToolError::of_kind(ToolErrorKind::BadResult).with_details(error))?;
    Ok(keeper.finish(allowance))
}

/// Cuts an output that is over the limit, or over what the batch's others left.
///
/// # Errors
/// An image or a document over its limit: half of one is nothing.
pub(crate) fn output(
    mut output: Output,
    limit: &ResultLimit,
    allowance: &Allowance,
) -> Result<Bounded, ToolError> {
    if !limit.secrets.is_empty() {
        output.redact(&mut |text| limit.secrets.redacted(text));
    }
    let mut taken = Taken::default();
    let over = match &output {
        Output::Text { text } | Output::Json { text } => {
            over(text.len(), limit.text, allowance, &mut taken)
        }
        Output::Blocks { .. } => None,
    };
    match (output, over) {
        (Output::Text { text } | Output::Json { text }, Some((room, why))) => {
            let blocks = vec![Block::Text { text }];
            let (blocks, cut) = cut_blocks(blocks, room, why, limit, &mut taken);
            let text = texts(&blocks).collect();
            Ok(Bounded { cut: Some(cut), taken, ..Output::Text { text }.into() })
        }
        (Output::Blocks { mut blocks }, _) => {
            if blocks.len() > MANY_BLOCKS {
                blocks.retain(|block| !matches!(block, Block::Text { text } if text.is_empty()));
            }
            let (left_out, note) = leave_out_media(&mut blocks, limit, allowance, &mut taken)?;
            // A limit that is too small for the note alone holds for the other texts.
            let noted = note.as_ref().map_or(0, String::len);
            let most = limit.text.checked_sub(noted).unwrap_or(limit.text);
            let mut cut = None;
            let bytes = texts(&blocks).map(str::len).sum();
            if let Some((room, why)) = self::over(bytes, most, allowance, &mut taken) {
                let (kept, bytes) = cut_blocks(blocks, room, why, limit, &mut taken);
                (blocks, cut) = (kept, Some(bytes));
            }
            blocks.extend(note.map(Block::text));
            let output = Output::Blocks { blocks };
            Ok(Bounded { output, cut, media_left_out: left_out, taken })
        }
        (within, _) => Ok(Bounded { taken, ..within.into() }),
    }
}

/// How many of a text's bytes it may have, and why not all, where it is over a limit.
fn over(
    bytes: usize,
    limit: usize,
    allowance: &Allowance,
    taken: &mut Taken,
) -> Option<(usize, Why)> {
    let wanted = bytes.min(limit);
    match allowance.take_text(wanted, taken) {
        room if room < wanted => Some((room, Why::Together)),
        _ if bytes > limit => Some((limit, Why::Own)),
        _ => None,
    }
}

/// Keeps the first images and documents, as many as the result and its batch may have; tells how
/// many went, and what the model reads of them.
fn leave_out_media(
    blocks: &mut Vec<Block>,
    limit: &ResultLimit,
    allowance: &Allowance,
    taken: &mut Taken,
) -> Result<(u64, Option<String>), ToolError> {
    let mut total = 0;
    blocks.retain(|block| {
        let is_medium = media_bytes(block).is_some();
        total += usize::from(is_medium);
        !is_medium || total <= limit.media_count
    });
    for block in &*blocks {
        check_media(block, limit.media)?;
    }
    let mut why = Why::Own;
    let mut left_out = total.saturating_sub(limit.media_count);
    blocks.retain(|block| {
        let fits = media_bytes(block).is_none_or(|bytes| allowance.take_media(bytes, taken));
        if !fits {
            (left_out, why) = (left_out + 1, Why::Together);
        }
        fits
    });
    let note = (left_out > 0).then(|| media_note(left_out, total, why));
    Ok((left_out as u64, note))
}

/// What the model reads of what was left out.
fn media_note(left_out: usize, total: usize, why: Why) -> String {
    let why = match why {
        Why::Own => "the result has too many",
        Why::Together => "the results of this turn have too much of them together",
    };
    format!("[… {left_out} of {total} images and documents were left out here, because {why} …]")
}

fn texts(blocks: &[Block]) -> impl Iterator<Item = &str> {
    blocks.iter().filter_map(|block| match block {
        Block::Text { text } => Some(text.as_str()),
        Block::Image { .. } | Block::Document { .. } => None,
    })
}

/// How many bytes an image or a document has, decoded.
fn media_bytes(block: &Block) -> Option<usize> {
    match block {
        Block::Text { .. } => None,
        Block::Image { base64, .. } | Block::Document { base64, .. } => {
            let digits = base64.trim_end_matches('=').len();
            Some(digits / 4 * 3 + (digits % 4).saturating_sub(1))
        }
    }
}

fn check_media(block: &Block, limit: usize) -> Result<(), ToolError> {
    let (what, words) = match block {
        Block::Text { .. } => return Ok(()),
        Block::Image { media_type, .. } => ("image", media_type.len()),
        Block::Document { media_type, name, .. } => {
            ("document", media_type.len() + name.as_ref().map_or(0, String::len))
        }
    };
    if words > MEDIA_WORDS {
        return Err(ToolError::new(
            ToolErrorKind::BadResult,
            format_args!(
                "the {what}'s type and name have {words} bytes, more than the limit of \
                 {MEDIA_WORDS} bytes"
            ),
        ));
    }
    if let Some(bytes) = media_bytes(block).filter(|bytes| *bytes > limit) {
        return Err(ToolError::new(
            ToolErrorKind::BadResult,
            format_args!("the {what} has {bytes} bytes, more than the limit of {limit} bytes"),
        ));
    }
    Ok(())
}

/// Cuts the texts, which are over the limit together: those before the limit stay, the one that
/// crosses it keeps its head and its tail, those behind it go. Tells how many bytes there were.
fn cut_blocks(
    blocks: Vec<Block>,
    room: usize,
    why: Why,
    limit: &ResultLimit,
    taken: &mut Taken,
) -> (Vec<Block>, u64) {
    let total = texts(&blocks).map(|text| text.len() as u64).sum();
    let mut spill = limit.spill.as_deref().and_then(Spill::create);
    for (n, text) in texts(&blocks).enumerate() {
        let line = if n == 0 { "" } else { "\n" };
        spill = spill.and_then(|spill| spill.write(line.as_bytes())?.write(text.as_bytes()));
    }
    taken.file = spill.and_then(Spill::keep);
    let file = taken.file.as_deref();

    let mut room = room.saturating_sub(note_room(why, file));
    let mut kept = 0;
    let mut out = Vec::with_capacity(blocks.len());
    let mut crossing = None;
    for block in blocks {
        match block {
            Block::Text { .. } if crossing.is_some() => {}
            Block::Text { text } if text.len() > room => {
                let head = text.floor_char_boundary(room / 2);
                let tail = text.ceil_char_boundary(text.len() - (room - room / 2));
                kept += (head + text.len() - tail) as u64;
                crossing = Some((out.len(), head));
                out.push(Block::Text { text: text[..head].to_owned() + &text[tail..] });
            }
            Block::Text { text } => {
                room -= text.len();
                kept += text.len() as u64;
                out.push(Block::Text { text });
            }
            media => out.push(media),
        }
    }
    if let Some((at, head)) = crossing
        && let Block::Text { text } = &mut out[at]
    {
        text.insert_str(head, &note(total - kept, total, why, file));
    }
    (out, total)
}

/// What the model reads in the place of what was left out.
fn note(left_out: u64, total: u64, why: Why, file: Option<&Path>) -> String {
    let why = match why {
        Why::Own => "the result is too long",
        Why::Together => "the results of this turn are too long together",
    };
    let file = match file {
        Some(file) => format!("; the whole result is in the file {}", file.display()),
        None => String::new(),
    };
    format!("\n[… {left_out} of {total} bytes were left out here, because {why}{file} …]\n")
}

fn note_room(why: Why, file: Option<&Path>) -> usize {
    note(u64::MAX, u64::MAX, why, file).len()
}

#[cfg(test)]
mod tests;
