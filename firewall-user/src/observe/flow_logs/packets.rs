//! The packets of no flow, from records of the collector.

use std::collections::BTreeMap;
use std::sync::Arc;

use firewall_ebpf::abi::reason::{Reason, Verdict as Fate};

use super::aggregate::{Packets, Skipped, Tuple};
use super::flows::{FIN, RST, SYN, SYN_ACK};
use super::record::{Action, Why};
use crate::dataplane::tables::counters::ByReason;
use crate::observe::record::{PacketRecord, Verdict};

mod source;

pub use source::{Collected, Journalled};

/// Records of packets as they come.
pub trait PacketSource: Send {
    /// Those that have come since the last call. `wants_passes`: whether packets that pass without a flow are wanted,
    /// besides those that are dropped.
    fn take(&mut self, wants_passes: bool) -> Taken;
}

/// Records that a [`PacketSource`] had.
#[derive(Debug, Default)]
pub struct Taken {
    /// The records.
    pub records: Vec<Arc<PacketRecord>>,
    /// The ids of interfaces with packets that are in no record, because there were too many at once.
    pub skipped: Vec<(String, Skipped)>,
    /// The same of any interfaces: which ones is not known.
    pub skipped_all: Skipped,
    /// Which packets are being recorded.
    pub collects: Skipped,
}

/// The packets of a record; `None` of those without addresses, which are no IP packets or do not parse. `header`:
/// bytes of the link's header, without VLAN tags.
#[must_use]
pub fn packets(record: &PacketRecord, header: u64) -> Option<Packets> {
    let (source, destination) = record.source.zip(record.destination)?;
    let (action, why) = match record.verdict {
        Verdict::Drop => (Action::Reject, Why::Reason(record.reason)),
        Verdict::WouldDrop => (Action::Accept, Why::WouldDrop(record.reason)),
        Verdict::Pass => (Action::Accept, Why::Reason(record.reason)),
    };
    let header = if header == 0 { 0 } else { header + tags(&record.frame) };
    Some(Packets {
        tuple: Tuple {
            direction: record.direction,
            protocol: record.protocol?,
            source,
            destination,
            source_port: record.source_port.unwrap_or(0),
            destination_port: record.destination_port.unwrap_or(0),
        },
        action,
        why,
        rule: record.rule.clone().map(Arc::new),
        packets: record.packets,
        bytes: record.bytes.saturating_sub(record.packets.saturating_mul(header)),
        first: record.first,
        last: record.last,
        tcp_flags: record.tcp_flags.map_or(0, tcp_flags),
    })
}

/// AWS's flags of those in a TCP header. In a record of several packets SYN and ACK may be of different ones; then
/// they count as a SYN-ACK.
const fn tcp_flags(header: u8) -> u8 {
    const ACK: u8 = 16;
    let mut flags = header & (FIN | RST);
    if header & SYN != 0 {
        flags |= if header & ACK != 0 { SYN_ACK } else { SYN };
    }
    flags
}

/// Bytes of the VLAN tags of a frame, of which the beginning is in hexadecimal.
fn tags(frame: &str) -> u64 {
    let is_tag = |place: usize| {
        frame.get(place..place + 4).is_some_and(|word| {
            ["8100", "88a8", "9100"].iter().any(|tag| word.eq_ignore_ascii_case(tag))
        })
    };
    // Behind the two MAC addresses, two digits a byte.
    [24, 32].into_iter().take_while(|place| is_tag(*place)).count() as u64 * 4
}

/// Packets that are in no record because nothing recorded them: those that the kernel counted meanwhile.
#[derive(Debug, Default)]
pub struct Unrecorded {
    last: BTreeMap<u16, Counts>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    dropped: u64,
    passed: u64,
}

impl Unrecorded {
    /// Which packets of a slot have been counted since the last call, of those that belong to no flow and would be
    /// in a record. `counters`: as they are now.
    pub fn since_last(&mut self, slot: u16, counters: &ByReason) -> Skipped {
        let sum = |is_of: fn(Reason) -> bool| {
            let of = counters.iter().filter(|((_, reason), _)| is_of(*reason));
            of.map(|(_, counter)| counter.packets).sum()
        };
        let now = Counts {
            dropped: sum(|reason| reason.verdict() == Fate::Drop),
            passed: sum(|reason| matches!(reason, Reason::Admitted | Reason::Untracked)),
        };
        let Some(last) = self.last.insert(slot, now) else { return Skipped::default() };
        Skipped { accepted: now.passed > last.passed, rejected: now.dropped > last.dropped }
    }
}

#[cfg(test)]
mod tests;
