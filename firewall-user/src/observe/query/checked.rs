//! A query whose names were looked up, and its comparison.

use std::net::IpAddr;

use firewall_ebpf::abi::reason::Reason;
use ipnet::IpNet;

use super::value::{IcmpFilter, PortFilter};
use super::{Query, Subject};

/// A query whose names were looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    pub(super) query: Query,
    /// Where interfaces are chosen.
    pub(super) interfaces: Option<Vec<InterfaceFilter>>,
    /// The ids of the chosen groups, where groups are chosen.
    pub(super) groups: Option<Vec<String>>,
}

/// An interface that a word names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InterfaceFilter {
    /// The ids of the interfaces that have this name.
    pub(super) ids: Vec<String>,
    /// The name, which an interface that was detached meanwhile had too.
    pub(super) device: String,
    pub(super) netns: Option<String>,
}

impl Checked {
    /// Whether a record, flow or line matches.
    #[must_use]
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        self.matches_all(subject) != self.query.not
    }

    /// Whether no filter is given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.query.is_empty()
    }

    /// The query.
    #[must_use]
    pub const fn query(&self) -> &Query {
        &self.query
    }

    /// The filters on interface, namespace, direction, protocol and port without the others.
    #[must_use]
    pub fn of_traffic(&self) -> Self {
        let Query { netns, direction, protocol, port, .. } = self.query.clone();
        Self {
            query: Query { netns, direction, protocol, port, ..Query::default() },
            interfaces: self.interfaces.clone(),
            groups: None,
        }
    }

    fn matches_all(&self, subject: &Subject<'_>) -> bool {
        let Query {
            from,
            to,
            address,
            port,
            protocol,
            interface: _,
            netns,
            group: _,
            rule,
            reason,
            direction,
            state,
            default_deny,
            not: _,
        } = &self.query;
        let ends = [subject.source, subject.destination];
        let rule_name = subject.rule;
        any(from, |net| contains(net, subject.source))
            && any(to, |net| contains(net, subject.destination))
            && any(address, |net| ends.iter().any(|end| contains(net, *end)))
            && any(port, |port| port.matches(subject))
            && any(protocol, |protocol| subject.protocol == Some(*protocol))
            && any(netns, |netns| subject.netns == Some(netns))
            && any(rule, |id| {
                rule_name.is_some_and(|name| name.security_group_rule_id == id.as_str())
            })
            && any(reason, |reason| subject.reason == Some(*reason))
            && any(direction, |direction| subject.direction == Some(*direction))
            && any(state, |state| subject.state == Some(*state))
            && (!default_deny || subject.reason.is_some_and(is_default_deny))
            && self.interfaces.as_ref().is_none_or(|all| all.iter().any(|one| one.matches(subject)))
            && self
                .groups
                .as_ref()
                .is_none_or(|ids| rule_name.is_some_and(|name| ids.contains(&name.group_id)))
    }
}

/// Whether one of the values of an option matches, or there is none.
fn any<T>(values: &[T], matches: impl Fn(&T) -> bool) -> bool {
    values.is_empty() || values.iter().any(matches)
}

fn contains(net: &IpNet, address: Option<IpAddr>) -> bool {
    address.is_some_and(|address| net.contains(&address))
}

const fn is_default_deny(reason: Reason) -> bool {
    matches!(reason, Reason::NoRule | Reason::NoPolicy | Reason::Revoked)
}

impl InterfaceFilter {
    fn matches(&self, subject: &Subject<'_>) -> bool {
        let Self { ids, device, netns } = self;
        ids.iter().any(|id| id == subject.network_interface_id)
            || (subject.device == device && subject.netns == netns.as_deref())
    }
}

impl PortFilter {
    fn matches(&self, subject: &Subject<'_>) -> bool {
        let ends = [subject.source_port, subject.destination_port];
        let mut ports = ends.into_iter().flatten();
        match self {
            Self::Ports(range) => ports.any(|port| range.contains(&port)),
            Self::Service(all) => ports.any(|port| {
                all.iter().any(|(protocol, of)| subject.protocol == Some(*protocol) && *of == port)
            }),
            Self::Icmp(all) => all.iter().any(|one| one.matches(subject)),
        }
    }
}

impl IcmpFilter {
    fn matches(&self, subject: &Subject<'_>) -> bool {
        let Self { protocol, kind, code } = *self;
        let Some((of_kind, of_code)) = subject.icmp else { return false };
        protocol.is_none_or(|protocol| subject.protocol == Some(protocol))
            && of_kind == kind
            && code.is_none_or(|code| code == of_code)
    }
}
