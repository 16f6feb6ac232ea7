//! The time of whole commands with a prefix list of a million entries: loading it where nothing uses it, where it
//! is the peer of a rule of an attached interface and where it is blocked, and commands about something else
//! beside it.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::scale::spread;
use crate::{Pair, Secgroup, interrupt};

/// Entries of the lists.
const ENTRIES: u32 = 1_000_000;
/// Entries that the second file has in place of others.
const REPLACED: u32 = ENTRIES / 100;

const CONFIG: &str = "[limits]\nentries_per_prefix_list = 2000000\nrules_per_group = 2000000\n\
    groups_per_interface = 1\nrules_per_interface = 2000000\n";

/// What the entries of a list are.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Ipv4,
    /// With prefix lengths from 24 to 32.
    Ipv4Mixed,
    Ipv6,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Ipv4, Self::Ipv4Mixed, Self::Ipv6];

    const fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "IPv4 /32",
            Self::Ipv4Mixed => "IPv4 /24 to /32",
            Self::Ipv6 => "IPv6 /128",
        }
    }

    fn line(self, number: u32) -> String {
        let bits = spread(number);
        match self {
            Self::Ipv4 => Ipv4Addr::from(bits).to_string(),
            Self::Ipv4Mixed => {
                let length = 24 + number % 9;
                let network = Ipv4Addr::from(bits >> (32 - length) << (32 - length));
                format!("{network}/{length} ; SBL{number}")
            }
            Self::Ipv6 => {
                let bits = u128::from(bits) << 64 | u128::from(number);
                Ipv6Addr::from(0x2001 << 112 | bits).to_string()
            }
        }
    }

    /// Writes a file of entries from a number on.
    fn write(self, directory: &Path, first: u32) -> Result<PathBuf> {
        let lines: Vec<_> = (first..first + ENTRIES).map(|number| self.line(number)).collect();
        let path = directory.join(format!("{first}.txt"));
        fs::write(&path, lines.join("\n")).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }
}

/// Seconds of the commands with one list.
#[derive(Clone, Debug)]
pub struct ListTimes {
    what: &'static str,
    /// Each command and its seconds.
    commands: Vec<(&'static str, f64)>,
}

/// Measures the commands.
///
/// # Errors
/// A file cannot be written, or a signal was received. A command that fails panics, as in tests.
pub fn measure() -> Result<Vec<ListTimes>> {
    Kind::ALL.into_iter().map(measure_one).collect()
}

fn measure_one(kind: Kind) -> Result<ListTimes> {
    interrupt::check()?;
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.configure(CONFIG);
    let directory = TempDir::new().context("make a directory for lists")?;
    let [first, second] = [1, 1 + REPLACED].map(|first| kind.write(directory.path(), first));
    let (first, second) = (first?, second?);
    let mut commands = Vec::new();
    let mut time = |what, line: &str| {
        let begin = Instant::now();
        let printed = secgroup.ok(line);
        commands.push((what, begin.elapsed().as_secs_f64()));
        printed
    };
    let rule = |port| format!("web ingress --protocol tcp --port {port} --cidr 192.0.2.0/24");
    let of_list = "web ingress --protocol tcp --port 443 --prefix-list l";
    secgroup.ok("group create web --description x");
    secgroup.ok("attach eth0 --group web");
    secgroup.ok(&format!("rule add {}", rule(1)));
    let load = |file: &Path| format!("prefix-list load l {} --create", file.display());
    let printed = time("load, not used by a rule", &load(&first));
    ensure!(printed.ends_with(", 0 removed, 0 unchanged\n"), "{printed}");
    time("load, no change", &load(&first));
    time("group list, beside it", "group list");
    time("status, beside it", "status");
    time("rule add, beside it", &format!("rule add {}", rule(2)));
    time("rule add, with the list", &format!("rule add {of_list}"));
    time("rule add, another", &format!("rule add {}", rule(3)));
    time("load, 1% replaced", &load(&second));
    time("rule remove, with the list", &format!("rule remove {of_list}"));
    // From few entries to all of them, while a rule has the list as its peer.
    secgroup.ok("prefix-list delete l");
    let family = if matches!(kind, Kind::Ipv6) { "ipv6" } else { "ipv4" };
    secgroup.ok(&format!("prefix-list create l --family {family}"));
    secgroup.ok(&format!("rule add {of_list}"));
    time("load, used by a rule", &load(&first));
    secgroup.ok(&format!("rule remove {of_list}"));
    secgroup.ok("prefix-list delete l");
    secgroup.ok(&format!("prefix-list create l --family {family}"));
    secgroup.ok("block --prefix-list l");
    time("load, blocked", &load(&first));
    time("load, blocked, 1% replaced", &load(&second));
    time("block of an address, beside it", "block 192.0.2.7");
    Ok(ListTimes { what: kind.name(), commands })
}

/// Prints the figures.
pub fn print(all: &[ListTimes]) {
    println!("\nwhole commands with a prefix list of {ENTRIES} entries, milliseconds");
    let heads: String = all.iter().map(|of| format!(" {:>16}", of.what)).collect();
    println!("{:28}{heads}", "WHAT");
    let Some(first) = all.first() else { return };
    for (row, (what, _)) in first.commands.iter().enumerate() {
        let times = all.iter().filter_map(|of| of.commands.get(row));
        let times: String = times.map(|(_, time)| format!(" {:>16.0}", time * 1e3)).collect();
        println!("{what:28}{times}");
    }
}
