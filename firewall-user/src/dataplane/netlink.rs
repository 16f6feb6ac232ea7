//! Dumps over netlink families that rtnetlink does not speak.

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};

use crate::dataplane::error::{Context, Result};

/// As much as the kernel puts into one answer (`NLMSG_GOODSIZE` at most, and dumps take 32 KiB).
const ROOM: usize = 1 << 16;

/// Asks for everything of a kind, in the network namespace of this thread, and calls `take` for each
/// answer. What the kernel does not know of has no answers.
///
/// # Errors
/// The socket fails, or an answer does not parse.
pub(super) fn dump<M>(family: isize, question: M, mut take: impl FnMut(M)) -> Result<()>
where
    M: NetlinkSerializable + NetlinkDeserializable,
{
    const WHAT: &str = "ask netlink";
    let mut socket = match Socket::new(family) {
        Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => return Ok(()),
        socket => socket.context("open a netlink socket")?,
    };
    socket.bind_auto().context(WHAT)?;
    socket.connect(&SocketAddr::new(0, 0)).context(WHAT)?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(question));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0).context(WHAT)?;
    let mut buffer = vec![0; ROOM];
    loop {
        let size = socket.recv(&mut &mut buffer[..], 0).context(WHAT)?;
        let mut rest = &buffer[..size];
        while !rest.is_empty() {
            let message =
                NetlinkMessage::<M>::deserialize(rest).context("read netlink's answer")?;
            let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
            match message.payload {
                NetlinkPayload::InnerMessage(inner) => take(inner),
                // Of an error too: without the kernel's module there is nothing of that kind.
                NetlinkPayload::Done(_) | NetlinkPayload::Error(_) => return Ok(()),
                _ => {}
            }
            // Padded to words.
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}
