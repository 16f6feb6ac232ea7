//! Frames that end too early: cut at every byte, none of them ever passes, and host and kernel say
//! the same about each.
//!
//! Compared is every length that the kernel's test run takes. For XDP that is 14 bytes and more.
//! Of an skb the test run wants something behind the Ethernet header, and in newer kernels the
//! whole fixed IP header if the frame says that it is IP; inside tags it looks no further. What it
//! does not take the host alone is asked about, and the XDP program, which shares the parser.

use firewall_ebpf::decide::decide;
use firewall_ebpf::host::HostPacket;
use firewall_ebpf::interface::Orientation;
use firewall_ebpf::reason::{Reason, Verdict};
use secgroup_tests::decision::packet::{DOT1AD, DOT1Q};
use secgroup_tests::decision::rules::compiled;
use secgroup_tests::decision::run::{hex, reason_name};
use secgroup_tests::decision::scenario::Role::{Client, Server};
use secgroup_tests::decision::{
    Engine, Extension, Family, Host, Kernel, Packet, Peer, Receive, Scenario, Setup, Traffic,
    allow, allow_reverse, cases,
};

/// Whole packets of every kind that the parser reads, all of which the rules allow.
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

/// What the test run may want behind the Ethernet header of an skb.
fn header(frame: &[u8]) -> usize {
    match frame.get(12..14) {
        Some([0x08, 0x00]) => 20,
        Some([0x86, 0xdd]) => 40,
        _ => 1,
    }
}

/// Rules that allow everything, so that only the parser can refuse.
fn host(scenario: &Scenario) -> Host {
    let everything = [allow(Traffic::All, Peer::Any), allow_reverse(Traffic::All, Peer::Any)];
    let mut host = Host::new();
    host.reset(Some(&compiled(&everything, scenario)));
    host
}

fn each(mut look: impl FnMut(&Scenario, &Packet)) {
    for scenario in Scenario::all() {
        for (family, packet) in packets() {
            if family.is_none_or(|family| family == scenario.family) {
                look(&scenario, &packet);
            }
        }
    }
}

#[test]
fn none_passes_on_the_host() {
    each(|scenario, packet| {
        let mut host = host(scenario);
        let frame = packet.frame(scenario);
        for end in 0..frame.len() {
            let answer = host.decide(&frame[..end], packet.direction(scenario));
            assert!(
                answer.is_some_and(|reason| reason.verdict() == Verdict::Drop),
                "{scenario}: cut to {end} of {} bytes: {}: bytes {}",
                frame.len(),
                reason_name(answer),
                hex(&frame[..end])
            );
        }
    });
}

#[test]
fn it_does_not_matter_which_buffer_the_bytes_lie_in() {
    each(|scenario, packet| {
        let frame = packet.frame(scenario);
        let direction = packet.direction(scenario);
        let whole = host(scenario).decide(&frame, direction);
        for linear in 0..=frame.len() {
            let packet = HostPacket { linear, ..HostPacket::ethernet(&frame) };
            let answer = decide(&packet, &host(scenario).tables, direction).reason;
            assert_eq!(Some(answer), whole, "{scenario}: {linear} bytes linear: {}", hex(&frame));
        }
    });
}

#[test]
fn host_and_kernel_agree() {
    let mut frames = 0;
    for orientation in [Orientation::Host, Orientation::Guest] {
        let mut kernel = Kernel::load(Setup::new(orientation));
        for receive in Receive::ALL {
            kernel.receive = receive;
            each(|scenario, packet| {
                let mut host = host(scenario);
                kernel.reset(host.tables.policy());
                let frame = packet.frame(scenario);
                let direction = packet.direction(scenario);
                for end in 0..frame.len() {
                    let cut = &frame[..end];
                    let expected = host.decide(cut, direction);
                    let answer = kernel.decide(cut, direction);
                    if answer.is_none() {
                        let least = if kernel.uses_xdp(direction) { 14 } else { 14 + header(cut) };
                        assert!(end < least, "{}: refuses {}", kernel.name(), hex(cut));
                        assert_eq!(expected, Some(Reason::TruncatedFrame), "bytes {}", hex(cut));
                        continue;
                    }
                    frames += 1;
                    assert_eq!(
                        answer,
                        expected,
                        "{scenario}: cut to {end} of {} bytes: host {}, {} {}: bytes {}",
                        frame.len(),
                        reason_name(expected),
                        kernel.name(),
                        reason_name(answer),
                        hex(cut)
                    );
                }
            });
        }
    }
    println!("{frames} cut frames compared");
}
