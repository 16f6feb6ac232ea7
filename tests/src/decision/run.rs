//! Plays a case on every engine, step by step side by side.

use firewall_ebpf::flow::Tier;
use firewall_ebpf::interface::{Direction, State};
use firewall_ebpf::reason::Reason;
use firewall_user::policy::CompiledPolicy;

use crate::decision::case::{Case, Step};
use crate::decision::engine::{Engine, lines};
use crate::decision::packet::Packet;
use crate::decision::rules::{Rule, compiled_with};
use crate::decision::scene::Scene;

/// Plays every case in every one of its scenes and returns how many packets were judged.
///
/// # Panics
/// If an answer is wrong: with the case, the step, the packet and every engine's answer, of every
/// scene where that is so.
pub fn run(cases: &[Case], engines: &mut [&mut dyn Engine]) -> usize {
    play(cases, Packet::frame, engines)
}

/// [`run`] without Ethernet headers, for the cases that mean the same without them.
///
/// # Panics
/// As [`run`].
pub fn run_bare(cases: &[Case], engines: &mut [&mut dyn Engine]) -> usize {
    let bare: Vec<_> = cases.iter().filter(|case| case.is_bare()).cloned().collect();
    play(&bare, Packet::ip, engines)
}

type Render = fn(&Packet, &Scene) -> Vec<u8>;

fn play(cases: &[Case], render: Render, engines: &mut [&mut dyn Engine]) -> usize {
    let mut packets = 0;
    let mut wrong = Vec::new();
    for case in cases {
        for scene in case.scenes() {
            match (Play { case, scene, render }).run(engines) {
                Ok(judged) => packets += judged,
                Err(report) => wrong.push(report),
            }
        }
    }
    // One wrong line of code can be a hundred wrong cases; the first few say where.
    assert!(
        wrong.is_empty(),
        "{} cases went wrong, of which:\n\n{}",
        wrong.len(),
        wrong[..wrong.len().min(8)].join("\n\n")
    );
    packets
}

struct Play<'a> {
    case: &'a Case,
    scene: Scene,
    render: Render,
}

impl Play<'_> {
    fn run(&self, engines: &mut [&mut dyn Engine]) -> Result<usize, String> {
        let policy = self.case.rules.as_ref().map(|rules| self.compiled(rules));
        for engine in engines.iter_mut() {
            engine.reset(policy.as_ref());
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
                    engines.iter_mut().for_each(|engine| engine.replace(&policy));
                }
                Step::Flow(tier, state) => self.flow(at, *tier, *state, engines)?,
                Step::Flows(count) => self.flows(at, *count, engines)?,
                Step::ProvenFull(full) => {
                    engines.iter_mut().for_each(|engine| engine.fill_proven(*full));
                }
                Step::Learned => engines.iter_mut().for_each(|engine| engine.learn_flows()),
            }
        }
        self.agree(engines)?;
        Ok(packets)
    }

    fn send(
        &self,
        at: usize,
        packet: &Packet,
        expected: Reason,
        engines: &mut [&mut dyn Engine],
    ) -> Result<(), String> {
        let frame = (self.render)(packet, &self.scene);
        let direction = packet.direction(&self.scene);
        let answers: Vec<_> = engines
            .iter_mut()
            .map(|engine| (engine.name(), engine.decide(&frame, direction)))
            .collect();
        if answers.iter().any(|(_, answer)| *answer != Some(expected)) {
            let answers: Vec<_> =
                answers.iter().map(|(name, answer)| format!("{name}: {}", word(*answer))).collect();
            let packet = describe(packet, &frame, direction);
            let answers = answers.join("\n  ");
            let what = format!("{packet}\n  expected {}\n  {answers}", expected.name());
            return self.fail(at, &what, engines);
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
            let right = rest.is_none()
                && first.is_some_and(|((in_tier, _), view)| {
                    *in_tier == tier && view.flow.state() == Some(state)
                });
            if !right {
                let wanted = format!(
                    "{}: one {} flow, {}",
                    engines[index].name(),
                    tier.name(),
                    state.name()
                );
                return self.fail(at, &format!("expected on {wanted}"), engines);
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
        compiled_with(rules, &self.scene, self.case.tracking)
    }

    /// At the end all tables are the same everywhere, the rules' counters too.
    fn agree(&self, engines: &mut [&mut dyn Engine]) -> Result<(), String> {
        let at = self.case.steps.len();
        let summaries: Vec<_> = engines
            .iter_mut()
            .map(|engine| (engine.flows(), engine.rules(), engine.events()))
            .collect();
        if summaries.windows(2).any(|pair| pair[0] != pair[1]) {
            return self.fail(at, &format!("rules or flows differ: {summaries:?}"), engines);
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
            self.scene,
            tables.join("\n")
        ))
    }
}

/// A reason for a report.
#[must_use]
pub fn word(answer: Option<Reason>) -> &'static str {
    answer.map_or("refused by the kernel's test run", Reason::name)
}

fn describe(packet: &Packet, frame: &[u8], direction: Direction) -> String {
    format!("{} packet {packet:?}\n  bytes {}", direction.name(), hex(frame))
}

/// Bytes for a report.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
