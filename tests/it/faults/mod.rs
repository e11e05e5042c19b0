//! What can go wrong, by number: each number of the catalogue is a test named `fault_NNN_…`, here
//! or beside the code, or stands below with the reason why it can't be one.

mod arguments;
mod bodies;
mod deadlines;
pub(crate) mod harness;
#[cfg(feature = "http")]
mod http;
mod lifecycle;
mod nesting;
mod policy;
#[cfg(target_os = "linux")]
pub(crate) mod process;
mod props;
#[cfg(target_os = "linux")]
mod resources;
mod results;
mod retries;
mod scheduling;
mod tools;
mod trust;
mod wire;

/// Numbers, or parts of them, without a test, and why.
pub(crate) const EXCLUDED: &[(u32, &str)] = &[
    (20, "a thread that foreign code ends on its own takes unsafe code, and is undefined in Rust"),
    (
        49,
        "to fork without executing another program takes unsafe code; what the child may do with an \
         executor is written beside it",
    ),
    (76, "a policy that blocks holds up its batch: nothing of it may start before it has decided"),
    (
        146,
        "a library that is unloaded while its threads run, and a panic that ends the process because \
         the program was built so: both are told in the design notes",
    ),
    (
        159,
        "an approval that never comes holds up its turn, which waits for it outside of the deadline; \
         what is to be approved doesn't run meanwhile",
    ),
];
