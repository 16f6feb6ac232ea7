//! `secgroup acl entry`

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use firewall_ebpf::abi::interface::Direction;

use crate::cli::ends::EndOptions;
use crate::cli::safety::Safety;
use crate::cli::traffic::TrafficOptions;
use crate::cli::{Context, Exit, output};
use crate::model::check::acl_entry_number;
use crate::model::{AclEntry, Action, End, Error, Model, Peer, RuleSpec, Traffic, parse_cidr};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add an entry to a network ACL
    #[command(after_help = "\
Of the entries that match a packet, that with the lowest number decides. Network ACLs are stateless:
replies need entries too, of the other direction and for the ports of clients.

Examples:
  secgroup acl entry add web ingress 90 deny --protocol tcp --port 80 --cidr 192.0.2.0/24
  secgroup acl entry add web ingress 100 allow --protocol tcp --port 80 --cidr 0.0.0.0/0
  secgroup acl entry add web egress 100 allow --protocol tcp --port 32768-65535 --cidr 0.0.0.0/0
  secgroup acl entry add web ingress 50 deny --protocol all --prefix-list attackers --for 2h")]
    Add {
        #[command(flatten)]
        entry: Entry,
        /// Succeed if the network ACL has this entry with this number; with --for it may end at any time, with
        /// --until only at this one
        #[arg(long)]
        if_not_exists: bool,
        #[command(flatten)]
        safety: Safety,
    },
    /// Replace the entry of a network ACL that has this number
    #[command(after_help = "\
The new entry has another counter than the old one, unless only its end differs.

Example:
  secgroup acl entry replace web ingress 100 allow --protocol tcp --port 443 --cidr 0.0.0.0/0")]
    Replace {
        #[command(flatten)]
        entry: Entry,
        #[command(flatten)]
        safety: Safety,
    },
    /// Remove an entry from a network ACL
    #[command(after_help = "Example:\n  secgroup acl entry remove web ingress 100")]
    Remove {
        #[command(flatten)]
        place: Place,
        /// Succeed if the network ACL has no entry with this number
        #[arg(long)]
        if_exists: bool,
        #[command(flatten)]
        safety: Safety,
    },
}

/// An entry's place.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// Network ACL by id or name
    acl: String,
    /// Direction of the packets
    #[arg(value_enum)]
    direction: Direction,
    /// Number of the entry, 1 to 32766
    #[arg(allow_negative_numbers = true, value_parser = number)]
    number: i64,
}

/// Any number: that it is one of an entry is checked where the message can name the network ACL.
fn number(word: &str) -> Result<i64, String> {
    word.parse().map_err(|_| "1 to 32766".to_owned())
}

/// An entry.
#[derive(Debug, Args)]
#[command(
    mut_arg("protocol", |arg| arg.required(true)),
    mut_group("entry_peer", |group| group.required(true))
)]
pub(crate) struct Entry {
    #[command(flatten)]
    place: Place,
    /// What happens to the packets
    #[arg(value_enum)]
    action: Action,
    #[command(flatten)]
    traffic: TrafficOptions,
    #[command(flatten)]
    peer: PeerOptions,
    #[command(flatten)]
    ends: EndOptions,
}

#[derive(Debug, Args)]
#[group(id = "entry_peer", multiple = false)]
struct PeerOptions {
    /// Peer: IPv4 or IPv6 network
    #[arg(long, value_name = "CIDR")]
    cidr: Option<String>,
    /// Peer: the networks of this prefix list, by id or name
    #[arg(long, value_name = "PREFIX-LIST")]
    prefix_list: Option<String>,
}

/// An entry that is valid as far as can be checked without the store.
struct Parsed {
    place: (Direction, u16),
    action: Action,
    traffic: Traffic,
    /// `None`: that of the option.
    network: Option<Peer>,
    end: Option<End>,
}

impl Command {
    pub(crate) fn run(self, context: &Context) -> Result<Exit> {
        match self {
            Self::Add { entry, if_not_exists, safety } => {
                let what = |place: &Place| format!("add {} to", place.text());
                let what = format!("{} network ACL {}", what(&entry.place), entry.place.acl);
                entry.add(context, if_not_exists, safety).context(what)?;
                entry.note_network();
            }
            Self::Replace { entry, safety } => {
                let Place { acl, .. } = &entry.place;
                let what = format!("replace {} of network ACL {acl}", entry.place.text());
                entry.replace(context, safety).context(what)?;
                entry.note_network();
            }
            Self::Remove { place, if_exists, safety } => {
                let what = format!("remove {} from network ACL {}", place.text(), place.acl);
                place.remove(context, if_exists, safety).context(what)?;
            }
        }
        Ok(Exit::Done)
    }
}

impl Place {
    /// `ingress entry 100`
    fn text(&self) -> String {
        format!("{} entry {}", self.direction.name(), self.number)
    }

    fn parse(&self) -> Result<(Direction, u16), Error> {
        Ok((self.direction, acl_entry_number(self.number)?))
    }

    fn remove(&self, context: &Context, if_exists: bool, safety: Safety) -> Result<()> {
        let place = self.parse()?;
        safety.change(context, &format!("acl entry remove {}", self.acl), |change| {
            let acl = change.model().acl(&self.acl)?;
            if if_exists && !acl.entries.contains_key(&place) {
                return Ok(());
            }
            let id = acl.id.clone();
            Ok(change.remove_acl_entry(&id, place)?)
        })
    }
}

impl Entry {
    fn add(&self, context: &Context, if_not_exists: bool, safety: Safety) -> Result<()> {
        let parsed = self.parse()?;
        safety.change(context, &format!("acl entry add {}", self.place.acl), |change| {
            let model = change.model();
            let acl = model.acl(&self.place.acl)?;
            let entry = self.entry(&parsed, model)?;
            let exact = self.ends.is_until();
            if if_not_exists && model.check_same_entry(acl, parsed.place, &entry, exact)? {
                return Ok(());
            }
            let id = acl.id.clone();
            Ok(change.add_acl_entry(&id, parsed.place, entry)?)
        })
    }

    fn replace(&self, context: &Context, safety: Safety) -> Result<()> {
        let parsed = self.parse()?;
        safety.change(context, &format!("acl entry replace {}", self.place.acl), |change| {
            let id = change.model().acl(&self.place.acl)?.id.clone();
            let entry = self.entry(&parsed, change.model())?;
            Ok(change.replace_acl_entry(&id, parsed.place, entry)?)
        })
    }

    /// Checks everything that can be checked without the store.
    fn parse(&self) -> Result<Parsed> {
        let place = self.place.parse()?;
        let traffic = self.traffic.parse()?;
        let network = self.peer.cidr.as_deref().map(parse_cidr).transpose()?.map(Peer::from);
        if let Some(network) = &network {
            RuleSpec::new(place.0, traffic, network.clone())?;
        }
        Ok(Parsed { place, action: self.action, traffic, network, end: self.ends.end()? })
    }

    /// The entry, with the name of a prefix list turned into its id.
    fn entry(&self, parsed: &Parsed, model: &Model) -> Result<AclEntry, Error> {
        let Parsed { action, traffic, network, end, .. } = parsed;
        let peer = match network {
            Some(network) => network.clone(),
            None => {
                let word = self.peer.prefix_list.as_deref().unwrap_or_default();
                Peer::PrefixList(model.prefix_list(word)?.id.clone())
            }
        };
        Ok(AclEntry { number: 0, action: *action, traffic: *traffic, peer, end: *end })
    }

    /// Says that the network was stored in another form than it was given in.
    fn note_network(&self) {
        output::note_networks(self.peer.cidr.as_slice());
    }
}
