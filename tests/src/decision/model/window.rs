//! The windows of a connection whose handshake was seen (strict).

use firewall_ebpf::abi::interface::Direction;

use super::numbers::Numbers;
use super::packet::ModelPacket;

/// The smallest acknowledgement window.
const MIN_ACK_WINDOW: u32 = 66_000;

/// Where a segment is.
pub(super) enum Position {
    Inside,
    Before,
    Beyond,
}

/// Arrays are indexed by direction.
#[derive(Clone, Debug)]
pub(super) struct Windows {
    /// The largest window that an end announced.
    largest: [u32; 2],
    scale: [Option<u8>; 2],
    /// The first number beyond what an end may send.
    limit: [u32; 2],
    /// The window and scale of the latest SYN, if it is not the first.
    other: (u32, Option<u8>),
}

/// Whether `a` is after `b`, modulo 2^32.
fn is_after(a: u32, b: u32) -> bool {
    b.wrapping_sub(a) > 0x8000_0000
}

fn of_syn(packet: &ModelPacket) -> (u32, Option<u8>) {
    (u32::from(packet.window).max(1), packet.window_scale())
}

impl Windows {
    pub(super) fn of_first(packet: &ModelPacket) -> Self {
        let mut windows =
            Self { largest: [0; 2], scale: [None; 2], limit: [0; 2], other: (0, None) };
        let at = packet.direction as usize;
        (windows.largest[at], windows.scale[at]) = of_syn(packet);
        windows
    }

    /// The window of an ignored SYN is remembered in units of eight bytes.
    pub(super) fn of_ignored(packet: &ModelPacket) -> Self {
        let mut windows = Self::of_first(packet);
        let window = &mut windows.largest[packet.direction as usize];
        *window = window.next_multiple_of(8);
        windows
    }

    pub(super) fn store_other(&mut self, packet: &ModelPacket) {
        self.other = of_syn(packet);
    }

    pub(super) fn take_other(&mut self, initiator: Direction) {
        (self.largest[initiator as usize], self.scale[initiator as usize]) = self.other;
    }

    /// The second SYN.
    pub(super) fn open(&mut self, packet: &ModelPacket, numbers: &Numbers) {
        let (from, to) = (packet.direction as usize, packet.direction.opposite() as usize);
        (self.largest[from], self.scale[from]) = of_syn(packet);
        self.limit[from] = numbers.next_seq[from].wrapping_add(self.largest[to]);
        self.limit[to] = numbers.next_seq[to].wrapping_add(self.largest[from]);
    }

    pub(super) fn position(&self, packet: &ModelPacket, numbers: &Numbers) -> Position {
        let (from, to) = (packet.direction as usize, packet.direction.opposite() as usize);
        let sent = numbers.next_seq[to];
        if is_after(packet.seq, self.limit[from]) || is_after(packet.ack, sent) {
            return Position::Beyond;
        }
        let oldest_seq = numbers.next_seq[from].wrapping_sub(self.largest[to]);
        let oldest_ack = sent.wrapping_sub(self.largest[from].max(MIN_ACK_WINDOW));
        if is_after(oldest_seq, packet.next_seq()) || is_after(oldest_ack, packet.ack) {
            Position::Before
        } else {
            Position::Inside
        }
    }

    pub(super) fn update(&mut self, packet: &ModelPacket) {
        let (from, to) = (packet.direction as usize, packet.direction.opposite() as usize);
        let shift = match (self.scale[from], self.scale[to]) {
            (Some(own), Some(_)) => own,
            _ => 0,
        };
        let window = u32::from(packet.window) << shift;
        self.largest[from] = self.largest[from].max(window);
        let edge = packet.ack.wrapping_add(window);
        if is_after(edge, self.limit[to]) {
            self.limit[to] = edge;
        }
    }
}
