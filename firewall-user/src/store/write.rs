//! Writes one edit.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use super::{entries, read};
use crate::model::{Change, Ec2Traffic, Group, GroupId, Interface, Peer, PrefixList, Rule};
use crate::policy::{Addresses, MANAGEMENT_RULE};

/// Writes an edit. A new rule gets its number here, also in `change`.
pub(super) fn change(
    sql: &Connection,
    change: &mut Change,
    group_name: impl Fn(&GroupId) -> String,
) -> rusqlite::Result<()> {
    match change {
        Change::CreatePrefixList(list) => create_prefix_list(sql, list),
        Change::SetEntries { list, entries } => {
            let set = entries::write(sql, entries)?;
            sql.execute(
                "UPDATE prefix_lists SET version = version + 1, entries = ?2 WHERE id = ?1",
                params![list.as_str(), set],
            )?;
            entries::drop_unused(sql)
        }
        Change::TagPrefixList { list, tags } => {
            sql.execute("DELETE FROM prefix_list_tags WHERE list = ?1", [list.as_str()])?;
            write_tags(sql, "prefix_list_tags", list.as_str(), tags)
        }
        Change::DeletePrefixList(list) => {
            sql.execute("DELETE FROM prefix_lists WHERE id = ?1", [list.as_str()])?;
            entries::drop_unused(sql)
        }
        Change::CreateGroup(group) => create_group(sql, group),
        Change::TagGroup { group, tags } => {
            sql.execute("DELETE FROM group_tags WHERE group_id = ?1", [group.as_str()])?;
            write_tags(sql, "group_tags", group.as_str(), tags)
        }
        Change::DeleteGroup(group) => {
            // First: a rule may have the group itself as its peer.
            sql.execute("DELETE FROM rules WHERE group_id = ?1", [group.as_str()])?;
            sql.execute("DELETE FROM groups WHERE id = ?1", [group.as_str()]).map(drop)
        }
        Change::AddRule { group, rule } => {
            let name = group_name(group);
            add_rule(sql, group, &name, rule)
        }
        Change::DescribeRule { rule, description, .. } => sql
            .execute(
                "UPDATE rules SET description = ?2 WHERE id = ?1",
                [rule.as_str(), description.as_str()],
            )
            .map(drop),
        Change::RemoveRule { rule, .. } => {
            sql.execute("DELETE FROM rules WHERE id = ?1", [rule.as_str()]).map(drop)
        }
        Change::PutInterface(interface) => put_interface(sql, interface),
        Change::SetManagement(networks) => {
            sql.execute("DELETE FROM management", [])?;
            networks.iter().try_for_each(|network| {
                sql.execute("INSERT INTO management VALUES (?1)", [network.to_string()]).map(drop)
            })
        }
        Change::SetPanic(is_panicking) => {
            sql.execute("UPDATE state SET panic = ?1", [*is_panicking]).map(drop)
        }
        Change::DeleteInterface(slot) => {
            sql.execute("DELETE FROM interfaces WHERE slot = ?1", [*slot]).map(drop)
        }
    }
}

/// Records the addresses in the active policies; returns whether they differ from the recorded ones.
pub(super) fn active_addresses(sql: &Connection, addresses: &Addresses) -> rusqlite::Result<bool> {
    let mut addresses = addresses.clone();
    addresses.retain(|_, addresses| !addresses.is_empty());
    if read::active_addresses(sql)? == addresses {
        return Ok(false);
    }
    sql.execute("DELETE FROM active_addresses", [])?;
    let mut insert = sql.prepare_cached("INSERT INTO active_addresses VALUES (?1, ?2)")?;
    for (slot, addresses) in addresses {
        for address in addresses {
            insert.execute(params![slot, address.to_string()])?;
        }
    }
    Ok(true)
}

fn create_prefix_list(sql: &Connection, list: &PrefixList) -> rusqlite::Result<()> {
    let version = i64::try_from(list.version)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    sql.execute(
        "INSERT INTO prefix_lists (id, name, family, version, entries) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            list.id.as_str(),
            list.name,
            list.family.name(),
            version,
            entries::write(sql, &list.entries)?
        ],
    )?;
    write_tags(sql, "prefix_list_tags", list.id.as_str(), &list.tags)
}

fn write_tags(
    sql: &Connection,
    table: &'static str,
    owner: &str,
    tags: &BTreeMap<String, String>,
) -> rusqlite::Result<()> {
    let mut insert = sql.prepare_cached(&format!("INSERT INTO {table} VALUES (?1, ?2, ?3)"))?;
    for (key, value) in tags {
        insert.execute([owner, key, value])?;
    }
    Ok(())
}

fn create_group(sql: &Connection, group: &Group) -> rusqlite::Result<()> {
    let Group { id, name, description, rules: _, tags } = group;
    sql.execute("INSERT INTO groups VALUES (?1, ?2, ?3)", [id.as_str(), name, description])?;
    write_tags(sql, "group_tags", id.as_str(), tags)
}

fn add_rule(
    sql: &Connection,
    group: &GroupId,
    name: &str,
    rule: &mut Rule,
) -> rusqlite::Result<()> {
    rule.number = sql
        .prepare_cached(
            "INSERT INTO rule_history (rule_id, group_id, group_name) VALUES (?1, ?2, ?3) \
             RETURNING number",
        )?
        .query_row([rule.id.as_str(), group.as_str(), name], |row| row.get(0))?;
    // The last number is the rule of the management networks.
    if rule.number >= MANAGEMENT_RULE {
        return Err(rusqlite::Error::IntegralValueOutOfRange(0, rule.number.into()));
    }
    let Ec2Traffic { protocol, from, to } = rule.spec.traffic.to_ec2();
    let (mut cidr, mut list, mut peer_group) = (None, None, None);
    match &rule.spec.peer {
        Peer::Ipv4(network) => cidr = Some(network.to_string()),
        Peer::Ipv6(network) => cidr = Some(network.to_string()),
        Peer::PrefixList(id) => list = Some(id.as_str()),
        Peer::Group(id) => peer_group = Some(id.as_str()),
    }
    sql.prepare_cached("INSERT INTO rules VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)")?
        .execute(params![
            rule.number,
            rule.id.as_str(),
            group.as_str(),
            rule.spec.direction.name(),
            protocol,
            from,
            to,
            cidr,
            list,
            peer_group,
            rule.description,
        ])
        .map(drop)
}

fn put_interface(sql: &Connection, interface: &Interface) -> rusqlite::Result<()> {
    let Interface {
        id,
        slot,
        device,
        netns,
        groups,
        hook,
        orientation,
        non_ip,
        ether_types,
        tcp,
        tcp_loose,
        tracking,
        mode,
        revalidate,
        max_flows,
        max_flows_per_source,
        timeouts,
        addresses,
        port,
    } = interface;
    // Cascades to the tables that reference it.
    sql.execute("DELETE FROM interfaces WHERE slot = ?1", [slot])?;
    sql.execute(
        "INSERT INTO interfaces VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, \
         ?13, ?14, ?15, ?16, ?17)",
        params![
            slot,
            id.as_str(),
            device,
            netns,
            hook.name(),
            orientation.name(),
            non_ip.name(),
            tcp.name(),
            tcp_loose,
            tracking.name(),
            mode.name(),
            revalidate,
            max_flows,
            max_flows_per_source,
            port.source_dest_check,
            port.router,
            port.mac.map(|mac| mac.to_string()),
        ],
    )?;
    for (position, group) in (0_u32..).zip(groups) {
        sql.execute(
            "INSERT INTO interface_groups VALUES (?1, ?2, ?3)",
            params![slot, position, group.as_str()],
        )?;
    }
    for (state, seconds) in timeouts {
        sql.execute(
            "INSERT INTO interface_timeouts VALUES (?1, ?2, ?3)",
            params![slot, state.timeout_name(), seconds],
        )?;
    }
    for ether_type in ether_types {
        sql.execute(
            "INSERT INTO interface_ether_types VALUES (?1, ?2)",
            params![slot, ether_type.to_string()],
        )?;
    }
    for (position, address) in (0_u32..).zip(addresses) {
        sql.execute(
            "INSERT INTO interface_addresses VALUES (?1, ?2, ?3)",
            params![slot, position, address.to_string()],
        )?;
    }
    for (position, network) in (0_u32..).zip(&port.allowed) {
        sql.execute(
            "INSERT INTO interface_allowed_addresses VALUES (?1, ?2, ?3)",
            params![slot, position, network.to_string()],
        )?;
    }
    Ok(())
}
