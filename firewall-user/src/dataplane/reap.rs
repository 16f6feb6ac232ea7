//! Removing flows that look dead from here: the kernel does it, and only where it is still so.

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use firewall_ebpf::flow::{MAX_REAPED, REAP_LIST, Tier};

use crate::dataplane::error::{Context, Result};
use crate::dataplane::flows::{AnyKey, FlowEntry};
use crate::dataplane::pins::Pins;
use crate::dataplane::sys;

/// Flows in one call of the kernel program.
const PER_CALL: usize = MAX_REAPED as usize;

/// How many flows were removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reaped {
    /// From the new tier.
    pub new: u64,
    /// From the proven tier.
    pub proven: u64,
}

/// Removes flows, as they were read, unless a packet has touched them since.
///
/// # Errors
/// The pinned programs cannot be run.
pub fn reap<'a>(pins: &Pins, flows: impl IntoIterator<Item = &'a FlowEntry>) -> Result<Reaped> {
    let flows: Vec<&FlowEntry> = flows.into_iter().collect();
    let mut reaped = Reaped::default();
    for is_v6 in [false, true] {
        let calls = calls(&flows, is_v6);
        if calls.is_empty() {
            continue;
        }
        let program =
            SchedClassifier::from_pin(pins.reap(is_v6)).context("open program sg_reap")?;
        for (tier, data) in calls {
            let options = TestRunOptions { data_in: Some(&data), ..TestRunOptions::default() };
            let removed = program.test_run(options).context("run program sg_reap")?.return_value;
            match tier {
                Tier::New => reaped.new += u64::from(removed),
                Tier::Proven => reaped.proven += u64::from(removed),
            }
        }
    }
    Ok(reaped)
}

/// What the program of a family is given, call by call: the tier's number as a word, then each
/// flow's time and key, as they lie in the tables.
fn calls(flows: &[&FlowEntry], is_v6: bool) -> Vec<(Tier, Vec<u8>)> {
    let mut calls = Vec::new();
    for tier in Tier::ALL {
        let meant: Vec<_> = flows
            .iter()
            .filter(|entry| entry.tier == tier && matches!(entry.key, AnyKey::V6(_)) == is_v6)
            .collect();
        for chunk in meant.chunks(PER_CALL) {
            let mut data = sys::bytes(&(tier as u64)).to_vec();
            for entry in chunk {
                data.extend_from_slice(sys::bytes(&entry.flow.last_seen));
                data.extend_from_slice(entry.key.bytes());
            }
            calls.push((tier, data));
        }
    }
    calls
}

const _: () = assert!(REAP_LIST as usize == size_of::<u64>());

/// Whether a flow last seen then has been idle for longer than its timeout, all in jiffies; the
/// kernel program's own question. One that was touched after `now` was read has not.
#[must_use]
pub const fn has_expired(last_seen: u64, now: u64, timeout: u64) -> bool {
    match now.checked_sub(last_seen) {
        Some(idle) => idle > timeout,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use firewall_ebpf::flow::{Flow, FlowKey4, FlowKey6};

    use super::*;
    use crate::dataplane::flows::entry_for_test;

    fn flow(last_seen: u64) -> Flow {
        Flow { last_seen, ..Flow::default() }
    }

    #[test]
    fn a_call_is_the_tier_and_then_times_and_keys() {
        let v4 = FlowKey4 { inside_port: 0x1234, slot: 7, protocol: 6, ..FlowKey4::default() };
        let v6 = FlowKey6 { outside: [1, 2], slot: 7, protocol: 17, ..FlowKey6::default() };
        let entries = [
            entry_for_test(AnyKey::V4(v4), Tier::Proven, flow(0x0102_0304_0506_0708)),
            entry_for_test(AnyKey::V6(v6), Tier::New, flow(9)),
        ];
        let entries: Vec<_> = entries.iter().collect();

        let [(tier, data)] = &calls(&entries, false)[..] else { panic!("one call") };
        assert_eq!((*tier, data.len()), (Tier::Proven, 8 + 8 + 16));
        assert_eq!(data[..8], 1_u64.to_ne_bytes());
        assert_eq!(data[8..16], 0x0102_0304_0506_0708_u64.to_ne_bytes());
        assert_eq!(data[24..26], 0x1234_u16.to_ne_bytes());
        assert_eq!((data[28], data[30]), (7, 6));

        let [(tier, data)] = &calls(&entries, true)[..] else { panic!("one call") };
        assert_eq!((*tier, data.len()), (Tier::New, 8 + 8 + 40));
        assert_eq!(data[..8], [0; 8]);
        assert_eq!(data[32..48], [1_u64.to_ne_bytes(), 2_u64.to_ne_bytes()].concat());
    }

    #[test]
    fn a_call_has_room_for_sixty_four() {
        let of = |tier, port| {
            let key = FlowKey4 { inside_port: port, ..FlowKey4::default() };
            entry_for_test(AnyKey::V4(key), tier, flow(1))
        };
        let new = (0..130).map(|port| of(Tier::New, port));
        let entries: Vec<_> = new.chain((0..64).map(|port| of(Tier::Proven, port))).collect();
        let entries: Vec<_> = entries.iter().collect();
        let sizes: Vec<_> =
            calls(&entries, false).iter().map(|(tier, data)| (*tier, data.len())).collect();
        let size = |flows: usize| 8 + flows * 24;
        assert_eq!(
            sizes,
            [
                (Tier::New, size(64)),
                (Tier::New, size(64)),
                (Tier::New, size(2)),
                (Tier::Proven, size(64))
            ]
        );
        assert!(calls(&entries, true).is_empty());
    }

    #[test]
    fn expired_is_what_the_kernel_calls_so() {
        assert!(!has_expired(1000, 1010, 10));
        assert!(has_expired(1000, 1011, 10));
        // Touched by a packet after the clock was read.
        assert!(!has_expired(1001, 1000, 0));
        assert!(!has_expired(u64::MAX, 0, u64::MAX));
    }
}
