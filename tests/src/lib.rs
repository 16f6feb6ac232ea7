//! The library of the end-to-end tests: namespaces joined by veth, servers and clients in them, and
//! the built `secgroup` with its own state directory and pins.
//!
//! Nothing here uses a device of the machine: every test creates its own network namespaces, and they
//! are removed when it ends, also after a crash ([`sweep`]). Nothing sleeps for a fixed time: a
//! test waits for a condition ([`wait`]). Every helper panics with the operation, its object and
//! the result, because the panic message is the report.

pub mod bench;
pub mod bloom;
pub mod browser;
pub mod clients;
pub mod counters;
pub mod crash;
pub mod decision;
pub mod demo;
pub mod ec2;
pub mod foreign_xdp;
pub mod frame;
pub mod http;
pub mod interrupt;
pub mod link;
pub mod namespace;
pub mod network;
pub mod notify;
pub mod path;
pub mod peers;
pub mod ping;
pub mod pinned_link;
pub mod pins;
pub mod process;
pub mod prometheus;
pub mod seccomp;
pub mod secgroup;
pub mod socket;

pub mod sweep;
pub mod systemd;
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

/// The TC hook of this kernel: `tcx`, or `clsact` where the kernel has no TCX.
#[must_use]
pub fn tc_hook() -> &'static str {
    if preflight::has_tcx() { "tcx" } else { "clsact" }
}

/// The root directory of the repository. Read from the environment that Cargo sets when it runs a
/// test: the value at compile time is wrong after the checkout was moved.
#[must_use]
pub fn root() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR");
    let package = package.unwrap_or_else(|| OsString::from(env!("CARGO_MANIFEST_DIR")));
    let package = Path::new(&package);
    let top = package.ancestors().find(|directory| directory.join("Cargo.lock").exists());
    // A machine in the emulator has no sources, and runs only the tests of this package.
    top.or(package.parent()).unwrap_or(Path::new(".")).to_owned()
}
