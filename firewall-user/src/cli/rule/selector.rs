//! The options that say what a rule allows, and between whom.

use anyhow::Result;
use clap::Args;
use firewall_ebpf::interface::Direction;

use crate::cli::failure::Misuse;
use crate::model::{Error, Model, Peer, RuleSpec, Traffic, parse_cidr};

/// What a rule allows, and between whom.
#[derive(Debug, Args)]
pub(super) struct Selector {
    /// tcp, udp, icmp, icmpv6, all, or a number from 0 to 255
    #[arg(long, value_name = "PROTOCOL", allow_hyphen_values = true)]
    protocol: Option<String>,
    /// Destination port or ports of tcp and udp
    #[arg(long, value_name = "N|A-B", allow_hyphen_values = true)]
    port: Option<String>,
    /// ICMP type, and code if not every one; every type without it
    #[arg(long, value_name = "TYPE[/CODE]", allow_hyphen_values = true)]
    icmp: Option<String>,
    #[command(flatten)]
    peer: PeerOptions,
}

#[derive(Debug, Args)]
#[group(id = "peer", multiple = false)]
struct PeerOptions {
    /// IPv4 or IPv6 network; may be repeated, each makes a rule
    #[arg(long = "cidr", value_name = "CIDR")]
    cidrs: Vec<String>,
    /// Id or name of a group: the addresses of the interfaces in it
    #[arg(long = "group", value_name = "GROUP")]
    peer_group: Option<String>,
    /// Id or name of a prefix list
    #[arg(long, value_name = "PREFIX-LIST")]
    prefix_list: Option<String>,
}

/// A selector that means something, whatever the store holds.
#[derive(Debug)]
pub(super) struct Parsed {
    direction: Direction,
    traffic: Traffic,
    peers: Vec<Peer>,
    peer_group: Option<String>,
    prefix_list: Option<String>,
}

/// `ingress` or `egress`.
pub(super) fn direction(word: &str) -> Result<Direction, String> {
    Direction::ALL
        .into_iter()
        .find(|direction| direction.name() == word)
        .ok_or_else(|| "a direction is ingress or egress".to_owned())
}

impl Selector {
    /// Whether no option was given.
    pub(super) const fn is_empty(&self) -> bool {
        let Self { protocol, port, icmp, peer } = self;
        protocol.is_none() && port.is_none() && icmp.is_none() && peer.is_empty()
    }

    /// Checks everything that can be checked without the store.
    pub(super) fn parse(&self, direction: Direction) -> Result<Parsed> {
        if self.peer.is_empty() {
            return misuse("no peer is named".to_owned(), "use --cidr, --group or --prefix-list");
        }
        let traffic = self.traffic()?;
        let PeerOptions { cidrs, peer_group, prefix_list } = &self.peer;
        let peers = cidrs
            .iter()
            .map(|cidr| {
                let peer = Peer::from(parse_cidr(cidr)?);
                RuleSpec::new(direction, traffic, peer.clone())?;
                Ok(peer)
            })
            .collect::<Result<_, Error>>()?;
        Ok(Parsed {
            direction,
            traffic,
            peers,
            peer_group: peer_group.clone(),
            prefix_list: prefix_list.clone(),
        })
    }

    fn traffic(&self) -> Result<Traffic> {
        let Self { protocol, port, icmp, peer: _ } = self;
        let Some(protocol) = protocol else {
            return misuse("no protocol is named".to_owned(), "use --protocol");
        };
        // EC2's command line maps the word too; its API knows only the number.
        let word = protocol.to_ascii_lowercase();
        let protocol = if word == "all" { "-1" } else { &word };
        let is_icmp = matches!(protocol, "icmp" | "1" | "icmpv6" | "58");
        let has_ports = matches!(protocol, "tcp" | "6" | "udp" | "17");
        let (from, to) = match (port, icmp) {
            (Some(_), _) if is_icmp => {
                return misuse(format!("--port means nothing with {protocol}"), "use --icmp");
            }
            (Some(port), None) if has_ports => ports(port)?,
            (None, Some(icmp)) if is_icmp => kind_and_code(icmp)?,
            (None, None) if is_icmp => (Some(-1), Some(-1)),
            (None, None) => (None, None),
            (_, Some(_)) if has_ports => {
                return misuse(format!("--icmp means nothing with {protocol}"), "use --port");
            }
            // A protocol that does not exist is told before its options.
            _ => {
                Traffic::from_ec2(protocol, None, None)?;
                let option = if port.is_some() { "--port" } else { "--icmp" };
                return misuse(
                    format!("{option} means nothing with protocol {word}"),
                    "leave it out: such a rule covers the whole protocol",
                );
            }
        };
        Ok(Traffic::from_ec2(protocol, from, to)?)
    }
}

impl PeerOptions {
    const fn is_empty(&self) -> bool {
        let Self { cidrs, peer_group, prefix_list } = self;
        cidrs.is_empty() && peer_group.is_none() && prefix_list.is_none()
    }
}

impl Parsed {
    /// The rules, with names turned into ids.
    pub(super) fn specs(&self, model: &Model) -> Result<Vec<RuleSpec>, Error> {
        let Self { direction, traffic, peers, peer_group, prefix_list } = self;
        let mut peers = peers.clone();
        if let Some(word) = peer_group {
            peers.push(Peer::Group(model.group(word)?.id.clone()));
        }
        if let Some(word) = prefix_list {
            peers.push(Peer::PrefixList(model.prefix_list(word)?.id.clone()));
        }
        peers.into_iter().map(|peer| RuleSpec::new(*direction, *traffic, peer)).collect()
    }
}

type Ends = (Option<i64>, Option<i64>);

fn ports(text: &str) -> Result<Ends> {
    let number = |text: &str| plain_number(text);
    let ends = match text.split_once('-') {
        None => number(text).map(|port| (port, port)),
        Some((from, to)) => number(from).zip(number(to)),
    };
    match ends {
        Some((from, to)) => Ok((Some(from), Some(to))),
        None => misuse(
            format!("{text:?} is no port or range of ports"),
            "write for example 80 or 1024-65535",
        ),
    }
}

fn kind_and_code(text: &str) -> Result<Ends> {
    let number = |text: &str| if text == "-1" { Some(-1) } else { plain_number(text) };
    let both = match text.split_once('/') {
        None => number(text).map(|kind| (kind, -1)),
        Some((kind, code)) => number(kind).zip(number(code)),
    };
    match both {
        Some((kind, code)) => Ok((Some(kind), Some(code))),
        None => misuse(
            format!("{text:?} is no ICMP type or type/code"),
            "write for example 8 (echo request) or 3/4 (fragmentation needed)",
        ),
    }
}

/// Digits only: `parse` would take a sign too.
fn plain_number(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn misuse<T>(message: String, hint: &'static str) -> Result<T> {
    Err(Misuse { message, hint }.into())
}
