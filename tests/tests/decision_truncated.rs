//! Truncated frames, cut at every byte: host and kernel give the same reason.
//!
//! The comparison covers every length that the kernel's test run accepts. XDP accepts 14 bytes and
//! more. An skb needs bytes after the Ethernet header, and in newer kernels the whole fixed IP
//! header if the frame's type is IP; behind VLAN tags the kernel does not check. Shorter frames are
//! tested on the host, and by the XDP program, which shares the parser.

use firewall_ebpf::interface::Orientation;
use firewall_ebpf::reason::Reason;
use secgroup_tests::decision::run::{hex, reason_name};
use secgroup_tests::decision::truncated::{for_each_packet, host, policy};
use secgroup_tests::decision::{Engine as _, Kernel, Receive, Setup};

/// The bytes that the test run may require after the Ethernet header of an skb.
fn required_after_ethernet(frame: &[u8]) -> usize {
    match frame.get(12..14) {
        Some([0x08, 0x00]) => 20,
        Some([0x86, 0xdd]) => 40,
        _ => 1,
    }
}

#[test]
fn host_and_kernel_agree_on_every_truncated_frame() {
    let mut frames = 0;
    for orientation in [Orientation::Host, Orientation::Guest] {
        let mut kernel = Kernel::load(Setup::new(orientation));
        for receive in Receive::ALL {
            kernel.receive = receive;
            for_each_packet(|scenario, packet| {
                let mut host = host(scenario);
                kernel.reset(Some(&policy(scenario)));
                let frame = packet.frame(scenario);
                let direction = packet.direction(scenario);
                for end in 0..frame.len() {
                    let truncated = &frame[..end];
                    let expected = host.decide(truncated, direction);
                    let answer = kernel.decide(truncated, direction);
                    if answer.is_none() {
                        let least = if kernel.uses_xdp(direction) {
                            14
                        } else {
                            14 + required_after_ethernet(truncated)
                        };
                        assert!(end < least, "{}: refuses {}", kernel.name(), hex(truncated));
                        assert_eq!(
                            expected,
                            Some(Reason::TruncatedFrame),
                            "bytes {}",
                            hex(truncated)
                        );
                        continue;
                    }
                    frames += 1;
                    assert_eq!(
                        answer,
                        expected,
                        "{scenario}: truncated to {end} of {} bytes: host {}, {} {}: bytes {}",
                        frame.len(),
                        reason_name(expected),
                        kernel.name(),
                        reason_name(answer),
                        hex(truncated)
                    );
                }
            });
        }
    }
    println!("{frames} truncated frames compared");
}
