//! Keeps a result within its limit: head and tail of a text, with a note that the model can read.
//!
//! A value is serialised straight into a bounded buffer, so a result of any size costs the limit
//! and no more. Runs on the worker, as user code does; knows no executor.

mod keeper;
mod secrets;
mod spill;
mod unescape;

use std::path::{Path, PathBuf};

use serde::Serialize;

pub(crate) use crate::bound::secrets::Secrets;

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
}

impl From<Output> for Bounded {
    /// An output that is within its limit.
    fn from(output: Output) -> Self {
        Self { output, cut: None, media_left_out: 0 }
    }
}

/// From so many blocks on, empty texts among them go.
const MANY_BLOCKS: usize = 1024;
/// Most bytes of a medium's type and name.
const MEDIA_WORDS: usize = 1024;

/// Serialises a handler's value within the limit, whatever its size: a top-level string is text,
/// all else JSON, and JSON that had to be cut is text.
pub(crate) fn serialized(
    value: &impl Serialize,
    limit: &ResultLimit,
) -> Result<Bounded, ToolError> {
    let mut keeper = Keeper::new(limit);
    serde_json::to_writer(&mut keeper, value)?;
    Ok(keeper.finish())
}

/// Cuts an output that is over the limit.
///
/// # Errors
/// An image or a document over its limit: half of one is nothing.
pub(crate) fn output(mut output: Output, limit: &ResultLimit) -> Result<Bounded, ToolError> {
    if !limit.secrets.is_empty() {
        output.redact(&mut |text| limit.secrets.redacted(text));
    }
    match output {
        Output::Text { text } | Output::Json { text } if text.len() > limit.text => {
            let (blocks, cut) = cut_blocks(vec![Block::Text { text }], limit.text, limit);
            let text = texts(&blocks).collect();
            Ok(Bounded { cut: Some(cut), ..Output::Text { text }.into() })
        }
        Output::Blocks { mut blocks } => {
            if blocks.len() > MANY_BLOCKS {
                blocks.retain(|block| !matches!(block, Block::Text { text } if text.is_empty()));
            }
            let (total, left_out) = leave_out_media(&mut blocks, limit.media_count);
            for block in &blocks {
                check_media(block, limit.media)?;
            }
            let mut cut = None;
            let note = (left_out > 0).then(|| media_note(left_out, total));
            // A limit that is too small for the note alone holds for the other texts.
            let taken = note.as_ref().map_or(0, String::len);
            let room = limit.text.checked_sub(taken).unwrap_or(limit.text);
            if texts(&blocks).map(str::len).sum::<usize>() > room {
                let (kept, bytes) = cut_blocks(blocks, room, limit);
                (blocks, cut) = (kept, Some(bytes));
            }
            blocks.extend(note.map(Block::text));
            Ok(Bounded { output: Output::Blocks { blocks }, cut, media_left_out: left_out })
        }
        within => Ok(within.into()),
    }
}

/// Keeps the first images and documents; tells how many there were and how many went.
fn leave_out_media(blocks: &mut Vec<Block>, most: usize) -> (u64, u64) {
    let mut media = 0;
    blocks.retain(|block| {
        let is_text = matches!(block, Block::Text { .. });
        media += usize::from(!is_text);
        is_text || media <= most
    });
    (media as u64, media.saturating_sub(most) as u64)
}

/// What the model reads of what was left out.
fn media_note(left_out: u64, total: u64) -> String {
    format!(
        "[… {left_out} of {total} images and documents were left out here, because the result has \
         too many …]"
    )
}

fn texts(blocks: &[Block]) -> impl Iterator<Item = &str> {
    blocks.iter().filter_map(|block| match block {
        Block::Text { text } => Some(text.as_str()),
        Block::Image { .. } | Block::Document { .. } => None,
    })
}

fn check_media(block: &Block, limit: usize) -> Result<(), ToolError> {
    let (what, base64, words) = match block {
        Block::Text { .. } => return Ok(()),
        Block::Image { base64, media_type } => ("image", base64, media_type.len()),
        Block::Document { base64, media_type, name } => {
            ("document", base64, media_type.len() + name.as_ref().map_or(0, String::len))
        }
    };
    if words > MEDIA_WORDS {
        return Err(ToolError::new(
            ToolErrorKind::Other,
            format_args!(
                "the {what}'s type and name have {words} bytes, more than the limit of \
                 {MEDIA_WORDS} bytes"
            ),
        ));
    }
    let digits = base64.trim_end_matches('=').len();
    let bytes = digits / 4 * 3 + (digits % 4).saturating_sub(1);
    if bytes <= limit {
        return Ok(());
    }
    Err(ToolError::new(
        ToolErrorKind::Other,
        format_args!("the {what} has {bytes} bytes, more than the limit of {limit} bytes"),
    ))
}

/// Cuts the texts, which are over the limit together: those before the limit stay, the one that
/// crosses it keeps its head and its tail, those behind it go. Tells how many bytes there were.
fn cut_blocks(blocks: Vec<Block>, room: usize, limit: &ResultLimit) -> (Vec<Block>, u64) {
    let total = texts(&blocks).map(|text| text.len() as u64).sum();
    let mut spill = limit.spill.as_deref().and_then(Spill::create);
    for (n, text) in texts(&blocks).enumerate() {
        let line = if n == 0 { "" } else { "\n" };
        spill = spill.and_then(|spill| spill.write(line.as_bytes())?.write(text.as_bytes()));
    }
    let file = spill.and_then(Spill::keep);

    let mut room = room.saturating_sub(note_room(file.as_deref()));
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
        text.insert_str(head, &note(total - kept, total, file.as_deref()));
    }
    (out, total)
}

/// What the model reads in the place of what was left out.
fn note(left_out: u64, total: u64, file: Option<&Path>) -> String {
    let file = match file {
        Some(file) => format!("; the whole result is in the file {}", file.display()),
        None => String::new(),
    };
    format!(
        "\n[… {left_out} of {total} bytes were left out here, because the result is too long{file} …]\n"
    )
}

fn note_room(file: Option<&Path>) -> usize {
    note(u64::MAX, u64::MAX, file).len()
}

#[cfg(test)]
mod tests;
