//! The verdict logic compiled for the host, over ordinary maps.

use std::collections::BTreeMap;
use std::net::IpAddr;

use firewall_ebpf::abi::address::{V4, V6};
use firewall_ebpf::abi::event::Event;
use firewall_ebpf::abi::flow::{Table, Tier};
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::interface::NonIp;
use firewall_ebpf::abi::prefix::Prefix;
use firewall_ebpf::abi::reason::Reason;
use firewall_ebpf::abi::state::State;
use firewall_ebpf::backend::host::{HostBlocks, HostPacket, HostPolicy, HostTables};
use firewall_ebpf::verdict::decide::decide;
use firewall_ebpf::verdict::tables::Flows;
use firewall_user::model::EtherType;
use firewall_user::policy::CompiledPolicy;

use crate::decision::deny::{Blocks, Ends, Filter};
use crate::decision::engine::{Engine, FlowView, FlowViews, learned};
use crate::decision::kernel::Setup;

/// The slot of the interface under test, on the host and in the kernel. Not 0, so that code that
/// ignores the slot fails.
pub const SLOT: u16 = 1;

/// A timeout in jiffies plus 0.9 seconds, for both engines: steps wait whole seconds, and the run
/// time of a case on a busy machine must not change a result.
#[must_use]
pub fn padded_timeout(seconds: u32, hz: u64) -> u64 {
    u64::from(seconds) * hz + hz * 9 / 10
}

/// The idle timeout of a state, [padded](padded_timeout).
#[must_use]
pub fn timeout(state: State, hz: u64) -> u64 {
    padded_timeout(state.default_timeout(), hz)
}

/// The engine on the host.
pub struct Host {
    /// The tables of [`decide`].
    pub tables: HostTables,
    /// Whether frames start with an Ethernet header.
    pub ethernet: bool,
}

impl Host {
    /// An Ethernet interface with empty tables.
    #[must_use]
    pub fn new() -> Self {
        Self { tables: tables(NonIp::default()), ethernet: true }
    }

    /// An interface of this setup.
    #[must_use]
    pub fn of(setup: &Setup) -> Self {
        let mut host = Self::with(setup.ethernet, setup.non_ip);
        host.tables.tcp_checks = setup.tcp_checks;
        host.tables.no_tcp_loose = !setup.tcp_loose;
        host.tables.revalidate = setup.revalidate;
        host.tables.port = setup.port.record();
        host.tables.max_per_source = setup.max_per_source.unwrap_or(0);
        host.tables.ether_types.0[0] = setup.ether_type.map_or(0, EtherType::number);
        host
    }

    /// An interface with or without an Ethernet header, and its treatment of frames that are not
    /// IP.
    #[must_use]
    pub fn with(ethernet: bool, non_ip: NonIp) -> Self {
        Self { tables: tables(non_ip), ethernet }
    }
}

impl Host {
    /// Times in nanoseconds, padded as [timeouts](padded_timeout).
    fn at(&self, ends: &Ends) -> Vec<(u32, u64)> {
        let now = self.tables.boottime();
        ends.iter().map(|(key, seconds)| (*key, now + padded_end(*seconds))).collect()
    }
}

/// Nanoseconds until something ends, padded as [timeouts](padded_timeout).
#[must_use]
pub fn padded_end(seconds: u32) -> u64 {
    u64::from(seconds) * 1_000_000_000 + 900_000_000
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

fn tables(non_ip: NonIp) -> HostTables {
    let timeouts = State::ALL.iter().map(|&state| (state, timeout(state, HostTables::HZ)));
    let mut tables = HostTables::new(SLOT, CompiledPolicy::deny_all());
    tables.clear_policy();
    tables.timeouts = timeouts.collect();
    tables.non_ip = non_ip;
    tables
}

impl Engine for Host {
    fn name(&self) -> String {
        "host".to_owned()
    }

    fn reset(&mut self, policy: Option<&CompiledPolicy>) {
        let HostTables {
            non_ip,
            tcp_checks,
            no_tcp_loose,
            revalidate,
            port,
            max_per_source,
            ether_types,
            ..
        } = self.tables;
        self.tables = tables(non_ip);
        self.tables.set_policy(policy.map(Into::into));
        self.tables.tcp_checks = tcp_checks;
        self.tables.no_tcp_loose = no_tcp_loose;
        self.tables.revalidate = revalidate;
        self.tables.port = port;
        self.tables.max_per_source = max_per_source;
        self.tables.ether_types = ether_types;
    }

    fn replace(&mut self, policy: &CompiledPolicy) {
        self.tables.set_policy(Some(policy.into()));
    }

    fn set_rule_ends(&mut self, ends: &Ends) {
        self.tables.rule_ends.extend(self.at(ends));
    }

    fn set_filter(&mut self, filter: Option<&Filter>) {
        self.tables.set_filter(filter.map(|filter| HostPolicy::from(&filter.tables())));
        if let Some(filter) = filter {
            self.tables.entry_ends.extend(self.at(&filter.ends));
        }
    }

    fn set_blocks(&mut self, blocks: &Blocks) {
        let mut tables = HostBlocks::default();
        for (network, word) in blocks.table() {
            let length = network.prefix_len();
            match network.network() {
                IpAddr::V4(v4) => tables.v4.insert(Prefix::new(v4.octets(), length), word),
                IpAddr::V6(v6) => tables.v6.insert(Prefix::new(v6.octets(), length), word),
            };
        }
        self.tables.blocks = tables;
        self.tables.entry_ends.extend(self.at(&blocks.ends));
    }

    fn decide(&mut self, frame: &[u8], direction: Direction) -> Option<Reason> {
        let packet = HostPacket { has_ethernet: self.ethernet, ..HostPacket::ethernet(frame) };
        Some(decide(&packet, &self.tables, direction).reason)
    }

    fn wait(&mut self, seconds: u32) {
        self.tables.advance(u64::from(seconds) * HostTables::HZ);
    }

    fn fill_proven(&mut self, full: bool) {
        self.tables.full.set(full.then_some(Table::Tcp));
    }

    fn learn_flows(&mut self) {
        let Self { tables, .. } = self;
        for ((tier, key), flow) in tables.flows_v4() {
            let table = table(tier, key.protocol);
            Flows::<V4>::remove(tables, table, &key);
            let _ = Flows::<V4>::insert(tables, table, &key, &learned(&flow));
        }
        for ((tier, key), flow) in tables.flows_v6() {
            let table = table(tier, key.protocol);
            Flows::<V6>::remove(tables, table, &key);
            let _ = Flows::<V6>::insert(tables, table, &key, &learned(&flow));
        }
    }

    fn flows(&mut self) -> FlowViews {
        let (v4, v6) = (self.tables.flows_v4(), self.tables.flows_v6());
        let v4 = v4.into_iter().map(|((tier, key), flow)| ((tier, key.into()), flow));
        let v6 = v6.into_iter().map(|((tier, key), flow)| ((tier, key.into()), flow));
        let now = self.tables.now.get();
        v4.chain(v6).map(|(id, flow)| (id, FlowView::new(flow, now, HostTables::HZ))).collect()
    }

    fn rules(&mut self) -> BTreeMap<u32, (u64, u64)> {
        self.tables.rules.borrow().clone()
    }

    fn entries(&mut self) -> BTreeMap<u32, (u64, u64)> {
        self.tables.entries.borrow().clone()
    }

    fn events(&mut self) -> BTreeMap<Event, u64> {
        self.tables.events.borrow().clone()
    }
}

/// The table of a flow.
fn table(tier: Tier, protocol: u8) -> Table {
    match tier {
        Tier::New => Table::New,
        Tier::Proven => Table::proven(protocol).expect("a protocol whose flows can be proven"),
    }
}
