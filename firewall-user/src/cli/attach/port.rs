//! The options of `secgroup attach` about a guest's port.

use std::mem;

use anyhow::Result;
use clap::Args;
use firewall_ebpf::abi::interface::Orientation;
use ipnet::IpNet;

use super::Switch;
use crate::cli::failure::UsageError;
use crate::model::{Error, Interface, MacAddress, parse_own};

#[derive(Debug, Args)]
pub(super) struct PortArgs {
    /// Address or network on the protected end that the device does not have itself (a guest's): for rules
    /// with a group as peer, and for --source-dest-check; may be repeated; none: of no address
    /// [default: as attached before]
    #[arg(long = "address", value_name = "ADDRESS|CIDR")]
    addresses: Vec<String>,
    /// Address or network that a guest may use too (virtual addresses, containers or networks behind it),
    /// without being a member's for rules with a group as peer; may be repeated; none: no other address
    /// [default: as attached before]
    #[arg(long = "allow-address", value_name = "ADDRESS|CIDR")]
    allowed: Vec<String>,
    /// Whether a guest may use only its declared addresses: as source, in ARP and in neighbour discovery,
    /// and as destination of what it receives [default: on where addresses are declared, or as attached
    /// before]
    #[arg(long, value_enum)]
    source_dest_check: Option<Switch>,
    /// MAC address of a guest, the only source of its frames; none: any [default: none, or as attached
    /// before]
    #[arg(long, value_name = "MAC")]
    mac: Option<String>,
    /// Whether a guest may send router advertisements, redirects and messages of a DHCP server [default:
    /// off, or as attached before]
    #[arg(long, value_enum)]
    guest_router: Option<Switch>,
}

/// The word that removes what was declared before.
pub(super) const NONE: &str = "none";

/// The options about a guest's port, of which each that is not given leaves what was declared before.
pub(super) struct Port {
    addresses: Option<Vec<IpNet>>,
    allowed: Option<Vec<IpNet>>,
    mac: Option<Option<MacAddress>>,
    source_dest_check: Option<Switch>,
    router: Option<Switch>,
}

impl PortArgs {
    /// Reads addresses.
    pub(super) fn parse(&self) -> Result<Port> {
        let mac = |word: &String| match word.as_str() {
            NONE => Ok(None),
            word => word.parse().map(Some),
        };
        Ok(Port {
            addresses: networks(&self.addresses)?,
            allowed: networks(&self.allowed)?,
            mac: self.mac.as_ref().map(mac).transpose()?,
            source_dest_check: self.source_dest_check,
            router: self.guest_router,
        })
    }
}

fn networks(words: &[String]) -> Result<Option<Vec<IpNet>>, Error> {
    match words {
        [] => Ok(None),
        [word] if word == NONE => Ok(Some(Vec::new())),
        words => words.iter().map(|word| parse_own(word)).collect::<Result<_, _>>().map(Some),
    }
}

impl Port {
    /// Sets what is given. An option that would have no effect is refused.
    pub(super) fn apply(self, interface: &mut Interface) -> Result<()> {
        let Self { addresses, allowed, mac, source_dest_check, router } = self;
        let usage =
            |message: &str, hint| Err(UsageError { message: message.to_owned(), hint }.into());
        let given = [
            (allowed.as_ref().is_some_and(|networks| !networks.is_empty()), "--allow-address"),
            (mac.flatten().is_some(), "--mac"),
            (source_dest_check == Some(Switch::On), "--source-dest-check on"),
            (router == Some(Switch::On), "--guest-router on"),
        ];
        if interface.orientation == Orientation::Host
            && let Some((_, option)) = given.iter().find(|(is_given, _)| *is_given)
        {
            return usage(&format!("{option} is for guests"), "add --orientation guest");
        }
        interface.addresses = addresses.unwrap_or_else(|| mem::take(&mut interface.addresses));
        let port = &mut interface.port;
        port.allowed = allowed.unwrap_or_else(|| mem::take(&mut port.allowed));
        port.mac = mac.unwrap_or(port.mac);
        port.router = router.map_or(port.router, |switch| switch == Switch::On);
        port.source_dest_check =
            source_dest_check.map_or(port.source_dest_check, |switch| switch == Switch::On);
        if source_dest_check == Some(Switch::On) && !interface.checks_addresses() {
            return usage(
                "--source-dest-check on needs the addresses of the guest",
                "name them with --address",
            );
        }
        Ok(())
    }
}
