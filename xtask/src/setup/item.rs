//! What the chores need on a machine.

use std::fmt;

use super::{Scope, browser, clients, prometheus};
use crate::toolchain::{Core, Toolchain};
use crate::{exec, linker};

/// A program or a library that a chore needs.
pub(crate) struct Item {
    /// Its name.
    name: &'static str,
    /// What it is for.
    why: &'static str,
    /// Version and path, if it is found.
    pub(crate) found: Option<String>,
    /// The Debian packages that contain it; none for what is built or unpacked into `target/tools`.
    pub(crate) packages: Vec<String>,
    /// What to install on other systems.
    pub(crate) elsewhere: String,
}

impl fmt::Display for Item {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, why, .. } = self;
        match &self.found {
            Some(found) => write!(out, "found       {name:<12} {why}: {found}"),
            None => write!(out, "missing     {name:<12} {why}: {}", self.packages.join(" ")),
        }
    }
}

/// Everything that a scope needs; some items depend on the compiler and come once it is found.
pub(crate) fn survey(scope: Scope, toolchain: Option<&Toolchain>) -> Vec<Item> {
    let mut items = vec![
        program("cc", "gcc", "compiles SQLite, which the binary contains"),
        compiler(toolchain),
    ];
    if let Some(toolchain) = toolchain {
        items.extend([llvm(toolchain), bpf_linker(toolchain)]);
    }
    if scope >= Scope::Demo {
        items.push(program("ip", "iproute2", "creates the networks of demo and tests"));
        items.push(program("ping", "iputils-ping", "is a client in demo and tests"));
    }
    if scope >= Scope::Test {
        items.push(program("nft", "nftables", "enables connection tracking in tests"));
        items.push(program("systemd-analyze", "systemd", "checks the unit files in a test"));
        items.extend(toolchain.map(clippy));
        items.push(server());
        items.extend([python(), ec2_clients()]);
        items.push(program("chromium", "chromium", "shows the console in a test"));
        items.push(drivers());
        items.extend(peers());
    }
    items
}

/// Only for fuzzing.
pub(super) fn cxx() -> Item {
    program("c++", "g++", "compiles libFuzzer")
}

/// The firewalls that the bench compares with.
pub(super) fn peers() -> [Item; 3] {
    let compared = "is measured beside secgroup in the bench";
    [
        program("nft", "nftables", compared),
        program("iptables-legacy", "iptables", compared),
        program("iperf3", "iperf3", "measures throughput in the bench"),
    ]
}

fn program(name: &'static str, package: &str, why: &'static str) -> Item {
    Item {
        name,
        why,
        found: exec::find(name).map(|path| path.display().to_string()),
        packages: vec![package.to_owned()],
        elsewhere: format!("the program `{name}` (Debian's package {package})"),
    }
}

pub(super) fn compiler(toolchain: Option<&Toolchain>) -> Item {
    let found = toolchain.map(|found| {
        let core = match found.core {
            Core::Prebuilt => "core for BPF",
            Core::Source => "the source of core",
        };
        let Toolchain { release, llvm, .. } = found;
        format!("rustc {release}, LLVM {llvm}, with {core}, {}", found.rustc.display())
    });
    Item {
        name: "compiler",
        why: "compiles the kernel object",
        found,
        packages: vec!["rustc-web".to_owned(), "libstd-rust-web-dev-bpf".to_owned()],
        elsewhere: "the source of your Rust toolchain: rustup component add rust-src".to_owned(),
    }
}

fn llvm(toolchain: &Toolchain) -> Item {
    let major = toolchain.llvm;
    Item {
        name: "llvm",
        why: "is linked into bpf-linker",
        found: linker::llvm_prefix(major).map(|prefix| prefix.display().to_string()),
        packages: vec![format!("llvm-{major}-dev"), format!("libpolly-{major}-dev")],
        elsewhere: format!("LLVM {major} with headers, and LLVM_PREFIX set to where it is"),
    }
}

fn bpf_linker(toolchain: &Toolchain) -> Item {
    Item {
        name: "bpf-linker",
        why: "links the kernel object",
        found: linker::found(toolchain),
        packages: Vec::new(),
        elsewhere: String::new(),
    }
}

pub(super) fn clippy(toolchain: &Toolchain) -> Item {
    let driver = toolchain.clippy();
    Item {
        name: "clippy",
        why: "lints the kernel program",
        found: driver.exists().then(|| driver.display().to_string()),
        packages: vec!["rust-web-clippy".to_owned()],
        elsewhere: "clippy of your Rust toolchain: rustup component add clippy".to_owned(),
    }
}

fn server() -> Item {
    Item {
        name: "prometheus",
        why: "scrapes the metrics in a test",
        found: prometheus::found().then(prometheus::describe),
        packages: Vec::new(),
        elsewhere: String::new(),
    }
}

fn python() -> Item {
    Item {
        name: "python3",
        why: "runs most clients of EC2 in tests",
        found: clients::python().map(|path| path.display().to_string()),
        packages: vec!["python3".to_owned(), "python3-venv".to_owned()],
        elsewhere: "Python 3.11 with its module venv (Debian's package python3-venv)".to_owned(),
    }
}

fn ec2_clients() -> Item {
    Item {
        name: "clients",
        why: "are the clients of EC2 in tests",
        found: clients::found().then(clients::describe),
        packages: Vec::new(),
        elsewhere: String::new(),
    }
}

fn drivers() -> Item {
    Item {
        name: "playwright",
        why: "drives the browser in a test, with axe",
        found: browser::found().then(browser::describe),
        packages: Vec::new(),
        elsewhere: String::new(),
    }
}
