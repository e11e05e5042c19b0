//! What the model is told of a turn's calls: one answer for each call element of its message.

use std::borrow::Cow;

use crate::call::{CallState, ToolCall};
use crate::error::bounded_to;
use crate::output::{Block, Output};
use crate::report::Report;
use crate::turn::Turn;
use crate::wire::multi_tool_use;

/// Most bytes of unreadable arguments that their result repeats.
const QUOTE_LIMIT: usize = 1024;
/// What stands for a result without text: several providers refuse empty ones.
const EMPTY: &str = "(no output)";
/// What stands for a message without content, where it can't be left out.
pub(super) const NO_CONTENT: &str = "(no content)";

/// The answer to one call element.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    /// The index in the turn of the element's first call.
    pub(super) index: usize,
    /// The element's first call; its only one unless a `multi_tool_use.parallel` was unpacked.
    pub(super) call: &'a ToolCall,
    /// What the model is told.
    pub(super) output: Output,
    /// Whether it is a failure; of several calls' results, whether all are.
    pub(super) is_error: bool,
}

/// One answer for each call element, in order, whatever the report holds.
pub(super) fn answers<'a>(turn: &'a Turn, report: &Report) -> Vec<Answer<'a>> {
    let calls = turn.calls();
    let told: Vec<_> =
        calls.iter().enumerate().map(|(index, call)| tell(index, call, report)).collect();
    let mut answers = Vec::with_capacity(calls.len());
    let mut index = 0;
    while index < calls.len() {
        let call = &calls[index];
        // Calls that a message doesn't hold together stand for themselves.
        let held = calls[index..]
            .iter()
            .take_while(|other| turn.message().is_some() && other.element() == call.element());
        let end = index + held.count().max(1);
        let (output, is_error) = match &told[index..end] {
            [(output, is_error)] => (output.clone(), *is_error),
            several => {
                let names = calls[index..end].iter().map(ToolCall::name);
                let results =
                    names.zip(several).map(|(name, (output, error))| (name, output, *error));
                (multi_tool_use::fold(results), several.iter().all(|(_, error)| *error))
            }
        };
        answers.push(Answer { index, call, output, is_error });
        index = end;
    }
    answers
}

fn tell(index: usize, call: &ToolCall, report: &Report) -> (Output, bool) {
    let Some(report) = report.calls().get(index).filter(|report| report.is_of(call)) else {
        return (Output::text("no result of this call is known"), true);
    };
    let is_error = report.is_error();
    let output = filled(report.content());
    let malformed = matches!(call.state(), CallState::Malformed(_));
    if is_error && malformed && !matches!(call.arguments().trim(), "" | "null" | "{}") {
        let quote = bounded_to(&call.arguments(), QUOTE_LIMIT);
        return (Output::text(format!("{}\nthe arguments were: {quote}", output.to_text())), true);
    }
    (output, is_error)
}

/// Blocks without the blank texts among them, which providers refuse; they refuse media without
/// bytes, too, which are told in words.
fn filled(output: Output) -> Output {
    let Output::Blocks { mut blocks } = output else { return output };
    for block in &mut blocks {
        if let Block::Image { base64, .. } | Block::Document { base64, .. } = block
            && base64.trim().is_empty()
        {
            *block = Block::text(format!("{} (it is empty)", block.to_text()));
        }
    }
    blocks.retain(|block| !matches!(block, Block::Text { text } if text.trim().is_empty()));
    if blocks.is_empty() { Output::text(EMPTY) } else { Output::Blocks { blocks } }
}

impl Answer<'_> {
    /// The answer as one text, never empty.
    pub(super) fn text(&self) -> String {
        non_empty(self.output.to_text().into()).into_owned()
    }
}

/// The text, or words that say that there is none.
pub(super) fn non_empty(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.trim().is_empty() { EMPTY.into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_that_hold_nothing_are_left_out_or_told() {
        let image =
            |base64: &str| Block::Image { media_type: "image/png".into(), base64: base64.into() };
        let given = Output::Blocks { blocks: vec![Block::text(" "), image("aGk="), image(" ")] };
        let told = [image("aGk="), Block::text("[an image, image/png] (it is empty)")];
        assert_eq!(filled(given), Output::Blocks { blocks: told.into() });
        let blank = Output::Blocks { blocks: vec![Block::text("")] };
        assert_eq!(filled(blank), Output::text(EMPTY));
    }
}
