//! A case: rules, and steps that each say what must come of them.

use firewall_ebpf::flow::Tier;
use firewall_ebpf::interface::{Direction, State, TcpChecks};
use firewall_ebpf::reason::Reason;
use firewall_user::model::Tracking;

use crate::decision::kernel::Setup;
use crate::decision::packet::{Body, Layer, Packet};
use crate::decision::rules::{Rule, usual};
use crate::decision::scene::{Family, Scene};

/// One step of a case.
#[derive(Clone, Debug)]
pub enum Step {
    /// A packet, and the reason with which it must leave.
    Send(Box<Packet>, Reason),
    /// Seconds pass.
    Wait(u32),
    /// Other rules are in force from now on.
    Rules(Vec<Rule>),
    /// There is exactly one flow, in this tier and state.
    Flow(Tier, State),
    /// There are this many flows.
    Flows(usize),
    /// The proven tier has no room left, or has room again.
    ProvenFull(bool),
    /// The flows become such as were open when the interface was attached: no rule let them in.
    Learned,
}

/// A case of a table.
#[derive(Clone, Debug)]
pub struct Case {
    /// What a failure is reported under.
    pub name: &'static str,
    /// `None`: no policy at all.
    pub rules: Option<Vec<Rule>>,
    /// Only in this family.
    pub family: Option<Family>,
    /// Only with the client's packets in this direction.
    pub client: Option<Direction>,
    /// How closely TCP is followed; `None`: the case means the same either way.
    pub checks: Option<TcpChecks>,
    /// Whether connections are picked up in their middle.
    pub pick_up: bool,
    /// Whether flows are asked about again after a change of policy; `None`: no matter.
    pub revalidate: Option<bool>,
    /// Whether what needs no flow has none.
    pub tracking: Tracking,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// A case with the usual rules, for every scene.
#[must_use]
pub fn case(name: &'static str, steps: impl IntoIterator<Item = Step>) -> Case {
    let steps = steps.into_iter().collect();
    Case {
        name,
        rules: Some(usual()),
        family: None,
        client: None,
        checks: Some(TcpChecks::Guard),
        pick_up: true,
        revalidate: None,
        tracking: Tracking::Auto,
        steps,
    }
}

impl Case {
    /// With these rules instead.
    #[must_use]
    pub fn rules(self, rules: impl IntoIterator<Item = Rule>) -> Self {
        Self { rules: Some(rules.into_iter().collect()), ..self }
    }

    /// Before there is a policy.
    #[must_use]
    pub fn without_policy(self) -> Self {
        Self { rules: None, ..self }
    }

    /// On an interface that follows TCP windows.
    #[must_use]
    pub fn strict(self) -> Self {
        Self { checks: Some(TcpChecks::Strict), ..self }
    }

    /// However closely TCP is followed.
    #[must_use]
    pub fn either(self) -> Self {
        Self { checks: None, ..self }
    }

    /// On an interface that asks about flows again after a change of policy, or does not.
    #[must_use]
    pub fn revalidate(self, revalidate: bool) -> Self {
        Self { revalidate: Some(revalidate), ..self }
    }

    /// On an interface that picks no connection up.
    #[must_use]
    pub fn without_pick_up(self) -> Self {
        Self { pick_up: false, ..self }
    }

    /// On an interface that keeps a flow of everything.
    #[must_use]
    pub fn always_tracked(self) -> Self {
        Self { tracking: Tracking::Always, ..self }
    }

    /// Only in one family.
    #[must_use]
    pub fn family(self, family: Family) -> Self {
        Self { family: Some(family), ..self }
    }

    /// Only with the client on that side: its packets have this direction.
    #[must_use]
    pub fn client(self, direction: Direction) -> Self {
        Self { client: Some(direction), ..self }
    }

    /// Whether the case means the same without an Ethernet header: it has no tags, no frames but
    /// IP, and does not touch the version field, which is all the type that is left then.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.packets().all(|packet| {
            packet.tags.is_empty()
                && !matches!(packet.body, Body::Link(_))
                && !packet.edits.iter().any(|(layer, at, _)| *layer == Layer::Ip && *at == 0)
        })
    }

    /// Whether the case is about an interface of this setup.
    #[must_use]
    pub fn is_for(&self, setup: &Setup) -> bool {
        self.checks.is_none_or(|checks| checks == setup.tcp_checks)
            && self.revalidate.is_none_or(|revalidate| revalidate == setup.revalidate)
            && (self.pick_up == setup.pick_up || setup.tcp_checks == TcpChecks::Strict)
    }

    /// The packets of the case, in order.
    pub fn packets(&self) -> impl Iterator<Item = &Packet> {
        self.steps.iter().filter_map(|step| match step {
            Step::Send(packet, _) => Some(&**packet),
            _ => None,
        })
    }

    /// The scenes that the case is played in.
    pub fn scenes(&self) -> impl Iterator<Item = Scene> {
        Scene::all().into_iter().filter(|scene| {
            self.family.is_none_or(|family| family == scene.family)
                && self.client.is_none_or(|client| client == scene.client)
        })
    }
}

/// A packet that must leave with this reason.
#[must_use]
pub fn send(packet: Packet, reason: Reason) -> Step {
    Step::Send(Box::new(packet), reason)
}
