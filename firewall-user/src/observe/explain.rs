//! What an interface does with a packet, and why: asked of its own programs, which are run on the packet without a
//! trace of it in flows and counters ([`dataplane::explain`](crate::dataplane::explain)).

mod describe;
mod document;
mod error;
mod explainer;
mod names;
mod packet;
mod parsed;
mod recorded;
mod remarks;
mod remedy;
mod text;
mod words;

pub use document::{
    EntryName, Explanation, Explanations, FlowOfPacket, Nearest, PacketDocument, Remedy, Reply,
    RuleText, Skipped,
};
pub use error::ExplainError;
pub use explainer::{Explainer, Question};
pub use packet::{FLAGS, Packet, flags_text};
pub use parsed::packet_of;
pub use recorded::{NoRecord, number_of_record, of_record};
pub use words::{WordError, Words};

use anyhow::Result;
use firewall_ebpf::abi::interface::Direction;

use crate::control::Control;
use crate::model::Interface;

/// Explains one packet: [`Explainer::explain`]. Who asks often keeps an [`Explainer`].
///
/// # Errors
/// As there.
pub fn explain(
    control: &Control,
    interface: &Interface,
    direction: Direction,
    question: &Question,
) -> Result<Explanation> {
    Explainer::open(control, interface)?.explain(control, question, direction, false)
}
