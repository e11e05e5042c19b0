//! Which tests run beside each other: those that measure time share the machine, those that keep
//! every core busy have it alone. What a test asserts of time then doesn't hang on its neighbours.

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

static MACHINE: RwLock<()> = RwLock::new(());

/// Until it is dropped, no test runs that keeps every core busy. Not to be asked for twice by one
/// thread.
pub(crate) fn shared() -> RwLockReadGuard<'static, ()> {
    MACHINE.read()
}

/// Until it is dropped, no test runs that measures time.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write()
}
