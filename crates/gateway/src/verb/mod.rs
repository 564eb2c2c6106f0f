//! The verbs of the command line: each reads its arguments, calls one room, and tells a person what happened.

pub mod access;
pub mod audit;
pub mod certs;
pub mod dev;
pub mod receive;
pub mod send;
pub mod studies;

use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};

/// One line of a verb's answer. A reader that has gone away (`| head`) is no reason to stop what the verb does.
pub(crate) fn say(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A progress bar on a terminal; elsewhere one that shows nothing.
pub(crate) fn bar(length: u64, template: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    ProgressBar::new(length).with_style(ProgressStyle::with_template(template).expect("a template of our own"))
}
