//! Staged changes of rules.

use firewall_user::model::{Error as ModelError, GroupId, Limits, Peer, PrefixListId, RuleId};
use firewall_user::policy::{Addresses, resolve_groups};
use firewall_user::store::{Error, Store, Transaction};
use tempfile::TempDir;

use crate::edits::{new_group, tcp_rule};

/// Makes one edit of staged changes; refusals are part of it.
pub(crate) fn edit(
    change: &mut Transaction<'_>,
    which: u8,
    (group, other, list): (GroupId, Option<GroupId>, Option<PrefixListId>),
) -> Result<(), Error> {
    let mut rule = tcp_rule(u16::from(which));
    match (which % 6, other, list) {
        (0, Some(other), _) => rule.spec.peer = Peer::Group(other),
        (1, _, Some(list)) => rule.spec.peer = Peer::PrefixList(list),
        (2, ..) => {
            let first = change.model().groups[&group].rules.first().map(|rule| rule.id.clone());
            return first.map_or(Ok(()), |rule| change.stage_removals(&group, &[rule]));
        }
        (3, ..) => {
            let all: Vec<RuleId> =
                change.model().staged_of(&group).map(|(id, _)| id.clone()).collect();
            return change.enforce_staged(&group, &all);
        }
        (4, ..) => {
            let first = change.model().staged_of(&group).map(|(id, _)| id.clone()).next();
            return first.map_or(Ok(()), |rule| change.unstage(&group, &[rule]));
        }
        _ => {}
    }
    change.stage_rules(&group, vec![rule]).map(drop)
}

#[test]
fn what_is_staged_is_in_no_policy_until_it_is_enforced() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let mut change = store.begin().unwrap();
    let group = change.create_group(new_group("web")).unwrap();
    let kept = change.add_rules(&group, vec![tcp_rule(80), tcp_rule(81)]).unwrap();
    change.commit().unwrap();
    let groups = [group.clone()];
    let policy =
        |store: &Store| resolve_groups(&store.model().unwrap(), &Addresses::new(), &groups);
    let before = policy(&store);
    let mut change = store.begin().unwrap();
    let staged = change.stage_rules(&group, vec![tcp_rule(443), tcp_rule(444)]).unwrap();
    change.stage_removals(&group, &kept[..1]).unwrap();
    change.commit().unwrap();
    drop(store);

    let mut store = Store::open(dir.path()).unwrap();
    assert_eq!(policy(&store), before);
    assert_eq!(store.model().unwrap().staged.len(), 3);
    let mut change = store.begin().unwrap();
    change.unstage(&group, &staged[1..]).unwrap();
    change.enforce_staged(&group, &[staged[0].clone(), kept[0].clone()]).unwrap();
    change.commit().unwrap();
    let model = store.model().unwrap();
    assert!(model.staged.is_empty());
    let ids: Vec<_> = model.groups[&group].rules.iter().skip(2).map(|rule| &rule.id).collect();
    assert_eq!(ids, [&kept[1], &staged[0]]);
    let added = model.groups[&group].rule(&staged[0]).unwrap();
    let name = store.rule_by_number(added.number).unwrap().unwrap();
    assert_eq!(name.rule, staged[0], "its number is known as every rule's");
    assert_eq!(policy(&store).len(), before.len());
}

#[test]
fn what_cannot_be_enforced_as_a_whole_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let limits = Limits { rules_per_group: 3, ..Limits::default() };
    let mut store = Store::open_with(dir.path(), limits).unwrap();
    let mut change = store.begin().unwrap();
    let group = change.create_group(new_group("web")).unwrap();
    let kept = change.add_rules(&group, vec![tcp_rule(80)]).unwrap();
    let staged = change.stage_rules(&group, vec![tcp_rule(81), tcp_rule(82)]).unwrap();
    change.stage_removals(&group, &kept).unwrap();
    // There is room for them at first, then there is not.
    change.add_rules(&group, vec![tcp_rule(90), tcp_rule(91)]).unwrap();
    let before = change.model().clone();
    let all: Vec<_> = before.staged.keys().cloned().collect();
    let refused = change.enforce_staged(&group, &all).unwrap_err();
    assert!(
        matches!(refused, Error::Model(ModelError::RulesLimit { count: 4, .. })),
        "{refused:?}"
    );
    assert_eq!(change.model(), &before);
    change.enforce_staged(&group, &[kept[0].clone(), staged[0].clone()]).unwrap();
}

#[test]
fn a_staged_rule_uses_its_peer() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let mut change = store.begin().unwrap();
    let web = change.create_group(new_group("web")).unwrap();
    let db = change.create_group(new_group("db")).unwrap();
    let mut rule = tcp_rule(5432);
    rule.spec.peer = Peer::Group(web.clone());
    let ids = change.stage_rules(&db, vec![rule]).unwrap();
    let refused = change.delete_group(&web).unwrap_err();
    assert!(matches!(refused, Error::Model(ModelError::GroupInUse { .. })), "{refused:?}");
    change.unstage(&db, &ids).unwrap();
    change.delete_group(&web).unwrap();
}
