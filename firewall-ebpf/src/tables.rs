//! The tables that the decision looks into: BPF maps in the kernel, ordinary ones on the host.

use crate::admit;
use crate::exempt::NonIp;
use crate::flow::{Address, Flow, FlowRef, Tier};
use crate::interface::{Direction, State};
use crate::parse::{V4, V6};
use crate::policy::{Active, Class};

/// What is fixed for an interface while its programs are loaded, and the clock.
pub trait Interface {
    /// The attachment number.
    fn slot(&self) -> u16;

    /// Which frames that are not IP pass.
    fn non_ip(&self) -> NonIp;

    /// The idle timeout of a state, in jiffies.
    fn timeout(&self, state: State) -> u64;

    /// Jiffies since an arbitrary start.
    fn now(&self) -> u64;
}

/// A flow could not be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The flow tables of one address family.
pub trait Flows<A: Address> {
    /// The flow's record, if there is one; a lookup in the new tier makes it recently used.
    fn find(&self, tier: Tier, key: &A::Key) -> Option<FlowRef<'_>>;

    /// Stores a flow, unless one with the same key is there: that one stays, which is no error.
    ///
    /// # Errors
    /// [`Full`], and nothing was stored.
    fn insert(&self, tier: Tier, key: &A::Key, flow: &Flow) -> Result<(), Full>;

    /// Removes a flow; that it is gone already is fine.
    fn remove(&self, tier: Tier, key: &A::Key);
}

/// The compiled policy of the interface.
pub trait Policy {
    /// The policy of the moment. Read once per packet, so that all that follows is of one policy.
    fn active(&self) -> Active;

    /// A row of the class table.
    fn class(&self, active: Active, class: u32) -> Option<Class>;

    /// The rule whose range holds `traffic`, among `len` sorted, disjoint ranges from `start`.
    fn search(&self, active: Active, start: u32, len: u32, traffic: u32) -> Option<u32>;
}

/// The prefixes of one address family.
pub trait Prefixes<A: Address>: Policy + Sized {
    /// Whether the policy has any; if not, every address is of class [`Address::ANY`].
    fn has_prefixes(&self, active: Active) -> bool;

    /// The class of the longest prefix that covers the address.
    fn longest(&self, active: Active, address: A) -> Option<u32>;

    /// The rule that allows `traffic` to or from `outside`: [`admit::admit`], perhaps out of line.
    #[inline(always)]
    fn admit(&self, active: Active, direction: Direction, outside: A, traffic: u32) -> Option<u32> {
        admit::admit(self, active, direction, outside, traffic)
    }
}

/// What is counted besides the reasons.
pub trait Counts {
    /// A rule admitted a packet.
    fn count_rule(&self, rule: u32, bytes: u32);

    /// A flow was proven but found the proven tier full; it stays in the new tier.
    fn count_unpromoted(&self);
}

/// All that [`crate::decide::decide`] needs.
pub trait Tables:
    Interface + Policy + Counts + Flows<V4> + Flows<V6> + Prefixes<V4> + Prefixes<V6>
{
}

impl<T> Tables for T where
    T: Interface + Policy + Counts + Flows<V4> + Flows<V6> + Prefixes<V4> + Prefixes<V6>
{
}
