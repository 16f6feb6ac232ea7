//! Removing pins. What is not there is removed already.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::dataplane::error::{Context, Result};

/// Removes one pin.
pub(in crate::dataplane) fn unpin(path: &Path) -> Result<()> {
    ignore_missing(fs::remove_file(path)).context(format_args!("remove pin {}", path.display()))
}

/// Removes an empty directory.
pub(in crate::dataplane) fn remove_dir(dir: &Path) -> Result<()> {
    ignore_missing(fs::remove_dir(dir)).context(format_args!("remove {}", dir.display()))
}

/// Removes a directory with everything in it.
pub(in crate::dataplane) fn remove_tree(dir: &Path) -> Result<()> {
    ignore_missing(fs::remove_dir_all(dir)).context(format_args!("remove {}", dir.display()))
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
