//! The options for the traffic and the peer of a rule.

use anyhow::Result;
use clap::Args;
use firewall_ebpf::abi::interface::Direction;

use crate::cli::failure::UsageError;
use crate::cli::output;
use crate::model::{Error, Model, Peer, RuleSpec, Traffic, parse_cidr};

/// The traffic and the peer of a rule.
#[derive(Debug, Args)]
pub(super) struct Selector {
    /// IP protocol: tcp, udp, icmp, icmpv6, all, or a number from 0 to 255
    #[arg(long, value_name = "PROTOCOL", allow_hyphen_values = true)]
    protocol: Option<String>,
    /// Destination port, or first and last port, of tcp or udp
    #[arg(long, value_name = "N|A-B", allow_hyphen_values = true)]
    port: Option<String>,
    /// ICMP type, or type and code, of icmp or icmpv6 [default: every type]
    #[arg(long, value_name = "TYPE[/CODE]", allow_hyphen_values = true)]
    icmp: Option<String>,
    #[command(flatten)]
    peer: PeerOptions,
}

#[derive(Debug, Args)]
#[group(id = "peer", multiple = false)]
struct PeerOptions {
    /// Peer: IPv4 or IPv6 network; may be repeated, and makes a rule for each
    #[arg(long = "cidr", value_name = "CIDR")]
    cidrs: Vec<String>,
    /// Peer: the addresses of the interfaces with this group, by id or name
    #[arg(long = "group", value_name = "GROUP")]
    peer_group: Option<String>,
    /// Peer: the networks of this prefix list, by id or name
    #[arg(long, value_name = "PREFIX-LIST")]
    prefix_list: Option<String>,
}

/// A selector that is valid as far as can be checked without the store.
#[derive(Debug)]
pub(super) struct Parsed {
    direction: Direction,
    traffic: Traffic,
    peers: Vec<Peer>,
    peer_group: Option<String>,
    prefix_list: Option<String>,
}

impl Selector {
    /// Whether no option was given.
    pub(super) const fn is_empty(&self) -> bool {
        let Self { protocol, port, icmp, peer } = self;
        protocol.is_none() && port.is_none() && icmp.is_none() && peer.is_empty()
    }

    /// As [`Self::parse`], of a rule to be added: its traffic exists in the family of its peer. A document
    /// may have others.
    pub(super) fn parse_new(&self, direction: Direction) -> Result<Parsed> {
        let parsed = self.parse(direction)?;
        for peer in &parsed.peers {
            RuleSpec::new(direction, parsed.traffic, peer.clone())?;
        }
        Ok(parsed)
    }

    /// Checks everything that can be checked without the store.
    pub(super) fn parse(&self, direction: Direction) -> Result<Parsed> {
        if self.peer.is_empty() {
            return usage("the peer is missing".to_owned(), "use --cidr, --group or --prefix-list");
        }
        let traffic = self.traffic()?;
        let PeerOptions { cidrs, peer_group, prefix_list } = &self.peer;
        let peers = cidrs
            .iter()
            .map(|cidr| parse_cidr(cidr).map(Peer::from))
            .collect::<Result<_, Error>>()?;
        Ok(Parsed {
            direction,
            traffic,
            peers,
            peer_group: peer_group.clone(),
            prefix_list: prefix_list.clone(),
        })
    }

    /// Says which networks were stored in another form than they were given in.
    pub(super) fn note_networks(&self) {
        output::note_networks(&self.peer.cidrs);
    }

    fn traffic(&self) -> Result<Traffic> {
        let Self { protocol, port, icmp, peer: _ } = self;
        let Some(protocol) = protocol else {
            return usage("the protocol is missing".to_owned(), "use --protocol");
        };
        // As in the AWS CLI; the EC2 API has only the number.
        let word = protocol.to_ascii_lowercase();
        let protocol = if word == "all" { "-1" } else { &word };
        let is_icmp = matches!(protocol, "icmp" | "1" | "icmpv6" | "58");
        let has_ports = matches!(protocol, "tcp" | "6" | "udp" | "17");
        let (from, to) = match (port, icmp) {
            (Some(_), _) if is_icmp => {
                return usage(
                    format!("--port cannot be used with protocol {protocol}"),
                    "use --icmp",
                );
            }
            (Some(port), None) if has_ports => ports(port)?,
            (None, Some(icmp)) if is_icmp => kind_and_code(icmp)?,
            (None, None) if is_icmp => (Some(-1), Some(-1)),
            (None, None) => (None, None),
            (_, Some(_)) if has_ports => {
                return usage(
                    format!("--icmp cannot be used with protocol {protocol}"),
                    "use --port",
                );
            }
            // An unknown protocol is reported before its options.
            _ => {
                Traffic::from_ec2(protocol, None, None)?;
                let option = if port.is_some() { "--port" } else { "--icmp" };
                return usage(
                    format!("{option} cannot be used with protocol {word}"),
                    "leave it out: a rule for this protocol has no ports and types",
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
        let spec = |peer| RuleSpec { direction: *direction, traffic: *traffic, peer };
        Ok(peers.into_iter().map(spec).collect())
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
        None => usage(
            format!("{text:?} is not a port or a range of ports"),
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
        None => usage(
            format!("{text:?} is not an ICMP type or type/code"),
            "write for example 8 (echo request) or 3/4 (fragmentation needed)",
        ),
    }
}

/// Digits only: `parse` accepts a sign, too.
fn plain_number(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn usage<T>(message: String, hint: &'static str) -> Result<T> {
    Err(UsageError { message, hint }.into())
}
