//! What the results of one batch may still take together.

use std::sync::atomic::{AtomicUsize, Ordering};

/// So much of a text is kept whatever the others took, so that every call tells something.
const KEPT: usize = 1024;

/// What is left for the results of a batch. Who comes first is served first.
#[derive(Debug)]
pub(crate) struct Allowance {
    text: AtomicUsize,
    media: AtomicUsize,
}

impl Allowance {
    /// So many bytes of text and JSON, and so many of images and documents, decoded.
    pub(crate) fn new(text: usize, media: usize) -> Self {
        Self { text: AtomicUsize::new(text), media: AtomicUsize::new(media) }
    }

    /// Takes what a text of so many bytes needs; tells how many of them it may have.
    pub(super) fn take_text(&self, bytes: usize) -> usize {
        let taken = |left: usize| Some(left.saturating_sub(bytes));
        let left = self.text.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken);
        bytes.min(left.unwrap_or_else(|left| left).max(KEPT))
    }

    /// Takes an image or a document, which is whole or not there; whether it may stay.
    pub(super) fn take_media(&self, bytes: usize) -> bool {
        let taken = |left: usize| left.checked_sub(bytes);
        self.media.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }
}
