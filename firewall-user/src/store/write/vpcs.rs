//! VPCs, subnets and flow logs.

use rusqlite::{Connection, params};

use super::write_tags;
use crate::model::{AclId, FlowLog, Subnet, Vpc};
use crate::store::rows;

pub(super) fn put_vpc(sql: &Connection, vpc: &Vpc) -> rusqlite::Result<()> {
    let Vpc { id, is_default, settings, tags } = vpc;
    sql.execute(
        "INSERT INTO vpcs VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE \
         SET is_default = excluded.is_default, settings = excluded.settings",
        params![id.as_str(), is_default, rows::to_json(settings)?],
    )?;
    sql.execute("DELETE FROM vpc_tags WHERE vpc = ?1", [id.as_str()])?;
    write_tags(sql, "vpc_tags", id.as_str(), tags)
}

pub(super) fn put_subnet(sql: &Connection, subnet: &Subnet) -> rusqlite::Result<()> {
    let Subnet { id, vpc, acl, association, is_default, settings, tags } = subnet;
    sql.execute(
        "INSERT INTO subnets VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id) DO UPDATE \
         SET acl = excluded.acl, settings = excluded.settings, association = excluded.association",
        params![
            id.as_str(),
            vpc.as_str(),
            acl.as_ref().map(AclId::as_str),
            is_default,
            rows::to_json(settings)?,
            association.as_str(),
        ],
    )?;
    sql.execute("DELETE FROM subnet_tags WHERE subnet = ?1", [id.as_str()])?;
    write_tags(sql, "subnet_tags", id.as_str(), tags)
}

pub(super) fn put_flow_log(sql: &Connection, log: &FlowLog) -> rusqlite::Result<()> {
    let FlowLog { id, resource, created, settings, tags } = log;
    sql.execute(
        "INSERT INTO flow_logs VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO NOTHING",
        params![id.as_str(), resource.to_string(), created, rows::to_json(settings)?],
    )?;
    sql.execute("DELETE FROM flow_log_tags WHERE flow_log = ?1", [id.as_str()])?;
    write_tags(sql, "flow_log_tags", id.as_str(), tags)
}
