//! One reading of everything that is shown.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::reason::Reason;
use firewall_ebpf::abi::state::State;

use crate::observe::flows::{Admitted, Change, Kind, Place};
use crate::observe::query::{Recorded, Subject};
use crate::observe::record::{PacketRecord, RuleName};

/// What was read at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    /// Time since the first one.
    pub(super) at: Duration,
    pub(super) counters: Vec<CounterSample>,
    pub(super) flows: Vec<FlowSample>,
    /// New records, in the order of their numbers.
    pub(super) records: Vec<PacketRecord>,
    /// Packets that no record has, of the accounts that were written meanwhile.
    pub(super) lost: u64,
    /// The names that a filter may have.
    pub(super) names: Recorded,
    /// Why something could not be read.
    pub(super) error: Option<String>,
}

/// A counter that is not zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CounterSample {
    pub(super) place: Arc<Place>,
    pub(super) direction: Direction,
    pub(super) reason: Reason,
    /// Since the interface was attached.
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

impl CounterSample {
    /// What a filter compares: a counter has no addresses.
    pub(super) fn subject(&self) -> Subject<'_> {
        Subject {
            direction: Some(self.direction),
            reason: Some(self.reason),
            ..self.place.subject()
        }
    }
}

/// A live flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FlowSample {
    pub(super) place: Arc<Place>,
    pub(super) direction: Direction,
    pub(super) protocol: u8,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) source_port: Option<u16>,
    pub(super) destination_port: Option<u16>,
    pub(super) icmp: Option<(u8, u8)>,
    pub(super) state: State,
    pub(super) rule: Option<RuleName>,
    /// What admitted it, where that is no rule.
    pub(super) otherwise: &'static str,
    /// Seconds since its first packet.
    pub(super) age: u64,
    /// Since the last reading, both directions.
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) is_new: bool,
}

impl FlowSample {
    /// `None` of one that has ended.
    pub(super) fn new(change: &Change) -> Option<Self> {
        let flow = &change.flow;
        let subject = flow.subject();
        Some(Self {
            place: Arc::clone(&flow.place),
            direction: subject.direction?,
            protocol: subject.protocol?,
            source: subject.source?,
            destination: subject.destination?,
            source_port: subject.source_port,
            destination_port: subject.destination_port,
            icmp: subject.icmp,
            state: flow.state,
            rule: subject.rule.cloned(),
            otherwise: match flow.admitted {
                Admitted::Rule { .. } => "",
                Admitted::Learned => "learned",
                Admitted::Exempt => "exempt",
                Admitted::Management => "management",
                Admitted::Unknown => "-",
            },
            age: flow.age,
            packets: change.all_packets(),
            bytes: change.all_bytes(),
            is_new: change.kind == Kind::New,
        })
        .filter(|_| change.kind != Kind::Ended)
    }

    pub(super) fn subject(&self) -> Subject<'_> {
        Subject {
            direction: Some(self.direction),
            protocol: Some(self.protocol),
            source: Some(self.source),
            destination: Some(self.destination),
            source_port: self.source_port,
            destination_port: self.destination_port,
            icmp: self.icmp,
            state: Some(self.state),
            rule: self.rule.as_ref(),
            ..self.place.subject()
        }
    }
}
