//! What is read equals what was written, and the model in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use firewall_ebpf::abi::interface::{Direction, Orientation, TcpChecks};
use firewall_ebpf::abi::policy::MAX_RULE;
use firewall_ebpf::abi::state::State;
use firewall_user::model::{
    Acl, Attachment, AttachmentId, End, Family, Group, GroupId, HookChoice, Interface,
    InterfaceDetails, InterfaceId, Limits, MacAddress, Networks, NewRule, PortRange, PortSettings,
    RuleSpec, Tracking, Traffic, VpcId, parse_cidr, parse_own,
};
use firewall_user::model::{Peer, SubnetId};
use firewall_user::store::{NewGroup, NewPrefixList, Store, Transaction};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::{acls, blocks, staged};

pub(crate) fn new_group(name: &str) -> NewGroup {
    NewGroup {
        vpc: VpcId::default_vpc(),
        name: name.to_owned(),
        description: "d".to_owned(),
        tags: BTreeMap::new(),
        rules: Group::default_rules(&Family::ALL),
    }
}

pub(crate) fn tcp_rule(port: u16) -> NewRule {
    let traffic = Traffic::Tcp(PortRange { from: port, to: port });
    let peer = Peer::from(parse_cidr("10.0.0.0/8").unwrap());
    let spec = RuleSpec::new(Direction::Ingress, traffic, peer).unwrap();
    NewRule { spec, description: format!("port {port}"), end: None }
}

pub(crate) fn interface(slot: u16, device: &str, groups: Vec<GroupId>) -> Interface {
    Interface {
        subnet: SubnetId::default_subnet(),
        id: InterfaceId::random().unwrap(),
        slot,
        device: device.to_owned(),
        netns: (slot % 2 == 1).then(|| "vm".to_owned()),
        groups,
        acl: None,
        hook: HookChoice::ALL[usize::from(slot) % 4],
        orientation: if slot.is_multiple_of(3) { Orientation::Guest } else { Orientation::Host },
        non_ip: Default::default(),
        ether_types: ["ptp", "0x9000"].map(|one| one.parse().unwrap()).into(),
        tcp: TcpChecks::ALL[usize::from(slot) % 2],
        tcp_loose: slot.is_multiple_of(3),
        tracking: Tracking::ALL[usize::from(slot) / 2 % 2],
        mode: Default::default(),
        revalidate: false,
        max_flows: Some(1024),
        max_flows_per_source: Some(3),
        timeouts: [(State::Established, 350 + u32::from(slot)), (State::Udp, 1)].into(),
        addresses: vec![parse_own("fd00::1").unwrap(), parse_own("10.0.0.0/24").unwrap()],
        port: PortSettings {
            source_dest_check: slot.is_multiple_of(2),
            router: slot.is_multiple_of(3),
            mac: slot.is_multiple_of(4).then_some(MacAddress([2, 0, 0, 0, 0, 1])),
            allowed: vec![parse_own("fd01::/64").unwrap(), parse_own("10.9.9.9").unwrap()],
        },
        details: InterfaceDetails {
            description: format!("of {device}"),
            attachment: Some(Attachment {
                id: AttachmentId::random().unwrap(),
                index: slot.into(),
                time: 1_700_000_000_000,
                delete_on_termination: slot.is_multiple_of(2),
            }),
            chosen: "172.31.0.4".parse().ok(),
        },
        tags: [("k".to_owned(), "v".to_owned())].into(),
    }
}

/// Makes one edit, of a kind and on things that two numbers choose; refusals are part of it.
pub(crate) fn edit(change: &mut Transaction<'_>, kind: u8, which: u8) {
    let name = format!("g{}", which % 4);
    let group = change.model().group(&name).map(|group| group.id.clone());
    let other = change.model().group(&format!("g{}", which / 4 % 4)).map(|group| group.id.clone());
    let list = change.model().prefix_list(&format!("l{}", which % 3)).map(|list| list.id.clone());
    let network = parse_cidr(&format!("10.{}.0.0/16", which / 3 % 5)).unwrap();
    let _ = match (kind % 18, group, other, list) {
        (16 | 17, Ok(group), other, list) => {
            staged::edit(change, which, (group, other.ok(), list.ok()))
        }
        (14, _, _, list) => acls::edit(change, which, list.ok()),
        (15, _, _, list) => blocks::edit(change, which, list.ok()),
        (0 | 1, ..) => change.create_group(new_group(&name)).map(drop),
        (2, Ok(group), ..) => change.delete_group(&group),
        (3 | 4, Ok(group), ..) => change.add_rules(&group, vec![tcp_rule(which.into())]).map(drop),
        (5, Ok(group), Ok(other), _) => {
            let mut rule = tcp_rule(1);
            rule.spec.peer = Peer::Group(other);
            change.add_rules(&group, vec![rule]).map(drop)
        }
        (6, Ok(group), _, Ok(list)) => {
            let mut rule = tcp_rule(2);
            rule.spec.peer = Peer::PrefixList(list);
            change.add_rules(&group, vec![rule]).map(drop)
        }
        (7, Ok(group), ..) => {
            let rules = &change.model().groups[&group].rules;
            let Some(rule) = rules.get(usize::from(which / 4) % rules.len().max(1)).cloned() else {
                return;
            };
            if which.is_multiple_of(3) {
                let end = End::after(Duration::from_secs(3600), change.now()).unwrap();
                let end = Some(end).filter(|_| which.is_multiple_of(2));
                change.set_rule_end(&group, &rule.id, end)
            } else if which.is_multiple_of(2) {
                change.remove_rules(&group, &[rule.id])
            } else {
                change.describe_rule(&group, &rule.id, format!("was {}", rule.description))
            }
        }
        (8, ..) => change
            .create_prefix_list(NewPrefixList {
                name: format!("l{}", which % 3),
                family: Family::Ipv4,
                entries: [(network, "e".to_owned())].into_iter().collect(),
                max_entries: None,
                tags: [("k".to_owned(), "v".to_owned())].into(),
            })
            .map(drop),
        (9, _, _, Ok(list)) => change.add_entries(&list, &Networks::from(network).into()),
        (10, _, _, Ok(list)) => change.remove_entries(&list, &network.into()),
        (11, _, _, Ok(list)) => change.delete_prefix_list(&list),
        (12, Ok(group), Ok(other), _) => {
            let slot = change.free_slot(5).unwrap_or(0);
            let mut groups = vec![group];
            groups.extend((groups[0] != other).then_some(other));
            let acl = change.model().acl(&format!("a{}", which % 3)).ok();
            let acl = acl.and_then(Acl::association);
            let interface = interface(slot, &format!("d{}", which % 6), groups);
            change.put_interface(&Interface { acl, ..interface })
        }
        (13, Ok(group), ..) if which.is_multiple_of(2) => {
            change.tag_group(&group, [("t".to_owned(), which.to_string())].into())
        }
        (13, ..) => change.delete_interface(u16::from(which % 5)),
        _ => Ok(()),
    };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_read_is_what_was_written(
        edits in proptest::collection::vec((any::<u8>(), any::<u8>(), 0u8..8), 1..120)
    ) {
        let dir = TempDir::new().unwrap();
        let limits = Limits { rules_per_group: 8, ..Limits::default() };
        let mut store = Store::open_with(dir.path(), limits).unwrap();
        let (mut numbers, mut entries) = (BTreeSet::new(), BTreeSet::new());
        let mut kept = store.model().unwrap();
        for chunk in edits.chunks(4) {
            let mut change = store.begin().unwrap();
            prop_assert_eq!(change.model(), &kept);
            for (kind, which, _) in chunk {
                edit(&mut change, *kind, *which);
            }
            let model = change.model().clone();
            let (before, changed) = (change.generation(), change.changed());
            // Sometimes the change is dropped.
            if chunk[0].2 == 0 {
                drop(change);
            } else {
                prop_assert_eq!(change.commit().unwrap(), before + u64::from(changed));
                for rule in model.groups.values().flat_map(|group| &group.rules) {
                    numbers.insert((rule.number, rule.id.clone()));
                }
                let acls = model.acls.values();
                entries.extend(acls.flat_map(|acl| acl.entries.values()).map(|one| one.number));
                kept = model;
            }
            prop_assert_eq!(&store.model().unwrap(), &kept);
        }
        // No number ever stood for two rules, and each is still known by it.
        let distinct: BTreeSet<_> = numbers.iter().map(|(number, _)| *number).collect();
        prop_assert_eq!(distinct.len(), numbers.len());
        prop_assert!(distinct.is_disjoint(&entries));
        for (number, rule) in numbers {
            prop_assert_eq!(store.rule_by_number(number).unwrap().unwrap().rule, rule);
        }
    }
}

#[test]
fn a_removed_rule_is_still_known_by_its_number() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let mut change = store.begin().unwrap();
    let group = change.create_group(new_group("web")).unwrap();
    let rules = change.add_rules(&group, vec![tcp_rule(80), tcp_rule(81)]).unwrap();
    change.commit().unwrap();
    let mut change = store.begin().unwrap();
    change.delete_group(&group).unwrap();
    change.commit().unwrap();
    drop(store);

    let mut store = Store::open(dir.path()).unwrap();
    // The first numbers are those of the default ACL's entries and the default group's rules.
    let name = store.rule_by_number(14).unwrap().unwrap();
    assert_eq!((name.rule, name.group, name.group_name), (rules[1].clone(), group, "web".into()));
    assert_eq!(store.rule_by_number(15).unwrap(), None);
    assert_eq!(store.rule_by_number(8).unwrap(), None, "an entry of an ACL is no rule");
    assert_eq!(store.rule_by_number(0).unwrap(), None);
    // The highest number is free, and is not given again.
    let mut change = store.begin().unwrap();
    let group = change.create_group(new_group("web")).unwrap();
    assert_eq!(change.model().groups[&group].rules[0].number, 15);
}

#[test]
fn rules_modified_in_place_keep_ids_and_numbers_and_may_exchange_what_they_allow() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let mut change = store.begin().unwrap();
    let group = change.create_group(new_group("web")).unwrap();
    let tags = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
    let new = vec![tcp_rule(80), tcp_rule(81), tcp_rule(82)];
    let ids = change.add_rules_as_in_ec2(&group, new, &tags).unwrap();
    change.commit().unwrap();
    let before = store.model().unwrap().groups[&group].clone();

    let mut change = store.begin().unwrap();
    let spec = |port| tcp_rule(port).spec;
    let to = |ports: [u16; 3]| -> Vec<_> {
        ids.iter().cloned().zip(ports.into_iter().map(spec)).collect()
    };
    change.modify_rules(&group, to([80, 81, 82])).unwrap();
    assert!(!change.changed(), "nothing differs");
    let error = change.modify_rules(&group, to([80, 81, 81])).unwrap_err();
    assert!(error.to_string().contains("given twice"), "{error}");
    let error = change.modify_rules(&group, to([80, 82, 82])[..2].to_vec()).unwrap_err();
    assert!(error.to_string().contains("has the rule already"), "{error}");
    change.modify_rules(&group, to([81, 82, 80])).unwrap();
    let in_memory = change.model().clone();
    change.commit().unwrap();
    assert_eq!(store.model().unwrap(), in_memory);
    drop(store);

    let after = Store::open(dir.path()).unwrap().model().unwrap();
    let after = &after.groups[&group];
    for (was, is) in before.rules.iter().zip(&after.rules) {
        assert_eq!((&was.id, was.number, &was.tags), (&is.id, is.number, &is.tags));
    }
    let specs: Vec<_> = after.rules.iter().skip(2).map(|rule| rule.spec.clone()).collect();
    assert_eq!(specs, [spec(81), spec(82), spec(80)]);
}

#[test]
fn rule_numbers_end_before_that_of_the_management_networks() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let mut change = store.begin().unwrap();
    let group = change.create_group(new_group("web")).unwrap();
    change.commit().unwrap();
    drop(store);
    let connection =
        rusqlite::Connection::open(dir.path().join(firewall_user::store::FILE)).unwrap();
    connection
        .execute("UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'rule_history'", [MAX_RULE - 2])
        .unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let mut change = store.begin().unwrap();
    change.add_rules(&group, vec![tcp_rule(1)]).unwrap();
    assert_eq!(change.model().groups[&group].rules.last().unwrap().number, MAX_RULE - 1);
    let error = change.add_rules(&group, vec![tcp_rule(2)]).unwrap_err();
    assert_eq!(error.to_string(), "all rule numbers have been used");
    assert!(change.commit().is_err(), "half an edit is not committed");
    assert_eq!(store.model().unwrap().groups[&group].rules.len(), 2);
}

#[test]
fn interfaces_are_held_to_the_limits() {
    let dir = TempDir::new().unwrap();
    let limits = Limits { groups_per_interface: 2, ..Limits::default() };
    let mut store = Store::open_with(dir.path(), limits).unwrap();
    let mut change = store.begin().unwrap();
    let ids: Vec<_> =
        ["a", "b", "c"].iter().map(|name| change.create_group(new_group(name)).unwrap()).collect();
    let mut put = |slot, device: &str, groups: &[GroupId]| {
        let result = change.put_interface(&interface(slot, device, groups.to_vec()));
        result.map_err(|error| error.to_string())
    };
    assert_eq!(put(0, "eth0", &[]).unwrap_err(), "an interface needs at least one group");
    assert_eq!(
        put(0, "eth0", &[ids[0].clone(), ids[0].clone()]).unwrap_err(),
        "group a is given twice"
    );
    assert_eq!(
        put(0, "eth0", &ids).unwrap_err(),
        "interface eth0 would have 3 groups, and the limit is 2"
    );
    put(0, "eth0", &ids[..2]).unwrap();
    put(0, "eth0", &ids[2..]).unwrap();
    // The same device in another namespace is another device.
    put(1, "eth0", &ids[..1]).unwrap();
    assert_eq!(
        put(2, "eth0", &ids[..1]).unwrap_err(),
        "device eth0 is attached already, in slot 0"
    );
    assert_eq!(change.free_slot(3).unwrap(), 2);
    assert_eq!(
        change.free_slot(2).unwrap_err().to_string(),
        "there would be 3 attached interfaces, and the limit is 2"
    );
    change.delete_interface(0).unwrap();
    assert_eq!(change.free_slot(2).unwrap(), 0);
    assert_eq!(
        change.delete_interface(0).unwrap_err().to_string(),
        "there is no attached interface \"0\""
    );
}
