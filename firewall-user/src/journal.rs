//! Messages of this process: lines on standard error, which the service manager keeps in its journal.

use std::fmt;
use std::io::{self, Write as _};

/// Writes a line. Where it cannot be written, because the disk of a log is full or its reader is gone, it is lost:
/// what it tells of was done, and its caller goes on.
pub fn report(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "secgroup: {text}");
}
