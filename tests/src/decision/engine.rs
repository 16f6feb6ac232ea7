//! The interface of what decides a case, and the types in which results are compared.

use std::collections::BTreeMap;
use std::mem::transmute;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firewall_ebpf::abi::address::V6;
use firewall_ebpf::abi::event::Event;
use firewall_ebpf::abi::flow::{
    FIN_EGRESS, Flow, FlowKey4, FlowKey6, INITIATOR_EGRESS, PROVEN, REPLIED, Tier,
};
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::reason::Reason;
use firewall_ebpf::abi::state::State;
use firewall_user::policy::CompiledPolicy;

use crate::decision::deny::{Blocks, Ends, Filter};

/// A key of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowId {
    /// The protected end.
    pub inside: IpAddr,
    /// The other end.
    pub outside: IpAddr,
    /// Host byte order.
    pub inside_port: u16,
    /// Host byte order.
    pub outside_port: u16,
    /// The slot of the interface.
    pub slot: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// For an ICMP query, which end sent the request; otherwise 0.
    pub query: u8,
}

impl From<FlowKey4> for FlowId {
    fn from(key: FlowKey4) -> Self {
        let FlowKey4 { inside, outside, inside_port, outside_port, slot, protocol, query } = key;
        let address = |raw: u32| IpAddr::V4(Ipv4Addr::from(u32::from_be(raw)));
        let (inside, outside) = (address(inside), address(outside));
        let (inside_port, outside_port) = (u16::from_be(inside_port), u16::from_be(outside_port));
        Self { inside, outside, inside_port, outside_port, slot, protocol, query }
    }
}

impl From<FlowKey6> for FlowId {
    fn from(key: FlowKey6) -> Self {
        let FlowKey6 { inside, outside, inside_port, outside_port, slot, protocol, query } = key;
        let address = |raw: V6| {
            // SAFETY: same size, and any bytes are octets: both in network byte order.
            IpAddr::V6(Ipv6Addr::from(unsafe { transmute::<V6, [u8; 16]>(raw) }))
        };
        let (inside, outside) = (address(inside), address(outside));
        let (inside_port, outside_port) = (u16::from_be(inside_port), u16::from_be(outside_port));
        Self { inside, outside, inside_port, outside_port, slot, protocol, query }
    }
}

/// A flow as it is compared between host and kernel: without times, except the idle time in whole
/// seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowView {
    /// The record without its times.
    pub flow: Flow,
    /// Seconds since its last packet.
    pub idle: u64,
}

impl FlowView {
    /// A record at the time `now`, in jiffies. A case itself runs in less than a second, and its
    /// steps wait whole seconds.
    #[must_use]
    pub fn new(flow: Flow, now: u64, hz: u64) -> Self {
        let idle = now.saturating_sub(flow.last_seen) / hz;
        Self { flow: Flow { last_seen: 0, created: 0, ..flow }, idle }
    }
}

/// A flow as it is written when its connection is found open at the attach: without a rule, and, of
/// TCP, without numbers.
#[must_use]
pub fn learned(flow: &Flow) -> Flow {
    let kept = INITIATOR_EGRESS | FIN_EGRESS;
    Flow {
        rule: 0,
        flags: flow.flags & kept | PROVEN | REPLIED,
        packets: flow.packets,
        bytes: flow.bytes,
        state: flow.state,
        last_seen: flow.last_seen,
        created: flow.created,
        epoch: flow.epoch,
        ..Flow::default()
    }
}

/// Every flow of one interface.
pub type FlowViews = BTreeMap<(Tier, FlowId), FlowView>;

/// One line per flow, for a failure message.
#[must_use]
pub fn lines(flows: &FlowViews) -> String {
    let line = |((tier, id), view): (&(Tier, FlowId), &FlowView)| {
        let FlowId { inside, outside, inside_port, outside_port, slot, protocol, query } = id;
        let state = view.flow.state().map_or("?", State::name);
        format!(
            "\n    {} {state}, idle {} s, slot {slot} protocol {protocol} query {query}, inside \
             {inside} {inside_port}, outside {outside} {outside_port}, {:?}",
            tier.name(),
            view.idle,
            view.flow
        )
    };
    flows.iter().map(line).collect()
}

/// One implementation of the verdict logic with its tables and its clock.
pub trait Engine {
    /// Its name in a failure message.
    fn name(&self) -> String;

    /// Clears all flows and counters, and replaces the policy.
    fn reset(&mut self, policy: Option<&CompiledPolicy>);

    /// Replaces the policy and keeps the flows.
    fn replace(&mut self, policy: &CompiledPolicy);

    /// Sets when rules of the present policy end, by number, in seconds from now.
    fn set_rule_ends(&mut self, ends: &Ends);

    /// Replaces the filter of the interface, or removes it.
    fn set_filter(&mut self, filter: Option<&Filter>);

    /// Replaces the blocks of the host.
    fn set_blocks(&mut self, blocks: &Blocks);

    /// Decides a frame. `None` if the kernel's test run does not accept it, because it is shorter
    /// than an Ethernet header.
    fn decide(&mut self, frame: &[u8], direction: Direction) -> Option<Reason>;

    /// Advances the clock.
    fn wait(&mut self, seconds: u32);

    /// Fills the proven tier, or removes the filling flows.
    fn fill_proven(&mut self, full: bool);

    /// Turns every flow into a learned one, which no rule admitted.
    fn learn_flows(&mut self);

    /// All flows.
    fn flows(&mut self) -> FlowViews;

    /// Packets and bytes by rule, without rules that admitted nothing.
    fn rules(&mut self) -> BTreeMap<u32, (u64, u64)>;

    /// Whether packets of established flows take the fast path, where nothing is looked up in the filter.
    fn has_fast_path(&self) -> bool {
        true
    }

    /// Packets and bytes of entries and blocks, by counter, without zeros.
    fn entries(&mut self) -> BTreeMap<u32, (u64, u64)>;

    /// The count of each event, without zeros.
    fn events(&mut self) -> BTreeMap<Event, u64>;
}
