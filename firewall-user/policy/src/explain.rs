//! Everything that the rules say about a packet: which allow it, whether it is tracked and why, what becomes of the
//! reply, and the nearest miss where none allows it.
//!
//! Only rules count here. Whether the packet meets them at all (ports, filters, flows, exemptions) is the kernel
//! program's to say.

use firewall_ebpf::wire::protocol;

use crate::evaluate::{Probe, evaluate, is_about_anywhere};
use crate::model::{Tracking, Traffic};
use crate::nearest::{Miss, nearest_miss};
use crate::resolve::ResolvedRule;

/// What the rules say about a packet of an unknown flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The numbers of all rules that allow it, ascending; empty: it is dropped.
    pub allowing: Vec<u32>,
    /// Whether it needs a flow, where a rule allows it.
    pub tracked: Option<Tracked>,
    /// What becomes of the reply, where a rule allows the packet.
    pub reply: Option<Reply>,
    /// The rule that came closest, where none allows it.
    pub nearest: Option<Miss>,
}

/// Whether an allowed packet opens a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tracked {
    /// It opens a flow.
    Tracked(Because),
    /// It passes without a flow, and so does every reply.
    Untracked {
        /// The rules that allow it from anywhere (egress: to anywhere), ascending.
        anywhere: Vec<u32>,
        /// The fewest rules of the other direction that together allow every port of its protocol to anywhere, in the
        /// order of their ports.
        replies: Vec<u32>,
    },
}

/// Why an allowed packet is tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// The interface tracks all traffic (`--tracking always`).
    Always,
    /// Only TCP and UDP may be untracked.
    Protocol,
    /// No rule without an end allows it from anywhere.
    NotFromAnywhere,
    /// A reply to this port is allowed by no rule without an end for all addresses. It is the lowest such port.
    Reply {
        /// The port.
        port: u16,
    },
}

impl Because {
    /// The reason as a clause: "the packet is tracked because …".
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Self::Always => "the interface tracks all traffic".to_owned(),
            Self::Protocol => "only TCP and UDP may be untracked".to_owned(),
            Self::NotFromAnywhere => {
                "no rule without an end time allows it for all addresses".to_owned()
            }
            Self::Reply { port } => {
                format!(
                    "rules without an end time do not allow every reply for all addresses: {port} is the lowest port \
                     that they do not"
                )
            }
        }
    }
}

/// What becomes of the reply to an allowed packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It belongs to the packet's flow and passes, whatever the rules of its direction.
    Flow,
    /// It is evaluated against the rules, as the packet was: these allow it, ascending.
    Rules(Vec<u32>),
}

/// Explains a packet. `source_port` is that of TCP and UDP: the port that a reply goes to; without it, the reply's rules
/// are those that allow every port.
///
/// Rules that have ended are to be left out by the caller.
#[must_use]
pub fn explain(
    rules: &[ResolvedRule],
    tracking: Tracking,
    probe: Probe,
    source_port: Option<u16>,
) -> Explanation {
    let mut allowing: Vec<u32> = evaluate(rules, probe).collect();
    allowing.sort_unstable();
    if allowing.is_empty() {
        let nearest = nearest_miss(rules, probe);
        return Explanation { allowing, tracked: None, reply: None, nearest };
    }
    let tracked = tracked(rules, tracking, probe);
    let reply = match &tracked {
        Tracked::Tracked(_) => Reply::Flow,
        Tracked::Untracked { replies, .. } => Reply::Rules(match source_port {
            Some(port) => {
                let direction = probe.direction.opposite();
                let mut all: Vec<u32> =
                    evaluate(rules, Probe { direction, port, ..probe }).collect();
                all.sort_unstable();
                all
            }
            None => replies.clone(),
        }),
    };
    Explanation { allowing, tracked: Some(tracked), reply: Some(reply), nearest: None }
}

/// Whether an allowed packet is tracked, and why. Equal to [`is_untracked`](crate::is_untracked).
fn tracked(rules: &[ResolvedRule], tracking: Tracking, probe: Probe) -> Tracked {
    if tracking == Tracking::Always {
        return Tracked::Tracked(Because::Always);
    }
    if !matches!(probe.protocol, protocol::TCP | protocol::UDP) {
        return Tracked::Tracked(Because::Protocol);
    }
    let counts =
        |rule: &&ResolvedRule| rule.end.is_none() && is_about_anywhere(rule, probe.outside);
    let wide: Vec<&ResolvedRule> = rules.iter().filter(counts).collect();
    let allows = |rule: &&&ResolvedRule| {
        rule.direction == probe.direction && ports(rule, probe.protocol).contains(probe.port)
    };
    let mut anywhere: Vec<u32> = wide.iter().filter(allows).map(|rule| rule.number).collect();
    if anywhere.is_empty() {
        return Tracked::Tracked(Because::NotFromAnywhere);
    }
    anywhere.sort_unstable();
    let back = wide.iter().filter(|rule| rule.direction != probe.direction);
    let back: Vec<_> = back.map(|rule| (ports(rule, probe.protocol), rule.number)).collect();
    match cover(&back) {
        Ok(replies) => Tracked::Untracked { anywhere, replies },
        Err(port) => Tracked::Tracked(Because::Reply { port }),
    }
}

/// Ports, both ends included; none if the first is after the last.
#[derive(Clone, Copy)]
struct Ports {
    from: u32,
    to: u32,
}

impl Ports {
    fn contains(self, port: u16) -> bool {
        (self.from..=self.to).contains(&port.into())
    }
}

/// The ports of a protocol that a rule allows.
fn ports(rule: &ResolvedRule, number: u8) -> Ports {
    match rule.traffic {
        Traffic::All => Ports { from: 0, to: u16::MAX.into() },
        Traffic::Tcp(ports) if number == protocol::TCP => {
            Ports { from: ports.from.into(), to: ports.to.into() }
        }
        Traffic::Udp(ports) if number == protocol::UDP => {
            Ports { from: ports.from.into(), to: ports.to.into() }
        }
        _ => Ports { from: 1, to: 0 },
    }
}

/// The fewest rules that together have all ports, or the lowest port that none has. Of those that have a port the one
/// that reaches furthest is taken, of equal ones that with the lowest number.
fn cover(rules: &[(Ports, u32)]) -> Result<Vec<u32>, u16> {
    let mut chosen = Vec::new();
    let mut next = 0;
    while let Ok(port) = u16::try_from(next) {
        let having = rules.iter().filter(|(ports, _)| ports.contains(port));
        let furthest = having.min_by_key(|(ports, number)| (u32::MAX - ports.to, *number));
        let Some((ports, number)) = furthest else { return Err(port) };
        chosen.push(*number);
        next = ports.to + 1;
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use firewall_ebpf::abi::interface::Direction;

    use super::*;
    use crate::model::PortRange;
    use crate::nearest::Field;

    fn rule(number: u32, direction: Direction, from: u16, to: u16, network: &str) -> ResolvedRule {
        ResolvedRule {
            number,
            direction,
            traffic: Traffic::Tcp(PortRange { from, to }),
            networks: network.parse::<ipnet::IpNet>().unwrap().into(),
            end: None,
        }
    }

    const PROBE: Probe = Probe {
        direction: Direction::Ingress,
        outside: std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)),
        protocol: 6,
        port: 443,
    };

    #[test]
    fn what_all_addresses_may_send_and_receive_is_untracked_and_the_rules_are_named() {
        use Direction::{Egress, Ingress};
        let mut rules = vec![
            rule(1, Ingress, 443, 443, "192.0.2.0/24"),
            rule(2, Ingress, 0, 1000, "0.0.0.0/0"),
            rule(3, Egress, 0, 100, "0.0.0.0/0"),
            rule(4, Egress, 50, 65_535, "0.0.0.0/0"),
            rule(5, Egress, 40, 60, "0.0.0.0/0"),
        ];
        let explained = explain(&rules, Tracking::Auto, PROBE, Some(55));
        assert_eq!(explained.allowing, [1, 2]);
        let untracked = Tracked::Untracked { anywhere: vec![2], replies: vec![3, 4] };
        assert_eq!(explained.tracked, Some(untracked));
        assert_eq!(explained.reply, Some(Reply::Rules(vec![3, 4, 5])));

        let because = |rules: &[ResolvedRule], tracking| match explain(rules, tracking, PROBE, None)
        {
            Explanation { tracked: Some(Tracked::Tracked(because)), reply, .. } => {
                assert_eq!(reply, Some(Reply::Flow));
                because
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(because(&rules, Tracking::Always), Because::Always);
        rules[3].end = Some(1);
        assert_eq!(because(&rules, Tracking::Auto), Because::Reply { port: 101 });
        rules.remove(1);
        assert_eq!(because(&rules, Tracking::Auto), Because::NotFromAnywhere);
    }

    #[test]
    fn a_packet_that_no_rule_allows_has_a_nearest_miss_and_no_reply() {
        let rules = [rule(1, Direction::Ingress, 80, 80, "0.0.0.0/0")];
        let explained = explain(&rules, Tracking::Auto, PROBE, None);
        assert!(explained.allowing.is_empty() && explained.tracked.is_none());
        assert_eq!(explained.reply, None);
        assert_eq!(explained.nearest.map(|miss| miss.field), Some(Field::Port));
    }
}
