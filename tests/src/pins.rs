//! A pin directory that is removed when the test ends.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{namespace, sweep};

/// A new pin directory on the machine's bpffs.
pub struct PinDirectory {
    path: PathBuf,
}

impl PinDirectory {
    /// Creates a directory with a unique name.
    #[expect(clippy::new_without_default, reason = "a kernel object, not a value")]
    #[must_use]
    pub fn new() -> Self {
        sweep::once();
        let path = Path::new(sweep::BPFFS).join(namespace::unique_name());
        fs::create_dir(&path).unwrap_or_else(|error| {
            panic!("create {}: {error}; run the tests by `cargo xtask test`", path.display())
        });
        Self { path }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PinDirectory {
    fn drop(&mut self) {
        sweep::remove_pins(&self.path);
    }
}
