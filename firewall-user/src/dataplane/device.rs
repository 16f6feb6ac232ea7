//! Network devices, as rtnetlink tells of them.

use std::net::IpAddr;
use std::pin::Pin;

use futures_util::{FutureExt, Stream, StreamExt, TryStreamExt};
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, XdpAttached,
};
use rtnetlink::{Handle, MulticastGroup};

use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::netns;

/// What we need to know of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The kernel's number, in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// `veth`, `tun`, `bridge` and so on; `None` for hardware.
    pub kind: Option<String>,
    /// The bus that hardware hangs on: `pci`, `virtio`, `usb`.
    pub bus: Option<String>,
    /// The device that it is a part of, a bridge or a bond.
    pub master: Option<u32>,
    /// Whether frames start with an Ethernet header.
    pub has_ethernet: bool,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// The program on its XDP hook, if any.
    pub xdp_program: Option<u32>,
    /// Whether that program runs in generic mode.
    pub xdp_is_generic: Option<bool>,
    /// Addresses that others can have seen: no link-local and no loopback ones.
    pub addresses: Vec<IpAddr>,
}

/// Finds a device by name in a network namespace.
///
/// # Errors
/// There is none of that name, or it is of a kind that carries neither Ethernet nor bare IP.
pub fn find(netns_name: Option<&str>, name: &str) -> Result<Device> {
    // What is missing then is not the device.
    netns_name.map(netns::open).transpose()?;
    lookup(netns_name, name)?.ok_or_else(|| {
        let place = netns_name.map_or_else(String::new, |ns| format!(" in namespace {ns}"));
        DataplaneError::not_found(
            format!("interface {name}: no such device{place}"),
            "`ip link` lists the devices; --netns names another network namespace",
        )
    })
}

/// Like [`find`]; `None` if there is no such device, or no such namespace any more.
///
/// # Errors
/// rtnetlink fails.
pub fn lookup(netns_name: Option<&str>, name: &str) -> Result<Option<Device>> {
    if netns_name.is_some_and(|ns| !netns::path(ns).exists()) {
        return Ok(None);
    }
    netns::within(netns_name, || netlink(async |handle| ask(&handle, name).await))
}

/// Talks to rtnetlink in the network namespace of this thread.
pub(super) fn netlink<T>(talk: impl AsyncFnOnce(Handle) -> Result<T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("start the netlink client")?;
    runtime.block_on(async {
        let (connection, handle, _) =
            rtnetlink::new_connection().context("open a netlink socket")?;
        let connection = tokio::spawn(connection);
        let said = talk(handle).await;
        connection.abort();
        said
    })
}

async fn ask(handle: &Handle, name: &str) -> Result<Option<Device>> {
    // A kernel interface name has at most 15 bytes; netlink answers ERANGE to a longer one.
    let answer = handle.link().get().match_name(name.to_owned()).execute().try_next().await;
    let message = match answer {
        Ok(Some(message)) => message,
        Ok(None) => return Ok(None),
        Err(rtnetlink::Error::NetlinkError(message))
            if matches!(message.raw_code().abs(), libc::ENODEV | libc::ERANGE) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error).context(format!("interface {name}: ask rtnetlink")),
    };
    let mut device = read(name, &message)?;
    let mut addresses =
        handle.address().get().set_link_index_filter(message.header.index).execute();
    while let Some(message) =
        addresses.try_next().await.context(format!("interface {name}: list addresses"))?
    {
        device.addresses.extend(own(&message.attributes).filter(|address| is_reachable(*address)));
    }
    device.addresses.sort();
    device.addresses.dedup();
    Ok(Some(device))
}

fn read(name: &str, message: &LinkMessage) -> Result<Device> {
    let has_ethernet = match message.header.link_layer_type {
        LinkLayerType::Ether | LinkLayerType::Loopback => true,
        // No header of their own: the frame is the IP packet.
        LinkLayerType::None
        | LinkLayerType::Ppp
        | LinkLayerType::Rawip
        | LinkLayerType::Tunnel
        | LinkLayerType::Tunnel6
        | LinkLayerType::Sit => false,
        other => {
            return Err(DataplaneError::new(
                format!("interface {name}: link layer {other:?} is neither Ethernet nor bare IP"),
                "secgroup guards Ethernet-like devices and IP tunnels",
            ));
        }
    };
    let mut device = Device {
        index: message.header.index,
        name: name.to_owned(),
        kind: None,
        bus: None,
        master: None,
        has_ethernet,
        mtu: 0,
        xdp_program: None,
        xdp_is_generic: None,
        addresses: Vec::new(),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => device.mtu = *mtu,
            LinkAttribute::Controller(master) => device.master = Some(*master),
            LinkAttribute::ParentDevBusName(bus) => device.bus = Some(bus.clone()),
            LinkAttribute::LinkInfo(infos) => {
                device.kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind_name(kind)),
                    _ => None,
                });
            }
            LinkAttribute::Xdp(xdp) => {
                (device.xdp_program, device.xdp_is_generic) = xdp_state(xdp);
            }
            _ => {}
        }
    }
    Ok(device)
}

fn kind_name(kind: &InfoKind) -> String {
    match kind {
        InfoKind::Other(name) => name.clone(),
        known => format!("{known:?}").to_lowercase(),
    }
}

/// The program of any mode and whether that is the generic one; with several modes at once, the
/// first that is told.
fn xdp_state(attributes: &[LinkXdp]) -> (Option<u32>, Option<bool>) {
    let mode = attributes.iter().find_map(|attribute| match attribute {
        LinkXdp::Attached(XdpAttached::None) => None,
        LinkXdp::Attached(mode) => Some(*mode == XdpAttached::SocketBuffer),
        _ => None,
    });
    let id = attributes.iter().find_map(|attribute| match attribute {
        LinkXdp::ProgId(id)
        | LinkXdp::DrvProgId(id)
        | LinkXdp::SkbProgId(id)
        | LinkXdp::HwProgId(id) => Some(*id),
        _ => None,
    });
    (id.filter(|_| mode.is_some()), mode)
}

/// Our own address in a message: `Local`, and where there is none, `Address`. With both, that one
/// is the other end's if the device is point-to-point.
fn own(attributes: &[AddressAttribute]) -> Option<IpAddr> {
    let local = attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    local.or(address)
}

fn is_reachable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_link_local() && !v4.is_loopback() && !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_unicast_link_local() && !v6.is_loopback() && !v6.is_unspecified(),
    }
}

/// Changes of devices and addresses in our network namespace, as they happen.
pub struct Changes {
    messages: Pin<Box<dyn Stream<Item = ()> + Send>>,
}

impl Changes {
    /// Subscribes. Has to be called within a tokio runtime.
    ///
    /// # Errors
    /// No netlink socket is to be had.
    pub fn open() -> Result<Self> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (connection, _, messages) =
            rtnetlink::new_multicast_connection(&groups).context("watch devices and addresses")?;
        tokio::spawn(connection);
        Ok(Self { messages: Box::pin(messages.map(drop)) })
    }

    /// Waits for a change, or for several that have come together.
    pub async fn next(&mut self) {
        if self.messages.next().await.is_none() {
            // The socket is gone; the caller's own clock has to do.
            std::future::pending::<()>().await;
        }
        while let Some(Some(())) = self.messages.next().now_or_never() {}
    }
}

impl Device {
    /// Whether packets that are routed by the device of this number go through it.
    #[must_use]
    pub fn carries(&self, index: u32) -> bool {
        index == self.index || Some(index) == self.master
    }

    /// Whether it is hardware of which a driver may run XDP before anything is allocated. virtio
    /// is not: like veth and tap it carries segments of 64 KB that native XDP would forbid.
    #[must_use]
    pub fn is_hardware(&self) -> bool {
        self.kind.is_none() && self.bus.as_deref().is_some_and(|bus| bus != "virtio")
    }
}
