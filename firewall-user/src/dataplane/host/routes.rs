//! Route lookups: the device by which packets to an address leave.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

use crate::dataplane::error::{Context, Result};
use crate::dataplane::host::netlink::Netlink;
use crate::dataplane::host::netns;

/// The indexes of the devices by which packets leave, for each pair of an address of the host
/// (unspecified: any) and one of the other end; pairs without a route are left out.
///
/// # Errors
/// rtnetlink fails.
pub fn devices(
    netns_name: Option<&str>,
    pairs: impl IntoIterator<Item = (IpAddr, IpAddr)> + Send,
) -> Result<BTreeMap<(IpAddr, IpAddr), u32>> {
    netns::within(netns_name, || {
        let client = Netlink::open(NETLINK_ROUTE).context("open a netlink socket")?;
        let mut devices = BTreeMap::new();
        for (from, to) in pairs {
            let device = device(&client, from, to)?;
            devices.extend(device.map(|index| ((from, to), index)));
        }
        Ok(devices)
    })
}

fn device(client: &Netlink, from: IpAddr, to: IpAddr) -> Result<Option<u32>> {
    match client.execute(RouteNetlinkMessage::GetRoute(request(from, to))) {
        Ok(Some(RouteNetlinkMessage::NewRoute(route))) => {
            Ok(route.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Oif(index) => Some(*index),
                _ => None,
            }))
        }
        Ok(_) => Ok(None),
        Err(error) if matches!(error.raw_os_error(), None | Some(libc::ENOBUFS | libc::ENOMEM)) => {
            Err(error).context(format_args!("route to {to}"))
        }
        // Unreachable, or `from` is no address of this host: nothing leaves that way.
        Err(_) => Ok(None),
    }
}

fn request(from: IpAddr, to: IpAddr) -> RouteMessage {
    let address = |address| match address {
        IpAddr::V4(v4) => RouteAddress::Inet(v4),
        IpAddr::V6(v6) => RouteAddress::Inet6(v6),
    };
    let mut message = RouteMessage::default();
    let (family, bits) =
        if to.is_ipv4() { (AddressFamily::Inet, 32) } else { (AddressFamily::Inet6, 128) };
    message.header.address_family = family;
    message.header.destination_prefix_length = bits;
    message.attributes = vec![RouteAttribute::Destination(address(to))];
    if !from.is_unspecified() {
        message.header.source_prefix_length = bits;
        message.attributes.push(RouteAttribute::Source(address(from)));
    }
    message
}
