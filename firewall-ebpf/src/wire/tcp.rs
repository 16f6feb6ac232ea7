//! TCP flags and sequence numbers (RFC 9293).

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
/// The acknowledgement number is valid. A segment with this flag alone changes nothing about an
/// established connection.
pub const ACK: u8 = 0x10;
pub(crate) const URG: u8 = 0x20;

/// The flags that the decision uses. PSH does not affect the connection, and ECE and CWR belong to
/// RFC 3168: a SYN with them is a SYN.
pub const JUDGED_FLAGS: u8 = FIN | SYN | RST | ACK | URG;

/// The kind of a segment in the state table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentType {
    /// Opens a connection.
    Syn,
    /// Answers a SYN.
    SynAck,
    /// Ends one direction.
    Fin,
    /// Ends the connection.
    Rst,
    /// Every other segment that acknowledges.
    Ack,
}

/// The type of a segment with these [`JUDGED_FLAGS`]; `None` for combinations that no TCP
/// implementation sends.
#[must_use]
#[inline(always)]
pub const fn segment_type(flags: u8) -> Option<SegmentType> {
    const SYN_URG: u8 = SYN | URG;
    const SYN_ACK: u8 = SYN | ACK;
    const RST_ACK: u8 = RST | ACK;
    const FIN_ACK: u8 = FIN | ACK;
    const FIN_ACK_URG: u8 = FIN | ACK | URG;
    const ACK_URG: u8 = ACK | URG;
    match flags {
        SYN | SYN_URG => Some(SegmentType::Syn),
        SYN_ACK => Some(SegmentType::SynAck),
        RST | RST_ACK => Some(SegmentType::Rst),
        FIN_ACK | FIN_ACK_URG => Some(SegmentType::Fin),
        ACK | ACK_URG => Some(SegmentType::Ack),
        _ => None,
    }
}

/// Whether `number` is in `low..=high` of the sequence space (RFC 9293, section 3.4).
#[inline(always)]
pub(crate) const fn seq_between(number: u32, low: u32, high: u32) -> bool {
    number.wrapping_sub(low) <= high.wrapping_sub(low)
}

/// Whether `a` is after `b` in the sequence space (RFC 9293, section 3.4).
#[inline(always)]
pub(crate) const fn seq_after(a: u32, b: u32) -> bool {
    b.wrapping_sub(a) > 1 << 31
}

#[cfg(test)]
mod tests {
    use super::seq_after;

    #[test]
    fn order_holds_across_the_wrap() {
        assert!(seq_after(1, 0) && seq_after(0, u32::MAX) && seq_after(5, u32::MAX - 5));
        assert!(!seq_after(0, 0) && !seq_after(0, 1) && !seq_after(u32::MAX, 0));
    }
}
