//! `secgroup flows`

use std::collections::{BTreeSet, HashMap, HashSet};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand, ValueEnum};
use firewall_ebpf::flow::{Flow, PROVEN, Tier};
use firewall_ebpf::interface::{Direction, State};
use ipnet::IpNet;
use serde_json::{Value, json};

use super::output::{self, Format, Output};
use super::{Context, Exit};
use crate::control::{Control, nothing_attached};
use crate::dataplane::flows::list::FlowEntry;
use crate::dataplane::tables::clock;
use crate::model::{Error, Interface, Model, RuleId};
use crate::policy::MANAGEMENT_RULE;
use crate::store::RuleName;

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  secgroup flows list --interface eth0 --tier proven
  secgroup flows count --protocol udp
  secgroup flows flush --address 203.0.113.0/24")]
pub(super) enum Command {
    /// List live flows, with the rule that admitted each
    List {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        output: Output,
    },
    /// Count live flows
    Count {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        output: Output,
    },
    /// Remove flows: their next packet is judged by the rules. Without a filter, all of them
    Flush {
        #[command(flatten)]
        filter: Filter,
    },
}

/// Which flows. Every filter that is given has to hold.
#[derive(Clone, Debug, Args)]
pub(super) struct Filter {
    /// Network device
    #[arg(long, value_name = "IFACE")]
    interface: Option<String>,
    /// tcp, udp, icmp, icmpv6 or a number
    #[arg(long, value_name = "PROTOCOL", value_parser = protocol)]
    protocol: Option<u8>,
    /// An end of the flow is in this network (or is this address)
    #[arg(long, value_name = "CIDR", value_parser = network)]
    address: Option<IpNet>,
    /// An end of the flow has this port
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// new or proven
    #[arg(long, value_enum)]
    tier: Option<TierName>,
    /// A state as `flows list` prints it
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<State>,
    /// The rule that admitted the flow
    #[arg(long, value_name = "RULE-ID")]
    rule: Option<RuleId>,
    /// A rule of this group admitted the flow, perhaps one that is gone; group by id or name
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TierName {
    New,
    Proven,
}

fn protocol(word: &str) -> Result<u8, String> {
    let known = PROTOCOLS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name));
    known.map_or_else(
        || word.parse().map_err(|_| "tcp, udp, icmp, icmpv6 or a number from 0 to 255".to_owned()),
        |(_, number)| Ok(*number),
    )
}

const PROTOCOLS: [(&str, u8); 4] = [("icmp", 1), ("tcp", 6), ("udp", 17), ("icmpv6", 58)];

fn protocol_name(number: u8) -> String {
    let known = PROTOCOLS.iter().find(|(_, known)| *known == number);
    known.map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
}

fn network(word: &str) -> Result<IpNet, String> {
    let address = || word.parse().map(|address: std::net::IpAddr| IpNet::from(address));
    word.parse().or_else(|_| address()).map_err(|_| "not an address or a CIDR".to_owned())
}

fn state(word: &str) -> Result<State, String> {
    let names = || State::ALL.iter().map(|state| state.name()).collect::<Vec<_>>().join(", ");
    let found = State::ALL.iter().copied().find(|state| state.name() == word);
    found.ok_or_else(|| format!("one of {}", names()))
}

/// A live flow with what the store knows of it.
struct Known<'a> {
    entry: FlowEntry,
    interface: &'a Interface,
    state: State,
    /// Seconds.
    idle: u64,
    /// Seconds; 0 in its last one.
    left: u64,
    rule: Option<RuleName>,
    /// The rule is no longer there; the flow goes on, as EC2's do.
    rule_removed: bool,
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        match self {
            Self::List { filter, output } => list(context, &filter, output.output),
            Self::Count { filter, output } => count(context, &filter, output.output),
            Self::Flush { filter } => flush(context, &filter),
        }
    }
}

fn list(context: &Context, filter: &Filter, format: Format) -> Result<Exit> {
    let list = || -> Result<()> {
        let control = context.control()?;
        let model = control.model()?;
        let flows = live(&control, &model, filter)?;
        match format {
            Format::Json => output::value(&json!({
                "SchemaVersion": output::SCHEMA_VERSION,
                "Flows": flows.iter().map(document).collect::<Vec<_>>(),
            })),
            Format::Table => table(&flows),
        }
    };
    list().context("flows list")?;
    Ok(Exit::Done)
}

fn count(context: &Context, filter: &Filter, format: Format) -> Result<Exit> {
    let count = || -> Result<usize> {
        let control = context.control()?;
        let model = control.model()?;
        Ok(live(&control, &model, filter)?.len())
    };
    let count = count().context("flows count")?;
    match format {
        Format::Json => output::value(&json!({
            "SchemaVersion": output::SCHEMA_VERSION,
            "Count": count,
        }))?,
        Format::Table => output::lines([count])?,
    }
    Ok(Exit::Done)
}

fn flush(context: &Context, filter: &Filter) -> Result<Exit> {
    let flush = || -> Result<u64> {
        let mut control = context.control()?;
        let model = control.model()?;
        let rules = filter.check(&control, &model)?;
        control.flush(|entry| filter.takes(&model, entry, rules.as_ref()))
    };
    let removed = flush().context("flows flush")?;
    output::lines([format!("{removed} flows removed")])?;
    Ok(Exit::Done)
}

impl Filter {
    /// A device that is not attached is a mistake, not an empty list, and so is a rule that never
    /// was. Returns the numbers of the rules that are meant, if not all are.
    fn check(&self, control: &Control, model: &Model) -> Result<Option<BTreeSet<u32>>> {
        if let Some(device) = &self.interface
            && !model.interfaces.values().any(|interface| is_named(interface, device))
        {
            return Err(Error::InterfaceNotFound(device.clone()).into());
        }
        let mut meant = None;
        if let Some(word) = &self.group {
            meant = Some(control.store().rules_of_group(&model.group(word)?.id)?);
        }
        if let Some(rule) = &self.rule {
            let number = control.store().number_of_rule(rule)?;
            let number = number.ok_or_else(|| Error::RuleUnknown(rule.clone()))?;
            let of_group = meant.is_none_or(|meant: BTreeSet<u32>| meant.contains(&number));
            meant = Some(of_group.then_some(number).into_iter().collect());
        }
        Ok(meant)
    }

    fn takes(&self, model: &Model, entry: &FlowEntry, rules: Option<&BTreeSet<u32>>) -> bool {
        let Self { interface, protocol, address, port, tier, state, rule: _, group: _ } = self;
        let holds = |filter: Option<bool>| filter.unwrap_or(true);
        let device = model.interfaces.get(&entry.slot);
        holds(interface.as_ref().map(|name| device.is_some_and(|i| is_named(i, name))))
            && holds(protocol.map(|number| entry.protocol == number))
            && holds(address.map(|net| net.contains(&entry.inside) || net.contains(&entry.outside)))
            && holds(port.map(|port| entry.inside_port == port || entry.outside_port == port))
            && holds(tier.map(|tier| {
                entry.tier
                    == match tier {
                        TierName::New => Tier::New,
                        TierName::Proven => Tier::Proven,
                    }
            }))
            && holds(state.map(|state| entry.flow.state() == Some(state)))
            && holds(rules.map(|rules| rules.contains(&entry.flow.rule)))
    }
}

/// By its name, or its namespace and name as the lists print them.
fn is_named(interface: &Interface, name: &str) -> bool {
    interface.device == name || interface.label() == name
}

fn live<'a>(control: &Control, model: &'a Model, filter: &Filter) -> Result<Vec<Known<'a>>> {
    let wanted = filter.check(control, model)?;
    let maps = control.maps()?.ok_or_else(nothing_attached)?;
    let now = clock::now(control.pins(), &maps)?;
    let mut names: HashMap<u32, Option<RuleName>> = HashMap::new();
    let rules = model.groups.values().flat_map(|group| &group.rules);
    let present: HashSet<u32> = rules.map(|rule| rule.number).collect();
    let mut flows = Vec::new();
    for entry in maps.flows()? {
        let (Some(interface), Some(state)) =
            (model.interfaces.get(&entry.slot), entry.flow.state())
        else {
            continue;
        };
        let idle = now.saturating_sub(entry.flow.last_seen) / clock::hz();
        // Dead, and only not removed yet: the kernel treats it as absent too.
        let Some(left) = u64::from(interface.timeout(state)).checked_sub(idle) else { continue };
        if !filter.takes(model, &entry, wanted.as_ref()) {
            continue;
        }
        let rule = match names.get(&entry.flow.rule) {
            Some(known) => known.clone(),
            None => {
                let found = control.store().rule_by_number(entry.flow.rule)?;
                names.entry(entry.flow.rule).or_insert(found).clone()
            }
        };
        let rule_removed = rule.is_some() && !present.contains(&entry.flow.rule);
        flows.push(Known { entry, interface, state, idle, left, rule, rule_removed });
    }
    flows.sort_by_key(|known| {
        let FlowEntry { slot, protocol, inside, outside, inside_port, outside_port, .. } =
            known.entry;
        (slot, protocol, inside, inside_port, outside, outside_port)
    });
    Ok(flows)
}

fn end(address: std::net::IpAddr, port: u16) -> String {
    match (address, port) {
        (_, 0) => address.to_string(),
        (std::net::IpAddr::V6(_), _) => format!("[{address}]:{port}"),
        _ => format!("{address}:{port}"),
    }
}

/// Whether a flow was open before its interface was attached: no rule admitted it.
const fn is_learned(flow: &Flow) -> bool {
    flow.rule == 0
}

fn table(flows: &[Known<'_>]) -> Result<()> {
    output::table(
        [
            "INTERFACE",
            "PROTOCOL",
            "INSIDE",
            "OUTSIDE",
            "OPENED",
            "STATE",
            "TIER",
            "IDLE",
            "LEFT",
            "PACKETS IN/OUT",
            "BYTES IN/OUT",
            "GROUP",
            "RULE",
        ],
        &["IDLE", "LEFT"],
        flows.iter().map(|known| {
            let FlowEntry { flow, .. } = &known.entry;
            let rule = known.rule.as_ref();
            let note = if known.rule_removed { " (removed)" } else { "" };
            [
                known.interface.label(),
                protocol_name(known.entry.protocol),
                end(known.entry.inside, known.entry.inside_port),
                end(known.entry.outside, known.entry.outside_port),
                known.entry.initiator().name().to_owned(),
                known.state.name().to_owned(),
                known.entry.tier.name().to_owned(),
                format!("{}s", known.idle),
                format!("{}s", known.left),
                format!("{}/{}", flow.packets[0], flow.packets[1]),
                format!("{}/{}", flow.bytes[0], flow.bytes[1]),
                rule.map_or_else(|| "-".to_owned(), |rule| rule.group_name.clone()),
                match rule {
                    Some(rule) => format!("{}{note}", rule.rule),
                    None if is_learned(flow) => "learned".to_owned(),
                    None if flow.rule == MANAGEMENT_RULE => "management".to_owned(),
                    None => "-".to_owned(),
                },
            ]
        }),
    )
}

fn document(known: &Known<'_>) -> Value {
    let FlowEntry { flow, .. } = &known.entry;
    let rule = known.rule.as_ref();
    let [ingress, egress] = Direction::ALL.map(|direction| direction as usize);
    json!({
        "NetworkInterfaceId": known.interface.id.to_string(),
        "Device": known.interface.device,
        "Netns": known.interface.netns,
        "Protocol": known.entry.protocol,
        "InsideAddress": known.entry.inside.to_string(),
        "OutsideAddress": known.entry.outside.to_string(),
        "InsidePort": known.entry.inside_port,
        "OutsidePort": known.entry.outside_port,
        "OpenedBy": known.entry.initiator().name(),
        "State": known.state.name(),
        "Tier": known.entry.tier.name(),
        "Proven": flow.flags & PROVEN != 0,
        "IdleSeconds": known.idle,
        "LeftSeconds": known.left,
        "IngressPackets": flow.packets[ingress],
        "EgressPackets": flow.packets[egress],
        "IngressBytes": flow.bytes[ingress],
        "EgressBytes": flow.bytes[egress],
        "SecurityGroupRuleId": rule.map(|rule| rule.rule.to_string()),
        "GroupId": rule.map(|rule| rule.group.to_string()),
        "GroupName": rule.map(|rule| rule.group_name.clone()),
        "RuleRemoved": known.rule_removed,
        "Learned": is_learned(flow),
    })
}
