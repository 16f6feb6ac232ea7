//! Records as a capture file that Wireshark and tcpdump read: pcapng (draft-ietf-opsawg-pcapng), with the verdict and
//! its reason as the comment of each packet.

use std::io::{self, Write};
use std::net::IpAddr;

use super::record::PacketRecord;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;

const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const LENGTH_UNKNOWN: u64 = u64::MAX;

const OPT_END: u16 = 0;
const OPT_COMMENT: u16 = 1;
const SHB_USERAPPL: u16 = 4;
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
/// Times are in 10^-3 s.
const MILLISECONDS: u8 = 3;

/// The link types of pcap that interfaces here have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LinkType {
    Ethernet = 1,
    /// A frame is an IP packet.
    Raw = 101,
}

/// Writes a capture file.
#[derive(Debug)]
pub struct Pcapng<W> {
    out: W,
    /// The interfaces that were described, in the order of their numbers.
    interfaces: Vec<(String, LinkType)>,
}

impl<W: Write> Pcapng<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn new(mut out: W) -> io::Result<Self> {
        let mut body = Vec::new();
        body.extend(BYTE_ORDER_MAGIC.to_le_bytes());
        body.extend(1_u16.to_le_bytes());
        body.extend(0_u16.to_le_bytes());
        body.extend(LENGTH_UNKNOWN.to_le_bytes());
        option(&mut body, SHB_USERAPPL, concat!("secgroup ", env!("CARGO_PKG_VERSION")).as_bytes());
        option(&mut body, OPT_END, &[]);
        block(&mut out, SECTION_HEADER, &body)?;
        Ok(Self { out, interfaces: Vec::new() })
    }

    /// Writes the first packet of a record, as much of it as the record has.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&mut self, record: &PacketRecord) -> io::Result<()> {
        let frame = bytes(&record.frame);
        let interface = self.interface(record.interface_label(), link_type(record, &frame))?;
        let time = u64::try_from(record.first).unwrap_or_default().to_be_bytes();
        let [high, low] = [&time[..4], &time[4..]]
            .map(|half| half.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte)));
        let captured = u32::try_from(frame.len()).unwrap_or_default();
        let mut body = Vec::new();
        for word in [interface, high, low, captured, record.frame_length.max(captured)] {
            body.extend(word.to_le_bytes());
        }
        padded(&mut body, &frame);
        option(&mut body, OPT_COMMENT, comment(record).as_bytes());
        option(&mut body, OPT_END, &[]);
        block(&mut self.out, ENHANCED_PACKET, &body)
    }

    /// Writes what is buffered.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn interface(&mut self, name: String, link: LinkType) -> io::Result<u32> {
        let known = self.interfaces.iter().position(|(known, of)| *known == name && *of == link);
        let number = known.unwrap_or(self.interfaces.len());
        if known.is_none() {
            let mut body = Vec::new();
            body.extend((link as u16).to_le_bytes());
            body.extend(0_u16.to_le_bytes());
            // No limit: a record has the beginning of a frame, of any length.
            body.extend(0_u32.to_le_bytes());
            option(&mut body, IF_NAME, name.as_bytes());
            option(&mut body, IF_TSRESOL, &[MILLISECONDS]);
            option(&mut body, OPT_END, &[]);
            block(&mut self.out, INTERFACE_DESCRIPTION, &body)?;
            self.interfaces.push((name, link));
        }
        Ok(u32::try_from(number).unwrap_or_default())
    }
}

impl Pcapng<Vec<u8>> {
    /// What was written since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }
}

/// What happened, why, how often, and which rule came closest.
fn comment(record: &PacketRecord) -> String {
    let PacketRecord { id, verdict, reason, direction, packets, first, last, .. } = record;
    let mut parts = vec![
        format!("{} {}", verdict.name(), reason.name()),
        direction.name().to_owned(),
        format!("policy {:08x}", record.generation),
        match packets {
            1 => "1 packet".to_owned(),
            _ => format!("{packets} packets in {} ms", last.saturating_sub(*first)),
        },
    ];
    parts.extend(record.decided_by());
    parts.push(format!("record {id}"));
    parts.join("; ")
}

fn block(out: &mut impl Write, kind: u32, body: &[u8]) -> io::Result<()> {
    // Type, length, body, length again; the body is a whole number of words.
    let length = u32::try_from(body.len() + 12).map_err(io::Error::other)?.to_le_bytes();
    out.write_all(&kind.to_le_bytes())?;
    out.write_all(&length)?;
    out.write_all(body)?;
    out.write_all(&length)
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    body.extend(code.to_le_bytes());
    body.extend(u16::try_from(value.len()).unwrap_or_default().to_le_bytes());
    padded(body, value);
}

fn padded(body: &mut Vec<u8>, value: &[u8]) {
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// The bytes of hexadecimal digits, up to the first pair that is none.
fn bytes(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks_exact(2);
    let byte = |pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    pairs.map_while(byte).collect()
}

/// Ethernet, unless the frame is an IP packet with the record's addresses where a packet without a link header has
/// them.
fn link_type(record: &PacketRecord, frame: &[u8]) -> LinkType {
    let is_raw = match (record.source, record.destination) {
        (Some(IpAddr::V4(source)), Some(IpAddr::V4(destination))) => {
            frame.first().is_some_and(|first| first >> 4 == 4)
                && frame.get(12..16) == Some(&source.octets()[..])
                && frame.get(16..20) == Some(&destination.octets()[..])
        }
        (Some(IpAddr::V6(source)), Some(IpAddr::V6(destination))) => {
            frame.first().is_some_and(|first| first >> 4 == 6)
                && frame.get(8..24) == Some(&source.octets()[..])
                && frame.get(24..40) == Some(&destination.octets()[..])
        }
        _ => false,
    };
    if is_raw { LinkType::Raw } else { LinkType::Ethernet }
}

#[cfg(test)]
mod tests;
