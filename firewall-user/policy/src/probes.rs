//! Probes at the borders of rules, and the check of the kernel's results.

use std::net::IpAddr;

use firewall_ebpf::abi::policy::{TIMED, UNTRACKED, rule_number};
use firewall_ebpf::wire::protocol;
use ipnet::IpNet;

use crate::evaluate::{Probe, evaluate, is_untracked};
use crate::model::{IcmpMatch, Tracking, Traffic};
use crate::resolve::{Difference, ResolvedRule};

/// Comparisons of a probe with a network in one check: some tens of milliseconds.
const MAX_COMPARISONS: usize = 8_000_000;

/// The most probes in one check, for policies with few networks: the kernel takes some tens of milliseconds.
const MAX_PROBES: usize = 65_536;

/// The number of probes of the rules that change, and of the others, that is always permitted.
const MIN_PROBES: usize = 256;

/// The kernel's tables give another result than the rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the kernel's tables give {found:?} for {} protocol {} port {} {} {}, the rules that allow it are \
     {allowing:?}",
    probe.direction.name(), probe.protocol, probe.port,
    if probe.direction.name() == "ingress" { "from" } else { "to" }, probe.outside
)]
pub struct Mismatch {
    /// The packet.
    pub probe: Probe,
    /// The number of the rule that the kernel found, perhaps with [`UNTRACKED`] or [`TIMED`].
    pub found: Option<u32>,
    /// The numbers of the rules that allow it.
    pub allowing: Vec<u32>,
}

/// Probes of a change from one set of rules to another: at every border of every rule that is added or
/// removed, and at borders of the others, spread evenly, up to a limit of cost.
#[must_use]
pub fn probes(old: &[ResolvedRule], new: &[ResolvedRule]) -> Vec<Probe> {
    let networks: usize = new.iter().map(|rule| rule.networks.len().max(1)).sum();
    let most = (MAX_COMPARISONS / networks.max(1)).clamp(MIN_PROBES, MAX_PROBES);
    let Difference { changed, unchanged } = Difference::new(old, new);
    let mut all = spread(&changed, most);
    let left = (most - all.len()).max(MIN_PROBES);
    all.extend(spread(&unchanged, left));
    all
}

/// At most `most` of the probes at the borders of these rules, spread evenly.
fn spread(rules: &[&ResolvedRule], most: usize) -> Vec<Probe> {
    let pairs =
        rules.iter().flat_map(|rule| rule.networks.iter().map(move |network| (*rule, network)));
    let count: usize = rules.iter().map(|rule| rule.networks.len()).sum();
    // Each pair has a few dozen probes; where that is too many, a few of every n-th pair are taken.
    let every = (count / most.max(1)).max(1);
    let of_each = (most / (count / every).max(1)).max(1);
    let chosen = pairs.step_by(every).flat_map(|(rule, network)| {
        let all = borders(rule, &network);
        let step = all.len().div_ceil(of_each).max(1);
        all.into_iter().step_by(step)
    });
    chosen.take(most).collect()
}

/// The first and last packet that a rule allows of a network, and their neighbours, which it does not.
fn borders(rule: &ResolvedRule, network: &IpNet) -> Vec<Probe> {
    let mut all = Vec::new();
    for outside in addresses(network) {
        for (protocol, port) in traffic(rule.traffic, network.addr().is_ipv4()) {
            for direction in [rule.direction, rule.direction.opposite()] {
                all.push(Probe { direction, outside, protocol, port });
            }
        }
    }
    all
}

fn addresses(network: &IpNet) -> Vec<IpAddr> {
    let beside = |address: IpAddr, by: i8| match address {
        IpAddr::V4(v4) => {
            v4.to_bits().checked_add_signed(by.into()).map(|bits| IpAddr::V4(bits.into()))
        }
        IpAddr::V6(v6) => {
            v6.to_bits().checked_add_signed(by.into()).map(|bits| IpAddr::V6(bits.into()))
        }
    };
    let (first, last) = (network.network(), network.broadcast());
    let mut all: Vec<_> = [Some(first), Some(last), beside(first, -1), beside(last, 1)]
        .into_iter()
        .flatten()
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn traffic(what: Traffic, is_v4: bool) -> Vec<(u8, u16)> {
    let own_icmp = if is_v4 { protocol::ICMP } else { protocol::ICMPV6 };
    let around = |number: u8, from: u16, to: u16| {
        let ports = [Some(from), Some(to), from.checked_sub(1), to.checked_add(1)];
        let mut all: Vec<_> = ports.into_iter().flatten().map(|port| (number, port)).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    let icmp = |matched| match matched {
        IcmpMatch::Any => around(own_icmp, 0, u16::MAX),
        IcmpMatch::Type(kind) => {
            around(own_icmp, u16::from_be_bytes([kind, 0]), u16::from_be_bytes([kind, 255]))
        }
        IcmpMatch::TypeCode(kind, code) => {
            let both = u16::from_be_bytes([kind, code]);
            around(own_icmp, both, both)
        }
    };
    match what {
        Traffic::All => vec![(0, 0), (protocol::TCP, 0), (protocol::UDP, u16::MAX), (255, 0)],
        Traffic::Tcp(ports) => around(protocol::TCP, ports.from, ports.to),
        Traffic::Udp(ports) => around(protocol::UDP, ports.from, ports.to),
        Traffic::Icmp(matched) if is_v4 => icmp(matched),
        Traffic::Icmpv6(matched) if !is_v4 => icmp(matched),
        Traffic::Icmp(_) | Traffic::Icmpv6(_) => Vec::new(),
        Traffic::Other(number) => {
            // The neighbours may be protocols with ports: then only their port 0 is probed.
            let beside = [Some(number), number.checked_sub(1), number.checked_add(1)];
            beside.into_iter().flatten().map(|number| (number, 0)).collect()
        }
    }
}

/// When the kernel was asked: the times before and after, in nanoseconds since the boot
/// (`CLOCK_BOOTTIME`). What ends between them may have been in force or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Before the first probe.
    pub from: u64,
    /// After the last one.
    pub to: u64,
}

impl Asked {
    /// Whether what ends then may have been in force.
    pub(crate) fn may_be_in_force(self, end: Option<u64>) -> bool {
        end.is_none_or(|end| end > self.from)
    }

    /// Whether what ends then was in force at every probe.
    pub(crate) fn is_in_force(self, end: Option<u64>) -> bool {
        end.is_none_or(|end| end > self.to)
    }
}

/// Compares the kernel's results with the rules: the rule that it found allows the packet, and exactly
/// the traffic that needs no flow is marked.
///
/// # Errors
/// The first result that is wrong.
pub fn check(
    rules: &[ResolvedRule],
    tracking: Tracking,
    asked: Asked,
    results: &[(Probe, Option<u32>)],
) -> Result<(), Mismatch> {
    for ((probe, found), rules) in results.iter().zip(rules_by_probe(rules, results)) {
        let allowing: Vec<u32> = evaluate(&rules, *probe).collect();
        let mut in_question = rules.iter().filter(|rule| allowing.contains(&rule.number));
        let is_right = match found {
            None => in_question.all(|rule| !asked.is_in_force(rule.end)),
            Some(found) => {
                in_question.find(|rule| rule.number == rule_number(*found)).is_some_and(|rule| {
                    let needs_none = tracking == Tracking::Auto && is_untracked(&rules, *probe);
                    asked.may_be_in_force(rule.end)
                        && (found & TIMED != 0) == rule.end.is_some()
                        && (found & UNTRACKED != 0) == needs_none
                })
            }
        };
        if !is_right {
            return Err(Mismatch { probe: *probe, found: *found, allowing });
        }
    }
    Ok(())
}

/// For each probe the rules that name its outside address, with only the networks that do: the others
/// do not matter.
fn rules_by_probe(
    rules: &[ResolvedRule],
    results: &[(Probe, Option<u32>)],
) -> Vec<Vec<ResolvedRule>> {
    let outsides = results.iter().map(|(probe, _)| probe.outside);
    let mut outsides: Vec<(IpAddr, usize)> = outsides.zip(0..).collect();
    outsides.sort_unstable();
    let mut by_probe: Vec<Vec<ResolvedRule>> = vec![Vec::new(); results.len()];
    for &ResolvedRule { number, direction, traffic, ref networks, end } in rules {
        for network in networks {
            let from = outsides.partition_point(|(outside, _)| *outside < network.network());
            let named =
                outsides[from..].iter().take_while(|(outside, _)| network.contains(outside));
            for (_, probe) in named {
                let networks = network.into();
                let rule = ResolvedRule { number, direction, traffic, networks, end };
                by_probe[*probe].push(rule);
            }
        }
    }
    by_probe
}

#[cfg(test)]
mod tests {
    use firewall_ebpf::abi::interface::Direction;

    use super::*;
    use crate::model::PortRange;

    const ASKED: Asked = Asked { from: 100, to: 200 };

    fn rule(number: u32, port: u16, networks: &[&str]) -> ResolvedRule {
        ResolvedRule {
            number,
            direction: Direction::Ingress,
            traffic: Traffic::Tcp(PortRange { from: port, to: port }),
            networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
            end: None,
        }
    }

    #[test]
    fn every_border_of_a_changed_rule_is_probed() {
        let old = [rule(1, 80, &["10.0.0.0/8"]), rule(2, 22, &["192.0.2.0/24"])];
        let new = [rule(1, 80, &["10.0.0.0/8"]), rule(3, 443, &["2001:db8::/32"])];
        let probes = probes(&old, &new);
        let has = |outside: &str, port: u16| {
            let outside: IpAddr = outside.parse().unwrap();
            probes.iter().any(|q| q.outside == outside && q.port == port && q.protocol == 6)
        };
        for outside in ["192.0.1.255", "192.0.2.0", "192.0.2.255", "192.0.3.0"] {
            assert!(has(outside, 21) && has(outside, 22) && has(outside, 23), "{outside}");
        }
        for outside in ["2001:db8::", "2001:db9::", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff"] {
            assert!(has(outside, 442) && has(outside, 443) && has(outside, 444), "{outside}");
        }
        assert!(has("10.255.255.255", 80) && has("11.0.0.0", 80));
    }

    #[test]
    fn the_probes_of_a_large_policy_are_few_and_spread_evenly() {
        let network = |n: u32| IpNet::from(IpAddr::from((0x0a00_0000 + n).to_be_bytes()));
        let list =
            ResolvedRule { networks: (0..200_000).map(network).collect(), ..rule(1, 80, &[]) };
        let added = rule(2, 443, &["192.0.2.0/24"]);
        let new = [list, added];
        let probes = probes(&new[..1], &new);
        assert!((64..1000).contains(&probes.len()), "{} probes", probes.len());
        assert!(probes.iter().any(|q| q.port == 443 && q.outside.to_string() == "192.0.3.0"));
        let high = probes.iter().filter(|q| q.outside >= IpAddr::from([10, 2, 0, 0])).count();
        assert!(high > probes.len() / 8, "{high} of {} in the upper third", probes.len());
    }

    #[test]
    fn the_probes_of_a_large_rule_that_goes_are_bounded() {
        let network = |n: u32| IpNet::from(IpAddr::from((0x0a00_0000 + n).to_be_bytes()));
        let list =
            ResolvedRule { networks: (0..200_000).map(network).collect(), ..rule(1, 80, &[]) };
        let kept = rule(2, 443, &["192.0.2.0/24"]);
        let count = probes(&[list, kept.clone()], &[kept]).len();
        assert!(count <= MAX_PROBES + MIN_PROBES, "{count} probes");
    }

    #[test]
    fn a_wrong_result_is_reported() {
        let rules = [rule(1, 80, &["10.0.0.0/8"])];
        let probes = probes(&[], &rules);
        let mut results: Vec<_> =
            probes.iter().map(|probe| (*probe, evaluate(&rules, *probe).next())).collect();
        assert_eq!(check(&rules, Tracking::Auto, ASKED, &results), Ok(()));
        let denied = results.iter().position(|(_, found)| found.is_none()).unwrap();
        results[denied].1 = Some(1);
        let error = check(&rules, Tracking::Auto, ASKED, &results).unwrap_err();
        assert_eq!((error.probe, error.found), (probes[denied], Some(1)));
        results[denied].1 = None;
        let allowed = results.iter().position(|(_, found)| found.is_some()).unwrap();
        for wrong in [None, Some(2), Some(1 | UNTRACKED)] {
            results[allowed].1 = wrong;
            assert!(check(&rules, Tracking::Auto, ASKED, &results).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_rule_may_end_while_the_kernel_is_asked() {
        let at = |end| ResolvedRule { end: Some(end), ..rule(1, 80, &["10.0.0.0/8"]) };
        let probe = Probe {
            direction: Direction::Ingress,
            outside: "10.0.0.1".parse().unwrap(),
            protocol: 6,
            port: 80,
        };
        for (end, found, is_right) in [
            (100, None, true),
            (100, Some(1 | TIMED), false),
            (150, None, true),
            (150, Some(1 | TIMED), true),
            (150, Some(1), false),
            (201, None, false),
            (201, Some(1 | TIMED), true),
        ] {
            let result = check(&[at(end)], Tracking::Auto, ASKED, &[(probe, found)]);
            assert_eq!(result.is_ok(), is_right, "{end} {found:?}");
        }
    }
}
