//! Longer texts about the crate, compiled so that their code is tested.

#[doc = include_str!("design.md")]
pub mod design {}

#[doc = include_str!("json.md")]
pub mod json {}

#[cfg(feature = "http")]
#[doc = include_str!("models.md")]
pub mod models {}

#[doc = include_str!("../../CHANGELOG.md")]
pub mod changelog {}
