//! Fuzzes the policy compiler against the direct evaluation of the rules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arbitrary::{Result, Unstructured};
use firewall_ebpf::abi::address::{V4, V6};
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::policy::{UNTRACKED, traffic};
use firewall_ebpf::backend::host::HostTables;
use firewall_ebpf::verdict::lookup::lookup_rule;
use firewall_ebpf::verdict::tables::Interface as _;
use firewall_policy::model::{IcmpMatch, Networks, PortRange, Tracking, Traffic};
use firewall_policy::{CompiledPolicy, Probe, ResolvedRule, compile, evaluate};
use ipnet::IpNet;

/// The maximal number of rules of one input.
const RULES: u32 = 24;
/// The maximal number of lookups of one input.
const MAX_LOOKUPS: u64 = 64;

/// Compiles the rules that the bytes encode and looks up traffic; returns the number of lookups.
///
/// # Panics
/// If the tables and the rules have different results.
#[must_use]
pub fn run(input: &[u8]) -> u64 {
    let mut bytes = Unstructured::new(input);
    let mut lookups = 0;
    // Exhausted bytes end the lookups.
    let _ = run_lookups(&mut bytes, &mut lookups);
    lookups
}

fn run_lookups(bytes: &mut Unstructured<'_>, lookups: &mut u64) -> Result<()> {
    let count = bytes.int_in_range(0..=RULES)?;
    let tracking = if bytes.arbitrary()? { Tracking::Always } else { Tracking::Auto };
    let rules = (1..=count).map(|number| rule(bytes, number)).collect::<Result<Vec<_>>>()?;
    let policy = compile(&rules, tracking).expect("a few rules fit");
    check_lists(&policy);
    let reversed: Vec<_> = rules.iter().rev().cloned().collect();
    assert_eq!(
        compile(&reversed, tracking).as_ref(),
        Ok(&policy),
        "the order of rules matters: {rules:?}"
    );

    let tables = HostTables::new(1, policy);
    while !bytes.is_empty() && *lookups < MAX_LOOKUPS {
        let probe = any_probe(bytes, &rules)?;
        assert_agrees(&tables, &rules, probe);
        *lookups += 1;
    }
    Ok(())
}

/// The ranges of a list are sorted and disjoint, which the binary search requires.
fn check_lists(policy: &CompiledPolicy) {
    for list in &policy.lists {
        assert!(list.iter().all(|range| range.low <= range.high && range.rule != 0));
        assert!(list.is_sorted_by(|one, next| one.high < next.low), "{list:?}");
    }
}

fn assert_agrees(tables: &HostTables, rules: &[ResolvedRule], probe: Probe) {
    let Probe { direction, outside, protocol, port } = probe;
    let active = tables.active();
    let traffic = traffic(protocol, port);
    let found = match outside {
        IpAddr::V4(v4) => {
            let address = V4::from_ne_bytes(v4.octets());
            lookup_rule::<V4, _>(tables, active, direction, address, traffic)
        }
        IpAddr::V6(v6) => {
            let octets = v6.octets();
            let half = |at: usize| octets[at..at + 8].try_into().expect("eight bytes");
            let address: V6 = [0, 8].map(|at| u64::from_ne_bytes(half(at)));
            lookup_rule::<V6, _>(tables, active, direction, address, traffic)
        }
    };
    if found.is_some_and(|rule| rule & UNTRACKED != 0) {
        assert_replies_pass(rules, probe);
    }
    let owner = found.map(|rule| rule & !UNTRACKED);
    let allowing: Vec<u32> = evaluate(rules, probe).collect();
    assert!(
        owner.map_or(allowing.is_empty(), |rule| allowing.contains(&rule)),
        "{probe:?}: tables {owner:?}, rules {allowing:?} of {rules:?}"
    );
}

/// Untracked traffic needs rules for all its replies, from every address.
fn assert_replies_pass(rules: &[ResolvedRule], request: Probe) {
    assert!(matches!(request.protocol, 6 | 17), "{request:?} needs a flow");
    let outside: [IpAddr; 2] = match request.outside {
        IpAddr::V4(_) => [Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::BROADCAST.into()],
        IpAddr::V6(_) => [Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::from_bits(u128::MAX).into()],
    };
    let direction = request.direction.opposite();
    for outside in outside {
        for port in [0, 1, 22, 79, 80, 443, 1024, 40_000, u16::MAX] {
            let reply = Probe { direction, outside, port, ..request };
            assert!(
                evaluate(rules, reply).next().is_some(),
                "{request:?} is untracked, but {reply:?} is not allowed"
            );
        }
        let probe = Probe { outside, ..request };
        assert!(
            evaluate(rules, probe).next().is_some(),
            "{request:?} is untracked, but {probe:?} is not allowed"
        );
    }
}

fn rule(bytes: &mut Unstructured<'_>, number: u32) -> Result<ResolvedRule> {
    let kind: u8 = bytes.arbitrary()?;
    let networks = (0..=kind >> 6).map(|_| network(bytes)).collect::<Result<Vec<_>>>()?;
    Ok(ResolvedRule {
        number,
        direction: Direction::ALL[usize::from(kind & 1)],
        traffic: any_traffic(bytes, kind >> 1 & 7)?,
        // A group without members has no networks.
        networks: if kind & 0x30 == 0x30 { Networks::default() } else { networks.into() },
        end: None,
    })
}

/// Nested networks: prefixes of all lengths of a few addresses.
fn network(bytes: &mut Unstructured<'_>) -> Result<IpNet> {
    let address = address(bytes)?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let length = bytes.arbitrary::<u8>()? % (longest + 1);
    Ok(IpNet::new(address, length).expect("not longer than the address").trunc())
}

/// A fixed address of either family, sometimes with one bit flipped.
fn address(bytes: &mut Unstructured<'_>) -> Result<IpAddr> {
    let [kind, bit]: [u8; 2] = bytes.arbitrary()?;
    let is_flipped = kind & 2 != 0;
    Ok(if kind & 1 == 0 {
        let mask = if is_flipped { 1_u32 << (bit & 31) } else { 0 };
        Ipv4Addr::from_bits(0xc633_6407 ^ mask).into()
    } else {
        let mask = if is_flipped { 1_u128 << (bit & 127) } else { 0 };
        Ipv6Addr::from_bits(0x2001_0db8_0002_0000_0000_0000_0000_0007 ^ mask).into()
    })
}

fn any_traffic(bytes: &mut Unstructured<'_>, kind: u8) -> Result<Traffic> {
    let icmp = |bytes: &mut Unstructured<'_>| {
        let [which, kind, code]: [u8; 3] = bytes.arbitrary()?;
        Ok(match which % 3 {
            0 => IcmpMatch::Any,
            1 => IcmpMatch::Type(kind & 15),
            _ => IcmpMatch::TypeCode(kind & 15, code & 3),
        })
    };
    Ok(match kind {
        0 => Traffic::All,
        1 | 2 => Traffic::Tcp(ports(bytes)?),
        3 | 4 => Traffic::Udp(ports(bytes)?),
        5 => Traffic::Icmp(icmp(bytes)?),
        6 => Traffic::Icmpv6(icmp(bytes)?),
        _ => Traffic::Other(bytes.arbitrary()?),
    })
}

fn ports(bytes: &mut Unstructured<'_>) -> Result<PortRange> {
    let (one, other) = (port(bytes)?, port(bytes)?);
    Ok(PortRange { from: one.min(other), to: one.max(other) })
}

fn port(bytes: &mut Unstructured<'_>) -> Result<u16> {
    let which: u8 = bytes.arbitrary()?;
    let known = [0, 1, 22, 79, 80, 443, 1024, u16::MAX];
    if which & 8 == 0 { Ok(known[usize::from(which & 7)]) } else { bytes.arbitrary() }
}

/// A lookup at a boundary of a rule, or a random one.
fn any_probe(bytes: &mut Unstructured<'_>, rules: &[ResolvedRule]) -> Result<Probe> {
    let [direction, protocol, at, edge]: [u8; 4] = bytes.arbitrary()?;
    let networks: Vec<IpNet> = rules.iter().flat_map(|rule| &rule.networks).collect();
    let outside = match (networks.len(), edge & 3) {
        (0, _) | (_, 3) => address(bytes)?,
        (count, 0) => networks[usize::from(at) % count].network(),
        (count, 1) => networks[usize::from(at) % count].broadcast(),
        (count, _) => next_address(networks[usize::from(at) % count].broadcast()),
    };
    let protocol = [6, 6, 17, 17, 1, 58, 47, protocol][usize::from(protocol & 7)];
    let port = match protocol {
        6 | 17 => port(bytes)?,
        1 if outside.is_ipv4() => icmp_port(bytes)?,
        58 if outside.is_ipv6() => icmp_port(bytes)?,
        _ => 0,
    };
    Ok(Probe { direction: Direction::ALL[usize::from(direction & 1)], outside, protocol, port })
}

fn icmp_port(bytes: &mut Unstructured<'_>) -> Result<u16> {
    let [kind, code]: [u8; 2] = bytes.arbitrary()?;
    Ok(u16::from_be_bytes([kind & 15, code & 3]))
}

fn next_address(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits().wrapping_add(1)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits().wrapping_add(1)).into(),
    }
}
