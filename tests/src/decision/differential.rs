//! Compares host, kernel, reference evaluator and model on the same random packets.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use firewall_ebpf::abi::interface::{Orientation, TcpChecks};
use firewall_ebpf::abi::reason::Reason;
use firewall_user::model::Tracking;
use firewall_user::policy::{ResolvedRule, compile};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

use crate::decision::deny::{Blocks, Filter};
use crate::decision::engine::lines;
use crate::decision::model::Model;
use crate::decision::port::Port;
use crate::decision::random::{Event, config, rules, sequence};
use crate::decision::rules::{ends_of, in_all_scenarios};
use crate::decision::run::{hex, reason_name};
use crate::decision::{Engine as _, Host, Kernel, Receive, Scenario, Setup};

/// The kernel's clock advances while a sequence runs, which can change results after half a second:
/// a difference after a longer stall of the machine is ignored.
const STALL: Duration = Duration::from_millis(400);

/// What was compared.
#[derive(Debug, Default)]
pub struct Summary {
    /// Packets that host and kernel decided.
    pub pairs: u64,
    /// Packets of these that the model decided too.
    pub modelled: u64,
    /// Sequences of these packets.
    pub sequences: u64,
    /// The run time.
    pub time: Duration,
    /// Packets by reason.
    pub reasons: BTreeMap<&'static str, u64>,
}

/// Results that differ, with the smallest sequence of events that shows it.
#[derive(Debug)]
pub struct Difference {
    seed: u64,
    sequence: u64,
    setup: String,
    rules: Vec<ResolvedRule>,
    events: Vec<Event>,
    what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, sequence, setup, rules, events, what } = self;
        writeln!(f, "seed {seed}, sequence {sequence}, {setup}: {what}")?;
        for rule in rules {
            writeln!(f, "  {rule:?}")?;
        }
        for event in events {
            match event {
                Event::Frame(frame, direction) => {
                    writeln!(f, "  {} {}", direction.name(), hex(frame))?;
                }
                Event::Wait(seconds) => writeln!(f, "  {seconds} s pass")?,
                Event::Filter(entries) => writeln!(f, "  filter {entries:?}")?,
                Event::Blocks(blocks) => writeln!(f, "  blocks {blocks:?}")?,
            }
        }
        Ok(())
    }
}

/// An interface on the host and in the kernel.
struct Pair {
    setup: Setup,
    host: Host,
    kernel: RefCell<Kernel>,
}

impl Pair {
    fn new(setup: Setup) -> Self {
        Self { setup, host: Host::of(&setup), kernel: RefCell::new(Kernel::load(setup)) }
    }
}

/// Compares at least `pairs` packets.
///
/// # Errors
/// The first difference, shrunk.
pub fn run(pairs: u64, seed: u64) -> Result<Summary, Box<Difference>> {
    let host = Setup::new(Orientation::Host);
    let guest = Setup::new(Orientation::Guest);
    let setups = [
        host,
        guest,
        Setup { tcp_checks: TcpChecks::Strict, tcp_loose: false, ..host },
        Setup { port: Port::AddressesAndMac, ..guest },
        Setup { port: Port::Undeclared, ..guest },
        Setup { port: Port::Router, ..guest },
    ];
    let count = u64::try_from(setups.len()).expect("a few");
    let mut interfaces = setups.map(Pair::new);
    let inputs = (rules(), sequence());
    let mut runner = TestRunner::new(config(1, seed));
    let mut summary = Summary::default();
    let begin = Instant::now();
    while summary.pairs < pairs {
        let (rules, events) = inputs.new_tree(&mut runner).expect("no filters").current();
        let rules = in_all_scenarios(&rules);
        let at = summary.sequences;
        let pair = &mut interfaces[usize::try_from(at % count).expect("small")];
        pair.kernel.get_mut().receive = Receive::ALL[usize::from(at / count % 2 == 1)];
        summary.sequences += 1;
        let start = Instant::now();
        if let Err(first) = pair.compare(&rules, &events, &mut summary) {
            let was_stalled = start.elapsed() > STALL;
            let events = pair.shrink(&rules, events);
            let what = match pair.compare(&rules, &events, &mut summary) {
                Err(what) => what,
                Ok(()) if was_stalled => {
                    eprintln!("warning: sequence {at} took too long to compare: {first}");
                    continue;
                }
                Ok(()) => format!("not reproducible: {first}"),
            };
            let setup = format!("{:?} {}", pair.setup, pair.kernel.get_mut().name());
            return Err(Box::new(Difference { seed, sequence: at, setup, rules, events, what }));
        }
    }
    summary.time = begin.elapsed();
    Ok(summary)
}

impl Pair {
    fn compare(
        &mut self,
        rules: &[ResolvedRule],
        events: &[Event],
        summary: &mut Summary,
    ) -> Result<(), String> {
        let policy = compile(rules, Tracking::Auto).expect("a few rules fit");
        let (host, kernel) = (&mut self.host, self.kernel.get_mut());
        host.reset(Some(&policy));
        kernel.reset(Some(&policy));
        let ends = ends_of(rules);
        host.set_rule_ends(&ends);
        kernel.set_rule_ends(&ends);
        let scenarios = Scenario::all();
        let is_strict = self.setup.tcp_checks == TcpChecks::Strict;
        let mut model = Model::new(rules.to_vec(), is_strict, self.setup.port);
        for (at, event) in (1..).zip(events) {
            let (frame, direction) = match event {
                Event::Frame(frame, direction) => (frame, *direction),
                Event::Wait(seconds) => {
                    host.wait(*seconds);
                    kernel.wait(*seconds);
                    model.wait(*seconds);
                    continue;
                }
                Event::Filter(entries) => {
                    let filter =
                        entries.as_ref().map(|entries| Filter::in_all(entries, &scenarios));
                    host.set_filter(filter.as_ref());
                    kernel.set_filter(filter.as_ref());
                    model.set_filter(filter);
                    continue;
                }
                Event::Blocks(blocks) => {
                    let blocks = Blocks::in_all(blocks, &scenarios);
                    host.set_blocks(&blocks);
                    kernel.set_blocks(&blocks);
                    model.set_blocks(blocks);
                    continue;
                }
            };
            let on_host = host.decide(frame, direction);
            let in_kernel = kernel.decide(frame, direction);
            if in_kernel.is_none() && on_host == Some(Reason::TruncatedFrame) {
                // Shorter than the test run accepts.
                continue;
            }
            summary.pairs += 1;
            let in_model = model.decide(frame, direction);
            summary.modelled += u64::from(in_model.is_some());
            if on_host != in_kernel || in_model.is_some_and(|reason| on_host != Some(reason)) {
                let expected = in_model.map_or("none", Reason::name);
                return Err(format!(
                    "event {at}: host {}, kernel {}, model {expected}",
                    reason_name(on_host),
                    reason_name(in_kernel)
                ));
            }
            *summary.reasons.entry(reason_name(on_host)).or_default() += 1;
        }
        let (flows, in_kernel) = (host.flows(), kernel.flows());
        if flows != in_kernel {
            return Err(format!(
                "flows on the host{}\n in the kernel{}",
                lines(&flows),
                lines(&in_kernel)
            ));
        }
        if let Some(what) = model.difference(&flows) {
            return Err(format!("at the end: {what}"));
        }
        if host.rules() != kernel.rules() || host.events() != kernel.events() {
            return Err("counters by rule or by event differ".to_owned());
        }
        let (entries, in_kernel) = (host.entries(), kernel.entries());
        if entries != in_kernel {
            return Err(format!("counters of entries: host {entries:?}, kernel {in_kernel:?}"));
        }
        Ok(())
    }

    /// Removes events, first many at once and then single ones, while a difference remains.
    fn shrink(&mut self, rules: &[ResolvedRule], mut events: Vec<Event>) -> Vec<Event> {
        let mut summary = Summary::default();
        let mut size = events.len().div_ceil(2);
        while size > 0 {
            let mut at = 0;
            while at < events.len() {
                let mut fewer = events.clone();
                fewer.drain(at..events.len().min(at + size));
                if self.compare(rules, &fewer, &mut summary).is_err() {
                    events = fewer;
                } else {
                    at += size;
                }
            }
            size /= 2;
        }
        events
    }
}
