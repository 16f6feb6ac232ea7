//! The options for the traffic and the peer of a rule.

use anyhow::Result;
use clap::Args;
use firewall_ebpf::abi::interface::Direction;

use crate::cli::failure::UsageError;
use crate::cli::output;
use crate::cli::traffic::TrafficOptions;
use crate::model::{Error, Model, Peer, RuleSpec, Traffic, parse_cidr};

/// The traffic and the peer of a rule.
#[derive(Debug, Args)]
pub(super) struct Selector {
    #[command(flatten)]
    traffic: TrafficOptions,
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
        let Self { traffic, peer } = self;
        traffic.is_empty() && peer.is_empty()
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
        let traffic = self.traffic.parse()?;
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

fn usage<T>(message: String, hint: &'static str) -> Result<T> {
    Err(UsageError { message, hint }.into())
}
