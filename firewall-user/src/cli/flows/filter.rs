//! The filters of `secgroup flows`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Result;
use clap::Args;
use firewall_ebpf::abi::flow::Tier;
use firewall_ebpf::abi::state::State;
use ipnet::IpNet;

use crate::cli::interfaces::Named;
use crate::control::Control;
use crate::dataplane::flows::list::FlowEntry;
use crate::model::{Error, Model, RuleId};

/// A flow is chosen if it matches every filter that is given.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct Filter {
    /// Network device; of another network namespace also as NAMESPACE/DEVICE
    #[arg(long, value_name = "IFACE")]
    interface: Option<String>,
    /// Named network namespace of the device
    #[arg(long, value_name = "NAME", requires = "interface")]
    netns: Option<String>,
    /// IP protocol: tcp, udp, icmp, icmpv6 or a number
    #[arg(long, value_name = "PROTOCOL", value_parser = protocol)]
    protocol: Option<u8>,
    /// Network or address of either end
    #[arg(long, value_name = "CIDR", value_parser = network)]
    address: Option<IpNet>,
    /// Port of either end; identifier of an ICMP query
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Tier of the flow table
    #[arg(long, value_enum)]
    tier: Option<Tier>,
    /// State of the flow (docs/states.md)
    #[arg(long, value_enum)]
    state: Option<State>,
    /// Rule that allowed the flow, by id; also a deleted one
    #[arg(long, value_name = "RULE-ID")]
    rule: Option<RuleId>,
    /// Group whose rule allowed the flow, also a deleted rule; by id or name
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
}

fn protocol(word: &str) -> Result<u8, String> {
    let known = PROTOCOLS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name));
    known.map_or_else(
        || word.parse().map_err(|_| "tcp, udp, icmp, icmpv6 or a number from 0 to 255".to_owned()),
        |(_, number)| Ok(*number),
    )
}

const PROTOCOLS: [(&str, u8); 4] = [("icmp", 1), ("tcp", 6), ("udp", 17), ("icmpv6", 58)];

/// `tcp`, or the number of a protocol without a name here.
pub(super) fn protocol_name(number: u8) -> String {
    let known = PROTOCOLS.iter().find(|(_, known)| *known == number);
    known.map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
}

fn network(word: &str) -> Result<IpNet, String> {
    let address = || word.parse().map(|address: IpAddr| IpNet::from(address));
    word.parse()
        .or_else(|_| address())
        .map_err(|_| "write an address, or a network as ADDRESS/LENGTH".to_owned())
}

impl Filter {
    /// The filters, with names looked up. An interface that is not attached and a rule that never existed
    /// are errors, not an empty list.
    pub(super) fn check(&self, control: &Control, model: &Model) -> Result<Checked<'_>> {
        let slot = match &self.interface {
            Some(word) => {
                Some(Named::new(word, self.netns.as_deref())?.of(control.pins(), model)?.slot)
            }
            None => None,
        };
        let mut numbers = None;
        if let Some(word) = &self.group {
            numbers = Some(control.store().rules_of_group(&model.group(word)?.id)?);
        }
        if let Some(rule) = &self.rule {
            let number = control.store().number_of_rule(rule)?;
            let number = number.ok_or_else(|| Error::RuleUnknown(rule.clone()))?;
            let of_group = numbers.is_none_or(|all: BTreeSet<u32>| all.contains(&number));
            numbers = Some(of_group.then_some(number).into_iter().collect());
        }
        Ok(Checked { filter: self, slot, rules: numbers })
    }
}

/// Filters whose names were looked up.
pub(super) struct Checked<'a> {
    filter: &'a Filter,
    slot: Option<u16>,
    /// The numbers of the chosen rules; `None`: also flows of no rule.
    rules: Option<BTreeSet<u32>>,
}

impl Checked<'_> {
    /// Whether a flow matches.
    pub(super) fn matches(&self, entry: &FlowEntry) -> bool {
        let Self { filter, slot, rules } = self;
        let Filter { protocol, address, port, tier, state, .. } = filter;
        let holds = |filter: Option<bool>| filter.unwrap_or(true);
        holds(slot.map(|slot| entry.slot == slot))
            && holds(protocol.map(|number| entry.protocol == number))
            && holds(address.map(|net| net.contains(&entry.inside) || net.contains(&entry.outside)))
            && holds(port.map(|port| match entry.query() {
                Some((id, ..)) => id == port,
                None => entry.inside_port == port || entry.outside_port == port,
            }))
            && holds(tier.map(|tier| entry.tier() == tier))
            && holds(state.map(|state| entry.flow.state() == Some(state)))
            && holds(rules.as_ref().map(|rules| rules.contains(&entry.flow.rule)))
    }
}
