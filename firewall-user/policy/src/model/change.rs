//! The edits that every change of the model consists of. The store writes each of them to disk and
//! makes it here, so that the model in memory is the one on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use firewall_ebpf::abi::interface::Direction;
use ipnet::IpNet;

use super::{
    Acl, AclEntry, AclId, Block, End, Entries, FlowLog, FlowLogId, Group, GroupId, Interface,
    ListState, Model, PrefixList, PrefixListId, Rule, RuleId, RuleSpec, Staged, Subnet, SubnetId,
    Vpc, VpcId,
};

/// One edit. It is checked before it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of variants and fields are the documentation")]
pub enum Change {
    /// Replaces the VPC with its id, if there is one.
    PutVpc(Vpc),
    DeleteVpc(VpcId),
    /// Replaces the subnet with its id, if there is one.
    PutSubnet(Subnet),
    DeleteSubnet(SubnetId),
    CreatePrefixList(PrefixList),
    SetEntries {
        list: PrefixListId,
        entries: Entries,
    },
    SetPrefixList {
        list: PrefixListId,
        name: String,
        max_entries: Option<u32>,
        state: ListState,
    },
    TagPrefixList {
        list: PrefixListId,
        tags: BTreeMap<String, String>,
    },
    DeletePrefixList(PrefixListId),
    /// The group has no rules yet.
    CreateGroup(Group),
    TagGroup {
        group: GroupId,
        tags: BTreeMap<String, String>,
    },
    DeleteGroup(GroupId),
    /// The store assigns the number of the rule.
    AddRule {
        group: GroupId,
        rule: Rule,
    },
    DescribeRule {
        group: GroupId,
        rule: RuleId,
        description: String,
    },
    /// The rule keeps its number, and with it its counter and its flows.
    SetRuleEnd {
        group: GroupId,
        rule: RuleId,
        end: Option<End>,
    },
    TagRule {
        group: GroupId,
        rule: RuleId,
        tags: BTreeMap<String, String>,
    },
    /// The rules keep their ids and their numbers, and with these their counters.
    ModifyRules {
        group: GroupId,
        rules: Vec<(RuleId, RuleSpec)>,
    },
    RemoveRule {
        group: GroupId,
        rule: RuleId,
    },
    /// Replaces the staged change of this rule, if there is one.
    Stage {
        rule: RuleId,
        staged: Staged,
    },
    Unstage(RuleId),
    /// The store assigns the numbers of its entries.
    CreateAcl(Acl),
    /// In EC2 the name is one of the tags.
    TagAcl {
        acl: AclId,
        name: String,
        tags: BTreeMap<String, String>,
    },
    /// Interfaces do not have it any more.
    DeleteAcl(AclId),
    /// Replaces the entry with this number, if there is one. The store assigns the number of its counter, unless
    /// it has that of the entry that it replaces.
    PutAclEntry {
        acl: AclId,
        direction: Direction,
        number: u16,
        entry: AclEntry,
    },
    RemoveAclEntry {
        acl: AclId,
        direction: Direction,
        number: u16,
    },
    /// The store assigns its number.
    AddBlock(Block),
    /// Replaces the block with its number.
    ReplaceBlock(Block),
    RemoveBlock(u32),
    /// Replaces the interface in its slot.
    PutInterface(Interface),
    /// Puts an interface into another slot, with its blocks: it is attached or detached.
    MoveInterface {
        from: u16,
        to: Interface,
    },
    DeleteInterface(u16),
    /// Replaces the flow log with its id, if there is one.
    PutFlowLog(FlowLog),
    DeleteFlowLog(FlowLogId),
    SetManagement(BTreeSet<IpNet>),
    SetPanic(bool),
}

impl Model {
    /// Makes one edit. An edit of something that does not exist changes nothing.
    pub fn make(&mut self, change: Change) {
        match change {
            Change::PutVpc(vpc) => {
                self.vpcs.insert(vpc.id.clone(), vpc);
            }
            Change::DeleteVpc(vpc) => {
                self.vpcs.remove(&vpc);
            }
            Change::PutSubnet(subnet) => {
                self.subnets.insert(subnet.id.clone(), subnet);
            }
            Change::DeleteSubnet(subnet) => {
                self.subnets.remove(&subnet);
            }
            Change::CreatePrefixList(list) => {
                self.prefix_lists.insert(list.id.clone(), list);
            }
            Change::SetEntries { list, entries } => {
                if let Some(list) = self.prefix_lists.get_mut(&list) {
                    list.entries = entries;
                    list.version += 1;
                    list.state = ListState::Modified;
                }
            }
            Change::SetPrefixList { list, name, max_entries, state } => {
                if let Some(list) = self.prefix_lists.get_mut(&list) {
                    list.name = name;
                    list.max_entries = max_entries;
                    list.state = state;
                }
            }
            Change::TagPrefixList { list, tags } => {
                if let Some(list) = self.prefix_lists.get_mut(&list) {
                    list.tags = tags;
                }
            }
            Change::DeletePrefixList(list) => {
                self.prefix_lists.remove(&list);
            }
            Change::CreateGroup(group) => {
                self.groups.insert(group.id.clone(), Arc::new(group));
            }
            Change::TagGroup { group, tags } => {
                if let Some(group) = self.group_mut(&group) {
                    group.tags = tags;
                }
            }
            Change::DeleteGroup(group) => {
                self.groups.remove(&group);
                self.staged.retain(|_, staged| staged.group != group);
            }
            Change::AddRule { group, rule } => {
                if let Some(group) = self.group_mut(&group) {
                    group.rules.push(rule);
                }
            }
            Change::DescribeRule { group, rule, description } => {
                if let Some(rule) = self.rule_mut(&group, &rule) {
                    rule.description = description;
                }
            }
            Change::SetRuleEnd { group, rule, end } => {
                if let Some(rule) = self.rule_mut(&group, &rule) {
                    rule.end = end;
                }
            }
            Change::TagRule { group, rule, tags } => {
                if let Some(rule) = self.rule_mut(&group, &rule) {
                    rule.tags = tags;
                }
            }
            Change::ModifyRules { group, rules } => {
                for (rule, spec) in rules {
                    if let Some(rule) = self.rule_mut(&group, &rule) {
                        rule.spec = spec;
                    }
                }
            }
            Change::RemoveRule { group, rule } => {
                if let Some(group) = self.group_mut(&group) {
                    group.rules.retain(|one| one.id != rule);
                }
                self.staged.remove(&rule);
            }
            Change::Stage { rule, staged } => {
                self.staged.insert(rule, staged);
            }
            Change::Unstage(rule) => {
                self.staged.remove(&rule);
            }
            Change::CreateAcl(acl) => {
                self.acls.insert(acl.id.clone(), acl);
            }
            Change::TagAcl { acl, name, tags } => {
                if let Some(acl) = self.acls.get_mut(&acl) {
                    acl.name = name;
                    acl.tags = tags;
                }
            }
            Change::DeleteAcl(acl) => {
                self.acls.remove(&acl);
            }
            Change::PutAclEntry { acl, direction, number, entry } => {
                if let Some(acl) = self.acls.get_mut(&acl) {
                    acl.entries.insert((direction, number), entry);
                }
            }
            Change::RemoveAclEntry { acl, direction, number } => {
                if let Some(acl) = self.acls.get_mut(&acl) {
                    acl.entries.remove(&(direction, number));
                }
            }
            Change::AddBlock(block) | Change::ReplaceBlock(block) => {
                self.blocks.insert(block.number, block);
            }
            Change::RemoveBlock(number) => {
                self.blocks.remove(&number);
            }
            Change::PutInterface(interface) => {
                self.slots(interface.slot).insert(interface.slot, interface);
            }
            Change::MoveInterface { from, to } => {
                self.slots(from).remove(&from);
                self.slots(to.slot).insert(to.slot, to);
            }
            Change::DeleteInterface(slot) => {
                // Its blocks go with it.
                if let Some(gone) = self.slots(slot).remove(&slot) {
                    self.blocks.retain(|_, block| block.interface.as_ref() != Some(&gone.id));
                }
            }
            Change::PutFlowLog(log) => {
                self.flow_logs.insert(log.id.clone(), log);
            }
            Change::DeleteFlowLog(log) => {
                self.flow_logs.remove(&log);
            }
            Change::SetManagement(networks) => self.management = networks,
            Change::SetPanic(is_panicking) => self.is_panicking = is_panicking,
        }
    }

    /// The network interface in a slot.
    pub fn network_interface_mut(&mut self, slot: u16) -> Option<&mut Interface> {
        self.slots(slot).get_mut(&slot)
    }

    /// The interfaces among which one with this slot is.
    const fn slots(&mut self, slot: u16) -> &mut BTreeMap<u16, Interface> {
        if slot < Interface::FIRST_UNATTACHED { &mut self.interfaces } else { &mut self.unattached }
    }

    fn group_mut(&mut self, id: &GroupId) -> Option<&mut Group> {
        self.groups.get_mut(id).map(Arc::make_mut)
    }

    fn rule_mut(&mut self, group: &GroupId, id: &RuleId) -> Option<&mut Rule> {
        self.group_mut(group)?.rules.iter_mut().find(|rule| rule.id == *id)
    }
}
