//! A change that waits for its confirmation, and what was before it.

use std::collections::BTreeSet;

use firewall_user::model::{Limits, Model};
use firewall_user::store::{FILE, Pending, Store};
use proptest::prelude::*;
use rusqlite::Connection;
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
    fn whatever_was_edited_comes_back(
        first: Vec<(u8, u8)>,
        kept: Vec<(u8, u8)>,
        times in 1..3_usize,
    ) {
        let dir = TempDir::new().unwrap();
        let mut store = Store::open_with(dir.path(), Limits::default()).unwrap();
        let mut change = store.begin().unwrap();
        first.iter().for_each(|(kind, which)| edit(&mut change, *kind, *which));
        change.commit().unwrap();
        let before = store.model().unwrap();

        let mut change = store.begin().unwrap();
        change.keep().unwrap();
        kept.iter().for_each(|(kind, which)| edit(&mut change, *kind, *which));
        prop_assume!(change.changed());
        change.pend(&pending()).unwrap();
        let after = change.model().clone();
        change.commit().unwrap();
        prop_assert_eq!(store.pending().unwrap(), Some(pending()));
        prop_assert_eq!(&store.model().unwrap(), &after);

        // Also more than once: whoever took it back may have been killed before it could say so.
        for _ in 0..times {
            let mut change = store.begin().unwrap();
            change.restore().unwrap();
            prop_assert_eq!(change.model(), &before);
            change.commit().unwrap();
            prop_assert_eq!(&store.model().unwrap(), &before);
        }
        store.forget_pending().unwrap();
        prop_assert_eq!(store.pending().unwrap(), None);

        // A number of a rule that was taken back stands for no other rule.
        let mut change = store.begin().unwrap();
        let group = change.create_group(new_group("later")).unwrap();
        change.add_rules(&group, vec![tcp_rule(9)]).unwrap();
        let later = &numbers(change.model()) - &numbers(&before);
        prop_assert!(later.is_disjoint(&numbers(&after)));
        change.commit().unwrap();
    }
}

#[test]
fn a_change_of_nothing_keeps_nothing() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let mut change = store.begin().unwrap();
    change.keep().unwrap();
    change.commit().unwrap();
    // Nor one in which something is noted that is no edit.
    let addresses = [(7, vec!["192.0.2.7".parse().unwrap()])].into();
    let mut change = store.begin().unwrap();
    change.keep().unwrap();
    change.set_addresses_in_force(&addresses).unwrap();
    change.commit().unwrap();
    assert_eq!(store.begin().unwrap().addresses_in_force().unwrap(), addresses);
    // Else the copy would be in the way of this one.
    let mut change = store.begin().unwrap();
    change.keep().unwrap();
    change.create_group(new_group("web")).unwrap();
    change.pend(&pending()).unwrap();
    change.commit().unwrap();
    store.forget_pending().unwrap();
    assert_eq!(store.model().unwrap().groups.len(), 1);
}

#[test]
fn a_column_that_came_meanwhile_has_its_default() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let mut change = store.begin().unwrap();
    change.create_group(new_group("web")).unwrap();
    change.commit().unwrap();
    let mut change = store.begin().unwrap();
    change.keep().unwrap();
    change.create_group(new_group("db")).unwrap();
    change.pend(&pending()).unwrap();
    change.commit().unwrap();
    let sql = Connection::open(dir.path().join(FILE)).unwrap();
    sql.execute_batch("ALTER TABLE groups ADD COLUMN colour TEXT NOT NULL DEFAULT 'red'").unwrap();
    let mut change = store.begin().unwrap();
    change.restore().unwrap();
    change.commit().unwrap();
    let colours: Vec<String> = {
        let mut query = sql.prepare("SELECT colour FROM groups").unwrap();
        query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(colours, ["red"]);
}
