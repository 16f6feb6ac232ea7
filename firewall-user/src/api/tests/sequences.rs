//! Random sequences of calls: what is described, stored, exported and enforced stays the same, and is what a plain
//! model of EC2 has.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use firewall_ebpf::abi::interface::Direction;
use ipnet::IpNet;
use proptest::prelude::*;

use super::tree::Tree;
use super::{Host, element};
use crate::model::{Identity, Model, document};
use crate::policy::Probe;
use read::{kind, peer_of_pair, peer_of_rule, traffic_of};
use verdicts::{probes, verdicts};

mod read;
mod verdicts;

const NAMES: [&str; 3] = ["a", "b", "c"];
const TRAFFICS: [(&str, &str, &str); 4] =
    [("tcp", "22", "23"), ("udp", "53", "53"), ("icmp", "8", "-1"), ("-1", "", "")];
const NETWORKS: [&str; 3] = ["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"];

/// A peer: one of the networks, or a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum To {
    Network(usize),
    Group(usize),
}

/// What a rule allows: whether it is egress, which traffic, which peer.
type Spec = (bool, usize, To);

#[derive(Clone, Debug)]
enum Call {
    Create(usize),
    Delete(usize),
    Authorize(usize, bool, usize, BTreeSet<To>, bool),
    Revoke(usize, bool, usize, BTreeSet<To>),
    RevokeIds(usize, bool, Vec<prop::sample::Index>),
    Modify(usize, Vec<(prop::sample::Index, usize, To)>),
    Describe(usize, bool, usize, BTreeSet<To>, bool),
}

fn to() -> impl Strategy<Value = To> {
    prop_oneof![3 => (0..NETWORKS.len()).prop_map(To::Network), 1 => (0..NAMES.len()).prop_map(To::Group)]
}

fn peers() -> impl Strategy<Value = BTreeSet<To>> {
    prop::collection::btree_set(to(), 1..3)
}

fn call() -> impl Strategy<Value = Call> {
    let index = any::<prop::sample::Index>;
    let group = 0..NAMES.len();
    let traffic = 0..TRAFFICS.len();
    prop_oneof![
        3 => group.clone().prop_map(Call::Create),
        1 => group.clone().prop_map(Call::Delete),
        6 => (group.clone(), any::<bool>(), traffic.clone(), peers(), any::<bool>())
            .prop_map(|(group, egress, traffic, peers, text)| Call::Authorize(group, egress, traffic, peers, text)),
        3 => (group.clone(), any::<bool>(), traffic.clone(), peers())
            .prop_map(|(group, egress, traffic, peers)| Call::Revoke(group, egress, traffic, peers)),
        1 => (group.clone(), any::<bool>(), prop::collection::vec(index(), 1..3))
            .prop_map(|(group, egress, rules)| Call::RevokeIds(group, egress, rules)),
        3 => (group.clone(), prop::collection::vec((index(), traffic.clone(), to()), 1..3))
            .prop_map(|(group, rules)| Call::Modify(group, rules)),
        2 => (group, any::<bool>(), traffic, peers(), any::<bool>())
            .prop_map(|(group, egress, traffic, peers, text)| Call::Describe(group, egress, traffic, peers, text)),
    ]
}

/// The endpoint, and what it must have.
struct Both {
    host: Host,
    ids: BTreeMap<usize, String>,
    /// The rules of each group with id and description, by what they allow.
    groups: BTreeMap<usize, BTreeMap<Spec, (String, String)>>,
}

impl Both {
    fn id(&self, group: usize) -> String {
        self.ids.get(&group).cloned().unwrap_or_else(|| "sg-00000000".to_owned())
    }

    fn permission(&self, traffic: usize, peers: &BTreeSet<To>, text: &str) -> String {
        let (protocol, from, to) = TRAFFICS[traffic];
        let mut form = format!(
            "&IpPermissions.1.IpProtocol={protocol}&IpPermissions.1.FromPort={from}&IpPermissions.1.ToPort={to}"
        );
        for (at, peer) in peers.iter().enumerate() {
            let at = at + 1;
            let (list, item) = match peer {
                To::Network(network) if NETWORKS[*network].contains(':') => {
                    ("Ipv6Ranges", format!("CidrIpv6={}", NETWORKS[*network]))
                }
                To::Network(network) => ("IpRanges", format!("CidrIp={}", NETWORKS[*network])),
                To::Group(group) => ("Groups", format!("GroupId={}", self.id(*group))),
            };
            form += &format!(
                "&IpPermissions.1.{list}.{at}.{item}&IpPermissions.1.{list}.{at}.Description={text}"
            );
        }
        form
    }

    fn are_known(&self, peers: &BTreeSet<To>) -> bool {
        peers.iter().all(|peer| match peer {
            To::Network(_) => true,
            To::Group(group) => self.ids.contains_key(group),
        })
    }

    /// The rules of a group in the order of what they allow.
    fn listed(&self, group: usize) -> Vec<(Spec, String)> {
        let rules = self.groups.get(&group).into_iter().flatten();
        rules.map(|(spec, (id, _))| (spec.clone(), id.clone())).collect()
    }

    fn run(&mut self, call: &Call) {
        let direction = |egress: bool| if egress { "Egress" } else { "Ingress" };
        match call {
            Call::Create(group) => {
                let name = NAMES[*group];
                let answer = self.host.call(&format!(
                    "Action=CreateSecurityGroup&GroupName={name}&GroupDescription=d"
                ));
                assert_eq!(answer.status == 200, !self.ids.contains_key(group), "{}", answer.body);
                if answer.status == 200 {
                    let id = element(&answer.body, "groupId");
                    let rules = self.host.ok(&format!(
                        "Action=DescribeSecurityGroupRules&Filter.1.Name=group-id&Filter.1.Value.1={id}"
                    ));
                    let rule = element(&rules, "securityGroupRuleId");
                    self.ids.insert(*group, id);
                    self.groups.insert(*group, BTreeMap::new());
                    // The plain model has no 0.0.0.0/0.
                    let narrow = format!(
                        "Action=ModifySecurityGroupRules&GroupId={}&SecurityGroupRule.1.SecurityGroupRuleId={rule}\
                         &SecurityGroupRule.1.SecurityGroupRule.IpProtocol=-1\
                         &SecurityGroupRule.1.SecurityGroupRule.CidrIpv4={}",
                        self.id(*group),
                        NETWORKS[0]
                    );
                    self.host.ok(&narrow);
                    let spec = (true, 3, To::Network(0));
                    self.groups.get_mut(group).unwrap().insert(spec, (rule, String::new()));
                }
            }
            Call::Delete(group) => {
                let id = self.id(*group);
                let answer = self.host.call(&format!("Action=DeleteSecurityGroup&GroupId={id}"));
                let is_used = self.groups.iter().any(|(other, rules)| {
                    other != group && rules.keys().any(|(_, _, to)| *to == To::Group(*group))
                });
                assert_eq!(
                    answer.status == 200,
                    self.ids.contains_key(group) && !is_used,
                    "{}",
                    answer.body
                );
                if answer.status == 200 {
                    self.ids.remove(group);
                    self.groups.remove(group);
                }
            }
            Call::Authorize(group, egress, traffic, peers, text) => {
                let text = if *text { "text" } else { "" };
                let answer = self.host.call(&format!(
                    "Action=AuthorizeSecurityGroup{}&GroupId={}{}",
                    direction(*egress),
                    self.id(*group),
                    self.permission(*traffic, peers, text)
                ));
                let are_known = self.are_known(peers);
                let Some(rules) = self.groups.get_mut(group).filter(|_| are_known) else {
                    assert_eq!(element(&answer.body, "Code"), "InvalidGroup.NotFound");
                    return;
                };
                let specs: Vec<Spec> =
                    peers.iter().map(|to| (*egress, *traffic, to.clone())).collect();
                if specs.iter().any(|spec| rules.contains_key(spec)) {
                    assert_eq!(element(&answer.body, "Code"), "InvalidPermission.Duplicate");
                    return;
                }
                assert_eq!(answer.status, 200, "{}", answer.body);
                let added = Tree::parse(&answer.body);
                let added = added.items("securityGroupRuleSet");
                assert_eq!(added.len(), specs.len());
                for rule in added {
                    let to = peer_of_rule(&self.ids, rule);
                    let id = rule.text_of("securityGroupRuleId").to_owned();
                    rules.insert((*egress, *traffic, to), (id, text.to_owned()));
                }
            }
            Call::Revoke(group, egress, traffic, peers) => {
                let answer = self.host.call(&format!(
                    "Action=RevokeSecurityGroup{}&GroupId={}{}",
                    direction(*egress),
                    self.id(*group),
                    self.permission(*traffic, peers, "")
                ));
                let (specs, are_all) = self.named(*group, *egress, *traffic, peers);
                assert_eq!(answer.status == 200, are_all, "{}", answer.body);
                if let Some(rules) = self.groups.get_mut(group).filter(|_| are_all) {
                    rules.retain(|spec, _| !specs.contains(spec));
                }
            }
            Call::RevokeIds(group, egress, indexes) => {
                let listed = self.listed(*group);
                if listed.is_empty() {
                    return;
                }
                let chosen: Vec<_> =
                    indexes.iter().map(|index| index.get(&listed).clone()).collect();
                let ids: String = (1..)
                    .zip(&chosen)
                    .map(|(at, (_, id))| format!("&SecurityGroupRuleId.{at}={id}"))
                    .collect();
                let answer = self.host.call(&format!(
                    "Action=RevokeSecurityGroup{}&GroupId={}{ids}",
                    direction(*egress),
                    self.id(*group)
                ));
                let different: BTreeSet<_> = chosen.iter().map(|(spec, _)| spec).collect();
                let is_good = different.len() == chosen.len()
                    && chosen.iter().all(|((out, ..), _)| out == egress);
                assert_eq!(answer.status == 200, is_good, "{}", answer.body);
                if is_good {
                    let rules = self.groups.get_mut(group).unwrap();
                    rules.retain(|spec, _| !different.contains(spec));
                }
            }
            Call::Modify(group, changes) => self.modify(*group, changes),
            Call::Describe(group, egress, traffic, peers, text) => {
                let text = if *text { "other" } else { "" };
                let answer = self.host.call(&format!(
                    "Action=UpdateSecurityGroupRuleDescriptions{}&GroupId={}{}",
                    direction(*egress),
                    self.id(*group),
                    self.permission(*traffic, peers, text)
                ));
                let (specs, are_all) = self.named(*group, *egress, *traffic, peers);
                assert_eq!(answer.status == 200, are_all, "{}", answer.body);
                if let Some(rules) = self.groups.get_mut(group).filter(|_| are_all) {
                    for spec in &specs {
                        rules.get_mut(spec).unwrap().1 = text.to_owned();
                    }
                }
            }
        }
    }

    /// The specifications of a permission's rules, and whether the group has all of them.
    fn named(
        &self,
        group: usize,
        egress: bool,
        traffic: usize,
        peers: &BTreeSet<To>,
    ) -> (Vec<Spec>, bool) {
        let specs: Vec<Spec> = peers.iter().map(|to| (egress, traffic, to.clone())).collect();
        let rules = self.groups.get(&group);
        let are_all = rules.is_some_and(|rules| specs.iter().all(|spec| rules.contains_key(spec)));
        (specs, are_all)
    }

    fn modify(&mut self, group: usize, changes: &[(prop::sample::Index, usize, To)]) {
        let listed = self.listed(group);
        if listed.is_empty() {
            return;
        }
        let mut form = format!("Action=ModifySecurityGroupRules&GroupId={}", self.id(group));
        let mut after = self.groups[&group].clone();
        let (mut is_good, mut taken) = (true, BTreeSet::new());
        let mut new = Vec::new();
        for (at, (index, traffic, to)) in (1..).zip(changes) {
            let (spec, id) = index.get(&listed);
            let (protocol, from, last) = TRAFFICS[*traffic];
            let (name, value) = match to {
                To::Network(network) if NETWORKS[*network].contains(':') => {
                    ("CidrIpv6", NETWORKS[*network].to_owned())
                }
                To::Network(network) => ("CidrIpv4", NETWORKS[*network].to_owned()),
                To::Group(group) => ("ReferencedGroupId", self.id(*group)),
            };
            form += &format!("&SecurityGroupRule.{at}.SecurityGroupRuleId={id}");
            for (name, value) in [
                ("IpProtocol", protocol),
                ("FromPort", from),
                ("ToPort", last),
                (name, &value),
                ("Description", "m"),
            ] {
                form += &format!("&SecurityGroupRule.{at}.SecurityGroupRule.{name}={value}");
            }
            is_good &= taken.insert(spec.clone()) && kind(&spec.2) == kind(to);
            is_good &= self.are_known(&BTreeSet::from([to.clone()]));
            after.remove(spec);
            new.push(((spec.0, *traffic, to.clone()), (id.clone(), "m".to_owned())));
        }
        for (spec, rule) in new {
            is_good &= after.insert(spec, rule).is_none();
        }
        let answer = self.host.call(&form);
        assert_eq!(answer.status == 200, is_good, "{form}: {}", answer.body);
        if is_good {
            self.groups.insert(group, after);
        }
    }

    /// Compares everything.
    fn check(&self) {
        let body = self.host.ok("Action=DescribeSecurityGroups");
        let mut described = BTreeMap::new();
        for group in Tree::parse(&body).items("securityGroupInfo") {
            let name = group.text_of("groupName");
            let Some(at) = NAMES.iter().position(|one| *one == name) else { continue };
            let mut rules = BTreeMap::new();
            for (list, egress) in [("ipPermissions", false), ("ipPermissionsEgress", true)] {
                for permission in group.items(list) {
                    let traffic = traffic_of(permission);
                    for kind in ["groups", "ipRanges", "ipv6Ranges", "prefixListIds"] {
                        for item in permission.items(kind) {
                            let to = peer_of_pair(&self.ids, item);
                            let text = item.text_of("description").to_owned();
                            assert_eq!(rules.insert((egress, traffic, to), text), None, "{body}");
                        }
                    }
                }
            }
            described.insert(at, rules);
        }
        let texts = |rules: &BTreeMap<Spec, (String, String)>| -> BTreeMap<Spec, String> {
            rules.iter().map(|(spec, (_, text))| (spec.clone(), text.clone())).collect()
        };
        let expected: BTreeMap<_, _> =
            self.groups.iter().map(|(at, rules)| (*at, texts(rules))).collect();
        assert_eq!(described, expected);

        let mut by_id = BTreeMap::new();
        for rule in Tree::parse(&self.host.ok("Action=DescribeSecurityGroupRules"))
            .items("securityGroupRuleSet")
        {
            let Some(group) = self.ids.iter().find(|(_, id)| *id == rule.text_of("groupId")) else {
                continue;
            };
            let spec = (
                rule.text_of("isEgress") == "true",
                traffic_of(rule),
                peer_of_rule(&self.ids, rule),
            );
            let text = rule.text_of("description").to_owned();
            by_id.insert((*group.0, spec), (rule.text_of("securityGroupRuleId").to_owned(), text));
        }
        let expected: BTreeMap<_, _> = self
            .groups
            .iter()
            .flat_map(|(group, rules)| {
                rules.iter().map(|(spec, rule)| ((*group, spec.clone()), rule.clone()))
            })
            .collect();
        assert_eq!(by_id, expected);

        // The document that `export` writes has as many rules, with the same ids in the store.
        let model = self.host.model();
        let groups: Vec<_> =
            model.groups_by_id().filter(|group| NAMES.contains(&&*group.name)).collect();
        let stored: BTreeSet<_> =
            groups.iter().flat_map(|group| &group.rules).map(|rule| rule.id.to_string()).collect();
        let ids: BTreeSet<_> = expected.values().map(|(id, _)| id.clone()).collect();
        assert_eq!(stored, ids);
        let exported = document::groups(&Identity::default(), groups).security_groups.unwrap();
        let count: usize = exported
            .iter()
            .flat_map(|group| {
                group.ip_permissions.iter().chain(&group.ip_permissions_egress).flatten()
            })
            .map(|one| {
                let groups = one.user_id_group_pairs.as_ref().map_or(0, Vec::len);
                groups
                    + one.ip_ranges.as_ref().map_or(0, Vec::len)
                    + one.ipv6_ranges.as_ref().map_or(0, Vec::len)
            })
            .sum();
        assert_eq!(count, ids.len());

        assert_eq!(self.host.stored(), *model, "what is in memory is what is on the disk");
        self.check_verdicts(&model);
    }

    /// Compares what packets are allowed, where each group has one member.
    fn check_verdicts(&self, model: &Model) {
        let fixed = ["10.0.0.1", "192.0.2.255", "192.0.3.0", "2001:db8::1", "2001:db9::"];
        let fixed = fixed.iter().map(|address| address.parse().unwrap());
        let outsides: Vec<IpAddr> = fixed.chain((0..NAMES.len()).map(member)).collect();
        let probes = probes(&outsides);
        let members: Vec<_> =
            self.ids.iter().map(|(group, id)| (id.parse().unwrap(), member(*group))).collect();
        let found = verdicts(model, &members, &probes);
        for (group, found) in self.ids.keys().zip(found) {
            let rules = &self.groups[group];
            for (probe, is_allowed) in probes.iter().zip(found) {
                let expected = rules.keys().any(|spec| allows(spec, probe));
                assert_eq!(is_allowed, expected, "{probe:?} {rules:?}");
            }
        }
    }
}

/// The address of the member of a group.
fn member(group: usize) -> IpAddr {
    let last = u8::try_from(group).unwrap() + 1;
    IpAddr::from([198, 51, 100, last])
}

/// Whether a rule of the plain model allows a packet.
fn allows((egress, traffic, to): &Spec, probe: &Probe) -> bool {
    let Probe { direction, outside, protocol, port } = *probe;
    let is_traffic = match traffic {
        0 => protocol == 6 && (22..=23).contains(&port),
        1 => protocol == 17 && port == 53,
        2 => protocol == 1 && port >> 8 == 8,
        _ => true,
    };
    let is_peer = match to {
        To::Network(network) => {
            NETWORKS[*network].parse::<IpNet>().is_ok_and(|network| network.contains(&outside))
        }
        To::Group(group) => member(*group) == outside,
    };
    is_traffic && is_peer && *egress == (direction == Direction::Egress)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_is_described_is_what_was_asked_for(calls in prop::collection::vec(call(), 1..40)) {
        let mut both = Both { host: Host::new(), ids: BTreeMap::new(), groups: BTreeMap::new() };
        for call in &calls {
            both.run(call);
            both.check();
        }
    }
}
