//! The document of `secgroup status --output json` and of the console.

use std::collections::BTreeMap;

use anyhow::Result;
use firewall_ebpf::abi::event::Event;
use firewall_ebpf::abi::state::State;
use schemars::JsonSchema;
use serde::Serialize;

use super::InterfaceStatus;
use crate::control::confirm::UnconfirmedChange;
use crate::control::enforcement::State as InterfaceState;
use crate::dataplane::flows::list::Occupancy;
use crate::dataplane::flows::survey::Survey;
use crate::dataplane::hooks::hook::Hook;
use crate::dataplane::tables::counters::ByEvent;
use crate::dataplane::tables::maps::Maps;
use crate::dataplane::tables::memory::{self, RULE_COUNTER};
use crate::model::{Family, Interface, Model, is_one_address};
use crate::observe::SCHEMA_VERSION;

mod place;

use place::{Attached, AttachedGroup, TagDocument, Unattached, groups, tags};

/// The attached interfaces, in the form of `aws ec2 describe-network-interfaces` as far as EC2 has the
/// fields, and the use of the kernel's tables.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct StatusDocument {
    /// Version of this document: 1.
    pub schema_version: u32,
    /// The attached interfaces of the store.
    pub network_interfaces: Vec<NetworkInterface>,
    /// The network interfaces of the EC2 API that no device has.
    pub unattached_network_interfaces: Vec<Unattached>,
    /// The flow tables; empty if nothing is attached.
    pub flow_tables: Vec<FlowTable>,
    /// The table of the counters of rules; null if nothing is attached.
    pub rule_counters: Option<RuleCounters>,
    /// Blocks in force (`secgroup block list`).
    pub blocks: usize,
    /// The tables of network ACLs and blocks; null if nothing is attached.
    pub deny_tables: Option<DenyTables>,
    /// Slots of interfaces that are attached in the kernel and not in the store.
    pub stray_slots: Vec<u16>,
    /// The change that is not confirmed yet, or null.
    pub pending: Option<PendingChange>,
    /// Whether emergency mode (`secgroup panic`) is on.
    pub panic: bool,
    /// The networks that stay reachable in a panic.
    pub management_networks: Vec<String>,
}

/// An interface.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkInterface {
    /// Id of the interface, `eni-…`.
    pub network_interface_id: String,
    /// `in-use`, or `available` if its device does not exist now.
    pub status: &'static str,
    /// Free text from the EC2 API.
    pub description: String,
    /// Its subnet.
    pub subnet_id: String,
    /// The VPC of its subnet.
    pub vpc_id: String,
    /// How it is attached, as the EC2 API shows it.
    pub attachment: Option<Attached>,
    /// User tags.
    pub tag_set: Vec<TagDocument>,
    /// The groups of the interface.
    pub groups: Vec<AttachedGroup>,
    /// Its network ACL: its own one, or that of its subnet.
    pub network_acl: Option<AttachedAcl>,
    /// IPv4 addresses of the protected end, as used for rules with a group as peer.
    pub private_ip_addresses: Vec<PrivateIpAddress>,
    /// IPv6 addresses of the protected end.
    pub ipv6_addresses: Vec<Ipv6Address>,
    /// IPv4 networks of the protected end, declared with `--address`.
    pub ipv4_prefixes: Vec<Ipv4Prefix>,
    /// IPv6 networks of the protected end.
    pub ipv6_prefixes: Vec<Ipv6Prefix>,
    /// Whether a guest may use only its own addresses; false in orientation `host`, and where no address
    /// is declared.
    pub source_dest_check: bool,
    /// MAC address of a guest that is declared, and the only source of its frames; null: not checked.
    pub mac_address: Option<String>,
    /// Networks of `--allow-address`, which a guest may use too.
    pub allowed_addresses: Vec<String>,
    /// Whether a guest may send what a router or DHCP server sends.
    pub guest_router: bool,
    /// Idle timeouts in seconds by name, of every state (docs/states.md).
    pub connection_tracking_configuration: BTreeMap<&'static str, u32>,
    /// Network device, as it is stored.
    pub device: String,
    /// Named network namespace of the device, as it is stored; null for the one that secgroup runs in.
    pub netns: Option<String>,
    /// The name that the device has now; null if it does not exist or is out of reach.
    pub present_device: Option<String>,
    /// The named network namespace that it is in now; null for the one that secgroup runs in.
    pub present_netns: Option<String>,
    /// Sentences about a device that was renamed or moved, or whose name another one has.
    pub remarks: Vec<String>,
    /// Names of its groups that a rule has as its peer, and of which it is no member: no address is declared
    /// with `--address`, and those of its device do not count.
    pub groups_without_address: Vec<String>,
    /// Number of the interface in the kernel's tables.
    pub slot: u16,
    /// `enforcing`, `auditing`, `not-enforcing` or `device-missing`; see `secgroup status --help`.
    pub state: &'static str,
    /// What is missing in state `not-enforcing`; null in the others.
    pub missing: Option<String>,
    /// Programs of secgroup on the device whose pins are not in the pin directory, with id and hook.
    pub unpinned_programs: Vec<String>,
    /// Hook of the program for received packets; null if none is attached.
    pub hook: Option<&'static str>,
    /// Hook as configured with `--hook`.
    pub hook_choice: &'static str,
    /// Why the program is on this hook, and which other program runs before it.
    pub hook_reason: String,
    /// `host` or `guest`.
    pub orientation: &'static str,
    /// `control`, `all` or `none`.
    pub non_ip: &'static str,
    /// EtherTypes of frames that pass besides, by name or as a hexadecimal number.
    pub ether_types: Vec<String>,
    /// `guard` or `strict`.
    pub tcp: &'static str,
    /// Whether a TCP segment in the middle of a connection may open a flow.
    pub tcp_loose: bool,
    /// `auto` or `always`.
    pub tracking: &'static str,
    /// `enforce` or `audit`.
    pub mode: &'static str,
    /// Whether packets of a flow are dropped once no rule allows the flow.
    pub revalidate: bool,
    /// Proven TCP flows that one source can have; null: as many as fit.
    pub max_flows_per_source: Option<u32>,
    /// Memory of the policy in the kernel in bytes; null before Linux 6.4.
    pub policy_memory_bytes: Option<u64>,
    /// Average memory of a rule in bytes, with its counter; null before Linux 6.4 and without rules.
    pub bytes_per_rule: Option<u64>,
    /// Packets that audit mode passed and counted as dropped.
    pub audited_packets: u64,
    /// Families (`ipv4`, `ipv6`) with traffic that passes without flows.
    pub untracked_families: Vec<&'static str>,
    /// Number of rules of the groups.
    pub rules: usize,
    /// Flows that were opened.
    pub opened_flows: u64,
    /// Flows that moved to the table of proven flows.
    pub promoted_flows: u64,
    /// Flows that the full table of new flows evicted.
    pub evicted_flows: u64,
    /// Times that a flow could not move to the table of proven flows because it was full.
    pub unpromoted_flows: u64,
    /// Times that a flow could not move there because its source had as many as it can have.
    pub source_limited_flows: u64,
}

/// The network ACL of an interface.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct AttachedAcl {
    /// Id of the network ACL, `acl-…`.
    pub network_acl_id: String,
    /// Name of the network ACL.
    pub network_acl_name: String,
    /// Whether it is the default one.
    pub is_default: bool,
}

/// An IPv4 address.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct PrivateIpAddress {
    /// The address.
    pub private_ip_address: String,
}

/// An IPv6 address.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Ipv6Address {
    /// The address.
    pub ipv6_address: String,
}

/// An IPv4 network.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Ipv4Prefix {
    /// The network.
    pub ipv4_prefix: String,
}

/// An IPv6 network.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Ipv6Prefix {
    /// The network.
    pub ipv6_prefix: String,
}

/// A flow table.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct FlowTable {
    /// The interface; null if it is not stored, or not selected.
    pub network_interface_id: Option<String>,
    /// The interface's attachment number.
    pub slot: u16,
    /// `new`; or `udp` or `tcp`, of proven flows.
    pub table: &'static str,
    /// `ipv4` or `ipv6`.
    pub family: &'static str,
    /// Flows in it, with expired ones that are not removed yet.
    pub entries: u64,
    /// Flows that fit.
    pub capacity: u32,
    /// Memory of the table in bytes, of `tcp` for the flows that it has; null before Linux 6.4.
    pub memory_bytes: Option<u64>,
}

/// The table of the counters of rules.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct RuleCounters {
    /// Rules that have a counter.
    pub entries: u64,
    /// Rules that can have one.
    pub capacity: u32,
    /// Memory of an entry in bytes; null before Linux 6.4.
    pub bytes_per_entry: Option<u64>,
    /// Memory of the table in bytes; null before Linux 6.4.
    pub memory_bytes: Option<u64>,
}

/// The tables of network ACLs and blocks.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct DenyTables {
    /// Filters: an interface's network ACL with its own blocks. Interfaces for which the same is compiled
    /// share one; an interface that allows everything has none.
    pub filters: usize,
    /// Memory of the filters in bytes; null before Linux 6.4.
    pub filter_memory_bytes: Option<u64>,
    /// Memory of the blocks of the host in bytes; null before Linux 6.4.
    pub block_memory_bytes: Option<u64>,
}

/// A change that is not confirmed yet.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct PendingChange {
    /// The command that made it.
    pub command: String,
    /// Seconds until it is rolled back.
    pub left_seconds: u64,
}

/// What was read for a status.
pub struct Reading<'a> {
    /// The store.
    pub model: &'a Model,
    /// The chosen interfaces.
    pub statuses: &'a [InterfaceStatus<'a>],
    /// The maps; `None` where nothing is attached.
    pub maps: Option<&'a Maps>,
    /// What was counted in the flow tables.
    pub survey: &'a Survey,
    /// Slots that the store does not have.
    pub strays: Vec<u16>,
    /// The change that is not confirmed yet.
    pub change: Option<&'a UnconfirmedChange>,
}

impl StatusDocument {
    /// The document of what was read.
    ///
    /// # Errors
    /// The kernel cannot be read.
    pub fn new(reading: Reading<'_>) -> Result<Self> {
        let Reading { model, statuses, maps, survey, strays, change } = reading;
        let interface = |one| NetworkInterface::new(model, one, maps, survey);
        let tables =
            maps.map(|maps| maps.occupancy(&survey.flows)).transpose()?.unwrap_or_default();
        let counters = maps.map(Maps::rule_counter_usage).transpose()?;
        Ok(Self {
            schema_version: SCHEMA_VERSION,
            network_interfaces: statuses.iter().map(interface).collect::<Result<_>>()?,
            unattached_network_interfaces: model
                .unattached
                .values()
                .map(|one| Unattached::new(model, one))
                .collect(),
            flow_tables: tables.iter().map(|table| FlowTable::new(table, statuses)).collect(),
            rule_counters: counters.map(RuleCounters::new),
            blocks: super::blocks_in_force(model).count(),
            deny_tables: maps.map(DenyTables::read).transpose()?,
            stray_slots: strays,
            pending: change.map(|change| PendingChange {
                command: change.what.clone(),
                left_seconds: change.left_seconds(),
            }),
            panic: model.is_panicking,
            management_networks: model.management.iter().map(ToString::to_string).collect(),
        })
    }
}

impl NetworkInterface {
    fn new(
        model: &Model,
        one: &InterfaceStatus<'_>,
        maps: Option<&Maps>,
        survey: &Survey,
    ) -> Result<Self> {
        let interface = one.interface;
        let present = one.enforcement.device.as_ref();
        let of = |is_v4: bool, is_address: bool| {
            let all = one.addresses.iter();
            all.filter(move |net| {
                net.addr().is_ipv4() == is_v4 && is_one_address(net) == is_address
            })
        };
        let events = maps.map_or(Ok(ByEvent::new()), |maps| maps.events(interface.slot))?;
        let count = |event| events.get(&event).copied().unwrap_or_default();
        Ok(Self {
            network_interface_id: interface.id.to_string(),
            status: if one.enforcement.state == InterfaceState::DeviceMissing {
                "available"
            } else {
                "in-use"
            },
            description: interface.details.description.clone(),
            subnet_id: interface.subnet.to_string(),
            vpc_id: model.vpc_of(interface).to_string(),
            attachment: interface.details.attachment.as_ref().map(Attached::new),
            tag_set: tags(interface),
            groups: groups(model, interface),
            network_acl: model.acl_of(interface).map(|acl| AttachedAcl {
                network_acl_id: acl.id.to_string(),
                network_acl_name: acl.name.clone(),
                is_default: acl.is_default,
            }),
            private_ip_addresses: of(true, true)
                .map(|net| PrivateIpAddress { private_ip_address: net.addr().to_string() })
                .collect(),
            ipv6_addresses: of(false, true)
                .map(|net| Ipv6Address { ipv6_address: net.addr().to_string() })
                .collect(),
            ipv4_prefixes: of(true, false)
                .map(|net| Ipv4Prefix { ipv4_prefix: net.to_string() })
                .collect(),
            ipv6_prefixes: of(false, false)
                .map(|net| Ipv6Prefix { ipv6_prefix: net.to_string() })
                .collect(),
            source_dest_check: interface.checks_addresses(),
            mac_address: interface.port.mac.map(|mac| mac.to_string()),
            allowed_addresses: interface.port.allowed.iter().map(ToString::to_string).collect(),
            guest_router: interface.port.router,
            connection_tracking_configuration: timeouts(interface),
            device: interface.device.clone(),
            netns: interface.netns.clone(),
            slot: interface.slot,
            present_device: present.map(|device| device.name.clone()),
            present_netns: present.and_then(|device| device.netns.clone()),
            remarks: one.enforcement.remarks(interface),
            groups_without_address: one.without_address.iter().map(ToString::to_string).collect(),
            state: one.enforcement.state.name(),
            missing: one.enforcement.loss(),
            unpinned_programs: one.enforcement.unpinned.iter().map(ToString::to_string).collect(),
            hook: one.enforcement.hook.map(Hook::name),
            hook_choice: interface.hook.name(),
            hook_reason: one.enforcement.hook_reason.clone(),
            orientation: interface.orientation.name(),
            non_ip: interface.non_ip.name(),
            ether_types: interface.ether_types.iter().map(ToString::to_string).collect(),
            tcp: interface.tcp.name(),
            tcp_loose: interface.is_tcp_loose(),
            tracking: interface.tracking.name(),
            mode: interface.mode.name(),
            revalidate: interface.revalidate,
            max_flows_per_source: interface.max_flows_per_source,
            policy_memory_bytes: one.memory,
            bytes_per_rule: one.bytes_per_rule(),
            audited_packets: count(Event::AuditPassed),
            untracked_families: one.untracked.clone(),
            rules: one.rules,
            opened_flows: count(Event::Opened),
            promoted_flows: count(Event::Promoted),
            evicted_flows: survey.evicted.get(&interface.slot).copied().unwrap_or_default(),
            unpromoted_flows: count(Event::Unpromoted),
            source_limited_flows: count(Event::SourceLimited),
        })
    }
}

impl FlowTable {
    fn new(table: &Occupancy, statuses: &[InterfaceStatus<'_>]) -> Self {
        let family = if table.is_v6 { Family::Ipv6 } else { Family::Ipv4 };
        let interface = statuses.iter().find(|one| one.interface.slot == table.slot);
        Self {
            network_interface_id: interface.map(|one| one.interface.id.to_string()),
            slot: table.slot,
            table: table.table.name(),
            family: family.name(),
            entries: table.entries,
            capacity: table.capacity,
            memory_bytes: table.memory,
        }
    }
}

impl RuleCounters {
    fn new(counters: memory::RuleCounters) -> Self {
        let memory::RuleCounters { entries, capacity, memory } = counters;
        let bytes_per_entry = memory.map(|_| RULE_COUNTER);
        Self { entries, capacity, bytes_per_entry, memory_bytes: memory }
    }
}

impl DenyTables {
    fn read(maps: &Maps) -> Result<Self> {
        let (filters, filter_memory_bytes) = maps.filter_usage()?;
        Ok(Self { filters, filter_memory_bytes, block_memory_bytes: maps.block_memory()? })
    }
}

/// Seconds by the timeout's name, of every state.
fn timeouts(interface: &Interface) -> BTreeMap<&'static str, u32> {
    State::ALL.iter().map(|state| (state.timeout_name(), interface.timeout(*state))).collect()
}
