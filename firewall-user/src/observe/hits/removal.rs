//! What removing rules would affect, as far as live flows tell.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use crate::clock::Clocks;
use crate::control::{Control, NothingAttached};
use crate::model::Model;
use crate::observe::flows::totals::{By, Total, totals};
use crate::observe::flows::{LiveFlow, live_flows};
use crate::policy::{Probe, ResolvedRule, active_rules, evaluate};

/// What becomes of the live flows that a rule admitted, if it is removed together with others.
#[derive(Clone, Debug, Default)]
pub struct Removal {
    /// Live flows that it admitted.
    pub flows: usize,
    /// Those of them whose first packet no other rule allows now: their next connection is dropped.
    pub not_allowed: usize,
    /// Those of them that end at their next packet, because their interface revalidates flows.
    pub ending: usize,
    /// The addresses of the other ends of those that no other rule allows, most flows first.
    pub peers: Vec<Total>,
}

/// What removing rules would affect, by the rules' numbers. Where nothing is attached, nothing.
///
/// # Errors
/// The tables or the store cannot be read.
pub fn preview(
    control: &Control,
    model: &Model,
    removed: &BTreeSet<u32>,
) -> Result<BTreeMap<u32, Removal>> {
    let is_of = |flow: &LiveFlow| removed.contains(&flow.entry.flow.rule);
    let flows = match live_flows(control, model, is_of) {
        Err(error) if error.is::<NothingAttached>() => Vec::new(),
        result => result?,
    };
    let addresses = control.store().active_addresses()?;
    let now = Clocks::now().moment.boottime;
    let mut rules: BTreeMap<u16, Vec<ResolvedRule>> = BTreeMap::new();
    let mut removals: BTreeMap<u32, (Removal, Vec<LiveFlow>)> = BTreeMap::new();
    for number in removed {
        removals.insert(*number, Default::default());
    }
    for flow in flows {
        let Some(interface) = model.interfaces.get(&flow.entry.slot) else { continue };
        let rules = rules.entry(flow.entry.slot).or_insert_with(|| {
            let mut rules = active_rules(model, &addresses, interface);
            rules.retain(|rule| {
                !removed.contains(&rule.number) && rule.end.is_none_or(|end| end > now)
            });
            rules
        });
        let Some((removal, without)) = removals.get_mut(&flow.entry.flow.rule) else { continue };
        removal.flows += 1;
        if evaluate(rules, first_packet(&flow)).next().is_none() {
            removal.not_allowed += 1;
            removal.ending += usize::from(interface.revalidate);
            without.push(flow);
        }
    }
    let with_peers = removals.into_iter().map(|(number, (removal, without))| {
        (number, Removal { peers: totals(By::Address, &without), ..removal })
    });
    Ok(with_peers.collect())
}

/// The packet that opened a flow, as a rule matches it.
fn first_packet(flow: &LiveFlow) -> Probe {
    let subject = flow.subject();
    let port = match (subject.icmp, subject.destination_port) {
        (Some((kind, code)), _) => u16::from_be_bytes([kind, code]),
        (None, port) => port.unwrap_or_default(),
    };
    Probe {
        direction: flow.entry.initiator(),
        outside: flow.entry.outside,
        protocol: flow.entry.protocol,
        port,
    }
}
