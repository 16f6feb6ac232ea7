//! Which way packets go, as the kernel's routing says.

use std::collections::BTreeMap;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};

use crate::dataplane::error::{Context, Result};
use crate::dataplane::netns;

/// The numbers of the devices by which packets leave, for each pair of an address of the host
/// (unspecified: any) and one of the other end; what has no route is left out.
///
/// # Errors
/// rtnetlink fails.
pub fn devices(
    netns_name: Option<&str>,
    pairs: impl IntoIterator<Item = (IpAddr, IpAddr)> + Send,
) -> Result<BTreeMap<(IpAddr, IpAddr), u32>> {
    netns::within(netns_name, || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .context("start the netlink client")?;
        runtime.block_on(ask(pairs))
    })
}

async fn ask(
    pairs: impl IntoIterator<Item = (IpAddr, IpAddr)>,
) -> Result<BTreeMap<(IpAddr, IpAddr), u32>> {
    let (connection, handle, _) = rtnetlink::new_connection().context("open a netlink socket")?;
    let connection = tokio::spawn(connection);
    let mut devices = BTreeMap::new();
    for (from, to) in pairs {
        let answer = handle.route().get(question(from, to)).execute().try_next().await;
        let device = match answer {
            Ok(Some(message)) => message.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Oif(index) => Some(*index),
                _ => None,
            }),
            // Unreachable, or not an address of ours: nothing leaves that way.
            Ok(None) | Err(rtnetlink::Error::NetlinkError(_)) => None,
            Err(error) => return Err(error).context(format!("route to {to}: ask rtnetlink")),
        };
        devices.extend(device.map(|index| ((from, to), index)));
    }
    connection.abort();
    Ok(devices)
}

fn question(from: IpAddr, to: IpAddr) -> RouteMessage {
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
