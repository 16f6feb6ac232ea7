//! Staged changes of rules.

use rusqlite::{Connection, params};

use super::columns;
use crate::model::{Ec2Traffic, RuleId, RuleSpec, Staged, StagedChange};

/// Writes a staged change in place of that of the same rule.
pub(super) fn put(sql: &Connection, rule: &RuleId, staged: &Staged) -> rusqlite::Result<()> {
    let Staged { group, created, change } = staged;
    match change {
        StagedChange::Remove => {
            let insert = "INSERT OR REPLACE INTO staged_rules (id, group_id, created, is_removal, \
                          description) VALUES (?1, ?2, ?3, TRUE, '')";
            sql.execute(insert, params![rule.as_str(), group.as_str(), created]).map(drop)
        }
        StagedChange::Add { spec: RuleSpec { direction, traffic, peer }, description } => {
            let Ec2Traffic { protocol, from, to } = traffic.to_ec2();
            let (cidr, list, peer_group, foreign) = columns(peer);
            let insert = "INSERT OR REPLACE INTO staged_rules VALUES (?1, ?2, ?3, FALSE, ?4, ?5, \
                          ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
            sql.execute(
                insert,
                params![
                    rule.as_str(),
                    group.as_str(),
                    created,
                    direction.name(),
                    protocol,
                    from,
                    to,
                    cidr,
                    list,
                    peer_group,
                    foreign,
                    description,
                ],
            )
            .map(drop)
        }
    }
}
