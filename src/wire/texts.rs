//! The visible text of a message whose content is a list of blocks.

/// The texts as one. Neighbours are pieces of one text; what comes after another block begins a
/// line.
pub(super) fn joined<'a>(blocks: impl Iterator<Item = Option<&'a str>>) -> String {
    let mut text = String::new();
    let mut apart = false;
    for block in blocks {
        match block {
            Some("") => {}
            Some(piece) => {
                if apart && !text.is_empty() {
                    text.push('\n');
                }
                text += piece;
                apart = false;
            }
            None => apart = true,
        }
    }
    text
}
