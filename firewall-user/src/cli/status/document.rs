//! `secgroup status --output json`

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Result;
use firewall_ebpf::event::Event;
use firewall_ebpf::interface::State;
use serde_json::{Value, json};

use super::Seen;
use crate::cli::output;
use crate::dataplane::flows::survey::Survey;
use crate::dataplane::hooks::hook::Hook;
use crate::dataplane::tables::counters::ByEvent;
use crate::dataplane::tables::maps::Maps;
use crate::dataplane::tables::memory::{RULE_COUNTER, RuleCounters};
use crate::model::{Interface, Model};

/// As `aws ec2 describe-network-interfaces` prints, with what EC2 has no word for beside it.
pub(super) fn document(
    model: &Model,
    seen: &[Seen<'_>],
    maps: Option<&Maps>,
    survey: &Survey,
) -> Result<Value> {
    let mut interfaces = Vec::new();
    for one in seen {
        let interface = one.interface;
        let groups: Vec<_> = interface
            .groups
            .iter()
            .filter_map(|id| model.groups.get(id))
            .map(|group| json!({ "GroupId": group.id.to_string(), "GroupName": group.name }))
            .collect();
        let (v4, v6): (Vec<&IpAddr>, Vec<&IpAddr>) =
            one.addresses.iter().partition(|a| a.is_ipv4());
        let events = maps.map_or(Ok(ByEvent::new()), |maps| maps.events(interface.slot))?;
        interfaces.push(json!({
            "NetworkInterfaceId": interface.id.to_string(),
            "Status": if one.state == "device-missing" { "available" } else { "in-use" },
            "Groups": groups,
            "PrivateIpAddresses":
                v4.iter().map(|a| json!({ "PrivateIpAddress": a.to_string() })).collect::<Vec<_>>(),
            "Ipv6Addresses":
                v6.iter().map(|a| json!({ "Ipv6Address": a.to_string() })).collect::<Vec<_>>(),
            "ConnectionTrackingConfiguration": timeouts(interface),
            "Device": interface.device,
            "Netns": interface.netns,
            "Slot": interface.slot,
            "State": one.state,
            "Hook": one.hook.map(Hook::name),
            "HookAsked": interface.hook.name(),
            "HookReason": one.why,
            "Orientation": interface.orientation.name(),
            "NonIp": interface.non_ip.name(),
            "Tcp": interface.tcp.name(),
            "PickUp": interface.picks_up(),
            "Tracking": interface.tracking.name(),
            "Mode": interface.mode.name(),
            "Revalidate": interface.revalidate,
            "PolicyMemoryBytes": one.memory,
            "BytesPerRule": one.bytes_per_rule(),
            "AuditedPackets": events.get(&Event::Spared).copied().unwrap_or(0),
            "UntrackedFamilies": one.untracked,
            "Rules": one.rules,
            "OpenedFlows": events.get(&Event::Opened).copied().unwrap_or(0),
            "PromotedFlows": events.get(&Event::Promoted).copied().unwrap_or(0),
            "EvictedFlows": survey.evicted.get(&interface.slot).copied().unwrap_or(0),
            "UnpromotedFlows": events.get(&Event::Unpromoted).copied().unwrap_or(0),
        }));
    }
    let mut tables = Vec::new();
    if let Some(maps) = maps {
        for table in maps.occupancy(&survey.flows) {
            tables.push(json!({
                "Tier": table.tier.name(),
                "Family": if table.is_v6 { "ipv6" } else { "ipv4" },
                "Entries": table.entries,
                "Capacity": table.capacity,
                "BytesPerEntry": table.bytes_per_entry(),
                "MemoryBytes": table.memory,
            }));
        }
    }
    let counters = maps.map(Maps::rule_counter_usage).transpose()?;
    Ok(json!({
        "SchemaVersion": output::SCHEMA_VERSION,
        "NetworkInterfaces": interfaces,
        "FlowTables": tables,
        "RuleCounters": counters.map(|RuleCounters { entries, capacity, memory }| json!({
            "Entries": entries,
            "Capacity": capacity,
            "BytesPerEntry": memory.map(|_| RULE_COUNTER),
            "MemoryBytes": memory,
        })),
    }))
}

/// Seconds by the timeout's name, of every state.
fn timeouts(interface: &Interface) -> BTreeMap<&'static str, u32> {
    State::ALL.iter().map(|state| (state.timeout_name(), interface.timeout(*state))).collect()
}
