//! Filters and blocks in the notation of the case tables, their tables in a scenario, and what they say
//! about a packet, read as they are written: without tries, classes or ranges. Userspace has a compiler of
//! its own.

use std::collections::{BTreeMap, BTreeSet};

use firewall_ebpf::abi::filter::{BLOCK, DENY, entry_counter, entry_number};
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::policy::{ANY_V4, ANY_V6, NO_CLASS, Range, TIMED, TRAFFIC_MAX, traffic};
use firewall_ebpf::abi::prefix::Prefix;
use firewall_user::model::{self, IcmpMatch};
use firewall_user::policy::{CompiledClass, CompiledPolicy, Probe, ResolvedRule, evaluate};
use ipnet::IpNet;

use crate::decision::rules::{Peer, Rule, Traffic, resolved};
use crate::decision::scenario::{Role, Scenario};

/// The counter of the first entry of a filter; the others follow.
pub const ENTRIES: u32 = 1000;
/// The counters of the last entry of a direction, which denies all.
pub const LAST: u32 = 1100;
/// The counter of the first block; the others follow.
pub const BLOCKS: u32 = 1200;
/// The counter behind the last.
pub const END: u32 = 1300;

/// What an entry does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Allows the traffic.
    Allow,
    /// Denies it.
    Deny,
    /// Denies it, as a block of the interface does.
    Block,
}

/// An entry of a filter, in the order of the table.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The end whose packets it is about; `None`: both.
    pub from: Option<Role>,
    /// What it does.
    pub action: Action,
    /// The traffic that it is about.
    pub traffic: Traffic,
    /// The outside hosts.
    pub peer: Peer,
    /// Seconds until it ends.
    pub ends: Option<u32>,
}

/// An entry that allows.
#[must_use]
pub const fn permit(from: Role, traffic: Traffic, peer: Peer) -> Entry {
    Entry { from: Some(from), action: Action::Allow, traffic, peer, ends: None }
}

/// An entry that denies.
#[must_use]
pub const fn deny(from: Role, traffic: Traffic, peer: Peer) -> Entry {
    Entry { from: Some(from), action: Action::Deny, traffic, peer, ends: None }
}

/// A block of the interface.
#[must_use]
pub const fn own_block(peer: Peer) -> Entry {
    Entry { from: None, action: Action::Block, traffic: Traffic::All, peer, ends: None }
}

impl Entry {
    /// The same entry, which ends after that many seconds.
    #[must_use]
    pub const fn ending(self, seconds: u32) -> Self {
        Self { ends: Some(seconds), ..self }
    }
}

/// Everything, as the default network ACL allows it.
#[must_use]
pub const fn permit_all() -> [Entry; 2] {
    [permit(Role::Client, Traffic::All, Peer::Any), permit(Role::Server, Traffic::All, Peer::Any)]
}

/// A block of the host.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// The outside hosts.
    pub peer: Peer,
    /// Seconds until it ends.
    pub ends: Option<u32>,
}

/// A block without an end.
#[must_use]
pub const fn block(peer: Peer) -> Block {
    Block { peer, ends: None }
}

impl Block {
    /// The same block, which ends after that many seconds.
    #[must_use]
    pub const fn ending(self, seconds: u32) -> Self {
        Self { ends: Some(seconds), ..self }
    }
}

/// When what has a counter ends, in seconds from now.
pub type Ends = BTreeMap<u32, u32>;

/// The entries of a filter in scenarios. The number of each is its word.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    entries: Vec<ResolvedRule>,
    /// By counter.
    pub ends: Ends,
}

impl Filter {
    /// The filter of a table in a scenario.
    #[must_use]
    pub fn new(entries: &[Entry], scenario: &Scenario) -> Self {
        Self::in_all(entries, &[*scenario])
    }

    /// The filter of a table in several scenarios at once, so that it is about the packets of all.
    #[must_use]
    pub fn in_all(entries: &[Entry], scenarios: &[Scenario]) -> Self {
        let mut filter = Self::default();
        for (counter, entry) in (ENTRIES..).zip(entries) {
            let mut word = entry_number(counter) | flags(entry.action);
            if let Some(seconds) = entry.ends {
                word |= TIMED;
                filter.ends.insert(counter, seconds);
            }
            let from = entry.from.map_or(vec![Role::Client, Role::Server], |from| vec![from]);
            for from in from {
                let rule = Rule { from, traffic: entry.traffic, peer: entry.peer, ends: None };
                for scenario in scenarios {
                    filter.add(rule, scenario, word);
                }
            }
        }
        let all = |from| Rule { from, traffic: Traffic::All, peer: Peer::Any, ends: None };
        for scenario in Scenario::all() {
            let word = entry_number(LAST + scenario.client as u32) | DENY;
            filter.add(all(Role::Client), &scenario, word);
        }
        filter
    }

    fn add(&mut self, rule: Rule, scenario: &Scenario, word: u32) {
        let rules = resolved(&[rule], scenario);
        self.entries.extend(rules.into_iter().map(|rule| ResolvedRule { number: word, ..rule }));
    }

    /// The word of the first entry that matches and has not ended after that many seconds.
    #[must_use]
    pub fn first(&self, probe: Probe, seconds: u64) -> u32 {
        let is_left = |word: &u32| {
            let end = self.ends.get(&entry_counter(*word));
            word & TIMED == 0 || end.is_some_and(|end| seconds <= u64::from(*end))
        };
        evaluate(&self.entries, probe).find(is_left).expect("the last entries are about all")
    }

    /// The tables. Every network has classes of its own.
    #[must_use]
    pub fn tables(&self) -> CompiledPolicy {
        let mut tables = CompiledPolicy::deny_all();
        for any in ["0.0.0.0/0", "::/0"] {
            let any: IpNet = any.parse().expect("a network");
            let class = self.class(&mut tables, any, None);
            let number = if any.addr().is_ipv4() { ANY_V4 } else { ANY_V6 };
            tables.classes[usize::try_from(number).expect("0 or 1")] = class;
        }
        let networks: BTreeSet<IpNet> = self
            .entries
            .iter()
            .flat_map(|entry| entry.networks.iter().map(|net| net.trunc()))
            .collect();
        for network in networks.into_iter().filter(|network| network.prefix_len() > 0) {
            let class = self.class(&mut tables, network, None);
            let number = push(&mut tables.classes, class);
            match network {
                IpNet::V4(v4) => {
                    let prefix = Prefix::new(v4.network().octets(), v4.prefix_len());
                    tables.prefixes_v4.insert(prefix, number);
                }
                IpNet::V6(v6) => {
                    let prefix = Prefix::new(v6.network().octets(), v6.prefix_len());
                    tables.prefixes_v6.insert(prefix, number);
                }
            }
        }
        tables
    }

    /// The class of a network without the entries that end after at most so many seconds.
    fn class(
        &self,
        tables: &mut CompiledPolicy,
        network: IpNet,
        ended: Option<u32>,
    ) -> CompiledClass {
        let lists = Direction::ALL.map(|direction| self.list(network, direction, ended));
        let words = lists.iter().flatten().map(|range| range.rule);
        let next =
            words.filter(|word| word & TIMED != 0).map(|w| self.ends[&entry_counter(w)]).min();
        let parent = next.map_or(NO_CLASS, |next| {
            let parent = self.class(tables, network, Some(next));
            push(&mut tables.classes, parent)
        });
        CompiledClass { parent, lists: lists.map(|list| push(&mut tables.lists, list)) }
    }

    /// The first entry that matches, for all traffic.
    fn list(&self, network: IpNet, direction: Direction, ended: Option<u32>) -> Vec<Range> {
        let is_v4 = network.addr().is_ipv4();
        let is_left = |word: u32| {
            word & TIMED == 0 || ended.is_none_or(|ended| self.ends[&entry_counter(word)] > ended)
        };
        let entries: Vec<Range> = self
            .entries
            .iter()
            .filter(|entry| entry.direction == direction && is_left(entry.number))
            .filter(|entry| entry.networks.iter().any(|net| net.contains(&network)))
            .filter_map(|entry| {
                let (low, high) = interval(entry.traffic, is_v4)?;
                Some(Range { low, high, rule: entry.number })
            })
            .collect();
        let mut edges: BTreeSet<u32> = entries.iter().map(|range| range.low).collect();
        edges.extend(entries.iter().map(|range| range.high + 1));
        let edges: Vec<u32> = edges.into_iter().filter(|edge| *edge <= TRAFFIC_MAX).collect();
        let mut list: Vec<Range> = Vec::new();
        for (at, &low) in edges.iter().enumerate() {
            let high = edges.get(at + 1).map_or(TRAFFIC_MAX, |next| next - 1);
            let first = entries.iter().find(|range| range.low <= low && high <= range.high);
            let rule = first.expect("the last entry is about all").rule;
            match list.last_mut() {
                Some(last) if last.rule == rule => last.high = high,
                _ => list.push(Range { low, high, rule }),
            }
        }
        list
    }
}

const fn flags(action: Action) -> u32 {
    match action {
        Action::Allow => 0,
        Action::Deny => DENY,
        Action::Block => DENY | BLOCK,
    }
}

fn push<T>(list: &mut Vec<T>, one: T) -> u32 {
    list.push(one);
    u32::try_from(list.len() - 1).expect("a few")
}

/// Traffic as an interval of [`traffic`]; `None` for the ICMP of the other family.
fn interval(what: model::Traffic, is_v4: bool) -> Option<(u32, u32)> {
    let (protocol, from, to) = match what {
        model::Traffic::All => return Some((0, TRAFFIC_MAX)),
        model::Traffic::Tcp(ports) => (6, ports.from, ports.to),
        model::Traffic::Udp(ports) => (17, ports.from, ports.to),
        model::Traffic::Icmp(of) if is_v4 => icmp(1, of),
        model::Traffic::Icmpv6(of) if !is_v4 => icmp(58, of),
        model::Traffic::Icmp(_) | model::Traffic::Icmpv6(_) => return None,
        model::Traffic::Other(number) => (number, 0, u16::MAX),
    };
    Some((traffic(protocol, from), traffic(protocol, to)))
}

fn icmp(protocol: u8, of: IcmpMatch) -> (u8, u16, u16) {
    match of {
        IcmpMatch::Any => (protocol, 0, u16::MAX),
        IcmpMatch::Type(kind) => {
            let first = u16::from(kind) << 8;
            (protocol, first, first | 0xff)
        }
        IcmpMatch::TypeCode(kind, code) => {
            let both = u16::from(kind) << 8 | u16::from(code);
            (protocol, both, both)
        }
    }
}

/// The blocks of the host in scenarios.
#[derive(Clone, Debug, Default)]
pub struct Blocks {
    /// Networks, each with its word.
    blocks: Vec<(IpNet, u32)>,
    /// By counter.
    pub ends: Ends,
}

impl Blocks {
    /// The blocks of a table in a scenario.
    #[must_use]
    pub fn new(blocks: &[Block], scenario: &Scenario) -> Self {
        Self::in_all(blocks, &[*scenario])
    }

    /// The blocks of a table in several scenarios at once.
    #[must_use]
    pub fn in_all(blocks: &[Block], scenarios: &[Scenario]) -> Self {
        let mut all = Self::default();
        for (counter, block) in (BLOCKS..).zip(blocks) {
            let mut word = entry_number(counter);
            if let Some(seconds) = block.ends {
                word |= TIMED;
                all.ends.insert(counter, seconds);
            }
            let rule =
                Rule { from: Role::Client, traffic: Traffic::All, peer: block.peer, ends: None };
            for scenario in scenarios {
                for rule in resolved(&[rule], scenario) {
                    all.blocks.extend(rule.networks.iter().map(|net| (net.trunc(), word)));
                }
            }
        }
        all
    }

    /// The word of the block in force for an address after that many seconds, if there is one: of those that
    /// contain the address the one that ends last.
    #[must_use]
    pub fn of(&self, outside: std::net::IpAddr, seconds: u64) -> Option<u32> {
        let found = self.effective(|net| net.contains(&outside))?;
        let end = self.ends.get(&entry_counter(found));
        (found & TIMED == 0 || end.is_some_and(|end| seconds <= u64::from(*end))).then_some(found)
    }

    fn effective(&self, covers: impl Fn(&IpNet) -> bool) -> Option<u32> {
        let words = self.blocks.iter().filter(|(net, _)| covers(net)).map(|(_, word)| *word);
        let end = |word: &u32| match word & TIMED {
            0 => u32::MAX,
            _ => self.ends[&entry_counter(*word)],
        };
        // Of equals the first.
        words.rev().max_by_key(end)
    }

    /// The word that the tables have for each network.
    #[must_use]
    pub fn table(&self) -> BTreeMap<IpNet, u32> {
        let networks = self.blocks.iter().map(|(net, _)| *net);
        let word = |network: IpNet| self.effective(|net| net.contains(&network));
        networks.map(|net| (net, word(net).expect("its own block"))).collect()
    }
}

/// Packets and bytes by counter.
pub type Counted = BTreeMap<u32, (u64, u64)>;

/// Whether the counters of the kernel are those of the host. While it drops many packets the kernel takes no
/// fast path, and then looks up packets of established flows too: entries may have counted more.
#[must_use]
pub fn agree(host: &Counted, kernel: &Counted) -> bool {
    let count = |counted: &Counted, at| counted.get(&at).copied().unwrap_or_default();
    let fits = |at| {
        let (host, kernel) = (count(host, at), count(kernel, at));
        if at < LAST { host.0 <= kernel.0 && host.1 <= kernel.1 } else { host == kernel }
    };
    host.keys().chain(kernel.keys()).all(|at| fits(*at))
}
