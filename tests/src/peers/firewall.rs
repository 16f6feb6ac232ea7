//! The firewalls that are compared, each put in force at a server.

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
    /// No firewall: an XDP program that drops everything, which is the floor of a figure.
    XdpDrop,
    /// None.
    Nothing,
    /// No firewall: an XDP program that passes everything, which tells what XDP itself costs.
    XdpPass,
    /// secgroup at native XDP.
    Xdp,
    /// secgroup at the hook that `auto` chooses on veth.
    Tcx,
    /// nftables with connection tracking.
    Nftables,
    /// The iptables that write nftables.
    IptablesNft,
    /// The old iptables.
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

    /// The numbers of rules that are measured; none for what has no rules.
    #[must_use]
    pub fn rules(self) -> Vec<Option<Rules>> {
        let every = Rules::ALL.into_iter();
        match self {
            Self::XdpDrop | Self::Nothing | Self::XdpPass => vec![None],
            Self::Xdp | Self::Tcx | Self::Nftables => every.map(Some).collect(),
            Self::IptablesNft | Self::IptablesLegacy => {
                every.filter(|rules| *rules != Rules::SET).map(Some).collect()
            }
        }
    }

    const fn is_measured_over_v6(self) -> bool {
        matches!(self, Self::Nothing | Self::Xdp | Self::Tcx | Self::Nftables)
    }

    /// As printed.
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

/// A firewall with its rules, which is one line of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// The firewall.
    pub firewall: Firewall,
    /// What it has to search.
    pub rules: Option<Rules>,
    /// The packets' and the rules'.
    pub family: Family,
}

impl Subject {
    /// All of them, in the order of figures.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let subjects = |firewall: Firewall| {
            let v4 = firewall.rules().into_iter().map(move |rules| Self::v4(firewall, rules));
            // With the least rules, of some.
            let v6 = firewall
                .is_measured_over_v6()
                .then(|| Self { family: Family::V6, ..Self::v4(firewall, firewall.rules()[0]) });
            v4.chain(v6)
        };
        Firewall::ALL.into_iter().flat_map(subjects).collect()
    }

    /// Over IPv4.
    #[must_use]
    pub const fn v4(firewall: Firewall, rules: Option<Rules>) -> Self {
        Self { firewall, rules, family: Family::V4 }
    }

    /// Those that the kernel has: one of the two kinds of iptables may be left out of it, which is
    /// said.
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

    /// nftables with the same rules; what has no rules is compared with one.
    #[must_use]
    pub fn peer(self) -> Self {
        let rules = self.rules.or(Some(Rules::Each(1)));
        Self { firewall: Firewall::Nftables, rules, ..self }
    }

    /// No firewall, with packets of the same family.
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

/// A firewall in force, for as long as this and its namespace live.
pub enum Guard {
    /// See [`Firewall::XdpDrop`].
    Drop,
    /// Nothing is refused.
    Nothing,
    /// With the counters' name of its device.
    Secgroup(Box<Secgroup<'static>>, String),
    /// nftables.
    Nftables,
    /// The program that tells the counters.
    Iptables(&'static str),
}

impl Guard {
    /// Puts a firewall in force at the device of a server.
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
                force(load(server, "nft", &["-f"], &rules().nftables(subject.family)));
                Self::Nftables
            }
            Firewall::IptablesNft => {
                force(load(server, IPTABLES_NFT, &[], &rules().iptables()));
                Self::Iptables("iptables-nft-save")
            }
            Firewall::IptablesLegacy => {
                force(load(server, IPTABLES_LEGACY, &[], &rules().iptables()));
                Self::Iptables("iptables-legacy-save")
            }
        }
    }

    /// Packets refused so far, as the firewall itself counts them; nothing if there is none.
    #[must_use]
    pub fn dropped(&self, server: &Namespace, generator: &Generator) -> Option<u64> {
        match self {
            Self::Drop => Some(generator.dropped()),
            Self::Nothing => None,
            Self::Secgroup(secgroup, device) => {
                Some(secgroup.counters().packets(device, "ingress", "no-rule"))
            }
            Self::Nftables => {
                let told = output(server.command("nft").args(["list", "table", "inet", "bench"]));
                Some(number_after(&told, "packets "))
            }
            Self::Iptables(save) => {
                let told = output(server.command(save).args(["-c", "-t", "filter"]));
                Some(number_after(&told, ":INPUT DROP ["))
            }
        }
    }
}

/// `hook`: what `attach` is asked for, and what it must answer.
fn secgroup(subject: Subject, server: &Namespace, asked: &str, answer: &str) -> Guard {
    let secgroup = Secgroup::new();
    subject.rules.unwrap_or(Rules::Each(1)).secgroup(&secgroup, subject.family);
    let (device, namespace) = (Pair::DEVICE, server.name());
    let said = secgroup.ok(&format!("attach {device} --netns {namespace} --group bench {asked}"));
    assert!(said.contains(answer), "attach {asked} was to answer {answer:?}: {said}");
    Guard::Secgroup(Box::new(secgroup), format!("{namespace}/{device}"))
}

/// Hands a file with rules to a program.
fn load(server: &Namespace, program: &str, options: &[&str], rules: &str) -> Result<(), String> {
    let mut file = tempfile::NamedTempFile::new().expect("make a file for rules");
    file.write_all(rules.as_bytes()).expect("write rules");
    output_or_error(server.command(program).args(options).arg(file.path())).map(drop)
}

fn force(loaded: Result<(), String>) {
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
