//! What stands for the validator where the feature `schema` is off: everything is valid, and a
//! handler's own decoding decides.

use crate::error::Error;
use crate::json::Json;

#[derive(Clone)]
pub(crate) struct Validator;

impl Validator {
    pub(crate) fn compile(_: &Json) -> Result<Self, Error> {
        Ok(Self)
    }

    pub(crate) fn validate(&self, _: &str) -> Result<(), String> {
        Ok(())
    }
}
