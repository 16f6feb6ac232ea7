//! The configured groups, rules and interfaces on disk: an SQLite file that several processes may use
//! at once.
//!
//! Every change is a transaction, and a committed transaction is on the disk: a process or a host that
//! stops at any moment leaves whole transactions and nothing else.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::{FallocateFlags, fallocate};
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};

use crate::clock::Clocks;
use crate::model::{Entries, GroupId, Limits, Model, PrefixList, RuleId};
use crate::ownership;
use crate::policy::Addresses;

mod cache;
mod connection;
mod copy;
mod ends;
mod entries;
mod error;
mod pending;
mod read;
mod reset;
mod rows;
mod schema;
mod transaction;
mod versions;
mod write;

use connection::{connect, file_at, journal, writable};
pub use error::Error;
pub use pending::Pending;
pub use transaction::{Answered, Blocked, NewAcl, NewGroup, NewPrefixList, Transaction};

/// The file's name in the state directory.
pub const FILE: &str = "secgroup.db";

/// Bytes that are reserved for the journal: a confirmation, a rollback and emergency mode change fewer than
/// ten pages of 4 KiB.
const RESERVED: u64 = 64 << 10;

/// The unit of a file's number of blocks (stat(2)).
const BLOCK: u64 = 512;

/// An open store.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    path: PathBuf,
    /// Device and inode number of the file when it was opened.
    file: Option<(u64, u64)>,
    limits: Limits,
    is_absent: bool,
    /// The clocks of a test.
    moment: Option<Clocks>,
    /// The entries of prefix lists that were read.
    entries: entries::Cache,
    /// The model as it was last read or committed.
    cache: cache::ModelCache,
}

/// How many things have ended by themselves and were removed, since the store was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndedCounts {
    /// Rules of groups.
    pub rules: u64,
    /// Entries of network ACLs.
    pub acl_entries: u64,
    /// Blocks.
    pub blocks: u64,
}

/// The rule that a number identifies; known also after the rule and its group are deleted.
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
    /// Opens the store in a state directory; creates either if it is missing.
    ///
    /// # Errors
    /// The directory cannot be used, or the file is not a store of this program's schema.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Self::open_with(dir, Limits::default())
    }

    /// As [`Self::open`], with other limits than the default ones.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(dir: &Path, limits: Limits) -> Result<Self, Error> {
        ownership::create_directory(dir)?;
        let path = dir.join(FILE);
        ownership::create_file(&path)?;
        let connection = writable(&path)?;
        let file = connection.path().and_then(|opened| file_at(Path::new(opened)));
        let mut store = Self {
            file,
            cache: cache::ModelCache::of(&path, file),
            connection,
            path,
            limits,
            is_absent: false,
            moment: None,
            entries: Default::default(),
        };
        schema::prepare(&mut store.connection, &store.path)?;
        store.reserve_journal();
        Ok(store)
    }

    /// Opens the store in a state directory to change it; where there is none, an empty one in memory, so
    /// that nothing is created. A store that cannot be written is opened too, and its changes fail.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_existing(dir: &Path, limits: Limits) -> Result<Self, Error> {
        let path = dir.join(FILE);
        if matches!(path.try_exists(), Ok(false)) {
            return Self::absent(path, limits);
        }
        Self::open_with(dir, limits)
    }

    /// Opens the store in a state directory for reading: nothing is created or written, so that it works
    /// with a full disk, a read-only file system and beside any other process. Where there is no store,
    /// it is an empty one in memory. What a process that was killed has left half-written is completed first.
    ///
    /// # Errors
    /// The file cannot be read, or is not a store of this program's schema, or somebody else can change
    /// the directory.
    pub fn open_read_only(dir: &Path, limits: Limits) -> Result<Self, Error> {
        let path = dir.join(FILE);
        if matches!(path.try_exists(), Ok(false)) {
            return Self::absent(path, limits);
        }
        ownership::require_directory(dir)?;
        let mut connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .map_err(|error| Error::sqlite(&path, error))?;
        if schema::needs_recovery(&connection) {
            connection = writable(&path)?;
        }
        if !schema::has_tables(&connection, &path)? {
            return Self::absent(path, limits);
        }
        let file = connection.path().and_then(|opened| file_at(Path::new(opened)));
        Ok(Self {
            file,
            cache: cache::ModelCache::of(&path, file),
            connection,
            path,
            limits,
            is_absent: false,
            moment: None,
            entries: Default::default(),
        })
    }

    /// An empty store in memory, in place of the one at a path.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn absent(path: PathBuf, limits: Limits) -> Result<Self, Error> {
        let connection =
            Connection::open_in_memory().map_err(|error| Error::sqlite(&path, error))?;
        let mut store = Self {
            connection,
            path,
            file: None,
            limits,
            is_absent: true,
            moment: None,
            entries: Default::default(),
            cache: Default::default(),
        };
        schema::prepare(&mut store.connection, &store.path)?;
        Ok(store)
    }

    /// The store as it is at another moment than now, for tests.
    #[must_use]
    pub fn at(mut self, clocks: Clocks) -> Self {
        self.moment = Some(clocks);
        self
    }

    fn clocks(&self) -> Clocks {
        self.moment.clone().unwrap_or_else(Clocks::now)
    }

    /// How many things have ended by themselves and were removed.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn ended(&self) -> Result<EndedCounts, Error> {
        read::ended(&self.connection).map_err(self.failed())
    }

    /// Waits for other processes for this time at most, instead of half a minute.
    ///
    /// # Errors
    /// SQLite refuses it.
    pub fn wait_at_most(&self, time: Duration) -> Result<(), Error> {
        self.connection.busy_timeout(time).map_err(self.failed())
    }

    /// Takes disk space for the journal of a small change, so that a confirmation, a rollback and
    /// emergency mode can be stored also when the disk is full. The journal keeps it.
    fn reserve_journal(&self) {
        // Where the file system cannot reserve, or is full already, it fails and nothing depends on it.
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        if let Ok(file) = options.open(journal(&self.path))
            && file.metadata().is_ok_and(|it| it.blocks() * BLOCK < RESERVED)
        {
            let length = i64::try_from(RESERVED).unwrap_or(0);
            let _ = fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, length);
        }
    }

    /// Whether there is no store, and this is an empty one in memory.
    #[must_use]
    pub const fn is_absent(&self) -> bool {
        self.is_absent
    }

    /// Whether the path still leads to the file that was opened; for a store in memory, to none.
    #[must_use]
    pub fn is_at_its_path(&self) -> bool {
        file_at(&self.path) == self.file
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What tells this store from every other: 32 hexadecimal digits, chosen when it was created.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn id(&self) -> Result<String, Error> {
        let id = self.connection.query_row("SELECT id FROM state", [], |row| row.get(0));
        id.map_err(self.failed())
    }

    /// All of it, from one snapshot.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn model(&self) -> Result<Model, Error> {
        // Deferred: one snapshot for all queries, which blocks no writer.
        let read = || {
            let transaction = self.connection.unchecked_transaction()?;
            let model = self.snapshot(&transaction)?;
            transaction.finish()?;
            Ok(model)
        };
        read().map(Arc::unwrap_or_clone).map_err(self.failed())
    }

    fn snapshot(&self, sql: &Connection) -> rusqlite::Result<Arc<Model>> {
        Ok(self.cache.get(sql, &self.clocks(), &self.entries)?.model)
    }

    /// All of it, from one snapshot; what was before the unconfirmed change, if `is_over` says of the change
    /// that it is rolled back.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn model_without<E: From<Error>>(
        &self,
        is_over: impl FnOnce(&Pending) -> Result<bool, E>,
    ) -> Result<Arc<Model>, E> {
        let failed = |error| E::from(self.failed()(error));
        let transaction = self.connection.unchecked_transaction().map_err(failed)?;
        let is_over = match pending::read(&transaction).map_err(failed)? {
            Some(pending) => is_over(&pending)?,
            None => false,
        };
        let model = if is_over {
            pending::show_earlier(&transaction).map_err(failed)?;
            let model = read::model(&transaction, &self.clocks(), &self.entries);
            Arc::new(model.map_err(failed)?)
        } else {
            self.snapshot(&transaction).map_err(failed)?
        };
        // With the views of the earlier tables.
        transaction.rollback().map_err(failed)?;
        Ok(model)
    }

    /// The addresses of group members in the active policies, by slot.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn active_addresses(&self) -> Result<Addresses, Error> {
        read::active_addresses(&self.connection).map_err(self.failed())
    }

    /// The entries of an earlier version of a prefix list; `None` if it is not kept.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn prefix_list_version(
        &self,
        list: &PrefixList,
        version: u64,
    ) -> Result<Option<Entries>, Error> {
        let PrefixList { id, family, .. } = list;
        let get = versions::get(&self.connection, &self.entries, *family, id, version);
        get.map_err(self.failed())
    }

    /// The number of changes since the store was created.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn generation(&self) -> Result<u64, Error> {
        read::generation(&self.connection).map_err(self.failed())
    }

    /// The rule with a number, also a deleted one.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn rule_by_number(&self, number: u32) -> Result<Option<RuleName>, Error> {
        self.connection
            .query_row(
                "SELECT rule_id, group_id, group_name FROM rule_history \
                 WHERE number = ?1 AND rule_id IS NOT NULL",
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
            .map_err(self.failed())
    }

    /// The number of a rule, also of a deleted one; if there were several with this id, that of the last.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn number_of_rule(&self, rule: &RuleId) -> Result<Option<u32>, Error> {
        self.connection
            .query_row(
                "SELECT number FROM rule_history WHERE rule_id = ?1 ORDER BY number DESC LIMIT 1",
                [rule.as_str()],
                |row| row.get(0),
            )
            .optional()
            .map_err(self.failed())
    }

    /// The numbers of all rules that a group has or had.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn rules_of_group(&self, group: &GroupId) -> Result<BTreeSet<u32>, Error> {
        let read = || -> rusqlite::Result<_> {
            let sql = "SELECT number FROM rule_history WHERE group_id = ?1";
            let mut statement = self.connection.prepare(sql)?;
            statement.query_map([group.as_str()], |row| row.get(0))?.collect()
        };
        read().map_err(self.failed())
    }

    /// Whether a group has or had a rule.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn had_group(&self, group: &GroupId) -> Result<bool, Error> {
        let sql = "SELECT EXISTS (SELECT 1 FROM rule_history WHERE group_id = ?1)";
        let had = self.connection.query_row(sql, [group.as_str()], |row| row.get(0));
        had.map_err(self.failed())
    }

    /// The groups of this name, in any case of letters, that have or had a rule.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn groups_had(&self, name: &str) -> Result<Vec<GroupId>, Error> {
        let read = || -> rusqlite::Result<_> {
            let sql = "SELECT DISTINCT group_id FROM rule_history \
                       WHERE group_name = ?1 COLLATE NOCASE AND group_id IS NOT NULL ORDER BY group_id";
            let mut statement = self.connection.prepare(sql)?;
            statement.query_map([name], |row| rows::parsed(row, 0))?.collect()
        };
        read().map_err(self.failed())
    }

    /// Begins a change; waits until no other process writes.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn begin(&mut self) -> Result<Transaction<'_>, Error> {
        let clocks = self.clocks();
        let path = &self.path;
        let failed = |error| Error::sqlite(path, error);
        // Immediate: no other process writes between this read and the commit.
        let sql = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        let snapshot = self.cache.get(&sql, &clocks, &self.entries).map_err(failed)?;
        let moved = ends::Ends::new(&sql, &clocks).and_then(|ends| ends.are_moved(&sql));
        let moved = moved.map_err(failed)?;
        Ok(Transaction::new((sql, path), (snapshot, &self.cache), self.limits, (clocks, moved)))
    }

    /// Records the addresses of group members in the active policies.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn set_active_addresses(&mut self, addresses: &Addresses) -> Result<(), Error> {
        self.write(|sql| write::active_addresses(sql, addresses).map(drop))
    }

    /// The change that is not confirmed yet, if there is one.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn pending(&self) -> Result<Option<Pending>, Error> {
        pending::read(&self.connection).map_err(self.failed())
    }

    /// Deletes the record of the unconfirmed change, and the copy of the state before it. The record is one
    /// page, so that this works on a full disk; the copy is deleted later, where that fails.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn delete_pending(&mut self) -> Result<(), Error> {
        self.write(pending::delete)?;
        self.drop_copy();
        Ok(())
    }

    /// Ends the time for confirmation of the unconfirmed change: its deadline is now, in milliseconds since
    /// the boot.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn end_pending(&mut self, now: u64) -> Result<(), Error> {
        self.write(|sql| pending::end(sql, now))
    }

    /// Restores the state before the unconfirmed change, and deletes its record. Rules get the numbers that
    /// they had; the numbers of rules that this deletes are not used again.
    ///
    /// # Errors
    /// The store cannot be written; nothing has changed then.
    pub fn restore_pending(&mut self) -> Result<(), Error> {
        self.write(pending::restore)?;
        self.drop_copy();
        Ok(())
    }

    /// Deletes what is left of a change that is confirmed or rolled back. The next change with a deadline
    /// does it too.
    fn drop_copy(&mut self) {
        let _ = self.write(pending::drop_copy);
    }

    fn write(
        &mut self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> Result<(), Error> {
        let path = &self.path;
        let failed = |error| Error::sqlite(path, error);
        let sql = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        change(&sql).map_err(failed)?;
        sql.commit().map_err(failed)
    }

    fn failed(&self) -> impl Fn(rusqlite::Error) -> Error + '_ {
        |error| Error::sqlite(&self.path, error)
    }
}
