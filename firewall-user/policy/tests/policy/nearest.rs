//! The nearest miss against a reference that looks at every network bit by bit.

use std::net::IpAddr;

use firewall_policy::model::{IcmpMatch, Traffic};
use firewall_policy::nearest::{Field, allowing_elsewhere, nearest_miss};
use firewall_policy::{Probe, ResolvedRule, evaluate};
use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::random::{at_edge, config, probe, rules};

/// The distances in the order of the fields; all 0: the rule allows the packet.
fn distances(rule: &ResolvedRule, probe: Probe) -> [u32; 4] {
    let protocol = match rule.traffic {
        Traffic::All => true,
        Traffic::Tcp(_) => probe.protocol == 6,
        Traffic::Udp(_) => probe.protocol == 17,
        Traffic::Icmp(_) => probe.protocol == 1 && probe.outside.is_ipv4(),
        Traffic::Icmpv6(_) => probe.protocol == 58 && probe.outside.is_ipv6(),
        Traffic::Other(number) => probe.protocol == number,
    };
    let of_kind = |kind: u8| (u16::from(kind) << 8, u16::from(kind) << 8 | 0xff);
    let (from, to) = match rule.traffic {
        Traffic::Tcp(ports) | Traffic::Udp(ports) => (ports.from, ports.to),
        Traffic::Icmp(IcmpMatch::Type(kind)) | Traffic::Icmpv6(IcmpMatch::Type(kind)) => {
            of_kind(kind)
        }
        Traffic::Icmp(IcmpMatch::TypeCode(kind, code))
        | Traffic::Icmpv6(IcmpMatch::TypeCode(kind, code)) => {
            let both = u16::from(kind) << 8 | u16::from(code);
            (both, both)
        }
        _ => (0, u16::MAX),
    };
    let away = probe.port.abs_diff(from).min(probe.port.abs_diff(to));
    let port = if (from..=to).contains(&probe.port) { 0 } else { u32::from(away) };
    let own: Vec<bool> = bits(probe.outside);
    let bits_left = |network: IpNet| {
        let prefix = &bits(network.addr())[..usize::from(network.prefix_len())];
        let same = prefix.iter().zip(&own).take_while(|(one, other)| one == other).count();
        if same == prefix.len() { 0 } else { own.len() - same }
    };
    let of_family = rule.networks.iter().filter(|one| bits(one.addr()).len() == own.len());
    let address = of_family.map(bits_left).min().unwrap_or(own.len() + 1);
    [
        u32::from(rule.direction != probe.direction),
        u32::from(!protocol),
        u32::try_from(address).expect("at most 129"),
        if protocol { port } else { 0 },
    ]
}

fn bits(address: IpAddr) -> Vec<bool> {
    let octets = match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    octets.iter().flat_map(|octet| (0..8).map(move |bit| octet & 0x80 >> bit != 0)).collect()
}

const FIELDS: [Field; 4] = [Field::Direction, Field::Protocol, Field::Address, Field::Port];

proptest! {
    #![proptest_config(config(150))]

    #[test]
    fn the_nearest_miss_is_that_of_the_reference(rules in rules(30), probes in vec(probe(), 12)) {
        for raw in probes {
            let probe = at_edge(&rules, raw);
            let found = nearest_miss(&rules, probe);
            let all = rules.iter().map(|rule| (distances(rule, probe), rule.number));
            let nearest = all.min();
            let expected = nearest.and_then(|(distances, number)| {
                let failed = distances.iter().position(|distance| *distance > 0)?;
                Some((number, FIELDS[failed]))
            });
            prop_assert_eq!(found.map(|miss| (miss.number, miss.field)), expected, "{:?}", probe);
            // A packet that a rule allows has no miss, and every other one has, where there are rules.
            let is_allowed = evaluate(&rules, probe).next().is_some();
            prop_assert_eq!(found.is_none(), is_allowed || rules.is_empty());
            // The rule of the service, with the nearest address.
            let of_service = rules.iter().filter(|rule| rule.traffic != Traffic::All);
            let elsewhere = of_service.filter_map(|rule| match distances(rule, probe) {
                [0, 0, address, 0] if address > 0 => Some((address, rule.number)),
                _ => None,
            });
            let expected = elsewhere.min().map(|(_, number)| number);
            prop_assert_eq!(allowing_elsewhere(&rules, probe), expected);
        }
    }
}
