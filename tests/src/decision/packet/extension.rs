//! IPv6 extension headers, valid and invalid.

/// An extension header; its first byte, the next header, is set when the packet is rendered.
#[derive(Clone, Debug)]
pub struct Extension {
    /// Its protocol number.
    pub number: u8,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Extension {
    /// Hop-by-hop options of `8 * units` bytes.
    #[must_use]
    pub fn hop_by_hop(units: u8) -> Self {
        Self::in_eights(0, units)
    }

    /// Hop-by-hop options with the router alert of MLD (RFC 2711).
    #[must_use]
    pub fn router_alert() -> Self {
        Self { number: 0, bytes: vec![0, 0, 5, 2, 0, 0, 1, 0] }
    }

    /// Destination options of `8 * units` bytes.
    #[must_use]
    pub fn destination(units: u8) -> Self {
        Self::in_eights(60, units)
    }

    /// A routing header with two addresses.
    #[must_use]
    pub fn routing(kind: u8) -> Self {
        let mut header = Self::in_eights(43, 5);
        header.bytes[2] = kind;
        header
    }

    /// An authentication header of `4 * units` bytes (RFC 4302), at least three.
    #[must_use]
    pub fn authentication(units: u8) -> Self {
        let mut bytes = vec![0xa5; usize::from(units) * 4];
        bytes[1] = units - 2;
        Self { number: 51, bytes }
    }

    /// A mobility header.
    #[must_use]
    pub fn mobility() -> Self {
        Self::in_eights(135, 2)
    }

    /// A host identity header.
    #[must_use]
    pub fn hip() -> Self {
        Self::in_eights(139, 5)
    }

    /// A shim6 header.
    #[must_use]
    pub fn shim6() -> Self {
        Self::in_eights(140, 1)
    }

    /// A fragment header; the offset is in units of eight bytes.
    #[must_use]
    pub fn fragment(offset: u16, more: bool) -> Self {
        let field = (offset << 3 | u16::from(more)).to_be_bytes();
        // Its second byte is reserved and must not be read as a length.
        Self { number: 44, bytes: vec![0, 0xff, field[0], field[1], 0xde, 0xad, 0xbe, 0xef] }
    }

    /// With this value in its length field.
    #[must_use]
    pub fn length_field(mut self, length: u8) -> Self {
        self.bytes[1] = length;
        self
    }

    /// Options are PadN, so that a TCP/IP stack accepts the packet.
    fn in_eights(number: u8, units: u8) -> Self {
        let mut bytes = vec![0; usize::from(units) * 8];
        bytes[1] = units - 1;
        let mut at = 2;
        while at < bytes.len() {
            let length = (bytes.len() - at).min(200);
            if length > 1 {
                bytes[at] = 1;
                bytes[at + 1] = u8::try_from(length - 2).expect("at most 198");
            }
            at += length;
        }
        Self { number, bytes }
    }
}
