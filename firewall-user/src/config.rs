//! The configuration file: limits, and the sizes of the kernel's maps.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use arrayvec::ArrayString;
use firewall_ebpf::abi::limits::MAX_INTERFACES;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::dataplane::object::shapes::Sizes;
use crate::dataplane::tables::interface::FlowSizes;
use crate::explain::Explain;
use crate::model::{GROUPS_PER_INTERFACE_MAX, Identity, Limits};

/// The default configuration file; it need not exist.
pub const DEFAULT_FILE: &str = "/etc/secgroup/config.toml";

/// Where state lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Directory of the store and the lock.
    pub state_dir: PathBuf,
    /// Directory of the pinned programs, maps and links.
    pub pin_dir: PathBuf,
    /// The configuration file, if one was named.
    pub config: Option<PathBuf>,
}

/// The configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Limits on groups, rules and prefix lists. The defaults are EC2's quotas. A change takes effect at
    /// the next command; existing objects beyond a lowered limit stay.
    pub limits: Limits,
    /// Sizes of the kernel's maps. Flows and fragments have tables of their own for each interface, which
    /// are created when it is attached; a change takes effect at the next `attach` or `reconcile`, and flows are kept.
    /// `rules` and `interfaces` are sizes of maps that all interfaces share, and a change takes effect when
    /// no interface is attached: at the next boot, or by `secgroup detach --all` and attaching again.
    /// `reconcile` names each size that differs from what is in the kernel.
    pub maps: Maps,
    /// Records of dropped packets, which `secgroup serve` collects.
    pub records: Records,
    /// What stands for the AWS account and region in ids, ARNs and documents.
    pub ec2: Identity,
    /// The files of flow logs with the destination `s3`. A change takes effect within seconds of SIGHUP.
    pub flow_logs: FlowLogFiles,
    /// Whether these are the defaults in place of a file that cannot be used: tables that exist keep their
    /// sizes.
    #[serde(skip)]
    pub is_substitute: bool,
}

/// Sizes of the kernel's maps, in entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Maps {
    /// Flows that are not proven yet, of each interface and family. A new flow in the full table evicts one
    /// that was not used recently.
    pub flows_new: Entries,
    /// Proven UDP flows of each interface and family. A new one in the full table evicts one that was not
    /// used recently.
    pub flows_udp: Entries,
    /// Proven TCP flows of each interface and family; memory is taken for those that exist. While the table
    /// is full, flows stay in the table of new flows. `attach --max-flows` sets it for one interface. The
    /// name `flows_proven`, of a size that all interfaces and protocols shared, is accepted for it.
    #[serde(alias = "flows_proven")]
    pub flows_tcp: Entries,
    /// First fragments of each interface and family whose verdict later fragments get. A new one in the
    /// full table evicts one that was not used recently.
    pub fragments: Entries,
    /// Rules with a counter: those of all groups that are attached.
    pub rules: Entries,
    /// Interfaces attached at the same time.
    pub interfaces: Bounded<1, MAX_INTERFACES>,
}

/// The files of flow logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FlowLogFiles {
    /// Directory of the files: each bucket is a directory in it. It is created with mode 0700, and used only if nobody
    /// else can change it.
    #[schemars(with = "String")]
    pub directory: ArrayString<255>,
    /// MiB of all files together; the oldest ones are deleted for new ones.
    pub max_size: Bounded<1, 16_777_216>,
    /// Days after which a file is deleted; 0: never.
    pub max_age: Bounded<0, 36_500>,
}

impl Default for FlowLogFiles {
    fn default() -> Self {
        let mut directory = ArrayString::new();
        directory.push_str("/var/log/secgroup");
        Self { directory, max_size: Bounded(1024), max_age: Bounded(0) }
    }
}

/// Records of dropped packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Records {
    /// Whether `serve` collects them. Without it nothing is recorded, except while `drops --follow` or `top` runs. A
    /// change takes effect when `serve` starts again.
    pub collect: bool,
    /// The most that the journal takes on disk, in MiB. The oldest records are deleted to make room for new ones. A
    /// change takes effect when collecting starts again.
    pub journal_mib: Bounded<1, 65_536>,
}

impl Default for Records {
    fn default() -> Self {
        Self { collect: true, journal_mib: Bounded(64) }
    }
}

impl Records {
    /// The most that the journal takes on disk, in bytes.
    #[must_use]
    pub fn journal_size(&self) -> u64 {
        u64::from(self.journal_mib.get()) << 20
    }
}

/// The least entries of a map.
pub const MIN_ENTRIES: u32 = 16;
/// The most entries of a map.
pub const MAX_ENTRIES: u32 = 16_777_216;

/// A size of a map.
pub type Entries = Bounded<MIN_ENTRIES, MAX_ENTRIES>;

/// A number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bounded<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> Bounded<MIN, MAX> {
    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Bounded<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        let value = i64::deserialize(value)?;
        let number = u32::try_from(value).ok().filter(|number| (MIN..=MAX).contains(number));
        number.map(Self).ok_or_else(|| D::Error::custom(format!("{value} is not {MIN} to {MAX}")))
    }
}

impl<const MIN: u32, const MAX: u32> JsonSchema for Bounded<MIN, MAX> {
    fn schema_name() -> Cow<'static, str> {
        format!("{MIN}To{MAX}").into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

impl Default for Maps {
    fn default() -> Self {
        Self {
            flows_new: Bounded(32_768),
            flows_udp: Bounded(4096),
            flows_tcp: Bounded(65_536),
            fragments: Bounded(1024),
            rules: Bounded(131_072),
            interfaces: Bounded(64),
        }
    }
}

impl Maps {
    /// The sizes of the maps that all interfaces share.
    #[must_use]
    pub const fn shared(&self) -> Sizes {
        Sizes { rules: self.rules.get(), interfaces: self.interfaces.get() }
    }

    /// The sizes of an interface's own tables.
    #[must_use]
    pub const fn of_interface(&self) -> FlowSizes {
        FlowSizes {
            new: self.flows_new.get(),
            udp: self.flows_udp.get(),
            tcp: self.flows_tcp.get(),
            fragments: self.fragments.get(),
            sources: 0,
        }
    }
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("read configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is malformed, or a setting is unknown or out of bounds.
    #[error("configuration {}: line {line}, column {column}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// Limits contradict one another.
    #[error("configuration {}: [limits]", path.display())]
    Limits {
        /// The file.
        path: PathBuf,
        /// Which.
        source: crate::model::Error,
    },
    /// A directory that depends on where a process was started.
    #[error("configuration {}: [flow_logs]: directory = {directory:?} does not begin with /", path.display())]
    Directory {
        /// The file.
        path: PathBuf,
        /// The directory.
        directory: String,
    },
    /// An account or a region that EC2 does not have the like of.
    #[error("configuration {}: [ec2]: {reason}", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl Explain for Error {
    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("without --config and SECGROUP_CONFIG no file is needed".into())
            }
            Self::Read { .. }
            | Self::Syntax { .. }
            | Self::Directory { .. }
            | Self::Identity { .. } => None,
            Self::Limits { source, .. } => Explain::hint(source),
        }
    }
}

impl Config {
    /// The JSON schema of the file, with defaults, bounds and meanings.
    #[must_use]
    pub fn schema() -> serde_json::Value {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.inline_subschemas = true;
        });
        settings.into_generator().into_root_schema_for::<Self>().to_value()
    }

    /// Reads `file`, or [`DEFAULT_FILE`] if it exists.
    ///
    /// # Errors
    /// A named file does not exist, or a file cannot be read or is invalid.
    pub fn load(file: Option<&Path>) -> Result<Self, Error> {
        let path = file.unwrap_or_else(|| Path::new(DEFAULT_FILE));
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(error) if file.is_none() && error.kind() == io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            Err(source) => Err(Error::Read { path: path.to_owned(), source }),
        }
    }

    /// The defaults, for a command that works also when the file cannot be used.
    #[must_use]
    pub fn substitute() -> Self {
        // What is attached already is not refused.
        let limits = Limits { groups_per_interface: GROUPS_PER_INTERFACE_MAX, ..Limits::default() };
        Self { limits, is_substitute: true, ..Self::default() }
    }

    fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let config: Self = toml::from_str(text).map_err(|error| {
            let before = text.get(..error.span().map_or(0, |span| span.start)).unwrap_or(text);
            let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
            Error::Syntax {
                path: path.to_owned(),
                line: before.matches('\n').count() + 1,
                column: before[line_start..].chars().count() + 1,
                message: error.message().replace('\n', " "),
            }
        })?;
        config
            .limits
            .validate()
            .map_err(|source| Error::Limits { path: path.to_owned(), source })?;
        config
            .ec2
            .validate()
            .map_err(|reason| Error::Identity { path: path.to_owned(), reason })?;
        let directory = &config.flow_logs.directory;
        if !directory.starts_with('/') {
            return Err(Error::Directory {
                path: path.to_owned(),
                directory: directory.to_string(),
            });
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, Error> {
        Config::parse(text, Path::new("c.toml"))
    }

    #[test]
    fn settings_that_are_not_given_have_their_defaults() {
        assert_eq!(parse("").unwrap(), Config::default());
        assert_eq!(parse("[limits]\n[maps]\n").unwrap(), Config::default());
    }

    #[test]
    fn settings_that_are_given_replace_the_defaults() {
        let config = parse("[limits]\nrules_per_group = 100\n[maps]\ninterfaces = 256\n").unwrap();
        assert_eq!(config.limits.rules_per_group, 100);
        assert_eq!(config.limits.groups, 2500);
        assert_eq!(config.maps.interfaces.get(), 256);
    }

    #[test]
    fn the_earlier_name_of_the_size_of_proven_flows_is_accepted() {
        let config = parse("[maps]\nflows_proven = 4096\n").unwrap();
        assert_eq!(config, parse("[maps]\nflows_tcp = 4096\n").unwrap());
        assert_eq!(config.maps.flows_tcp.get(), 4096);
        assert!(parse("[maps]\nflows_proven = 4096\nflows_tcp = 4096\n").is_err());
    }

    #[test]
    fn a_mistake_is_reported_with_its_line_and_column() {
        for (text, message) in [
            ("[maps]\nflow = 1\n", "line 2, column 1: unknown field `flow`"),
            ("[map]\n", "line 1, column 2: unknown field `map`"),
            ("[maps]\ninterfaces = 257\n", "line 2, column 14: 257 is not 1 to 256"),
            ("[maps]\ninterfaces = -1\n", "line 2, column 14: -1 is not 1 to 256"),
            ("[maps]\ninterfaces = \"x\"\n", "line 2, column 14: invalid type: string"),
            ("[maps]\nflows_new = 1\nflows_new = 2\n", "line 3, column 1: duplicate key"),
            ("[maps\n", "line 1, column 6:"),
            ("[flow_logs]\nmax_size = 0\n", "line 2, column 12: 0 is not 1 to 16777216"),
            (
                "[flow_logs]\ndirectory = \"x\"\n",
                "[flow_logs]: directory = \"x\" does not begin with /",
            ),
            ("[limits]\nrules_per_group = 1000\n", "[limits]: rules_per_group = 1000 times"),
        ] {
            let error = format!("{:#}", anyhow::Error::new(parse(text).unwrap_err()));
            assert!(error.starts_with(&format!("configuration c.toml: {message}")), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
