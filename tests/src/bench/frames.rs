//! The measured packets.

use etherparse::PacketBuilder;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The protected host.
pub const INSIDE_V4: [u8; 4] = [10, 0, 0, 1];
/// The protected host.
pub const INSIDE_V6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/// The service that rules allow.
pub const PORT: u16 = 443;

/// The kind of a TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpKind {
    /// A SYN, which opens a connection.
    Syn,
    /// A segment of an established connection.
    Ack,
}

fn finish(builder: etherparse::PacketBuilderStep<etherparse::TcpHeader>, kind: TcpKind) -> Vec<u8> {
    let builder = match kind {
        TcpKind::Syn => builder.syn(),
        TcpKind::Ack => builder.ack(1),
    };
    let mut frame = Vec::new();
    // Cannot fail: the sizes are small constants.
    let _ = builder.write(&mut frame, &[0; 6]);
    frame
}

/// A TCP segment from an outside IPv4 host.
#[must_use]
pub fn tcp_v4(outside: [u8; 4], port: u16, kind: TcpKind) -> Vec<u8> {
    let builder =
        PacketBuilder::ethernet2(MAC, MAC).ipv4(outside, INSIDE_V4, 64).tcp(port, PORT, 7, 1024);
    finish(builder, kind)
}

/// A TCP segment from an outside IPv6 host.
#[must_use]
pub fn tcp_v6(outside: [u8; 16], port: u16, kind: TcpKind) -> Vec<u8> {
    let builder =
        PacketBuilder::ethernet2(MAC, MAC).ipv6(outside, INSIDE_V6, 64).tcp(port, PORT, 7, 1024);
    finish(builder, kind)
}

/// An ARP request, padded to the minimal size of Ethernet.
#[must_use]
pub fn arp() -> Vec<u8> {
    let mut frame = vec![0; 60];
    frame[12..14].copy_from_slice(&[0x08, 0x06]);
    frame
}
