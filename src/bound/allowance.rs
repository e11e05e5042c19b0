//! What the results of one batch may still take together.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::bound::{media_bytes, spill, texts};
use crate::output::Output;

/// So much of a text is kept whatever the others took, so that every call tells something.
const KEPT: usize = 1024;

/// What is left for the results of a batch. Who comes first is served first.
#[derive(Debug)]
pub(crate) struct Allowance {
    text: AtomicUsize,
    media: AtomicUsize,
}

/// What a result has taken, and the file that holds the whole of it. Dropped before
/// [`keep`](Taken::keep), the file is removed: nobody learns of it.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    text: usize,
    media: usize,
    pub(super) file: Option<PathBuf>,
}

impl Taken {
    /// Where the whole of a cut result is.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The result is delivered, and with it where its file is.
    pub(crate) fn keep(mut self) {
        self.file = None;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            spill::remove(file);
        }
    }
}

impl Allowance {
    /// So many bytes of text and JSON, and so many of images and documents, decoded.
    pub(crate) fn new(text: usize, media: usize) -> Self {
        Self { text: AtomicUsize::new(text), media: AtomicUsize::new(media) }
    }

    /// Takes what a text of so many bytes needs; tells how many of them it may have.
    pub(super) fn take_text(&self, bytes: usize, taken: &mut Taken) -> usize {
        let less = |left: usize| Some(left.saturating_sub(bytes));
        let left = self.text.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        let left = left.unwrap_or_else(|left| left);
        taken.text += bytes.min(left);
        bytes.min(left.max(KEPT))
    }

    /// Takes an image or a document, which is whole or not there; whether it may stay.
    pub(super) fn take_media(&self, bytes: usize, taken: &mut Taken) -> bool {
        let less = |left: usize| left.checked_sub(bytes);
        let fits = self.media.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok();
        taken.media += if fits { bytes } else { 0 };
        fits
    }

    /// Takes what an output has that is part of the batch already.
    pub(crate) fn take_known(&self, output: &Output) {
        let taken = &mut Taken::default();
        match output {
            Output::Text { text } | Output::Json { text } => {
                self.take_text(text.len(), taken);
            }
            Output::Blocks { blocks } => {
                self.take_text(texts(blocks).map(str::len).sum(), taken);
                for bytes in blocks.iter().filter_map(media_bytes) {
                    self.take_media(bytes, taken);
                }
            }
        }
    }

    /// A result isn't delivered: others may have what it took.
    pub(crate) fn give_back(&self, taken: &Taken) {
        self.text.fetch_add(taken.text, Ordering::Relaxed);
        self.media.fetch_add(taken.media, Ordering::Relaxed);
    }
}
