//! Answers to requests with a client token.

use firewall_user::clock::Clocks;
use firewall_user::model::Moment;
use firewall_user::store::{Answered, Pending, Store};
use tempfile::TempDir;

const DAY: i64 = 24 * 60 * 60 * 1000;

fn open(dir: &TempDir, wall: i64) -> Store {
    let moment = Moment { boottime: 1, wall };
    Store::open(dir.path()).unwrap().at(Clocks { boot: Some("b".to_owned()), moment })
}

fn answer(text: &str) -> Answered {
    Answered { digest: "d".to_owned(), answer: text.to_owned() }
}

fn keep(store: &mut Store, token: &str) {
    let mut change = store.begin().unwrap();
    change.answer_again(("A", token), &answer(token)).unwrap();
    change.commit().unwrap();
}

fn is_kept(store: &mut Store, token: &str) -> bool {
    let found = store.begin().unwrap().answered("A", token).unwrap();
    assert!(found.is_none() || found == Some(answer(token)), "{found:?}");
    found.is_some()
}

#[test]
fn an_answer_is_kept_for_a_day() {
    let dir = TempDir::new().unwrap();
    keep(&mut open(&dir, DAY), "t");
    assert!(is_kept(&mut open(&dir, 2 * DAY - 1), "t"));
    assert!(!is_kept(&mut open(&dir, 2 * DAY), "t"));
    assert_eq!(open(&dir, DAY).begin().unwrap().answered("B", "t").unwrap(), None);
    // The next one deletes it.
    keep(&mut open(&dir, 2 * DAY), "u");
    assert!(!is_kept(&mut open(&dir, DAY), "t"));
}

#[test]
fn the_oldest_answers_go_when_there_are_many() {
    let dir = TempDir::new().unwrap();
    let mut store = open(&dir, DAY);
    keep(&mut store, "first");
    drop(store);
    let mut store = open(&dir, DAY + 1);
    let mut change = store.begin().unwrap();
    for token in 0..4095 {
        change.answer_again(("A", &token.to_string()), &answer(&token.to_string())).unwrap();
    }
    change.commit().unwrap();
    assert!(is_kept(&mut store, "first"));
    keep(&mut store, "last");
    assert!(!is_kept(&mut store, "first"));
    assert!(is_kept(&mut store, "0") && is_kept(&mut store, "last"));
}

#[test]
fn a_rollback_forgets_the_answers_of_what_it_deletes() {
    let dir = TempDir::new().unwrap();
    let mut store = open(&dir, DAY);
    let mut change = store.begin().unwrap();
    change.copy_tables().unwrap();
    change.answer_again(("A", "t"), &answer("t")).unwrap();
    change.pend(&Pending { what: "x".to_owned(), boot: "b".to_owned(), deadline: 7 }).unwrap();
    change.commit().unwrap();
    assert!(is_kept(&mut store, "t"));
    store.restore_pending().unwrap();
    assert!(!is_kept(&mut store, "t"));
}
