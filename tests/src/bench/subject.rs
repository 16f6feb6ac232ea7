//! The measured programs, with their policies and flows.

use std::borrow::BorrowMut;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, Result};
use aya::maps::{HashMap, Map, MapData};
use aya::{Ebpf, EbpfLoader, Pod};
use firewall_ebpf::abi::address::{V4, V6};
use firewall_ebpf::abi::bloom::Bit;
use firewall_ebpf::abi::flow::{Flow, FlowKey4, FlowKey6, NUMBERS_KNOWN, PROVEN};
use firewall_ebpf::abi::interface::{Direction, NonIp, Orientation, TcpChecks};
use firewall_ebpf::abi::port::PortSecurity;
use firewall_ebpf::abi::state::State;
use firewall_ebpf::wire::address::Address as _;
use firewall_user::dataplane::hooks::load::{self, Settings};
use firewall_user::dataplane::hooks::slow_path::{self, Kind, Variant};
use firewall_user::dataplane::tables::interface::FlowSizes;
use firewall_user::dataplane::tables::maps::Maps;
use firewall_user::dataplane::tables::policy::{Flags, Wanted};
use firewall_user::dataplane::{Pins, instance};
use firewall_user::model::{Tracking, Traffic};
use firewall_user::policy::{PolicyInterner, ResolvedRule};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::frames::{INSIDE_V4, INSIDE_V6, PORT};
use super::measure::{Hook, load};
use super::scale::rule;

/// Flows in the table, so that its buckets have several entries.
pub(super) const FLOWS: u32 = 16_384;
/// Unproven flows that fit, of a family.
pub(super) const NEW: u32 = 32_768;
/// Numbers of rules of the policies.
const RULES: [u32; 4] = [1, 100, 1_000, 10_000];

/// The IPv6 network of new flows, 48 bits long.
pub(super) const ALLOWED_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Interfaces whose programs are measured: one for each shape and number of rules, and the untracked one.
pub(super) const SUBJECTS: u16 = 2 * RULES.len() as u16 + 1;

/// How the rules of a policy differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Each has another prefix.
    Prefixes,
    /// All have the same prefix, each another port.
    Ports,
}

/// A policy in the kernel with the programs that use it.
pub(super) struct Subject {
    pub(super) shape: Shape,
    pub(super) rules: u32,
    pub(super) ebpf: Ebpf,
}

/// A pin directory that is removed when it is dropped.
#[derive(Debug)]
pub(super) struct Scratch(Pins);

impl Scratch {
    pub(super) fn new(what: &str) -> Self {
        Self(Pins::new(format!("/sys/fs/bpf/secgroup-{what}-{}", std::process::id())))
    }

    pub(super) const fn pins(&self) -> &Pins {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = instance::remove_all(&self.0) {
            eprintln!("{error}");
        }
    }
}

pub(super) fn outside_v4(number: u32) -> [u8; 4] {
    let [.., high, low] = number.to_be_bytes();
    [172, 16, high, low]
}

pub(super) fn outside_v6(number: u32) -> [u8; 16] {
    let [.., high, low] = number.to_be_bytes();
    [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, high, low]
}

/// A subject for every shape and number of rules, and programs whose policy makes flows untracked.
pub(super) fn subjects(maps: &mut Maps, sizes: FlowSizes) -> Result<(Vec<Subject>, Ebpf)> {
    let mut subjects = Vec::new();
    let mut slot = 0;
    for shape in [Shape::Prefixes, Shape::Ports] {
        for rules in RULES {
            let ebpf = programs(maps, sizes, slot, &policy(shape, rules)?)?;
            subjects.push(Subject { shape, rules, ebpf });
            slot += 1;
        }
    }
    // The service from anywhere, and all replies to anywhere: untracked.
    let any = vec![IpNet::V4(Ipv4Net::default())];
    let request = rule(1, PORT, any.clone());
    let reply = ResolvedRule {
        end: None,
        number: 2,
        direction: Direction::Egress,
        traffic: Traffic::All,
        networks: any.into(),
    };
    let untracked = programs(maps, sizes, slot, &[request, reply])?;
    Ok((subjects, untracked))
}

/// Activates a policy on a slot, and loads the programs that use it.
pub(super) fn programs(
    maps: &mut Maps,
    sizes: FlowSizes,
    slot: u16,
    rules: &[ResolvedRule],
) -> Result<Ebpf> {
    let mut interner = PolicyInterner::default();
    let policy = interner.compile(rules, Tracking::Auto)?;
    let wanted =
        Wanted { slot, interner: &interner, policy: &policy, known: None, flags: Flags::default() };
    let plan = maps.plan(&wanted)?;
    let shadow = maps.shadow(&wanted, plan, &mut |_| {})?;
    maps.publish(&[&shadow])?;
    maps.flip(vec![shadow], None)?;
    let fixed = Settings {
        slot,
        orientation: Orientation::Host,
        has_ethernet: true,
        non_ip: NonIp::Control,
        ether_types: BTreeSet::new(),
        tcp_checks: TcpChecks::Guard,
        tcp_loose: true,
        revalidate: false,
        max_per_source: None,
        timeouts: BTreeMap::new(),
        port: PortSecurity::default(),
    };
    maps.ensure_interface_tables([(slot, sizes)])?;
    for kind in [Kind::Xdp, Kind::Tc] {
        let (direction, checks) = (Direction::Ingress, TcpChecks::Guard);
        let (has_ethernet, revalidates) = (true, false);
        slow_path::ensure(maps, Variant { kind, direction, checks, has_ethernet, revalidates })?;
    }
    let (half, record) = (0, fixed.record());
    maps.set_settings((slot, half), record)?;
    let mut ebpf = load::open(maps, &fixed, (half, &record))?;
    for hook in Hook::ALL {
        load(&mut ebpf, hook, hook.receive())?;
    }
    Ok(ebpf)
}

/// Rule 1 allows [`PORT`] from 192.0.2.0/24 and [`ALLOWED_V6`]; the others allow other prefixes or ports.
pub(super) fn policy(shape: Shape, count: u32) -> Result<Vec<ResolvedRule>> {
    let allowed_v4 = IpNet::V4("192.0.2.0/24".parse()?);
    let allowed_v6 = IpNet::V6(Ipv6Net::new(ALLOWED_V6.into(), 48)?);
    let mut rules = vec![rule(1, PORT, vec![allowed_v4, allowed_v6])];
    for number in 1..count {
        let [_, b, c, d] = number.to_be_bytes();
        rules.push(match shape {
            Shape::Prefixes => {
                let v4 = Ipv4Net::new([11 + b, c, d, 0].into(), 24)?;
                let v6 = Ipv6Net::new(
                    [0x2a00, 0, 0, u16::from_be_bytes([c, d]), 0, 0, 0, 0].into(),
                    64,
                )?;
                rule(number + 1, PORT, vec![v4.into(), v6.into()])
            }
            Shape::Ports => {
                // Every second port, so that ranges are not merged.
                let port = 1_000 + u16::try_from(number * 2)?;
                let any_v6 = IpNet::V6(Ipv6Net::default());
                rule(number + 1, port, vec![allowed_v4, any_v6])
            }
        });
    }
    Ok(rules)
}

/// Loads the programs to compare with.
pub(super) fn minimal(path: &str) -> Result<Ebpf> {
    let bytes = fs::read(path).with_context(|| format!("read {path}"))?;
    let mut ebpf = EbpfLoader::new().load(&bytes).with_context(|| format!("load {path}"))?;
    for name in ["empty_xdp", "minimal_xdp", "renew_xdp", "floor_xdp"] {
        load(&mut ebpf, Hook::Xdp, name)?;
    }
    for name in ["empty_tcx", "minimal_tcx", "renew_tcx", "floor_tcx"] {
        load(&mut ebpf, Hook::Tcx, name)?;
    }
    Ok(ebpf)
}

/// Fills tables of unproven flows of both families, so that every insert evicts.
pub(super) fn fill_new(ebpf: &mut Ebpf, [v4, v6]: [&str; 2], now: u64) -> Result<()> {
    let map = ebpf.map_mut(v4).with_context(|| format!("no map {v4}"))?;
    fill_table(&mut map.try_into()?, new_v4, now)?;
    let map = ebpf.map_mut(v6).with_context(|| format!("no map {v6}"))?;
    fill_table(&mut map.try_into()?, new_v6, now)
}

/// The same for the tables of an interface.
pub(super) fn fill_new_of(pins: &Pins, slot: u16, now: u64) -> Result<()> {
    let open = |name| MapData::from_pin(pins.flows(slot, name)).context("open a table of flows");
    fill_table(&mut Map::LruHashMap(open("NEW_V4")?).try_into()?, new_v4, now)?;
    fill_table(&mut Map::LruHashMap(open("NEW_V6")?).try_into()?, new_v6, now)
}

/// Keys of no host that sends.
fn new_v4(outside: u32) -> FlowKey4 {
    FlowKey4 { outside, protocol: 6, ..FlowKey4::default() }
}

fn new_v6(outside: u32) -> FlowKey6 {
    FlowKey6 { outside: [0, outside.into()], protocol: 6, ..FlowKey6::default() }
}

fn fill_table<T: BorrowMut<MapData>, K: Pod>(
    table: &mut HashMap<T, K, Flow>,
    key: fn(u32) -> K,
    now: u64,
) -> Result<()> {
    let flow = Flow { last_seen: now, state: State::SynSent as u8, ..Flow::default() };
    (0..NEW).try_for_each(|outside| Ok(table.insert(key(outside), flow, 0)?))
}

/// Inserts established flows of both families; returns their bits in the Bloom filter of flows.
pub(super) fn fill(ebpf: &mut Ebpf, [v4, v6]: [&str; 2], slot: u16, now: u64) -> Result<Vec<Bit>> {
    let mut bits = Vec::new();
    let flow = Flow {
        last_seen: now,
        state: State::Established as u8,
        flags: PROVEN | NUMBERS_KNOWN,
        ..Flow::default()
    };
    let (inside_port, outside_port) = (PORT.to_be(), 1024_u16.to_be());
    let mut map: HashMap<_, FlowKey4, Flow> =
        ebpf.map_mut(v4).with_context(|| format!("no map {v4}"))?.try_into()?;
    for number in 0..FLOWS {
        let inside = u32::from_ne_bytes(INSIDE_V4);
        let outside = u32::from_ne_bytes(outside_v4(number));
        let key =
            FlowKey4 { inside, outside, inside_port, outside_port, slot, protocol: 6, query: 0 };
        bits.push(V4::bit(&key));
        map.insert(key, flow, 0)?;
    }
    let mut map: HashMap<_, FlowKey6, Flow> =
        ebpf.map_mut(v6).with_context(|| format!("no map {v6}"))?.try_into()?;
    for number in 0..FLOWS {
        let (inside, outside) = (words(INSIDE_V6), words(outside_v6(number)));
        let key =
            FlowKey6 { inside, outside, inside_port, outside_port, slot, protocol: 6, query: 0 };
        bits.push(V6::bit(&key));
        map.insert(key, flow, 0)?;
    }
    Ok(bits)
}

/// An address in network byte order, as two words.
fn words(octets: [u8; 16]) -> [u64; 2] {
    let both = u128::from_ne_bytes(octets);
    let low = u64::try_from(both & u128::from(u64::MAX)).unwrap_or(0);
    [low, u64::try_from(both >> 64).unwrap_or(0)]
}
