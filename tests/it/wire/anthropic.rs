//! Anthropic Messages.

use toolpool::Wire;

use super::golden;

#[test]
fn bodies_and_replies_are_as_in_the_golden_files() {
    golden::check_folder(Wire::Anthropic);
}

#[test]
fn what_is_made_is_as_in_the_golden_file() {
    golden::check_what_is_made(Wire::Anthropic);
}
