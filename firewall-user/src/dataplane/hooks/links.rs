//! Pinned links, which keep a program attached while no process runs.

use std::path::Path;

use aya::programs::links::{FdLink, PinnedLink};

use crate::dataplane::error::{Context, Result};
use crate::dataplane::host::device::Device;
use crate::dataplane::sys::links;

/// A pinned link, if it is attached to this device. The link of a removed device stays, attached to
/// nothing, even if another device now has its name.
pub(super) fn attached_link(pin: &Path, device: &Device) -> Result<Option<FdLink>> {
    if !pin.exists() {
        return Ok(None);
    }
    let what = format!("open link {}", pin.display());
    if links::device(pin).context(&what)? != device.index {
        return Ok(None);
    }
    Ok(Some(PinnedLink::from_pin(pin).context(&what)?.into()))
}
