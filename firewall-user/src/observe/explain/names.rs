//! The policy of one interface at one moment: its rules and the entries of its network ACL, by their numbers.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Result;
use firewall_ebpf::abi::interface::Direction;

use super::document::{EntryName, Nearest, RuleText};
use crate::control::Control;
use crate::model::{Acl, AclEntry, Block, Group, Interface, Model, Rule};
use crate::policy::nearest::{Field, Miss};
use crate::policy::{Probe, ResolvedRule, active_rules};

/// Where a rule is in the model: position of the rule in its group.
type Place = (Arc<Group>, usize);

/// What the store says.
#[derive(Debug)]
pub(super) struct Names {
    /// Of the store.
    pub(super) generation: u64,
    pub(super) model: Arc<Model>,
    pub(super) interface: Interface,
    pub(super) rules: Vec<ResolvedRule>,
    by_number: HashMap<u32, Place>,
    entries: HashMap<u32, EntryName>,
}

impl Names {
    pub(super) fn read(control: &Control, interface: &Interface) -> Result<Self> {
        let generation = control.store().generation()?;
        let model = control.shared_model()?;
        let rules = active_rules(&model, &control.store().active_addresses()?, interface);
        let by_number = model.groups.values().flat_map(|group| {
            let numbers = group.rules.iter().zip(0..);
            numbers.map(|(rule, at)| (rule.number, (Arc::clone(group), at)))
        });
        let by_number = by_number.collect();
        let entries = entries(&model, interface);
        Ok(Self { generation, interface: interface.clone(), rules, by_number, entries, model })
    }

    /// The rules that have not ended, by the clock of the boot in nanoseconds.
    pub(super) fn rules_at(&self, now: u64) -> Vec<ResolvedRule> {
        let lasting = |rule: &&ResolvedRule| rule.end.is_none_or(|end| end > now);
        self.rules.iter().filter(lasting).cloned().collect()
    }

    /// The rule of a number, as it is stored.
    pub(super) fn stored_rule(&self, number: u32) -> Option<(&Group, &Rule)> {
        let (group, at) = self.by_number.get(&number)?;
        Some((group, group.rules.get(*at)?))
    }

    /// The rule of a number; also one that was removed.
    pub(super) fn rule(&self, control: &Control, number: u32) -> Result<Option<RuleText>> {
        if let Some((group, rule)) = self.stored_rule(number) {
            return Ok(Some(RuleText {
                security_group_rule_id: rule.id.to_string(),
                group_id: group.id.to_string(),
                group_name: group.name.clone(),
                text: Some(self.model.spec_text(&rule.spec)),
            }));
        }
        let removed = control.store().rule_by_number(number)?;
        Ok(removed.map(|name| RuleText {
            security_group_rule_id: name.rule.to_string(),
            group_id: name.group.to_string(),
            group_name: name.group_name,
            text: None,
        }))
    }

    /// The block or entry of a number.
    pub(super) fn entry(&self, number: u32) -> Option<&EntryName> {
        self.entries.get(&number)
    }

    /// A nearest miss with names.
    pub(super) fn nearest(
        &self,
        control: &Control,
        miss: &Miss,
        probe: Probe,
    ) -> Result<Option<Nearest>> {
        let Some(rule) = self.rule(control, miss.number)? else { return Ok(None) };
        let stored = self.stored_rule(miss.number);
        // A group or a prefix list by its name.
        let rule_value = match (miss.field, stored) {
            (Field::Address, Some((_, rule))) => self.model.peer_text(&rule.spec.peer),
            _ => miss.rule_value(),
        };
        let packet_value = miss.packet_value(probe);
        Ok(Some(Nearest { rule, field: miss.field.name(), rule_value, packet_value }))
    }
}

/// Blocks that apply to an interface and the entries of its network ACL.
fn entries(model: &Model, interface: &Interface) -> HashMap<u32, EntryName> {
    let blocks = model.blocks.values();
    let own = blocks
        .filter(|block| block.interface.as_ref().is_none_or(|id| *id == interface.id))
        .map(|block| (block.number, EntryName::of_block(model, block)));
    let acl = model.acl_of(interface).into_iter();
    let of_acl = acl.flat_map(|acl| {
        let entries = acl.entries.iter();
        entries.map(|(at, entry)| (entry.number, EntryName::of_entry(model, acl, *at, entry)))
    });
    own.chain(of_acl).collect()
}

impl EntryName {
    /// Of the block or the entry with this number.
    #[must_use]
    pub fn by_number(model: &Model, number: u32) -> Option<Self> {
        let mut blocks = model.blocks.values();
        if let Some(block) = blocks.find(|block| block.number == number) {
            return Some(Self::of_block(model, block));
        }
        model.acls.values().find_map(|acl| {
            let (at, entry) = acl.entries.iter().find(|(_, entry)| entry.number == number)?;
            Some(Self::of_entry(model, acl, *at, entry))
        })
    }

    /// Where it is, in short: `acl web egress 32767`, or `block 192.0.2.0/24`.
    #[must_use]
    pub fn place(&self) -> String {
        match (&self.acl, self.name.split_once(' ')) {
            (Some(acl), Some((_id, place))) => format!("{} {acl} {place}", self.kind),
            _ => format!("{} {}", self.kind, self.name),
        }
    }

    /// Of a block.
    pub(in crate::observe) fn of_block(model: &Model, block: &Block) -> Self {
        Self {
            kind: "block",
            name: model.peer_text(&block.target),
            acl: None,
            action: "deny",
            text: model.block_text(block),
        }
    }

    /// Of an entry of a network ACL, by its direction and number.
    pub(in crate::observe) fn of_entry(
        model: &Model,
        acl: &Acl,
        (direction, number): (Direction, u16),
        entry: &AclEntry,
    ) -> Self {
        let text = model.entry_text(direction, entry);
        let about = text.strip_prefix(entry.action.name()).unwrap_or(&text);
        Self {
            kind: "acl",
            name: format!("{} {} {number}", acl.id, direction.name()),
            acl: Some(acl.name.clone()),
            action: entry.action.name(),
            text: about.trim_start().to_owned(),
        }
    }
}

/// The other end's word for a packet's address.
pub(super) const fn from_or_to(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    }
}
