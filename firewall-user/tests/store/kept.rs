//! The model that is kept between readings. That it is what is stored is verified at each reading in this build.

use firewall_user::model::Limits;
use firewall_user::store::Store;
use tempfile::TempDir;

use crate::edits::{new_group, tcp_rule};

#[test]
fn a_reader_has_what_is_committed_and_nothing_else() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let reader = Store::open_read_only(dir.path(), Limits::default()).unwrap();
    let before = reader.model().unwrap();
    let mut change = store.begin().unwrap();
    let group = change.create_group(new_group("web")).unwrap();
    let after = change.model().clone();
    assert_ne!(after, before);
    assert_eq!(reader.model().unwrap(), before);
    drop(change);
    assert_eq!((reader.model().unwrap(), store.model().unwrap()), (before.clone(), before));
    // Another change has the generation that the dropped one would have had.
    let mut change = store.begin().unwrap();
    assert!(change.model().group_by_id(&group).is_err());
    let group = change.create_group(new_group("db")).unwrap();
    change.add_rules(&group, vec![tcp_rule(22)]).unwrap();
    let after = change.model().clone();
    change.commit().unwrap();
    assert_eq!((reader.model().unwrap(), store.model().unwrap()), (after.clone(), after));
}

#[test]
fn another_file_at_the_path_is_noticed() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert!(store.is_at_its_path());
    let file = store.path().to_owned();
    std::fs::copy(&file, file.with_extension("copy")).unwrap();
    std::fs::rename(file.with_extension("copy"), &file).unwrap();
    assert!(!store.is_at_its_path());
    std::fs::remove_file(&file).unwrap();
    assert!(!store.is_at_its_path());
    let absent = Store::open_read_only(&dir.path().join("absent"), Limits::default()).unwrap();
    assert!(absent.is_at_its_path());
}
