//! The fields of a record, and formats made of them.

use std::fmt;
use std::str::FromStr;

/// A field of a record that this program fills in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// The highest version of AWS's records that the format has a field of.
    Version,
    /// Account of the settings.
    AccountId,
    /// `eni-…`.
    InterfaceId,
    /// Source address.
    SrcAddr,
    /// Destination address.
    DstAddr,
    /// Source port; 0 where the protocol has none.
    SrcPort,
    /// Destination port; 0 where the protocol has none.
    DstPort,
    /// IP protocol number.
    Protocol,
    /// Packets.
    Packets,
    /// Bytes of IP packets: without the header of the link.
    Bytes,
    /// When the first packet passed, in seconds since 1970.
    Start,
    /// When the last packet passed, in seconds since 1970.
    End,
    /// `ACCEPT` or `REJECT`.
    Action,
    /// `OK`, `NODATA` or `SKIPDATA`.
    LogStatus,
    /// `vpc-…`.
    VpcId,
    /// `subnet-…`.
    SubnetId,
    /// `i-…` of this host.
    InstanceId,
    /// OR of FIN 1, SYN 2, RST 4, SYN-ACK 18.
    TcpFlags,
    /// `IPv4` or `IPv6`.
    Type,
    /// As `srcaddr`: a record has the addresses of the packets.
    PktSrcAddr,
    /// As `dstaddr`.
    PktDstAddr,
    /// Region of the settings.
    Region,
    /// Id of the zone of the subnet.
    AzId,
    /// `ingress` or `egress`.
    FlowDirection,
    /// A rule of secgroup, `sgr-…`: not a field of AWS.
    RuleId,
    /// The group of that rule, `sg-…`: not a field of AWS.
    GroupId,
    /// Why the packets passed or were dropped: not a field of AWS.
    Reason,
    /// A field of AWS that means nothing on a host: always `-`. The number is its place in `WITHOUT_MEANING`.
    WithoutMeaning(u8),
}

/// Fields of AWS's records that mean nothing on a host, with the version that brought each.
const WITHOUT_MEANING: [(&str, u8); 30] = [
    ("sublocation-type", 4),
    ("sublocation-id", 4),
    ("pkt-src-aws-service", 5),
    ("pkt-dst-aws-service", 5),
    ("traffic-path", 5),
    ("ecs-cluster-arn", 7),
    ("ecs-cluster-name", 7),
    ("ecs-container-instance-arn", 7),
    ("ecs-container-instance-id", 7),
    ("ecs-container-id", 7),
    ("ecs-second-container-id", 7),
    ("ecs-service-name", 7),
    ("ecs-task-definition-arn", 7),
    ("ecs-task-arn", 7),
    ("ecs-task-id", 7),
    ("reject-reason", 8),
    ("resource-id", 9),
    ("encryption-status", 10),
    ("instance-tag", 11),
    ("instance-tag-2", 11),
    ("interface-tag", 11),
    ("interface-tag-2", 11),
    ("asg-tag", 11),
    ("asg-tag-2", 11),
    ("interface-type", 11),
    ("next-hop-interface-id", 11),
    ("next-hop-subnet-id", 11),
    ("next-hop-az-id", 11),
    ("next-hop-vpc-id", 11),
    ("next-hop-interface-type", 11),
];

/// Name and version of the fields that have a meaning; 0: not a field of AWS.
const MEANINGFUL: [(Field, &str, u8); 27] = [
    (Field::Version, "version", 2),
    (Field::AccountId, "account-id", 2),
    (Field::InterfaceId, "interface-id", 2),
    (Field::SrcAddr, "srcaddr", 2),
    (Field::DstAddr, "dstaddr", 2),
    (Field::SrcPort, "srcport", 2),
    (Field::DstPort, "dstport", 2),
    (Field::Protocol, "protocol", 2),
    (Field::Packets, "packets", 2),
    (Field::Bytes, "bytes", 2),
    (Field::Start, "start", 2),
    (Field::End, "end", 2),
    (Field::Action, "action", 2),
    (Field::LogStatus, "log-status", 2),
    (Field::VpcId, "vpc-id", 3),
    (Field::SubnetId, "subnet-id", 3),
    (Field::InstanceId, "instance-id", 3),
    (Field::TcpFlags, "tcp-flags", 3),
    (Field::Type, "type", 3),
    (Field::PktSrcAddr, "pkt-srcaddr", 3),
    (Field::PktDstAddr, "pkt-dstaddr", 3),
    (Field::Region, "region", 4),
    (Field::AzId, "az-id", 4),
    (Field::FlowDirection, "flow-direction", 5),
    (Field::RuleId, "rule-id", 0),
    (Field::GroupId, "group-id", 0),
    (Field::Reason, "reason", 0),
];

/// The fields of version 2, which a flow log has that names none.
const DEFAULT: usize = 14;

/// How many bytes a format may have.
const LONGEST: usize = 2048;

impl Field {
    /// The field with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let meaningful = MEANINGFUL.iter().find(|(_, known, _)| *known == name);
        meaningful.map(|(field, ..)| *field).or_else(|| {
            let place = WITHOUT_MEANING.iter().position(|(known, _)| *known == name)?;
            u8::try_from(place).ok().map(Self::WithoutMeaning)
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.name_and_version().0
    }

    fn name_and_version(self) -> (&'static str, u8) {
        let meaningful = MEANINGFUL.iter().find(|(field, ..)| *field == self);
        match (meaningful, self) {
            (Some((_, name, version)), _) => (name, *version),
            (None, Self::WithoutMeaning(place)) => {
                WITHOUT_MEANING.get(usize::from(place)).copied().unwrap_or(("-", 0))
            }
            (None, _) => ("-", 0),
        }
    }
}

/// The fields of a flow log's records, in their order; at least one, and none twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format(Vec<Field>);

/// Why a text is no format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// It is too long.
    #[error("LogFormat has more than {LONGEST} characters")]
    Long,
    /// No field has this name.
    #[error("LogFormat has the unknown field {0}")]
    Unknown(String),
    /// A field is there twice.
    #[error("LogFormat has the field {0} twice")]
    Twice(String),
    /// It has no field.
    #[error("LogFormat has no field")]
    Empty,
}

impl Default for Format {
    /// The default format of AWS, version 2.
    fn default() -> Self {
        Self(MEANINGFUL[..DEFAULT].iter().map(|(field, ..)| *field).collect())
    }
}

impl Format {
    /// Every field that has a meaning here: versions 2 to 5, and those of secgroup.
    #[must_use]
    pub fn all() -> Self {
        Self(MEANINGFUL.iter().map(|(field, ..)| *field).collect())
    }

    /// The fields.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.0
    }

    /// What the field `version` says: the highest version of the fields.
    #[must_use]
    pub fn version(&self) -> u8 {
        self.0.iter().map(|field| field.name_and_version().1).max().unwrap_or(2).max(2)
    }

    /// The first line of a file: the names of the fields.
    #[must_use]
    pub fn header(&self) -> String {
        let names: Vec<_> = self.0.iter().map(|field| field.name()).collect();
        names.join(" ")
    }

    fn of_names<'a>(
        names: impl Iterator<Item = (&'a str, Option<&'a str>)>,
    ) -> Result<Self, FormatError> {
        let mut fields = Vec::new();
        for (word, name) in names {
            let Some(field) = name.and_then(Field::named) else {
                return Err(FormatError::Unknown(word.to_owned()));
            };
            if fields.contains(&field) {
                return Err(FormatError::Twice(word.to_owned()));
            }
            fields.push(field);
        }
        if fields.is_empty() { Err(FormatError::Empty) } else { Ok(Self(fields)) }
    }

    /// The fields that the first line of a file names. A file of AWS may have fields of later versions: they are
    /// `None`.
    #[must_use]
    pub fn columns(header: &str) -> Vec<Option<Field>> {
        header.split_ascii_whitespace().map(Field::named).collect()
    }
}

/// `${version} ${account-id} …`, as EC2's API has it.
impl FromStr for Format {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        if text.len() > LONGEST {
            return Err(FormatError::Long);
        }
        Self::of_names(
            text.split_ascii_whitespace().map(|word| {
                (word, word.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')))
            }),
        )
    }
}

impl fmt::Display for Format {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, field) in self.0.iter().enumerate() {
            let space = if place == 0 { "" } else { " " };
            write!(out, "{space}${{{}}}", field.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_format_is_version_2_in_the_order_of_aws() {
        let format = Format::default();
        let header = "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets \
                      bytes start end action log-status";
        assert_eq!((format.header().as_str(), format.version()), (header, 2));
        assert_eq!(format.to_string().parse(), Ok(format));
    }

    #[test]
    fn every_field_has_a_name_of_its_own_that_finds_it() {
        let names = MEANINGFUL.iter().map(|(_, name, _)| *name);
        for name in names.chain(WITHOUT_MEANING.iter().map(|(name, _)| *name)) {
            assert_eq!(Field::named(name).map(Field::name), Some(name));
        }
        assert_eq!(Field::named("no-such-field"), None);
    }

    #[test]
    fn the_version_is_the_highest_of_aws_fields() {
        for (format, version) in [
            ("${srcaddr}", 2),
            ("${srcaddr} ${vpc-id}", 3),
            ("${region} ${vpc-id}", 4),
            ("${flow-direction} ${rule-id}", 5),
            ("${rule-id} ${reason}", 2),
            ("${reject-reason}", 8),
        ] {
            assert_eq!(format.parse::<Format>().unwrap().version(), version, "{format}");
        }
    }

    #[test]
    fn a_format_with_unknown_or_repeated_fields_is_refused() {
        for (text, error) in [
            ("", "LogFormat has no field"),
            ("${x}", "LogFormat has the unknown field ${x}"),
            ("version", "LogFormat has the unknown field version"),
            ("${start} ${end} ${start}", "LogFormat has the field ${start} twice"),
        ] {
            assert_eq!(text.parse::<Format>().unwrap_err().to_string(), error);
        }
        let long = "${version}".repeat(300);
        assert_eq!(long.parse::<Format>(), Err(FormatError::Long));
    }
}
