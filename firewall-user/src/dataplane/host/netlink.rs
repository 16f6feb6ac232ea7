//! The netlink client: one request at a time, for every family, in the network namespace of the
//! thread that opens it.

use std::io;

use netlink_packet_core::{
    DecodeError, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkDeserializable,
    NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;

/// The largest datagram: the kernel puts at most 32 KiB into one reply of a dump, and less into
/// another one (`NLMSG_GOODSIZE`).
const DATAGRAM: usize = 1 << 16;

/// A socket of one netlink family.
pub(in crate::dataplane) struct Netlink(Socket);

impl Netlink {
    /// Opens a socket; `family` is one of [`netlink_sys::protocols`].
    ///
    /// # Errors
    /// `EPROTONOSUPPORT`: the kernel does not have the family.
    pub(in crate::dataplane) fn open(family: isize) -> io::Result<Self> {
        let mut socket = Socket::new(family)?;
        socket.bind_auto()?;
        // The kernel has port 0.
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self(socket))
    }

    /// Every object of a kind.
    ///
    /// # Errors
    /// The kernel's error number, or a reply does not parse.
    pub(in crate::dataplane) fn dump<M>(&self, request: M) -> io::Result<Vec<M>>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        let replies = self.request(request, NLM_F_DUMP)?;
        replies.into_iter().collect::<Result<_, _>>().map_err(io::Error::other)
    }

    /// As [`Self::dump`], without the objects that the parser does not support.
    ///
    /// # Errors
    /// The kernel's error number.
    pub(in crate::dataplane) fn dump_known<M>(&self, request: M) -> io::Result<Vec<M>>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        Ok(self.request(request, NLM_F_DUMP)?.into_iter().flatten().collect())
    }

    /// One object, or the execution of a command, which has no reply.
    ///
    /// # Errors
    /// The kernel's error number, or the reply does not parse.
    pub(in crate::dataplane) fn execute<M>(&self, request: M) -> io::Result<Option<M>>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        let replies = self.request(request, NLM_F_ACK)?;
        replies.into_iter().next().transpose().map_err(io::Error::other)
    }

    /// Sends a request and reads the replies up to the message that ends them.
    fn request<M>(&self, request: M, flags: u16) -> io::Result<Vec<Result<M, DecodeError>>>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.0.send(&bytes, 0)?;
        let (mut replies, mut datagram) = (Vec::new(), vec![0; DATAGRAM]);
        loop {
            let size = self.0.recv(&mut &mut datagram[..], 0)?;
            if read(&datagram[..size], &mut replies)? {
                return Ok(replies);
            }
        }
    }
}

/// Reads the messages of a datagram; returns whether the last one ends the replies.
fn read<M>(datagram: &[u8], replies: &mut Vec<Result<M, DecodeError>>) -> io::Result<bool>
where
    M: NetlinkDeserializable,
{
    let mut rest = datagram;
    while !rest.is_empty() {
        let header = NetlinkBuffer::new_checked(rest).map_err(io::Error::other)?;
        let length = usize::try_from(header.length()).unwrap_or(usize::MAX);
        match NetlinkMessage::deserialize(rest).map(NetlinkMessage::into_parts) {
            Ok((_, NetlinkPayload::InnerMessage(reply))) => replies.push(Ok(reply)),
            Ok((_, NetlinkPayload::Done(done))) => {
                return if done.code == 0 { Ok(true) } else { Err(kernel_error(done.code)) };
            }
            // An acknowledgement is an error without a number.
            Ok((_, NetlinkPayload::Error(error))) => {
                return if error.code.is_none() { Ok(true) } else { Err(error.to_io()) };
            }
            Ok(_) => {}
            Err(error) => replies.push(Err(error)),
        }
        // Messages are padded to words.
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// The kernel writes error numbers as negative ones.
fn kernel_error(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code.saturating_abs())
}

/// Whether an error means that the kernel lacks the family or the kind of object: its module is neither
/// built in nor loadable, so there are no such objects.
pub(in crate::dataplane) fn is_unsupported(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        // No netlink family; no handler of sock_diag; no subsystem of nfnetlink; a kind without dumps.
        Some(Errno::EPROTONOSUPPORT | Errno::ENOENT | Errno::EINVAL | Errno::EOPNOTSUPP)
    )
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use netlink_packet_core::{DoneMessage, ErrorMessage};
    use netlink_packet_route::RouteNetlinkMessage;
    use netlink_packet_route::link::{LinkAttribute, LinkMessage};
    use netlink_sys::protocols::NETLINK_ROUTE;

    use super::*;

    type Payload = NetlinkPayload<RouteNetlinkMessage>;

    fn bytes(payload: Payload) -> Vec<u8> {
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), payload);
        message.finalize();
        let mut bytes = vec![0; message.buffer_len().next_multiple_of(4)];
        message.serialize(&mut bytes);
        bytes
    }

    fn link(name: &str) -> Payload {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(name.to_owned()));
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link))
    }

    fn done(code: i32) -> Payload {
        let mut done = DoneMessage::default();
        done.code = code;
        NetlinkPayload::Done(done)
    }

    fn error(code: i32) -> Payload {
        let mut error = ErrorMessage::default();
        error.code = std::num::NonZeroI32::new(code);
        NetlinkPayload::Error(error)
    }

    #[test]
    fn replies_are_read_to_the_message_that_ends_them() {
        let read = |payloads: Vec<Payload>| {
            let datagram: Vec<u8> = payloads.into_iter().flat_map(bytes).collect();
            let mut replies: Vec<Result<RouteNetlinkMessage, _>> = Vec::new();
            let end = read(&datagram, &mut replies).map_err(|error| error.raw_os_error());
            (replies.len(), end)
        };
        assert_eq!(read(vec![link("eth0"), link("x")]), (2, Ok(false)));
        assert_eq!(read(vec![link("eth0"), done(0)]), (1, Ok(true)));
        assert_eq!(read(vec![done(-libc::EPERM)]), (0, Err(Some(libc::EPERM))));
        assert_eq!(read(vec![link("eth0"), error(0)]), (1, Ok(true)));
        assert_eq!(read(vec![error(-libc::ENODEV)]), (0, Err(Some(libc::ENODEV))));
    }

    #[test]
    fn a_message_that_does_not_parse_does_not_hide_the_next_one() {
        let mut datagram = bytes(link("eth0"));
        // The length of the interface's name, longer than the message.
        let at = datagram.len() - 12;
        datagram[at..at + 2].copy_from_slice(&100_u16.to_ne_bytes());
        datagram.extend(bytes(link("eth1")));
        let mut replies: Vec<Result<RouteNetlinkMessage, _>> = Vec::new();
        assert!(!read(&datagram, &mut replies).unwrap());
        assert_eq!(replies.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn the_kernel_replies() {
        let client = Netlink::open(NETLINK_ROUTE).unwrap();
        let links = client.dump(RouteNetlinkMessage::GetLink(LinkMessage::default())).unwrap();
        assert!(!links.is_empty());
        let mut unknown = LinkMessage::default();
        unknown.attributes.push(LinkAttribute::IfName("none-such".to_owned()));
        let error = client.execute(RouteNetlinkMessage::GetLink(unknown)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        assert_ne!(Netlink::open(1 << 10).map(drop).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
