//! A test case: rules, and steps with their expected results.

use firewall_ebpf::abi::flow::Tier;
use firewall_ebpf::abi::interface::{Direction, TcpChecks};
use firewall_ebpf::abi::reason::Reason;
use firewall_ebpf::abi::state::State;
use firewall_user::model::Tracking;

use crate::decision::deny::{Block, Entry};
use crate::decision::kernel::Setup;
use crate::decision::packet::{Body, Layer, Packet};
use crate::decision::port::Port;
use crate::decision::rules::{Rule, default_rules};
use crate::decision::scenario::{Family, Role, Scenario};

/// One step of a case.
#[derive(Clone, Debug)]
pub enum Step {
    /// A packet, and its expected reason.
    Send(Box<Packet>, Reason),
    /// Seconds pass.
    Wait(u32),
    /// These rules replace the active ones.
    Rules(Vec<Rule>),
    /// This filter replaces the interface's, or none does.
    Filter(Option<Vec<Entry>>),
    /// These blocks of the host replace the present ones.
    Blocks(Vec<Block>),
    /// Expects this many packets at a counter of an entry or a block.
    Counted(Count, u64),
    /// Expects exactly one flow, in this tier and state.
    Flow(Tier, State),
    /// Expects this many flows.
    Flows(usize),
    /// The proven tier becomes full, or gets room again.
    ProvenFull(bool),
    /// The flows become learned ones, as of connections that were open at the attach: no rule
    /// admitted them.
    Learned,
}

/// A counter, by what it counts.
#[derive(Clone, Copy, Debug)]
pub enum Count {
    /// The entry of the filter at this place of its table, from 0 on.
    Entry(u32),
    /// The last entry for packets of this end, which denies all.
    Last(Role),
    /// The block of the host at this place.
    Block(u32),
}

/// A case of a table.
#[derive(Clone, Debug)]
pub struct Case {
    /// The requirement, as a failure reports it.
    pub name: &'static str,
    /// The rules; `None` is no policy.
    pub rules: Option<Vec<Rule>>,
    /// Runs only in this family.
    pub family: Option<Family>,
    /// Runs only with the client's packets in this direction.
    pub client: Option<Direction>,
    /// The TCP checks; `None`: the results are the same with all.
    pub checks: Option<TcpChecks>,
    /// Whether TCP connections are picked up mid-stream.
    pub tcp_loose: bool,
    /// Whether flows are re-evaluated after a policy change; `None`: the results are the same.
    pub revalidate: Option<bool>,
    /// Whether traffic that needs no flow is untracked.
    pub tracking: Tracking,
    /// The port security of the interface.
    pub port: Port,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

/// A case with the default rules, for every scenario.
#[must_use]
pub fn case(name: &'static str, steps: impl IntoIterator<Item = Step>) -> Case {
    let steps = steps.into_iter().collect();
    Case {
        name,
        rules: Some(default_rules()),
        family: None,
        client: None,
        checks: Some(TcpChecks::Guard),
        tcp_loose: true,
        revalidate: None,
        tracking: Tracking::Auto,
        port: Port::Open,
        steps,
    }
}

impl Case {
    /// With these rules.
    #[must_use]
    pub fn rules(self, rules: impl IntoIterator<Item = Rule>) -> Self {
        Self { rules: Some(rules.into_iter().collect()), ..self }
    }

    /// Without a policy.
    #[must_use]
    pub fn without_policy(self) -> Self {
        Self { rules: None, ..self }
    }

    /// On an interface with strict TCP checks.
    #[must_use]
    pub fn strict(self) -> Self {
        Self { checks: Some(TcpChecks::Strict), ..self }
    }

    /// With all TCP checks.
    #[must_use]
    pub fn all_tcp_checks(self) -> Self {
        Self { checks: None, ..self }
    }

    /// On an interface that re-evaluates flows after a policy change, or does not.
    #[must_use]
    pub fn revalidate(self, revalidate: bool) -> Self {
        Self { revalidate: Some(revalidate), ..self }
    }

    /// On an interface without mid-stream pickup.
    #[must_use]
    pub fn without_tcp_loose(self) -> Self {
        Self { tcp_loose: false, ..self }
    }

    /// On an interface that tracks all traffic.
    #[must_use]
    pub fn always_tracked(self) -> Self {
        Self { tracking: Tracking::Always, ..self }
    }

    /// On an interface with this port security.
    #[must_use]
    pub fn port(self, port: Port) -> Self {
        Self { port, ..self }
    }

    /// Runs only in one family.
    #[must_use]
    pub fn family(self, family: Family) -> Self {
        Self { family: Some(family), ..self }
    }

    /// Runs only with the client's packets in this direction.
    #[must_use]
    pub fn client(self, direction: Direction) -> Self {
        Self { client: Some(direction), ..self }
    }

    /// Whether the case has the same results without an Ethernet header: it has no tags, only IP
    /// frames, and does not edit the version field, which then is the only type field.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.packets().all(|packet| {
            packet.tags.is_empty()
                && packet.from_mac.is_none()
                && packet.to_mac.is_none()
                && !matches!(packet.body, Body::Link(_))
                && !packet.edits.iter().any(|(layer, at, _)| *layer == Layer::Ip && *at == 0)
        })
    }

    /// Whether the case applies to an interface of this setup.
    #[must_use]
    pub fn is_for(&self, setup: &Setup) -> bool {
        self.port == setup.port
            && self.checks.is_none_or(|checks| checks == setup.tcp_checks)
            && self.revalidate.is_none_or(|revalidate| revalidate == setup.revalidate)
            && (self.tcp_loose == setup.tcp_loose || setup.tcp_checks == TcpChecks::Strict)
    }

    /// Whether the inside uses its own addresses only, so that the case has the same results where these
    /// are checked: no packet has edited addresses, and ARP, whose sender is one, is not among them.
    #[must_use]
    pub fn uses_own_addresses(&self) -> bool {
        self.port == Port::Open
            && self.packets().all(|packet| {
                !matches!(packet.body, Body::Link(_))
                    && !packet.edits.iter().any(|(layer, ..)| *layer == Layer::Ip)
            })
    }

    /// The packets of the case, in order.
    pub fn packets(&self) -> impl Iterator<Item = &Packet> {
        self.steps.iter().filter_map(|step| match step {
            Step::Send(packet, _) => Some(&**packet),
            _ => None,
        })
    }

    /// The scenarios in which the case runs.
    pub fn scenarios(&self) -> impl Iterator<Item = Scenario> {
        Scenario::all().into_iter().filter(|scenario| {
            self.family.is_none_or(|family| family == scenario.family)
                && self.client.is_none_or(|client| client == scenario.client)
        })
    }
}

/// A packet that must be decided with this reason.
#[must_use]
pub fn send(packet: Packet, reason: Reason) -> Step {
    Step::Send(Box::new(packet), reason)
}
