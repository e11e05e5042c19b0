//! Longer texts about the crate, compiled so that their code is tested.

#[doc = include_str!("design.md")]
pub mod design {}

#[doc = include_str!("json.md")]
pub mod json {}

#[doc = include_str!("../../CHANGELOG.md")]
pub mod changelog {}
