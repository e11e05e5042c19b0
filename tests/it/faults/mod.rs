//! What can go wrong, by number: each number of the catalogue is a test named `fault_NNN_…`, here
//! or beside the code, or stands below with the reason why it can't be one.

mod deadlines;
mod harness;
#[cfg(feature = "http")]
mod http;
mod lifecycle;
mod policy;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod resources;
mod scheduling;
mod tools;
mod wire;

/// Numbers without a test, and why.
pub(crate) const EXCLUDED: &[(u32, &str)] = &[(
    49,
    "to fork without executing another program takes unsafe code; what the child may do with an \
     executor is written beside it",
)];
