//! What the compiler says where a handler doesn't fit.
//!
//! A binary of its own, because it keeps the machine busy, which tests of time don't like.

/// The wording is the compiler's own in part, so there are few of these, and they are held against
/// one version of it; that such code doesn't compile at all is tested by the documentation of
/// `Handler`. Renewed with `TRYBUILD=overwrite cargo test --test ui`.
#[test]
fn messages_say_what_to_write() {
    let rustc = std::process::Command::new("rustc").arg("--version").output();
    if rustc.is_ok_and(|rustc| rustc.stdout.starts_with(b"rustc 1.95.")) {
        trybuild::TestCases::new().compile_fail("tests/ui/cases/*.rs");
    }
}
