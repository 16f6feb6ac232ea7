//! An unconfirmed change, and the state before it.

use std::collections::BTreeSet;

use firewall_user::model::{Limits, Model};
use firewall_user::store::{Error, Pending, Store};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::edits::{edit, new_group, tcp_rule};

fn pending() -> Pending {
    Pending { what: "apply x".to_owned(), boot: "b".to_owned(), deadline: 7 }
}

fn numbers(model: &Model) -> BTreeSet<u32> {
    model.groups.values().flat_map(|group| &group.rules).map(|rule| rule.number).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_edit_can_be_rolled_back(
        first: Vec<(u8, u8)>,
        kept: Vec<(u8, u8)>,
    ) {
        let dir = TempDir::new().unwrap();
        let mut store = Store::open_with(dir.path(), Limits::default()).unwrap();
        let mut change = store.begin().unwrap();
        first.iter().for_each(|(kind, which)| edit(&mut change, *kind, *which));
        change.commit().unwrap();
        let before = store.model().unwrap();

        let mut change = store.begin().unwrap();
        change.copy_tables().unwrap();
        kept.iter().for_each(|(kind, which)| edit(&mut change, *kind, *which));
        prop_assume!(change.changed());
        change.pend(&pending()).unwrap();
        let after = change.model().clone();
        change.commit().unwrap();
        prop_assert_eq!(store.pending().unwrap(), Some(pending()));
        prop_assert_eq!(&store.model().unwrap(), &after);

        // Without a write, as a reader sees it after the deadline.
        let reader = Store::open_read_only(dir.path(), Limits::default()).unwrap();
        let without = |is_over| reader.model_without(|_| Ok::<_, Error>(is_over)).unwrap();
        prop_assert_eq!(&*without(true), &before);
        prop_assert_eq!(&*without(false), &after);
        store.end_pending(1).unwrap();
        prop_assert!(store.pending().unwrap().is_some_and(|it| it.deadline <= 1));

        store.restore_pending().unwrap();
        prop_assert_eq!(&store.model().unwrap(), &before);
        prop_assert_eq!(store.pending().unwrap(), None);

        // The number of a rule that the rollback deleted is not used for another rule.
        let mut change = store.begin().unwrap();
        let group = change.create_group(new_group("later")).unwrap();
        change.add_rules(&group, vec![tcp_rule(9)]).unwrap();
        let later = &numbers(change.model()) - &numbers(&before);
        prop_assert!(later.is_disjoint(&numbers(&after)));
        change.commit().unwrap();
    }
}

#[test]
fn a_change_without_edits_keeps_no_copy() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let mut change = store.begin().unwrap();
    change.copy_tables().unwrap();
    change.commit().unwrap();
    // Nor a transaction that only records addresses.
    let addresses = [(7, vec!["192.0.2.7/32".parse().unwrap()])].into();
    let mut change = store.begin().unwrap();
    change.copy_tables().unwrap();
    change.set_active_addresses(&addresses).unwrap();
    change.commit().unwrap();
    assert_eq!(store.begin().unwrap().active_addresses().unwrap(), addresses);
    let mut change = store.begin().unwrap();
    change.copy_tables().unwrap();
    change.create_group(new_group("web")).unwrap();
    change.pend(&pending()).unwrap();
    change.commit().unwrap();
    store.delete_pending().unwrap();
    assert_eq!(store.model().unwrap().groups.len(), 2);
}
