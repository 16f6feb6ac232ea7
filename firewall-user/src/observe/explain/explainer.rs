//! Explaining packets of one interface: its programs are run on them, and what they decided is put into words.

use anyhow::Result;
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::reason::{Reason, Verdict};
use firewall_ebpf::wire::headers::Kind;

use super::describe::{packet, text, verdict};
use super::document::{Explanation, FlowOfPacket, Reply};
use super::error::ExplainError;
use super::names::Names;
use super::packet::{ACK, FIRST, FIRST_BACK, Macs, Numbers, Packet, SOME_MACS};
use super::parsed::{Ip, Parsed};
use super::remedy::Dropped;
use super::text::rule_text;
use crate::clock::nanoseconds;
use crate::control::enforcement::Enforcement;
use crate::control::{Control, NothingAttached};
use crate::dataplane::Pins;
use crate::dataplane::explain::{ExplainPrograms, Run, RunError, longest_frame};
use crate::dataplane::flows::list::FlowEntry;
use crate::dataplane::hooks::attach;
use crate::dataplane::host::device::Device;
use crate::dataplane::tables::clock;
use crate::dataplane::tables::maps::Maps;
use crate::model::Interface;
use crate::observe::capture::shortened;
use crate::policy::MANAGEMENT_RULE;
use crate::policy::explain::{Tracked, explain};
use crate::policy::nearest::allowing_elsewhere;

/// What is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// A packet, of which the frame is made.
    Packet(Packet),
    /// A whole frame, as the interface sees it.
    Frame(Vec<u8>),
}

/// The programs of an interface, loaded to explain packets, and what the store says about it. It takes a third of a
/// second to load them, and some microseconds to run them.
#[derive(Debug)]
pub struct Explainer {
    pub(super) programs: ExplainPrograms,
    pub(super) maps: Maps,
    pub(super) names: Names,
    pub(super) device: Device,
    pub(super) pins: Pins,
    /// Whether the attached programs are those of this build and of the stored settings.
    pub(super) is_current: bool,
}

impl Explainer {
    /// For packets of one interface. Nothing is loaded before the first of them.
    ///
    /// # Errors
    /// The interface is not enforced, or store or kernel cannot be read.
    pub fn open(control: &Control, interface: &Interface) -> Result<Self> {
        let maps = control.maps()?.ok_or(NothingAttached)?;
        let enforcement = Enforcement::read(control.pins(), Some(&maps), interface)?;
        let (Some(device), Some(hook)) = (enforcement.device, enforcement.hook) else {
            let why = enforcement.missing.join(", and ");
            let why = if why.is_empty() { why } else { format!(": {why}") };
            return Err(ExplainError::NotEnforced { interface: interface.label(), why }.into());
        };
        Ok(Self {
            programs: ExplainPrograms::new(&maps, attach::settings(interface, &device), hook)?,
            is_current: attach::is_current(&maps, interface, &device)?,
            names: Names::read(control, interface)?,
            device,
            pins: control.pins().clone(),
            maps,
        })
    }

    /// The interface, as it was stored when this was opened.
    #[must_use]
    pub const fn interface(&self) -> &Interface {
        &self.names.interface
    }

    /// Whether the interface's frames start with an Ethernet header.
    #[must_use]
    pub const fn has_ethernet(&self) -> bool {
        self.programs.has_ethernet()
    }

    /// Whether store and programs are still those that were read; else it has to be opened again.
    ///
    /// # Errors
    /// Store or kernel cannot be read.
    pub fn is_fresh(&self, control: &Control) -> Result<bool> {
        Ok(control.store().generation()? == self.names.generation
            && self.programs.are_current(&self.maps)?)
    }

    /// What the programs decide about a frame, without words: for very many packets.
    ///
    /// # Errors
    /// The kernel does not run the programs on it.
    pub fn decide(&mut self, frame: &[u8], direction: Direction) -> Result<Run> {
        self.programs.forget()?;
        self.run(frame, direction)
    }

    /// Explains a packet. Changes nothing in the kernel.
    ///
    /// # Errors
    /// The kernel does not run the programs on it, or store or kernel cannot be read.
    pub fn explain(
        &mut self,
        control: &Control,
        question: &Question,
        direction: Direction,
        with_log: bool,
    ) -> Result<Explanation> {
        self.programs.forget()?;
        let (frame, mut notes) = self.frame(question, direction)?;
        let parsed = Parsed::of(&frame, self.has_ethernet());
        let run = self.run(&frame, direction)?;
        let log = if with_log {
            self.programs.lines(&self.maps, &frame, (direction, run.reason))?
        } else {
            Vec::new()
        };
        self.remark(control, &parsed, direction, &run, &mut notes)?;
        let now = nanoseconds().unwrap_or_default();
        let rules = self.names.rules_at(now);
        let ip = parsed.ip();
        let probe = ip.and_then(|ip| ip.probe(direction));
        let tracking = self.names.interface.tracking;
        let by_rules =
            probe.map(|probe| explain(&rules, tracking, probe, ip.and_then(Ip::source_port)));
        let decided_by = self.rule_of(&run);
        let passes = run.reason.verdict() == Verdict::Pass;

        let mut other_rules = Vec::new();
        for number in
            by_rules.iter().flat_map(|of| &of.allowing).filter(|one| Some(**one) != decided_by)
        {
            other_rules.extend(self.names.rule(control, *number)?);
        }
        let (tracked, tracked_because) =
            self.tracked(&run, by_rules.as_ref().and_then(|of| of.tracked.as_ref()), control)?;
        let nearest = by_rules.as_ref().and_then(|of| of.nearest.as_ref());
        let nearest = nearest.filter(|_| run.reason == Reason::NoRule);
        let nearest_miss = match (nearest, probe) {
            (Some(miss), Some(probe)) => self.names.nearest(control, miss, probe)?,
            _ => None,
        };
        let elsewhere =
            probe.filter(|_| nearest.is_some()).and_then(|probe| allowing_elsewhere(&rules, probe));
        if let Some(number) =
            elsewhere.filter(|number| nearest.is_none_or(|miss| miss.number != *number))
            && let Some(rule) = self.names.rule(control, number)?
        {
            notes.push(format!("For other addresses, it is allowed by {}.", rule_text(&rule)));
        }
        let entry = run.counted.iter().copied().find(|one| self.names.entry(*one).is_some());
        let dropped = Dropped {
            names: &self.names,
            direction,
            reason: run.reason,
            ip,
            entry,
            nearest: nearest.map(|miss| miss.number),
            elsewhere,
            has_rule: by_rules.as_ref().is_some_and(|of| !of.allowing.is_empty()),
            opened_by: run.before.as_ref().map(FlowEntry::initiator),
        };
        let remedies = if passes { Vec::new() } else { dropped.remedies() };
        let reply = match ip {
            Some(ip) if passes => self.reply(control, ip, direction)?,
            _ => None,
        };
        let interface = &self.names.interface;
        Ok(Explanation {
            number: None,
            network_interface_id: interface.id.to_string(),
            device: interface.device.clone(),
            netns: interface.netns.clone(),
            direction: direction.name(),
            packet: packet(&parsed, frame.len()),
            verdict: verdict(run.reason, run.active),
            reason: run.reason.name(),
            help: run.reason.help(),
            generation: run.active.generation(),
            flow: self.flow(run.before.as_ref())?,
            entry: entry.and_then(|number| self.names.entry(number)).cloned(),
            rule: decided_by.map_or(Ok(None), |number| self.names.rule(control, number))?,
            other_rules,
            tracked,
            tracked_because,
            reply,
            nearest_miss,
            remedies,
            notes,
            log,
        })
    }

    fn run(&mut self, frame: &[u8], direction: Direction) -> Result<Run> {
        self.programs.run(&self.maps, frame, direction).map_err(|error| match error {
            RunError::Frame(length) => ExplainError::Frame { length }.into(),
            RunError::Dataplane(error) => error.into(),
        })
    }

    /// The frame to run, and what there is to say about it.
    fn frame(
        &mut self,
        question: &Question,
        direction: Direction,
    ) -> Result<(Vec<u8>, Vec<String>)> {
        let mut notes = Vec::new();
        let packet = match question {
            Question::Packet(packet) => packet,
            Question::Frame(frame) if frame.len() > longest_frame() => {
                let has_ethernet = self.has_ethernet();
                let cut = shortened(frame, longest_frame(), has_ethernet);
                notes.push(format!(
                    "The frame has {} bytes, more than a test run takes: it was run as one of {}.",
                    frame.len(),
                    cut.len()
                ));
                return Ok((cut, notes));
            }
            Question::Frame(frame) => return Ok((frame.clone(), notes)),
        };
        let macs = self.has_ethernet().then(|| self.macs(direction));
        let frame = packet.frame(macs, FIRST)?;
        if packet.is_icmp()
            && matches!(Parsed::of(&frame, macs.is_some()).ip(), Some(ip) if ip.kind == Kind::Error)
        {
            notes.push(
                "The error embeds a UDP datagram that its receiver sent to port 33434; a real one embeds the packet \
                 that it is about, and passes as related if that is of a live flow (--pcap, --from-drop)."
                    .to_owned(),
            );
        }
        if packet.protocol != firewall_ebpf::wire::protocol::TCP {
            return Ok((frame, notes));
        }
        let Some(live) = self.programs.flow(&frame, direction)? else { return Ok((frame, notes)) };
        let mut packet = packet.clone();
        if packet.flags.is_none() && !self.is_expired(&live)? {
            packet.flags = Some(ACK);
            notes.push(
                "The tuple has a live flow, so the packet is the segment that comes next in it (--tcp-flags syn asks \
                 about a new connection)."
                    .to_owned(),
            );
        }
        if packet.flags.is_none() {
            return Ok((frame, notes));
        }
        let numbers = Numbers {
            sequence: live.flow.next_seq[direction as usize],
            acknowledgement: live.flow.next_seq[direction.opposite() as usize],
        };
        Ok((packet.frame(macs, numbers)?, notes))
    }

    fn is_expired(&self, entry: &FlowEntry) -> Result<bool> {
        Ok(self.left(entry)?.is_none())
    }

    /// Seconds since a flow's last packet; `None` in place of them if its idle timeout is over.
    fn left(&self, entry: &FlowEntry) -> Result<Option<u64>> {
        let now = clock::now(&self.pins, &self.maps)?;
        let idle = now.saturating_sub(entry.flow.last_seen) / clock::hz();
        let timeout = entry.flow.state().map(|state| self.names.interface.timeout(state));
        Ok(timeout.filter(|timeout| idle <= u64::from(*timeout)).map(|_| idle))
    }

    /// Source and destination of a frame.
    fn macs(&self, direction: Direction) -> Macs {
        let [one, other] = SOME_MACS;
        let own = self.names.interface.port.mac.map_or(one, |mac| mac.0);
        match direction {
            Direction::Egress => [own, other],
            Direction::Ingress => [other, own],
        }
    }

    /// The number of the rule that has let a packet pass, or its flow in.
    fn rule_of(&self, run: &Run) -> Option<u32> {
        let of_flow = |entry: &Option<FlowEntry>| {
            let rule = entry.as_ref().map(|entry| entry.flow.rule);
            rule.filter(|number| *number != 0 && *number != MANAGEMENT_RULE)
        };
        match run.reason {
            Reason::Established => of_flow(&run.after).or_else(|| of_flow(&run.before)),
            Reason::NewFlow => of_flow(&run.after),
            Reason::Untracked | Reason::Admitted => {
                run.counted.iter().copied().find(|one| self.names.entry(*one).is_none())
            }
            _ => None,
        }
    }

    fn tracked(
        &self,
        run: &Run,
        by_rules: Option<&Tracked>,
        control: &Control,
    ) -> Result<(Option<bool>, Option<String>)> {
        let text = match (run.reason, by_rules) {
            (Reason::Established, _) => (true, "it belongs to a live flow".to_owned()),
            (Reason::NewFlow, Some(Tracked::Tracked(because))) => (true, because.text()),
            (Reason::NewFlow, _) => (true, "the active policy tracks it".to_owned()),
            (Reason::Untracked, Some(Tracked::Untracked { anywhere, replies })) => {
                let there = self.ids(control, anywhere)?;
                let back = self.ids(control, replies)?;
                let text = format!(
                    "{there} allow{} it for all addresses, and {back} every reply to it",
                    if anywhere.len() == 1 { "s" } else { "" }
                );
                (false, text)
            }
            (Reason::Untracked, _) => (false, "the active policy does not track it".to_owned()),
            (Reason::Admitted, _) => (false, "no packet replies to it".to_owned()),
            (Reason::Related, _) => {
                (false, "it is an error about a packet that has passed".to_owned())
            }
            _ => return Ok((None, None)),
        };
        Ok((Some(text.0), Some(text.1)))
    }

    fn ids(&self, control: &Control, numbers: &[u32]) -> Result<String> {
        let mut ids = Vec::new();
        for number in numbers {
            ids.extend(self.names.rule(control, *number)?.map(|rule| rule.security_group_rule_id));
        }
        Ok(ids.join(" and "))
    }

    fn flow(&self, entry: Option<&FlowEntry>) -> Result<Option<FlowOfPacket>> {
        let Some(entry) = entry else { return Ok(None) };
        let flow = &entry.flow;
        let idle = self.left(entry)?;
        let [ingress, egress] = Direction::ALL.map(|direction| direction as usize);
        Ok(Some(FlowOfPacket {
            state: flow
                .state()
                .map_or_else(|| flow.state.to_string(), |state| state.name().to_owned()),
            tier: entry.tier().name(),
            opened_by: entry.initiator().name(),
            idle_seconds: idle.unwrap_or(0),
            expired: idle.is_none(),
            ingress_packets: flow.packets[ingress],
            egress_packets: flow.packets[egress],
            let_in_by: match flow.rule {
                _ if entry.is_exempt() => "exempt",
                0 => "learned",
                MANAGEMENT_RULE => "management",
                _ => "rule",
            },
        }))
    }

    /// Runs what answers a packet that has just been run.
    fn reply(&mut self, control: &Control, ip: &Ip, direction: Direction) -> Result<Option<Reply>> {
        if ip.is_fragment {
            return Ok(None);
        }
        let Some(reply) = ip.packet.reply() else { return Ok(None) };
        let direction = direction.opposite();
        let is_first = reply.flags.is_some_and(|flags| flags & 2 != 0);
        let numbers = Numbers {
            sequence: if is_first { FIRST_BACK } else { ip.numbers.acknowledgement },
            acknowledgement: ip.numbers.sequence.wrapping_add(ip.payload + u32::from(is_first)),
        };
        let macs = self.has_ethernet().then(|| self.macs(direction));
        let frame = reply.frame(macs, numbers)?;
        let run = self.run(&frame, direction)?;
        let entry = run.counted.iter().find_map(|number| self.names.entry(*number)).cloned();
        let in_flow = run.reason == Reason::Established;
        let rule = if in_flow { None } else { self.rule_of(&run) };
        Ok(Some(Reply {
            verdict: verdict(run.reason, run.active),
            reason: run.reason.name(),
            text: text(&reply),
            in_flow,
            entry,
            rule: rule.map_or(Ok(None), |number| self.names.rule(control, number))?,
        }))
    }
}
