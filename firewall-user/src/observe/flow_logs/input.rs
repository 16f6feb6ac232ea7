//! What flow logs are made of: flows from the kernel's tables, packets of no flow from records.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;

use super::aggregate::{Packets, Skipped};
use super::flows::{Flows, LinkHeaders};
use super::packets::{self, PacketSource, Taken, Unrecorded};
use crate::control::Control;
use crate::control::enforcement::present_device;
use crate::dataplane::Pins;
use crate::model::Model;

/// Bytes of an Ethernet header.
const ETHERNET: u64 = 14;

/// Packets, and interfaces with packets that are missing, each with the id of the interface.
#[derive(Debug, Default)]
pub struct Found {
    /// Packets.
    pub packets: Vec<(Arc<str>, Packets)>,
    /// Interfaces with packets that are in no record.
    pub skipped: Vec<(Arc<str>, Skipped)>,
}

/// Reads flows and records of packets.
pub struct Input {
    flows: Flows,
    source: Box<dyn PacketSource>,
    unrecorded: Unrecorded,
    collects: Skipped,
    /// By interface: whether its frames have an Ethernet header does not change while its device exists.
    headers: BTreeMap<Arc<str>, u64>,
    /// When flows were last read, in milliseconds since 1970.
    last: Option<i64>,
}

impl Input {
    /// One that takes packets of no flow from a source.
    #[must_use]
    pub fn new(source: Box<dyn PacketSource>) -> Self {
        Self {
            flows: Flows::default(),
            source,
            unrecorded: Unrecorded::default(),
            collects: Skipped::default(),
            headers: BTreeMap::new(),
            last: None,
        }
    }

    /// Forgets what it has read: the next reading is the first one.
    pub fn reset(&mut self) {
        self.flows = Flows::default();
        self.unrecorded = Unrecorded::default();
        self.collects = Skipped::default();
        self.last = None;
    }

    /// What flows did since the last reading, and the time of that one: the interval that the packets belong to. Times
    /// are milliseconds since 1970.
    ///
    /// # Errors
    /// The tables in the kernel cannot be read.
    pub fn read(&mut self, control: &Control, model: &Model, now: i64) -> Result<(i64, Found)> {
        let headers = self.headers(control.pins(), model);
        let mut found = self.flows.read(control, model, &headers, now)?;
        let last = self.last.replace(now).unwrap_or(now);
        let Some(maps) = control.maps()? else { return Ok((last, found)) };
        for (slot, interface) in &model.interfaces {
            let counted = self.unrecorded.since_last(*slot, &maps.counters(*slot)?);
            let missed = Skipped {
                accepted: counted.accepted && !self.collects.accepted,
                rejected: counted.rejected && !self.collects.rejected,
            };
            if missed != Skipped::default() {
                found.skipped.push((interface.id.to_string().into(), missed));
            }
        }
        Ok((last, found))
    }

    /// Records of packets that have come since the last call. `wants_passes`: also of those that pass without a flow.
    pub fn take(&mut self, model: &Model, wants_passes: bool) -> Found {
        let Taken { records, skipped, skipped_all, collects } = self.source.take(wants_passes);
        self.collects = collects;
        let mut found = Found::default();
        for record in records {
            let interface: Arc<str> = record.network_interface_id.as_str().into();
            let header = self.headers.get(&interface).copied().unwrap_or(ETHERNET);
            let packets = packets::packets(&record, header);
            found.packets.extend(packets.map(|packets| (interface, packets)));
        }
        let of_one = skipped.into_iter().map(|(interface, skipped)| (interface.into(), skipped));
        found.skipped.extend(of_one);
        if skipped_all != Skipped::default() {
            let all = model.interfaces.values().map(|one| one.id.to_string().into());
            found.skipped.extend(all.map(|interface| (interface, skipped_all)));
        }
        found
    }

    fn headers(&mut self, pins: &Pins, model: &Model) -> LinkHeaders {
        let mut of_slots = LinkHeaders::new();
        for (slot, interface) in &model.interfaces {
            let id: Arc<str> = interface.id.to_string().into();
            let known = self.headers.get(&id).copied();
            // A device that is not there now is asked for again.
            let found = known.or_else(|| {
                let device = present_device(pins, interface).ok().flatten()?;
                let header = if device.has_ethernet { ETHERNET } else { 0 };
                self.headers.insert(id, header);
                Some(header)
            });
            of_slots.insert(*slot, found.unwrap_or(ETHERNET));
        }
        self.headers.retain(|id, _| model.interfaces.values().any(|one| *one.id.as_str() == **id));
        of_slots
    }
}
