//! Reads the whole model: a fixed number of queries for any number of rows.

use std::sync::Arc;

use firewall_ebpf::abi::interface::{NonIp, Orientation, TcpChecks};
use firewall_ebpf::abi::state::State;
use rusqlite::{Connection, Row};

use super::ends::Ends;
use super::entries::Cache;
use super::{EndedCounts, rows};
use crate::clock::Clocks;
use crate::model::{
    Acl, AclEntry, Action, Block, Change, Entries, Family, FlowLog, Group, HookChoice, Interface,
    ListState, Mode, Model, PortSettings, PrefixList, Rule, RuleSpec, Subnet, Tracking, Vpc,
};
use crate::policy::Addresses;

mod staged;

pub(super) fn generation(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row("SELECT generation FROM state", [], |row| rows::count(row, 0))
}

/// The store's id and generation.
pub(super) fn identity(connection: &Connection) -> rusqlite::Result<(String, u64)> {
    let mut select = connection.prepare_cached("SELECT id, generation FROM state")?;
    select.query_row([], |row| Ok((row.get(0)?, rows::count(row, 1)?)))
}

/// See [`super::Store::ended`].
pub(super) fn ended(connection: &Connection) -> rusqlite::Result<EndedCounts> {
    let select = "SELECT ended_rules, ended_acl_entries, ended_blocks FROM state";
    connection.query_row(select, [], |row| {
        Ok(EndedCounts {
            rules: rows::count(row, 0)?,
            acl_entries: rows::count(row, 1)?,
            blocks: rows::count(row, 2)?,
        })
    })
}

/// The whole model. The caller holds a transaction, so that all queries read one snapshot.
pub(super) fn model(
    connection: &Connection,
    clocks: &Clocks,
    cache: &Cache,
) -> rusqlite::Result<Model> {
    let mut model = Model::default();
    vpcs(connection, &mut model)?;
    let ends = Ends::new(connection, clocks)?;
    prefix_lists(connection, cache, &mut model)?;
    groups(connection, &mut model, &ends)?;
    acls(connection, &mut model, &ends)?;
    interfaces(connection, &mut model)?;
    blocks(connection, &mut model, &ends)?;
    flow_logs(connection, &mut model)?;
    panic(connection, &mut model)?;
    Ok(model)
}

/// Calls `take` for each row of a query.
fn each(
    connection: &Connection,
    query: &str,
    mut take: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(query)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        take(row)?;
    }
    Ok(())
}

fn vpcs(connection: &Connection, model: &mut Model) -> rusqlite::Result<()> {
    model.vpcs.clear();
    model.subnets.clear();
    each(connection, "SELECT id, is_default, settings FROM vpcs", |row| {
        let vpc = Vpc {
            id: rows::parsed(row, 0)?,
            is_default: row.get(1)?,
            settings: rows::json(row, 2)?,
            tags: Default::default(),
        };
        model.vpcs.insert(vpc.id.clone(), vpc);
        Ok(())
    })?;
    each(connection, "SELECT vpc, key, value FROM vpc_tags", |row| {
        if let Some(vpc) = model.vpcs.get_mut(&rows::parsed(row, 0)?) {
            vpc.tags.insert(row.get(1)?, row.get(2)?);
        }
        Ok(())
    })?;
    each(
        connection,
        "SELECT id, vpc, acl, is_default, settings, association FROM subnets",
        |row| {
            let subnet = Subnet {
                id: rows::parsed(row, 0)?,
                vpc: rows::parsed(row, 1)?,
                acl: rows::optional(row, 2)?,
                is_default: row.get(3)?,
                settings: rows::json(row, 4)?,
                association: rows::parsed(row, 5)?,
                tags: Default::default(),
            };
            model.subnets.insert(subnet.id.clone(), subnet);
            Ok(())
        },
    )?;
    each(connection, "SELECT subnet, key, value FROM subnet_tags", |row| {
        if let Some(subnet) = model.subnets.get_mut(&rows::parsed(row, 0)?) {
            subnet.tags.insert(row.get(1)?, row.get(2)?);
        }
        Ok(())
    })
}

fn prefix_lists(connection: &Connection, cache: &Cache, model: &mut Model) -> rusqlite::Result<()> {
    let mut sets = Vec::new();
    let lists = "SELECT id, name, family, version, entries, max_entries, is_aws, state \
                 FROM prefix_lists";
    each(connection, lists, |row| {
        let name: String = row.get(1)?;
        let family = rows::named(row, 2, &[Family::Ipv4, Family::Ipv6], Family::name)?;
        let entries = match row.get(4)? {
            None => Entries::default(),
            Some(set) => {
                sets.push(set);
                let all = cache.get(connection, family, set)?;
                all.filter(|all| !all.is_empty())
                    .ok_or_else(|| rows::invalid(4, format!("the entries of prefix list {name}")))?
            }
        };
        let list = PrefixList {
            id: rows::parsed(row, 0)?,
            name,
            family,
            version: rows::count(row, 3)?,
            entries,
            max_entries: row.get(5)?,
            is_aws: row.get(6)?,
            state: rows::named(row, 7, &ListState::ALL, ListState::name)?,
            tags: Default::default(),
        };
        model.prefix_lists.insert(list.id.clone(), list);
        Ok(())
    })?;
    cache.keep(&sets);
    each(connection, "SELECT list, key, value FROM prefix_list_tags", |row| {
        if let Some(list) = model.prefix_lists.get_mut(&rows::parsed(row, 0)?) {
            list.tags.insert(row.get(1)?, row.get(2)?);
        }
        Ok(())
    })
}

fn groups(connection: &Connection, model: &mut Model, ends: &Ends<'_>) -> rusqlite::Result<()> {
    each(connection, "SELECT id, name, description, vpc FROM groups", |row| {
        let group = Group {
            id: rows::parsed(row, 0)?,
            vpc: rows::parsed(row, 3)?,
            name: row.get(1)?,
            description: row.get(2)?,
            rules: Vec::new(),
            tags: Default::default(),
        };
        model.groups.insert(group.id.clone(), Arc::new(group));
        Ok(())
    })?;
    each(connection, "SELECT group_id, key, value FROM group_tags", |row| {
        if let Some(group) = model.groups.get_mut(&rows::parsed(row, 0)?).map(Arc::make_mut) {
            group.tags.insert(row.get(1)?, row.get(2)?);
        }
        Ok(())
    })?;
    let rules = "SELECT group_id, id, number, description, direction, protocol, from_port, \
                 to_port, cidr, prefix_list, peer_group, foreign_group, end_kind, end_wall, end_boot, \
                 end_boottime FROM rules ORDER BY number";
    each(connection, rules, |row| {
        if let Some(group) = model.groups.get_mut(&rows::parsed(row, 0)?).map(Arc::make_mut) {
            group.rules.push(Rule {
                id: rows::parsed(row, 1)?,
                number: row.get(2)?,
                description: row.get(3)?,
                spec: rows::spec(row, 4)?,
                end: ends.read(row, 12)?,
                tags: Default::default(),
            });
        }
        Ok(())
    })?;
    let tags = "SELECT group_id, id, key, value FROM rule_tags JOIN rules USING (number)";
    each(connection, tags, |row| {
        let id = rows::parsed(row, 1)?;
        if let Some(group) = model.groups.get_mut(&rows::parsed(row, 0)?)
            && let Some(rule) = Arc::make_mut(group).rules.iter_mut().find(|rule| rule.id == id)
        {
            rule.tags.insert(row.get(2)?, row.get(3)?);
        }
        Ok(())
    })?;
    staged::read(connection, model)
}

fn acls(connection: &Connection, model: &mut Model, ends: &Ends<'_>) -> rusqlite::Result<()> {
    each(connection, "SELECT id, name, is_default, vpc FROM acls", |row| {
        let acl = Acl {
            id: rows::parsed(row, 0)?,
            name: row.get(1)?,
            is_default: row.get(2)?,
            vpc: rows::parsed(row, 3)?,
            entries: Default::default(),
            tags: Default::default(),
        };
        model.acls.insert(acl.id.clone(), acl);
        Ok(())
    })?;
    each(connection, "SELECT acl, key, value FROM acl_tags", |row| {
        if let Some(acl) = model.acls.get_mut(&rows::parsed(row, 0)?) {
            acl.tags.insert(row.get(1)?, row.get(2)?);
        }
        Ok(())
    })?;
    let entries = "SELECT acl, entry, number, action, direction, protocol, from_port, to_port, cidr, \
                   prefix_list, NULL, NULL, end_kind, end_wall, end_boot, end_boottime FROM acl_entries";
    each(connection, entries, |row| {
        if let Some(acl) = model.acls.get_mut(&rows::parsed(row, 0)?) {
            let RuleSpec { direction, traffic, peer } = rows::spec(row, 4)?;
            let entry = AclEntry {
                number: row.get(2)?,
                action: rows::named(row, 3, &Action::ALL, Action::name)?,
                traffic,
                peer,
                end: ends.read(row, 12)?,
            };
            acl.entries.insert((direction, row.get(1)?), entry);
        }
        Ok(())
    })
}

fn blocks(connection: &Connection, model: &mut Model, ends: &Ends<'_>) -> rusqlite::Result<()> {
    let blocks = "SELECT number, cidr, prefix_list, interface, reason, created, end_kind, end_wall, \
                  end_boot, end_boottime FROM blocks";
    each(connection, blocks, |row| {
        let block = Block {
            number: row.get(0)?,
            target: rows::network_or_list(row, 1)?,
            interface: rows::optional(row, 3)?,
            reason: row.get(4)?,
            created: row.get(5)?,
            end: ends.read(row, 6)?,
        };
        model.blocks.insert(block.number, block);
        Ok(())
    })
}

fn flow_logs(connection: &Connection, model: &mut Model) -> rusqlite::Result<()> {
    each(connection, "SELECT id, resource, created, settings FROM flow_logs", |row| {
        let log = FlowLog {
            id: rows::parsed(row, 0)?,
            resource: rows::parsed(row, 1)?,
            created: row.get(2)?,
            settings: rows::json(row, 3)?,
            tags: Default::default(),
        };
        model.flow_logs.insert(log.id.clone(), log);
        Ok(())
    })?;
    each(connection, "SELECT flow_log, key, value FROM flow_log_tags", |row| {
        if let Some(log) = model.flow_logs.get_mut(&rows::parsed(row, 0)?) {
            log.tags.insert(row.get(1)?, row.get(2)?);
        }
        Ok(())
    })
}

const INTERFACES: &str = "SELECT slot, id, device, netns, hook, orientation, non_ip, tcp, tcp_loose, tracking, \
     mode, revalidate, max_flows, max_flows_per_source, source_dest_check, guest_router, mac, \
     acl, subnet, details FROM interfaces";

fn interfaces(connection: &Connection, model: &mut Model) -> rusqlite::Result<()> {
    each(connection, INTERFACES, |row| {
        let interface = Interface {
            slot: row.get(0)?,
            id: rows::parsed(row, 1)?,
            device: row.get(2)?,
            netns: row.get(3)?,
            hook: rows::named(row, 4, &HookChoice::ALL, HookChoice::name)?,
            orientation: rows::named(
                row,
                5,
                &[Orientation::Host, Orientation::Guest],
                Orientation::name,
            )?,
            non_ip: rows::named(row, 6, &NonIp::ALL, NonIp::name)?,
            ether_types: Default::default(),
            tcp: rows::named(row, 7, &TcpChecks::ALL, TcpChecks::name)?,
            tcp_loose: row.get(8)?,
            tracking: rows::named(row, 9, &Tracking::ALL, Tracking::name)?,
            mode: rows::named(row, 10, &Mode::ALL, Mode::name)?,
            revalidate: row.get(11)?,
            max_flows: row.get(12)?,
            max_flows_per_source: row.get(13)?,
            groups: Vec::new(),
            acl: rows::optional(row, 17)?,
            subnet: rows::parsed(row, 18)?,
            timeouts: Default::default(),
            addresses: Vec::new(),
            port: PortSettings {
                source_dest_check: row.get(14)?,
                router: row.get(15)?,
                mac: rows::optional(row, 16)?,
                allowed: Vec::new(),
            },
            details: rows::json(row, 19)?,
            tags: Default::default(),
        };
        model.make(Change::PutInterface(interface));
        Ok(())
    })?;
    let groups = "SELECT slot, group_id FROM interface_groups ORDER BY slot, position";
    each(connection, groups, |row| {
        if let Some(interface) = interface(model, row)? {
            interface.groups.push(rows::parsed(row, 1)?);
        }
        Ok(())
    })?;
    each(connection, "SELECT slot, state, seconds FROM interface_timeouts", |row| {
        if let Some(interface) = interface(model, row)? {
            let state = rows::named(row, 1, State::ALL, State::timeout_name)?;
            interface.timeouts.insert(state, row.get(2)?);
        }
        Ok(())
    })?;
    let addresses = "SELECT slot, address FROM interface_addresses ORDER BY slot, position";
    each(connection, addresses, |row| {
        if let Some(interface) = interface(model, row)? {
            interface.addresses.push(rows::parsed(row, 1)?);
        }
        Ok(())
    })?;
    each(connection, "SELECT slot, key, value FROM interface_tags", |row| {
        if let Some(interface) = interface(model, row)? {
            interface.tags.insert(row.get(1)?, row.get(2)?);
        }
        Ok(())
    })?;
    each(connection, "SELECT slot, ether_type FROM interface_ether_types", |row| {
        if let Some(interface) = interface(model, row)? {
            interface.ether_types.insert(rows::parsed(row, 1)?);
        }
        Ok(())
    })?;
    let allowed = "SELECT slot, network FROM interface_allowed_addresses ORDER BY slot, position";
    each(connection, allowed, |row| {
        if let Some(interface) = interface(model, row)? {
            interface.port.allowed.push(rows::parsed(row, 1)?);
        }
        Ok(())
    })
}

/// The interface whose slot the first column holds.
fn interface<'a>(
    model: &'a mut Model,
    row: &Row<'_>,
) -> rusqlite::Result<Option<&'a mut Interface>> {
    Ok(model.network_interface_mut(row.get(0)?))
}

/// See [`super::Transaction::active_addresses`].
pub(super) fn active_addresses(connection: &Connection) -> rusqlite::Result<Addresses> {
    let mut addresses = Addresses::new();
    each(connection, "SELECT slot, address FROM active_addresses", |row| {
        addresses.entry(row.get(0)?).or_default().push(rows::parsed(row, 1)?);
        Ok(())
    })?;
    addresses.values_mut().for_each(|addresses| addresses.sort());
    Ok(addresses)
}

fn panic(connection: &Connection, model: &mut Model) -> rusqlite::Result<()> {
    model.is_panicking = connection.query_row("SELECT panic FROM state", [], |row| row.get(0))?;
    each(connection, "SELECT network FROM management", |row| {
        model.management.insert(rows::parsed(row, 0)?);
        Ok(())
    })
}
