//! Staged changes of rules.

use rusqlite::Connection;

use super::each;
use crate::model::{Model, Staged, StagedChange};
use crate::store::rows;

/// Reads the staged changes of all groups.
pub(super) fn read(connection: &Connection, model: &mut Model) -> rusqlite::Result<()> {
    let staged = "SELECT id, group_id, created, is_removal, description, direction, protocol, \
                  from_port, to_port, cidr, prefix_list, peer_group, foreign_group \
                  FROM staged_rules";
    each(connection, staged, |row| {
        let change = if row.get(3)? {
            StagedChange::Remove
        } else {
            StagedChange::Add { spec: rows::spec(row, 5)?, description: row.get(4)? }
        };
        let staged = Staged { group: rows::parsed(row, 1)?, created: row.get(2)?, change };
        model.staged.insert(rows::parsed(row, 0)?, staged);
        Ok(())
    })
}
