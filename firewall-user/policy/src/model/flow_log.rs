//! Flow logs: what is to be recorded about the packets of interfaces, and where.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Error, FlowLogId, InterfaceId, Model, SubnetId, VpcId};

/// A flow log; only its tags ever change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowLog {
    /// `fl-…`.
    pub id: FlowLogId,
    /// Whose flows are to be recorded.
    pub resource: Logged,
    /// Milliseconds since 1970.
    pub created: i64,
    /// What is to be recorded, and where.
    pub settings: FlowLogSettings,
    /// User tags.
    pub tags: BTreeMap<String, String>,
}

/// Whose flows are to be recorded. It may be deleted before the flow log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Logged {
    /// Those of a VPC's interfaces.
    Vpc(VpcId),
    /// Those of a subnet's interfaces.
    Subnet(SubnetId),
    /// Those of an interface.
    Interface(InterfaceId),
}

/// What a flow log records, and where, in EC2's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowLogSettings {
    /// `ACCEPT`, `REJECT` or `ALL`.
    pub traffic: String,
    /// `cloud-watch-logs`, `s3` or `kinesis-data-firehose`.
    pub destination_type: String,
    /// An ARN.
    pub destination: Option<String>,
    /// Name of a log group.
    pub log_group: Option<String>,
    /// ARN of the role that may write to the log group.
    pub permission: Option<String>,
    /// ARN of the role that may write in another account.
    pub cross_account_role: Option<String>,
    /// Fields of a record: `${version} ${account-id} …`.
    pub format: String,
    /// Seconds of a record, at most: 60 or 600.
    pub interval: u32,
    /// The form of files in S3.
    pub files: Option<RecordFiles>,
    /// The keys of tags that are fields of a record, by the type of what has them.
    pub tag_fields: Vec<(String, Vec<String>)>,
}

/// The form of files with records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordFiles {
    /// `plain-text` or `parquet`.
    pub format: String,
    /// Whether the names of directories are `KEY=VALUE`.
    pub is_hive: bool,
    /// Whether each hour has a directory.
    pub is_per_hour: bool,
}

impl fmt::Display for Logged {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vpc(id) => id.fmt(out),
            Self::Subnet(id) => id.fmt(out),
            Self::Interface(id) => id.fmt(out),
        }
    }
}

impl FromStr for Logged {
    type Err = Error;

    /// By the prefix of the id.
    fn from_str(text: &str) -> Result<Self, Error> {
        if text.starts_with(VpcId::PREFIX) {
            text.parse().map(Self::Vpc)
        } else if text.starts_with(SubnetId::PREFIX) {
            text.parse().map(Self::Subnet)
        } else {
            text.parse().map(Self::Interface)
        }
    }
}

impl Model {
    /// The flow log with this id.
    ///
    /// # Errors
    /// There is none.
    pub fn flow_log_by_id(&self, id: &FlowLogId) -> Result<&FlowLog, Error> {
        self.flow_logs.get(id).ok_or_else(|| Error::FlowLogNotFound(id.to_string()))
    }
}
