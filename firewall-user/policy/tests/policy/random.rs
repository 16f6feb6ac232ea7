//! Random rules, and probes at their edges.

use std::env;
use std::net::IpAddr;

use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::policy::MAX_RULE;
use firewall_policy::model::{IcmpMatch, Networks, PortRange, Traffic};
use firewall_policy::{Probe, ResolvedRule};
use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::RngSeed;

/// Addresses that share prefixes of many lengths, so that networks made of them nest and touch.
const ADDRESSES: [&str; 10] = [
    "10.0.0.0",
    "10.0.0.1",
    "10.1.2.3",
    "10.1.2.131",
    "138.1.2.3",
    "255.255.255.255",
    "2001:db8::1",
    "2001:db8::8000:0:0:1",
    "2001:db8:1::",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
];

fn address() -> impl Strategy<Value = IpAddr> {
    select(&ADDRESSES[..]).prop_map(|text| text.parse().expect("an address"))
}

fn network() -> impl Strategy<Value = IpNet> {
    let length = prop_oneof![
        1 => Just(0),
        3 => select(vec![1_u8, 7, 8, 9, 15, 16, 24, 31, 32, 48, 63, 64, 65, 127, 128]),
        4 => 0_u8..=128,
    ];
    (address(), length).prop_map(|(address, length)| {
        let most = if address.is_ipv4() { 32 } else { 128 };
        // Not truncated: the compiler and the evaluator must read host bits alike.
        IpNet::new(address, length.min(most)).expect("not longer than the address")
    })
}

const PORTS: [u16; 9] = [0, 1, 22, 79, 80, 81, 443, 65_534, 65_535];

fn ports() -> impl Strategy<Value = PortRange> {
    let port = prop_oneof![3 => select(&PORTS[..]), 1 => any::<u16>()];
    (port.clone(), port).prop_map(|(a, b)| PortRange { from: a.min(b), to: a.max(b) })
}

fn icmp() -> impl Strategy<Value = IcmpMatch> {
    let byte = || select(vec![0_u8, 3, 4, 8, 128, 255]);
    prop_oneof![
        Just(IcmpMatch::Any),
        byte().prop_map(IcmpMatch::Type),
        (byte(), byte()).prop_map(|(kind, code)| IcmpMatch::TypeCode(kind, code)),
    ]
}

fn rule() -> impl Strategy<Value = ResolvedRule> {
    let traffic = prop_oneof![
        1 => Just(Traffic::All),
        6 => ports().prop_map(Traffic::Tcp),
        4 => ports().prop_map(Traffic::Udp),
        2 => icmp().prop_map(Traffic::Icmp),
        2 => icmp().prop_map(Traffic::Icmpv6),
        2 => select(vec![0_u8, 2, 5, 7, 16, 18, 47, 57, 59, 255]).prop_map(Traffic::Other),
    ];
    (select(&Direction::ALL[..]), traffic, vec(network(), 0..5)).prop_map(
        |(direction, traffic, networks)| ResolvedRule {
            number: 0,
            direction,
            traffic,
            networks: networks.into(),
            end: None,
        },
    )
}

/// Rules of all addresses at the border between tracked and untracked: the whole of a protocol, in one
/// piece, or in two that meet or leave a gap.
fn wide_rules() -> impl Strategy<Value = Vec<ResolvedRule>> {
    let cut = select(vec![(0, 0), (79, 80), (80, 80), (80, 82), (65_534, 65_535)]);
    let network = select(vec!["0.0.0.0/0", "::/0", "0.0.0.0/1"]);
    let wide = (select(&Direction::ALL[..]), 0_u8..3, cut, network);
    let rules = wide.prop_map(|(direction, protocol, (to, from), network)| {
        let network: IpNet = network.parse().expect("a network");
        let of = |from, to| match protocol {
            0 => Traffic::All,
            1 => Traffic::Tcp(PortRange { from, to }),
            _ => Traffic::Udp(PortRange { from, to }),
        };
        let parts = [of(0, to), of(from, u16::MAX)];
        let networks = Networks::from(network);
        parts.map(|traffic| {
            let networks = networks.clone();
            ResolvedRule { number: 0, direction, traffic, networks, end: None }
        })
    });
    vec(rules, 0..4).prop_map(|rules| rules.into_iter().flatten().collect())
}

/// Rules with numbers that are neither dense nor in order.
pub(crate) fn rules(most: usize) -> impl Strategy<Value = Vec<ResolvedRule>> {
    (vec(rule(), 0..most), wide_rules(), any::<u32>()).prop_map(|(mut rules, wide, salt)| {
        rules.extend(wide);
        for (number, rule) in (1_u32..).zip(&mut rules) {
            // Odd factors permute 31 bits: distinct, and never 0.
            rule.number = number.wrapping_mul(salt | 1) & MAX_RULE;
        }
        rules
    })
}

/// A probe, with the rule, network and edge to which [`at_edge`] moves it.
pub(crate) fn probe() -> impl Strategy<Value = (Index, Index, u8, Probe)> {
    let port = prop_oneof![3 => select(&PORTS[..]), 1 => any::<u16>()];
    let traffic = prop_oneof![
        4 => (Just(6_u8), port.clone()),
        3 => (Just(17), port),
        2 => (select(vec![1_u8, 58]), (select(vec![0_u16, 3, 4, 8, 128, 255]), 0_u16..5)
            .prop_map(|(kind, code)| kind << 8 | code)),
        2 => (any::<u8>(), Just(0)),
    ];
    let random = prop_oneof![
        3 => address(),
        1 => any::<[u8; 4]>().prop_map(IpAddr::from),
        1 => any::<[u8; 16]>().prop_map(IpAddr::from),
    ];
    (any::<Index>(), any::<Index>(), 0_u8..6, select(&Direction::ALL[..]), random, traffic)
        .prop_map(|(rule, network, edge, direction, outside, (protocol, port))| {
            (rule, network, edge, Probe { direction, outside, protocol, port })
        })
}

/// Moves a probe to an edge of a network of a rule, more often than not.
pub(crate) fn at_edge(
    rules: &[ResolvedRule],
    (rule, network, edge, probe): (Index, Index, u8, Probe),
) -> Probe {
    if rules.is_empty() {
        return probe;
    }
    let networks: Vec<IpNet> = rule.get(rules).networks.iter().collect();
    if networks.is_empty() || edge > 3 {
        return probe;
    }
    let network = network.get(&networks);
    let beside = |address: IpAddr, up: bool| match address {
        IpAddr::V4(v4) => {
            let bits = v4.to_bits();
            IpAddr::from(
                (if up { bits.wrapping_add(1) } else { bits.wrapping_sub(1) }).to_be_bytes(),
            )
        }
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            IpAddr::from(
                (if up { bits.wrapping_add(1) } else { bits.wrapping_sub(1) }).to_be_bytes(),
            )
        }
    };
    let outside = match edge {
        0 => network.network(),
        1 => network.broadcast(),
        2 => beside(network.network(), false),
        _ => beside(network.broadcast(), true),
    };
    Probe { outside, ..probe }
}

/// The seed is fixed, so that a failure is reproducible; `PROPTEST_CASES` and `PROPTEST_RNG_SEED`
/// override it.
pub(crate) fn config(cases: u32) -> ProptestConfig {
    let is_set = |name| env::var_os(name).is_some();
    let base = ProptestConfig::default();
    ProptestConfig {
        cases: if is_set("PROPTEST_CASES") { base.cases } else { cases },
        rng_seed: if is_set("PROPTEST_RNG_SEED") { base.rng_seed } else { RngSeed::Fixed(6) },
        failure_persistence: None,
        ..base
    }
}
