//! Reading the whole model. A handful of queries, whatever there is.

use rusqlite::{Connection, Row};

use super::rows;
use crate::model::{Group, Interface, Model, PrefixList, Rule};
use crate::policy::Addresses;

pub(super) fn generation(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row("SELECT generation FROM state", [], |row| rows::count(row, 0))
}

/// Everything. In a transaction, so that all of it is of one moment.
pub(super) fn model(connection: &Connection) -> rusqlite::Result<Model> {
    let mut model = Model::default();
    prefix_lists(connection, &mut model)?;
    groups(connection, &mut model)?;
    interfaces(connection, &mut model)?;
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

fn prefix_lists(connection: &Connection, model: &mut Model) -> rusqlite::Result<()> {
    each(connection, "SELECT id, name, family, version FROM prefix_lists", |row| {
        let list = PrefixList {
            id: rows::parsed(row, 0)?,
            name: row.get(1)?,
            family: rows::family(row, 2)?,
            version: rows::count(row, 3)?,
            entries: Default::default(),
            tags: Default::default(),
        };
        model.prefix_lists.insert(list.id.clone(), list);
        Ok(())
    })?;
    each(connection, "SELECT list, cidr, description FROM prefix_list_entries", |row| {
        if let Some(list) = model.prefix_lists.get_mut(&rows::parsed(row, 0)?) {
            list.entries.insert(rows::parsed(row, 1)?, row.get(2)?);
        }
        Ok(())
    })?;
    each(connection, "SELECT list, key, value FROM prefix_list_tags", |row| {
        if let Some(list) = model.prefix_lists.get_mut(&rows::parsed(row, 0)?) {
            list.tags.insert(row.get(1)?, row.get(2)?);
        }
        Ok(())
    })
}

fn groups(connection: &Connection, model: &mut Model) -> rusqlite::Result<()> {
    each(connection, "SELECT id, name, description FROM groups", |row| {
        let group = Group {
            id: rows::parsed(row, 0)?,
            name: row.get(1)?,
            description: row.get(2)?,
            rules: Vec::new(),
            tags: Default::default(),
        };
        model.groups.insert(group.id.clone(), group);
        Ok(())
    })?;
    each(connection, "SELECT group_id, key, value FROM group_tags", |row| {
        if let Some(group) = model.groups.get_mut(&rows::parsed(row, 0)?) {
            group.tags.insert(row.get(1)?, row.get(2)?);
        }
        Ok(())
    })?;
    let rules = "SELECT group_id, id, number, description, direction, protocol, from_port, \
                 to_port, cidr, prefix_list, peer_group FROM rules ORDER BY number";
    each(connection, rules, |row| {
        if let Some(group) = model.groups.get_mut(&rows::parsed(row, 0)?) {
            group.rules.push(Rule {
                id: rows::parsed(row, 1)?,
                number: row.get(2)?,
                description: row.get(3)?,
                spec: rows::spec(row, 4)?,
            });
        }
        Ok(())
    })
}

const INTERFACES: &str = "SELECT slot, id, device, netns, hook, orientation, non_ip, tcp, pick_up, tracking, \
     mode, revalidate FROM interfaces";

fn interfaces(connection: &Connection, model: &mut Model) -> rusqlite::Result<()> {
    each(connection, INTERFACES, |row| {
        let interface = Interface {
            slot: row.get(0)?,
            id: rows::parsed(row, 1)?,
            device: row.get(2)?,
            netns: row.get(3)?,
            hook: rows::hook(row, 4)?,
            orientation: rows::orientation(row, 5)?,
            non_ip: rows::non_ip(row, 6)?,
            tcp: rows::tcp(row, 7)?,
            pick_up: row.get(8)?,
            tracking: rows::tracking(row, 9)?,
            mode: rows::mode(row, 10)?,
            revalidate: row.get(11)?,
            groups: Vec::new(),
            timeouts: Default::default(),
            addresses: Vec::new(),
        };
        model.interfaces.insert(interface.slot, interface);
        Ok(())
    })?;
    let groups = "SELECT slot, group_id FROM interface_groups ORDER BY slot, position";
    each(connection, groups, |row| {
        if let Some(interface) = model.interfaces.get_mut(&row.get(0)?) {
            interface.groups.push(rows::parsed(row, 1)?);
        }
        Ok(())
    })?;
    each(connection, "SELECT slot, state, seconds FROM interface_timeouts", |row| {
        if let Some(interface) = model.interfaces.get_mut(&row.get(0)?) {
            interface.timeouts.insert(rows::state(row, 1)?, row.get(2)?);
        }
        Ok(())
    })?;
    let addresses = "SELECT slot, address FROM interface_addresses ORDER BY slot, position";
    each(connection, addresses, |row| {
        if let Some(interface) = model.interfaces.get_mut(&row.get(0)?) {
            interface.addresses.push(rows::address(row, 1)?);
        }
        Ok(())
    })
}

/// See [`super::Transaction::addresses_in_force`].
pub(super) fn addresses_in_force(connection: &Connection) -> rusqlite::Result<Addresses> {
    let mut addresses = Addresses::new();
    each(connection, "SELECT slot, address FROM addresses_in_force", |row| {
        addresses.entry(row.get(0)?).or_default().push(rows::address(row, 1)?);
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
