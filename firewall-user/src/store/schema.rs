//! The tables, and the check that a file has them.

use std::path::Path;

use firewall_ebpf::abi::policy::MAX_RULE;
use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::{Error, write};
use crate::model::apply::DEFAULT_GROUP;
use crate::model::{Acl, Change, Group, Interface, Subnet, Vpc};

/// The schema of this program, in the file's `user_version`. A file of another schema is refused.
const VERSION: i64 = 7;

/// The file's `application_id`: "secg".
const APPLICATION: i64 = 0x7365_6367;

/// Constraints repeat what the model checks: a bug there must not reach the disk.
const TABLES: &str = "
CREATE TABLE state (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    -- By which the pins in the kernel know their store: a new store is another one.
    id TEXT NOT NULL,
    generation INTEGER NOT NULL,
    panic INTEGER NOT NULL,
    -- The boot that the ends are stored for, and nanoseconds since it when they were last looked at.
    clock_boot TEXT,
    clock_boottime INTEGER,
    -- How many have ended by themselves and were removed.
    ended_rules INTEGER NOT NULL,
    ended_acl_entries INTEGER NOT NULL,
    ended_blocks INTEGER NOT NULL
) STRICT;
INSERT INTO state VALUES (1, lower(hex(randomblob(16))), 0, 0, NULL, NULL, 0, 0, 0);
CREATE TABLE management (network TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;

-- A change that is not confirmed yet; `pending` copies the tables as they were before it.
CREATE TABLE pending (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    what TEXT NOT NULL,
    boot TEXT NOT NULL,
    deadline INTEGER NOT NULL
) STRICT;

CREATE TABLE vpcs (
    id TEXT PRIMARY KEY,
    is_default INTEGER NOT NULL,
    -- JSON.
    settings TEXT NOT NULL
) STRICT;
CREATE TABLE vpc_tags (
    vpc TEXT NOT NULL REFERENCES vpcs ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (vpc, key)
) STRICT, WITHOUT ROWID;

-- The form is in entries.rs. A row is never changed, and AUTOINCREMENT: no id is used twice. The networks are
-- last, because what follows them can only be read after them.
CREATE TABLE prefix_list_entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    descriptions BLOB NOT NULL,
    networks BLOB NOT NULL
) STRICT;
CREATE TABLE prefix_lists (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL COLLATE NOCASE UNIQUE,
    family TEXT NOT NULL,
    version INTEGER NOT NULL,
    -- NULL: none.
    entries INTEGER REFERENCES prefix_list_entries,
    -- NULL: as many as it has.
    max_entries INTEGER,
    is_aws INTEGER NOT NULL,
    state TEXT NOT NULL
) STRICT;
-- Entries of earlier versions.
CREATE TABLE prefix_list_versions (
    list TEXT NOT NULL REFERENCES prefix_lists ON DELETE CASCADE,
    version INTEGER NOT NULL,
    -- NULL: none.
    entries INTEGER REFERENCES prefix_list_entries,
    -- How many networks they are.
    networks INTEGER NOT NULL,
    PRIMARY KEY (list, version)
) STRICT, WITHOUT ROWID;
CREATE TABLE prefix_list_tags (
    list TEXT NOT NULL REFERENCES prefix_lists ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (list, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE groups (
    id TEXT PRIMARY KEY,
    vpc TEXT NOT NULL REFERENCES vpcs,
    name TEXT NOT NULL COLLATE NOCASE,
    description TEXT NOT NULL,
    UNIQUE (vpc, name)
) STRICT;
CREATE TABLE group_tags (
    group_id TEXT NOT NULL REFERENCES groups ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (group_id, key)
) STRICT, WITHOUT ROWID;

-- Every rule, entry of an ACL and block that ever existed; the names are of rules. AUTOINCREMENT: no
-- number is used twice.
CREATE TABLE rule_history (
    number INTEGER PRIMARY KEY AUTOINCREMENT CHECK (number BETWEEN 1 AND 536870911),
    -- A rule that was removed and is applied again from a document has its id twice.
    rule_id TEXT,
    group_id TEXT,
    group_name TEXT
) STRICT;
CREATE INDEX rule_history_by_rule ON rule_history (rule_id) WHERE rule_id IS NOT NULL;
CREATE TABLE rules (
    number INTEGER PRIMARY KEY REFERENCES rule_history,
    id TEXT NOT NULL UNIQUE,
    group_id TEXT NOT NULL REFERENCES groups,
    direction TEXT NOT NULL,
    protocol TEXT NOT NULL,
    from_port INTEGER,
    to_port INTEGER,
    cidr TEXT,
    prefix_list TEXT REFERENCES prefix_lists,
    peer_group TEXT REFERENCES groups,
    -- ACCOUNT/VPC/PEERING/GROUP: not on this host.
    foreign_group TEXT,
    description TEXT NOT NULL,
    -- When it ends by itself: milliseconds since 1970, and nanoseconds since a boot.
    end_kind TEXT,
    end_wall INTEGER,
    end_boot TEXT,
    end_boottime INTEGER,
    CHECK (
        (cidr IS NOT NULL) + (prefix_list IS NOT NULL) + (peer_group IS NOT NULL)
        + (foreign_group IS NOT NULL) = 1
    )
) STRICT;
CREATE UNIQUE INDEX rules_by_spec ON rules (
    group_id, direction, protocol, coalesce(from_port, -2), coalesce(to_port, -2),
    coalesce(cidr, prefix_list, peer_group, foreign_group)
);
CREATE INDEX rules_by_prefix_list ON rules (prefix_list) WHERE prefix_list IS NOT NULL;
CREATE INDEX rules_by_peer_group ON rules (peer_group) WHERE peer_group IS NOT NULL;

CREATE TABLE rule_tags (
    number INTEGER NOT NULL REFERENCES rules ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (number, key)
) STRICT, WITHOUT ROWID;

-- Changes of rules that are not in force yet: a rule to add, or the removal of a rule, which has no other columns.
CREATE TABLE staged_rules (
    id TEXT PRIMARY KEY,
    group_id TEXT NOT NULL REFERENCES groups,
    -- Milliseconds since 1970.
    created INTEGER NOT NULL,
    is_removal INTEGER NOT NULL,
    direction TEXT,
    protocol TEXT,
    from_port INTEGER,
    to_port INTEGER,
    cidr TEXT,
    prefix_list TEXT REFERENCES prefix_lists,
    peer_group TEXT REFERENCES groups,
    foreign_group TEXT,
    description TEXT NOT NULL,
    CHECK (
        (cidr IS NOT NULL) + (prefix_list IS NOT NULL) + (peer_group IS NOT NULL)
        + (foreign_group IS NOT NULL) + is_removal = 1
    )
) STRICT, WITHOUT ROWID;
CREATE INDEX staged_rules_by_group ON staged_rules (group_id);
CREATE INDEX staged_rules_by_prefix_list ON staged_rules (prefix_list)
    WHERE prefix_list IS NOT NULL;
CREATE INDEX staged_rules_by_peer_group ON staged_rules (peer_group) WHERE peer_group IS NOT NULL;

CREATE TABLE acls (
    id TEXT PRIMARY KEY,
    vpc TEXT NOT NULL REFERENCES vpcs,
    -- Several may have one, as in EC2, where it is a tag.
    name TEXT NOT NULL,
    is_default INTEGER NOT NULL
) STRICT;
CREATE TABLE acl_tags (
    acl TEXT NOT NULL REFERENCES acls ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (acl, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE acl_entries (
    number INTEGER PRIMARY KEY REFERENCES rule_history,
    acl TEXT NOT NULL REFERENCES acls ON DELETE CASCADE,
    direction TEXT NOT NULL,
    entry INTEGER NOT NULL CHECK (entry BETWEEN 1 AND 32768),
    action TEXT NOT NULL,
    protocol TEXT NOT NULL,
    from_port INTEGER,
    to_port INTEGER,
    cidr TEXT,
    prefix_list TEXT REFERENCES prefix_lists,
    end_kind TEXT,
    end_wall INTEGER,
    end_boot TEXT,
    end_boottime INTEGER,
    UNIQUE (acl, direction, entry),
    CHECK ((cidr IS NOT NULL) + (prefix_list IS NOT NULL) = 1)
) STRICT;
CREATE INDEX acl_entries_by_prefix_list ON acl_entries (prefix_list) WHERE prefix_list IS NOT NULL;

CREATE TABLE subnets (
    id TEXT PRIMARY KEY,
    vpc TEXT NOT NULL REFERENCES vpcs,
    -- NULL: the default one of the VPC.
    acl TEXT REFERENCES acls,
    is_default INTEGER NOT NULL,
    -- JSON.
    settings TEXT NOT NULL,
    association TEXT NOT NULL
) STRICT;
CREATE INDEX subnets_by_vpc ON subnets (vpc);
CREATE INDEX subnets_by_acl ON subnets (acl) WHERE acl IS NOT NULL;
CREATE TABLE subnet_tags (
    subnet TEXT NOT NULL REFERENCES subnets ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (subnet, key)
) STRICT, WITHOUT ROWID;

-- From slot 256 on those that are not attached, whose device is empty.
CREATE TABLE interfaces (
    slot INTEGER PRIMARY KEY CHECK (slot BETWEEN 0 AND 65535),
    id TEXT NOT NULL UNIQUE,
    device TEXT NOT NULL,
    netns TEXT,
    hook TEXT NOT NULL,
    orientation TEXT NOT NULL,
    non_ip TEXT NOT NULL,
    tcp TEXT NOT NULL,
    tcp_loose INTEGER NOT NULL,
    tracking TEXT NOT NULL,
    mode TEXT NOT NULL,
    revalidate INTEGER NOT NULL,
    max_flows INTEGER CHECK (max_flows BETWEEN 16 AND 16777216),
    max_flows_per_source INTEGER CHECK (max_flows_per_source BETWEEN 1 AND 16777216),
    source_dest_check INTEGER NOT NULL,
    guest_router INTEGER NOT NULL,
    mac TEXT,
    acl TEXT REFERENCES acls,
    subnet TEXT NOT NULL REFERENCES subnets,
    -- JSON.
    details TEXT NOT NULL
) STRICT;
CREATE INDEX interfaces_by_subnet ON interfaces (subnet);
CREATE INDEX interfaces_by_acl ON interfaces (acl) WHERE acl IS NOT NULL;
CREATE UNIQUE INDEX interfaces_by_device ON interfaces (device, coalesce(netns, ''))
    WHERE slot < 256;
CREATE TABLE interface_tags (
    slot INTEGER NOT NULL REFERENCES interfaces ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (slot, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE interface_groups (
    slot INTEGER NOT NULL REFERENCES interfaces ON DELETE CASCADE,
    position INTEGER NOT NULL,
    group_id TEXT NOT NULL REFERENCES groups,
    PRIMARY KEY (slot, position),
    UNIQUE (slot, group_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX interface_groups_by_group ON interface_groups (group_id);
CREATE TABLE interface_timeouts (
    slot INTEGER NOT NULL REFERENCES interfaces ON DELETE CASCADE,
    state TEXT NOT NULL,
    seconds INTEGER NOT NULL,
    PRIMARY KEY (slot, state)
) STRICT, WITHOUT ROWID;
CREATE TABLE interface_addresses (
    slot INTEGER NOT NULL REFERENCES interfaces ON DELETE CASCADE,
    position INTEGER NOT NULL,
    address TEXT NOT NULL,
    PRIMARY KEY (slot, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE interface_ether_types (
    slot INTEGER NOT NULL REFERENCES interfaces ON DELETE CASCADE,
    ether_type TEXT NOT NULL,
    PRIMARY KEY (slot, ether_type)
) STRICT, WITHOUT ROWID;
CREATE TABLE interface_allowed_addresses (
    slot INTEGER NOT NULL REFERENCES interfaces ON DELETE CASCADE,
    position INTEGER NOT NULL,
    network TEXT NOT NULL,
    PRIMARY KEY (slot, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE blocks (
    number INTEGER PRIMARY KEY REFERENCES rule_history,
    cidr TEXT,
    prefix_list TEXT REFERENCES prefix_lists,
    -- Of an interface, which has a new row with each change.
    interface TEXT,
    reason TEXT NOT NULL,
    created INTEGER NOT NULL,
    end_kind TEXT,
    end_wall INTEGER,
    end_boot TEXT,
    end_boottime INTEGER,
    CHECK ((cidr IS NOT NULL) + (prefix_list IS NOT NULL) = 1)
) STRICT;
CREATE UNIQUE INDEX blocks_by_target ON blocks (coalesce(cidr, prefix_list), coalesce(interface, ''));
CREATE INDEX blocks_by_prefix_list ON blocks (prefix_list) WHERE prefix_list IS NOT NULL;

CREATE TABLE flow_logs (
    id TEXT PRIMARY KEY,
    -- The id of a VPC, subnet or interface, which may be deleted meanwhile.
    resource TEXT NOT NULL,
    -- Milliseconds since 1970.
    created INTEGER NOT NULL,
    -- JSON.
    settings TEXT NOT NULL
) STRICT;
CREATE TABLE flow_log_tags (
    flow_log TEXT NOT NULL REFERENCES flow_logs ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (flow_log, key)
) STRICT, WITHOUT ROWID;

-- The answers to requests with a client token, for a while: the same request again gets the same answer.
CREATE TABLE client_tokens (
    action TEXT NOT NULL,
    token TEXT NOT NULL,
    digest TEXT NOT NULL,
    answer TEXT NOT NULL,
    -- Milliseconds since 1970.
    time INTEGER NOT NULL,
    PRIMARY KEY (action, token)
) STRICT, WITHOUT ROWID;
CREATE INDEX client_tokens_by_time ON client_tokens (time);

-- What ends by itself is looked for in every change.
CREATE INDEX rules_with_end ON rules (number) WHERE end_kind IS NOT NULL;
CREATE INDEX acl_entries_with_end ON acl_entries (number) WHERE end_kind IS NOT NULL;
CREATE INDEX blocks_with_end ON blocks (number) WHERE end_kind IS NOT NULL;

-- The addresses of group members in the policies that are active in the kernel.
CREATE TABLE active_addresses (
    slot INTEGER NOT NULL,
    address TEXT NOT NULL,
    PRIMARY KEY (slot, address)
) STRICT, WITHOUT ROWID;
";

/// The schema's CHECK on a rule's number, and its slot of the first interface that is not attached.
const _: () = assert!(MAX_RULE == 536_870_911 && Interface::FIRST_UNATTACHED == 256);

/// What a file holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Nothing,
    Store,
}

/// Creates the tables in a new file, and refuses a file that is not a store of this schema.
pub(super) fn prepare(connection: &mut Connection, path: &Path) -> Result<(), Error> {
    let failed = |error| Error::sqlite(path, error);
    // One snapshot: another process may create the tables between two reads.
    let snapshot = connection.unchecked_transaction().map_err(failed)?;
    let content = inspect(&snapshot, path)?;
    snapshot.finish().map_err(failed)?;
    if content == Content::Store {
        return Ok(());
    }
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    // Another process may have created them before this one had the lock.
    if inspect(&transaction, path)? == Content::Store {
        return Ok(());
    }
    transaction.execute_batch(TABLES).map_err(failed)?;
    insert_first_contents(&transaction, path)?;
    transaction.pragma_update(None, "application_id", APPLICATION).map_err(failed)?;
    transaction.pragma_update(None, "user_version", VERSION).map_err(failed)?;
    transaction.commit().map_err(failed)
}

/// Writes what every store has from the start into empty tables.
pub(super) fn insert_first_contents(sql: &Connection, path: &Path) -> Result<(), Error> {
    first_contents()?.iter_mut().try_for_each(|change| {
        let written = write::change(sql, change, None, |_| DEFAULT_GROUP.to_owned());
        written.map_err(|error| Error::sqlite(path, error))
    })
}

/// What every store has from the start, as an AWS account has it: a default VPC with a subnet, a group and a
/// network ACL.
fn first_contents() -> Result<Vec<Change>, Error> {
    let vpc = Vpc::new_default();
    let default = Group::new_default(&vpc)?;
    let acl = Acl::new_default(vpc.id.clone())?;
    let mut contents = vec![Change::PutVpc(vpc), Change::PutSubnet(Subnet::new_default())];
    contents.extend([Change::CreateAcl(acl)]);
    contents.extend(default);
    Ok(contents)
}

/// Whether a file has the tables; a process may have been killed before it created them.
///
/// # Errors
/// It is not a store of this schema.
pub(super) fn has_tables(connection: &Connection, path: &Path) -> Result<bool, Error> {
    Ok(inspect(connection, path)? == Content::Store)
}

/// Whether a process was killed while it wrote: its journal is to be rolled back, which a connection for
/// reading cannot do.
pub(super) fn needs_recovery(connection: &Connection) -> bool {
    let read = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
    read.is_err_and(|error| is_read_only(&error))
}

/// Whether a journal could not be rolled back because nothing can be written.
pub(super) fn is_read_only(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen))
}

fn inspect(connection: &Connection, path: &Path) -> Result<Content, Error> {
    let number = |pragma: &str| {
        connection
            .pragma_query_value(None, pragma, |row| row.get::<_, i64>(0))
            .map_err(|error| Error::sqlite(path, error))
    };
    let (application, version) = (number("application_id")?, number("user_version")?);
    // SQLite's own count of changes to the schema: 0 in a file without tables.
    let changes = number("schema_version")?;
    match (application, version) {
        (APPLICATION, VERSION) => Ok(Content::Store),
        (APPLICATION, found) => {
            Err(Error::Schema { path: path.to_owned(), found, expected: VERSION })
        }
        (0, 0) if changes == 0 => Ok(Content::Nothing),
        _ => Err(Error::OtherProgram { path: path.to_owned() }),
    }
}
