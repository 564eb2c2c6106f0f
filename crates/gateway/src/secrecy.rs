//! What is in memory (pixels, names, our private key) stays there.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Turns core dumps off for this process and all that it starts, and keeps other processes of the same user from reading its
/// memory (PR_SET_DUMPABLE of prctl(2), which also holds where the kernel pipes dumps to a program and asks no limit).
///
/// # Errors
/// When the system does not let us.
pub fn keep_memory_to_ourselves() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}
