//! Network ACLs in the store.

use std::collections::BTreeMap;

use firewall_ebpf::abi::interface::Direction;
use firewall_user::model::{
    AclEntry, AclId, Action, Family, IcmpMatch, Interface, InterfaceId, Limits, Peer, PortRange,
    PrefixListId, Traffic, VpcId, parse_cidr,
};
use firewall_user::store::{Error, NewAcl, NewPrefixList, Store, Transaction};
use tempfile::TempDir;

use crate::edits::new_group;

fn new_acl(name: &str) -> NewAcl {
    NewAcl {
        vpc: VpcId::default_vpc(),
        name: name.to_owned(),
        tags: [("k".to_owned(), "v".to_owned())].into(),
    }
}

fn entry(action: Action, port: u16, peer: Peer) -> AclEntry {
    let traffic = Traffic::Tcp(PortRange { from: port, to: port });
    AclEntry { number: 0, action, traffic, peer, end: None }
}

fn network(text: &str) -> Peer {
    parse_cidr(text).unwrap().into()
}

/// One edit of an ACL that a number chooses; refusals are part of it.
pub(crate) fn edit(
    change: &mut Transaction<'_>,
    which: u8,
    list: Option<PrefixListId>,
) -> Result<(), Error> {
    let name = format!("a{}", which % 3);
    let id = change.model().acl(&name).map(|acl| acl.id.clone());
    let place = (Direction::ALL[usize::from(which % 2)], 1 + u16::from(which / 16 % 3));
    let peer = list.map_or_else(|| network("10.0.0.0/8"), Peer::PrefixList);
    match (which / 4 % 6, id) {
        (0, Err(_)) => change.create_acl(new_acl(&name)).map(drop),
        (1, Ok(id)) => change.delete_acl(&id),
        (2, Ok(id)) => change.tag_acl(&id, name, BTreeMap::new()),
        (3, Ok(id)) => change.replace_acl_entry(&id, place, entry(Action::Deny, 1, peer)),
        (4, Ok(id)) => change.remove_acl_entry(&id, place),
        (_, Ok(id)) => change.add_acl_entry(&id, place, entry(Action::Allow, 2, peer)),
        _ => Ok(()),
    }
}

/// A store with the limits, and an ACL in it.
fn with_acl(limits: Limits) -> (TempDir, Store, AclId) {
    let dir = TempDir::new().unwrap();
    let mut store = Store::open_with(dir.path(), limits).unwrap();
    let mut change = store.begin().unwrap();
    let id = change.create_acl(new_acl("web")).unwrap();
    change.commit().unwrap();
    (dir, store, id)
}

fn refusal<T>(result: Result<T, Error>) -> (String, String) {
    match result {
        Err(Error::Model(error)) => (error.code().to_owned(), error.to_string()),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was accepted"),
    }
}

const HTTP: (Direction, u16) = (Direction::Ingress, 100);

#[test]
fn a_new_store_has_the_default_acl_which_allows_everything() {
    let dir = TempDir::new().unwrap();
    let model = Store::open(dir.path()).unwrap().model().unwrap();
    let default = model.default_acl(&VpcId::default_vpc()).unwrap();
    assert_eq!((default.name.as_str(), model.acls.len()), ("default", 1));
    assert!(default.allows_everything());
    assert!(default.association().is_none());
}

#[test]
fn a_new_acl_denies_everything_by_its_last_entries() {
    let (_dir, store, id) = with_acl(Limits::default());
    let acl = &store.model().unwrap().acls[&id];
    assert!(!acl.is_default && !acl.allows_everything());
    for direction in Direction::ALL {
        let entries: Vec<_> = acl.entries_of(direction).collect();
        assert_eq!(entries.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [32_767, 32_768]);
        assert!(entries.iter().all(|(_, entry)| entry.action == Action::Deny));
        assert!(entries.iter().all(|(_, entry)| entry.number > 0));
    }
}

#[test]
fn a_number_is_added_once_replaced_if_it_is_there_and_removed_once() {
    let (_dir, mut store, id) = with_acl(Limits::default());
    let mut change = store.begin().unwrap();
    let anywhere = network("0.0.0.0/0");
    let allow = entry(Action::Allow, 80, anywhere.clone());
    assert_eq!(
        refusal(change.replace_acl_entry(&id, HTTP, allow.clone())),
        (
            "InvalidNetworkAclEntry.NotFound".to_owned(),
            "network ACL web has no ingress entry 100".to_owned()
        )
    );
    change.add_acl_entry(&id, HTTP, allow.clone()).unwrap();
    assert_eq!(
        refusal(change.add_acl_entry(&id, HTTP, entry(Action::Deny, 81, anywhere.clone()))),
        (
            "NetworkAclEntryAlreadyExists".to_owned(),
            "network ACL web has an ingress entry 100 already: allow tcp 80 from 0.0.0.0/0"
                .to_owned()
        )
    );
    // The other direction has numbers of its own.
    change.add_acl_entry(&id, (Direction::Egress, 100), allow.clone()).unwrap();
    let counter = change.model().acls[&id].entry(HTTP.0, HTTP.1).unwrap().number;
    change.replace_acl_entry(&id, HTTP, allow).unwrap();
    assert_eq!(change.model().acls[&id].entry(HTTP.0, HTTP.1).unwrap().number, counter);
    change.replace_acl_entry(&id, HTTP, entry(Action::Deny, 80, anywhere)).unwrap();
    let replaced = change.model().acls[&id].entry(HTTP.0, HTTP.1).unwrap();
    assert_eq!(replaced.action, Action::Deny);
    assert!(replaced.number > counter, "another entry has another counter");
    change.remove_acl_entry(&id, HTTP).unwrap();
    let (code, _) = refusal(change.remove_acl_entry(&id, HTTP));
    assert_eq!(code, "InvalidNetworkAclEntry.NotFound");
    let model = change.model().clone();
    change.commit().unwrap();
    assert_eq!(store.model().unwrap(), model);
}

#[test]
fn the_last_entries_cannot_be_changed() {
    let (_dir, mut store, id) = with_acl(Limits::default());
    let mut change = store.begin().unwrap();
    for number in [32_767, 32_768] {
        let place = (Direction::Egress, number);
        let allow = entry(Action::Allow, 80, network("0.0.0.0/0"));
        for result in [
            change.add_acl_entry(&id, place, allow.clone()),
            change.replace_acl_entry(&id, place, allow),
            change.remove_acl_entry(&id, place),
        ] {
            let (code, message) = refusal(result);
            assert_eq!(code, "InvalidParameterValue");
            assert!(message.contains("cannot be changed"), "{message}");
        }
    }
}

#[test]
fn an_entry_that_matches_nothing_or_names_what_is_not_there_is_refused() {
    let (_dir, mut store, id) = with_acl(Limits::default());
    let mut change = store.begin().unwrap();
    let group = change.create_group(new_group("web")).unwrap();
    let list = change
        .create_prefix_list(NewPrefixList {
            name: "six".to_owned(),
            family: Family::Ipv6,
            entries: Default::default(),
            max_entries: None,
            tags: BTreeMap::new(),
        })
        .unwrap();
    let ping =
        |peer| AclEntry { traffic: Traffic::Icmp(IcmpMatch::Any), ..entry(Action::Deny, 1, peer) };
    for (entry, message) in [
        (ping(network("::/0")), "icmp does not exist in IPv6, and ::/0 is IPv6"),
        (ping(Peer::PrefixList(list)), "icmp does not exist in IPv6, and prefix list six is IPv6"),
        (
            ping(Peer::PrefixList("pl-00000001".parse().unwrap())),
            "there is no prefix list \"pl-00000001\"",
        ),
        (ping(Peer::Group(group)), "group web cannot be the peer of an entry of a network ACL"),
    ] {
        assert_eq!(refusal(change.add_acl_entry(&id, HTTP, entry)).1, message);
    }
}

#[test]
fn the_quotas_are_ec2s_and_count_each_direction_alone() {
    let limits = Limits { acls: 3, entries_per_acl: 2, ..Limits::default() };
    let (_dir, mut store, id) = with_acl(limits);
    let mut change = store.begin().unwrap();
    change.create_acl(new_acl("two")).unwrap();
    assert_eq!(
        refusal(change.create_acl(new_acl("three"))),
        (
            "NetworkAclLimitExceeded".to_owned(),
            "there would be 4 network ACLs, and the limit is 3".to_owned()
        )
    );
    let allow = entry(Action::Allow, 80, network("0.0.0.0/0"));
    for direction in Direction::ALL {
        for number in [1, 32_766] {
            change.add_acl_entry(&id, (direction, number), allow.clone()).unwrap();
        }
        assert_eq!(
            refusal(change.add_acl_entry(&id, (direction, 2), allow.clone())),
            (
                "NetworkAclEntryLimitExceeded".to_owned(),
                format!(
                    "network ACL web would have 3 {} entries, and the limit is 2",
                    direction.name()
                )
            )
        );
    }
}

#[test]
fn an_acl_in_use_and_the_default_one_stay() {
    let (_dir, mut store, id) = with_acl(Limits::default());
    let mut change = store.begin().unwrap();
    let group = change.create_group(new_group("web")).unwrap();
    let mut interface = Interface::new(InterfaceId::random().unwrap(), 0, "eth0", Some("blue"));
    interface.groups = vec![group];
    interface.acl = Some("acl-00000001".parse().unwrap());
    let (code, _) = refusal(change.put_interface(&interface));
    assert_eq!(code, "InvalidNetworkAclID.NotFound");
    interface.acl = Some(id.clone());
    change.put_interface(&interface).unwrap();
    assert_eq!(
        refusal(change.delete_acl(&id)),
        (
            "DependencyViolation".to_owned(),
            "network ACL web is used by interface eth0 in namespace blue".to_owned()
        )
    );
    let default = change.model().default_acl(&VpcId::default_vpc()).unwrap().id.clone();
    assert_eq!(
        refusal(change.delete_acl(&default)).1,
        "network ACL default is the default one, and cannot be deleted"
    );
    assert_eq!(
        refusal(change.tag_acl(&default, "other".to_owned(), BTreeMap::new())).1,
        "network ACL default is the default one, and cannot be renamed"
    );
    interface.acl = None;
    change.put_interface(&interface).unwrap();
    change.delete_acl(&id).unwrap();
    let model = change.model().clone();
    change.commit().unwrap();
    assert_eq!(store.model().unwrap(), model);
}

#[test]
fn a_name_is_changed_with_the_tags() {
    let (_dir, mut store, id) = with_acl(Limits::default());
    let mut change = store.begin().unwrap();
    let (code, message) = refusal(change.create_acl(new_acl("WEB")));
    assert_eq!(code, "InvalidParameterValue");
    assert_eq!(message, format!("network ACL web exists already: {id}"));
    change.tag_acl(&id, "Web".to_owned(), BTreeMap::new()).unwrap();
    let model = change.model().clone();
    change.commit().unwrap();
    assert_eq!(
        (model.acl("weB").unwrap().name.as_str(), &model.acls[&id].tags),
        ("Web", &BTreeMap::new())
    );
    assert_eq!(store.model().unwrap(), model);
}

#[test]
fn a_prefix_list_that_an_entry_names_is_in_use() {
    let (_dir, mut store, id) = with_acl(Limits::default());
    let mut change = store.begin().unwrap();
    let list = change
        .create_prefix_list(NewPrefixList {
            name: "bad".to_owned(),
            family: Family::Ipv4,
            entries: FromIterator::from_iter([(
                parse_cidr("192.0.2.0/24").unwrap(),
                String::new(),
            )]),
            max_entries: None,
            tags: BTreeMap::new(),
        })
        .unwrap();
    let deny = entry(Action::Deny, 22, Peer::PrefixList(list.clone()));
    change.add_acl_entry(&id, (Direction::Egress, 7), deny.clone()).unwrap();
    change.add_acl_entry(&id, HTTP, deny).unwrap();
    let error = change.delete_prefix_list(&list).unwrap_err();
    assert_eq!(
        error.to_string(),
        "prefix list bad is used by network ACL web (ingress 100, egress 7)"
    );
    let Error::Model(error) = error else { panic!("{error}") };
    assert_eq!(
        error.hint().unwrap(),
        "first: secgroup acl entry remove web ingress 100; secgroup acl entry remove web egress 7"
    );
    assert_eq!(error.code(), "DependencyViolation");
}
