//! What the end-to-end tests stand on: namespaces joined by veth, servers and clients in them, and
//! the built `secgroup` with a state directory and pins of its own.
//!
//! Nothing here touches a device of the machine: every test makes its own network namespaces and
//! they are gone when it ends, however it ends ([`sweep`]). Nothing sleeps for a fixed time: a test
//! waits for what it needs ([`wait`]). Every helper panics with what it was doing, to whom, and
//! what came back, because the panic is the report.

pub mod bench;
pub mod bloom;
pub mod counters;
pub mod crash;
pub mod decision;
pub mod demo;
pub mod frame;
pub mod http;
pub mod interrupt;
pub mod namespace;
pub mod network;
pub mod path;
pub mod peers;
pub mod ping;
pub mod pins;
pub mod process;
pub mod prometheus;
pub mod seccomp;
pub mod secgroup;
pub mod socket;
pub mod stranger;
pub mod sweep;
pub mod tcp;
pub mod tun;
pub mod udp;
pub mod wait;

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use firewall_user::dataplane::host::preflight;

pub use counters::Counters;
pub use namespace::Namespace;
pub use network::{Edge, Guest, Pair, Routed};
pub use pins::PinDirectory;
pub use process::Process;
pub use prometheus::Prometheus;
pub use secgroup::Secgroup;
pub use wait::wait_until;

/// How TC programs hang on an interface of this kernel: `tcx`, or `clsact` where there is none.
#[must_use]
pub fn tc_hook() -> &'static str {
    if preflight::has_tcx() { "tcx" } else { "clsact" }
}

/// The top of the repository. Cargo says it when it runs a test: what it said when the test was
/// compiled would name the old place of a checkout that was moved.
#[must_use]
pub fn root() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR");
    let package = package.unwrap_or_else(|| OsString::from(env!("CARGO_MANIFEST_DIR")));
    let package = Path::new(&package);
    let top = package.ancestors().find(|directory| directory.join("Cargo.lock").exists());
    // A machine in the emulator has no sources, and runs only the tests of this package.
    top.or(package.parent()).unwrap_or(Path::new(".")).to_owned()
}
