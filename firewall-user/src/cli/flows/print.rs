//! The flows as tables and lines.

use std::net::IpAddr;

use anyhow::Result;
use firewall_ebpf::abi::interface::Direction;

use crate::cli::output::{self, short_time as time};
use crate::cli::table::{Column, table};
use crate::dataplane::flows::list::FlowEntry;
use crate::observe::flows::totals::{Rate, Top, Total};
use crate::observe::flows::{Admitted, Change, Kind, LiveFlow};
use crate::observe::query::protocol_name;

fn endpoint(address: IpAddr, port: u16) -> String {
    match (address, port) {
        (_, 0) => address.to_string(),
        (IpAddr::V6(_), _) => format!("[{address}]:{port}"),
        _ => format!("{address}:{port}"),
    }
}

/// Inside and outside with their ports; of an ICMP query the identifier is the port of the end that
/// sent the request, and type and code that of the other.
pub(super) fn endpoints(entry: &FlowEntry) -> [String; 2] {
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

fn group(flow: &LiveFlow) -> String {
    flow.rule().map_or_else(|| "-".to_owned(), |rule| rule.group_name.clone())
}

fn service(flow: &LiveFlow) -> String {
    output::or_dash(flow.service().unwrap_or_default())
}

/// Addresses stay; the counters of packets are dropped first.
const COLUMNS: [Column; 15] = [
    Column::text("INTERFACE").dropped(10),
    Column::text("PROTOCOL").dropped(13),
    Column::text("SERVICE").dropped(5),
    Column::text("INSIDE"),
    Column::text("OUTSIDE"),
    Column::text("OPENED BY").dropped(7),
    Column::text("STATE").dropped(11),
    Column::text("TIER").dropped(4),
    Column::number("AGE").dropped(6),
    Column::number("IDLE").dropped(8),
    Column::number("LEFT").dropped(3),
    Column::text("PACKETS IN/OUT").dropped(1),
    Column::text("BYTES IN/OUT").dropped(2),
    Column::text("GROUP").dropped(12),
    Column::text("RULE").dropped(9),
];

fn row(known: &LiveFlow) -> [String; 15] {
    let FlowEntry { flow, .. } = &known.entry;
    let [inside, outside] = endpoints(&known.entry);
    [
        known.place.label.clone(),
        protocol_name(known.entry.protocol),
        service(known),
        inside,
        outside,
        known.entry.initiator().name().to_owned(),
        known.state.name().to_owned(),
        known.entry.tier().name().to_owned(),
        time(known.age),
        time(known.idle),
        time(known.left),
        format!("{}/{}", flow.packets[0], flow.packets[1]),
        format!("{}/{}", flow.bytes[0], flow.bytes[1]),
        group(known),
        admitted(known),
    ]
}

/// Prints flows.
pub(in crate::cli) fn list(flows: &[LiveFlow]) -> Result<()> {
    table(COLUMNS, flows.iter().map(row))
}

/// Prints sums.
pub(in crate::cli) fn totals(header: &'static str, totals: &[Total]) -> Result<()> {
    let columns = [
        Column::text(header),
        Column::number("FLOWS"),
        Column::number("PACKETS IN"),
        Column::number("PACKETS OUT"),
        Column::number("BYTES IN"),
        Column::number("BYTES OUT"),
    ];
    table(
        columns,
        totals.iter().map(|total| {
            let [packets_in, packets_out] = total.packets_of().map(|count| count.to_string());
            let [bytes_in, bytes_out] = total.bytes_of().map(|count| count.to_string());
            let flows = total.flows.to_string();
            [total.key.clone(), flows, packets_in, packets_out, bytes_in, bytes_out]
        }),
    )
}

/// Bits each second of a rate in bytes, with three or four digits.
fn bits(bytes_per_second: f64) -> String {
    let mut bits = bytes_per_second * 8.0;
    for unit in ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"] {
        if bits < 1000.0 {
            return if bits < 10.0 && bits > 0.0 {
                format!("{bits:.1} {unit}")
            } else {
                format!("{bits:.0} {unit}")
            };
        }
        bits /= 1000.0;
    }
    format!("{bits:.1} Tbit/s")
}

fn packets(per_second: f64) -> String {
    if per_second < 10.0 && per_second > 0.0 {
        return format!("{per_second:.1}");
    }
    format!("{per_second:.0}")
}

/// Bits in and out, and packets in and out, each second.
fn rates(rate: &Rate) -> [String; 3] {
    [
        bits(rate.ingress_bytes_per_second),
        bits(rate.egress_bytes_per_second),
        format!(
            "{}/{}",
            packets(rate.ingress_packets_per_second),
            packets(rate.egress_packets_per_second)
        ),
    ]
}

/// Prints rates, with a line of their sum first.
pub(super) fn top(header: &'static str, top: &Top) -> Result<()> {
    let [bits_in, bits_out, packets] = rates(&Rate::of(top.packets, top.bytes, top.interval));
    output::lines([format!(
        "in {:.1} s: in {bits_in}, out {bits_out}, packets/s in/out {packets}",
        top.interval.as_secs_f64()
    )])?;
    if !top.by.is_empty() {
        let columns = [
            Column::text(header),
            Column::number("FLOWS"),
            Column::number("IN"),
            Column::number("OUT"),
            Column::number("PACKETS/S IN/OUT"),
        ];
        return table(
            columns,
            top.by.iter().map(|total| {
                let rate = Rate::of(total.packets_of(), total.bytes_of(), top.interval);
                let [bits_in, bits_out, packets] = rates(&rate);
                [total.key.clone(), total.flows.to_string(), bits_in, bits_out, packets]
            }),
        );
    }
    table(
        [
            Column::text("INTERFACE").dropped(4),
            Column::text("PROTOCOL").dropped(5),
            Column::text("SERVICE").dropped(3),
            Column::text("INSIDE"),
            Column::text("OUTSIDE"),
            Column::number("IN"),
            Column::number("OUT"),
            Column::number("PACKETS/S IN/OUT").dropped(6),
            Column::text("GROUP").dropped(2),
            Column::text("RULE").dropped(1),
        ],
        top.flows.iter().map(|one| {
            let flow = &one.flow;
            let [inside, outside] = endpoints(&flow.entry);
            let [bits_in, bits_out, packets] =
                rates(&Rate::of(one.packets, one.bytes, top.interval));
            [
                flow.place.label.clone(),
                protocol_name(flow.entry.protocol),
                service(flow),
                inside,
                outside,
                bits_in,
                bits_out,
                packets,
                group(flow),
                admitted(flow),
            ]
        }),
    )
}

/// The line of a flow that began or ended; `None` of one that did neither.
pub(super) fn event(change: &Change) -> Option<String> {
    let word = match change.kind {
        Kind::New => "new  ",
        Kind::Ended => "ended",
        Kind::Existing | Kind::Continued => return None,
    };
    let flow = &change.flow;
    let [inside, outside] = endpoints(&flow.entry);
    let (from, to) = match flow.entry.initiator() {
        Direction::Ingress => (outside, inside),
        Direction::Egress => (inside, outside),
    };
    let mut line = format!(
        "{word} {} {} {} {from} > {to}",
        flow.place.label,
        flow.entry.initiator().name(),
        protocol_name(flow.entry.protocol),
    );
    if let Some(service) = flow.service() {
        line += &format!(" ({service})");
    }
    line += &format!(" {} {} {}", flow.state.name(), group(flow), admitted(flow));
    if change.kind == Kind::Ended {
        let counters = &flow.entry.flow;
        line += &format!(
            " after {}: packets {}/{}, bytes {}/{}",
            time(flow.age),
            counters.packets[0],
            counters.packets[1],
            counters.bytes[0],
            counters.bytes[1]
        );
    }
    Some(line)
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
            "neighbor-solicitation",
            &end,
            &end,
            "ingress",
            "established",
            "proven",
            "5d",
            "5d",
            "5d",
            &count,
            &count,
            "a group with a long name",
            "sgr-0123456789abcdef0 (deleted)",
        ];
        let text = table::text(COLUMNS, vec![row.map(str::to_owned)], 100);
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        assert_eq!(text.matches(&end).count(), 2, "{text}");
    }

    #[test]
    fn rates_and_times_have_one_unit() {
        for (bytes, text) in [
            (0.0, "0 bit/s"),
            (0.5, "4.0 bit/s"),
            (100.0, "800 bit/s"),
            (1000.0, "8.0 kbit/s"),
            (12_500_000.0, "100 Mbit/s"),
            (1_250_000_000.0, "10 Gbit/s"),
        ] {
            assert_eq!(bits(bytes), text);
        }
        for (seconds, text) in
            [(0, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (172_800, "2d")]
        {
            assert_eq!(time(seconds), text);
        }
    }
}
