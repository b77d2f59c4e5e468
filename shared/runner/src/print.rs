//! The log of the build that the runner runs in: a few lines for people. What the command prints is not among them.

use std::io::Write;

/// Writes a line. Nobody may be there to read it.
pub(crate) fn note(what: &str) {
    let _ = writeln!(std::io::stderr(), "towpath runner: {what}");
}
