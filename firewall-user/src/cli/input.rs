//! Reading a file that is named on the command line.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Larger than any real document or list, and small enough for memory: `apply /dev/zero` ends.
const MAX_SIZE: u64 = 256 << 20;

/// Reads a file; `-` is standard input.
///
/// # Errors
/// It cannot be read, or is too large.
pub(super) fn read(file: &Path) -> io::Result<Vec<u8>> {
    if file.as_os_str() == "-" {
        return all(io::stdin().lock(), 0);
    }
    let file = File::open(file)?;
    let size = file.metadata()?.len();
    all(file, size)
}

fn all(source: impl Read, size: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(usize::try_from(size.min(MAX_SIZE)).unwrap_or(0));
    source.take(MAX_SIZE + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_SIZE {
        let message = format!("larger than {} MiB", MAX_SIZE >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(text)
}
