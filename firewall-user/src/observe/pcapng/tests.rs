use std::time::Duration;

use pcap_file::DataLink;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::{Block, PcapNgReader};

use super::*;
use crate::observe::record::Verdict;

/// Ethernet and IPv4 headers with the addresses of the record, then the link header left out.
fn frames(record: &PacketRecord) -> [String; 2] {
    let (Some(IpAddr::V4(source)), Some(IpAddr::V4(destination))) =
        (record.source, record.destination)
    else {
        panic!("{record:?}")
    };
    let mut packet = vec![0x45; 12];
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend([0; 20]);
    let hexadecimal =
        |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    [format!("{}0800{}", "02".repeat(12), hexadecimal(&packet)), hexadecimal(&packet)]
}

#[test]
fn another_reader_finds_frames_interfaces_times_and_reasons() {
    let mut ethernet = PacketRecord::sample(1_796_030_000_123, 12);
    ethernet.id = 5;
    let [frame, packet] = frames(&ethernet);
    ethernet.frame = frame;
    ethernet.frame_length = 1514;
    let mut raw = PacketRecord { frame: packet, device: "tun0".to_owned(), ..ethernet.clone() };
    raw.verdict = Verdict::WouldDrop;
    raw.packets = 1;
    let again = PacketRecord { frame: "0102zz".to_owned(), frame_length: 0, ..ethernet.clone() };
    let mut capture = Pcapng::new(Vec::new()).unwrap();
    for record in [&ethernet, &raw, &again] {
        capture.write(record).unwrap();
    }
    let bytes = capture.take();
    assert_eq!(capture.take(), [0; 0]);

    let mut reader = PcapNgReader::new(&bytes[..]).unwrap();
    let mut interfaces = Vec::new();
    let mut packets = Vec::new();
    while let Some(block) = reader.next_block() {
        match block.unwrap().into_owned() {
            Block::InterfaceDescription(interface) => {
                let name = interface.options.iter().find_map(|option| match option {
                    InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
                    _ => None,
                });
                let resolution = interface.options.iter().find_map(|option| match option {
                    InterfaceDescriptionOption::IfTsResol(value) => Some(*value),
                    _ => None,
                });
                assert_eq!(resolution, Some(3));
                interfaces.push((name.unwrap(), interface.linktype));
            }
            Block::EnhancedPacket(packet) => {
                let comment = packet.options.iter().find_map(|option| match option {
                    EnhancedPacketOption::Comment(comment) => Some(comment.to_string()),
                    _ => None,
                });
                // The reader takes the time for nanoseconds.
                let time = Duration::from_millis(packet.timestamp.as_nanos() as u64);
                packets.push((
                    packet.interface_id,
                    time.as_millis(),
                    packet.data.len(),
                    packet.original_len,
                    comment.unwrap(),
                ));
            }
            other => panic!("{other:?}"),
        }
    }
    let expected = [("eth0".to_owned(), DataLink::ETHERNET), ("tun0".to_owned(), DataLink::RAW)];
    assert_eq!(interfaces[..2], expected);
    let comment = "drop no-rule; ingress; policy 00000007; 12 packets in 1 ms; record 5".to_owned();
    assert_eq!(packets[0], (0, 1_796_030_000_123, 54, 1514, comment));
    assert_eq!((packets[1].0, packets[1].2, packets[1].3), (1, 40, 1514));
    assert!(packets[1].4.starts_with("would-drop no-rule; ingress; policy 00000007; 1 packet;"));
    // What is no frame is cut where it ends to be one.
    assert_eq!((packets[2].0, packets[2].2, packets[2].3), (0, 2, 2));
    assert_eq!((interfaces.len(), packets.len()), (2, 3));
}
