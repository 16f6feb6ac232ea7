//! The tables that the decision looks into: BPF maps in the kernel, ordinary ones on the host.

use crate::admit;
use crate::event::Event;
use crate::exempt::NonIp;
use crate::flow::{Address, Flow, FlowRef, Tier};
use crate::fragment::FirstFragment;
use crate::interface::{Direction, State, TcpChecks};
use crate::packet::Packet;
use crate::parse::{V4, V6};
use crate::policy::{Active, List};

/// What is fixed for an interface while its programs are loaded, and the clock.
pub trait Interface {
    /// The attachment number.
    fn slot(&self) -> u16;

    /// Which frames that are not IP pass.
    fn non_ip(&self) -> NonIp;

    /// The idle timeout of a state, in jiffies.
    fn timeout(&self, state: State) -> u64;

    /// How closely TCP is followed.
    fn tcp_checks(&self) -> TcpChecks;

    /// [`crate::interface::glances`]: one word, because it is read for every packet.
    fn glances<P: Packet>(&self, packet: &P) -> bool;

    /// Whether a TCP connection may be taken up in its middle. Never with [`TcpChecks::Strict`],
    /// which would not know its windows.
    fn picks_up(&self) -> bool;

    /// Whether a flow is asked about again after the policy has changed.
    fn revalidates(&self) -> bool;

    /// Whether many packets were refused a moment ago: then the next is likely to be of no flow
    /// either, and it pays to ask [`Flows::may_hold`] first.
    fn is_refusing(&self) -> bool;

    /// For how long a first fragment's verdict holds, in jiffies.
    fn fragment_timeout(&self) -> u64;

    /// Jiffies since an arbitrary start.
    fn now(&self) -> u64;
}

/// A flow could not be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The flow tables of one address family.
pub trait Flows<A: Address> {
    /// Whether either tier may hold the flow: `false` is certain, `true` takes a look.
    fn may_hold(&self, key: &A::Key) -> bool;

    /// The flow's record, if there is one; a lookup in the new tier makes it recently used.
    fn find(&self, tier: Tier, key: &A::Key) -> Option<FlowRef<'_>>;

    /// Stores a flow, unless one with the same key is there: that one stays, which is no error.
    /// Returns whether it was stored.
    ///
    /// # Errors
    /// [`Full`], and nothing was stored.
    fn insert(&self, tier: Tier, key: &A::Key, flow: &Flow) -> Result<bool, Full>;

    /// Removes a flow; that it is gone already is fine.
    fn remove(&self, tier: Tier, key: &A::Key);
}

/// The first fragments that passed, of one address family.
pub trait Fragments<A: Address> {
    /// What is kept under [`crate::fragment::key`].
    fn first_fragment(&self, key: &A::Key) -> Option<FirstFragment>;

    /// Keeps a first fragment, in place of an earlier one of the same key. That it could not be
    /// kept shows in the later ones, which are dropped.
    fn keep_fragment(&self, key: &A::Key, first: &FirstFragment);
}

/// The compiled policy of the interface.
pub trait Policy {
    /// The policy of the moment. Read once per packet, so that all that follows is of one policy.
    fn active(&self) -> Active;

    /// What a class allows in one direction, and its parent.
    fn list(&self, active: Active, class: u32, direction: Direction) -> Option<(List, u32)>;

    /// The rule, perhaps with [`crate::policy::UNTRACKED`], whose range holds `traffic`, in a list of
    /// several: [`admit::search`], perhaps out of line.
    fn search(&self, active: Active, at: u32, len: u32, traffic: u32) -> Option<u32>;
}

/// The prefixes of one address family.
pub trait Prefixes<A: Address>: Policy + Sized {
    /// The class of the longest prefix that covers the address.
    fn longest(&self, active: Active, address: A) -> Option<u32>;

    /// The rule that allows `traffic` to or from anywhere.
    #[inline(always)]
    fn rule_for_anywhere(&self, active: Active, direction: Direction, traffic: u32) -> Option<u32> {
        admit::in_class(self, active, direction, A::ANY, traffic).0
    }

    /// The rule that allows `traffic` to or from `outside`: [`admit::admit`], perhaps out of line.
    /// With [`crate::policy::UNTRACKED`] where that traffic needs no flow.
    #[inline(always)]
    fn admit(&self, active: Active, direction: Direction, outside: A, traffic: u32) -> Option<u32> {
        admit::admit(self, active, direction, outside, traffic)
    }
}

/// What is counted besides the reasons.
pub trait Counts {
    /// A rule admitted a packet.
    fn count_rule(&self, rule: u32, bytes: u32);

    /// Something happened to a flow.
    fn count_event(&self, event: Event);
}

/// All that [`crate::decide::decide`] needs.
pub trait Tables: Interface + Policy + Counts + Family<V4> + Family<V6> {}

impl<T> Tables for T where T: Interface + Policy + Counts + Family<V4> + Family<V6> {}

/// The tables of one address family.
pub trait Family<A: Address>: Flows<A> + Fragments<A> + Prefixes<A> {}

impl<A: Address, T> Family<A> for T where T: Flows<A> + Fragments<A> + Prefixes<A> {}
