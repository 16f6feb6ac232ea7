//! Between columns and the model's types.

use std::error::Error as StdError;
use std::net::IpAddr;

use firewall_ebpf::exempt::NonIp;
use firewall_ebpf::interface::{Direction, Orientation, State, TcpChecks};
use rusqlite::types::{Type, ValueRef};
use rusqlite::{Error, Row};

use crate::model::{Family, HookChoice, Mode, Peer, RuleSpec, Tracking, Traffic};

/// A column that holds what a type's `Display` wrote.
pub(super) fn parsed<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: std::str::FromStr,
    T::Err: StdError + Send + Sync + 'static,
{
    text(row, column)?.parse().map_err(|error| strange(column, error))
}

/// A column that holds one of a few words.
fn word<T>(row: &Row<'_>, column: usize, find: fn(&str) -> Option<T>) -> rusqlite::Result<T> {
    let text = text(row, column)?;
    find(text).ok_or_else(|| strange(column, format!("{text:?} means nothing here")))
}

/// A column's text where SQLite has it.
fn text<'a>(row: &'a Row<'_>, column: usize) -> rusqlite::Result<&'a str> {
    row.get_ref(column)?.as_str().map_err(|error| strange(column, error))
}

fn strange(column: usize, error: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
    Error::FromSqlConversionFailure(column, Type::Text, error.into())
}

/// The columns `direction, protocol, from_port, to_port, cidr, prefix_list, peer_group`, the
/// first at `column`.
pub(super) fn spec(row: &Row<'_>, column: usize) -> rusqlite::Result<RuleSpec> {
    let protocol = text(row, column + 1)?;
    let traffic = Traffic::from_ec2(protocol, row.get(column + 2)?, row.get(column + 3)?)
        .map_err(|error| strange(column + 1, error))?;
    let present = |column| row.get_ref(column).map(|text| text != ValueRef::Null);
    let peer = if present(column + 4)? {
        Peer::from(parsed::<ipnet::IpNet>(row, column + 4)?)
    } else if present(column + 5)? {
        Peer::PrefixList(parsed(row, column + 5)?)
    } else {
        Peer::Group(parsed(row, column + 6)?)
    };
    Ok(RuleSpec { direction: word(row, column, direction)?, traffic, peer })
}

/// A column that counts. SQLite's integers are signed.
pub(super) fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| Error::IntegralValueOutOfRange(column, number))
}

/// The column `family`.
pub(super) fn family(row: &Row<'_>, column: usize) -> rusqlite::Result<Family> {
    word(row, column, |text| {
        [Family::Ipv4, Family::Ipv6].into_iter().find(|family| family.name() == text)
    })
}

/// The column `hook`.
pub(super) fn hook(row: &Row<'_>, column: usize) -> rusqlite::Result<HookChoice> {
    word(row, column, |text| HookChoice::ALL.into_iter().find(|hook| hook.name() == text))
}

/// The column `orientation`.
pub(super) fn orientation(row: &Row<'_>, column: usize) -> rusqlite::Result<Orientation> {
    word(row, column, |text| {
        [Orientation::Host, Orientation::Guest].into_iter().find(|one| one.name() == text)
    })
}

/// The column `non_ip`.
pub(super) fn non_ip(row: &Row<'_>, column: usize) -> rusqlite::Result<NonIp> {
    word(row, column, |text| NonIp::ALL.into_iter().find(|one| one.name() == text))
}

/// The column `tcp`.
pub(super) fn tcp(row: &Row<'_>, column: usize) -> rusqlite::Result<TcpChecks> {
    word(row, column, |text| TcpChecks::ALL.into_iter().find(|one| one.name() == text))
}

/// The column `tracking`.
pub(super) fn tracking(row: &Row<'_>, column: usize) -> rusqlite::Result<Tracking> {
    word(row, column, |text| Tracking::ALL.into_iter().find(|one| one.name() == text))
}

/// The column `mode`.
pub(super) fn mode(row: &Row<'_>, column: usize) -> rusqlite::Result<Mode> {
    word(row, column, |text| Mode::ALL.into_iter().find(|one| one.name() == text))
}

/// The column `state`.
pub(super) fn state(row: &Row<'_>, column: usize) -> rusqlite::Result<State> {
    word(row, column, |text| State::ALL.iter().copied().find(|state| state.timeout_name() == text))
}

/// The column `address`.
pub(super) fn address(row: &Row<'_>, column: usize) -> rusqlite::Result<IpAddr> {
    parsed(row, column)
}

fn direction(text: &str) -> Option<Direction> {
    Direction::ALL.into_iter().find(|direction| direction.name() == text)
}
