//! What the policies said that decided about packets: kept by generation, so that a record that is read a moment after
//! a change is explained by the policy that decided, and not by the next one.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use anyhow::Result;
use firewall_ebpf::abi::interface::Direction;

use crate::control::Control;
use crate::dataplane::tables::maps::Maps;
use crate::model::{Interface, Model};
use crate::observe::record::RuleName;
use crate::policy::blocks::block_numbers;
use crate::policy::filter::filter_numbers;
use crate::policy::{ResolvedRule, active_rules};

/// Snapshots that are kept: records wait in the kernel for a second, in which policies can change a few times.
const KEPT: usize = 8;

/// What store and kernel said together at one moment.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// The store's.
    generation: u64,
    model: Arc<Model>,
    /// By slot: the generation of the active policy, and its rules.
    policies: BTreeMap<u16, (u32, Arc<[ResolvedRule]>)>,
    rules: HashMap<u32, RuleName>,
    /// Entries of network ACLs and blocks, by the index of their counter.
    entries: HashMap<u32, String>,
}

impl Snapshot {
    /// Reads it; `None` while a change is being made, in which the store is ahead of the kernel.
    fn read(control: &Control, maps: &Maps) -> Result<Option<Self>> {
        let store = control.store();
        let generation = store.generation()?;
        let model = control.shared_model()?;
        let addresses = store.active_addresses()?;
        if maps.applied()? != Some(generation) {
            return Ok(None);
        }
        let mut resolved: HashMap<&[_], Arc<[ResolvedRule]>> = HashMap::new();
        let mut policies = BTreeMap::new();
        for interface in model.interfaces.values() {
            let rules = resolved
                .entry(&interface.groups[..])
                .or_insert_with(|| active_rules(&model, &addresses, interface).into());
            let active = maps.active(interface.slot)?.generation();
            policies.insert(interface.slot, (active, Arc::clone(rules)));
        }
        let entries = entries(&model, maps)?;
        // What was read belongs together if nothing has changed meanwhile.
        if store.generation()? != generation || maps.applied()? != Some(generation) {
            return Ok(None);
        }
        let rules = rule_names(&model);
        Ok(Some(Self { generation, policies, rules, entries, model }))
    }

    /// The interface of a slot.
    pub(super) fn interface(&self, slot: u16) -> Option<&Interface> {
        self.model.interfaces.get(&slot)
    }

    /// The model.
    pub(super) fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The rules of the policy of this generation; `None` if another one was active.
    pub(super) fn rules(&self, slot: u16, generation: u32) -> Option<&[ResolvedRule]> {
        let (active, rules) = self.policies.get(&slot)?;
        (*active == generation).then_some(rules)
    }

    /// The name of a rule.
    pub(super) fn rule(&self, number: u32) -> Option<&RuleName> {
        self.rules.get(&number)
    }

    /// The entry or block whose counter has this index.
    pub(super) fn entry(&self, counter: u32) -> Option<&str> {
        self.entries.get(&counter).map(String::as_str)
    }
}

fn rule_names(model: &Model) -> HashMap<u32, RuleName> {
    let groups = model.groups.values();
    let named = groups.flat_map(|group| {
        group.rules.iter().map(|rule| {
            let name = RuleName {
                security_group_rule_id: rule.id.to_string(),
                group_id: group.id.to_string(),
                group_name: group.name.clone(),
            };
            (rule.number, name)
        })
    });
    named.collect()
}

fn entries(model: &Model, maps: &Maps) -> Result<HashMap<u32, String>> {
    let mut names: BTreeMap<u32, String> = BTreeMap::new();
    for acl in model.acls.values() {
        for ((direction, number), entry) in &acl.entries {
            names.insert(entry.number, entry_name(&acl.id.to_string(), *direction, *number));
        }
    }
    for block in model.blocks.values() {
        names.insert(block.number, format!("block {}", model.peer_text(&block.target)));
    }
    let mut numbers = block_numbers(model);
    for interface in model.interfaces.values() {
        numbers.extend(filter_numbers(model, interface));
    }
    numbers.sort_unstable();
    numbers.dedup();
    let indexes = maps.counter_indexes(&numbers)?;
    let named =
        indexes.into_iter().filter_map(|(number, index)| Some((index, names.remove(&number)?)));
    Ok(named.collect())
}

/// `acl-… ingress 100`, as `acl entry` names it.
fn entry_name(acl: &str, direction: Direction, number: u16) -> String {
    format!("{acl} {} {number}", direction.name())
}

/// The latest snapshots, newest first.
#[derive(Debug, Default)]
pub(super) struct Policies(VecDeque<Arc<Snapshot>>);

impl Policies {
    /// Takes a new snapshot if the store, or a policy in the kernel, is another one. Returns whether the newest is of
    /// now: not while a change is being made.
    pub(super) fn refresh(&mut self, control: &Control, maps: &Maps) -> Result<bool> {
        let generation = control.store().generation()?;
        if let Some(newest) = self.0.front()
            && newest.generation == generation
            && newest.is_active(maps)?
        {
            return Ok(true);
        }
        let snapshot = Snapshot::read(control, maps)?;
        let is_read = snapshot.is_some();
        if let Some(snapshot) = snapshot {
            self.0.push_front(Arc::new(snapshot));
            self.0.truncate(KEPT);
        }
        Ok(is_read)
    }

    /// The snapshot whose policy of a slot has a generation, or else the newest that knows the slot.
    pub(super) fn of(&self, slot: u16, generation: u32) -> Option<&Arc<Snapshot>> {
        let same = self.0.iter().find(|one| one.rules(slot, generation).is_some());
        same.or_else(|| self.0.iter().find(|one| one.interface(slot).is_some()))
    }

    /// Whether it is known what the policy of this generation said.
    pub(super) fn knows(&self, slot: u16, generation: u32) -> bool {
        self.0.iter().any(|one| one.rules(slot, generation).is_some())
    }

    /// Whether it is known which entry or block this counter was of, under the policy of this generation.
    pub(super) fn names(&self, slot: u16, generation: u32, counter: u32) -> bool {
        self.of(slot, generation).is_some_and(|one| {
            one.rules(slot, generation).is_some() && one.entry(counter).is_some()
        })
    }

    /// The newest.
    pub(super) fn newest(&self) -> Option<&Arc<Snapshot>> {
        self.0.front()
    }
}

impl Snapshot {
    /// Whether its policies are those that are active: an address of a group's member can change them, and the store
    /// not.
    fn is_active(&self, maps: &Maps) -> Result<bool> {
        for (slot, (generation, _)) in &self.policies {
            if maps.active(*slot)?.generation() != *generation {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
impl Snapshot {
    /// What was read of a model whose policies have this generation; `entries` by the index of their counter.
    pub(super) fn sample(model: Model, generation: u32, entries: &[(u32, &str)]) -> Self {
        let addresses = crate::policy::Addresses::new();
        let rules = |interface| active_rules(&model, &addresses, interface).into();
        let interfaces = model.interfaces.values();
        Self {
            generation: generation.into(),
            policies: interfaces.map(|one| (one.slot, (generation, rules(one)))).collect(),
            rules: rule_names(&model),
            entries: entries.iter().map(|(index, name)| (*index, (*name).to_owned())).collect(),
            model: Arc::new(model),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::InterfaceId;
    use crate::observe::simulate::tests::model;

    #[test]
    fn a_record_is_of_the_policy_that_decided_also_after_the_next_ones() {
        let id: InterfaceId = "eni-0123456789abcdef0".parse().unwrap();
        let of = |generation: u32| {
            let rules = [(generation, 22, "192.0.2.0/24")];
            Arc::new(Snapshot::sample(model(&id, &rules), generation, &[]))
        };
        let policies = Policies([9, 8, 7].map(of).into());
        for (generation, found) in [(7, 7), (8, 8), (9, 9), (6, 9), (10, 9)] {
            let snapshot = policies.of(0, generation).unwrap();
            assert_eq!(snapshot.generation, found, "{generation}");
            assert_eq!(policies.knows(0, generation), u64::from(generation) == found);
            assert_eq!(snapshot.rules(0, generation).is_some(), policies.knows(0, generation));
        }
        assert!(policies.of(1, 7).is_none() && !policies.knows(1, 7));
        assert!(Policies::default().newest().is_none());
        assert_eq!(policies.newest().unwrap().generation, 9);
    }

    #[test]
    fn a_block_that_is_newer_than_what_was_read_is_not_known_by_its_policy() {
        let id: InterfaceId = "eni-0123456789abcdef0".parse().unwrap();
        let of = |entries: &[(u32, &str)]| Arc::new(Snapshot::sample(model(&id, &[]), 7, entries));
        let mut policies = Policies([of(&[(3, "block 192.0.2.1/32")])].into());
        assert!(policies.names(0, 7, 3) && !policies.names(0, 7, 4));
        assert!(!policies.names(0, 8, 3), "another policy's counter is of another entry");
        // The same policy, read again after the block was added.
        policies.0.push_front(of(&[(3, "block 192.0.2.1/32"), (4, "block 192.0.2.2/32")]));
        assert!(policies.names(0, 7, 4));
    }

    #[test]
    fn an_interface_that_is_gone_is_named_by_the_policy_that_knew_it() {
        let id: InterfaceId = "eni-0123456789abcdef0".parse().unwrap();
        let before = Arc::new(Snapshot::sample(model(&id, &[]), 7, &[]));
        let after = Arc::new(Snapshot::sample(Model::default(), 8, &[]));
        let policies = Policies([after, before].into());
        let found = policies.of(0, 99).unwrap();
        assert_eq!(found.interface(0).unwrap().device, "eth0");
    }

    #[test]
    fn entries_are_named_as_commands_name_them() {
        assert_eq!(entry_name("acl-1", Direction::Egress, 100), "acl-1 egress 100");
    }
}
