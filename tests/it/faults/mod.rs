//! What can go wrong, by number: each number of the catalogue is a test named `fault_NNN_…`, here
//! or beside the code, or stands below with the reason why it can't be one.

mod harness;
mod policy;

/// Numbers without a test, and why.
pub(crate) const EXCLUDED: &[(u32, &str)] = &[];
