//! `secgroup status --output json`

use std::collections::BTreeMap;

use anyhow::Result;
use firewall_ebpf::abi::event::Event;
use firewall_ebpf::abi::state::State;
use schemars::JsonSchema;
use serde::Serialize;

use super::InterfaceStatus;
use crate::cli::confirm;
use crate::cli::json::SCHEMA_VERSION;
use crate::control::confirm::UnconfirmedChange;
use crate::control::enforcement::State as InterfaceState;
use crate::dataplane::flows::list::Occupancy;
use crate::dataplane::flows::survey::Survey;
use crate::dataplane::hooks::hook::Hook;
use crate::dataplane::tables::counters::ByEvent;
use crate::dataplane::tables::maps::Maps;
use crate::dataplane::tables::memory::{self, RULE_COUNTER};
use crate::model::{Family, Interface, Model, is_one_address};

mod place;

use place::{Attached, AttachedGroup, TagDocument, Unattached, groups, tags};

/// The attached interfaces, in the form of `aws ec2 describe-network-interfaces` as far as EC2 has the
/// fields, and the use of the kernel's tables.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct StatusDocument {
    /// Version of this document: 1.
    schema_version: u32,
    /// The attached interfaces of the store.
    network_interfaces: Vec<NetworkInterface>,
    /// The network interfaces of the EC2 API that no device has.
    unattached_network_interfaces: Vec<Unattached>,
    /// The flow tables; empty if nothing is attached.
    flow_tables: Vec<FlowTable>,
    /// The table of the counters of rules; null if nothing is attached.
    rule_counters: Option<RuleCounters>,
    /// Blocks in force (`secgroup block list`).
    blocks: usize,
    /// The tables of network ACLs and blocks; null if nothing is attached.
    deny_tables: Option<DenyTables>,
    /// Slots of interfaces that are attached in the kernel and not in the store.
    stray_slots: Vec<u16>,
    /// The change that is not confirmed yet, or null.
    pending: Option<PendingChange>,
    /// Whether emergency mode (`secgroup panic`) is on.
    panic: bool,
    /// The networks that stay reachable in a panic.
    management_networks: Vec<String>,
}

/// An interface.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct NetworkInterface {
    /// Id of the interface, `eni-…`.
    network_interface_id: String,
    /// `in-use`, or `available` if its device does not exist now.
    status: &'static str,
    /// Free text from the EC2 API.
    description: String,
    /// Its subnet.
    subnet_id: String,
    /// The VPC of its subnet.
    vpc_id: String,
    /// How it is attached, as the EC2 API shows it.
    attachment: Option<Attached>,
    /// User tags.
    tag_set: Vec<TagDocument>,
    /// The groups of the interface.
    groups: Vec<AttachedGroup>,
    /// Its network ACL: its own one, or that of its subnet.
    network_acl: Option<AttachedAcl>,
    /// IPv4 addresses of the protected end, as used for rules with a group as peer.
    private_ip_addresses: Vec<PrivateIpAddress>,
    /// IPv6 addresses of the protected end.
    ipv6_addresses: Vec<Ipv6Address>,
    /// IPv4 networks of the protected end, declared with `--address`.
    ipv4_prefixes: Vec<Ipv4Prefix>,
    /// IPv6 networks of the protected end.
    ipv6_prefixes: Vec<Ipv6Prefix>,
    /// Whether a guest may use only its own addresses; false in orientation `host`, and where no address
    /// is declared.
    source_dest_check: bool,
    /// MAC address of a guest that is declared, and the only source of its frames; null: not checked.
    mac_address: Option<String>,
    /// Networks of `--allow-address`, which a guest may use too.
    allowed_addresses: Vec<String>,
    /// Whether a guest may send what a router or DHCP server sends.
    guest_router: bool,
    /// Idle timeouts in seconds by name, of every state (docs/states.md).
    connection_tracking_configuration: BTreeMap<&'static str, u32>,
    /// Network device, as it is stored.
    device: String,
    /// Named network namespace of the device, as it is stored; null for the one that secgroup runs in.
    netns: Option<String>,
    /// The name that the device has now; null if it does not exist or is out of reach.
    present_device: Option<String>,
    /// The named network namespace that it is in now; null for the one that secgroup runs in.
    present_netns: Option<String>,
    /// Sentences about a device that was renamed or moved, or whose name another one has.
    remarks: Vec<String>,
    /// Names of its groups that a rule has as its peer, and of which it is no member: no address is declared
    /// with `--address`, and those of its device do not count.
    groups_without_address: Vec<String>,
    /// Number of the interface in the kernel's tables.
    slot: u16,
    /// `enforcing`, `auditing`, `not-enforcing` or `device-missing`; see `secgroup status --help`.
    state: &'static str,
    /// What is missing in state `not-enforcing`; null in the others.
    missing: Option<String>,
    /// Programs of secgroup on the device whose pins are not in the pin directory, with id and hook.
    unpinned_programs: Vec<String>,
    /// Hook of the program for received packets; null if none is attached.
    hook: Option<&'static str>,
    /// Hook as configured with `--hook`.
    hook_choice: &'static str,
    /// Why the program is on this hook, and which other program runs before it.
    hook_reason: String,
    /// `host` or `guest`.
    orientation: &'static str,
    /// `control`, `all` or `none`.
    non_ip: &'static str,
    /// EtherTypes of frames that pass besides, by name or as a hexadecimal number.
    ether_types: Vec<String>,
    /// `guard` or `strict`.
    tcp: &'static str,
    /// Whether a TCP segment in the middle of a connection may open a flow.
    tcp_loose: bool,
    /// `auto` or `always`.
    tracking: &'static str,
    /// `enforce` or `audit`.
    mode: &'static str,
    /// Whether packets of a flow are dropped once no rule allows the flow.
    revalidate: bool,
    /// Proven TCP flows that one source can have; null: as many as fit.
    max_flows_per_source: Option<u32>,
    /// Memory of the policy in the kernel in bytes; null before Linux 6.4.
    policy_memory_bytes: Option<u64>,
    /// Average memory of a rule in bytes, with its counter; null before Linux 6.4 and without rules.
    bytes_per_rule: Option<u64>,
    /// Packets that audit mode passed and counted as dropped.
    audited_packets: u64,
    /// Families (`ipv4`, `ipv6`) with traffic that passes without flows.
    untracked_families: Vec<&'static str>,
    /// Number of rules of the groups.
    rules: usize,
    /// Flows that were opened.
    opened_flows: u64,
    /// Flows that moved to the table of proven flows.
    promoted_flows: u64,
    /// Flows that the full table of new flows evicted.
    evicted_flows: u64,
    /// Times that a flow could not move to the table of proven flows because it was full.
    unpromoted_flows: u64,
    /// Times that a flow could not move there because its source had as many as it can have.
    source_limited_flows: u64,
}

/// The network ACL of an interface.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct AttachedAcl {
    /// Id of the network ACL, `acl-…`.
    network_acl_id: String,
    /// Name of the network ACL.
    network_acl_name: String,
    /// Whether it is the default one.
    is_default: bool,
}

/// An IPv4 address.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct PrivateIpAddress {
    /// The address.
    private_ip_address: String,
}

/// An IPv6 address.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct Ipv6Address {
    /// The address.
    ipv6_address: String,
}

/// An IPv4 network.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct Ipv4Prefix {
    /// The network.
    ipv4_prefix: String,
}

/// An IPv6 network.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct Ipv6Prefix {
    /// The network.
    ipv6_prefix: String,
}

/// A flow table.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct FlowTable {
    /// The interface; null if it is not stored, or not selected.
    network_interface_id: Option<String>,
    /// The interface's attachment number.
    slot: u16,
    /// `new`; or `udp` or `tcp`, of proven flows.
    table: &'static str,
    /// `ipv4` or `ipv6`.
    family: &'static str,
    /// Flows in it, with expired ones that are not removed yet.
    entries: u64,
    /// Flows that fit.
    capacity: u32,
    /// Memory of the table in bytes, of `tcp` for the flows that it has; null before Linux 6.4.
    memory_bytes: Option<u64>,
}

/// The table of the counters of rules.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct RuleCounters {
    /// Rules that have a counter.
    entries: u64,
    /// Rules that can have one.
    capacity: u32,
    /// Memory of an entry in bytes; null before Linux 6.4.
    bytes_per_entry: Option<u64>,
    /// Memory of the table in bytes; null before Linux 6.4.
    memory_bytes: Option<u64>,
}

/// The tables of network ACLs and blocks.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct DenyTables {
    /// Filters: an interface's network ACL with its own blocks. Interfaces for which the same is compiled
    /// share one; an interface that allows everything has none.
    filters: usize,
    /// Memory of the filters in bytes; null before Linux 6.4.
    filter_memory_bytes: Option<u64>,
    /// Memory of the blocks of the host in bytes; null before Linux 6.4.
    block_memory_bytes: Option<u64>,
}

/// A change that is not confirmed yet.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct PendingChange {
    /// The command that made it.
    command: String,
    /// Seconds until it is rolled back.
    left_seconds: u64,
}

/// What `secgroup status` has read.
pub(super) struct Reading<'a> {
    pub(super) model: &'a Model,
    pub(super) statuses: &'a [InterfaceStatus<'a>],
    pub(super) maps: Option<&'a Maps>,
    pub(super) survey: &'a Survey,
    pub(super) strays: Vec<u16>,
    pub(super) change: Option<&'a UnconfirmedChange>,
}

impl StatusDocument {
    pub(super) fn new(reading: Reading<'_>) -> Result<Self> {
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
                left_seconds: confirm::whole_seconds(change.left),
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
