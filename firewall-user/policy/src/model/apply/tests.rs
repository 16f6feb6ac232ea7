//! Documents of random models, written, read and applied.

use std::collections::{BTreeMap, BTreeSet};

use firewall_ebpf::abi::interface::Direction;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;

use super::Plan;
use crate::model::document::{self, Document};
use crate::model::traffic::tests::traffic;
use crate::model::{
    Change, Family, Group, GroupId, Limits, Model, Peer, PrefixList, PrefixListId, Rule, RuleId,
    RuleSpec, Traffic,
};

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
    ]
}

fn spec() -> impl Strategy<Value = RuleSpec> {
    let direction = prop::bool::ANY
        .prop_map(|egress| if egress { Direction::Egress } else { Direction::Ingress });
    (direction, traffic(), peer()).prop_filter_map(
        "not of the list's family",
        |(one, two, peer)| {
            let wrong = |number| match two {
                Traffic::Icmp(_) => family(number) == Family::Ipv6,
                Traffic::Icmpv6(_) => family(number) == Family::Ipv4,
                Traffic::Other(_) => traffic_is_refused(two, family(number)),
                _ => false,
            };
            let bad = matches!(&peer, Peer::PrefixList(id)
            if (0..LISTS).any(|number| *id == list_id(number) && wrong(number)));
            if bad { None } else { RuleSpec::new(one, two, peer).ok() }
        },
    )
}

fn traffic_is_refused(traffic: Traffic, family: Family) -> bool {
    traffic.check_family(family, String::new).is_err()
}

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 ._:/()#,@+=&;{}!$*-]{0,12}|\\[\\]"
}

fn tags() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map("[a-z]{1,4}", "\\PC{0,6}", 0..3)
}

/// A model with every group and list that a document may name.
fn model() -> impl Strategy<Value = Model> {
    let rules = prop::collection::btree_map(spec(), text(), 0..12);
    let groups = prop::collection::vec((rules, tags()), usize::from(GROUPS));
    let entries = prop::collection::vec((ipv4(), ipv6(), text()), 0..4);
    let lists = prop::collection::vec((entries, tags(), 1u64..9), usize::from(LISTS));
    (groups, lists).prop_map(|(groups, lists)| {
        let mut model = Model::default();
        for (number, (entries, tags, version)) in (0..LISTS).zip(lists) {
            let entries = entries.into_iter().map(|(v4, v6, text)| match family(number) {
                Family::Ipv4 => (IpNet::V4(v4), text),
                Family::Ipv6 => (IpNet::V6(v6), text),
            });
            model.make(Change::CreatePrefixList(PrefixList {
                id: list_id(number),
                name: format!("list {number}"),
                family: family(number),
                version,
                entries: entries.collect(),
                tags,
            }));
        }
        let mut last = 0;
        for (number, (rules, tags)) in (0..GROUPS).zip(groups) {
            let rules = rules.into_iter().map(|(spec, description)| {
                last += 1;
                let id: RuleId = format!("sgr-{last:017x}").parse().unwrap();
                Rule { id, number: last, spec, description }
            });
            model.make(Change::CreateGroup(Group {
                id: group_id(number),
                name: format!("group {number}"),
                description: "d".to_owned(),
                rules: rules.collect(),
                tags,
            }));
        }
        model
    })
}

/// The parts of a group that a document has.
fn document_parts(group: &Group) -> (&str, &BTreeMap<String, String>, BTreeMap<&RuleSpec, &str>) {
    let rules = group.rules.iter().map(|rule| (&rule.spec, rule.description.as_str()));
    (&group.name, &group.tags, rules.collect())
}

fn export<'a>(model: &'a Model, groups: impl Iterator<Item = &'a Group>) -> Document {
    let lists = document::prefix_lists(model.prefix_lists.values());
    Document { prefix_lists: lists.prefix_lists, ..document::groups(groups) }
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
        let document = export(&model, model.groups.values());
        let read = reread(&document);
        prop_assert_eq!(&read, &document);
        let copy = applied(&Model::default(), &read);
        prop_assert_eq!(&copy.prefix_lists, &model.prefix_lists);
        for (id, group) in &model.groups {
            prop_assert_eq!(document_parts(&copy.groups[id]), document_parts(group));
        }
        prop_assert_eq!(export(&copy, copy.groups.values()), document);
    }

    #[test]
    fn applying_a_document_changes_its_groups_and_no_others(
        here in model(), there in model(), number in 0..GROUPS,
    ) {
        let id = group_id(number);
        let document = reread(&export(&there, there.groups.get(&id).into_iter()));
        let after = applied(&here, &document);
        prop_assert_eq!(document_parts(&after.groups[&id]), document_parts(&there.groups[&id]));
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
    fn no_document_panics(text in "\\PC{0,60}", model in model(), cut: prop::sample::Index) {
        let _ = Document::parse(text.as_bytes());
        let mut bytes = Vec::new();
        export(&model, model.groups.values()).write(&mut bytes).unwrap();
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
