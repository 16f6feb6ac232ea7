//! The packets of flows, from readings of the kernel's flow tables.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Result;
use firewall_ebpf::abi::event::Event;
use firewall_ebpf::abi::flow::{FIN_EGRESS, Flow, REPLIED};
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::reason::Reason;
use firewall_ebpf::abi::state::State;

use super::aggregate::{Packets, Skipped, Tuple};
use super::input::Found;
use super::record::{Action, Why};
use crate::control::Control;
use crate::dataplane::flows::list::FlowId;
use crate::dataplane::tables::clock;
use crate::model::Model;
use crate::observe::flows::{Change, Kind, Poller};

/// AWS's number of the TCP flag FIN.
pub const FIN: u8 = 1;
/// That of SYN.
pub const SYN: u8 = 2;
/// That of RST.
pub const RST: u8 = 4;
/// That of SYN and ACK in one segment.
pub const SYN_ACK: u8 = 18;

const TCP: u8 = 6;

/// Bytes of the headers of the links, by slot: what bytes of frames have more than those of IP packets.
pub type LinkHeaders = BTreeMap<u16, u64>;

/// Reads the flow tables again and again.
#[derive(Debug, Default)]
pub struct Flows {
    poller: Poller,
    /// What each TCP flow is known to have sent so far.
    sent: HashMap<FlowId, Sent>,
    /// By interface, how many flows the kernel has opened, and how many of them were seen here.
    opened: BTreeMap<Arc<str>, Opened>,
    /// When the last reading was, in milliseconds since 1970.
    last: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
struct Opened {
    by_kernel: u64,
    /// Of those, and of the ones that were opened while the tables were read.
    seen: u64,
}

/// What of a connection was reported.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    reply: bool,
    first_fin: bool,
    last_fin: bool,
    reset: bool,
}

impl Flows {
    /// What flows did since the last reading; nothing of the first one. `now`: milliseconds since 1970.
    ///
    /// # Errors
    /// Tables or store cannot be read; the next reading has what this one would have had.
    pub fn read(
        &mut self,
        control: &Control,
        model: &Model,
        headers: &LinkHeaders,
        now: i64,
    ) -> Result<Found> {
        let mut reading = Found::default();
        // Before the tables: a flow that is opened meanwhile is seen and not counted, and not the reverse.
        let mut events = opened(control, model)?;
        let poll = self.poller.poll(control, model)?;
        let is_first = self.last.is_none();
        if is_first {
            // Those that were opened meanwhile are not among the new ones of the next reading.
            events = opened(control, model)?;
        }
        let hz = i64::try_from(clock::hz()).unwrap_or(i64::MAX).max(1);
        let time = |jiffies: u64| {
            let ago = i64::try_from(poll.jiffies.saturating_sub(jiffies)).unwrap_or(i64::MAX);
            now.saturating_sub(ago.saturating_mul(1000) / hz)
        };
        let last = self.last.replace(now).unwrap_or(now);
        let gap = u64::try_from((now - last).max(0) / 1000 + 1).unwrap_or(u64::MAX);
        for change in &poll.changes {
            let flow = &change.flow;
            let interface: Arc<str> = flow.place.network_interface_id.as_str().into();
            if change.kind == Kind::Ended {
                self.sent.remove(&flow.entry.id());
                if is_cut(change, gap) {
                    reading.skipped.push((interface, PASSED));
                }
                continue;
            }
            if change.kind == Kind::New
                && !flow.entry.is_learned()
                && !is_first
                && let Some(opened) = self.opened.get_mut(&interface)
            {
                opened.seen += 1;
            }
            let flags = self.tcp_flags(change);
            let header = headers.get(&flow.entry.slot).copied().unwrap_or(0);
            let times = [last, time(flow.entry.flow.last_seen)];
            let of_directions = Direction::ALL.map(|to| packets(change, to, flags, header, times));
            let found = of_directions.into_iter().flatten();
            reading.packets.extend(found.map(|packets| (Arc::clone(&interface), packets)));
        }
        if poll.beyond_limit > 0 {
            reading.skipped.extend(events.keys().map(|interface| (Arc::clone(interface), PASSED)));
        }
        for (interface, by_kernel) in events {
            let known = self.opened.get(&interface).copied();
            let missed = known.is_some_and(|known| known.misses(by_kernel));
            let seen = match known {
                Some(known) if !missed && by_kernel >= known.by_kernel => known.seen,
                _ => by_kernel,
            };
            if missed {
                reading.skipped.push((Arc::clone(&interface), PASSED));
            }
            self.opened.insert(interface, Opened { by_kernel, seen });
        }
        Ok(reading)
    }

    /// AWS's TCP flags of the packets since the last reading, by direction.
    fn tcp_flags(&mut self, change: &Change) -> [u8; 2] {
        if change.flow.entry.protocol != TCP {
            return [0; 2];
        }
        let id = change.flow.entry.id();
        let sent = match change.kind {
            Kind::Existing => Some(Sent::of(&change.flow.entry.flow)),
            Kind::New => None,
            Kind::Continued | Kind::Ended => self.sent.get(&id).copied(),
        };
        let (flags, sent) = flags(change, sent);
        self.sent.insert(id, sent);
        flags
    }
}

/// Packets that passed are in no record.
const PASSED: Skipped = Skipped { accepted: true, rejected: false };

impl Opened {
    /// Whether flows were opened that were not seen. A count that fell is that of another attachment.
    const fn misses(&self, by_kernel: u64) -> bool {
        by_kernel >= self.by_kernel && by_kernel > self.seen
    }
}

fn opened(control: &Control, model: &Model) -> Result<BTreeMap<Arc<str>, u64>> {
    let Some(maps) = control.maps()? else { return Ok(BTreeMap::new()) };
    let each = model.interfaces.iter().map(|(slot, interface)| {
        let events = maps.events(*slot)?;
        let count = events.get(&Event::Opened).copied().unwrap_or(0);
        Ok((interface.id.to_string().into(), count))
    });
    each.collect()
}

/// Whether a flow that is gone may have had packets since the last reading: it did not end by its idle timeout, and
/// its connection was not closed. `gap`: seconds since that reading.
const fn is_cut(change: &Change, gap: u64) -> bool {
    let is_over = matches!(change.flow.state, State::TimeWait | State::Close);
    !is_over && change.flow.left > gap
}

/// The packets of a flow in a direction; `None` if there were none.
fn packets(
    change: &Change,
    direction: Direction,
    flags: [u8; 2],
    header: u64,
    [last_reading, last_seen]: [i64; 2],
) -> Option<Packets> {
    let entry = &change.flow.entry;
    let index = direction as usize;
    let (count, bytes) = (change.packets[index], change.bytes[index]);
    if count == 0 {
        return None;
    }
    let [inside, outside] = match entry.protocol {
        // Those of an ICMP query are no ports.
        TCP | 17 => [(entry.inside, entry.inside_port), (entry.outside, entry.outside_port)],
        _ => [(entry.inside, 0), (entry.outside, 0)],
    };
    let [source, destination]: [(IpAddr, u16); 2] = match direction {
        Direction::Ingress => [outside, inside],
        Direction::Egress => [inside, outside],
    };
    let has_first = change.kind == Kind::New && entry.initiator() == direction;
    Some(Packets {
        tuple: Tuple {
            direction,
            protocol: entry.protocol,
            source: source.0,
            destination: destination.0,
            source_port: source.1,
            destination_port: destination.1,
        },
        action: Action::Accept,
        why: Why::Reason(if has_first { Reason::NewFlow } else { Reason::Established }),
        rule: change.flow.rule().cloned().map(Arc::new),
        packets: count,
        bytes: bytes.saturating_sub(count.saturating_mul(header)),
        first: last_reading.min(last_seen),
        last: last_seen,
        tcp_flags: flags[index],
    })
}

impl Sent {
    /// What a connection has sent in its whole life, as far as its state tells.
    const fn of(flow: &Flow) -> Self {
        let state = flow.state();
        Self {
            reply: flow.flags & REPLIED != 0,
            first_fin: matches!(
                state,
                Some(State::FinWait | State::CloseWait | State::LastAck | State::TimeWait)
            ),
            last_fin: matches!(state, Some(State::LastAck | State::TimeWait)),
            reset: matches!(state, Some(State::Close)),
        }
    }
}

/// The flags of a TCP flow's packets by direction, from what its state tells and what was reported before. `before`:
/// `None` of a flow that began since the last reading.
fn flags(change: &Change, before: Option<Sent>) -> ([u8; 2], Sent) {
    let flow = &change.flow.entry.flow;
    let after = Sent::of(flow);
    let other = |direction: Direction| match direction {
        Direction::Ingress => Direction::Egress,
        Direction::Egress => Direction::Ingress,
    };
    let initiator = change.flow.entry.initiator();
    let first_fin =
        if flow.flags & FIN_EGRESS != 0 { Direction::Egress } else { Direction::Ingress };
    let mut flags = [0; 2];
    // A connection that was open before its interface was attached, or that is older than the first reading, had its
    // SYN then.
    let has_begun = before.is_none() && !change.flow.entry.is_learned();
    if has_begun {
        flags[initiator as usize] |= SYN;
    }
    let before = before.unwrap_or_default();
    let began = |before: bool, after: bool| after && !before;
    let handshake = has_begun || !change.flow.entry.is_learned();
    if began(before.reply, after.reply) && handshake {
        flags[other(initiator) as usize] |= SYN_ACK;
    }
    if began(before.first_fin, after.first_fin) {
        flags[first_fin as usize] |= FIN;
    }
    if began(before.last_fin, after.last_fin) {
        flags[other(first_fin) as usize] |= FIN;
    }
    if began(before.reset, after.reset) {
        // The table does not have which end sent it.
        for direction in Direction::ALL {
            if change.packets[direction as usize] > 0 {
                flags[direction as usize] |= RST;
            }
        }
    }
    let sent = Sent {
        reply: before.reply || after.reply,
        first_fin: before.first_fin || after.first_fin,
        last_fin: before.last_fin || after.last_fin,
        reset: before.reset || after.reset,
    };
    (flags, sent)
}

#[cfg(test)]
mod tests;
