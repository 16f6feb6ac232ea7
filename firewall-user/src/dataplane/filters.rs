//! Filters of ingress and clsact qdiscs, as rtnetlink tells of them.

use aya::programs::TcAttachType;
use futures_util::TryStreamExt as _;
use netlink_packet_route::link::LinkAttribute;
use netlink_packet_route::tc::{
    TcAttribute, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcOption,
};
use rtnetlink::Handle;

use crate::dataplane::device::{Device, netlink};
use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::pins::Place;
use crate::dataplane::refusal;

/// Filters are asked in the order of their preferences, so ours is the lowest. Of several at one
/// preference the kernel asks the newest first.
pub(super) const PREFERENCE: u16 = 1;

/// `ETH_P_ALL`, as it stands in a filter's message.
const ALL_PROTOCOLS: u16 = 3_u16.to_be();

/// The qdisc that has `ingress` or `clsact` for its kind.
const QDISC: TcHandle = TcHandle { major: 0xffff, minor: 0 };

/// A filter of one direction of a device.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) handle: u32,
    pub(super) preference: u16,
    protocol: u16,
    kind: String,
    /// The kernel's number of its program, if it is one of BPF.
    pub(super) program: Option<u32>,
}

impl Filter {
    /// Whether a filter of ours fits beside it, before it.
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

/// Which of the two lists of filters a place's is in.
pub(super) const fn direction(place: Place) -> TcAttachType {
    match place {
        Place::Transmit | Place::ClsactTransmit => TcAttachType::Egress,
        Place::Xdp | Place::Receive | Place::ClsactReceive => TcAttachType::Ingress,
    }
}

/// The device's number as messages about traffic control have it.
pub(super) fn index(device: &Device) -> i32 {
    // The kernel's numbers are positive `int`s.
    i32::try_from(device.index).unwrap_or(i32::MAX)
}

/// [`filters`] of a device.
pub(super) fn list(device: &Device, place: Place) -> Result<Vec<Filter>> {
    netlink(async |handle| filters(&handle, index(device), place).await)
}

/// The filters of one direction that packets meet, in their order.
pub(super) async fn filters(handle: &Handle, index: i32, place: Place) -> Result<Vec<Filter>> {
    Ok(messages(handle, index, place).await?.iter().filter_map(filter).collect())
}

/// All that the kernel tells of one direction's filters.
async fn messages(handle: &Handle, index: i32, place: Place) -> Result<Vec<TcMessage>> {
    let request = handle.traffic_filter(index).get();
    let request = match direction(place) {
        TcAttachType::Egress => request.egress(),
        _ => request.ingress(),
    };
    request.execute().try_collect().await.context("list the filters of clsact")
}

/// `None` for what is no filter that packets meet: the head of a list of them, or one of a chain
/// that another filter would have to name.
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

/// The devices of this namespace with an ingress or clsact qdisc, and which of the two it is.
pub(super) async fn qdiscs(handle: &Handle) -> Result<Vec<(i32, String)>> {
    let messages = handle.qdisc().get().execute().try_collect::<Vec<_>>().await;
    let messages = messages.context("list the qdiscs")?;
    let kind = |message: &TcMessage| {
        message.attributes.iter().find_map(|attribute| match attribute {
            TcAttribute::Kind(kind) => Some(kind.clone()),
            _ => None,
        })
    };
    let at_the_edge = messages.iter().filter(|message| message.header.handle == QDISC);
    Ok(at_the_edge.filter_map(|message| Some((message.header.index, kind(message)?))).collect())
}

/// A device's name.
pub(super) async fn name(handle: &Handle, index: i32) -> Result<String> {
    let index = u32::try_from(index).unwrap_or(0);
    let answer = handle.link().get().match_index(index).execute().try_next().await;
    let message = answer.context(format!("interface {index}: ask rtnetlink"))?;
    let attributes = message.map(|message| message.attributes).unwrap_or_default();
    let name = attributes.into_iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name),
        _ => None,
    });
    name.ok_or_else(|| DataplaneError::new(format!("interface {index}: has no name"), ""))
}

/// Removes a device's clsact qdisc unless there is a filter in it. The kernel cannot do both in one
/// step: a filter that somebody adds to our qdisc in just this moment goes with it.
pub(super) async fn remove_empty_qdisc(handle: &Handle, index: i32) -> Result<()> {
    for place in Place::CLSACT {
        if !messages(handle, index, place).await?.is_empty() {
            return Ok(());
        }
    }
    let mut request = handle.qdisc().del(index);
    let message = request.message_mut();
    message.header.parent = TcHandle::CLSACT;
    message.header.handle = QDISC;
    request.execute().await.context("remove the clsact qdisc")
}
