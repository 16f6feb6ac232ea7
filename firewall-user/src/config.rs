//! The configuration file: limits, and the sizes of the kernel's maps.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use firewall_ebpf::limits::MAX_INTERFACES;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::dataplane::object::shapes::Sizes;
use crate::model::Limits;

/// Read when no other file is named; need not exist.
pub const DEFAULT_FILE: &str = "/etc/secgroup/config.toml";

/// Where state lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The store and the lock.
    pub state_dir: PathBuf,
    /// Where programs, maps and links are pinned.
    pub pin_dir: PathBuf,
    /// The configuration file that was named, if one was.
    pub config: Option<PathBuf>,
}

/// Everything that the configuration file says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `[limits]`: how much a user may say.
    pub limits: Limits,
    /// `[maps]`: how much the kernel keeps.
    pub maps: Maps,
}

/// Sizes of the kernel's maps, in entries. Memory is taken when the maps are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Maps {
    /// Unproven flows of each family. When it is full the flow that was idle longest gives way.
    #[serde(deserialize_with = "between::<_, 16, 16_777_216>")]
    pub flows_new: u32,
    /// Proven flows of each family. When it is full a flow stays among the unproven.
    #[serde(deserialize_with = "between::<_, 16, 16_777_216>")]
    pub flows_proven: u32,
    /// First fragments of each family that are remembered until the rest has come. When it is
    /// full the oldest gives way.
    #[serde(deserialize_with = "between::<_, 16, 16_777_216>")]
    pub fragments: u32,
    /// Rules whose packets are counted.
    #[serde(deserialize_with = "between::<_, 16, 16_777_216>")]
    pub rules: u32,
    /// Interfaces attached at once.
    #[serde(deserialize_with = "between::<_, 1, MAX_INTERFACES>")]
    pub interfaces: u32,
}

impl Default for Maps {
    fn default() -> Self {
        Self {
            flows_new: 131_072,
            flows_proven: 262_144,
            fragments: 8192,
            rules: 131_072,
            interfaces: 64,
        }
    }
}

impl From<Maps> for Sizes {
    fn from(maps: Maps) -> Self {
        let Maps { flows_new, flows_proven, fragments, rules, interfaces } = maps;
        Self { flows_new, flows_proven, fragments, rules, interfaces }
    }
}

fn between<'de, D: Deserializer<'de>, const LEAST: u32, const MOST: u32>(
    value: D,
) -> Result<u32, D::Error> {
    let value = i64::deserialize(value)?;
    u32::try_from(value)
        .ok()
        .filter(|value| (LEAST..=MOST).contains(value))
        .ok_or_else(|| D::Error::custom(format!("{value} is not {LEAST} to {MOST}")))
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("read configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file says something that means nothing.
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
    /// Values that do not agree.
    #[error("configuration {}: [limits]", path.display())]
    Limits {
        /// The file.
        path: PathBuf,
        /// Which.
        source: crate::model::Error,
    },
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("without --config and SECGROUP_CONFIG no file is needed".to_owned())
            }
            Self::Read { .. } | Self::Syntax { .. } => None,
            Self::Limits { source, .. } => source.hint(),
        }
    }
}

impl Config {
    /// The configuration in `file`, or in the default place if there is one there.
    ///
    /// # Errors
    /// When a named file is not there, or a file cannot be read or understood.
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
    fn nothing_said_is_the_default() {
        assert_eq!(parse("").unwrap(), Config::default());
        assert_eq!(parse("[limits]\n[maps]\n").unwrap(), Config::default());
    }

    #[test]
    fn values_are_taken() {
        let config = parse("[limits]\nrules_per_group = 100\n[maps]\ninterfaces = 256\n").unwrap();
        assert_eq!(config.limits.rules_per_group, 100);
        assert_eq!(config.limits.groups, 2500);
        assert_eq!(config.maps.interfaces, 256);
    }

    #[test]
    fn mistakes_have_a_place() {
        for (text, message) in [
            ("[maps]\nflow = 1\n", "line 2, column 1: unknown field `flow`"),
            ("[map]\n", "line 1, column 2: unknown field `map`"),
            ("[maps]\ninterfaces = 257\n", "line 2, column 14: 257 is not 1 to 256"),
            ("[maps]\ninterfaces = -1\n", "line 2, column 14: -1 is not 1 to 256"),
            ("[maps]\ninterfaces = \"x\"\n", "line 2, column 14: invalid type: string"),
            ("[maps]\nflows_new = 1\nflows_new = 2\n", "line 3, column 1: duplicate key"),
            ("[maps\n", "line 1, column 6:"),
            ("[limits]\nrules_per_group = 1000\n", "[limits]: rules_per_group = 1000 times"),
        ] {
            let error = format!("{:#}", anyhow::Error::new(parse(text).unwrap_err()));
            assert!(error.starts_with(&format!("configuration c.toml: {message}")), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
