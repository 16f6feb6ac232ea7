//! Frames and interfaces of other kinds: several buffers, no Ethernet header, VLAN tags in
//! metadata, each option for non-IP frames, another interface's flows, audit.

use firewall_ebpf::abi::counter::counter_index;
use firewall_ebpf::abi::event::Event;
use firewall_ebpf::abi::interface::Direction::{Egress, Ingress};
use firewall_ebpf::abi::interface::NonIp;
use firewall_ebpf::abi::interface::Orientation;
use firewall_ebpf::abi::reason::{Reason, Verdict};
use firewall_ebpf::backend::host::HostPacket;
use firewall_ebpf::verdict::decide::decide;
use secgroup_tests::decision::cases::exempt::{
    ARP, BRIDGES, EAPOL, LLC, LLDP, MPLS, PPPOE, SLOW_PROTOCOLS,
};
use secgroup_tests::decision::host::SLOT;
use secgroup_tests::decision::packet::{DOT1AD, DOT1Q};
use secgroup_tests::decision::rules::{compiled, default_rules};
use secgroup_tests::decision::scenario::Role::{Client, Server};
use secgroup_tests::decision::{
    Engine, Extension, Family, Host, Kernel, Packet, Receive, Scenario, Setup, cases, run, run_bare,
};

const INGRESS: [Scenario; 2] = [
    Scenario { family: Family::V4, client: Ingress },
    Scenario { family: Family::V6, client: Ingress },
];

#[test]
fn every_case_holds_on_a_device_without_ethernet_headers() {
    let mut host = Host::with(false, NonIp::default());
    for orientation in [Orientation::Host, Orientation::Guest] {
        let setup = Setup { ethernet: false, ..Setup::new(orientation) };
        let (cases, mut kernel) = (cases::of(&setup), Kernel::load(setup));
        for receive in Receive::ALL {
            kernel.receive = receive;
            let packets = run_bare(&cases, &mut [&mut host, &mut kernel]);
            println!("{packets} packets without Ethernet header: {}", kernel.name());
        }
    }
}

#[test]
fn without_ethernet_a_wrong_ip_version_is_dropped() {
    let mut host = Host::with(false, NonIp::All);
    let setup = Setup { ethernet: false, non_ip: NonIp::All, ..Setup::new(Orientation::Host) };
    let mut kernel = Kernel::load(setup);
    for scenario in INGRESS {
        for nibble in [0, 1, 5, 7, 15] {
            let mut packet = cases::syn().ip(&scenario);
            packet[0] = nibble << 4 | packet[0] & 0xf;
            for engine in [&mut host as &mut dyn Engine, &mut kernel] {
                let answer = engine.decide(&packet, Ingress);
                assert_eq!(answer, Some(Reason::IpVersion), "{}: version {nibble}", engine.name());
            }
        }
    }
}

#[test]
fn every_case_holds_for_xdp_frames_in_several_buffers() {
    let setup = Setup::new(Orientation::Host);
    let (mut host, mut cases) = (Host::new(), cases::of(&setup));
    let mut kernel = Kernel::load(setup);
    if !kernel.splits_frames() {
        println!("this kernel splits only frames larger than a page, as the next test has them");
        return;
    }
    // Where the addresses are not in the first buffer, blocks are checked after the packet is parsed, and one
    // that does not parse has the reason of the parser.
    cases.retain(|case| case.name != cases::blocks::SHORT_AND_BLOCKED);
    // At the end of the Ethernet header, in the IP header, in the transport header, and after them.
    for linear in [14, 20, 34, 40, 54, 60, 74] {
        kernel.linear = Some(linear);
        let packets = run(&cases, &mut [&mut host, &mut kernel]);
        println!("{packets} packets with at most {linear} bytes in the first buffer");
    }
}

#[test]
fn frames_larger_than_a_page_are_parsed_and_counted() {
    let options = || Extension::destination(255);
    let large = [
        (None, cases::syn().data(8000), Reason::NewFlow),
        (None, Packet::udp(Client).data(20_000), Reason::NoRule),
        // Ports after more options than the first buffer holds.
        (Some(Family::V6), cases::syn().extension(options()).extension(options()), Reason::NewFlow),
        (
            Some(Family::V6),
            cases::syn().extension(options()).extension(options()).port(80),
            Reason::NoRule,
        ),
    ];
    let mut host = Host::new();
    let mut kernel = Kernel::load(Setup::new(Orientation::Host));
    for scenario in INGRESS {
        let policy = compiled(&default_rules(), &scenario);
        for (family, packet, expected) in &large {
            if family.is_some_and(|family| family != scenario.family) {
                continue;
            }
            for engine in [&mut host as &mut dyn Engine, &mut kernel] {
                engine.reset(Some(&policy));
                let answer = engine.decide(&packet.frame(&scenario), Ingress);
                assert_eq!(answer, Some(*expected), "{}: {scenario}: {packet:?}", engine.name());
            }
        }
    }
}

/// On the host only: the kernel's test run makes no skb with a tag in its metadata.
#[test]
fn vlan_tags_in_metadata_count_like_tags_in_the_frame() {
    let scenario = INGRESS[0];
    for beside in 0..4 {
        for tags in [&[][..], &[DOT1Q], &[DOT1AD, DOT1Q], &[DOT1AD, DOT1Q, DOT1Q]] {
            let packet = tags.iter().fold(Packet::udp(Client), |packet, &tag| packet.tag(tag));
            let frame = packet.frame(&scenario);
            let mut host = Host::new();
            host.reset(Some(&compiled(&default_rules(), &scenario)));
            let packet = HostPacket { metadata_tags: beside, ..HostPacket::ethernet(&frame) };
            let answer = decide(&packet, &host.tables, Ingress).reason;
            let depth = usize::try_from(beside).expect("fits") + tags.len();
            // Without a tag in the frame the type field decides, because an skb holds at most one
            // tag in its metadata.
            let expected =
                if depth > 2 && !tags.is_empty() { Reason::VlanDepth } else { Reason::NoRule };
            assert_eq!(answer, expected, "{beside} tags in metadata, {} in the frame", tags.len());
        }
    }
}

#[test]
fn non_ip_frames_follow_the_interface_option() {
    let control = [LLDP, EAPOL, SLOW_PROTOCOLS, LLC, 0x05ff];
    let others = [MPLS, PPPOE, 0x0600, 0xffff];
    for non_ip in NonIp::ALL {
        let (of_control, of_others) = match non_ip {
            NonIp::Control => (Reason::LinkControl, Reason::NonIp),
            NonIp::All => (Reason::LinkControl, Reason::NonIpAllowed),
            NonIp::None => (Reason::NonIp, Reason::NonIp),
        };
        let mut types = vec![(ARP, false, Reason::Arp)];
        for kind in control {
            types.extend([(kind, true, of_control), (kind, false, of_others)]);
        }
        for kind in others {
            types.extend([(kind, true, of_others), (kind, false, of_others)]);
        }
        check_types(Setup { non_ip, ..Setup::new(Orientation::Host) }, &types);
    }
}

#[test]
fn a_named_ether_type_passes_besides() {
    use Reason::{LinkControl, NonIp as Dropped, NonIpAllowed};
    let ether_type = Some("ptp".parse().unwrap());
    let with = |setup: Setup| Setup { ether_type, ..setup };
    // Neighbours in number, those that differ in one bit, 802.3 lengths, and what is decided otherwise.
    let others = [0x88f6, 0x88f8, 0x08f7, 0x88e7, 0xf788, 0xffff, 0x0600, 0x05ff, LLC, LLDP, MPLS];
    for orientation in [Orientation::Host, Orientation::Guest] {
        for (non_ip, of_control) in [(NonIp::Control, LinkControl), (NonIp::None, Dropped)] {
            let mut types = vec![(ARP, false, Reason::Arp), (LLDP, true, of_control)];
            types.extend([(0x88f7, false, NonIpAllowed), (0x88f7, true, NonIpAllowed)]);
            types.extend(others.map(|kind| (kind, false, Dropped)));
            check_types(with(Setup { non_ip, ..Setup::new(orientation) }), &types);
        }
    }
    let kind = [(EAPOL, false, NonIpAllowed), (EAPOL, true, LinkControl), (LLDP, false, Dropped)];
    let ether_type = Some("eapol".parse().unwrap());
    check_types(Setup { ether_type, ..Setup::new(Orientation::Host) }, &kind);
}

/// Sends a frame of each type in both directions, plain and tagged, to a host, or to the bridges' address
/// if so stated.
fn check_types(setup: Setup, types: &[(u16, bool, Reason)]) {
    let (mut host, mut kernel) = (Host::of(&setup), Kernel::load(setup));
    let scenario = match setup.orientation {
        Orientation::Host => INGRESS[0],
        Orientation::Guest => Scenario { client: Egress, ..INGRESS[0] },
    };
    for &(kind, is_to_bridges, expected) in types {
        for from in [Client, Server] {
            let plain = Packet::link(from, kind);
            let plain = if is_to_bridges { plain.to_mac(BRIDGES) } else { plain };
            for packet in [plain.clone(), plain.tag(DOT1Q)] {
                let (frame, direction) = (packet.frame(&scenario), packet.direction(&scenario));
                for receive in Receive::ALL {
                    kernel.receive = receive;
                    for engine in [&mut host as &mut dyn Engine, &mut kernel] {
                        let (answer, name) = (engine.decide(&frame, direction), engine.name());
                        assert_eq!(answer, Some(expected), "{name}: {setup:?}: type {kind:#06x}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_flow_of_another_interface_does_not_match() {
    let mut kernel = Kernel::load(Setup::new(Orientation::Host));
    for scenario in INGRESS {
        let mut host = Host::new();
        let policy = compiled(&default_rules(), &scenario);
        host.reset(Some(&policy));
        kernel.reset(Some(&policy));
        let both = |packet: Packet, expected: Reason, host: &mut Host, kernel: &mut Kernel| {
            let (frame, direction) = (packet.frame(&scenario), packet.direction(&scenario));
            for engine in [host as &mut dyn Engine, kernel] {
                let answer = engine.decide(&frame, direction);
                assert_eq!(answer, Some(expected), "{}: {scenario}: {packet:?}", engine.name());
            }
        };
        both(cases::syn(), Reason::NewFlow, &mut host, &mut kernel);
        both(cases::syn_ack(), Reason::Established, &mut host, &mut kernel);
        both(cases::handshake_ack(), Reason::Established, &mut host, &mut kernel);
        both(cases::data(Server), Reason::Established, &mut host, &mut kernel);
        // On the host the interface gets another slot; in the kernel the flow does.
        host.tables.slot += 1;
        kernel.maps.move_flows_to_slot(2);
        both(cases::data(Server), Reason::NoRule, &mut host, &mut kernel);
        both(cases::data(Client).port(80), Reason::NoRule, &mut host, &mut kernel);
    }
}

/// The record of a first fragment includes interface and direction, because a host on the other
/// side may spoof the addresses.
#[test]
fn a_first_fragment_applies_to_its_interface_and_direction_only() {
    let first = cases::syn().data(64).fragment(0, true);
    let later = Packet::raw(Client, 6).data(64).fragment(13, false);
    let mut kernel = Kernel::load(Setup::new(Orientation::Host));
    for scenario in INGRESS {
        let mut host = Host::new();
        let policy = compiled(&default_rules(), &scenario);
        host.reset(Some(&policy));
        kernel.reset(Some(&policy));
        let (first, later) = (first.frame(&scenario), later.frame(&scenario));
        for engine in [&mut host as &mut dyn Engine, &mut kernel] {
            let name = engine.name();
            assert_eq!(engine.decide(&first, Ingress), Some(Reason::NewFlow), "{name}: {scenario}");
            assert_eq!(engine.decide(&later, Egress), Some(Reason::Fragment), "{name}: {scenario}");
            assert_eq!(engine.decide(&later, Ingress), Some(Reason::LaterFragment), "{name}");
        }
        host.tables.slot += 1;
        assert_eq!(host.decide(&later, Ingress), Some(Reason::Fragment), "{scenario}");
    }
}

/// In audit mode a packet is decided and counted as in enforce mode, and passes. The next policy
/// word ends it.
#[test]
fn audit_passes_and_counts_dropped_packets() {
    for (orientation, receive) in [Orientation::Host, Orientation::Guest]
        .into_iter()
        .flat_map(|o| Receive::ALL.map(|r| (o, r)))
    {
        let mut kernel = Kernel::load(Setup::new(orientation));
        kernel.receive = receive;
        for scenario in Scenario::all() {
            let policy = compiled(&default_rules(), &scenario);
            kernel.reset(Some(&policy));
            let dropped = cases::syn().port(80);
            let (frame, direction) = (dropped.frame(&scenario), dropped.direction(&scenario));
            for (audit, verdict) in [(true, Verdict::Pass), (false, Verdict::Drop)] {
                kernel.maps.set_audit(audit);
                kernel.replace(&policy);
                let before = kernel.maps.counters();
                assert_eq!(kernel.verdict(&frame, direction), Some(verdict), "{scenario}: {audit}");
                let at = counter_index(SLOT, direction, Reason::NoRule as u32);
                let at = usize::try_from(at).expect("an index");
                let after = kernel.maps.counters();
                assert_eq!(after[at].packets, before[at].packets + 1, "{scenario}: {audit}");
                let audit_passed = kernel.events().get(&Event::AuditPassed).copied();
                assert_eq!(audit_passed, Some(1), "{scenario}: {audit}: once, in audit only");
                assert!(kernel.flows().is_empty());
            }
            let syn = cases::syn();
            let (frame, direction) = (syn.frame(&scenario), syn.direction(&scenario));
            assert_eq!(kernel.verdict(&frame, direction), Some(Verdict::Pass));
            assert_eq!(kernel.flows().len(), 1);
        }
    }
}
