//! The compared firewalls, each activated on a server.

use std::fmt;
use std::io::Write as _;

use super::generator::{DROP, Generator, PASS};
use super::rules::Rules;
use crate::decision::Family;
use crate::process::{output, output_or_error};
use crate::{Namespace, Pair, Secgroup};

const IPTABLES_NFT: &str = "iptables-nft-restore";
const IPTABLES_LEGACY: &str = "iptables-legacy-restore";

/// A firewall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Firewall {
    /// No firewall: an XDP program that drops everything, the lower bound of a figure.
    XdpDrop,
    /// No firewall.
    Nothing,
    /// No firewall: an XDP program that passes everything, which shows the cost of XDP itself.
    XdpPass,
    /// secgroup with native XDP.
    Xdp,
    /// secgroup with the hook that `auto` chooses on veth.
    Tcx,
    /// nftables with connection tracking.
    Nftables,
    /// iptables with the nftables backend.
    IptablesNft,
    /// iptables with the legacy backend.
    IptablesLegacy,
}

impl Firewall {
    /// All of them, in the order of figures.
    pub const ALL: [Self; 8] = [
        Self::XdpDrop,
        Self::Nothing,
        Self::XdpPass,
        Self::Xdp,
        Self::Tcx,
        Self::Nftables,
        Self::IptablesNft,
        Self::IptablesLegacy,
    ];

    /// The measured numbers of rules; `None` without a firewall.
    #[must_use]
    pub fn rules(self) -> Vec<Option<Rules>> {
        let every = Rules::ALL.into_iter();
        match self {
            Self::XdpDrop | Self::Nothing | Self::XdpPass => vec![None],
            Self::Xdp | Self::Tcx | Self::Nftables => {
                every.chain(Rules::BLOCKED).map(Some).collect()
            }
            Self::IptablesNft | Self::IptablesLegacy => {
                every.filter(|rules| *rules != Rules::SET).map(Some).collect()
            }
        }
    }

    const fn is_measured_over_v6(self) -> bool {
        matches!(self, Self::Nothing | Self::Xdp | Self::Tcx | Self::Nftables)
    }

    /// The printed name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::XdpDrop => "XDP, always drop",
            Self::Nothing => "nothing",
            Self::XdpPass => "XDP, always pass",
            Self::Xdp => "secgroup, xdp",
            Self::Tcx => "secgroup, tcx",
            Self::Nftables => "nftables",
            Self::IptablesNft => "iptables-nft",
            Self::IptablesLegacy => "iptables-legacy",
        }
    }
}

/// A firewall with its rules: one row of the figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// The firewall.
    pub firewall: Firewall,
    /// The number of rules or the set to search.
    pub rules: Option<Rules>,
    /// The address family of packets and rules.
    pub family: Family,
}

impl Subject {
    /// All of them, in the order of figures.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let subjects = |firewall: Firewall| {
            let v4 = firewall.rules().into_iter().map(move |rules| Self::v4(firewall, rules));
            // Some firewalls, with the smallest number of rules, and block lists.
            let is_of_v6 = move |rules: &Option<Rules>| {
                firewall.is_measured_over_v6()
                    && rules.is_none_or(|rules| matches!(rules, Rules::Each(1) | Rules::Blocked(_)))
            };
            let v6 = firewall.rules().into_iter().filter(is_of_v6);
            v4.chain(v6.map(move |rules| Self { family: Family::V6, ..Self::v4(firewall, rules) }))
        };
        Firewall::ALL.into_iter().flat_map(subjects).collect()
    }

    /// A subject over IPv4.
    #[must_use]
    pub const fn v4(firewall: Firewall, rules: Option<Rules>) -> Self {
        Self { firewall, rules, family: Family::V4 }
    }

    /// The subjects that the kernel supports. It may lack one of the two backends of iptables,
    /// which is then printed.
    #[must_use]
    pub fn present() -> Vec<Self> {
        let mut subjects = Self::all();
        for (firewall, restore) in
            [(Firewall::IptablesNft, IPTABLES_NFT), (Firewall::IptablesLegacy, IPTABLES_LEGACY)]
        {
            if let Err(error) = load(&Namespace::new(), restore, &[], &Rules::Each(1).iptables()) {
                eprintln!("without {}: {error}", firewall.name());
                subjects.retain(|subject| subject.firewall != firewall);
            }
        }
        subjects
    }

    /// nftables with the same rules; with one rule, if the subject has none.
    #[must_use]
    pub fn peer(self) -> Self {
        let rules = self.rules.or(Some(Rules::Each(1)));
        Self { firewall: Firewall::Nftables, rules, ..self }
    }

    /// No firewall, for the same address family.
    #[must_use]
    pub const fn nothing(self) -> Self {
        Self { firewall: Firewall::Nothing, rules: None, family: self.family }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.firewall.name())?;
        self.rules.map_or(Ok(()), |rules| write!(out, ", {rules}"))?;
        if self.family == Family::V6 { write!(out, ", IPv6") } else { Ok(()) }
    }
}

/// An active firewall, until this or its namespace is dropped.
pub enum ActiveFirewall {
    /// See [`Firewall::XdpDrop`].
    Drop,
    /// Drops nothing.
    Nothing,
    /// secgroup, and the name of the device in its counters.
    Secgroup(Box<Secgroup<'static>>, String),
    /// nftables.
    Nftables,
    /// The program that prints the counters.
    Iptables(&'static str),
}

impl ActiveFirewall {
    /// Activates a firewall on the device of a server.
    #[must_use]
    pub fn new(subject: Subject, server: &Namespace, generator: &mut Generator) -> Self {
        let rules = || subject.rules.unwrap_or(Rules::Each(1));
        match subject.firewall {
            Firewall::XdpDrop => {
                generator.attach(DROP, server);
                Self::Drop
            }
            Firewall::Nothing => Self::Nothing,
            Firewall::XdpPass => {
                generator.attach(PASS, server);
                Self::Nothing
            }
            Firewall::Xdp => secgroup(subject, server, "--hook xdp", "; xdp "),
            Firewall::Tcx => secgroup(subject, server, "", "; tcx "),
            Firewall::Nftables => {
                require(load(server, "nft", &["-f"], &rules().nftables(subject.family)));
                Self::Nftables
            }
            Firewall::IptablesNft => {
                require(load(server, IPTABLES_NFT, &[], &rules().iptables()));
                Self::Iptables("iptables-nft-save")
            }
            Firewall::IptablesLegacy => {
                require(load(server, IPTABLES_LEGACY, &[], &rules().iptables()));
                Self::Iptables("iptables-legacy-save")
            }
        }
    }

    /// Packets dropped so far, as the firewall itself counts them; `None` without a firewall.
    #[must_use]
    pub fn dropped(&self, server: &Namespace, generator: &Generator) -> Option<u64> {
        match self {
            Self::Drop => Some(generator.dropped()),
            Self::Nothing => None,
            Self::Secgroup(secgroup, device) => {
                let counters = secgroup.counters();
                let dropped = ["no-rule", "blocked"];
                let dropped = dropped.map(|reason| counters.packets(device, "ingress", reason));
                Some(dropped.iter().sum())
            }
            Self::Nftables => {
                // Not the tables, which may have a million elements.
                let listing = output(server.command("nft").args(["list", "counters"]));
                let counters = listing.split("counter dropped").skip(1);
                Some(counters.map(|counter| number_after(counter, "packets ")).sum())
            }
            Self::Iptables(save) => {
                let listing = output(server.command(save).args(["-c", "-t", "filter"]));
                Some(number_after(&listing, ":INPUT DROP ["))
            }
        }
    }
}

/// `options` are arguments of `attach`, whose output has to contain `expected`.
fn secgroup(subject: Subject, server: &Namespace, options: &str, expected: &str) -> ActiveFirewall {
    let secgroup = Secgroup::new();
    subject.rules.unwrap_or(Rules::Each(1)).secgroup(&secgroup, subject.family);
    let (device, namespace) = (Pair::DEVICE, server.name());
    let printed =
        secgroup.ok(&format!("attach {device} --netns {namespace} --group bench {options}"));
    assert!(
        printed.contains(expected),
        "attach {options} has to print {expected:?}, not {printed}"
    );
    ActiveFirewall::Secgroup(Box::new(secgroup), format!("{namespace}/{device}"))
}

/// Writes rules to a file and runs a program with it.
fn load(server: &Namespace, program: &str, options: &[&str], rules: &str) -> Result<(), String> {
    let mut file = tempfile::NamedTempFile::new().expect("create a file for rules");
    file.write_all(rules.as_bytes()).expect("write rules");
    output_or_error(server.command(program).args(options).arg(file.path())).map(drop)
}

fn require(loaded: Result<(), String>) {
    loaded.unwrap_or_else(|error| panic!("{error}"));
}

fn number_after(text: &str, words: &str) -> u64 {
    let rest = text.split_once(words).map(|(_, rest)| rest);
    let digits = rest.map(|rest| rest.split(|byte: char| !byte.is_ascii_digit()).next());
    digits
        .flatten()
        .and_then(|digits| digits.parse().ok())
        .unwrap_or_else(|| panic!("no number after {words:?} in {text}"))
}
