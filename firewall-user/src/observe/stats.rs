//! How many packets each interface passed and dropped, by direction and reason.

use std::collections::BTreeMap;

use anyhow::Result;
use firewall_ebpf::abi::counter::Counter;
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::reason::Reason;
use schemars::JsonSchema;
use serde::Serialize;

use super::SCHEMA_VERSION;
use crate::control::{Control, NothingAttached};
use crate::dataplane::tables::counters::ByReason;
use crate::model::Interface;

/// Counters by slot.
pub type Counters = BTreeMap<u16, ByReason>;

/// Reads the counters of interfaces.
///
/// # Errors
/// Nothing is attached, or the kernel cannot be read.
pub fn read(control: &Control, interfaces: &[&Interface]) -> Result<Counters> {
    let maps = control.maps()?.ok_or(NothingAttached)?;
    interfaces.iter().map(|one| Ok((one.slot, maps.counters(one.slot)?))).collect()
}

/// The counters of the interfaces.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct StatsDocument {
    /// Version of this document: 1.
    pub schema_version: u32,
    /// The interfaces of the store.
    pub interfaces: Vec<InterfaceCounters>,
}

/// The counters of an interface.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct InterfaceCounters {
    /// Id of the interface, `eni-…`.
    pub network_interface_id: String,
    /// Network device.
    pub device: String,
    /// Named network namespace of the device; null for the one that secgroup runs in.
    pub netns: Option<String>,
    /// A counter for every direction and reason.
    pub counters: Vec<ReasonCounter>,
}

/// A counter.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct ReasonCounter {
    /// `ingress` or `egress`.
    pub direction: &'static str,
    /// `pass` or `drop`.
    pub verdict: &'static str,
    /// Reason of the verdict (docs/reasons.md).
    pub reason: &'static str,
    /// Packets since the interface was attached.
    pub packets: u64,
    /// Bytes of these packets, as whole frames.
    pub bytes: u64,
}

impl StatsDocument {
    /// The document of counters that were read.
    #[must_use]
    pub fn new(interfaces: &[&Interface], counters: &Counters) -> Self {
        let interface = |interface: &&Interface| InterfaceCounters {
            network_interface_id: interface.id.to_string(),
            device: interface.device.clone(),
            netns: interface.netns.clone(),
            counters: counters[&interface.slot].iter().map(ReasonCounter::new).collect(),
        };
        let interfaces = interfaces.iter().map(interface).collect();
        Self { schema_version: SCHEMA_VERSION, interfaces }
    }
}

impl ReasonCounter {
    fn new(((direction, reason), counter): (&(Direction, Reason), &Counter)) -> Self {
        Self {
            direction: direction.name(),
            verdict: reason.verdict().name(),
            reason: reason.name(),
            packets: counter.packets,
            bytes: counter.bytes,
        }
    }
}
