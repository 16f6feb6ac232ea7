//! Network interfaces: groups and settings of a device.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use firewall_ebpf::abi::interface::{NonIp, Orientation, TcpChecks};
use firewall_ebpf::abi::limits::MAX_INTERFACES;
use firewall_ebpf::abi::state::State;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    AclId, AttachmentId, Error, EtherType, GroupId, HookChoice, InterfaceId, Mode, Model,
    PortSettings, SubnetId, Tracking,
};

/// A network interface: groups and settings, for a device or, while it is not attached, for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// `eni-…`.
    pub id: InterfaceId,
    /// The attachment number: part of every flow key, index of the policy; unique. From
    /// [`Self::FIRST_UNATTACHED`] on of one that is not attached.
    pub slot: u16,
    /// The device's name; empty if it is not attached.
    pub device: String,
    /// The named network namespace of the device; `None`: the one secgroup runs in.
    pub netns: Option<String>,
    /// Its subnet.
    pub subnet: SubnetId,
    /// At least one group, without repeats.
    pub groups: Vec<GroupId>,
    /// A network ACL of its own; `None`: that of its subnet.
    pub acl: Option<AclId>,
    /// As configured; which hook is used is read from the kernel.
    pub hook: HookChoice,
    /// Which end of the device is protected.
    pub orientation: Orientation,
    /// Which frames that are not IP pass.
    pub non_ip: NonIp,
    /// EtherTypes of frames that pass besides; at most
    /// [`MAX_ETHER_TYPES`](firewall_ebpf::abi::interface::MAX_ETHER_TYPES).
    pub ether_types: BTreeSet<EtherType>,
    /// How closely TCP is checked.
    pub tcp: TcpChecks,
    /// Whether a segment in the middle of a connection may open a flow (mid-stream pickup), as
    /// configured; see [`Self::is_tcp_loose`].
    pub tcp_loose: bool,
    /// Which traffic is tracked in flows.
    pub tracking: Tracking,
    /// Whether drops are enforced or only counted.
    pub mode: Mode,
    /// Whether flows are re-evaluated after the rules have changed; EC2 does not.
    pub revalidate: bool,
    /// Proven TCP flows of each family that fit; `None`: as many as configured for every interface.
    pub max_flows: Option<u32>,
    /// Proven TCP flows that one source can have; `None`: as many as fit.
    pub max_flows_per_source: Option<u32>,
    /// Idle timeouts in seconds that differ from [`State::default_timeout`].
    pub timeouts: BTreeMap<State, u32>,
    /// Inside addresses and networks that the user declared, for a device that does not have them itself
    /// (guest).
    pub addresses: Vec<IpNet>,
    /// What a guest may send as its own.
    pub port: PortSettings,
    /// What clients of the EC2 API say about it.
    pub details: InterfaceDetails,
    /// User tags.
    pub tags: BTreeMap<String, String>,
}

impl Interface {
    /// The first slot of those that are not attached.
    pub const FIRST_UNATTACHED: u16 = MAX_INTERFACES as u16;

    /// Whether it is for a device.
    #[must_use]
    pub const fn is_attached(&self) -> bool {
        self.slot < Self::FIRST_UNATTACHED
    }

    /// The interface as it is without its device, in a slot of those that are not attached.
    #[must_use]
    pub fn without_device(&self, slot: u16) -> Self {
        let details = InterfaceDetails { attachment: None, ..self.details.clone() };
        Self { slot, device: String::new(), netns: None, details, ..self.clone() }
    }

    /// An attachment of no groups with the defaults of `secgroup attach`.
    #[must_use]
    pub fn new(id: InterfaceId, slot: u16, device: &str, netns: Option<&str>) -> Self {
        Self {
            id,
            slot,
            device: device.to_owned(),
            netns: netns.map(str::to_owned),
            subnet: SubnetId::default_subnet(),
            groups: Vec::new(),
            acl: None,
            hook: HookChoice::Auto,
            orientation: Orientation::Host,
            non_ip: NonIp::default(),
            ether_types: BTreeSet::new(),
            tcp: TcpChecks::default(),
            tcp_loose: true,
            tracking: Tracking::default(),
            mode: Mode::default(),
            revalidate: false,
            max_flows: None,
            max_flows_per_source: None,
            timeouts: BTreeMap::new(),
            addresses: Vec::new(),
            port: PortSettings::default(),
            details: InterfaceDetails::default(),
            tags: BTreeMap::new(),
        }
    }

    /// The device's name, with its namespace if it is another than that of secgroup: `eth0`,
    /// `blue/eth0`. The id of one that is not attached.
    #[must_use]
    pub fn label(&self) -> String {
        if !self.is_attached() {
            return self.id.to_string();
        }
        label(&self.device, self.netns.as_deref())
    }

    /// Whether a segment in the middle of a connection may open a flow. The windows of such a connection
    /// are not known, so strict TCP never does.
    #[must_use]
    pub const fn is_tcp_loose(&self) -> bool {
        self.tcp_loose && matches!(self.tcp, TcpChecks::Guard)
    }

    /// The idle timeout of a state in seconds.
    #[must_use]
    pub fn timeout(&self, state: State) -> u32 {
        self.timeouts.get(&state).copied().unwrap_or(state.default_timeout())
    }
}

/// The label of a device in a named namespace, or in that of secgroup.
#[must_use]
pub fn label(device: &str, netns: Option<&str>) -> String {
    netns.map_or_else(|| device.to_owned(), |netns| format!("{netns}/{device}"))
}

/// What clients of the EC2 API say about a network interface and read again; nothing of it is enforced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfaceDetails {
    /// Free text, may be empty.
    pub description: String,
    /// How it is attached; `None` if it is not, or not written yet.
    pub attachment: Option<Attachment>,
    /// The address of its subnet that was chosen for it because the client named none. A device need not have it,
    /// so it is no member's address and no guest is held to it.
    pub chosen: Option<IpAddr>,
}

/// An attachment of an interface to this host, as clients of the EC2 API see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// `eni-attach-…`.
    #[serde(with = "crate::model::ids::text")]
    pub id: AttachmentId,
    /// EC2's device index, unique on the host.
    pub index: u32,
    /// When it was attached, in milliseconds since 1970.
    pub time: i64,
    /// EC2's `DeleteOnTermination`.
    pub delete_on_termination: bool,
}

impl Model {
    /// All network interfaces, the attached ones first.
    pub fn network_interfaces(&self) -> impl Iterator<Item = &Interface> {
        self.interfaces.values().chain(self.unattached.values())
    }

    /// The network interface with this id, attached or not.
    ///
    /// # Errors
    /// There is none.
    pub fn interface_by_id(&self, id: &InterfaceId) -> Result<&Interface, Error> {
        let found = self.network_interfaces().find(|one| one.id == *id);
        found.ok_or_else(|| Error::InterfaceNotFound(id.to_string()))
    }

    /// The lowest device index that no attached interface has.
    #[must_use]
    pub fn free_device_index(&self) -> u32 {
        let attachments =
            self.interfaces.values().filter_map(|one| one.details.attachment.as_ref());
        let taken: BTreeSet<_> = attachments.map(|one| one.index).collect();
        (0..).find(|index| !taken.contains(index)).unwrap_or_default()
    }
}
