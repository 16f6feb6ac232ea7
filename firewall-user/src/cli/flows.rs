//! `secgroup flows`

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use clap::Subcommand;
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::state::State;

use super::output::{self, Format, Output};
use super::table::{Column, table};
use super::{Context, Exit};
use crate::control::{Control, NothingAttached};
use crate::dataplane::flows::list::FlowEntry;
use crate::dataplane::tables::clock;
use crate::model::{Interface, Model};
use crate::policy::MANAGEMENT_RULE;
use crate::store::RuleName;

pub(super) mod document;
mod filter;

use document::{FlowCount, FlowList};
use filter::{Filter, protocol_name};

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  secgroup flows list --interface eth0 --tier proven
  secgroup flows count --protocol udp
  secgroup flows flush --address 203.0.113.0/24

Exit code 3: nothing is attached, or the interface, rule or group does not exist.")]
pub(super) enum Command {
    /// List the live flows, with the rule that allowed each
    List {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        output: Output,
    },
    /// Count the live flows
    Count {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        output: Output,
    },
    /// Remove flows, all of them without a filter; their next packet needs a rule
    Flush {
        #[command(flatten)]
        filter: Filter,
    },
}

/// A live flow with its objects in the store.
struct LiveFlow<'a> {
    entry: FlowEntry,
    interface: &'a Interface,
    state: State,
    /// Seconds.
    idle: u64,
    /// Seconds to the idle timeout; 0 in the last one.
    left: u64,
    rule: Option<RuleName>,
    /// The rule was deleted; the flow outlives it, as in EC2.
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
        let control = context.control_reading()?;
        let model = control.model()?;
        let flows = live_flows(&control, &model, filter)?;
        match format {
            Format::Json => output::value(&FlowList::new(&flows)),
            Format::Table => print(&flows),
        }
    };
    list().context("flows list")?;
    Ok(Exit::Done)
}

fn count(context: &Context, filter: &Filter, format: Format) -> Result<Exit> {
    let count = || -> Result<usize> {
        let control = context.control_reading()?;
        let model = control.model()?;
        Ok(live_flows(&control, &model, filter)?.len())
    };
    let count = count().context("flows count")?;
    match format {
        Format::Json => output::value(&FlowCount::new(count))?,
        Format::Table => output::lines([count])?,
    }
    Ok(Exit::Done)
}

fn flush(context: &Context, filter: &Filter) -> Result<Exit> {
    let flush = || -> Result<u64> {
        let mut control = context.control_unsettled()?;
        let model = control.model()?;
        let filter = filter.check(&control, &model)?;
        control.flush(|entry| filter.matches(entry))
    };
    let removed = flush().context("flows flush")?;
    output::lines([format!("{removed} flows removed")])?;
    Ok(Exit::Done)
}

fn live_flows<'a>(
    control: &Control,
    model: &'a Model,
    filter: &Filter,
) -> Result<Vec<LiveFlow<'a>>> {
    let filter = filter.check(control, model)?;
    let maps = control.maps()?.ok_or(NothingAttached)?;
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
        // An expired entry that is not removed yet is no flow; the kernel ignores it, too.
        let Some(left) = u64::from(interface.timeout(state)).checked_sub(idle) else { continue };
        if !filter.matches(&entry) {
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
        flows.push(LiveFlow { entry, interface, state, idle, left, rule, rule_removed });
    }
    flows.sort_by_key(|known| {
        let FlowEntry { slot, protocol, inside, outside, inside_port, outside_port, .. } =
            known.entry;
        (slot, protocol, inside, inside_port, outside, outside_port)
    });
    Ok(flows)
}

fn endpoint(address: IpAddr, port: u16) -> String {
    match (address, port) {
        (_, 0) => address.to_string(),
        (IpAddr::V6(_), _) => format!("[{address}]:{port}"),
        _ => format!("{address}:{port}"),
    }
}

/// Inside and outside with their ports; of an ICMP query the identifier is the port of the end that
/// sent the request, and type and code that of the other.
fn endpoints(entry: &FlowEntry) -> [String; 2] {
    let Some((id, kind, code)) = entry.query() else {
        return [
            endpoint(entry.inside, entry.inside_port),
            endpoint(entry.outside, entry.outside_port),
        ];
    };
    let request = |address: IpAddr| format!("{address} {kind}/{code}");
    match entry.initiator() {
        Direction::Egress => [endpoint(entry.inside, id), request(entry.outside)],
        Direction::Ingress => [request(entry.inside), endpoint(entry.outside, id)],
    }
}

/// Addresses stay; the counters of packets and bytes are dropped first.
const COLUMNS: [Column; 13] = [
    Column::text("INTERFACE").dropped(9),
    Column::text("PROTOCOL").dropped(11),
    Column::text("INSIDE"),
    Column::text("OUTSIDE"),
    Column::text("OPENED BY").dropped(6),
    Column::text("STATE").dropped(10),
    Column::text("TIER").dropped(4),
    Column::number("IDLE").dropped(5),
    Column::number("LEFT").dropped(3),
    Column::text("PACKETS IN/OUT").dropped(2),
    Column::text("BYTES IN/OUT").dropped(1),
    Column::text("GROUP").dropped(7),
    Column::text("RULE").dropped(8),
];

fn print(flows: &[LiveFlow<'_>]) -> Result<()> {
    table(
        COLUMNS,
        flows.iter().map(|known| {
            let FlowEntry { flow, .. } = &known.entry;
            let rule = known.rule.as_ref();
            let [inside, outside] = endpoints(&known.entry);
            let note = if known.rule_removed { " (deleted)" } else { "" };
            [
                known.interface.label(),
                protocol_name(known.entry.protocol),
                inside,
                outside,
                known.entry.initiator().name().to_owned(),
                known.state.name().to_owned(),
                known.entry.tier().name().to_owned(),
                format!("{}s", known.idle),
                format!("{}s", known.left),
                format!("{}/{}", flow.packets[0], flow.packets[1]),
                format!("{}/{}", flow.bytes[0], flow.bytes[1]),
                rule.map_or_else(|| "-".to_owned(), |rule| rule.group_name.clone()),
                match rule {
                    Some(rule) => format!("{}{note}", rule.rule),
                    None if known.entry.is_learned() => "learned".to_owned(),
                    None if known.entry.is_exempt() => "exempt".to_owned(),
                    None if flow.rule == MANAGEMENT_RULE => "management".to_owned(),
                    None => "-".to_owned(),
                },
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::table;

    #[test]
    fn flows_with_long_names_and_ipv6_addresses_fit_into_100_characters() {
        let end = endpoint("2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff".parse().unwrap(), 65535);
        let count = format!("{}/{}", u64::MAX, u64::MAX);
        let row = [
            "namespace/interface-name0",
            "icmpv6",
            &end,
            &end,
            "ingress",
            "established",
            "proven",
            "432000s",
            "432000s",
            &count,
            &count,
            "a group with a long name",
            "sgr-0123456789abcdef0 (deleted)",
        ];
        let text = table::text(COLUMNS, vec![row.map(str::to_owned)], 100);
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        assert_eq!(text.matches(&end).count(), 2, "{text}");
    }
}
