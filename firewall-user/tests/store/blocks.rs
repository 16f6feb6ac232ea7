//! Blocks: what is refused, what replaces an earlier one, and what is read again.

use std::collections::BTreeMap;
use std::time::Duration;

use firewall_user::model::{
    End, Family, GroupId, InterfaceId, NewBlock, Peer, PrefixListId, parse_cidr, parse_target,
};
use firewall_user::store::{Blocked, Error, NewPrefixList, Store, Transaction};
use tempfile::TempDir;

use crate::edits::{interface, new_group};

/// Makes or removes a block, which a number chooses.
pub(crate) fn edit(
    change: &mut Transaction<'_>,
    which: u8,
    list: Option<PrefixListId>,
) -> Result<(), Error> {
    if which.is_multiple_of(5) {
        let number = change.model().blocks.keys().next().copied();
        return number.map_or(Ok(()), |number| change.remove_block(number));
    }
    let interface = change.model().interfaces.values().next().map(|one| one.id.clone());
    let end = End::after(Duration::from_secs(60), change.now()).unwrap();
    let network = Peer::from(parse_target(&format!("10.0.{}.0/24", which / 4 % 8)).unwrap());
    let new = NewBlock {
        target: list.filter(|_| which.is_multiple_of(3)).map_or(network, Peer::PrefixList),
        interface: interface.filter(|_| which.is_multiple_of(2)),
        reason: which.is_multiple_of(7).then(|| "seven".to_owned()),
        end: Some(end).filter(|_| which.is_multiple_of(4)),
        created: which.into(),
    };
    change.add_block(new).map(drop)
}

fn block(target: &str) -> NewBlock {
    NewBlock {
        target: Peer::from(parse_target(target).unwrap()),
        interface: None,
        reason: None,
        end: None,
        created: 1_000,
    }
}

#[test]
fn a_block_is_read_as_it_was_made_and_removed_by_its_number() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let mut change = store.begin().unwrap();
    let reason = Some("scans".to_owned());
    let made = change.add_block(NewBlock { reason, ..block("192.0.2.7") }).unwrap();
    let Blocked::New(number) = made else { panic!("{made:?}") };
    assert!(number > 0);
    change.add_block(block("2001:db8::/32")).unwrap();
    let model = change.model().clone();
    change.commit().unwrap();
    assert_eq!(Store::open(dir.path()).unwrap().model().unwrap(), model);
    assert_eq!(model.blocks[&number].reason, "scans");

    let mut change = store.begin().unwrap();
    change.remove_block(number).unwrap();
    let again = change.remove_block(number).unwrap_err();
    assert_eq!(again.to_string(), format!("{number} is not blocked"));
    // Its number is not used again.
    assert!(matches!(change.add_block(block("192.0.2.7")).unwrap(), Blocked::New(n) if n > number));
}

#[test]
fn a_second_block_of_a_target_replaces_end_and_reason_and_keeps_the_number() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let mut change = store.begin().unwrap();
    let reason = |text: &str| Some(text.to_owned());
    let first = NewBlock { reason: reason("one"), ..block("192.0.2.7") };
    let Blocked::New(number) = change.add_block(first.clone()).unwrap() else { panic!() };
    assert_eq!(change.add_block(first).unwrap(), Blocked::Same(number));
    assert_eq!(change.add_block(block("192.0.2.7")).unwrap(), Blocked::Same(number));
    let second = NewBlock { reason: reason("two"), created: 2_000, ..block("192.0.2.7") };
    assert_eq!(change.add_block(second).unwrap(), Blocked::Changed(number));
    let model = change.model().clone();
    change.commit().unwrap();
    let stored = Store::open(dir.path()).unwrap().model().unwrap();
    assert_eq!(stored, model);
    let here = &stored.blocks[&number];
    assert_eq!((here.reason.as_str(), here.created), ("two", 1_000));
}

#[test]
fn what_a_block_refers_to_exists_and_stays() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let mut change = store.begin().unwrap();
    let group = change.create_group(new_group("web")).unwrap();
    let list = change
        .create_prefix_list(NewPrefixList {
            name: "bad".to_owned(),
            family: Family::Ipv4,
            entries: FromIterator::from_iter([(parse_cidr("10.0.0.0/8").unwrap(), String::new())]),
            max_entries: None,
            tags: BTreeMap::new(),
        })
        .unwrap();
    let attached = interface(0, "eth0", vec![group]);
    change.put_interface(&attached).unwrap();
    let of = |target| NewBlock { target, ..block("192.0.2.7") };
    let on = |id| NewBlock { interface: Some(id), ..block("192.0.2.7") };
    let refused = [
        of(Peer::Group(GroupId::random().unwrap())),
        of(Peer::PrefixList(PrefixListId::random().unwrap())),
        on(InterfaceId::random().unwrap()),
    ];
    for new in refused {
        change.add_block(new).unwrap_err();
    }
    change.add_block(of(Peer::PrefixList(list.clone()))).unwrap();
    // Of one interface and of all: two blocks, of which the one goes with the interface.
    change.add_block(on(attached.id)).unwrap();
    change.add_block(block("192.0.2.7")).unwrap();
    let error = change.delete_prefix_list(&list).unwrap_err();
    assert_eq!(error.to_string(), "prefix list bad is used by a block");
    assert_eq!(change.model().blocks.len(), 3);
    change.delete_interface(0).unwrap();
    assert_eq!(change.model().blocks.len(), 2);
    let model = change.model().clone();
    change.commit().unwrap();
    assert_eq!(Store::open(dir.path()).unwrap().model().unwrap(), model);
}
