//! Prometheus for a test, unpacked and not installed: Debian's package would start a service on the
//! contributor's machine.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::debian;
use crate::{exec, paths};

const PROGRAMS: [&str; 2] = ["prometheus", "promtool"];

/// The unpacked package; the tests look here, then in `PATH`.
fn directory() -> PathBuf {
    paths::tools().join("prometheus")
}

fn program(name: &str) -> Option<PathBuf> {
    let unpacked = directory().join("usr/bin").join(name);
    if unpacked.exists() { Some(unpacked) } else { exec::find(name) }
}

/// Whether the server and its checker are found.
pub(crate) fn found() -> bool {
    PROGRAMS.iter().all(|name| program(name).is_some())
}

/// Their paths.
pub(crate) fn describe() -> String {
    let paths = PROGRAMS.iter().filter_map(|name| program(name));
    paths.map(|path| paths::short(&path)).collect::<Vec<_>>().join(", ")
}

/// Downloads Debian's package and unpacks it.
pub(crate) fn install() -> Result<()> {
    if !debian::is_debian() {
        bail!("set up: missing `prometheus` and `promtool`: put them into PATH (prometheus.io)");
    }
    debian::unpack(debian::apt, "prometheus", &directory())
}
