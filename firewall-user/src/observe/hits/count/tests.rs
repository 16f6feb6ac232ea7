use std::net::Ipv4Addr;
use std::sync::Arc;

use firewall_ebpf::abi::flow::Flow;
use firewall_ebpf::abi::state::State;

use super::*;
use crate::dataplane::flows::list::tuple_for_test;
use crate::observe::flows::{LiveFlow, Place};
use crate::observe::record::RuleName;

const RULE: u32 = 7;
const WALL: i64 = 1_000_000_000;
const JIFFIES: u64 = 100_000;
const HZ: u64 = 100;

/// What a flow of the rule counted since the last reading; its last packet was `idle` seconds ago.
fn change(kind: Kind, packets: u64, idle: u64) -> Change {
    let flow = Flow { rule: RULE, last_seen: JIFFIES - idle * HZ, ..Flow::default() };
    let end = (Ipv4Addr::LOCALHOST, 80);
    let place = Place {
        network_interface_id: "eni-1".to_owned(),
        device: "eth0".to_owned(),
        netns: None,
        label: "eth0".to_owned(),
    };
    let name = RuleName {
        security_group_rule_id: "sgr-1".to_owned(),
        group_id: "sg-1".to_owned(),
        group_name: "web".to_owned(),
    };
    let flow = LiveFlow {
        entry: tuple_for_test((3, 6), end, end, flow),
        place: Arc::new(place),
        state: State::Established,
        age: idle + 10,
        idle,
        left: 0,
        admitted: Admitted::Rule { name: Arc::new(name), is_removed: false },
    };
    Change { flow, kind, packets: [packets, 0], bytes: [100 * packets, 0] }
}

/// Rows over several readings.
#[derive(Default)]
struct Rows(BTreeMap<u32, Row>);

impl Rows {
    /// Adds a reading of the kernel's counter, of 100 bytes each packet, and of flows.
    fn read(&mut self, is_same_boot: bool, counter: u64, changes: Vec<Change>) -> RuleHits {
        let counters = [(RULE, Counter { packets: counter, bytes: 100 * counter })].into();
        let poll = Poll { jiffies: JIFFIES, changes, ..Poll::default() };
        let reading =
            Reading { wall: WALL, hz: HZ, is_same_boot, counters: &counters, poll: &poll };
        count(&reading, &[RULE].into(), &mut self.0);
        self.0[&RULE].hits
    }
}

#[test]
fn a_rule_that_nothing_uses_has_no_hits() {
    let hits = Rows::default().read(true, 0, Vec::new());
    assert_eq!(hits, RuleHits { since: WALL, ..RuleHits::default() });
}

#[test]
fn packets_of_flows_and_those_without_a_flow_are_counted_once() {
    let mut rows = Rows::default();
    // Two flows of which the first packet is in the rule's counter and in their own, and three untracked packets.
    let hits = rows.read(true, 5, vec![change(Kind::New, 10, 2), change(Kind::New, 1, 4)]);
    assert_eq!((hits.packets, hits.bytes, hits.new_flows), (14, 1400, 2));
    assert_eq!((hits.first, hits.last), (Some(WALL - 14_000), Some(WALL)));
    let hits = rows.read(true, 5, vec![change(Kind::Continued, 6, 1), change(Kind::Ended, 0, 4)]);
    assert_eq!((hits.packets, hits.bytes, hits.new_flows), (20, 2000, 2));
    assert_eq!(hits.last, Some(WALL));
}

#[test]
fn a_flow_that_the_counter_has_only_at_the_next_reading_is_counted_once() {
    let mut rows = Rows::default();
    rows.read(true, 0, vec![change(Kind::New, 3, 0)]);
    let hits = rows.read(true, 1, vec![change(Kind::Continued, 0, 0)]);
    assert_eq!((hits.packets, hits.new_flows), (3, 1));
    // And no longer than that: the next packet of the counter is another one.
    let hits = rows.read(true, 2, Vec::new());
    assert_eq!((hits.packets, hits.new_flows), (4, 1));
}

#[test]
fn counters_that_begin_anew_are_added() {
    let mut rows = Rows::default();
    assert_eq!(rows.read(true, 8, Vec::new()).packets, 8);
    // Detached and attached again: the counter is lower.
    assert_eq!(rows.read(true, 3, Vec::new()).packets, 11);
    assert_eq!(rows.read(true, 3, Vec::new()).packets, 11);
    // Another boot, in which it is higher already.
    assert_eq!(rows.read(false, 5, Vec::new()).packets, 16);
}

#[test]
fn an_existing_flow_tells_only_when_it_was_used_last() {
    let hits = Rows::default().read(true, 0, vec![change(Kind::Existing, 0, 30)]);
    assert_eq!((hits.packets, hits.last), (0, Some(WALL - 30_000)));
}

#[test]
fn rows_of_deleted_rules_stay_up_to_a_number() {
    let mut rows: BTreeMap<u32, Row> = (1..=6).map(|number| (number, Row::default())).collect();
    forget_deleted(&mut rows, &[1, 4].into(), 2);
    assert_eq!(rows.keys().copied().collect::<Vec<_>>(), [1, 4, 5, 6]);
}

#[test]
fn a_flow_that_no_rule_admitted_is_of_no_rule() {
    for admitted in [Admitted::Learned, Admitted::Exempt, Admitted::Management, Admitted::Unknown] {
        let mut change = change(Kind::New, 3, 0);
        change.flow.admitted = admitted.clone();
        let hits = Rows::default().read(true, 0, vec![change]);
        assert_eq!(hits, RuleHits { since: WALL, ..RuleHits::default() }, "{admitted:?}");
    }
}

#[test]
fn the_first_hit_stays_the_first() {
    let mut rows = Rows::default();
    let first = Some(WALL - 40_000);
    assert_eq!(rows.read(true, 0, vec![change(Kind::New, 1, 30)]).first, first);
    assert_eq!(rows.read(true, 1, vec![change(Kind::New, 1, 2)]).first, first);
    assert_eq!(rows.read(true, 9, Vec::new()).first, first);
}

#[test]
fn a_flow_that_the_counter_never_had_takes_no_packet_from_later_ones() {
    for (what, is_same_boot, counter, packets) in [
        // Its first packet was counted before the tables were created anew, or in the boot before.
        ("another boot", false, 2, 5),
        ("a reading later, when it is counted", true, 2, 4),
    ] {
        let mut rows = Rows::default();
        rows.read(true, 0, vec![change(Kind::New, 3, 0)]);
        assert_eq!(rows.read(is_same_boot, counter, Vec::new()).packets, packets, "{what}");
    }
    let mut rows = Rows::default();
    rows.read(true, 0, vec![change(Kind::New, 3, 0)]);
    // A reading later it is taken for one that opened a flow, and no longer.
    rows.read(true, 0, Vec::new());
    assert_eq!(rows.read(true, 1, Vec::new()).packets, 4);
}
