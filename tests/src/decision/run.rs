//! Runs cases on all engines in parallel, step by step.

use firewall_ebpf::abi::flow::Tier;
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::reason::Reason;
use firewall_ebpf::abi::state::State;
use firewall_user::policy::CompiledPolicy;

use crate::decision::case::{Case, Count, Step};
use crate::decision::deny::{BLOCKS, Blocks, Counted, ENTRIES, Filter, LAST, agree};
use crate::decision::engine::{Engine, lines};
use crate::decision::packet::Packet;
use crate::decision::rules::{Rule, compiled_with, ends};
use crate::decision::scenario::Scenario;

/// Runs every case in each of its scenarios; returns how many packets were decided.
///
/// # Panics
/// If a result is wrong: with the case, the step, the packet and every engine's result, of the first
/// scenarios that failed.
pub fn run(cases: &[Case], engines: &mut [&mut dyn Engine]) -> usize {
    run_rendered(cases, Packet::frame, engines)
}

/// [`run`] without Ethernet headers, for the cases that do not depend on them.
///
/// # Panics
/// As [`run`].
pub fn run_bare(cases: &[Case], engines: &mut [&mut dyn Engine]) -> usize {
    let bare: Vec<_> = cases.iter().filter(|case| case.is_bare()).cloned().collect();
    run_rendered(&bare, Packet::ip, engines)
}

type Render = fn(&Packet, &Scenario) -> Vec<u8>;

fn run_rendered(cases: &[Case], render: Render, engines: &mut [&mut dyn Engine]) -> usize {
    let mut packets = 0;
    let mut failures = Vec::new();
    for case in cases {
        for scenario in case.scenarios() {
            match (CaseRun { case, scenario, render }).run(engines) {
                Ok(decided) => packets += decided,
                Err(report) => failures.push(report),
            }
        }
    }
    // One error can fail a hundred cases; the first few show where it is.
    assert!(
        failures.is_empty(),
        "{} cases failed, the first of them:\n\n{}",
        failures.len(),
        failures[..failures.len().min(8)].join("\n\n")
    );
    packets
}

struct CaseRun<'a> {
    case: &'a Case,
    scenario: Scenario,
    render: Render,
}

impl CaseRun<'_> {
    fn run(&self, engines: &mut [&mut dyn Engine]) -> Result<usize, String> {
        let policy = self.case.rules.as_ref().map(|rules| self.compiled(rules));
        for engine in engines.iter_mut() {
            engine.reset(policy.as_ref());
            engine.set_rule_ends(&ends(self.case.rules.as_deref().unwrap_or_default()));
        }
        let mut packets = 0;
        for (index, step) in self.case.steps.iter().enumerate() {
            let at = index + 1;
            match step {
                Step::Send(packet, expected) => {
                    packets += 1;
                    self.send(at, packet, *expected, engines)?;
                }
                Step::Wait(seconds) => engines.iter_mut().for_each(|engine| engine.wait(*seconds)),
                Step::Rules(rules) => {
                    let policy = self.compiled(rules);
                    for engine in engines.iter_mut() {
                        engine.replace(&policy);
                        engine.set_rule_ends(&ends(rules));
                    }
                }
                Step::Filter(entries) => {
                    let filter =
                        entries.as_ref().map(|entries| Filter::new(entries, &self.scenario));
                    engines.iter_mut().for_each(|engine| engine.set_filter(filter.as_ref()));
                }
                Step::Blocks(blocks) => {
                    let blocks = Blocks::new(blocks, &self.scenario);
                    engines.iter_mut().for_each(|engine| engine.set_blocks(&blocks));
                }
                Step::Counted(counter, packets) => self.counted(at, *counter, *packets, engines)?,
                Step::Flow(tier, state) => self.flow(at, *tier, *state, engines)?,
                Step::Flows(count) => self.flows(at, *count, engines)?,
                Step::ProvenFull(full) => {
                    engines.iter_mut().for_each(|engine| engine.fill_proven(*full));
                }
                Step::Learned => engines.iter_mut().for_each(|engine| engine.learn_flows()),
            }
        }
        self.compare_tables(engines)?;
        Ok(packets)
    }

    fn send(
        &self,
        at: usize,
        packet: &Packet,
        expected: Reason,
        engines: &mut [&mut dyn Engine],
    ) -> Result<(), String> {
        let frame = (self.render)(packet, &self.scenario);
        let direction = packet.direction(&self.scenario);
        let results: Vec<_> = engines
            .iter_mut()
            .map(|engine| (engine.name(), engine.decide(&frame, direction)))
            .collect();
        if results.iter().any(|(_, reason)| *reason != Some(expected)) {
            let results: Vec<_> = results
                .iter()
                .map(|(name, reason)| format!("{name}: {}", reason_name(*reason)))
                .collect();
            let packet = describe(packet, &frame, direction);
            let results = results.join("\n  ");
            let what = format!("{packet}\n  expected {}\n  {results}", expected.name());
            return self.fail(at, &what, engines);
        }
        Ok(())
    }

    fn counted(
        &self,
        at: usize,
        what: Count,
        packets: u64,
        engines: &mut [&mut dyn Engine],
    ) -> Result<(), String> {
        let counter = match what {
            Count::Entry(at) => ENTRIES + at,
            Count::Last(from) => LAST + self.scenario.direction(from) as u32,
            Count::Block(at) => BLOCKS + at,
        };
        for index in 0..engines.len() {
            let entries = engines[index].entries();
            let counted = entries.get(&counter).map_or(0, |(packets, _)| *packets);
            let is_more = counter < LAST && !engines[index].has_fast_path() && counted > packets;
            if counted != packets && !is_more {
                let name = engines[index].name();
                let what =
                    format!("{name}: {what:?}: {counted} packets, not {packets}: {entries:?}");
                return self.fail(at, &what, engines);
            }
        }
        Ok(())
    }

    fn flow(
        &self,
        at: usize,
        tier: Tier,
        state: State,
        engines: &mut [&mut dyn Engine],
    ) -> Result<(), String> {
        for index in 0..engines.len() {
            let flows = engines[index].flows();
            let mut all = flows.iter();
            let (first, rest) = (all.next(), all.next());
            let matches = rest.is_none()
                && first.is_some_and(|((in_tier, _), view)| {
                    *in_tier == tier && view.flow.state() == Some(state)
                });
            if !matches {
                let expected = format!(
                    "{}: one {} flow, {}",
                    engines[index].name(),
                    tier.name(),
                    state.name()
                );
                return self.fail(at, &format!("expected on {expected}"), engines);
            }
        }
        Ok(())
    }

    fn flows(
        &self,
        at: usize,
        count: usize,
        engines: &mut [&mut dyn Engine],
    ) -> Result<(), String> {
        for index in 0..engines.len() {
            if engines[index].flows().len() != count {
                let name = engines[index].name();
                return self.fail(at, &format!("expected on {name}: {count} flows"), engines);
            }
        }
        Ok(())
    }

    fn compiled(&self, rules: &[Rule]) -> CompiledPolicy {
        compiled_with(rules, &self.scenario, self.case.tracking)
    }

    /// At the end all engines have the same flows and the same counters by rule and event.
    fn compare_tables(&self, engines: &mut [&mut dyn Engine]) -> Result<(), String> {
        let at = self.case.steps.len();
        let summaries: Vec<_> = engines
            .iter_mut()
            .map(|engine| (engine.flows(), engine.rules(), engine.events()))
            .collect();
        if summaries.windows(2).any(|pair| pair[0] != pair[1]) {
            return self.fail(at, &format!("rules or flows differ: {summaries:?}"), engines);
        }
        let entries: Vec<_> =
            engines.iter_mut().map(|engine| (engine.has_fast_path(), engine.entries())).collect();
        let agree = |pair: &[(bool, Counted)]| match pair {
            [(_, host), (false, kernel)] => agree(host, kernel),
            [(_, one), (_, other)] => one == other,
            _ => true,
        };
        if !entries.windows(2).all(agree) {
            return self.fail(at, &format!("counters of entries differ: {entries:?}"), engines);
        }
        Ok(())
    }

    fn fail(&self, at: usize, what: &str, engines: &mut [&mut dyn Engine]) -> Result<(), String> {
        let tables: Vec<_> = engines
            .iter_mut()
            .map(|engine| format!("  flows on {}:{}", engine.name(), lines(&engine.flows())))
            .collect();
        Err(format!(
            "case \"{}\" ({}), step {at}: {what}\n{}",
            self.case.name,
            self.scenario,
            tables.join("\n")
        ))
    }
}

/// The name of a result, for a failure message.
#[must_use]
pub fn reason_name(reason: Option<Reason>) -> &'static str {
    reason.map_or("not accepted by the kernel's test run", Reason::name)
}

fn describe(packet: &Packet, frame: &[u8], direction: Direction) -> String {
    format!("{} packet {packet:?}\n  bytes {}", direction.name(), hex(frame))
}

/// Bytes in hexadecimal, for a failure message.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
