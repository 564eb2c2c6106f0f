//! The verbs of the command line: each reads its arguments, calls one room, and tells a person what happened.

pub mod certs;
pub mod dev;
pub mod receive;
pub mod send;
pub mod studies;

use std::io::Write;

/// One line of a verb's answer. A reader that has gone away (`| head`) is no reason to stop what the verb does.
pub(crate) fn say(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
