//! Writes one edit.

use std::collections::BTreeMap;

use firewall_ebpf::abi::interface::Direction;
use rusqlite::{Connection, params};

use super::ends::EndColumns;
use super::{EndedCounts, entries, read, rows, versions};
use crate::model::{
    Acl, AclEntry, AclId, Block, Change, Ec2Traffic, Group, GroupId, Interface, InterfaceId,
    ListState, Peer, PrefixList, Rule, RuleId, RuleSpec,
};
use crate::policy::{Addresses, MANAGEMENT_RULE};

mod staged;
mod vpcs;

use vpcs::{put_flow_log, put_subnet, put_vpc};

/// Writes an edit. A new rule gets its number here, also in `change`. `boot`: the id of the present one.
pub(super) fn change(
    sql: &Connection,
    change: &mut Change,
    boot: Option<&str>,
    group_name: impl Fn(&GroupId) -> String,
) -> rusqlite::Result<()> {
    match change {
        Change::PutVpc(vpc) => put_vpc(sql, vpc),
        Change::DeleteVpc(vpc) => {
            sql.execute("DELETE FROM vpcs WHERE id = ?1", [vpc.as_str()]).map(drop)
        }
        Change::PutSubnet(subnet) => put_subnet(sql, subnet),
        Change::DeleteSubnet(subnet) => {
            sql.execute("DELETE FROM subnets WHERE id = ?1", [subnet.as_str()]).map(drop)
        }
        Change::CreatePrefixList(list) => create_prefix_list(sql, list),
        Change::SetEntries { list, entries } => {
            versions::keep(sql, list)?;
            let set = entries::write(sql, entries)?;
            let update = "UPDATE prefix_lists SET version = version + 1, entries = ?2, state = ?3 \
                          WHERE id = ?1";
            sql.execute(update, params![list.as_str(), set, ListState::Modified.name()])?;
            if versions::drop_oldest(sql, list)? { entries::drop_unused(sql) } else { Ok(()) }
        }
        Change::SetPrefixList { list, name, max_entries, state } => {
            let update =
                "UPDATE prefix_lists SET name = ?2, max_entries = ?3, state = ?4 WHERE id = ?1";
            sql.execute(update, params![list.as_str(), *name, *max_entries, state.name()]).map(drop)
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
            sql.execute("DELETE FROM staged_rules WHERE group_id = ?1", [group.as_str()])?;
            sql.execute("DELETE FROM rules WHERE group_id = ?1", [group.as_str()])?;
            sql.execute("DELETE FROM groups WHERE id = ?1", [group.as_str()]).map(drop)
        }
        Change::AddRule { group, rule } => {
            let name = group_name(group);
            add_rule(sql, group, &name, rule, boot)
        }
        Change::DescribeRule { rule, description, .. } => sql
            .execute(
                "UPDATE rules SET description = ?2 WHERE id = ?1",
                [rule.as_str(), description.as_str()],
            )
            .map(drop),
        Change::SetRuleEnd { rule, end, .. } => {
            let EndColumns { kind, wall, boot, boottime } = EndColumns::new(*end, boot);
            let update = "UPDATE rules SET end_kind = ?2, end_wall = ?3, end_boot = ?4, \
                          end_boottime = ?5 WHERE id = ?1";
            sql.execute(update, params![rule.as_str(), kind, wall, boot, boottime]).map(drop)
        }
        Change::TagRule { rule, tags, .. } => {
            let number = "SELECT number FROM rules WHERE id = ?1";
            let number: u32 = sql.query_row(number, [rule.as_str()], |row| row.get(0))?;
            sql.execute("DELETE FROM rule_tags WHERE number = ?1", [number])?;
            write_rule_tags(sql, number, tags)
        }
        Change::ModifyRules { rules, .. } => modify_rules(sql, rules),
        Change::RemoveRule { rule, .. } => {
            sql.execute("DELETE FROM staged_rules WHERE id = ?1", [rule.as_str()])?;
            sql.execute("DELETE FROM rules WHERE id = ?1", [rule.as_str()]).map(drop)
        }
        Change::Stage { rule, staged } => staged::put(sql, rule, staged),
        Change::Unstage(rule) => {
            sql.execute("DELETE FROM staged_rules WHERE id = ?1", [rule.as_str()]).map(drop)
        }
        Change::CreateAcl(acl) => create_acl(sql, acl, boot),
        Change::TagAcl { acl, name, tags } => {
            sql.execute("UPDATE acls SET name = ?2 WHERE id = ?1", [acl.as_str(), name.as_str()])?;
            sql.execute("DELETE FROM acl_tags WHERE acl = ?1", [acl.as_str()])?;
            write_tags(sql, "acl_tags", acl.as_str(), tags)
        }
        Change::DeleteAcl(acl) => {
            sql.execute("DELETE FROM acls WHERE id = ?1", [acl.as_str()]).map(drop)
        }
        Change::PutAclEntry { acl, direction, number, entry } => {
            remove_acl_entry(sql, acl, *direction, *number)?;
            add_acl_entry(sql, acl, (*direction, *number), entry, boot)
        }
        Change::RemoveAclEntry { acl, direction, number } => {
            remove_acl_entry(sql, acl, *direction, *number)
        }
        Change::AddBlock(block) => {
            block.number = next_number(sql)?;
            put_block(sql, block, boot)
        }
        Change::ReplaceBlock(block) => {
            sql.execute("DELETE FROM blocks WHERE number = ?1", [block.number])?;
            put_block(sql, block, boot)
        }
        Change::RemoveBlock(number) => {
            sql.execute("DELETE FROM blocks WHERE number = ?1", [*number]).map(drop)
        }
        Change::PutInterface(interface) => put_interface(sql, interface),
        Change::MoveInterface { from, to } => {
            sql.execute("DELETE FROM interfaces WHERE slot = ?1", [*from])?;
            put_interface(sql, to)
        }
        Change::PutFlowLog(log) => put_flow_log(sql, log),
        Change::DeleteFlowLog(log) => {
            sql.execute("DELETE FROM flow_logs WHERE id = ?1", [log.as_str()]).map(drop)
        }
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
            let of_slot =
                "DELETE FROM blocks WHERE interface IN (SELECT id FROM interfaces WHERE slot = ?1)";
            sql.execute(of_slot, [*slot])?;
            sql.execute("DELETE FROM interfaces WHERE slot = ?1", [*slot]).map(drop)
        }
    }
}

/// Adds to the numbers of what has ended by itself.
pub(super) fn count_ended(sql: &Connection, added: &EndedCounts) -> rusqlite::Result<()> {
    let EndedCounts { rules, acl_entries, blocks } = *added;
    let update = "UPDATE state SET ended_rules = ended_rules + ?1, \
                  ended_acl_entries = ended_acl_entries + ?2, ended_blocks = ended_blocks + ?3";
    let counts = [rules, acl_entries, blocks].map(|count| i64::try_from(count).unwrap_or(i64::MAX));
    sql.execute(update, counts).map(drop)
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
        "INSERT INTO prefix_lists (id, name, family, version, entries, max_entries, is_aws, state) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            list.id.as_str(),
            list.name,
            list.family.name(),
            version,
            entries::write(sql, &list.entries)?,
            list.max_entries,
            list.is_aws,
            list.state.name(),
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
    let Group { id, vpc, name, description, rules: _, tags } = group;
    let columns = [id.as_str(), vpc.as_str(), name, description];
    sql.execute("INSERT INTO groups VALUES (?1, ?2, ?3, ?4)", columns)?;
    write_tags(sql, "group_tags", id.as_str(), tags)
}

fn add_rule(
    sql: &Connection,
    group: &GroupId,
    name: &str,
    rule: &mut Rule,
    boot: Option<&str>,
) -> rusqlite::Result<()> {
    rule.number = sql
        .prepare_cached(
            "INSERT INTO rule_history (rule_id, group_id, group_name) VALUES (?1, ?2, ?3) \
             RETURNING number",
        )?
        .query_row([rule.id.as_str(), group.as_str(), name], |row| row.get(0))?;
    require_number(rule.number)?;
    let Ec2Traffic { protocol, from, to } = rule.spec.traffic.to_ec2();
    let (cidr, list, peer_group, foreign) = columns(&rule.spec.peer);
    let end = EndColumns::new(rule.end, boot);
    sql.prepare_cached(
        "INSERT INTO rules VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, \
         ?16)",
    )?
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
        foreign,
        rule.description,
        end.kind,
        end.wall,
        end.boot,
        end.boottime,
    ])?;
    write_rule_tags(sql, rule.number, &rule.tags)
}

/// No two rules of a group have the same columns at any moment, and one of these rules may get those of another:
/// all of them first give theirs up.
fn modify_rules(sql: &Connection, rules: &[(RuleId, RuleSpec)]) -> rusqlite::Result<()> {
    let mut leave = sql.prepare_cached("UPDATE rules SET protocol = id WHERE id = ?1")?;
    for (rule, _) in rules {
        leave.execute([rule.as_str()])?;
    }
    let mut update = sql.prepare_cached(
        "UPDATE rules SET direction = ?2, protocol = ?3, from_port = ?4, to_port = ?5, cidr = ?6, \
         prefix_list = ?7, peer_group = ?8, foreign_group = ?9 WHERE id = ?1",
    )?;
    for (rule, RuleSpec { direction, traffic, peer }) in rules {
        let Ec2Traffic { protocol, from, to } = traffic.to_ec2();
        let (cidr, list, group, foreign) = columns(peer);
        let direction = direction.name();
        update.execute(params![
            rule.as_str(),
            direction,
            protocol,
            from,
            to,
            cidr,
            list,
            group,
            foreign
        ])?;
    }
    Ok(())
}

fn write_rule_tags(
    sql: &Connection,
    number: u32,
    tags: &BTreeMap<String, String>,
) -> rusqlite::Result<()> {
    let mut insert = sql.prepare_cached("INSERT INTO rule_tags VALUES (?1, ?2, ?3)")?;
    tags.iter().try_for_each(|(key, value)| insert.execute(params![number, key, value]).map(drop))
}

/// The columns `cidr, prefix_list, peer_group, foreign_group`.
fn columns(peer: &Peer) -> (Option<String>, Option<&str>, Option<&str>, Option<String>) {
    match peer {
        Peer::Ipv4(network) => (Some(network.to_string()), None, None, None),
        Peer::Ipv6(network) => (Some(network.to_string()), None, None, None),
        Peer::PrefixList(id) => (None, Some(id.as_str()), None, None),
        Peer::Group(id) => (None, None, Some(id.as_str()), None),
        Peer::Foreign(foreign) => (None, None, None, Some(foreign.to_string())),
    }
}

/// Refuses a number that is not of a rule, an entry or a block: the last is that of the management networks.
fn require_number(number: u32) -> rusqlite::Result<()> {
    if number >= MANAGEMENT_RULE {
        return Err(rusqlite::Error::IntegralValueOutOfRange(0, number.into()));
    }
    Ok(())
}

/// The next number, for something without an id of its own.
fn next_number(sql: &Connection) -> rusqlite::Result<u32> {
    let insert = "INSERT INTO rule_history DEFAULT VALUES RETURNING number";
    let number = sql.prepare_cached(insert)?.query_row([], |row| row.get(0))?;
    require_number(number).map(|()| number)
}

fn create_acl(sql: &Connection, acl: &mut Acl, boot: Option<&str>) -> rusqlite::Result<()> {
    let Acl { id, vpc, name, is_default, entries, tags } = acl;
    sql.execute(
        "INSERT INTO acls VALUES (?1, ?2, ?3, ?4)",
        params![id.as_str(), vpc.as_str(), *name, *is_default],
    )?;
    write_tags(sql, "acl_tags", id.as_str(), tags)?;
    entries.iter_mut().try_for_each(|(place, entry)| add_acl_entry(sql, id, *place, entry, boot))
}

fn add_acl_entry(
    sql: &Connection,
    acl: &AclId,
    (direction, number): (Direction, u16),
    entry: &mut AclEntry,
    boot: Option<&str>,
) -> rusqlite::Result<()> {
    if entry.number == 0 {
        entry.number = next_number(sql)?;
    }
    let Ec2Traffic { protocol, from, to } = entry.traffic.to_ec2();
    let (cidr, list, ..) = columns(&entry.peer);
    let end = EndColumns::new(entry.end, boot);
    sql.prepare_cached(
        "INSERT INTO acl_entries VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )?
    .execute(params![
        entry.number,
        acl.as_str(),
        direction.name(),
        number,
        entry.action.name(),
        protocol,
        from,
        to,
        cidr,
        list,
        end.kind,
        end.wall,
        end.boot,
        end.boottime,
    ])
    .map(drop)
}

fn remove_acl_entry(
    sql: &Connection,
    acl: &AclId,
    direction: Direction,
    number: u16,
) -> rusqlite::Result<()> {
    let delete = "DELETE FROM acl_entries WHERE acl = ?1 AND direction = ?2 AND entry = ?3";
    sql.execute(delete, params![acl.as_str(), direction.name(), number]).map(drop)
}

fn put_block(sql: &Connection, block: &Block, boot: Option<&str>) -> rusqlite::Result<()> {
    let (cidr, list, ..) = columns(&block.target);
    let end = EndColumns::new(block.end, boot);
    let interface = block.interface.as_ref().map(InterfaceId::as_str);
    sql.prepare_cached("INSERT INTO blocks VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?
        .execute(params![
            block.number,
            cidr,
            list,
            interface,
            block.reason,
            block.created,
            end.kind,
            end.wall,
            end.boot,
            end.boottime,
        ])
        .map(drop)
}

fn put_interface(sql: &Connection, interface: &Interface) -> rusqlite::Result<()> {
    let Interface {
        id,
        slot,
        device,
        netns,
        subnet,
        groups,
        acl,
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
        details,
        tags,
    } = interface;
    // Cascades to the tables that reference it.
    sql.execute("DELETE FROM interfaces WHERE slot = ?1", [slot])?;
    sql.execute(
        "INSERT INTO interfaces VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, \
         ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)",
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
            acl.as_ref().map(AclId::as_str),
            subnet.as_str(),
            rows::to_json(details)?,
        ],
    )?;
    for (key, value) in tags {
        sql.execute("INSERT INTO interface_tags VALUES (?1, ?2, ?3)", params![slot, key, value])?;
    }
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
