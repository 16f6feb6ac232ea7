//! The BPF file system, where pins are.

use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::dataplane::error::{DataplaneError, Result};
use crate::dataplane::pins::Pins;

/// Refuses a pin directory where nothing can be pinned, or where existing pins are not visible.
///
/// # Errors
/// Neither it nor its nearest ancestor that exists is in a BPF file system.
pub fn require(pins: &Pins) -> Result<()> {
    let root = pins.root();
    let existing = root.ancestors().find(|path| path.exists());
    let is_bpffs = existing
        .and_then(|path| statfs(path).ok())
        .is_some_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC);
    if is_bpffs {
        return Ok(());
    }
    Err(DataplaneError::new(
        format!("pin directory {}: not in a BPF file system", root.display()),
        "mount one with `mount -t bpf -o mode=0700 bpf /sys/fs/bpf`; inside `ip netns exec` the real one is \
         hidden: stay outside and use --netns, or enter with `nsenter --net=/var/run/netns/NAME`",
    ))
}
