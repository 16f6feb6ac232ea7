//! The metrics and their presentation.

use super::firewall::{Firewall, Subject};
use super::rules::Rules;
use crate::decision::Family;

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// Nanoseconds of a packet of a flood, which no rule allows.
    Dropped,
    /// Nanoseconds of a packet of an established flow.
    Established,
    /// TCP connections opened and closed per second.
    Connections,
    /// Gbit/s of one TCP connection.
    Throughput,
    /// Microseconds of the round trip of a byte over TCP.
    RoundTrip,
}

impl Metric {
    /// All of them, in the order of figures.
    pub const ALL: [Self; 5] =
        [Self::Dropped, Self::Established, Self::Connections, Self::Throughput, Self::RoundTrip];

    /// Whether it is measured for a subject. Metrics of established connections do not depend on
    /// the number of rules.
    #[must_use]
    pub fn is_of(self, subject: Subject) -> bool {
        if subject.family == Family::V6 {
            return matches!(self, Self::Dropped | Self::Established);
        }
        if matches!(subject.rules, Some(Rules::Blocked(_))) {
            return matches!(self, Self::Dropped | Self::Established);
        }
        match self {
            Self::Dropped => subject.firewall != Firewall::XdpPass,
            Self::Established | Self::Connections => subject.firewall != Firewall::XdpDrop,
            Self::Throughput | Self::RoundTrip => {
                matches!(subject.firewall, Firewall::Nothing | Firewall::XdpPass)
                    || subject.rules == Some(Rules::Each(1))
            }
        }
    }

    /// The speed of the first as a multiple of the second's.
    #[must_use]
    pub fn speed(self, one: f64, other: f64) -> f64 {
        match self {
            Self::Dropped | Self::Established | Self::RoundTrip => other / one,
            Self::Connections | Self::Throughput => one / other,
        }
    }

    /// The printed title.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Dropped => "Flood dropped",
            Self::Established => "Established accepted",
            Self::Connections => "New connections",
            Self::Throughput => "TCP throughput",
            Self::RoundTrip => "Round trip",
        }
    }

    /// The unit, and whether more or less is better.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Dropped | Self::Established => "ns per packet, less is better",
            Self::Connections => "TCP connections per second on one CPU, more is better",
            Self::Throughput => "Gbit/s, more is better",
            Self::RoundTrip => "µs for the round trip of a byte over TCP, less is better",
        }
    }

    /// Digits after the decimal point.
    #[must_use]
    pub const fn digits(self) -> usize {
        match self {
            Self::Dropped | Self::Established | Self::Connections => 0,
            Self::Throughput => 1,
            Self::RoundTrip => 2,
        }
    }
}
