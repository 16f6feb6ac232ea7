//! Rules of answers, as the plain model has them.

use std::collections::BTreeMap;

use super::{NETWORKS, TRAFFICS, To};
use crate::api::tests::tree::Tree;

/// The kind of a peer, which a modification does not change.
pub(super) fn kind(to: &To) -> u8 {
    match to {
        To::Network(network) if NETWORKS[*network].contains(':') => 6,
        To::Network(_) => 4,
        To::Group(_) => 0,
    }
}

pub(super) fn traffic_of(element: &Tree) -> usize {
    let protocol = element.text_of("ipProtocol");
    let at = TRAFFICS.iter().position(|(name, ..)| *name == protocol).unwrap();
    let (_, from, to) = TRAFFICS[at];
    if protocol != "-1" {
        assert_eq!((element.text_of("fromPort"), element.text_of("toPort")), (from, to));
    }
    at
}

pub(super) fn network(text: &str) -> To {
    To::Network(NETWORKS.iter().position(|one| *one == text).unwrap_or_else(|| panic!("{text}")))
}

pub(super) fn group(ids: &BTreeMap<usize, String>, id: &str) -> To {
    To::Group(*ids.iter().find(|(_, one)| *one == id).unwrap().0)
}

pub(super) fn peer_of_pair(ids: &BTreeMap<usize, String>, item: &Tree) -> To {
    for name in ["cidrIp", "cidrIpv6"] {
        if let Some(found) = item.get(name) {
            return network(&found.text);
        }
    }
    group(ids, item.text_of("groupId"))
}

pub(super) fn peer_of_rule(ids: &BTreeMap<usize, String>, rule: &Tree) -> To {
    for name in ["cidrIpv4", "cidrIpv6"] {
        if let Some(found) = rule.get(name) {
            return network(&found.text);
        }
    }
    group(ids, rule.get("referencedGroupInfo").unwrap().text_of("groupId"))
}
