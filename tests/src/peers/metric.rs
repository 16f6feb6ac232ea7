//! What is measured, and how it is told.

use super::firewall::{Firewall, Subject};
use super::rules::Rules;
use crate::decision::Family;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// Nanoseconds that a packet of a flood takes that no rule allows.
    Dropped,
    /// Nanoseconds that a packet of an existing flow takes.
    Established,
    /// TCP connections opened and closed in a second.
    Connections,
    /// Gbit/s of one TCP connection.
    Throughput,
    /// Microseconds until a byte over TCP has come back.
    RoundTrip,
}

impl Metric {
    /// All of them, in the order of figures.
    pub const ALL: [Self; 5] =
        [Self::Dropped, Self::Established, Self::Connections, Self::Throughput, Self::RoundTrip];

    /// Whether it is measured of a subject. What only established connections see does not depend
    /// on rules.
    #[must_use]
    pub fn is_of(self, subject: Subject) -> bool {
        if subject.family == Family::V6 {
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

    /// How many times as fast the first is as the second.
    #[must_use]
    pub fn speed(self, one: f64, other: f64) -> f64 {
        match self {
            Self::Dropped | Self::Established | Self::RoundTrip => other / one,
            Self::Connections | Self::Throughput => one / other,
        }
    }

    /// As printed.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Dropped => "Flood refused",
            Self::Established => "Established accepted",
            Self::Connections => "New connections",
            Self::Throughput => "TCP throughput",
            Self::RoundTrip => "Round trip",
        }
    }

    /// The unit, and which end of the scale is the better one.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Dropped | Self::Established => "ns per packet, less is better",
            Self::Connections => "TCP connections a second on one CPU, more is better",
            Self::Throughput => "Gbit/s, more is better",
            Self::RoundTrip => "µs for a byte there and back over TCP, less is better",
        }
    }

    /// Digits behind the point.
    #[must_use]
    pub const fn digits(self) -> usize {
        match self {
            Self::Dropped | Self::Established | Self::Connections => 0,
            Self::Throughput => 1,
            Self::RoundTrip => 2,
        }
    }
}
