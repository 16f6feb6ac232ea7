//! ICMP errors about packets of flows.

use super::evaluate::evaluate;
use super::find::find;
use super::flow::{FlowRef, flow_key, is_expired};
use super::tables::{Family, Tables};
use crate::abi::flow::EPOCH_TIMED;
use crate::abi::interface::Direction;
use crate::abi::policy::Active;
use crate::abi::reason::Reason;
use crate::abi::state::State;
use crate::wire::address::Address;
use crate::wire::headers::{Kind, PacketHeaders};
use crate::wire::packet::Packet;

/// Whether the packet embedded in an ICMP error belongs to a live flow, or to traffic that is not
/// tracked. Refreshes nothing and creates nothing.
///
/// # Errors
/// The embedded packet cannot be parsed, or was not sent by the receiver of the error.
#[inline(always)]
pub(super) fn is_related<A: Address, P: Packet, T: Tables + Family<A>>(
    packet: &P,
    tables: &T,
    active: Active,
    direction: Direction,
    error: &PacketHeaders<A>,
) -> Result<bool, Reason> {
    let mut embedded = *error;
    if !A::parse_embedded(packet, error, &mut embedded) {
        return Err(Reason::IcmpErrorInvalid);
    }
    // An embedded later fragment has no ports, and no error is sent about an error (RFC 1122, 3.2.2).
    if matches!(embedded.kind, Kind::LaterFragment | Kind::Error | Kind::Message) {
        return Ok(false);
    }
    let direction = direction.opposite();
    let key = flow_key(&embedded, direction, tables.slot());
    if let Some((_, flow)) = find::<A, T>(tables, embedded.protocol, &key)
        && let Some(state) = State::from_number(flow.state())
        && !is_expired(flow.last_seen(), tables.now(), tables.timeout(state))
        && !needs_revalidation(tables, active, &flow)
    {
        return Ok(true);
    }
    Ok(evaluate(tables, active, direction, embedded.outside(direction), &embedded)
        .is_ok_and(|allowed| allowed.is_untracked))
}

/// Whether the active policy has not evaluated the flow, or does not allow it. The flow's own next
/// packet causes the evaluation; until then an error about the flow needs a rule. Where that rule may
/// have ended, the packet finds out; errors pass until then.
#[inline(always)]
fn needs_revalidation<T: Tables>(tables: &T, active: Active, flow: &FlowRef<'_>) -> bool {
    let epoch = flow.epoch();
    tables.revalidates()
        && !flow.is_learned()
        && epoch != active.generation()
        && epoch != EPOCH_TIMED
}
