//! A record: what one direction of a flow did in an aggregation interval, as a line of AWS's flow logs.

use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::reason::Reason;

use super::field::{Field, Format};
use crate::observe::query::Subject;
use crate::observe::record::RuleName;

/// The interface of a record, in the terms of EC2.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Account.
    pub account_id: String,
    /// `eni-…`.
    pub interface_id: String,
    /// `vpc-…`.
    pub vpc_id: String,
    /// `subnet-…`.
    pub subnet_id: String,
    /// `i-…` of this host.
    pub instance_id: String,
    /// Region.
    pub region: String,
    /// Id of the availability zone.
    pub az_id: String,
}

/// Whether packets passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// They passed.
    Accept,
    /// They were dropped.
    Reject,
}

impl Action {
    /// The word of AWS.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accept => "ACCEPT",
            Self::Reject => "REJECT",
        }
    }
}

/// What a record says about its interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LogStatus {
    /// The record is about packets.
    Ok,
    /// The interface had no packets in the interval.
    NoData,
    /// Packets of the interval are in no record of their own.
    SkipData,
}

impl LogStatus {
    /// The word of AWS.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::NoData => "NODATA",
            Self::SkipData => "SKIPDATA",
        }
    }
}

/// Why packets passed or were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Why {
    /// The reason that the packets were counted with.
    Reason(Reason),
    /// They would have been dropped with this reason, and passed because the interface is in audit mode.
    WouldDrop(Reason),
}

/// What stands before the reason of packets that audit mode has passed.
const WOULD_DROP: &str = "would-drop:";

impl Why {
    /// The reason.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::Reason(reason) | Self::WouldDrop(reason) => reason,
        }
    }

    fn parse(word: &str) -> Option<Self> {
        let named = |name: &str| Reason::ALL.iter().copied().find(|known| known.name() == name);
        match word.strip_prefix(WOULD_DROP) {
            Some(name) => named(name).map(Self::WouldDrop),
            None => named(word).map(Self::Reason),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reason(reason) => out.write_str(reason.name()),
            Self::WouldDrop(reason) => write!(out, "{WOULD_DROP}{}", reason.name()),
        }
    }
}

/// A record. What it does not have is written as `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The interface.
    pub origin: Arc<Origin>,
    /// Source address.
    pub source: Option<IpAddr>,
    /// Destination address.
    pub destination: Option<IpAddr>,
    /// Source port; 0 where the protocol has none.
    pub source_port: Option<u16>,
    /// Destination port; 0 where the protocol has none.
    pub destination_port: Option<u16>,
    /// IP protocol number.
    pub protocol: Option<u8>,
    /// Packets.
    pub packets: Option<u64>,
    /// Bytes of IP packets.
    pub bytes: Option<u64>,
    /// Seconds since 1970.
    pub start: Option<i64>,
    /// Seconds since 1970.
    pub end: Option<i64>,
    /// Whether the packets passed.
    pub action: Option<Action>,
    /// What the record says about the interval.
    pub status: Option<LogStatus>,
    /// AWS's OR of TCP flags.
    pub tcp_flags: Option<u8>,
    /// Direction of the packets.
    pub direction: Option<Direction>,
    /// The rule that let the packets pass. A line that was read has no name of the group.
    pub rule: Option<Arc<RuleName>>,
    /// Why.
    pub why: Option<Why>,
}

impl Record {
    /// A record without packets.
    #[must_use]
    pub const fn without_packets(
        origin: Arc<Origin>,
        status: LogStatus,
        [start, end]: [i64; 2],
    ) -> Self {
        Self {
            origin,
            source: None,
            destination: None,
            source_port: None,
            destination_port: None,
            protocol: None,
            packets: None,
            bytes: None,
            start: Some(start),
            end: Some(end),
            action: None,
            status: Some(status),
            tcp_flags: None,
            direction: None,
            rule: None,
            why: None,
        }
    }

    /// AWS's `type`: `IPv4` or `IPv6`.
    #[must_use]
    pub fn family(&self) -> Option<&'static str> {
        self.source.map(|ip| if ip.is_ipv4() { "IPv4" } else { "IPv6" })
    }

    /// Appends the line of the record, without its end.
    pub fn write(&self, format: &Format, line: &mut String) {
        for (place, field) in format.fields().iter().enumerate() {
            if place > 0 {
                line.push(' ');
            }
            self.write_field(*field, format, line);
        }
    }

    /// The line of the record.
    #[must_use]
    pub fn line(&self, format: &Format) -> String {
        let mut line = String::new();
        self.write(format, &mut line);
        line
    }

    fn write_field(&self, field: Field, format: &Format, line: &mut String) {
        let origin = &*self.origin;
        let rule = self.rule.as_deref();
        match field {
            Field::Version => option(line, Some(format.version())),
            Field::AccountId => text(line, Some(&origin.account_id)),
            Field::InterfaceId => text(line, Some(&origin.interface_id)),
            Field::SrcAddr | Field::PktSrcAddr => option(line, self.source),
            Field::DstAddr | Field::PktDstAddr => option(line, self.destination),
            Field::SrcPort => option(line, self.source_port),
            Field::DstPort => option(line, self.destination_port),
            Field::Protocol => option(line, self.protocol),
            Field::Packets => option(line, self.packets),
            Field::Bytes => option(line, self.bytes),
            Field::Start => option(line, self.start),
            Field::End => option(line, self.end),
            Field::Action => text(line, self.action.map(Action::name)),
            Field::LogStatus => text(line, self.status.map(LogStatus::name)),
            Field::VpcId => text(line, Some(&origin.vpc_id)),
            Field::SubnetId => text(line, Some(&origin.subnet_id)),
            Field::InstanceId => text(line, Some(&origin.instance_id)),
            Field::TcpFlags => option(line, self.tcp_flags),
            Field::Type => text(line, self.family()),
            Field::Region => text(line, Some(&origin.region)),
            Field::AzId => text(line, Some(&origin.az_id)),
            Field::FlowDirection => text(line, self.direction.map(Direction::name)),
            Field::RuleId => text(line, rule.map(|rule| &*rule.security_group_rule_id)),
            Field::GroupId => text(line, rule.map(|rule| &*rule.group_id)),
            Field::Reason => option(line, self.why),
            Field::WithoutMeaning(_) => line.push('-'),
        }
    }

    /// Reads a line whose fields are those of [`Format::columns`]. Fields that the line does not have, and those
    /// that this program does not know, are left out.
    ///
    /// # Errors
    /// The line has another number of fields, or a field is malformed.
    pub fn parse(columns: &[Option<Field>], line: &str) -> Result<Self, LineError> {
        let mut origin = Origin::default();
        let mut record = Self::without_packets(Arc::default(), LogStatus::Ok, [0; 2]);
        (record.start, record.end, record.status) = (None, None, None);
        let (mut rule, mut group) = (None, None);
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        if words.len() != columns.len() {
            return Err(LineError::Count { found: words.len(), expected: columns.len() });
        }
        for (field, word) in columns.iter().zip(words) {
            let Some(field) = *field else { continue };
            if word == "-" {
                continue;
            }
            let malformed = || LineError::Field { name: field.name(), word: word.to_owned() };
            let set = match field {
                Field::AccountId => copy(word, &mut origin.account_id),
                Field::InterfaceId => copy(word, &mut origin.interface_id),
                Field::VpcId => copy(word, &mut origin.vpc_id),
                Field::SubnetId => copy(word, &mut origin.subnet_id),
                Field::InstanceId => copy(word, &mut origin.instance_id),
                Field::Region => copy(word, &mut origin.region),
                Field::AzId => copy(word, &mut origin.az_id),
                // AWS shows the interface's primary address in `srcaddr`, and the packet's own here.
                Field::SrcAddr if record.source.is_some() => Some(()),
                Field::DstAddr if record.destination.is_some() => Some(()),
                Field::SrcAddr | Field::PktSrcAddr => read(word).map(|it| record.source = it),
                Field::DstAddr | Field::PktDstAddr => read(word).map(|it| record.destination = it),
                Field::SrcPort => read(word).map(|it| record.source_port = it),
                Field::DstPort => read(word).map(|it| record.destination_port = it),
                Field::Protocol => read(word).map(|it| record.protocol = it),
                Field::Packets => read(word).map(|it| record.packets = it),
                Field::Bytes => read(word).map(|it| record.bytes = it),
                Field::Start => read(word).map(|it| record.start = it),
                Field::End => read(word).map(|it| record.end = it),
                Field::TcpFlags => read(word).map(|it| record.tcp_flags = it),
                Field::Action => [Action::Accept, Action::Reject]
                    .into_iter()
                    .find(|known| known.name() == word)
                    .map(|known| record.action = Some(known)),
                Field::LogStatus => [LogStatus::Ok, LogStatus::NoData, LogStatus::SkipData]
                    .into_iter()
                    .find(|known| known.name() == word)
                    .map(|known| record.status = Some(known)),
                Field::FlowDirection => Direction::ALL
                    .into_iter()
                    .find(|known| known.name() == word)
                    .map(|known| record.direction = Some(known)),
                Field::RuleId => copy(word, rule.insert(String::new())),
                Field::GroupId => copy(word, group.insert(String::new())),
                Field::Reason => Why::parse(word).map(|known| record.why = Some(known)),
                Field::Version | Field::Type | Field::WithoutMeaning(_) => Some(()),
            };
            set.ok_or_else(malformed)?;
        }
        record.origin = Arc::new(origin);
        record.rule = (rule.is_some() || group.is_some()).then(|| {
            Arc::new(RuleName {
                security_group_rule_id: rule.unwrap_or_default(),
                group_id: group.unwrap_or_default(),
                group_name: String::new(),
            })
        });
        Ok(record)
    }

    /// What a filter compares. A record has no device: a filter on one compares the id of the interface.
    #[must_use]
    pub fn subject(&self) -> Subject<'_> {
        let port = |port: Option<u16>| port.filter(|_| matches!(self.protocol, Some(6 | 17)));
        Subject {
            network_interface_id: &self.origin.interface_id,
            device: "",
            netns: None,
            direction: self.direction,
            protocol: self.protocol,
            source: self.source,
            destination: self.destination,
            source_port: port(self.source_port),
            destination_port: port(self.destination_port),
            icmp: None,
            reason: self.why.map(Why::reason),
            state: None,
            rule: self.rule.as_deref(),
        }
    }
}

/// Why a line is no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It has more or fewer fields than the first line of its file.
    #[error("{found} fields, and the first line of the file names {expected}")]
    Count {
        /// Fields of the line.
        found: usize,
        /// Fields of the first line.
        expected: usize,
    },
    /// A field is malformed.
    #[error("{name} is {word:?}")]
    Field {
        /// The field.
        name: &'static str,
        /// What it is.
        word: String,
    },
}

/// A value, if the word is one.
fn read<T: FromStr>(word: &str) -> Option<Option<T>> {
    word.parse().ok().map(Some)
}

fn copy(word: &str, into: &mut String) -> Option<()> {
    into.replace_range(.., word);
    Some(())
}

fn option(line: &mut String, value: Option<impl fmt::Display>) {
    match value {
        // A `String` takes everything.
        Some(value) => drop(write!(line, "{value}")),
        None => line.push('-'),
    }
}

fn text(line: &mut String, value: Option<&str>) {
    line.push_str(value.filter(|text| !text.is_empty()).unwrap_or("-"));
}
