//! Packets that network ACLs and blocks would decide about otherwise, whatever connection they belong to.

use std::collections::BTreeMap;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Serialize;

use super::{MOST, PacketsDocument};
use crate::model::Model;
use crate::observe::denials::Denials;
use crate::observe::explain::EntryName;
use crate::policy::verdicts::Decided;

/// Networks of the same verdict that are printed one by one.
const MOST_NETWORKS: usize = 3;

/// Packets that network ACLs and blocks would decide about otherwise.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DenialDocument {
    /// The packets.
    #[serde(flatten)]
    of: PacketsDocument,
    /// `denied`: they are not now; `not-denied`: they are now, and rules would decide about them.
    verdict: &'static str,
    /// The block or entry that would deny them, or does now.
    denied_by: Option<EntryName>,
    /// What [`lines`] joins by.
    #[serde(skip)]
    piece: Decided,
}

/// The packets that network ACLs and blocks would decide about otherwise; and whether there are more.
pub(super) fn denied(now: &Model, proposed: &Model) -> (Vec<DenialDocument>, bool) {
    let mut found: Vec<DenialDocument> = Vec::new();
    let mut has_more = false;
    // Ends do not count: what has ended is still in the store.
    let denials = Denials::new(now, proposed, 0);
    for (interfaces, mut pieces) in denials.by_interfaces() {
        found.extend(pieces.by_ref().take(MOST).map(|piece| DenialDocument {
            of: PacketsDocument::new(interfaces, &piece),
            verdict: if piece.is_allowed { "not-denied" } else { "denied" },
            denied_by: EntryName::by_number(
                if piece.is_allowed { now } else { proposed },
                piece.number,
            ),
            piece,
        }));
        has_more |= pieces.next().is_some();
    }
    (found, has_more)
}

/// A line for each piece, or one for the pieces that differ in nothing but their networks if these are many: what is
/// left of all addresses without a few has many networks.
pub(super) fn lines(denials: &[DenialDocument]) -> Vec<String> {
    let mut alike: BTreeMap<_, Vec<&DenialDocument>> = BTreeMap::new();
    let mut order = Vec::new();
    for one in denials {
        let Decided { is_allowed, direction, network, traffic, number } = one.piece;
        let key =
            (&one.of.interfaces, is_allowed, direction, network.addr().is_ipv4(), traffic, number);
        let of_key = alike.entry(key).or_default();
        if of_key.is_empty() {
            order.push(key);
        }
        of_key.push(one);
    }
    let line = |one: &DenialDocument, packets: String| {
        let interfaces = one.of.interfaces.join(" ");
        let by = one.denied_by.as_ref().map_or_else(String::new, EntryName::place);
        let would = if one.piece.is_allowed {
            format!("would no longer be denied ({by} denies it now)")
        } else {
            format!("would be denied by {by}")
        };
        format!("{interfaces}: {packets} {would}")
    };
    let lines = order.iter().flat_map(|key| {
        let of_key = &alike[key];
        match of_key[..] {
            [first, ..] if of_key.len() > MOST_NETWORKS => {
                let networks = of_key.iter().map(|one| one.piece.network);
                let all = networks.reduce(common).unwrap_or(first.piece.network);
                let whole = Decided { network: all, ..first.piece.clone() };
                let (all, whole) = (all.to_string(), whole.to_string());
                let packets = whole.strip_suffix(&all).unwrap_or(&whole);
                vec![line(first, format!("{packets}{} networks in {all}", of_key.len()))]
            }
            _ => of_key.iter().map(|one| line(one, one.of.packets.clone())).collect(),
        }
    });
    lines.collect()
}

/// The smallest network that contains both; both are of one family.
fn common(one: IpNet, other: IpNet) -> IpNet {
    let mut wider = one;
    while !wider.contains(&other) {
        let Some(next) = wider.supernet() else { break };
        wider = next;
    }
    wider
}
