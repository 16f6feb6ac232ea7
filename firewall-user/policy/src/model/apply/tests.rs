//! Documents of random models, written, read and applied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use firewall_ebpf::abi::interface::Direction;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;

use super::{DEFAULT_GROUP, Others, Plan, Sign};
use crate::model::document::{self, Document};
use crate::model::traffic::tests::traffic;
use crate::model::{
    Change, Family, ForeignGroup, Group, GroupId, Identity, Interface, Limits, Model, Peer,
    PrefixList, PrefixListId, Rule, RuleId, RuleSpec, Subnet, SubnetSettings, Vpc, VpcId,
    VpcSettings,
};

mod acl;
mod vpcs;

const GROUPS: u8 = 4;
const LISTS: u8 = 3;

fn group_id(number: u8) -> GroupId {
    format!("sg-{number:017x}").parse().unwrap()
}

fn list_id(number: u8) -> PrefixListId {
    format!("pl-{number:017x}").parse().unwrap()
}

/// Lists 0 and 2 are IPv4, list 1 is IPv6.
fn family(list: u8) -> Family {
    if list.is_multiple_of(2) { Family::Ipv4 } else { Family::Ipv6 }
}

fn ipv4() -> impl Strategy<Value = Ipv4Net> {
    (any::<[u8; 4]>(), 0u8..=32).prop_map(|(ip, len)| Ipv4Net::new(ip.into(), len).unwrap().trunc())
}

fn ipv6() -> impl Strategy<Value = Ipv6Net> {
    (any::<[u8; 16]>(), 0u8..=128)
        .prop_map(|(ip, len)| Ipv6Net::new(ip.into(), len).unwrap().trunc())
}

fn peer() -> impl Strategy<Value = Peer> {
    prop_oneof![
        ipv4().prop_map(Peer::Ipv4),
        ipv6().prop_map(Peer::Ipv6),
        (0..LISTS).prop_map(|number| Peer::PrefixList(list_id(number))),
        (0..GROUPS).prop_map(|number| Peer::Group(group_id(number))),
        foreign().prop_map(|foreign| Peer::Foreign(Box::new(foreign))),
    ]
}

/// A group that is not on any host: a deleted one, one of a peered VPC, and one of another account.
fn foreign() -> impl Strategy<Value = ForeignGroup> {
    (100..103_u8).prop_map(|number| ForeignGroup {
        group: group_id(number),
        account: (number == 102).then(|| "123456789012".to_owned()),
        vpc: (number > 100).then(|| "vpc-0fffffffffffffff0".parse().unwrap()),
        peering: (number == 101).then(|| "pcx-0fffffffffffffff0".to_owned()),
    })
}

/// Groups 0 and 1 are of the default VPC, 2 and 3 of another one, where they have the same names.
fn vpc_of(group: u8) -> VpcId {
    if group < 2 { VpcId::default_vpc() } else { "vpc-00000000000000001".parse().unwrap() }
}

/// Any rule: as in EC2, also one whose traffic does not exist in the family of its peer.
fn spec() -> impl Strategy<Value = RuleSpec> {
    let direction = prop::bool::ANY
        .prop_map(|egress| if egress { Direction::Egress } else { Direction::Ingress });
    (direction, traffic(), peer()).prop_map(|(direction, traffic, peer)| RuleSpec {
        direction,
        traffic,
        peer,
    })
}

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 ._:/()#,@+=&;{}!$*-]{0,12}|\\[\\]"
}

fn tags() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map("[a-z]{1,4}", "\\PC{0,6}", 0..3)
}

/// What a document says about a VPC and its subnet.
fn vpc() -> impl Strategy<Value = (Vpc, Subnet)> {
    let networks = (prop::collection::vec(ipv4(), 0..3), prop::collection::vec(ipv6(), 0..2));
    let of_subnet = (prop::option::of(ipv4()), any::<bool>(), prop::option::of(Just("z")));
    (networks, tags(), of_subnet, tags()).prop_map(
        |((cidrs, ipv6_cidrs), tags, (cidr, map_public_ip, zone), subnet_tags)| {
            let mut vpc = Vpc { id: vpc_of(2), is_default: false, tags, ..Vpc::new_default() };
            vpc.settings = VpcSettings { cidrs, ipv6_cidrs, dns_hostnames: false, ..vpc.settings };
            let mut subnet = Subnet {
                id: "subnet-00000000000000001".parse().unwrap(),
                vpc: vpc.id.clone(),
                is_default: false,
                tags: subnet_tags,
                ..Subnet::new_default()
            };
            let zone = zone.map(str::to_owned);
            subnet.settings = SubnetSettings { cidr, map_public_ip, zone, ..subnet.settings };
            (vpc, subnet)
        },
    )
}

/// A model with every group and list that a document may name.
fn model() -> impl Strategy<Value = Model> {
    let rules = prop::collection::btree_map(spec(), (text(), tags()), 0..12);
    let groups = prop::collection::vec((rules, tags()), usize::from(GROUPS));
    let entries = prop::collection::vec((ipv4(), ipv6(), text()), 0..4);
    let lists = (entries, tags(), 1u64..9, prop::option::of(4..6_u32));
    let lists = prop::collection::vec(lists, usize::from(LISTS));
    (groups, lists, vpc()).prop_map(|(groups, lists, (vpc, subnet))| {
        let mut model = Model::default();
        model.make(Change::PutVpc(vpc));
        model.make(Change::PutSubnet(subnet));
        for (number, (entries, tags, version, max_entries)) in (0..LISTS).zip(lists) {
            let is_aws = number == 2;
            let entries = entries.into_iter().map(|(v4, v6, text)| match family(number) {
                Family::Ipv4 => (IpNet::V4(v4), text),
                Family::Ipv6 => (IpNet::V6(v6), text),
            });
            model.make(Change::CreatePrefixList(PrefixList {
                id: list_id(number),
                name: format!("{} {number}", if is_aws { "com.amazonaws" } else { "list" }),
                family: family(number),
                version,
                entries: entries.collect(),
                max_entries,
                is_aws,
                state: Default::default(),
                tags,
            }));
        }
        let mut last = 0;
        for (number, (rules, tags)) in (0..GROUPS).zip(groups) {
            let rules = rules.into_iter().map(|(spec, (description, tags))| {
                last += 1;
                let id: RuleId = format!("sgr-{last:017x}").parse().unwrap();
                Rule { id, number: last, spec, description, end: None, tags }
            });
            model.make(Change::CreateGroup(Group {
                id: group_id(number),
                vpc: vpc_of(number),
                name: ["default", "web"][usize::from(number % 2)].to_owned(),
                description: "d".to_owned(),
                rules: rules.collect(),
                tags,
            }));
        }
        model
    })
}

/// A group without the numbers of its rules, and without their order.
fn without_numbers(group: &Group) -> Group {
    let mut group = group.clone();
    group.rules.iter_mut().for_each(|rule| rule.number = 0);
    group.rules.sort_by(|one, two| one.spec.cmp(&two.spec));
    group
}

/// As [`without_numbers`], also without the ids of the rules.
fn without_ids(group: &Group) -> Group {
    let mut group = without_numbers(group);
    group.rules.iter_mut().for_each(|rule| rule.id = "sgr-00000000".parse().unwrap());
    group
}

fn export<'a>(model: &'a Model, groups: impl Iterator<Item = &'a Group> + Clone) -> Document {
    let identity = Identity::default();
    let vpcs = document::vpcs(&identity, model.vpcs.values(), model.subnets.values());
    let rules = groups.clone().flat_map(|group| group.rules.iter().map(move |rule| (group, rule)));
    let mut rules: Vec<_> = rules.collect();
    rules.sort_by_key(|(group, rule)| (&group.id, &rule.id));
    Document {
        prefix_lists: document::prefix_lists(&identity, model.prefix_lists.values()).prefix_lists,
        security_group_rules: document::rules(&identity, rules).security_group_rules,
        vpcs: vpcs.vpcs,
        subnets: vpcs.subnets,
        ..document::groups(&identity, groups)
    }
}

/// The subnets, without the ids of their associations, which every host has of its own.
fn subnets(model: &Model) -> Vec<Subnet> {
    let default = Subnet::new_default().association;
    let subnets = model.subnets.values().cloned();
    subnets.map(|subnet| Subnet { association: default.clone(), ..subnet }).collect()
}

fn groups(model: &Model) -> impl Iterator<Item = &Group> + Clone {
    model.groups.values().map(Arc::as_ref)
}

/// The document, written as text and read again.
fn reread(document: &Document) -> Document {
    let mut bytes = Vec::new();
    document.write(&mut bytes).unwrap();
    Document::parse(&bytes).unwrap()
}

fn applied(model: &Model, document: &Document) -> Model {
    let plan = Plan::new(model, document, &Limits::default()).unwrap();
    let mut model = model.clone();
    plan.steps.into_iter().for_each(|step| model.make(step.change));
    model
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_exported_document_recreates_groups_and_prefix_lists(model in model()) {
        let document = export(&model, groups(&model));
        let read = reread(&document);
        prop_assert_eq!(&read, &document);
        let copy = applied(&Model::default(), &read);
        prop_assert_eq!(&copy.prefix_lists, &model.prefix_lists);
        prop_assert_eq!(&copy.vpcs, &model.vpcs);
        prop_assert_eq!(subnets(&copy), subnets(&model));
        for (id, group) in &model.groups {
            prop_assert_eq!(without_numbers(&copy.groups[id]), without_numbers(group));
        }
        prop_assert_eq!(export(&copy, groups(&copy)), document);
    }

    #[test]
    fn applying_a_document_changes_its_groups_and_no_others(
        here in model(), there in model(), number in 0..GROUPS,
    ) {
        let id = group_id(number);
        let document = reread(&export(&there, there.groups.get(&id).map(Arc::as_ref).into_iter()));
        let after = applied(&here, &document);
        prop_assert_eq!(without_ids(&after.groups[&id]), without_ids(&there.groups[&id]));
        for (other, group) in here.groups.iter().filter(|(other, _)| **other != id) {
            prop_assert_eq!(&after.groups[other], group);
        }
        let entries = |model: &Model| -> Vec<_> {
            model.prefix_lists.values().map(|list| list.entries.clone()).collect()
        };
        prop_assert_eq!(entries(&after), entries(&there));
        // A rule in both keeps its id; a new one has its own.
        let before: BTreeMap<_, _> =
            here.groups[&id].rules.iter().map(|rule| (&rule.spec, &rule.id)).collect();
        let mut ids = BTreeSet::new();
        for rule in &after.groups[&id].rules {
            prop_assert!(ids.insert(&rule.id));
            if let Some(kept) = before.get(&rule.spec) {
                prop_assert_eq!(*kept, &rule.id);
            }
        }
        let again = Plan::new(&after, &document, &Limits::default()).unwrap();
        prop_assert!(again.is_empty(), "{again:?}");
    }

    #[test]
    fn pruning_leaves_the_groups_of_the_document_and_no_others(
        here in model(), there in model(), number in 0..GROUPS,
    ) {
        let id = group_id(number);
        let document = reread(&export(&there, there.groups.get(&id).map(Arc::as_ref).into_iter()));
        let limits = Limits::default();
        let other = group_id(number ^ 1);
        let goes = here.groups[&other].name != DEFAULT_GROUP;
        let is_used_by = |group: &Group| {
            group.rules.iter().any(|rule| rule.spec.peer == Peer::Group(other.clone()))
        };
        let outside = here.groups.values().filter(|group| group.id != id && group.id != other);
        let uses_other = goes
            && (is_used_by(&there.groups[&id]) || outside.into_iter().any(|one| is_used_by(one)));
        match Plan::with(&here, &document, &limits, &Others::Go.into()) {
            Ok(plan) => {
                prop_assert!(!uses_other);
                let mut after = here.clone();
                for step in plan.steps {
                    // What the store's foreign keys refuse.
                    if let Change::DeleteGroup(gone) = &step.change {
                        after.check_group_unused(&after.groups[gone]).unwrap();
                    }
                    after.make(step.change);
                }
                // Those of the other VPC stay, and the default one of this VPC.
                let is_staying = |other: &GroupId| {
                    *other == id || vpc_of(number) != here.groups[other].vpc || {
                        here.groups[other].name == DEFAULT_GROUP
                    }
                };
                let staying = here.groups.keys().filter(|other| is_staying(other));
                prop_assert_eq!(
                    after.groups.keys().collect::<Vec<_>>(), staying.collect::<Vec<_>>()
                );
                prop_assert!(plan.others.is_empty());
            }
            Err(errors) => {
                prop_assert!(uses_other);
                prop_assert!(errors.iter().all(|one| one.error.path() == Some("--prune")));
            }
        }
    }

    #[test]
    fn no_document_panics(text in "\\PC{0,60}", model in model(), cut: prop::sample::Index) {
        let _ = Document::parse(text.as_bytes());
        let mut bytes = Vec::new();
        export(&model, groups(&model)).write(&mut bytes).unwrap();
        let place = cut.index(bytes.len());
        // A truncated document is refused.
        prop_assert!(Document::parse(&bytes[..place]).is_err() || place + 1 >= bytes.len());
        // With a changed byte it may still be a document.
        bytes[place] = b'0';
        if let Ok(document) = Document::parse(&bytes) {
            let _ = Plan::new(&model, &document, &Limits::default());
        }
    }
}

fn group(number: u8, name: &str, peers: &[u8]) -> Group {
    let rules = (1..).zip(peers).map(|(rule, peer)| Rule {
        id: format!("sgr-{number:08x}{rule:09x}").parse().unwrap(),
        number: u32::from(number) << 8 | rule,
        spec: RuleSpec {
            direction: Direction::Ingress,
            traffic: crate::model::Traffic::All,
            peer: Peer::Group(group_id(*peer)),
        },
        description: String::new(),
        end: None,
        tags: BTreeMap::new(),
    });
    Group {
        id: group_id(number),
        vpc: VpcId::default_vpc(),
        name: name.to_owned(),
        description: "d".to_owned(),
        rules: rules.collect(),
        tags: BTreeMap::new(),
    }
}

fn model_of(groups: &[Group]) -> Model {
    let mut model = Model::default();
    groups.iter().for_each(|group| model.make(Change::CreateGroup(group.clone())));
    model
}

#[test]
fn groups_that_name_one_another_are_pruned_together() {
    let web = group(0, "web", &[]);
    let here = model_of(&[web.clone(), group(1, "a", &[1, 2, 0]), group(2, "b", &[1])]);
    let plan = Plan::with(
        &here,
        &document::groups(&Identity::default(), [&web]),
        &Limits::default(),
        &Others::Go.into(),
    )
    .unwrap();
    let lines: Vec<_> = plan.lines().map(ToString::to_string).collect();
    assert!(plan.lines().all(|line| line.sign == Sign::Remove));
    assert_eq!(
        lines,
        [
            "- a sgr-00000001000000002 ingress all from group b",
            "- b sgr-00000002000000001 ingress all from group a",
            "- group a sg-00000000000000001",
            "- group b sg-00000000000000002",
        ]
    );
}

#[test]
fn a_group_in_use_or_the_default_group_is_not_pruned() {
    let web = group(0, "web", &[1]);
    let mut here =
        model_of(&[web.clone(), group(1, "a", &[]), group(2, "b", &[]), group(3, "Default", &[])]);
    let mut interface =
        Interface::new("eni-00000000000000001".parse().unwrap(), 0, "eth0", Some("blue"));
    interface.groups = vec![group_id(2)];
    here.make(Change::PutInterface(interface));
    let document = document::groups(&Identity::default(), [&web]);
    let limits = Limits::default();
    let errors = Plan::with(&here, &document, &limits, &Others::Go.into()).unwrap_err();
    let texts: Vec<_> = errors.iter().map(|one| one.to_string()).collect();
    assert_eq!(
        texts,
        [
            "--prune: a rule of group web in the document names group a",
            "--prune: group b is used by interface eth0 in namespace blue",
        ]
    );
    here.make(Change::DeleteInterface(0));
    let none = Document { security_groups: Some(Vec::new()), ..Document::default() };
    let errors = Plan::with(&here, &none, &limits, &Others::Go.into()).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "the document has no group, and --prune would remove every group of this host"
    );
    let free = group(0, "web", &[]);
    let plan = Plan::with(
        &here,
        &document::groups(&Identity::default(), [&free]),
        &limits,
        &Others::Go.into(),
    )
    .unwrap();
    assert!(plan.others.is_empty(), "the default group stays");
    let plan = Plan::new(&here, &document::groups(&Identity::default(), [&free]), &limits).unwrap();
    assert_eq!(plan.others, ["a", "b"]);
}

#[test]
fn every_error_is_reported_and_none_that_follows_from_another() {
    let text = r#"{"SecurityGroups": [
  {"GroupId": "sg-00000000000000001", "GroupName": "broken", "IpPermissions": [], "IpPermissionsEgress": []},
  {"GroupName": "web", "Description": "d", "IpPermissionsEgress": [], "IpPermissions": [
    {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 70000, "IpRanges": [{"CidrIp": "10.0.0.1"}]},
    {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": "sg-00000000000000001"}, {"GroupName": "nope"},
                                              {"GroupName": "BROKEN"}]},
    {"IpProtocol": "nope"}]}]}"#;
    let document = Document::parse(text.as_bytes()).unwrap();
    let errors = Plan::new(&Model::default(), &document, &Limits::default()).unwrap_err();
    let errors = errors.located(text.as_bytes());
    let texts: Vec<_> = errors.iter().map(|one| one.to_string()).collect();
    let web = "SecurityGroups[1].IpPermissions";
    assert_eq!(
        texts,
        [
            "SecurityGroups[0].Description is missing (line 2, column 3)".to_owned(),
            format!("{web}[0]: port 70000 is not 0 to 65535 (line 4, column 5)"),
            format!(
                "{web}[0].IpRanges[0].CidrIp: CIDR 10.0.0.1 has no prefix length (line 4, column 84)"
            ),
            format!(
                "{web}[1].UserIdGroupPairs[1]: group \"nope\" is neither on this host nor in the \
                 document (line 5, column 84)"
            ),
            format!("{web}[2]: a peer is missing (line 7, column 5)"),
            format!("{web}[2].IpProtocol: unknown protocol \"nope\" (line 7, column 20)"),
        ]
    );
}

#[test]
fn icmp_of_the_other_family_is_kept_with_a_warning() {
    let text = r#"{"SecurityGroups": [
  {"GroupName": "web", "Description": "d", "IpPermissionsEgress": [], "IpPermissions": [
    {"IpProtocol": "icmp", "FromPort": -1, "ToPort": -1,
     "IpRanges": [{"CidrIp": "10.0.0.1/8"}], "Ipv6Ranges": [{"CidrIpv6": "::/0"}]},
    {"IpProtocol": "icmpv6", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]},
    {"IpProtocol": "51", "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}]}]}"#;
    let document = Document::parse(text.as_bytes()).unwrap();
    let plan = Plan::new(&Model::default(), &document, &Limits::default()).unwrap();
    let warnings: Vec<_> = plan.warnings.iter().map(ToString::to_string).collect();
    let at = "SecurityGroups[0].IpPermissions";
    assert_eq!(
        warnings,
        [
            format!("{at}[0].IpRanges[0].CidrIp: 10.0.0.1/8 is stored as 10.0.0.0/8"),
            format!(
                "{at}[0].Ipv6Ranges[0]: icmp does not exist in IPv6, and ::/0 is IPv6: the rule \
                 matches nothing"
            ),
            format!(
                "{at}[1].IpRanges[0]: icmpv6 does not exist in IPv4, and 0.0.0.0/0 is IPv4: the rule \
                 matches nothing"
            ),
            format!(
                "{at}[2].Ipv6Ranges[0]: protocol 51 is an extension header in IPv6, and ::/0 is IPv6: \
                 the rule matches nothing"
            ),
        ]
    );
    let after = applied(&Model::default(), &document);
    let exported = document::groups(&Identity::default(), after.groups_by_id());
    let again = Plan::new(&after, &exported, &Limits::default()).unwrap();
    assert!(again.is_empty(), "{again:?}");
    let permissions = exported.security_groups.unwrap().remove(0).ip_permissions.unwrap();
    let six = permissions.iter().find(|one| one.ip_protocol.as_deref() == Some("icmp")).unwrap();
    let networks = six.ipv6_ranges.iter().flatten().map(|range| range.cidr_ipv6.as_deref());
    assert_eq!(networks.collect::<Vec<_>>(), [Some("::/0")]);
}
