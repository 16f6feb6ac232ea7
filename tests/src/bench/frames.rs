//! The packets that are measured.

use etherparse::PacketBuilder;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The protected end.
pub const INSIDE_V4: [u8; 4] = [10, 0, 0, 1];
/// The protected end.
pub const INSIDE_V6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/// The service that rules allow.
pub const PORT: u16 = 443;

/// What kind of TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Opens a connection.
    Syn,
    /// In the middle of one.
    Ack,
}

fn finish(builder: etherparse::PacketBuilderStep<etherparse::TcpHeader>, what: Segment) -> Vec<u8> {
    let builder = match what {
        Segment::Syn => builder.syn(),
        Segment::Ack => builder.ack(1),
    };
    let mut frame = Vec::new();
    // Writing into a vector cannot fail, and the sizes are constants that fit.
    let _ = builder.write(&mut frame, &[0; 6]);
    frame
}

/// A TCP segment from an outside IPv4 host.
#[must_use]
pub fn tcp_v4(outside: [u8; 4], port: u16, what: Segment) -> Vec<u8> {
    let builder =
        PacketBuilder::ethernet2(MAC, MAC).ipv4(outside, INSIDE_V4, 64).tcp(port, PORT, 7, 1024);
    finish(builder, what)
}

/// A TCP segment from an outside IPv6 host.
#[must_use]
pub fn tcp_v6(outside: [u8; 16], port: u16, what: Segment) -> Vec<u8> {
    let builder =
        PacketBuilder::ethernet2(MAC, MAC).ipv6(outside, INSIDE_V6, 64).tcp(port, PORT, 7, 1024);
    finish(builder, what)
}

/// An ARP request, padded to the least that Ethernet carries.
#[must_use]
pub fn arp() -> Vec<u8> {
    let mut frame = vec![0; 60];
    frame[12..14].copy_from_slice(&[0x08, 0x06]);
    frame
}
