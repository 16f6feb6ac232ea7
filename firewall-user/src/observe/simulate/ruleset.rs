//! What one configuration decides about connections: blocks, network ACLs and rules.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{Action, Model, Networks};
use crate::observe::explain::EntryName;
use crate::observe::record::{NearestMiss, RuleName};
use crate::policy::filter::{ResolvedEntry, first_match, host_blocks, numbered_entries};
use crate::policy::nearest::nearest_miss;
use crate::policy::{Addresses, Probe, ResolvedRule, active_rules};

/// The rules, the network ACL and the blocks of every interface, as one configuration has them.
#[derive(Debug)]
pub struct Ruleset {
    /// By the interface's id.
    interfaces: BTreeMap<String, Interface>,
    /// By number.
    names: HashMap<u32, RuleName>,
    /// The rules as text, by number.
    texts: BTreeMap<u32, String>,
    /// Of the whole host.
    blocks: Blocks,
    /// Blocks and the entries of network ACLs that deny, by number.
    entries: HashMap<u32, EntryName>,
}

#[derive(Debug)]
struct Interface {
    rules: Vec<ResolvedRule>,
    /// Of this interface alone.
    blocks: Blocks,
    /// The entries of its network ACL, in the order in which they are evaluated.
    entries: Vec<ResolvedEntry>,
    revalidates: bool,
}

/// Blocks that are looked up for every connection: there may be many.
#[derive(Debug, Default)]
struct Blocks {
    /// Single networks, with the number of the block.
    networks: HashMap<IpNet, u32>,
    /// Prefix lists.
    lists: Vec<(Networks, u32)>,
}

impl Blocks {
    fn new(blocks: Vec<ResolvedEntry>) -> Self {
        let mut all = Self::default();
        for ResolvedEntry { counter, networks, .. } in blocks {
            match networks.len() {
                1 => all.networks.extend(networks.iter().map(|network| (network, counter))),
                _ => all.lists.push((networks, counter)),
            }
        }
        all
    }

    /// The number of a block of an address.
    fn of(&self, address: IpAddr) -> Option<u32> {
        let of_length = |length| {
            let network = IpNet::new(address, length).ok()?;
            self.networks.get(&network.trunc()).copied()
        };
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let single = (!self.networks.is_empty()).then(|| (0..=longest).find_map(of_length));
        let of_list = || self.lists.iter().find(|(networks, _)| networks.cover(address));
        single.flatten().or_else(|| of_list().map(|(_, number)| *number))
    }
}

impl Ruleset {
    /// Of a model. What has ended is left out: `now` is the clock of the boot in nanoseconds.
    #[must_use]
    pub fn new(model: &Model, addresses: &Addresses, now: u64) -> Self {
        let lasts = |end: Option<u64>| end.is_none_or(|end| end > now);
        let interfaces = model.interfaces.values().map(|interface| {
            let mut rules = active_rules(model, addresses, interface);
            rules.retain(|rule| lasts(rule.end));
            let filter = numbered_entries(model, interface).into_iter();
            let (blocks, entries) =
                filter.filter(|entry| lasts(entry.end)).partition(|entry| entry.is_block);
            let (blocks, revalidates) = (Blocks::new(blocks), interface.revalidate);
            (interface.id.to_string(), Interface { rules, blocks, entries, revalidates })
        });
        let interfaces = interfaces.collect();
        let (mut names, mut texts) = (HashMap::new(), BTreeMap::new());
        for group in model.groups.values() {
            for rule in &group.rules {
                let name = RuleName {
                    security_group_rule_id: rule.id.to_string(),
                    group_id: group.id.to_string(),
                    group_name: group.name.clone(),
                };
                names.insert(rule.number, name);
                texts.insert(rule.number, model.spec_text(&rule.spec));
            }
        }
        let of_blocks = model.blocks.values();
        let of_blocks = of_blocks.map(|block| (block.number, EntryName::of_block(model, block)));
        let of_acls = model.acls.values().flat_map(|acl| {
            let denying = acl.entries.iter().filter(|(_, entry)| entry.action == Action::Deny);
            denying.map(|(at, entry)| (entry.number, EntryName::of_entry(model, acl, *at, entry)))
        });
        let entries = of_blocks.chain(of_acls).collect();
        let blocks = host_blocks(model).into_iter().filter(|block| lasts(block.end));
        let blocks = Blocks::new(blocks.collect());
        Self { interfaces, names, texts, blocks, entries }
    }

    /// The number of the block, or of the entry of the interface's network ACL, that denies a packet.
    pub(super) fn denies(&self, interface: &str, probe: Probe) -> Option<u32> {
        let Interface { blocks, entries, .. } = self.interfaces.get(interface)?;
        let block = self.blocks.of(probe.outside).or_else(|| blocks.of(probe.outside));
        block.or_else(|| {
            // What has ended is not among them.
            let first = first_match(entries, probe, 0)?;
            (first.action == Action::Deny).then_some(first.counter)
        })
    }

    /// The name of a block or an entry that denies.
    pub(super) fn entry(&self, number: u32) -> Option<&EntryName> {
        self.entries.get(&number)
    }

    /// The rules of an interface, by its id.
    #[must_use]
    pub fn rules(&self, interface: &str) -> Option<&[ResolvedRule]> {
        self.interfaces.get(interface).map(|interface| &interface.rules[..])
    }

    /// Whether an interface re-evaluates its flows after a change.
    pub(super) fn revalidates(&self, interface: &str) -> bool {
        self.interfaces.get(interface).is_some_and(|interface| interface.revalidates)
    }

    /// The rules of interfaces that are not among the used ones, each with its text.
    pub(super) fn unused(&self, used: &BTreeSet<u32>) -> Vec<(RuleName, String)> {
        let rules = self.interfaces.values().flat_map(|interface| &interface.rules);
        let active: BTreeSet<u32> = rules.map(|rule| rule.number).collect();
        let named = active.difference(used).filter_map(|number| {
            Some((self.names.get(number)?.clone(), self.texts.get(number)?.clone()))
        });
        named.collect()
    }

    /// A rule as text.
    pub(super) fn text(&self, number: u32) -> Option<&str> {
        self.texts.get(&number).map(String::as_str)
    }

    /// The name of a rule.
    #[must_use]
    pub fn name(&self, number: u32) -> Option<&RuleName> {
        self.names.get(&number)
    }

    /// The nearest miss of a packet that no rule of the interface allows.
    #[must_use]
    pub fn nearest_miss(&self, interface: &str, probe: Probe) -> Option<NearestMiss> {
        let miss = nearest_miss(self.rules(interface)?, probe)?;
        Some(NearestMiss {
            rule: self.names.get(&miss.number)?.clone(),
            field: miss.field.name().to_owned(),
            rule_value: miss.rule_value(),
            packet_value: miss.packet_value(probe),
        })
    }
}
