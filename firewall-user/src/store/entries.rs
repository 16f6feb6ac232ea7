//! The entries of prefix lists: one value each, because a list can have a million.
//!
//! A set of entries is written once and never changed. A change of a list writes another set and refers to it,
//! so that the copy of the lists before a change (`pending`) costs no more than the lists' names.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Read};

use ipnet::{Ipv4Net, Ipv6Net};
use rusqlite::types::Type;
use rusqlite::{Connection, MAIN_DB, OptionalExtension as _};

use crate::model::{Entries, Family};

/// Writes a set of entries; returns its id, `None` for the empty set.
pub(super) fn write(sql: &Connection, entries: &Entries) -> rusqlite::Result<Option<i64>> {
    if entries.is_empty() {
        return Ok(None);
    }
    sql.prepare_cached("INSERT INTO prefix_list_entries (descriptions, networks) VALUES (?1, ?2)")?
        .execute([pack_descriptions(entries), pack_networks(entries)])?;
    Ok(Some(sql.last_insert_rowid()))
}

/// The sets that a connection has read: a command reads the lists several times.
#[derive(Debug, Default)]
pub(super) struct Cache(RefCell<BTreeMap<i64, Entries>>);

impl Cache {
    /// A set of entries of one family; `None`: it is not one that [`fn@write`] has written.
    pub(super) fn get(
        &self,
        sql: &Connection,
        family: Family,
        id: i64,
    ) -> rusqlite::Result<Option<Entries>> {
        if let Some(known) = self.0.borrow().get(&id) {
            return Ok(Some(known.clone()));
        }
        let read = load(sql, family, id)?;
        if let Some(read) = &read {
            self.0.borrow_mut().insert(id, read.clone());
        }
        Ok(read)
    }

    /// Forgets the other sets.
    pub(super) fn keep(&self, ids: &[i64]) {
        self.0.borrow_mut().retain(|id, _| ids.contains(id));
    }
}

fn load(sql: &Connection, family: Family, id: i64) -> rusqlite::Result<Option<Entries>> {
    let descriptions: Option<Vec<u8>> = sql
        .prepare_cached("SELECT descriptions FROM prefix_list_entries WHERE id = ?1")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    let Some(descriptions) = descriptions else { return Ok(None) };
    // Read in pieces: as one value, tens of megabytes would be in memory twice.
    let networks = sql.blob_open(MAIN_DB, "prefix_list_entries", "networks", id, true)?;
    let length = networks.len();
    let read = read(family, networks, length, &descriptions);
    read.map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Blob, error.into()))
}

/// Deletes the sets that neither a version of a list refers to nor the copy of one.
pub(super) fn drop_unused(sql: &Connection) -> rusqlite::Result<()> {
    let is_copied: bool = sql.query_row(
        "SELECT count(*) FROM sqlite_schema WHERE name = 'before_prefix_lists'",
        [],
        |row| row.get(0),
    )?;
    let mut tables = vec!["prefix_lists", "prefix_list_versions"];
    if is_copied {
        tables.extend(["before_prefix_lists", "before_prefix_list_versions"]);
    }
    let used: Vec<_> = tables
        .into_iter()
        .map(|table| format!("SELECT entries FROM {table} WHERE entries IS NOT NULL"))
        .collect();
    sql.execute_batch(&format!(
        "DELETE FROM prefix_list_entries WHERE id NOT IN ({})",
        used.join(" UNION ALL ")
    ))
}

/// Each address in network byte order, followed by its prefix length.
fn pack_networks(entries: &Entries) -> Vec<u8> {
    let (v4, v6) = (entries.networks().v4(), entries.networks().v6());
    let mut bytes = Vec::with_capacity(v4.len() * V4 + v6.len() * V6);
    for network in v4 {
        bytes.extend(network.addr().octets());
        bytes.push(network.prefix_len());
    }
    for network in v6 {
        bytes.extend(network.addr().octets());
        bytes.push(network.prefix_len());
    }
    bytes
}

/// Bytes of a network.
const V4: usize = 4 + 1;
const V6: usize = 16 + 1;

/// Each description that is not empty: the position of its entry and its length in bytes, both with 32 bits in
/// network byte order, then its text.
fn pack_descriptions(entries: &Entries) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (position, text) in entries.descriptions() {
        bytes.extend(position.to_be_bytes());
        bytes.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes
}

/// Reads a set of entries of one family; `None`: it is not one that [`fn@write`] has written. `length` is that of
/// the networks.
fn read(
    family: Family,
    networks: impl Read,
    length: usize,
    descriptions: &[u8],
) -> io::Result<Option<Entries>> {
    let (v4, v6) = match family {
        Family::Ipv4 => (networks_of(networks, length, v4_of)?, Some(Vec::new())),
        Family::Ipv6 => (Some(Vec::new()), networks_of(networks, length, v6_of)?),
    };
    let all = v4.zip(v6).zip(unpack_descriptions(descriptions));
    Ok(all.and_then(|((v4, v6), descriptions)| Entries::from_sorted(v4, v6, descriptions)))
}

/// Networks that are read at a time.
const PIECE: usize = 4096;

fn networks_of<const N: usize, T>(
    mut bytes: impl Read,
    length: usize,
    network: impl Fn(&[u8; N]) -> Option<T>,
) -> io::Result<Option<Vec<T>>> {
    if !length.is_multiple_of(N) {
        return Ok(None);
    }
    let count = length / N;
    let mut networks = Vec::with_capacity(count);
    let mut piece = vec![[0; N]; PIECE.min(count)];
    while networks.len() < count {
        piece.truncate(count - networks.len());
        bytes.read_exact(piece.as_flattened_mut())?;
        for bytes in &piece {
            match network(bytes) {
                Some(network) => networks.push(network),
                None => return Ok(None),
            }
        }
    }
    Ok(Some(networks))
}

fn v4_of(&[a, b, c, d, length]: &[u8; V4]) -> Option<Ipv4Net> {
    let network = Ipv4Net::new([a, b, c, d].into(), length).ok()?;
    (network.network() == network.addr()).then_some(network)
}

fn v6_of(bytes: &[u8; V6]) -> Option<Ipv6Net> {
    let (address, length) = bytes.split_first_chunk::<16>()?;
    let network = Ipv6Net::new((*address).into(), *length.first()?).ok()?;
    (network.network() == network.addr()).then_some(network)
}

fn unpack_descriptions(mut bytes: &[u8]) -> Option<Vec<(u32, Box<str>)>> {
    let mut read = Vec::new();
    while !bytes.is_empty() {
        let (position, rest) = bytes.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (text, rest) = rest.split_at_checked(length)?;
        let text = std::str::from_utf8(text).ok().filter(|text| !text.is_empty())?;
        read.push((u32::from_be_bytes(*position), text.into()));
        bytes = rest;
    }
    Some(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(family: Family, networks: &[u8], descriptions: &[u8]) -> Option<Entries> {
        super::read(family, networks, networks.len(), descriptions).unwrap()
    }

    fn entries(texts: &[(&str, &str)]) -> Entries {
        let entry = |(network, text): &(&str, &str)| (network.parse().unwrap(), (*text).to_owned());
        texts.iter().map(entry).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let v4 = [("0.0.0.0/0", ""), ("10.0.0.0/8", "office"), ("192.0.2.7/32", "ü")];
        let v6 = [("::/0", "all"), ("2001:db8::/32", ""), ("2001:db8::1/128", "one")];
        for (family, texts) in [(Family::Ipv4, v4), (Family::Ipv6, v6)] {
            let entries = entries(&texts);
            let (networks, texts) = (pack_networks(&entries), pack_descriptions(&entries));
            assert_eq!(read(family, &networks, &texts), Some(entries));
        }
        assert_eq!(read(Family::Ipv4, &[], &[]), Some(Entries::default()));
    }

    #[test]
    fn other_bytes_are_refused() {
        let all = entries(&[("10.0.0.0/8", "office"), ("192.0.2.7/32", "x")]);
        let (networks, texts) = (pack_networks(&all), pack_descriptions(&all));
        for length in (1..networks.len()).filter(|length| length % V4 != 0) {
            assert_eq!(read(Family::Ipv4, &networks[..length], &[]), None, "{length} bytes");
        }
        // The second description is of an entry that is not there.
        assert_eq!(read(Family::Ipv4, &networks[..V4], &texts), None);
        for length in 1..texts.len() {
            let cut = read(Family::Ipv4, &networks, &texts[..length]);
            assert_eq!(cut.is_some(), length == 4 + 4 + "office".len(), "{length} bytes");
        }
        for wrong in [
            // Host bits, too long, out of order, twice.
            &[10, 0, 0, 1, 8][..],
            &[10, 0, 0, 0, 33],
            &[10, 0, 0, 0, 8, 9, 0, 0, 0, 8],
            &[10, 0, 0, 0, 8, 10, 0, 0, 0, 8],
        ] {
            assert_eq!(read(Family::Ipv4, wrong, &[]), None, "{wrong:?}");
        }
        assert_eq!(read(Family::Ipv6, &networks, &texts), None);
        assert_eq!(read(Family::Ipv4, &networks, &[0, 0, 0, 0, 0, 0, 0, 1, 0xff]), None);
    }
}
