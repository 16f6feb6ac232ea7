//! Groups, prefix lists and network ACLs as AWS prints them: `aws ec2 describe-security-groups`,
//! `describe-security-group-rules`, `describe-managed-prefix-lists`, `describe-network-acls`, `describe-vpcs`,
//! `describe-subnets`.
//!
//! A document is one object with `SecurityGroups`, `NetworkAcls` or both, and, so that it is
//! self-contained, `PrefixLists` with an `Entries` array in each, which AWS prints with another command. What AWS
//! prints in several files is one document too ([`Parts`]). A
//! rule or an entry of a network ACL that ends by itself has the key `EndsAt`. Unknown keys are ignored, because
//! AWS adds some every year; a key that restricts a rule and is not supported is refused.

use serde::{Deserialize, Serialize};

mod errors;
mod parse;
mod parts;
mod read;
mod wire;
mod write;

pub(crate) use errors::Findings;
pub use errors::{Errors, Located, Place, Warning};
pub use parts::{Parts, list_of_file};
pub(crate) use read::{
    Broken, Wanted, WantedAcl, WantedAclEntry, WantedGroup, WantedList, WantedPeer, WantedRule,
    WantedSubnet, WantedVpc,
};
pub use wire::*;
pub use write::{acls, groups, prefix_lists, rules, vpcs};

use super::{Error as ModelError, Moment};

/// The owner of prefix lists that AWS manages.
pub const AWS_OWNER: &str = "AWS";

/// A document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase", default, expecting = "an object with SecurityGroups")]
pub struct Document {
    /// Groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_groups: Option<Vec<SecurityGroup>>,
    /// Prefix lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_lists: Option<Vec<ManagedPrefixList>>,
    /// Network ACLs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_acls: Option<Vec<NetworkAcl>>,
    /// Rules as separate items: read for the ids and the tags of rules in `security_groups`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_group_rules: Option<Vec<SecurityGroupRule>>,
    /// VPCs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vpcs: Option<Vec<DescribedVpc>>,
    /// Subnets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnets: Option<Vec<DescribedSubnet>>,
    /// The entries of one prefix list, which the document does not name; see [`Parts`].
    #[serde(skip_serializing)]
    pub entries: Option<Vec<Entry>>,
    /// There if AWS has more than the document.
    #[serde(skip_serializing)]
    pub next_token: Option<String>,
    /// Both clocks when it is read: what has ended then is left out.
    #[serde(skip)]
    pub now: Moment,
    /// The values that were left out when it was read.
    #[serde(skip)]
    pub mistyped: Errors,
}

impl Document {
    /// The document as the AWS command line prints it: indented by four spaces.
    ///
    /// # Errors
    /// `out` cannot be written.
    pub fn write(&self, out: &mut impl std::io::Write) -> std::io::Result<()> {
        let format = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        let mut writer = serde_json::Serializer::with_formatter(&mut *out, format);
        self.serialize(&mut writer)?;
        writeln!(out)
    }
}

/// What the place of a permission without a peer ends with.
const A_PEER: &str = ": a peer";

/// An error in a document, with its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is not JSON.
    #[error("line {line}, column {column}: {message}")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// The text is in UTF-16.
    #[error("the document is in UTF-16, and JSON is in UTF-8")]
    Utf16,
    /// An object has a key twice.
    #[error("{path}: the key is there twice")]
    Repeated {
        /// Its place.
        path: String,
    },
    /// A value has the wrong type.
    #[error("{path}: {message}")]
    Type {
        /// Its place.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// The text is empty.
    #[error("the document is empty")]
    Blank,
    /// It has neither groups nor prefix lists nor network ACLs.
    #[error("the document has none of SecurityGroups, PrefixLists and NetworkAcls")]
    Empty,
    /// AWS has more than it has.
    #[error("the document has a NextToken: it is a part of what AWS has")]
    Partial,
    /// It has the entries of a prefix list, and does not say of which.
    #[error("the document has the Entries of a prefix list, and does not say of which")]
    EntriesOfWhat,
    /// It has nothing of a VPC that is selected.
    #[error("the document has nothing of {vpc}; its VPCs: {listed}")]
    NoSuchVpc {
        /// The id that was given.
        vpc: String,
        /// The VPCs that it has.
        listed: String,
    },
    /// Two VPCs would become one.
    #[error("the document has VPCs that this host does not have: {listed}{}", if *has_default { "; and its default VPC" } else { "" })]
    SeveralVpcs {
        /// Their ids.
        listed: String,
        /// Whether it also has the default VPC of this host.
        has_default: bool,
    },
    /// Every group of this host would be removed.
    #[error("the document has no group, and --prune would remove every group of this host")]
    NothingStays,
    /// A required key is missing.
    #[error("{path} is missing")]
    Missing {
        /// The key's place.
        path: String,
        /// What to write.
        hint: &'static str,
    },
    /// Something that this host cannot represent.
    #[error("{path}: {reason}")]
    Foreign {
        /// Its place.
        path: String,
        /// What it is.
        reason: String,
        /// What to do instead.
        hint: &'static str,
    },
    /// Something that the model refuses.
    #[error("{path}: {error}")]
    Refused {
        /// Its place.
        path: String,
        /// Why.
        error: ModelError,
    },
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Syntax { .. } | Self::Type { .. } | Self::Empty => Some(
                "apply reads what aws ec2 describe-security-groups, aws ec2 describe-network-acls or \
                 secgroup export prints"
                    .to_owned(),
            ),
            Self::Partial => {
                Some("print it again without --max-items and --no-paginate".to_owned())
            }
            Self::NoSuchVpc { .. } => Some("name one that it has".to_owned()),
            Self::SeveralVpcs { .. } => Some(
                "--vpc applies one of them to this host's default VPC, --create-vpcs makes all of them \
                 here"
                    .to_owned(),
            ),
            Self::EntriesOfWhat => {
                Some("--entries pl-0123456789abcdef0=FILE says it, in place of FILE alone".to_owned())
            }
            Self::Utf16 => Some("convert it: iconv -f UTF-16 -t UTF-8".to_owned()),
            Self::NothingStays => {
                Some("`secgroup group delete` removes the groups that are meant".to_owned())
            }
            Self::Blank => Some("see whether the command that wrote it failed".to_owned()),
            Self::Repeated { .. } => Some("keep one of the two".to_owned()),
            Self::Missing { hint, .. } | Self::Foreign { hint, .. } => Some((*hint).to_owned()),
            Self::Refused { error, .. } => error.hint(),
        }
    }

    /// The place in the document, such as `SecurityGroups[0].GroupName`.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Syntax { .. }
            | Self::Utf16
            | Self::Blank
            | Self::Empty
            | Self::Partial
            | Self::EntriesOfWhat
            | Self::NoSuchVpc { .. }
            | Self::SeveralVpcs { .. }
            | Self::NothingStays => None,
            Self::Missing { path, .. }
            | Self::Repeated { path }
            | Self::Type { path, .. }
            | Self::Foreign { path, .. }
            | Self::Refused { path, .. } => {
                // Of what is not in the document there is no place but that of what should contain it.
                Some(path.strip_suffix(A_PEER).unwrap_or(path))
            }
        }
    }

    /// The place, to be changed.
    pub(crate) const fn path_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::Missing { path, .. }
            | Self::Repeated { path }
            | Self::Type { path, .. }
            | Self::Foreign { path, .. }
            | Self::Refused { path, .. } => Some(path),
            _ => None,
        }
    }

    /// Adds a place to an error of the model.
    pub(crate) fn at(path: &str) -> impl FnOnce(ModelError) -> Self {
        move |error| Self::Refused { path: path.to_owned(), error }
    }
}
