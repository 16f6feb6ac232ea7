//! The numbers of both ends of a connection, as far as they are believed.

use firewall_ebpf::abi::interface::Direction;

use super::packet::ModelPacket;
use crate::decision::packet::flags::{FIN, SYN};

/// How far a number may be from what is known.
const REACH: u32 = 131_072;

/// How much of the responder's the initiator of an unknown connection may acknowledge.
const MAX_UNACKNOWLEDGED: u32 = 1_048_576;

/// How far a FIN may be ahead of repeated data.
const MAX_FIN_AHEAD: u32 = 16_777_216;

/// Numbers from one to another, modulo 2^32 (RFC 9293, section 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) low: u32,
    pub(super) high: u32,
}

impl Range {
    pub(super) const fn contains(self, number: u32) -> bool {
        number.wrapping_sub(self.low) <= self.high.wrapping_sub(self.low)
    }

    /// The same with [`REACH`] at both ends.
    const fn is_near(self, number: u32) -> bool {
        let low = self.low.wrapping_sub(REACH);
        let high = self.high.wrapping_add(REACH);
        Self { low, high }.contains(number)
    }

    /// Raises the end to a later number.
    pub(super) const fn extend(&mut self, to: u32) {
        raise(&mut self.high, to);
    }
}

/// Sets a number to a later one.
const fn raise(number: &mut u32, to: u32) {
    if to.wrapping_sub(*number).cast_signed() > 0 {
        *number = to;
    }
}

/// A segment that did not fit: the number after it, and whether it was a FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unconfirmed {
    end: u32,
    is_fin: bool,
}

/// What is known; arrays are indexed by direction.
#[derive(Clone, Debug)]
pub(super) struct Numbers {
    pub(super) are_known: bool,
    pub(super) next_seq: [u32; 2],
    pub(super) last_ack: [u32; 2],
    unconfirmed: [Option<Unconfirmed>; 2],
    /// Until they are known: what the responder has sent.
    replies: Range,
    /// Until they are known: the ends that have sent.
    heard: [bool; 2],
}

impl Numbers {
    /// Of a connection with this first packet.
    pub(super) fn of_first(packet: &ModelPacket) -> Self {
        let at = packet.direction as usize;
        let mut numbers = Self {
            are_known: false,
            next_seq: [0; 2],
            last_ack: [0; 2],
            unconfirmed: [None; 2],
            replies: Range { low: 0, high: 0 },
            heard: [false; 2],
        };
        let end = packet.next_seq();
        (numbers.next_seq[at], numbers.last_ack[at]) = (end, packet.ack);
        numbers.heard[at] = !packet.is_tcp(SYN);
        if packet.flags & FIN != 0 {
            numbers.unconfirmed[at] = Some(Unconfirmed { end, is_fin: true });
        }
        numbers
    }

    /// The second SYN of a handshake; `first` and `next` are the numbers after the first SYN without
    /// and with its data.
    pub(super) fn open(&mut self, packet: &ModelPacket, first: u32, next: u32) {
        let (from, to) = (packet.direction as usize, packet.direction.opposite() as usize);
        let Range { low, high } = packet.acknowledgements();
        (self.next_seq[from], self.next_seq[to]) = (high, next);
        (self.last_ack[from], self.last_ack[to]) = (first, low);
    }

    /// Whether a segment can belong to the connection.
    pub(super) fn fit(&self, packet: &ModelPacket) -> bool {
        let (from, to) = (packet.direction as usize, packet.direction.opposite() as usize);
        let seqs = Range { low: self.last_ack[to], high: self.next_seq[from] };
        let acks = Range { low: self.last_ack[from], high: self.next_seq[to] };
        seqs.is_near(packet.seq) && acks.is_near(packet.ack)
    }

    /// The same; a segment that cannot is remembered.
    pub(super) fn fit_or_doubt(&mut self, packet: &ModelPacket) -> bool {
        let fits = self.fit(packet);
        let end = packet.next_seq();
        let last = &mut self.unconfirmed[packet.direction as usize];
        if fits {
            // A FIN is the last that its sender sends.
            let goes_on =
                last.is_some_and(|last| last.is_fin && last.end.wrapping_sub(end) > MAX_FIN_AHEAD);
            if goes_on {
                *last = None;
            }
        } else {
            let follows_fin = last.is_some_and(|last| last.is_fin && last.end == end);
            let is_fin = packet.flags & FIN != 0 || follows_fin;
            *last = Some(Unconfirmed { end, is_fin });
        }
        fits
    }

    /// Whether a segment acknowledges a FIN that was not believed. Other numbers are believed from now
    /// on, if it acknowledges them.
    pub(super) fn confirm(&mut self, packet: &ModelPacket) -> bool {
        let fits = self.are_known && self.fit(packet);
        let (from, to) = (packet.direction as usize, packet.direction.opposite() as usize);
        let Some(Unconfirmed { end, is_fin }) = self.unconfirmed[to] else { return false };
        let behind = end.wrapping_sub(packet.ack);
        if behind > if self.are_known { REACH } else { 0 } {
            return false;
        }
        // What was known already confirms no other numbers.
        if fits && (behind > 0 || !is_fin) {
            return false;
        }
        (self.next_seq[to], self.last_ack[from]) = (end, packet.ack);
        if behind == 0 || !is_fin {
            self.unconfirmed[to] = None;
        }
        is_fin && behind == 0
    }

    pub(super) const fn forget_unconfirmed(&mut self) {
        self.unconfirmed = [None; 2];
    }

    /// Takes a segment of a connection whose numbers are not known, unless it contradicts what was
    /// heard of its sender.
    pub(super) fn learn(&mut self, packet: &ModelPacket, initiator: Direction) {
        let (from, to) = (packet.direction as usize, packet.direction.opposite() as usize);
        let end = packet.next_seq();
        if packet.direction == initiator {
            self.are_known = self.heard[to] && self.replies.contains(packet.ack);
        } else {
            let Range { low, high } = self.replies;
            let room = Range { low, high: high.wrapping_add(REACH) };
            let sent = self.next_seq[to];
            let acknowledges = Range { low: sent, high: sent }.is_near(packet.ack);
            if self.heard[from] && room.contains(packet.seq) {
                self.replies.extend(end);
            } else if self.heard[from] && !acknowledges {
                return;
            } else {
                self.replies = Range { low: packet.seq, high: end };
            }
            let Range { low, high } = self.replies;
            if high.wrapping_sub(low) > MAX_UNACKNOWLEDGED {
                self.replies.low = high.wrapping_sub(MAX_UNACKNOWLEDGED);
            }
        }
        self.heard[from] = true;
        if packet.flags & FIN != 0 {
            self.unconfirmed[from] = Some(Unconfirmed { end, is_fin: true });
        } else if self.next_seq[from] != end {
            self.unconfirmed[from] = None;
        }
        (self.next_seq[from], self.last_ack[from]) = (end, packet.ack);
    }

    /// After a RST neither end has been heard.
    pub(super) const fn forget_heard(&mut self) {
        self.heard = [false; 2];
    }

    /// Whether a RST has the number that its receiver expects.
    pub(super) fn is_expected(&self, packet: &ModelPacket) -> bool {
        let (from, to) = (packet.direction as usize, packet.direction.opposite() as usize);
        ((self.are_known || self.heard[to]) && packet.seq == self.last_ack[to])
            || (self.are_known && packet.seq == self.next_seq[from])
    }

    /// Notes that an end has sent after a RST; returns whether both have.
    pub(super) fn both_heard(&mut self, from: Direction) -> bool {
        self.heard[from as usize] = true;
        self.heard == [true; 2]
    }

    pub(super) fn store(&mut self, packet: &ModelPacket) {
        let at = packet.direction as usize;
        raise(&mut self.next_seq[at], packet.next_seq());
        raise(&mut self.last_ack[at], packet.ack);
    }
}
