//! Removing expired flows: userspace selects them, and the kernel program removes those that no packet
//! has refreshed since.

use firewall_ebpf::abi::flow::{Table, Tier};
use firewall_ebpf::abi::helper::MAX_EXPIRED;

use crate::dataplane::error::Result;
use crate::dataplane::flows::list::FlowEntry;
use crate::dataplane::pins::Pins;
use crate::dataplane::sys::{self, helper};

/// Flows in one run of the kernel program.
const PER_CALL: usize = MAX_EXPIRED as usize;

/// How many flows were removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// From the new tier.
    pub new: u64,
    /// From the proven tier.
    pub proven: u64,
}

/// Removes flows unless a packet has refreshed them since they were read.
///
/// # Errors
/// The pinned programs cannot be run.
pub fn expire<'a>(pins: &Pins, flows: impl IntoIterator<Item = &'a FlowEntry>) -> Result<Expired> {
    let flows: Vec<&FlowEntry> = flows.into_iter().collect();
    let mut expired = Expired::default();
    for is_v6 in [false, true] {
        let inputs = inputs(&flows, is_v6);
        for (table, data) in inputs {
            let removed = helper::run(&pins.expire(is_v6), "sg_expire", &data, None)?;
            match table.tier() {
                Tier::New => expired.new += u64::from(removed),
                Tier::Proven => expired.proven += u64::from(removed),
            }
        }
    }
    Ok(expired)
}

/// The inputs of a family's program, one per run: the table's number as a word, then each flow's
/// `last_seen` and key, as they are stored in the tables.
fn inputs(flows: &[&FlowEntry], is_v6: bool) -> Vec<(Table, Vec<u8>)> {
    let mut inputs = Vec::new();
    for table in Table::ALL {
        let selected: Vec<_> =
            flows.iter().filter(|one| one.table == table && one.key.is_v6() == is_v6).collect();
        for chunk in selected.chunks(PER_CALL) {
            let mut data = helper::list(table as u64);
            for entry in chunk {
                data.extend_from_slice(sys::bytes(&entry.flow.last_seen));
                data.extend_from_slice(entry.key.bytes());
            }
            inputs.push((table, data));
        }
    }
    inputs
}

/// Whether a flow has been idle for longer than its timeout, all in jiffies, as the kernel program
/// computes it. A flow that was refreshed after `now` was read has not expired.
#[must_use]
pub const fn has_expired(last_seen: u64, now: u64, timeout: u64) -> bool {
    match now.checked_sub(last_seen) {
        Some(idle) => idle > timeout,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use firewall_ebpf::abi::flow::{Flow, FlowKey4, FlowKey6};
    use firewall_ebpf::abi::helper::LIST_HEADER;

    use super::*;
    use crate::dataplane::flows::key::AnyKey;
    use crate::dataplane::flows::list::entry_for_test;

    const HEADER: usize = LIST_HEADER as usize;

    fn flow(last_seen: u64) -> Flow {
        Flow { last_seen, ..Flow::default() }
    }

    #[test]
    fn an_input_is_the_table_and_then_times_and_keys() {
        let v4 = FlowKey4 { inside_port: 0x1234, slot: 7, protocol: 6, ..FlowKey4::default() };
        let v6 = FlowKey6 { outside: [1, 2], slot: 7, protocol: 17, ..FlowKey6::default() };
        let entries = [
            entry_for_test(AnyKey::V4(v4), Table::Tcp, flow(0x0102_0304_0506_0708)),
            entry_for_test(AnyKey::V6(v6), Table::New, flow(9)),
        ];
        let entries: Vec<_> = entries.iter().collect();

        let [(table, data)] = &inputs(&entries, false)[..] else { panic!("one input") };
        let (header, entry) = data.split_at(HEADER);
        assert_eq!((*table, entry.len()), (Table::Tcp, 8 + 16));
        assert_eq!(header[..8], 2_u64.to_ne_bytes());
        assert_eq!(entry[..8], 0x0102_0304_0506_0708_u64.to_ne_bytes());
        assert_eq!(entry[16..18], 0x1234_u16.to_ne_bytes());
        assert_eq!((entry[20], entry[22]), (7, 6));

        let [(table, data)] = &inputs(&entries, true)[..] else { panic!("one input") };
        let (header, entry) = data.split_at(HEADER);
        assert_eq!((*table, entry.len()), (Table::New, 8 + 40));
        assert_eq!(header[..8], [0; 8]);
        assert_eq!(entry[24..40], [1_u64.to_ne_bytes(), 2_u64.to_ne_bytes()].concat());
    }

    #[test]
    fn an_input_has_at_most_sixty_four_flows() {
        let of = |table, port| {
            let key = FlowKey4 { inside_port: port, ..FlowKey4::default() };
            entry_for_test(AnyKey::V4(key), table, flow(1))
        };
        let new = (0..130).map(|port| of(Table::New, port));
        let entries: Vec<_> = new.chain((0..64).map(|port| of(Table::Tcp, port))).collect();
        let entries: Vec<_> = entries.iter().collect();
        let sizes: Vec<_> =
            inputs(&entries, false).iter().map(|(table, data)| (*table, data.len())).collect();
        let size = |flows: usize| HEADER + flows * 24;
        assert_eq!(
            sizes,
            [
                (Table::New, size(64)),
                (Table::New, size(64)),
                (Table::New, size(2)),
                (Table::Tcp, size(64))
            ]
        );
        assert!(inputs(&entries, true).is_empty());
    }

    #[test]
    fn a_flow_expires_when_it_is_idle_for_longer_than_its_timeout() {
        assert!(!has_expired(1000, 1010, 10));
        assert!(has_expired(1000, 1011, 10));
        // Refreshed by a packet after the clock was read.
        assert!(!has_expired(1001, 1000, 0));
        assert!(!has_expired(u64::MAX, 0, u64::MAX));
    }
}
