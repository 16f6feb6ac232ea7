//! Random rules and packets: the kernel against the reference evaluator, which reads the rules as
//! they are written and does not use tries, classes or ranges.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;

use firewall_ebpf::abi::interface::{Direction, Orientation};
use firewall_ebpf::abi::reason::Reason;
use firewall_user::model::{IcmpMatch, PortRange, Tracking, Traffic};
use firewall_user::policy::{Probe, ResolvedRule, compile, evaluate, is_untracked};
use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;
use secgroup_tests::decision::packet::Body;
use secgroup_tests::decision::packet::flags::{ACK, SYN};
use secgroup_tests::decision::random::config;
use secgroup_tests::decision::run::reason_name;
use secgroup_tests::decision::scenario::{Outside, Role};
use secgroup_tests::decision::{Engine, Family, Kernel, Packet, Receive, Scenario, Setup};

/// Policies, and packets for each.
const POLICIES: u32 = 60;
const PACKETS: usize = 40;

#[test]
fn the_kernel_allows_what_the_reference_evaluator_allows() {
    let kernel = RefCell::new(Kernel::load(Setup::new(Orientation::Host)));
    let counts = RefCell::new(BTreeMap::<&str, usize>::new());
    let rules = (vec(rule(), 0..120), vec(wide_rule(), 0..8));
    let rules = rules.prop_map(|(narrow, wide)| [narrow, wide].concat());
    let inputs = (rules, vec(packet_spec(), PACKETS), any::<bool>(), select(&Tracking::ALL[..]));
    let outcome = TestRunner::new(config(POLICIES, 5)).run(&inputs, |input| {
        let (mut rules, specs, at_xdp, tracking) = input;
        for (number, rule) in (1..).zip(&mut rules) {
            rule.number = number;
        }
        let mut kernel = kernel.borrow_mut();
        kernel.receive = if at_xdp { Receive::Xdp } else { Receive::Tcx };
        kernel.reset(Some(&compile(&rules, tracking).expect("a hundred rules fit")));
        for spec in &specs {
            let (scenario, packet, probe) = spec.packet(&rules);
            let allowing: Vec<u32> = evaluate(&rules, probe).collect();
            kernel.maps.clear_flows();
            let before = kernel.rules();
            let decided = kernel.decide(&packet.frame(&scenario), probe.direction);
            *counts.borrow_mut().entry(reason_name(decided)).or_default() += 1;
            let reply = Probe { direction: probe.direction.opposite(), port: spec.source, ..probe };
            let untracked = tracking == Tracking::Auto
                && (is_untracked(&rules, probe) || is_untracked(&rules, reply));
            let allows = untracked || !allowing.is_empty();
            let is_expected = match decided {
                Some(Reason::Untracked) => untracked,
                Some(Reason::NewFlow | Reason::Admitted) => allows && !untracked,
                Some(Reason::UnsolicitedSynAck) => spec.is_syn_ack() && !allows,
                Some(Reason::NoRule) => !allows && !spec.is_syn_ack(),
                _ => false,
            };
            prop_assert!(
                is_expected,
                "{probe:?}: {}; allowing are {allowing:?}, untracked {untracked}",
                reason_name(decided)
            );
            // The rule that the kernel counts is one of those that allow the packet.
            let after = kernel.rules();
            let counted: Vec<u32> = after
                .iter()
                .filter(|(r, count)| before.get(r) != Some(count))
                .map(|(r, _)| *r)
                .collect();
            prop_assert_eq!(counted.len(), usize::from(allows), "{:?}: {:?}", probe, counted);
            prop_assert!(
                counted.iter().all(|rule| allowing.contains(rule)),
                "{probe:?}: kernel counts {counted:?}, allowing are {allowing:?}"
            );
            let flows = kernel.flows();
            prop_assert!(flows.is_empty() || decided == Some(Reason::NewFlow), "{probe:?}");
            for ((_, id), view) in flows {
                prop_assert_eq!(&[view.flow.rule][..], &counted[..], "{:?}", id);
            }
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    let counts = counts.into_inner();
    let total: usize = counts.values().sum();
    println!("{total} packets: {counts:?}");
    // The generators make each of these reasons common; a rare reason would hardly be tested.
    let common = [Reason::NewFlow, Reason::NoRule, Reason::Untracked, Reason::UnsolicitedSynAck];
    for reason in common {
        let times = counts.get(reason.name()).copied().unwrap_or_default();
        assert!(total < 100 || times * 50 > total, "{} only {times} times", reason.name());
    }
}

/// Networks that nest and overlap: prefixes of a few addresses, of every length.
fn network() -> impl Strategy<Value = IpNet> {
    let base = select(vec![
        "198.51.100.7",
        "198.51.100.8",
        "198.51.228.7",
        "70.51.100.7",
        "2001:db8:2::7",
        "2001:db8:2::8",
        "2001:db8:2:8000::7",
        "a001:db8:2::7",
    ]);
    (base, any::<Index>()).prop_map(|(base, index)| {
        let address: IpAddr = base.parse().expect("an address");
        let bits = if address.is_ipv4() { 33 } else { 129 };
        let length = u8::try_from(index.index(bits)).expect("at most 128");
        IpNet::new(address, length).expect("not longer than the address").trunc()
    })
}

const PORTS: [u16; 8] = [0, 1, 22, 79, 80, 443, 1024, 65_535];

fn traffic() -> impl Strategy<Value = Traffic> {
    let range = (select(&PORTS[..]), select(&PORTS[..]))
        .prop_map(|(a, b)| PortRange { from: a.min(b), to: a.max(b) });
    let icmp = prop_oneof![
        Just(IcmpMatch::Any),
        (0_u8..13).prop_map(IcmpMatch::Type),
        (0_u8..13, 0_u8..3).prop_map(|(kind, code)| IcmpMatch::TypeCode(kind, code)),
    ];
    prop_oneof![
        1 => Just(Traffic::All),
        8 => range.clone().prop_map(Traffic::Tcp),
        4 => range.prop_map(Traffic::Udp),
        2 => icmp.clone().prop_map(Traffic::Icmp),
        2 => icmp.prop_map(Traffic::Icmpv6),
        2 => select(vec![2_u8, 47, 132, 255]).prop_map(Traffic::Other),
    ]
}

fn rule() -> impl Strategy<Value = ResolvedRule> {
    (select(&Direction::ALL[..]), traffic(), vec(network(), 0..4)).prop_map(
        |(direction, traffic, networks)| ResolvedRule {
            number: 0,
            direction,
            traffic,
            networks: networks.into(),
            end: None,
        },
    )
}

/// A rule for any address, with all traffic, a whole protocol, or some ports.
fn wide_rule() -> impl Strategy<Value = ResolvedRule> {
    let traffic = select(vec![
        Traffic::All,
        Traffic::Tcp(PortRange { from: 0, to: 65_535 }),
        Traffic::Tcp(PortRange { from: 80, to: 80 }),
        Traffic::Udp(PortRange { from: 0, to: 65_535 }),
        Traffic::Udp(PortRange { from: 443, to: 1024 }),
    ]);
    let network = select(vec!["0.0.0.0/0", "::/0"]);
    (select(&Direction::ALL[..]), traffic, network).prop_map(|(direction, traffic, network)| {
        let networks = network.parse::<IpNet>().expect("a network").into();
        ResolvedRule { number: 0, direction, traffic, networks, end: None }
    })
}

/// A packet. Its address is often at the edge of some rule's network.
#[derive(Clone, Debug)]
struct PacketSpec {
    direction: Direction,
    body: (u8, u16),
    source: u16,
    flags: u8,
    network: Index,
    edge: u8,
    other: IpAddr,
}

fn packet_spec() -> impl Strategy<Value = PacketSpec> {
    let port = prop_oneof![select(&PORTS[..]), any::<u16>()];
    // Without ICMP errors, which are matched by their embedded packet.
    let kinds = select(vec![0_u16, 5, 6, 7, 8, 9, 10, 13, 128]);
    let message = (kinds, 0_u16..4).prop_map(|(kind, code)| kind << 8 | code);
    let body = prop_oneof![
        6 => (Just(6), port.clone()),
        3 => (Just(17), port.clone()),
        2 => (select(vec![1_u8, 58]), message),
        2 => (select(vec![2_u8, 46, 47, 132, 255]), Just(0)),
    ];
    let other = prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from)
    ];
    let at = (any::<Index>(), 0_u8..5, other);
    let ends = (select(&Direction::ALL[..]), prop_oneof![Just(40_000), port]);
    let flags = select(vec![SYN, SYN, SYN, SYN | ACK]);
    (ends, body, flags, at).prop_map(|((direction, source), body, flags, at)| {
        let (network, edge, other) = at;
        PacketSpec { direction, body, source, flags, network, edge, other }
    })
}

/// An ICMP message whose embedded packet belongs to no flow.
fn message(kind: (u8, u8), outside: IpAddr) -> Body {
    let about = Box::new(Packet::udp(Role::Server).outside(Outside::At(outside)));
    Body::Error { v4: kind, v6: kind, about, embedded: 8 }
}

impl PacketSpec {
    /// A SYN-ACK creates no flow.
    fn is_syn_ack(&self) -> bool {
        self.body.0 == 6 && self.flags != SYN
    }

    fn packet(&self, rules: &[ResolvedRule]) -> (Scenario, Packet, Probe) {
        let outside = self.outside(rules);
        let family = if outside.is_ipv4() { Family::V4 } else { Family::V6 };
        let (protocol, port) = self.body;
        let [kind, code] = port.to_be_bytes();
        let body = match protocol {
            6 => Body::Tcp { flags: self.flags, seq: 1, ack: 0, options: 0 },
            17 => Body::Udp,
            // Every message embeds a packet, because the error types require one. The ICMP of the
            // other family is a protocol without types.
            1 if family == Family::V4 => message((kind, code), outside),
            58 if family == Family::V6 => message((kind, code), outside),
            other => Body::Raw(other),
        };
        let probe = Probe {
            direction: self.direction,
            outside,
            protocol,
            port: if matches!(body, Body::Raw(_)) { 0 } else { port },
        };
        let packet = Packet { body, ..Packet::udp(Role::Client).ports(self.source, port) };
        let scenario = Scenario { family, client: self.direction };
        (scenario, packet.outside(Outside::At(outside)), probe)
    }

    /// The first or last address of some rule's network, an adjacent one, or any address.
    fn outside(&self, rules: &[ResolvedRule]) -> IpAddr {
        let networks: Vec<_> = rules.iter().flat_map(|rule| &rule.networks).collect();
        if networks.is_empty() || self.edge == 4 {
            return self.other;
        }
        let network = networks[self.network.index(networks.len())];
        let step = |address: IpAddr, by: i128| match address {
            IpAddr::V4(v4) => {
                let bits =
                    u32::try_from((i128::from(v4.to_bits()) + by) & 0xffff_ffff).expect("32 bits");
                IpAddr::from(bits.to_be_bytes())
            }
            IpAddr::V6(v6) => {
                let bits = if by < 0 {
                    v6.to_bits().wrapping_sub(1)
                } else {
                    v6.to_bits().wrapping_add(1)
                };
                IpAddr::from(bits.to_be_bytes())
            }
        };
        match self.edge {
            0 => network.network(),
            1 => network.broadcast(),
            2 => step(network.network(), -1),
            _ => step(network.broadcast(), 1),
        }
    }
}
