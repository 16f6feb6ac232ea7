//! Packets of pcap and pcapng files, as frames.

use std::fs::File;
use std::io;
use std::path::Path;

use super::record::PacketRecord;
use firewall_ebpf::wire::slice::HostPacket;
use firewall_ebpf::wire::{Frame, HeadersByFamily, parse};
use pcap_parser::traits::PcapNGPacketBlock as _;
use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader};

/// Bytes that the reader of a file keeps: more than the largest packet that tcpdump writes.
const BUFFER: usize = 1 << 20;

/// The longest frame, in bytes.
const MAX_FRAME: usize = 1 << 20;

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Bytes of the headers of Linux's "cooked" captures, and where in them the EtherType is.
const SLL: (usize, usize) = (16, 14);
const SLL2: (usize, usize) = (20, 0);

/// A packet of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Its number in the file, from 1 on.
    pub number: u64,
    /// When it was captured: milliseconds since 1970, UTC; `None` where the file does not tell.
    pub time: Option<i64>,
    /// Whether [`Self::bytes`] begin with an Ethernet header, else with the IP header.
    pub has_ethernet: bool,
    /// The frame. What was not captured of it is zeros.
    pub bytes: Vec<u8>,
}

/// A file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// It cannot be opened or read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is neither pcap nor pcapng, or is damaged.
    #[error("{0}")]
    Format(&'static str),
    /// Its packets are not frames of Ethernet or IP.
    #[error(
        "packet {number} has the link type {link}; known are Ethernet (1), IP (101, 228, 229) and Linux's cooked captures (113, 276)"
    )]
    Link {
        /// The packet's number in the file.
        number: u64,
        /// The link type (tcpdump.org/linktypes.html).
        link: i32,
    },
}

/// An interface of a pcapng file.
struct Interface {
    link: Linktype,
    /// Time stamps in a second.
    resolution: u64,
    /// Seconds to add to a time stamp.
    offset: i64,
}

/// Calls `take` for each packet of a file, until it fails.
///
/// # Errors
/// The file cannot be read, or `take` fails.
pub fn read<E: From<CaptureError>>(
    path: &Path,
    mut take: impl FnMut(Captured) -> Result<(), E>,
) -> Result<(), E> {
    let file = File::open(path).map_err(CaptureError::Io)?;
    let mut reader = match create_reader(BUFFER, file) {
        Ok(reader) => reader,
        Err(PcapError::Eof) => return Err(CaptureError::Format("the file is empty").into()),
        Err(_) => return Err(CaptureError::Format("the file is neither pcap nor pcapng").into()),
    };
    let mut interfaces: Vec<Interface> = Vec::new();
    let mut is_nano = false;
    let mut number = 0;
    loop {
        let (length, packet) = match reader.next() {
            Ok((length, block)) => {
                (length, packet_of(&block, &mut interfaces, &mut is_nano, &mut number)?)
            }
            Err(PcapError::Eof) => return Ok(()),
            Err(PcapError::Incomplete(_)) => {
                let read = reader.refill();
                read.map_err(|_| CaptureError::Format("the file ends within a packet"))?;
                continue;
            }
            Err(PcapError::UnexpectedEof) => {
                return Err(CaptureError::Format("the file ends within a packet").into());
            }
            Err(PcapError::BufferTooSmall) => {
                return Err(CaptureError::Format("a packet of more than 1 MiB").into());
            }
            Err(_) => return Err(CaptureError::Format("the file is damaged").into()),
        };
        reader.consume(length);
        if let Some(packet) = packet {
            take(packet)?;
        }
    }
}

fn packet_of(
    block: &PcapBlockOwned<'_>,
    interfaces: &mut Vec<Interface>,
    is_nano: &mut bool,
    number: &mut u64,
) -> Result<Option<Captured>, CaptureError> {
    let (link, time, data, length) = match block {
        PcapBlockOwned::LegacyHeader(header) => {
            *is_nano = header.is_nanosecond_precision();
            let resolution = if *is_nano { 1_000_000_000 } else { 1_000_000 };
            interfaces.push(Interface { link: header.network, resolution, offset: 0 });
            return Ok(None);
        }
        PcapBlockOwned::Legacy(packet) => {
            let Some(interface) = interfaces.first() else { return Ok(None) };
            let part = u64::from(packet.ts_usec) * 1000 / interface.resolution.max(1);
            let time = i64::from(packet.ts_sec) * 1000 + i64::try_from(part).unwrap_or(0);
            (interface.link, Some(time), packet.data, packet.origlen)
        }
        PcapBlockOwned::NG(Block::SectionHeader(_)) => {
            interfaces.clear();
            return Ok(None);
        }
        PcapBlockOwned::NG(Block::InterfaceDescription(described)) => {
            interfaces.push(Interface {
                link: described.linktype,
                resolution: described.ts_resolution().unwrap_or(1_000_000).max(1),
                offset: described.ts_offset(),
            });
            return Ok(None);
        }
        PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
            let of = usize::try_from(packet.if_id).ok().and_then(|at| interfaces.get(at));
            let Some(interface) = of else {
                return Err(CaptureError::Format(
                    "a packet of an interface that the file does not describe",
                ));
            };
            let stamp = u128::from(packet.ts_high) << 32 | u128::from(packet.ts_low);
            let milliseconds = stamp * 1000 / u128::from(interface.resolution);
            let time = i64::try_from(milliseconds).unwrap_or(i64::MAX);
            let time = time.saturating_add(interface.offset.saturating_mul(1000));
            (interface.link, Some(time), packet.packet_data(), packet.origlen)
        }
        PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
            let Some(interface) = interfaces.first() else {
                return Err(CaptureError::Format(
                    "a packet of an interface that the file does not describe",
                ));
            };
            (interface.link, None, packet.packet_data(), packet.origlen)
        }
        PcapBlockOwned::NG(_) => return Ok(None),
    };
    *number += 1;
    let mut bytes = data.to_vec();
    // What was not captured is zeros; the file can claim any length.
    let length = usize::try_from(length).unwrap_or(0).min(MAX_FRAME);
    bytes.resize(bytes.len().max(length), 0);
    let has_ethernet = match link {
        Linktype(1) => true,
        Linktype(101 | 228 | 229) => false,
        Linktype(113) => return Ok(Some(cooked(*number, time, bytes, SLL))),
        Linktype(276) => return Ok(Some(cooked(*number, time, bytes, SLL2))),
        Linktype(link) => return Err(CaptureError::Link { number: *number, link }),
    };
    Ok(Some(Captured { number: *number, time, has_ethernet, bytes }))
}

/// A packet of a capture on all interfaces, whose link header is not in the file: one with an Ethernet header of
/// unknown addresses.
fn cooked(
    number: u64,
    time: Option<i64>,
    bytes: Vec<u8>,
    (header, ether_type): (usize, usize),
) -> Captured {
    let kind = bytes.get(ether_type..ether_type + 2).map_or([0; 2], |kind| [kind[0], kind[1]]);
    let mut frame = vec![0; ETHERNET - 2];
    frame.extend(kind);
    frame.extend(bytes.get(header..).unwrap_or_default());
    Captured { number, time, has_ethernet: true, bytes: frame }
}

/// A frame as an interface would see it, whose frames start with an Ethernet header or not; `None` for a frame that
/// is not IP on an interface without.
#[must_use]
pub fn as_seen(captured: &Captured, has_ethernet: bool) -> Option<Vec<u8>> {
    let bytes = &captured.bytes;
    match (captured.has_ethernet, has_ethernet) {
        (true, true) | (false, false) => Some(bytes.clone()),
        (false, true) => {
            let kind: [u8; 2] = if bytes.first()? >> 4 == 6 { [0x86, 0xdd] } else { [0x08, 0x00] };
            let mut frame = vec![0; ETHERNET - 2];
            frame.extend(kind);
            frame.extend(bytes);
            Some(frame)
        }
        (true, false) => {
            let is_ip = matches!(bytes.get(12..ETHERNET)?, [0x08, 0x00] | [0x86, 0xdd]);
            is_ip.then(|| bytes[ETHERNET..].to_vec())
        }
    }
}

/// The frame of a record's first packet, as its interface saw it. What the record does not have of it is zeros.
///
/// # Errors
/// The record has no frame.
pub fn of_record(record: &PacketRecord) -> Result<Vec<u8>, CaptureError> {
    const DAMAGED: CaptureError = CaptureError::Format("the record has no frame");
    let digits = record.frame.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |pair: &[u8; 2]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
    let (pairs, rest) = digits.as_chunks::<2>();
    let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
    let mut bytes = bytes.filter(|bytes| rest.is_empty() && !bytes.is_empty()).ok_or(DAMAGED)?;
    // A record of more would be damaged: no frame is longer.
    let length = usize::try_from(record.frame_length).unwrap_or(0).min(MAX_FRAME);
    bytes.resize(bytes.len().max(length), 0);
    Ok(bytes)
}

/// A frame cut to `length` bytes, as if its packet had ended there.
#[must_use]
pub fn shortened(frame: &[u8], length: usize, has_ethernet: bool) -> Vec<u8> {
    let packet = HostPacket { has_ethernet, ..HostPacket::ethernet(frame) };
    let mut headers = HeadersByFamily::new();
    // Where the length field is, and what it does not count.
    let (at, uncounted) = match parse(&packet, &mut headers) {
        Ok(Frame::V4) => (headers.v4.ip + 2, headers.v4.ip),
        Ok(Frame::V6) => (headers.v6.ip + 4, headers.v6.ip + 40),
        _ => return frame[..length.min(frame.len())].to_vec(),
    };
    let mut cut = frame[..length.min(frame.len())].to_vec();
    let [at, uncounted] = [at, uncounted].map(|one| usize::try_from(one).unwrap_or(usize::MAX));
    let counted = u16::try_from(cut.len().saturating_sub(uncounted)).unwrap_or(u16::MAX);
    if let Some(field) = cut.get_mut(at..at.saturating_add(2)) {
        field.copy_from_slice(&counted.to_be_bytes());
    }
    cut
}
