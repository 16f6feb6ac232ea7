//! Network devices, by rtnetlink.

use std::io;
use std::net::IpAddr;

use firewall_ebpf::abi::interface::Orientation;
use netlink_packet_core::DefaultNla;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, Prop, XdpAttached,
};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket};
use tokio::runtime::Handle;

use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::host::netlink::Netlink;
use crate::dataplane::host::netns;
use crate::model::{MacAddress, label};

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The kernel's interface index, in its namespace.
    pub index: u32,
    /// The named network namespace that it is in; `None`: that of this process.
    pub netns: Option<String>,
    /// Its name, also where it was found by an alternative one.
    pub name: String,
    /// Its alternative names (`ip link property add … altname`).
    pub altnames: Vec<String>,
    /// `veth`, `tun`, `bridge` and so on; `None` for hardware.
    pub kind: Option<String>,
    /// The bus of hardware: `pci`, `virtio`, `usb`.
    pub bus: Option<String>,
    /// The index of the bridge or bond that it is a port of.
    pub master: Option<u32>,
    /// Whether frames start with an Ethernet header.
    pub has_ethernet: bool,
    /// Its link layer, if that is neither Ethernet nor bare IP.
    pub unsupported: Option<Box<str>>,
    /// Its MAC address; `None` if it has no Ethernet header.
    pub mac: Option<MacAddress>,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// The id of the program on its XDP hook, if any.
    pub xdp_program: Option<u32>,
    /// Whether that program runs in generic mode.
    pub xdp_is_generic: Option<bool>,
    /// Its addresses, without link-local and loopback ones.
    pub addresses: Vec<IpAddr>,
}

/// Finds a device by its name or an alternative one in a network namespace.
///
/// # Errors
/// There is none of that name.
pub fn find(netns_name: Option<&str>, name: &str) -> Result<Device> {
    // A missing namespace is reported as such, not as a missing device.
    netns_name.map(netns::open).transpose()?;
    lookup(netns_name, name)?.ok_or_else(|| {
        let place = netns_name.map_or_else(String::new, |ns| format!(" in namespace {ns}"));
        DataplaneError::not_found(
            format!("interface {name}: no such device{place}"),
            "`ip link` lists the devices; --netns names another network namespace",
        )
    })
}

/// As [`find`]; `None` if the device or its namespace does not exist.
///
/// # Errors
/// rtnetlink fails.
pub fn lookup(netns_name: Option<&str>, name: &str) -> Result<Option<Device>> {
    if netns_name.is_some_and(|ns| !netns::path(ns).exists()) {
        return Ok(None);
    }
    netns::within(netns_name, || {
        let client = Netlink::open(NETLINK_ROUTE).context("open a netlink socket")?;
        let Some(link) = link_named(&client, name)? else { return Ok(None) };
        complete(&client, netns_name, &link).map(Some)
    })
}

/// The device with this index in a network namespace; `None` if neither exists.
///
/// # Errors
/// rtnetlink fails.
pub fn with_index(netns_name: Option<&str>, index: u32) -> Result<Option<Device>> {
    if netns_name.is_some_and(|ns| !netns::path(ns).exists()) {
        return Ok(None);
    }
    netns::within(netns_name, || {
        let client = Netlink::open(NETLINK_ROUTE).context("open a netlink socket")?;
        let Some(link) = link_at(&client, index)? else { return Ok(None) };
        complete(&client, netns_name, &link).map(Some)
    })
}

/// The devices of this process' network namespace that have an address.
///
/// # Errors
/// rtnetlink fails.
pub fn with_address(address: IpAddr) -> Result<Vec<Device>> {
    let client = Netlink::open(NETLINK_ROUTE).context("open a netlink socket")?;
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let mut indexes = Vec::new();
    for reply in client.dump_known(request).context("list addresses")? {
        if let RouteNetlinkMessage::NewAddress(message) = reply
            && own_address(&message.attributes) == Some(address)
            && !indexes.contains(&message.header.index)
        {
            indexes.push(message.header.index);
        }
    }
    let mut devices = Vec::new();
    for index in indexes {
        let link = link_at(&client, index)?;
        devices.extend(link.map(|link| complete(&client, None, &link)).transpose()?);
    }
    Ok(devices)
}

/// The id of the program on the XDP hook of a device of this thread's network namespace.
pub(in crate::dataplane) fn xdp_program(index: u32) -> Result<Option<u32>> {
    let client = Netlink::open(NETLINK_ROUTE).context("open a netlink socket")?;
    let link = link_at(&client, index)?;
    Ok(link.and_then(|link| {
        link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Xdp(xdp) => xdp_state(xdp).0,
            _ => None,
        })
    }))
}

fn link_named(client: &Netlink, name: &str) -> Result<Option<LinkMessage>> {
    let mut request = LinkMessage::default();
    // Either is compared with names and with alternative names, but only the second may be long.
    request.attributes.push(if name.len() < libc::IFNAMSIZ {
        LinkAttribute::IfName(name.to_owned())
    } else {
        let text = [name.as_bytes(), &[0]].concat();
        LinkAttribute::Other(DefaultNla::new(libc::IFLA_ALT_IFNAME, text))
    });
    get(client, request, name)
}

fn link_at(client: &Netlink, index: u32) -> Result<Option<LinkMessage>> {
    let mut request = LinkMessage::default();
    request.header.index = index;
    get(client, request, &index.to_string())
}

fn get(client: &Netlink, request: LinkMessage, name: &str) -> Result<Option<LinkMessage>> {
    match client.execute(RouteNetlinkMessage::GetLink(request)) {
        Ok(Some(RouteNetlinkMessage::NewLink(link))) => Ok(Some(link)),
        Ok(_) => Ok(None),
        // The kernel refuses a name that is longer than any can be with ERANGE.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ERANGE)) => Ok(None),
        Err(error) => Err(error).context(format_args!("interface {name}: get its link")),
    }
}

/// The device of a link, with its addresses.
fn complete(client: &Netlink, netns_name: Option<&str>, link: &LinkMessage) -> Result<Device> {
    let mut device = read(netns_name, link);
    let name = device.name.clone();
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let addresses = client.dump_known(request);
    for reply in addresses.context(format_args!("interface {name}: list addresses"))? {
        if let RouteNetlinkMessage::NewAddress(address) = reply
            && address.header.index == device.index
        {
            device
                .addresses
                .extend(own_address(&address.attributes).filter(|one| is_reachable(*one)));
        }
    }
    device.addresses.sort();
    device.addresses.dedup();
    Ok(device)
}

fn read(netns_name: Option<&str>, message: &LinkMessage) -> Device {
    let name = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    });
    let name = name.unwrap_or_default();
    let mut unsupported = None;
    let has_ethernet = match message.header.link_layer_type {
        LinkLayerType::Ether | LinkLayerType::Loopback => true,
        // No link-layer header: the frame is the IP packet.
        LinkLayerType::None
        | LinkLayerType::Ppp
        | LinkLayerType::Rawip
        | LinkLayerType::Tunnel
        | LinkLayerType::Tunnel6
        | LinkLayerType::Sit => false,
        other => {
            unsupported = Some(format!("{other:?}").into());
            false
        }
    };
    let mut device = Device {
        index: message.header.index,
        netns: netns_name.map(str::to_owned),
        name,
        altnames: Vec::new(),
        kind: None,
        bus: None,
        master: None,
        has_ethernet,
        unsupported,
        mac: None,
        mtu: 0,
        xdp_program: None,
        xdp_is_generic: None,
        addresses: Vec::new(),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => device.mtu = *mtu,
            LinkAttribute::Address(address) if has_ethernet => {
                device.mac = <[u8; 6]>::try_from(&address[..]).ok().map(MacAddress);
            }
            LinkAttribute::PropList(properties) => {
                device.altnames.extend(properties.iter().filter_map(|property| match property {
                    Prop::AltIfName(name) => Some(name.clone()),
                    _ => None,
                }));
            }
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
    device
}

fn kind_name(kind: &InfoKind) -> String {
    match kind {
        InfoKind::Other(name) => name.clone(),
        known => format!("{known:?}").to_lowercase(),
    }
}

/// The program's id and whether it runs in generic mode; with several modes at once, those of the
/// first in the message.
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

/// The device's own address in a message: `Local`, and where there is none, `Address`. With both,
/// `Address` is the other end's if the device is point-to-point.
fn own_address(attributes: &[AddressAttribute]) -> Option<IpAddr> {
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

/// Notifications of changed devices, addresses and filters in one network namespace.
pub struct Changes {
    socket: TokioSocket,
}

impl Changes {
    /// Subscribes in a network namespace (`None`: the current one). Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the netlink socket cannot be opened.
    pub fn open(netns_name: Option<&str>) -> Result<Self> {
        /// Qdiscs and filters (`RTMGRP_TC`).
        const TC: i32 = 8;
        const GROUPS: i32 =
            libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR | TC;
        let runtime = Handle::current();
        // A socket stays in the namespace of the thread that opened it.
        netns::within(netns_name, || {
            let _entered = runtime.enter();
            let open = || -> io::Result<_> {
                let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
                socket.socket_mut().bind(&SocketAddr::new(0, GROUPS.cast_unsigned()))?;
                Ok(Self { socket })
            };
            open().context("watch devices and addresses")
        })
    }

    /// Waits for a change, or for several that have come together.
    pub async fn next(&mut self) {
        // A notification is read, but not parsed: truncation does no harm.
        let mut buffer = [0; 16];
        match self.socket.recv(&mut &mut buffer[..]).await {
            // The socket's buffer was full, so there were changes.
            Err(error) if error.raw_os_error() != Some(libc::ENOBUFS) => {
                // The socket is unusable; the caller's own timer remains.
                std::future::pending::<()>().await;
            }
            _ => {}
        }
        while self.socket.socket_ref().recv(&mut &mut buffer[..], libc::MSG_DONTWAIT).is_ok() {}
    }
}

impl Device {
    /// Refuses a device that carries neither Ethernet nor bare IP.
    ///
    /// # Errors
    /// It is one.
    pub fn require_supported(&self) -> Result<()> {
        let Some(layer) = &self.unsupported else { return Ok(()) };
        Err(DataplaneError::new(
            format!("interface {}: link layer {layer} is neither Ethernet nor bare IP", self.name),
            "secgroup works on Ethernet-like devices and IP tunnels",
        ))
    }

    /// Whether it has this name or alternative name.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        self.name == name || self.altnames.iter().any(|one| one == name)
    }

    /// Its name, with its namespace if it is another than that of this process.
    #[must_use]
    pub fn label(&self) -> String {
        label(&self.name, self.netns.as_deref())
    }

    /// Which way packets pass it, seen from the protected end. What a macvtap or ipvtap device receives
    /// is for the guest that has it open, and what the guest sends is transmitted: the opposite of a tap
    /// or a veth.
    #[must_use]
    pub fn path(&self, orientation: Orientation) -> Orientation {
        match self.kind.as_deref() {
            Some("macvtap" | "ipvtap") => Orientation::Host,
            _ => orientation,
        }
    }

    /// Whether packets that are routed to the device of this index go through it.
    #[must_use]
    pub fn carries(&self, index: u32) -> bool {
        index == self.index || Some(index) == self.master
    }

    /// Whether it is hardware whose driver may run XDP before it allocates a socket buffer. virtio
    /// is not: like veth and tap it carries segments of 64 KB, which native XDP would switch off.
    #[must_use]
    pub fn is_hardware(&self) -> bool {
        self.kind.is_none() && self.bus.as_deref().is_some_and(|bus| bus != "virtio")
    }
}
