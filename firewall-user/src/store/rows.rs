//! Converts columns to the types of the model.

use std::error::Error as StdError;

use firewall_ebpf::abi::interface::Direction;
use rusqlite::types::{Type, ValueRef};
use rusqlite::{Error, Row};

use crate::model::{Peer, RuleSpec, Traffic};

/// A column that holds the text form of a type.
pub(super) fn parsed<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: std::str::FromStr,
    T::Err: StdError + Send + Sync + 'static,
{
    text(row, column)?.parse().map_err(|error| invalid(column, error))
}

/// A column that holds the text form of a type, or NULL.
pub(super) fn optional<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>>
where
    T: std::str::FromStr,
    T::Err: StdError + Send + Sync + 'static,
{
    let is_null = row.get_ref(column)? == ValueRef::Null;
    if is_null { Ok(None) } else { parsed(row, column).map(Some) }
}

/// A column that holds the name of one of `all`.
pub(super) fn named<T: Copy>(
    row: &Row<'_>,
    column: usize,
    all: &[T],
    name: fn(T) -> &'static str,
) -> rusqlite::Result<T> {
    let text = text(row, column)?;
    let found = all.iter().copied().find(|one| name(*one) == text);
    found.ok_or_else(|| invalid(column, format!("unknown name {text:?}")))
}

/// The text of a column, borrowed from SQLite.
fn text<'a>(row: &'a Row<'_>, column: usize) -> rusqlite::Result<&'a str> {
    row.get_ref(column)?.as_str().map_err(|error| invalid(column, error))
}

/// What a column holds is not what this program writes.
pub(super) fn invalid(column: usize, error: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
    Error::FromSqlConversionFailure(column, Type::Text, error.into())
}

/// The columns `direction, protocol, from_port, to_port, cidr, prefix_list, peer_group, foreign_group`, the
/// first at `column`.
pub(super) fn spec(row: &Row<'_>, column: usize) -> rusqlite::Result<RuleSpec> {
    let protocol = text(row, column + 1)?;
    let traffic = Traffic::from_ec2(protocol, row.get(column + 2)?, row.get(column + 3)?)
        .map_err(|error| invalid(column + 1, error))?;
    let present = |column| row.get_ref(column).map(|text| text != ValueRef::Null);
    let peer = if present(column + 4)? {
        Peer::from(parsed::<ipnet::IpNet>(row, column + 4)?)
    } else if present(column + 5)? {
        Peer::PrefixList(parsed(row, column + 5)?)
    } else if present(column + 6)? {
        Peer::Group(parsed(row, column + 6)?)
    } else {
        Peer::Foreign(Box::new(parsed(row, column + 7)?))
    };
    let direction = named(row, column, &Direction::ALL, Direction::name)?;
    Ok(RuleSpec { direction, traffic, peer })
}

/// The columns `cidr, prefix_list`, the first at `column`: one of them is not NULL.
pub(super) fn network_or_list(row: &Row<'_>, column: usize) -> rusqlite::Result<Peer> {
    match optional::<ipnet::IpNet>(row, column)? {
        Some(network) => Ok(Peer::from(network)),
        None => Ok(Peer::PrefixList(parsed(row, column + 1)?)),
    }
}

/// A column that holds a count. SQLite's integers are signed.
pub(super) fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| Error::IntegralValueOutOfRange(column, number))
}

/// A column that holds a value as JSON.
pub(super) fn json<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<T> {
    serde_json::from_str(text(row, column)?).map_err(|error| invalid(column, error))
}

/// A value as JSON, for a column.
pub(super) fn to_json(value: &impl serde::Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| Error::ToSqlConversionFailure(error.into()))
}
