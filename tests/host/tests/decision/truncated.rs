//! Frames cut at every byte; the suite `decision_truncated` compares them with the kernel.

use firewall_ebpf::decide::decide;
use firewall_ebpf::host::HostPacket;
use firewall_ebpf::reason::Verdict;
use secgroup_tests::decision::Engine as _;
use secgroup_tests::decision::run::{hex, reason_name};
use secgroup_tests::decision::truncated::{for_each_packet, host};

#[test]
fn no_truncated_frame_passes_on_the_host() {
    for_each_packet(|scenario, packet| {
        let mut host = host(scenario);
        let frame = packet.frame(scenario);
        for end in 0..frame.len() {
            let answer = host.decide(&frame[..end], packet.direction(scenario));
            assert!(
                answer.is_some_and(|reason| reason.verdict() == Verdict::Drop),
                "{scenario}: truncated to {end} of {} bytes: {}: bytes {}",
                frame.len(),
                reason_name(answer),
                hex(&frame[..end])
            );
        }
    });
}

#[test]
fn the_length_of_the_linear_buffer_does_not_change_the_verdict() {
    for_each_packet(|scenario, packet| {
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
