//! Filters of ingress and clsact qdiscs, by rtnetlink.

use aya::programs::TcAttachType;
use aya::programs::links::Link as _;
use aya::programs::tc::SchedClassifierLink;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::tc::{
    TcAttribute, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcOption,
};
use netlink_sys::protocols::NETLINK_ROUTE;

use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::hooks::refusal;
use crate::dataplane::host::device::Device;
use crate::dataplane::host::netlink::Netlink;
use crate::dataplane::pins::Place;

/// Filters run in the order of their preferences, and this is the lowest. Of several with one preference
/// the newest runs first.
pub(super) const PREFERENCE: u16 = 1;

/// `ETH_P_ALL`, as a filter's message contains it.
const ALL_PROTOCOLS: u16 = 3_u16.to_be();

/// The handle of an `ingress` or `clsact` qdisc.
const QDISC: TcHandle = TcHandle { major: 0xffff, minor: 0 };

/// A filter of one direction of a device.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) handle: u32,
    pub(super) preference: u16,
    protocol: u16,
    kind: String,
    /// The id of its program, if it is a BPF filter.
    pub(super) program: Option<u32>,
}

impl Filter {
    /// Whether a filter of ours can be attached before it.
    pub(super) fn leaves_room(&self) -> bool {
        self.preference != PREFERENCE
            || (self.kind == TcFilterBpf::KIND && self.protocol == ALL_PROTOCOLS)
    }

    pub(super) fn describe(&self) -> String {
        let Self { kind, preference, program, .. } = self;
        let program =
            program.map_or_else(String::new, |id| format!(" with {}", refusal::program_name(id)));
        format!("the {kind} filter of preference {preference}{program}")
    }
}

/// A socket for the functions below.
pub(super) fn client() -> Result<Netlink> {
    Netlink::open(NETLINK_ROUTE).context("open a netlink socket")
}

/// The direction of a place.
pub(super) const fn direction(place: Place) -> TcAttachType {
    match place {
        Place::Transmit | Place::ClsactTransmit => TcAttachType::Egress,
        Place::Xdp | Place::Receive | Place::ClsactReceive => TcAttachType::Ingress,
    }
}

/// The device's index, as messages about traffic control contain it.
pub(super) fn index(device: &Device) -> i32 {
    // The kernel's indexes are positive `int`s.
    i32::try_from(device.index).unwrap_or(i32::MAX)
}

/// The filters of one direction that packets meet, in their order.
pub(super) fn filters(client: &Netlink, index: i32, place: Place) -> Result<Vec<Filter>> {
    Ok(messages(client, index, place)?.iter().filter_map(filter).collect())
}

/// The filters of one direction that parse: enough to find our own, which always do. A filter of another
/// owner that does not parse must not keep us from removing ours.
pub(super) fn known_filters(client: &Netlink, index: i32, place: Place) -> Result<Vec<Filter>> {
    let replies = client.dump_known(request(index, place));
    let replies = replies.context("list the filters of clsact")?;
    Ok(new_filters(replies).iter().filter_map(filter).collect())
}

/// Every message about the filters of one direction; one that does not parse is an error.
fn messages(client: &Netlink, index: i32, place: Place) -> Result<Vec<TcMessage>> {
    let replies = client.dump(request(index, place)).context("list the filters of clsact")?;
    Ok(new_filters(replies))
}

fn request(index: i32, place: Place) -> RouteNetlinkMessage {
    let mut request = TcMessage::with_index(index);
    let minor = match direction(place) {
        TcAttachType::Egress => TcHandle::MIN_EGRESS,
        _ => TcHandle::MIN_INGRESS,
    };
    request.header.parent = TcHandle { minor, ..QDISC };
    RouteNetlinkMessage::GetTrafficFilter(request)
}

fn new_filters(replies: Vec<RouteNetlinkMessage>) -> Vec<TcMessage> {
    replies
        .into_iter()
        .filter_map(|reply| match reply {
            RouteNetlinkMessage::NewTrafficFilter(message) => Some(message),
            _ => None,
        })
        .collect()
}

/// A filter that packets meet; `None` for the head of a list of filters, and for a filter of a chain
/// other than the first, which another filter would have to jump to.
fn filter(message: &TcMessage) -> Option<Filter> {
    let header = &message.header;
    let [_, _, protocol @ ..] = header.info.to_be_bytes();
    let mut filter = Filter {
        handle: header.handle.into(),
        preference: u16::try_from(header.info >> 16).unwrap_or(u16::MAX),
        protocol: u16::from_be_bytes(protocol),
        kind: String::new(),
        program: None,
    };
    for attribute in &message.attributes {
        match attribute {
            TcAttribute::Chain(chain) if *chain != 0 => return None,
            TcAttribute::Kind(kind) => filter.kind.clone_from(kind),
            TcAttribute::Options(options) => {
                filter.program = options.iter().find_map(|option| match option {
                    TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => Some(*id),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    (filter.handle != 0).then_some(filter)
}

/// The indexes of this namespace's devices with an ingress or clsact qdisc, and its kind.
pub(super) fn qdiscs(client: &Netlink) -> Result<Vec<(i32, String)>> {
    let request = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
    let replies = client.dump_known(request).context("list the qdiscs")?;
    let kind = |attributes: Vec<TcAttribute>| {
        attributes.into_iter().find_map(|attribute| match attribute {
            TcAttribute::Kind(kind) => Some(kind),
            _ => None,
        })
    };
    Ok(replies
        .into_iter()
        .filter_map(|reply| match reply {
            RouteNetlinkMessage::NewQueueDiscipline(qdisc) if qdisc.header.handle == QDISC => {
                Some((qdisc.header.index, kind(qdisc.attributes)?))
            }
            _ => None,
        })
        .collect())
}

/// A device's name.
pub(super) fn name(client: &Netlink, index: i32) -> Result<String> {
    let mut request = LinkMessage::default();
    request.header.index = u32::try_from(index).unwrap_or(0);
    let reply = client.execute(RouteNetlinkMessage::GetLink(request));
    let attributes = match reply.context(format_args!("interface {index}: get its link"))? {
        Some(RouteNetlinkMessage::NewLink(link)) => link.attributes,
        _ => Vec::new(),
    };
    let name = attributes.into_iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name),
        _ => None,
    });
    name.ok_or_else(|| DataplaneError::new(format!("interface {index}: has no name"), ""))
}

/// Removes a device's clsact qdisc unless it contains a filter. The kernel cannot do both in one step: a
/// filter that another process adds to our qdisc in between is removed with it.
pub(super) fn remove_empty_qdisc(client: &Netlink, index: i32) -> Result<()> {
    for place in Place::CLSACT {
        if !messages(client, index, place)?.is_empty() {
            return Ok(());
        }
    }
    let mut request = TcMessage::with_index(index);
    request.header.parent = TcHandle::CLSACT;
    request.header.handle = QDISC;
    let reply = client.execute(RouteNetlinkMessage::DelQueueDiscipline(request));
    reply.map(drop).context("remove the clsact qdisc")
}

/// Detaches a filter from a device of this namespace.
pub(super) fn detach_from(client: &Netlink, at: i32, place: Place, filter: &Filter) -> Result<()> {
    let name = name(client, at)?;
    let link = SchedClassifierLink::attached(
        &name,
        direction(place),
        filter.preference,
        filter.handle.into(),
        None,
    );
    let link = link.context(format!("open the filter of {name}"))?;
    link.detach().context(format!("detach the filter of {name}"))
}
