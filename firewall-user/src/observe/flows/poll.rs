//! What changed in the flow tables since the last reading.
//!
//! A flow that begins and ends between two readings is not seen. TCP flows stay in the tables for their `time-wait` or
//! `close`, others for their idle timeout, so with intervals of ten seconds these are flows that were evicted,
//! flushed, or replaced by the next connection of the same ports.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::mem;
use std::time::{Duration, Instant};

use anyhow::Result;
use firewall_ebpf::abi::flow::Flow;

use super::{LiveFlow, Names, age};
use crate::control::{Control, NothingAttached};
use crate::dataplane::flows::list::FlowId;
use crate::dataplane::tables::clock;
use crate::model::Model;

/// Flows that a [`Poller`] remembers unless it is told otherwise, about 300 bytes each.
pub const DEFAULT_LIMIT: usize = 1 << 18;

/// Reads the flow tables again and again. It remembers the counters of the flows that it has seen, up to a number.
#[derive(Debug)]
pub struct Poller {
    seen: HashMap<FlowId, LiveFlow>,
    limit: usize,
    names: Names,
    /// When the last reading was: by the kernel's clock, and by this process'.
    last: Option<(u64, Option<Instant>)>,
    /// What another process has seen at that reading.
    known: Option<Known>,
}

/// What the flows of a reading had counted, by the bytes of their ids: for the process that goes on.
pub type Known = HashMap<Box<[u8]>, Counted>;

/// What a flow had counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// When it began: the low half of jiffies.
    pub created: u32,
    /// Packets by direction.
    pub packets: [u64; 2],
    /// Bytes of whole frames by direction.
    pub bytes: [u64; 2],
}

/// What a reading found.
#[derive(Clone, Debug, Default)]
pub struct Poll {
    /// The kernel's clock, in jiffies.
    pub jiffies: u64,
    /// Time since the last reading; `None` for the first one.
    pub since_last: Option<Duration>,
    /// Every live flow, and those that ended, in no order.
    pub changes: Vec<Change>,
    /// Live flows above the limit of flows to remember; they are not among the changes.
    pub beyond_limit: u64,
}

/// A flow, and what it has counted since the last reading.
#[derive(Clone, Debug)]
pub struct Change {
    /// The flow; one that ended as it was seen last.
    pub flow: LiveFlow,
    /// Whether it began or ended.
    pub kind: Kind,
    /// Packets since then, by direction. A lower bound, as the flow's own.
    pub packets: [u64; 2],
    /// Bytes of whole frames since then, by direction.
    pub bytes: [u64; 2],
}

/// Whether a flow began or ended since the last reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It was there before the first reading: it has counted nothing since then.
    Existing,
    /// It began: all that it has counted is since then.
    New,
    /// It was there at the last reading, too.
    Continued,
    /// It is no longer there, expired, or was replaced by the next flow of its tuple. What it counted after the
    /// last reading is not known.
    Ended,
}

impl Default for Poller {
    fn default() -> Self {
        Self::new(DEFAULT_LIMIT)
    }
}

impl Poller {
    /// One that remembers up to `limit` flows, and has seen none yet.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { seen: HashMap::new(), limit, names: Names::default(), last: None, known: None }
    }

    /// One that goes on after a reading of another process in this boot, at a time of the kernel's clock in
    /// jiffies. If it is not known what that one saw, flows that began later are new, and the others existing.
    #[must_use]
    pub fn resume(limit: usize, last: u64, known: Option<Known>) -> Self {
        Self { last: Some((last, None)), known, ..Self::new(limit) }
    }

    /// What the flows had counted at the last reading.
    #[must_use]
    pub fn known(&self) -> Known {
        let counted = self.seen.iter().map(|(id, flow)| (id.bytes().into(), Counted::of(flow)));
        counted.collect()
    }

    /// Reads the tables. Where nothing is attached, every flow has ended.
    ///
    /// # Errors
    /// Tables or store cannot be read; the next reading goes on from the last one that succeeded.
    pub fn poll(&mut self, control: &Control, model: &Model) -> Result<Poll> {
        match self.poll_attached(control, model) {
            Err(error) if error.is::<NothingAttached>() => Ok(self.advance(Vec::new(), 0)),
            result => result,
        }
    }

    /// As [`Self::poll`], where nothing being attached is an error.
    ///
    /// # Errors
    /// As [`Self::poll`], and [`NothingAttached`].
    pub fn poll_attached(&mut self, control: &Control, model: &Model) -> Result<Poll> {
        let maps = control.maps()?.ok_or(NothingAttached)?;
        let now = clock::now(control.pins(), &maps)?;
        let namer = self.names.with(control.store(), model);
        let flows = super::live(namer, maps.flows()?, now)?;
        Ok(self.advance(flows, now))
    }

    /// Compares flows with those of the last reading.
    fn advance(&mut self, flows: Vec<LiveFlow>, jiffies: u64) -> Poll {
        let now = Instant::now();
        let last = self.last.replace((jiffies, Some(now)));
        let mut poll = Poll {
            jiffies,
            since_last: last.and_then(|(_, instant)| instant).map(|instant| now - instant),
            ..Poll::default()
        };
        let mut before = mem::take(&mut self.seen);
        let others = self.known.take();
        for (id, flow) in distinct(flows) {
            let known = match before.remove(&id) {
                Some(old) => poll.compare(flow, old),
                // Flows that were seen go first: the rest of them is still in `before`.
                None if self.seen.len() + before.len() >= self.limit => {
                    poll.beyond_limit += 1;
                    continue;
                }
                None => match others.as_ref().and_then(|others| others.get(id.bytes())) {
                    Some(old) if old.is_of(&flow) => poll.continued(flow, old),
                    _ => poll.first_seen(flow, last, others.is_some()),
                },
            };
            self.seen.insert(id, known);
        }
        poll.changes.extend(before.into_values().map(Change::ended));
        poll
    }
}

/// Flows without those that were read twice because they moved to another table meanwhile: the copy there has
/// counted more.
fn distinct(flows: Vec<LiveFlow>) -> HashMap<FlowId, LiveFlow> {
    let mut distinct = HashMap::with_capacity(flows.len());
    for flow in flows {
        match distinct.entry(flow.entry.id()) {
            Entry::Vacant(free) => drop(free.insert(flow)),
            Entry::Occupied(mut twice) => {
                let known: &mut LiveFlow = twice.get_mut();
                if flow.packets() >= known.packets() {
                    *known = flow;
                }
            }
        }
    }
    distinct
}

impl Poll {
    /// A flow that the last reading did not have, or that it may have had because it was of another process and its
    /// flows are not known. `last`: when that was.
    fn first_seen(
        &mut self,
        flow: LiveFlow,
        last: Option<(u64, Option<Instant>)>,
        is_known: bool,
    ) -> LiveFlow {
        let began = self.jiffies.saturating_sub(age(self.jiffies, flow.entry.flow.created));
        let is_new = match last {
            None => false,
            // The other process may have seen those that had begun.
            Some((last, None)) if !is_known => began > last,
            // A packet that creates a flow reads the clock a little before it writes the table.
            Some((last, _)) => began + clock::hz() >= last,
        };
        let Flow { packets, bytes, .. } = flow.entry.flow;
        self.changes.push(if is_new {
            Change { flow: flow.clone(), kind: Kind::New, packets, bytes }
        } else {
            Change { flow: flow.clone(), kind: Kind::Existing, packets: [0; 2], bytes: [0; 2] }
        });
        flow
    }

    /// A flow of a tuple that the last reading had, too; returns it with the counters to compare the next reading
    /// with.
    fn compare(&mut self, flow: LiveFlow, old: LiveFlow) -> LiveFlow {
        if old.place.network_interface_id == flow.place.network_interface_id
            && Counted::of(&old).is_of(&flow)
        {
            return self.continued(flow, &Counted::of(&old));
        }
        self.changes.push(Change::ended(old));
        let Flow { packets, bytes, .. } = flow.entry.flow;
        self.changes.push(Change { flow: flow.clone(), kind: Kind::New, packets, bytes });
        flow
    }

    /// A flow that had counted something at the last reading; returns it as [`Self::compare`].
    fn continued(&mut self, mut flow: LiveFlow, old: &Counted) -> LiveFlow {
        let since = |new: &mut [u64; 2], old: [u64; 2]| {
            let [ingress, egress] = [0, 1].map(|direction| {
                let counted = new[direction].saturating_sub(old[direction]);
                // CPUs that count at once may write an earlier value; what was reported is not reported again.
                new[direction] = new[direction].max(old[direction]);
                counted
            });
            [ingress, egress]
        };
        let packets = since(&mut flow.entry.flow.packets, old.packets);
        let bytes = since(&mut flow.entry.flow.bytes, old.bytes);
        self.changes.push(Change { flow: flow.clone(), kind: Kind::Continued, packets, bytes });
        flow
    }
}

impl Counted {
    const fn of(flow: &LiveFlow) -> Self {
        let Flow { created, packets, bytes, .. } = flow.entry.flow;
        Self { created, packets, bytes }
    }

    /// Whether it is of this flow of the same tuple. The time of creation tells flows apart, but for those of one
    /// jiffy: there the next one has counted far less.
    fn is_of(&self, flow: &LiveFlow) -> bool {
        let packets = self.packets[0].saturating_add(self.packets[1]);
        self.created == flow.entry.flow.created && flow.packets() >= packets / 2
    }
}

impl Change {
    fn ended(flow: LiveFlow) -> Self {
        Self { flow, kind: Kind::Ended, packets: [0; 2], bytes: [0; 2] }
    }

    /// Packets of both directions.
    #[must_use]
    pub fn all_packets(&self) -> u64 {
        self.packets.iter().sum()
    }

    /// Bytes of both directions.
    #[must_use]
    pub fn all_bytes(&self) -> u64 {
        self.bytes.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use firewall_ebpf::abi::state::State;

    use super::*;
    use crate::dataplane::flows::list::tuple_for_test;
    use crate::observe::flows::{Admitted, Place};

    fn flow_of(interface: &str, port: u16, created: u32, packets: u64) -> LiveFlow {
        let flow =
            Flow { created, packets: [packets, 0], bytes: [0, 100 * packets], ..Flow::default() };
        let end = Ipv4Addr::LOCALHOST;
        let place = Place {
            network_interface_id: interface.to_owned(),
            device: "eth0".to_owned(),
            netns: None,
            label: "eth0".to_owned(),
        };
        LiveFlow {
            entry: tuple_for_test((3, 6), (end, 80), (end, port), flow),
            place: Arc::new(place),
            state: State::Established,
            age: 0,
            idle: 0,
            left: 0,
            admitted: Admitted::Learned,
        }
    }

    fn flow(port: u16, created: u32, packets: u64) -> LiveFlow {
        flow_of("eni-1", port, created, packets)
    }

    /// Outside port, kind, packets and bytes, sorted.
    fn told(poll: &Poll) -> Vec<(u16, Kind, u64, u64)> {
        let told = poll
            .changes
            .iter()
            .map(|one| (one.flow.entry.outside_port, one.kind, one.all_packets(), one.all_bytes()));
        let mut told: Vec<_> = told.collect();
        told.sort_by_key(|(port, kind, ..)| (*port, *kind != Kind::Ended));
        told
    }

    /// A time by which a flow that began at 0 is old.
    fn late() -> u64 {
        clock::jiffies(1000)
    }

    fn created_at(jiffies: u64) -> u32 {
        u32::try_from(jiffies & u64::from(u32::MAX)).unwrap()
    }

    #[test]
    fn each_packet_is_told_once_and_flows_begin_and_end() {
        let mut poller = Poller::default();
        let first = poller.advance(vec![flow(1, 0, 5), flow(2, 0, 7)], late());
        assert_eq!(told(&first), [(1, Kind::Existing, 0, 0), (2, Kind::Existing, 0, 0)]);
        assert!(first.since_last.is_none());
        let new = flow(3, created_at(late() + 1), 4);
        let second = poller.advance(vec![flow(1, 0, 8), new.clone()], late() + 2);
        assert_eq!(
            told(&second),
            [(1, Kind::Continued, 3, 300), (2, Kind::Ended, 0, 0), (3, Kind::New, 4, 400)]
        );
        assert!(second.since_last.is_some());
        let third = poller.advance(vec![flow(1, 0, 8), new], late() + 3);
        assert_eq!(told(&third), [(1, Kind::Continued, 0, 0), (3, Kind::Continued, 0, 0)]);
    }

    #[test]
    fn the_next_flow_of_a_tuple_is_another_one() {
        let next = created_at(late() + 1);
        for (what, second) in [
            ("created later", flow(1, next, 100)),
            ("created in the same jiffy", flow(1, 0, 1)),
            ("of another interface in the same slot", flow_of("eni-2", 1, 0, 100)),
        ] {
            let mut poller = Poller::default();
            poller.advance(vec![flow(1, 0, 50)], late());
            let packets = second.packets();
            let poll = poller.advance(vec![second], late() + 2);
            assert_eq!(
                told(&poll),
                [(1, Kind::Ended, 0, 0), (1, Kind::New, packets, 100 * packets)],
                "{what}"
            );
        }
    }

    #[test]
    fn a_counter_that_a_race_set_back_is_not_counted_twice() {
        let mut poller = Poller::default();
        poller.advance(vec![flow(1, 0, 50)], late());
        let counts = [60, 58, 60, 63]
            .map(|packets| told(&poller.advance(vec![flow(1, 0, packets)], late() + 1))[0].2);
        assert_eq!(counts, [10, 0, 0, 3]);
    }

    #[test]
    fn a_flow_that_was_read_in_two_tables_is_told_once() {
        let mut poller = Poller::default();
        poller.advance(Vec::new(), late());
        let created = created_at(late() + 1);
        let poll = poller.advance(vec![flow(1, created, 2), flow(1, created, 3)], late() + 2);
        assert_eq!(told(&poll), [(1, Kind::New, 3, 300)]);
    }

    #[test]
    fn flows_above_the_limit_are_counted_and_the_others_stay() {
        let mut poller = Poller::new(2);
        poller.advance(vec![flow(7, 0, 1), flow(8, 0, 1)], late());
        let created = created_at(late() + 1);
        let more: Vec<_> = (1..=4).map(|port| flow(port, created, 1)).collect();
        let all = [more.clone(), vec![flow(7, 0, 2), flow(8, 0, 2)]].concat();
        let poll = poller.advance(all, late() + 2);
        assert_eq!(told(&poll), [(7, Kind::Continued, 1, 100), (8, Kind::Continued, 1, 100)]);
        assert_eq!(poll.beyond_limit, 4);
        // With room again they are existing flows: what they counted before is not of this interval.
        let later = late() + clock::jiffies(60);
        let poll = poller.advance(more[..1].to_vec(), later);
        assert_eq!(poll.beyond_limit, 1);
        let poll = poller.advance(more[..1].to_vec(), later + 1);
        assert_eq!(told(&poll), [(1, Kind::Existing, 0, 0)]);
    }

    #[test]
    fn a_flow_that_began_while_the_tables_were_read_is_new() {
        let second = clock::hz();
        for (before, kind) in [(0, Kind::New), (second, Kind::New), (second + 1, Kind::Existing)] {
            let mut poller = Poller::default();
            poller.advance(Vec::new(), late());
            let created = created_at(late() - before);
            let poll = poller.advance(vec![flow(1, created, 4)], late() + second);
            assert_eq!(told(&poll)[0].1, kind, "{before}");
        }
    }

    #[test]
    fn a_poller_that_resumes_knows_which_flows_are_new() {
        let mut poller = Poller::resume(DEFAULT_LIMIT, late(), None);
        let later = late() + clock::jiffies(60);
        let seen = flow(2, created_at(late()), 7);
        let new = flow(3, created_at(late() + 1), 9);
        let poll = poller.advance(vec![flow(1, 0, 5), seen, new], later);
        let existing = |port| (port, Kind::Existing, 0, 0);
        assert_eq!(told(&poll), [existing(1), existing(2), (3, Kind::New, 9, 900)]);
    }

    #[test]
    fn a_poller_that_knows_what_another_one_saw_goes_on_exactly() {
        let of_last_jiffy = created_at(late());
        let mut first = Poller::default();
        first.advance(Vec::new(), late() - 1);
        first.advance(vec![flow(1, 0, 5), flow(2, of_last_jiffy, 7), flow(4, 0, 9)], late());

        let mut second = Poller::resume(DEFAULT_LIMIT, late(), Some(first.known()));
        let next_of_tuple = flow(4, created_at(late() + 1), 2);
        let new = flow(3, of_last_jiffy, 9);
        let later = late() + clock::jiffies(60);
        let read = vec![flow(1, 0, 8), flow(2, of_last_jiffy, 7), new, next_of_tuple];
        let poll = second.advance(read.clone(), later);
        let expected = [
            (1, Kind::Continued, 3, 300),
            (2, Kind::Continued, 0, 0),
            (3, Kind::New, 9, 900),
            (4, Kind::New, 2, 200),
        ];
        assert_eq!(told(&poll), expected);
        let poll = second.advance(read, later + 1);
        assert!(poll.changes.iter().all(|one| one.kind == Kind::Continued));
    }
}
