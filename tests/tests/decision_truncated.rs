//! Truncated frames: cut at every byte, none passes, and host and kernel give the same reason.
//!
//! The comparison covers every length that the kernel's test run accepts. XDP accepts 14 bytes and
//! more. An skb needs bytes after the Ethernet header, and in newer kernels the whole fixed IP
//! header if the frame's type is IP; behind VLAN tags the kernel does not check. Shorter frames are
//! tested on the host, and by the XDP program, which shares the parser.

use firewall_ebpf::decide::decide;
use firewall_ebpf::host::HostPacket;
use firewall_ebpf::interface::Orientation;
use firewall_ebpf::reason::{Reason, Verdict};
use firewall_user::policy::CompiledPolicy;
use secgroup_tests::decision::packet::{DOT1AD, DOT1Q};
use secgroup_tests::decision::rules::compiled;
use secgroup_tests::decision::run::{hex, word};
use secgroup_tests::decision::scene::Role::{Client, Server};
use secgroup_tests::decision::{
    Engine, Extension, Family, Host, Kernel, Packet, Peer, Receive, Scene, Setup, What, allow,
    back, cases,
};

/// Complete packets of every kind that the parser reads; the rules allow all of them.
fn packets() -> Vec<(Option<Family>, Packet)> {
    let chain = |packet: Packet| {
        packet
            .extension(Extension::hop_by_hop(1))
            .extension(Extension::routing(2))
            .extension(Extension::authentication(6))
            .extension(Extension::fragment(0, false))
            .extension(Extension::destination(2))
    };
    vec![
        (None, cases::syn()),
        (None, cases::data(Client)),
        (None, cases::syn().tag(DOT1AD).tag(DOT1Q)),
        (None, Packet::udp(Client)),
        (None, Packet::udp(Server).tag(DOT1Q)),
        (None, Packet::echo(Client, 1)),
        (None, Packet::raw(Client, 47)),
        (None, cases::syn().fragment(0, true)),
        (None, Packet::raw(Client, 6).fragment(40, false)),
        (Some(Family::V4), cases::syn().options(40)),
        (Some(Family::V4), Packet::udp(Client).options(4).tag(DOT1Q)),
        (Some(Family::V6), chain(cases::syn())),
        (Some(Family::V6), chain(Packet::udp(Client)).tag(DOT1Q).tag(DOT1Q)),
        (Some(Family::V6), Packet::icmp(Client, (0, 0), (135, 0)).hop_limit(255)),
    ]
}

/// The bytes that the test run may require after the Ethernet header of an skb.
fn required_after_ethernet(frame: &[u8]) -> usize {
    match frame.get(12..14) {
        Some([0x08, 0x00]) => 20,
        Some([0x86, 0xdd]) => 40,
        _ => 1,
    }
}

/// Rules that allow everything, so that only the parser can drop a packet.
fn policy(scene: &Scene) -> CompiledPolicy {
    let everything = [allow(What::All, Peer::Any), back(What::All, Peer::Any)];
    compiled(&everything, scene)
}

fn host(scene: &Scene) -> Host {
    let mut host = Host::new();
    host.reset(Some(&policy(scene)));
    host
}

fn for_each_packet(mut check: impl FnMut(&Scene, &Packet)) {
    for scene in Scene::all() {
        for (family, packet) in packets() {
            if family.is_none_or(|family| family == scene.family) {
                check(&scene, &packet);
            }
        }
    }
}

#[test]
fn no_truncated_frame_passes_on_the_host() {
    for_each_packet(|scene, packet| {
        let mut host = host(scene);
        let frame = packet.frame(scene);
        for end in 0..frame.len() {
            let answer = host.decide(&frame[..end], packet.direction(scene));
            assert!(
                answer.is_some_and(|reason| reason.verdict() == Verdict::Drop),
                "{scene}: truncated to {end} of {} bytes: {}: bytes {}",
                frame.len(),
                word(answer),
                hex(&frame[..end])
            );
        }
    });
}

#[test]
fn the_length_of_the_linear_buffer_does_not_change_the_verdict() {
    for_each_packet(|scene, packet| {
        let frame = packet.frame(scene);
        let direction = packet.direction(scene);
        let whole = host(scene).decide(&frame, direction);
        for linear in 0..=frame.len() {
            let packet = HostPacket { linear, ..HostPacket::ethernet(&frame) };
            let answer = decide(&packet, &host(scene).tables, direction).reason;
            assert_eq!(Some(answer), whole, "{scene}: {linear} bytes linear: {}", hex(&frame));
        }
    });
}

#[test]
fn host_and_kernel_agree_on_every_truncated_frame() {
    let mut frames = 0;
    for orientation in [Orientation::Host, Orientation::Guest] {
        let mut kernel = Kernel::load(Setup::new(orientation));
        for receive in Receive::ALL {
            kernel.receive = receive;
            for_each_packet(|scene, packet| {
                let mut host = host(scene);
                kernel.reset(Some(&policy(scene)));
                let frame = packet.frame(scene);
                let direction = packet.direction(scene);
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
                        "{scene}: truncated to {end} of {} bytes: host {}, {} {}: bytes {}",
                        frame.len(),
                        word(expected),
                        kernel.name(),
                        word(answer),
                        hex(truncated)
                    );
                }
            });
        }
    }
    println!("{frames} truncated frames compared");
}
