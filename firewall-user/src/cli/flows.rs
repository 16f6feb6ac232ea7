//! `secgroup flows`

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use clap::Subcommand;
use firewall_ebpf::abi::interface::Direction;

use super::output::{self, Format, Output};
use super::table::{Column, table};
use super::{Context, Exit};
use crate::control::Control;
use crate::dataplane::flows::list::FlowEntry;
use crate::model::Model;
use crate::observe::flows::document::{FlowCount, FlowList};
use crate::observe::flows::{Admitted, LiveFlow, live_flows};

mod filter;

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
        let flows = chosen(&control, &model, filter)?;
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
        Ok(chosen(&control, &model, filter)?.len())
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

fn chosen(control: &Control, model: &Model, filter: &Filter) -> Result<Vec<LiveFlow>> {
    let filter = filter.check(control, model)?;
    live_flows(control, model, |flow| filter.matches(&flow.entry))
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

/// The rule's id, or what admitted the flow instead.
fn admitted(flow: &LiveFlow) -> String {
    match &flow.admitted {
        Admitted::Rule { name, is_removed: true } => {
            format!("{} (deleted)", name.security_group_rule_id)
        }
        Admitted::Rule { name, .. } => name.security_group_rule_id.clone(),
        Admitted::Learned => "learned".to_owned(),
        Admitted::Exempt => "exempt".to_owned(),
        Admitted::Management => "management".to_owned(),
        Admitted::Unknown => "-".to_owned(),
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

fn print(flows: &[LiveFlow]) -> Result<()> {
    table(
        COLUMNS,
        flows.iter().map(|known| {
            let FlowEntry { flow, .. } = &known.entry;
            let [inside, outside] = endpoints(&known.entry);
            [
                known.place.label.clone(),
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
                known.rule().map_or_else(|| "-".to_owned(), |rule| rule.group_name.clone()),
                admitted(known),
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
