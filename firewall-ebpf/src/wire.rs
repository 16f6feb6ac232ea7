//! Packets: access to their bytes, and parsing into what the decision needs.

pub mod address;
mod arp;
pub mod assigned;
mod common;
mod embedded;
mod header;
pub mod headers;
mod link_message;
mod message;
mod options;
pub mod packet;
mod parse;
pub mod slice;
pub mod tcp;

pub use arp::read_arp;
pub use common::{
    Tuple, is_in_head, parse_common_v4, parse_common_v6, tcp_numbers, tuple_v4, tuple_v6,
};
pub use header::protocol;
pub use link_message::is_link_message;
pub use message::{Arp, LinkMessage};
pub use options::{find_window_scale, window_scale};
pub use parse::{Frame, HeadersByFamily, parse};
