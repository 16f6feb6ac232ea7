//! What users said, kept on disk: an SQLite file that several processes may use at once.
//!
//! Everything is written in transactions, and a transaction that was acknowledged is on the disk:
//! a process or a host that stops at any moment leaves whole transactions behind, nothing else.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use crate::model::{GroupId, Limits, Model, RuleId};
use crate::policy::Addresses;

mod error;
mod pending;
mod read;
mod rows;
mod schema;
mod transaction;
mod write;

pub use error::Error;
pub use pending::Pending;
pub use transaction::{NewGroup, NewPrefixList, Transaction};

/// The file's name in the state directory.
pub const FILE: &str = "secgroup.db";

/// How long a process waits for another one's write. Writes take milliseconds; this is for a
/// disk that stalls.
const BUSY: Duration = Duration::from_secs(30);

/// An open store.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    path: PathBuf,
    limits: Limits,
}

/// What a rule's number stood for; it is known after the rule and its group are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleName {
    /// The rule.
    pub rule: RuleId,
    /// Its group.
    pub group: GroupId,
    /// The group's name.
    pub group_name: String,
}

impl Store {
    /// Opens the store in a state directory, and makes both where they are missing.
    ///
    /// # Errors
    /// When the directory cannot be used, or the file is no store that this program knows.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Self::open_with(dir, Limits::default())
    }

    /// As [`Self::open`], with limits of one's own.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(dir: &Path, limits: Limits) -> Result<Self, Error> {
        make_dir(dir)?;
        let path = dir.join(FILE);
        let connection = connect(&path).map_err(|error| Error::sqlite(&path, error))?;
        let mut store = Self { connection, path, limits };
        schema::prepare(&mut store.connection, &store.path)?;
        Ok(store)
    }

    /// Everything, as one moment had it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn model(&self) -> Result<Model, Error> {
        // Deferred: one snapshot for all the queries, which stops no writer.
        let read = || -> Result<Model, Error> {
            let transaction = self.connection.unchecked_transaction().map_err(self.told())?;
            let model = read::model(&transaction).map_err(self.told())?;
            transaction.finish().map_err(self.told())?;
            Ok(model)
        };
        read()
    }

    /// The number of changes made since the store began.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn generation(&self) -> Result<u64, Error> {
        read::generation(&self.connection).map_err(self.told())
    }

    /// What a rule's number stands for, or stood for.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn rule_by_number(&self, number: u32) -> Result<Option<RuleName>, Error> {
        self.connection
            .query_row(
                "SELECT rule_id, group_id, group_name FROM rule_history WHERE number = ?1",
                [number],
                |row| {
                    Ok(RuleName {
                        rule: rows::parsed(row, 0)?,
                        group: rows::parsed(row, 1)?,
                        group_name: row.get(2)?,
                    })
                },
            )
            .optional()
            .map_err(self.told())
    }

    /// The number that stands for a rule, also for one that is gone.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn number_of_rule(&self, rule: &RuleId) -> Result<Option<u32>, Error> {
        self.connection
            .query_row(
                "SELECT number FROM rule_history WHERE rule_id = ?1",
                [rule.as_str()],
                |row| row.get(0),
            )
            .optional()
            .map_err(self.told())
    }

    /// The numbers of all rules that a group ever had.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn rules_of_group(&self, group: &GroupId) -> Result<BTreeSet<u32>, Error> {
        let read = || -> rusqlite::Result<_> {
            let sql = "SELECT number FROM rule_history WHERE group_id = ?1";
            let mut statement = self.connection.prepare(sql)?;
            statement.query_map([group.as_str()], |row| row.get(0))?.collect()
        };
        read().map_err(self.told())
    }

    /// Begins a change; waits for another process's to end.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn begin(&mut self) -> Result<Transaction<'_>, Error> {
        let path = &self.path;
        let told = |error| Error::sqlite(path, error);
        // Immediate: what is read here is what the change is made to.
        let sql = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(told)?;
        let model = read::model(&sql).map_err(told)?;
        let generation = read::generation(&sql).map_err(told)?;
        Ok(Transaction::new(sql, path, model, generation, self.limits))
    }

    /// Notes which addresses of group members the policies in force speak of.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_addresses_in_force(&mut self, addresses: &Addresses) -> Result<(), Error> {
        let path = &self.path;
        let told = |error| Error::sqlite(path, error);
        let sql = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(told)?;
        write::addresses_in_force(&sql, addresses).map_err(told)?;
        sql.commit().map_err(told)
    }

    /// The change that waits for its confirmation, if there is one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn pending(&self) -> Result<Option<Pending>, Error> {
        pending::read(&self.connection).map_err(self.told())
    }

    /// Forgets that a change waits, and what was before it: it stays as it is.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn forget_pending(&mut self) -> Result<(), Error> {
        let path = &self.path;
        let told = |error| Error::sqlite(path, error);
        let sql = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(told)?;
        pending::forget(&sql).map_err(told)?;
        sql.commit().map_err(told)
    }

    fn told(&self) -> impl Fn(rusqlite::Error) -> Error + '_ {
        |error| Error::sqlite(&self.path, error)
    }
}

fn make_dir(dir: &Path) -> Result<(), Error> {
    if dir.is_dir() {
        return Ok(());
    }
    let make = || {
        if let Some(parent) = dir.parent() {
            fs::create_dir_all(parent)?;
        }
        // Who may read the rules of a host is root's business.
        DirBuilder::new().mode(0o700).create(dir)
    };
    match make() {
        // Another process made it meanwhile.
        Err(_) if dir.is_dir() => Ok(()),
        result => result.map_err(|source| Error::Directory { dir: dir.to_owned(), source }),
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // FULL: an acknowledged change is on the disk, not only on its way.
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}
