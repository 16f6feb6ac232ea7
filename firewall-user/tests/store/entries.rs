//! The entries of prefix lists.

use std::path::Path;

use firewall_user::model::{Entries, Family, Limits, ListState, Networks, PrefixListId};
use firewall_user::store::{Error, FILE, NewPrefixList, Pending, Store};
use ipnet::{IpNet, Ipv4Net};
use rusqlite::Connection;
use tempfile::TempDir;

const LIMITS: fn() -> Limits =
    || Limits { entries_per_prefix_list: 1_000_000, ..Limits::default() };

fn addresses(numbers: std::ops::Range<u32>) -> Entries {
    let networks = numbers.map(|number| IpNet::V4(Ipv4Net::from(std::net::Ipv4Addr::from(number))));
    Networks::from_iter(networks).into()
}

fn with_list(dir: &Path, entries: Entries) -> (Store, PrefixListId) {
    let mut store = Store::open_with(dir, LIMITS()).unwrap();
    let mut change = store.begin().unwrap();
    let new = NewPrefixList {
        name: "l".into(),
        family: Family::Ipv4,
        entries,
        max_entries: None,
        tags: Default::default(),
    };
    let id = change.create_prefix_list(new).unwrap();
    change.commit().unwrap();
    (store, id)
}

fn entries(store: &Store, id: &PrefixListId) -> Entries {
    store.model().unwrap().prefix_lists[id].entries.clone()
}

fn sets(dir: &Path) -> u32 {
    let sql = Connection::open(dir.join(FILE)).unwrap();
    sql.query_row("SELECT count(*) FROM prefix_list_entries", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_list_of_thousands_is_replaced_as_one_value() {
    let dir = TempDir::new().unwrap();
    let (mut store, id) = with_list(dir.path(), addresses(0..5000));
    assert_eq!(entries(&store, &id), addresses(0..5000));
    assert_eq!(sets(dir.path()), 1);
    for (replaced, left) in [(addresses(7..6000), 2), (Entries::default(), 2), (addresses(1..2), 3)]
    {
        let mut change = store.begin().unwrap();
        change.set_entries(&id, replaced.clone()).unwrap();
        change.commit().unwrap();
        assert_eq!(entries(&store, &id), replaced);
        assert_eq!(sets(dir.path()), left, "those of every version that has any");
    }
    assert_eq!(store.model().unwrap().prefix_lists[&id].version, 4);
    let mut change = store.begin().unwrap();
    change.delete_prefix_list(&id).unwrap();
    change.commit().unwrap();
    assert_eq!(sets(dir.path()), 0);
}

#[test]
fn earlier_entries_stay_until_the_change_is_confirmed() {
    for is_confirmed in [true, false] {
        let dir = TempDir::new().unwrap();
        let (mut store, id) = with_list(dir.path(), addresses(0..5000));
        let mut change = store.begin().unwrap();
        change.copy_tables().unwrap();
        change.set_entries(&id, addresses(1..4)).unwrap();
        change.set_entries(&id, addresses(2..5)).unwrap();
        change.pend(&Pending { what: "x".into(), boot: "b".into(), deadline: 7 }).unwrap();
        change.commit().unwrap();
        assert_eq!(sets(dir.path()), 3, "those before, those between and those now");
        let reader = Store::open_read_only(dir.path(), LIMITS()).unwrap();
        let before = reader.model_without(|_| Ok::<_, Error>(true)).unwrap();
        assert_eq!(before.prefix_lists[&id].entries, addresses(0..5000));
        assert_eq!(entries(&reader, &id), addresses(2..5));
        let (kept, left) = if is_confirmed {
            store.delete_pending().unwrap();
            (addresses(2..5), 3)
        } else {
            store.restore_pending().unwrap();
            (addresses(0..5000), 1)
        };
        assert_eq!(entries(&store, &id), kept);
        assert_eq!(sets(dir.path()), left);
    }
}

/// A rollback must be possible on a full disk: it writes the names of the lists, not their entries.
#[test]
fn a_rollback_does_not_write_entries() {
    let dir = TempDir::new().unwrap();
    let (mut store, id) = with_list(dir.path(), addresses(0..10_000));
    let mut change = store.begin().unwrap();
    change.copy_tables().unwrap();
    change.set_entries(&id, addresses(0..9999)).unwrap();
    change.pend(&Pending { what: "x".into(), boot: "b".into(), deadline: 7 }).unwrap();
    change.commit().unwrap();
    let sql = Connection::open(dir.path().join(FILE)).unwrap();
    // No page more than there are.
    let pages: i64 = sql.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    drop(store);
    let mut store = Store::open_with(dir.path(), LIMITS()).unwrap();
    store.restore_pending().unwrap();
    let after: i64 = sql.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    assert!(after <= pages, "{after} pages, {pages} before");
    assert_eq!(entries(&store, &id), addresses(0..10_000));
}

#[test]
fn damaged_entries_are_an_error_that_names_their_list() {
    for damage in [
        "UPDATE prefix_list_entries SET networks = substr(networks, 2)",
        "UPDATE prefix_list_entries SET networks = x''",
        "UPDATE prefix_list_entries SET networks = CAST(networks || x'0100000021' AS BLOB)",
        "UPDATE prefix_list_entries SET networks = CAST(networks || networks AS BLOB)",
        "UPDATE prefix_list_entries SET descriptions = x'00'",
        "UPDATE prefix_list_entries SET descriptions = x'ffffffff0000000141'",
        "PRAGMA foreign_keys = 0; DELETE FROM prefix_list_entries",
        "UPDATE prefix_lists SET family = 'ipv6'",
    ] {
        let dir = TempDir::new().unwrap();
        drop(with_list(dir.path(), addresses(1..3)));
        Connection::open(dir.path().join(FILE)).unwrap().execute_batch(damage).unwrap();
        // Another process: one that has read the model reads it again only after a change.
        let store = Store::open_with(dir.path(), LIMITS()).unwrap();
        let error = store.model().unwrap_err().to_string();
        assert!(error.contains(" is damaged: "), "{damage}: {error}");
        assert!(error.ends_with("the entries of prefix list l"), "{damage}: {error}");
    }
}

#[test]
fn earlier_versions_are_kept_up_to_ec2s_number_of_them() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::open_with(dir.path(), LIMITS()).unwrap();
    let one = |number: u32| -> Entries {
        let network = IpNet::new(std::net::Ipv4Addr::from(number).into(), 32).unwrap();
        [(network, String::new())].into_iter().collect()
    };
    let mut change = store.begin().unwrap();
    let (name, family) = ("l".to_owned(), Family::Ipv4);
    let (entries, tags) = (one(1), Default::default());
    let new = NewPrefixList { name, family, entries, max_entries: None, tags };
    let id = change.create_prefix_list(new).unwrap();
    for version in 2..=1002 {
        change.set_entries(&id, one(version)).unwrap();
    }
    change.commit().unwrap();
    let list = store.model().unwrap().prefix_lists[&id].clone();
    assert_eq!(list.version, 1002);
    let version = |store: &Store, number| store.prefix_list_version(&list, number).unwrap();
    // With the present one they are 1,000.
    assert_eq!(version(&store, 2), None);
    assert_eq!(version(&store, 3), Some(one(3)));
    assert_eq!(version(&store, 1001), Some(one(1001)));
    assert_eq!(version(&store, 1002), None);

    // A large one leaves no room for those before it.
    let large = |count: u32| -> Entries {
        let address = |n: u32| std::net::Ipv4Addr::from(n << 8).into();
        let network = |n| (IpNet::new(address(n), 24).unwrap(), String::new());
        (0..count).map(network).collect()
    };
    let mut change = store.begin().unwrap();
    change.set_entries(&id, large(600_000)).unwrap();
    change.set_entries(&id, large(500_000)).unwrap();
    change.set_entries(&id, one(1)).unwrap();
    change.commit().unwrap();
    assert_eq!(version(&store, 1003), None);
    assert_eq!(version(&store, 1004).map(|entries| entries.len()), Some(500_000));

    let mut change = store.begin().unwrap();
    change.copy_tables().unwrap();
    change.restore_prefix_list(&id, 1004).unwrap();
    assert_eq!(change.model().prefix_lists[&id].state, ListState::Restored);
    let what = "x".to_owned();
    change.pend(&Pending { what, boot: "b".to_owned(), deadline: 7 }).unwrap();
    change.commit().unwrap();
    assert_eq!(store.model().unwrap().prefix_lists[&id].entries.len(), 500_000);
    assert_eq!(version(&store, 1005), Some(one(1)));
    store.restore_pending().unwrap();
    assert_eq!(store.model().unwrap().prefix_lists[&id].entries, one(1));
    assert_eq!(version(&store, 1004).map(|entries| entries.len()), Some(500_000));
    assert_eq!(version(&store, 1005), None);
}
