//! The rules of a group as EC2 groups them, those of one direction, protocol and port range together; and as lists
//! have them.

use firewall_ebpf::abi::interface::Direction;

use super::{Ec2Traffic, Group, Rule};

/// Rules with the same protocol and ports: EC2's `IpPermission`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission<'a> {
    /// What they have in common.
    pub traffic: Ec2Traffic,
    /// In the order of their peers.
    pub rules: Vec<&'a Rule>,
}

impl Group {
    /// The rules of one direction, in an order that depends on nothing but the rules.
    #[must_use]
    pub fn permissions(&self, direction: Direction) -> Vec<Permission<'_>> {
        let mut rules: Vec<_> =
            self.rules.iter().filter(|rule| rule.spec.direction == direction).collect();
        rules.sort_by(|one, two| one.spec.cmp(&two.spec));
        let same = |one: &&Rule, two: &&Rule| one.spec.traffic == two.spec.traffic;
        let mut permissions: Vec<_> = rules
            .chunk_by(same)
            .filter_map(|rules| {
                let traffic = rules.first()?.spec.traffic.to_ec2();
                Some(Permission { traffic, rules: rules.to_vec() })
            })
            .collect();
        permissions.sort_by(|one, two| one.traffic.cmp(&two.traffic));
        permissions
    }
}

/// The rules of groups in the order of lists: by group, ingress first.
#[must_use]
pub fn sorted_rules<'a>(groups: impl IntoIterator<Item = &'a Group>) -> Vec<(&'a Group, &'a Rule)> {
    let of_group = |group: &'a Group| {
        let mut rules: Vec<&Rule> = group.rules.iter().collect();
        rules.sort_by(|one, two| one.spec.cmp(&two.spec));
        rules.into_iter().map(move |rule| (group, rule))
    };
    groups.into_iter().flat_map(of_group).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::{GroupId, Peer, PortRange, RuleId, RuleSpec, Traffic, VpcId, parse_cidr};

    fn rule(number: u32, traffic: Traffic, peer: Peer) -> Rule {
        let spec = RuleSpec { direction: Direction::Ingress, traffic, peer };
        let (description, tags) = (String::new(), BTreeMap::new());
        Rule { id: RuleId::random().unwrap(), number, spec, description, end: None, tags }
    }

    #[test]
    fn rules_of_one_protocol_and_port_range_are_together() {
        let peer = |text: &str| Peer::from(parse_cidr(text).unwrap());
        let http = Traffic::Tcp(PortRange { from: 80, to: 80 });
        let group = Group {
            id: GroupId::random().unwrap(),
            vpc: VpcId::default_vpc(),
            name: "web".to_owned(),
            description: "web".to_owned(),
            rules: vec![
                rule(1, http, peer("::/0")),
                rule(2, Traffic::All, peer("10.0.0.0/8")),
                rule(3, http, peer("10.0.0.0/8")),
                rule(4, Traffic::Udp(PortRange { from: 80, to: 80 }), peer("10.0.0.0/8")),
            ],
            tags: BTreeMap::new(),
        };
        let numbers = |permission: &Permission<'_>| -> Vec<u32> {
            permission.rules.iter().map(|rule| rule.number).collect()
        };
        let permissions = group.permissions(Direction::Ingress);
        let found: Vec<_> = permissions
            .iter()
            .map(|one| (one.traffic.protocol.as_str(), one.traffic.from, numbers(one)))
            .collect();
        assert_eq!(
            found,
            [("-1", None, vec![2]), ("tcp", Some(80), vec![3, 1]), ("udp", Some(80), vec![4]),]
        );
        assert!(group.permissions(Direction::Egress).is_empty());
    }
}
