//! What is blocked and unblocked, as it is given.

use std::collections::BTreeSet;
use std::io;

use anyhow::{Context as _, Result};
use clap::Args;
use ipnet::IpNet;

use crate::cli::failure::UsageError;
use crate::cli::interfaces::Named;
use crate::dataplane::Pins;
use crate::model::{InterfaceId, Model, Peer, parse_target};

/// Targets that a message names; of more there is a number.
const NAMED: usize = 5;

/// The word for standard input.
const INPUT: &str = "-";

/// Addresses that one command takes: more belong into a prefix list, which has one counter.
const MOST: usize = 100_000;

/// The targets, and where.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct Targets {
    /// Address or network; - reads them from standard input, one a line, with # and ; comments
    #[arg(value_name = "ADDRESS|CIDR")]
    words: Vec<String>,
    /// Prefix list by id or name: every network in it, also those that it gets later; may be repeated
    #[arg(long = "prefix-list", value_name = "PREFIX-LIST")]
    lists: Vec<String>,
    /// Only on this interface: a network device, of another network namespace as NAMESPACE/DEVICE; may be
    /// repeated [default: every interface]
    #[arg(long = "interface", value_name = "IFACE")]
    interfaces: Vec<String>,
}

/// Where a block is: on an interface, or on all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Place(pub(in crate::cli) Option<InterfaceId>);

/// Targets that were read.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Parsed {
    networks: Vec<IpNet>,
    lists: Vec<String>,
}

impl Targets {
    /// A command with them as they were given, for messages.
    pub(in crate::cli) fn text(&self, command: &str) -> String {
        let lists = self.lists.iter().map(|list| format!("prefix list {list}"));
        let mut all: Vec<_> = self.words.iter().cloned().chain(lists).collect();
        if all.is_empty() {
            return command.to_owned();
        }
        if all.len() > NAMED {
            let more = all.len() - NAMED;
            all.truncate(NAMED);
            all.push(format!("{more} more"));
        }
        format!("{command} {}", all.join(", "))
    }

    /// Whether standard input is read.
    pub(in crate::cli) fn reads_input(&self) -> bool {
        self.words.iter().any(|word| word == INPUT)
    }

    /// Whether no target is given.
    pub(in crate::cli) const fn is_empty(&self) -> bool {
        self.words.is_empty() && self.lists.is_empty()
    }

    /// Whether an interface is named.
    pub(in crate::cli) const fn has_interfaces(&self) -> bool {
        !self.interfaces.is_empty()
    }

    /// Reads them; each once.
    pub(in crate::cli) fn parse(&self) -> Result<Parsed> {
        let mut networks = Vec::new();
        for word in &self.words {
            if word == INPUT {
                read(io::stdin().lock(), &mut networks)?;
            } else {
                networks.push(parse_target(word)?);
            }
        }
        let mut seen = BTreeSet::new();
        networks.retain(|network| seen.insert(*network));
        if networks.len() > MOST {
            return Err(UsageError {
                message: format!("there are {} addresses, and the limit is {MOST}", networks.len()),
                hint: "`secgroup prefix-list load` makes a list of them, and `secgroup block --prefix-list` \
                       blocks it",
            }
            .into());
        }
        Ok(Parsed { networks, lists: self.lists.clone() })
    }

    /// The interfaces that are named; all, as one place, if none is.
    pub(in crate::cli) fn places(&self, pins: &Pins, model: &Model) -> Result<Vec<Place>> {
        if self.interfaces.is_empty() {
            return Ok(vec![Place(None)]);
        }
        let mut places = Vec::new();
        for word in &self.interfaces {
            let id = Named::new(word, None)?.of(pins, model)?.id.clone();
            if !places.contains(&Place(Some(id.clone()))) {
                places.push(Place(Some(id)));
            }
        }
        Ok(places)
    }
}

impl Parsed {
    pub(in crate::cli) const fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.lists.is_empty()
    }

    /// The targets, with names turned into ids.
    pub(in crate::cli) fn peers(&self, model: &Model) -> Result<Vec<Peer>> {
        let mut peers: Vec<_> = self.networks.iter().copied().map(Peer::from).collect();
        for word in &self.lists {
            let peer = Peer::PrefixList(model.prefix_list(word)?.id.clone());
            if !peers.contains(&peer) {
                peers.push(peer);
            }
        }
        Ok(peers)
    }
}

/// Reads an address or network a line; what follows `#` or `;` is a comment.
fn read(input: impl io::BufRead, networks: &mut Vec<IpNet>) -> Result<()> {
    for (index, line) in input.lines().enumerate() {
        let place = || format!("line {} of standard input", index + 1);
        let line = line.with_context(place)?;
        let line = line.strip_prefix('\u{feff}').filter(|_| index == 0).unwrap_or(&line);
        let word = line.split(['#', ';']).next().unwrap_or_default().trim();
        if !word.is_empty() {
            networks.push(parse_target(word).with_context(place)?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_addresses_comments_and_any_end() {
        let text = "\u{feff}# list\r\n192.0.2.7\r\n\n  2001:db8::/32 ; SBL1\n192.0.2.0/24#x\n;\n";
        let mut networks = Vec::new();
        read(text.as_bytes(), &mut networks).unwrap();
        let texts: Vec<_> = networks.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["192.0.2.7/32", "2001:db8::/32", "192.0.2.0/24"]);
        let error = read("192.0.2.7\nlocalhost\n".as_bytes(), &mut networks).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "line 2 of standard input: \"localhost\" is not an IP address or network"
        );
    }
}
