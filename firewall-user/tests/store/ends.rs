//! What ends by itself: stored, read in another boot and after the wall clock was set, and removed.

use std::path::Path;
use std::time::Duration;

use firewall_user::clock::Clocks;
use firewall_user::model::{End, EndKind, Moment, NewBlock, NewRule, Peer, parse_target};
use firewall_user::store::{EndedCounts, Store};
use tempfile::TempDir;

use crate::edits::{new_group, tcp_rule};

const SECOND: u64 = 1_000_000_000;
const WALL: i64 = 1_700_000_000_000;

fn at(dir: &Path, boot: &str, seconds: u64, wall: i64) -> Store {
    let moment = Moment { boottime: seconds * SECOND, wall };
    Store::open(dir).unwrap().at(Clocks { boot: Some(boot.to_owned()), moment })
}

/// A store with a rule that ends after an hour and a block that ends then by the wall clock, made 100 s after
/// boot `a`.
fn made() -> TempDir {
    let dir = TempDir::new().unwrap();
    let mut store = at(dir.path(), "a", 100, WALL);
    let mut change = store.begin().unwrap();
    change.remove_ended().unwrap();
    let now = change.now();
    let group = change.create_group(new_group("web")).unwrap();
    let end = Some(End::after(Duration::from_secs(3600), now).unwrap());
    change.add_rules(&group, vec![NewRule { end, ..tcp_rule(80) }, tcp_rule(81)]).unwrap();
    let block = NewBlock {
        target: Peer::from(parse_target("192.0.2.7").unwrap()),
        interface: None,
        reason: None,
        end: Some(End::at(WALL + 3_600_000, now).unwrap()),
        created: WALL,
    };
    change.add_block(block).unwrap();
    let model = change.model().clone();
    change.commit().unwrap();
    assert_eq!(at(dir.path(), "a", 100, WALL).model().unwrap(), model);
    dir
}

/// What is left of each, in seconds.
fn left(store: &Store, now: u64) -> Vec<(EndKind, u64)> {
    let ends = store.model().unwrap().next_ends();
    let left = ends.iter().map(|end| (end.kind, end.left(now * SECOND).unwrap_or(0) / SECOND));
    left.collect()
}

#[test]
fn ends_are_removed_once_they_are_over_and_counted() {
    let dir = made();
    let mut store = at(dir.path(), "a", 3_699, WALL + 3_599_000);
    let mut change = store.begin().unwrap();
    change.remove_ended().unwrap();
    assert!(change.ended().is_empty() && !change.changed());
    change.commit().unwrap();

    let mut store = at(dir.path(), "a", 3_700, WALL + 3_600_000);
    let mut change = store.begin().unwrap();
    change.remove_ended().unwrap();
    let texts: Vec<_> = change.ended().iter().map(|one| one.text.as_str()).collect();
    assert!(texts[0].starts_with("rule sgr-") && texts[0].ends_with(" of group web"), "{texts:?}");
    assert_eq!(texts[1], "the block of 192.0.2.7/32");
    assert!(change.changed() && !change.edited());
    assert_ne!(change.in_force(), change.before());
    assert_eq!(change.in_force(), change.model());
    change.commit().unwrap();
    let store = at(dir.path(), "a", 3_701, WALL + 3_601_000);
    assert_eq!(store.ended().unwrap(), EndedCounts { rules: 1, acl_entries: 0, blocks: 1 });
    let model = store.model().unwrap();
    assert!(model.blocks.is_empty() && model.next_ends().is_empty());
}

#[test]
fn a_step_of_the_wall_clock_does_not_prolong_what_ends_after_a_time_also_over_a_reboot() {
    let dir = made();
    // The clock was a day fast when it was made, and is set right after ten minutes.
    let day = 86_400_000;
    let mut store = at(dir.path(), "a", 700, WALL + 600_000 - day);
    assert_eq!(left(&store, 700), [(EndKind::For, 3000), (EndKind::Until, 86_400 + 3000)]);
    let mut change = store.begin().unwrap();
    change.remove_ended().unwrap();
    assert!(change.writes() && !change.changed());
    change.commit().unwrap();
    // Off for ten minutes.
    let store = at(dir.path(), "b", 20, WALL + 1_220_000 - day);
    let half_hour = [(EndKind::For, 2380), (EndKind::Until, 86_400 + 2380)];
    assert_eq!(left(&store, 20), half_hour);
}

#[test]
fn a_clock_that_starts_in_1970_with_every_boot_prolongs_nothing_without_bound() {
    let dir = made();
    let mut seen = Vec::new();
    for boot in ["b", "c", "d", "e"] {
        // Every boot lasts 20 minutes, and a command comes at its start and at its end.
        for seconds in [10, 1_210] {
            let mut store = at(dir.path(), boot, seconds, i64::try_from(seconds).unwrap() * 1000);
            let mut change = store.begin().unwrap();
            change.remove_ended().unwrap();
            change.commit().unwrap();
            let ends = store.model().unwrap().next_ends();
            let end = ends.iter().find(|end| end.kind == EndKind::For);
            seen.push(end.map_or(0, |end| end.left(seconds * SECOND).unwrap_or(0) / SECOND));
        }
    }
    assert_eq!(seen, [3600, 2400, 2400, 1200, 1200, 0, 0, 0]);
}

#[test]
fn another_end_keeps_the_rule() {
    let dir = made();
    let mut store = at(dir.path(), "a", 200, WALL + 100_000);
    let mut change = store.begin().unwrap();
    let group = change.model().group("web").unwrap().clone();
    let rule = group.rules.iter().find(|rule| rule.end.is_some()).unwrap();
    change.set_rule_end(&group.id, &rule.id, None).unwrap();
    let model = change.model().clone();
    change.commit().unwrap();
    assert_eq!(store.model().unwrap(), model);
    let after = model.group("web").unwrap();
    assert_eq!(after.rule(&rule.id).unwrap().number, rule.number);
    assert!(after.rules.iter().all(|rule| rule.end.is_none()));
}

#[test]
fn ends_that_a_step_of_the_clock_has_moved_make_another_generation() {
    let dir = made();
    let mut store = at(dir.path(), "a", 200, WALL + 100_000);
    let mut change = store.begin().unwrap();
    let generation = change.generation();
    assert!(!change.ends_moved(), "the clocks agree");
    change.remove_ended().unwrap();
    assert_eq!(change.commit().unwrap(), generation);

    // The wall clock is set back: known before anything is settled, and until it is stored.
    for is_settled in [false, true] {
        let mut store = at(dir.path(), "a", 300, WALL - 3_600_000);
        let mut change = store.begin().unwrap();
        assert!(change.ends_moved());
        assert_eq!(change.generation(), generation);
        if is_settled {
            change.remove_ended().unwrap();
            assert!(change.ends_moved() && !change.changed());
            assert_eq!(change.commit().unwrap(), generation + 1);
        }
    }
    let mut store = at(dir.path(), "a", 301, WALL - 3_599_000);
    let change = store.begin().unwrap();
    assert!(!change.ends_moved());
    assert_eq!(change.generation(), generation + 1);
}
