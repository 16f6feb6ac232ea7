//! Packets for truncation at every byte.

use firewall_policy::CompiledPolicy;

use super::scenario::Role::{Client, Server};
use super::{
    Engine as _, Extension, Family, Host, Packet, Peer, Scenario, Traffic, allow, allow_reverse,
    cases,
};
use crate::decision::packet::{DOT1AD, DOT1Q};
use crate::decision::rules::compiled;

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

/// Calls `check` with each packet in each scenario of its family.
pub fn for_each_packet(mut check: impl FnMut(&Scenario, &Packet)) {
    for scenario in Scenario::all() {
        for (family, packet) in packets() {
            if family.is_none_or(|family| family == scenario.family) {
                check(&scenario, &packet);
            }
        }
    }
}

/// Rules that allow everything, so that only the parser can drop.
#[must_use]
pub fn policy(scenario: &Scenario) -> CompiledPolicy {
    compiled(&[allow(Traffic::All, Peer::Any), allow_reverse(Traffic::All, Peer::Any)], scenario)
}

/// A host with [`policy`].
#[must_use]
pub fn host(scenario: &Scenario) -> Host {
    let mut host = Host::new();
    host.reset(Some(&policy(scenario)));
    host
}
