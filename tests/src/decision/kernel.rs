//! The verdict logic in the kernel: the real object, run on one packet at a time.

use std::collections::BTreeMap;

use aya::Ebpf;
use aya::programs::{ProgramError, SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use firewall_ebpf::abi::counter::{Counter, counter_index};
use firewall_ebpf::abi::event::Event;
use firewall_ebpf::abi::interface::{Direction, FRAGMENT_TIMEOUT, NonIp, Orientation, TcpChecks};
use firewall_ebpf::abi::reason::{Reason, Verdict};
use firewall_ebpf::abi::state::State;
use firewall_user::dataplane::explain::ExplainPrograms;
use firewall_user::dataplane::hooks::hook::Hook;
use firewall_user::dataplane::hooks::load::{self, Settings};
use firewall_user::dataplane::hooks::slow_path::{self, Kind, Variant};
use firewall_user::dataplane::object::shapes::Sizes;
use firewall_user::dataplane::tables::interface::FlowSizes;
use firewall_user::dataplane::{DataplaneError, Pins, instance, tables};
use firewall_user::model::EtherType;
use firewall_user::policy::CompiledPolicy;

use crate::PinDirectory;
use crate::decision::deny::{Blocks, Ends, Filter};
use crate::decision::engine::{Engine, FlowViews};
use crate::decision::host::{SLOT, padded_timeout, timeout};
use crate::decision::kernel_maps::{INTERFACES, Maps, NEW, PROVEN, RULES};
use crate::decision::port::Port;
use crate::decision::race::Runner;
use crate::decision::run::hex;

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const TCX_NEXT: u32 = u32::MAX;
const TCX_DROP: u32 = 2;

/// The hook of received packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receive {
    /// `sg_xdp_rx`.
    Xdp,
    /// `sg_tcx_rx`.
    Tcx,
}

impl Receive {
    /// Both hooks.
    pub const ALL: [Self; 2] = [Self::Xdp, Self::Tcx];
}

/// The settings that are fixed when the programs are loaded.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Which direction of the device is ingress.
    pub orientation: Orientation,
    /// Whether frames start with an Ethernet header.
    pub ethernet: bool,
    /// Which frames that are not IP pass.
    pub non_ip: NonIp,
    /// Which EtherType passes besides.
    pub ether_type: Option<EtherType>,
    /// The TCP checks.
    pub tcp_checks: TcpChecks,
    /// Whether TCP connections are picked up mid-stream.
    pub tcp_loose: bool,
    /// Whether flows are re-evaluated after a policy change.
    pub revalidate: bool,
    /// The port security.
    pub port: Port,
    /// Proven TCP flows that one source can have.
    pub max_per_source: Option<u32>,
}

impl Setup {
    /// An Ethernet device with the default settings.
    #[must_use]
    pub const fn new(orientation: Orientation) -> Self {
        Self {
            orientation,
            ethernet: true,
            non_ip: NonIp::Control,
            ether_type: None,
            tcp_checks: TcpChecks::Guard,
            tcp_loose: true,
            revalidate: false,
            port: Port::Open,
            max_per_source: None,
        }
    }

    /// The variants of flow tracking on an interface of this orientation.
    #[must_use]
    pub fn variants(orientation: Orientation) -> [Self; 4] {
        let default = Self::new(orientation);
        let strict = Self { tcp_checks: TcpChecks::Strict, tcp_loose: false, ..default };
        let revalidating = Self { revalidate: true, ..default };
        [default, Self { tcp_loose: false, ..default }, strict, revalidating]
    }

    /// The variants of port security on an interface of this orientation.
    #[must_use]
    pub fn ports(orientation: Orientation) -> [Self; 4] {
        Port::GUESTS.map(|port| Self { port, ..Self::new(orientation) })
    }
}

/// The engine in the kernel.
pub struct Kernel {
    ebpf: Ebpf,
    /// The program's maps.
    pub maps: Maps,
    /// The hook of received packets; transmitted packets always go through `sg_tcx_tx`.
    pub receive: Receive,
    /// Bytes of a frame in the linear part of the XDP buffer; the rest is in its fragments.
    pub linear: Option<u32>,
    orientation: Orientation,
    hz: u64,
    counters: Vec<Counter>,
    settings: Settings,
    pins: PinDirectory,
}

impl Kernel {
    /// Loads the object's programs, each of which the verifier checks.
    ///
    /// # Panics
    /// If this build has no object, or it does not load.
    #[must_use]
    pub fn load(setup: Setup) -> Self {
        let directory = PinDirectory::new();
        let pins = Pins::new(directory.path());
        let sizes = Sizes { rules: RULES, interfaces: INTERFACES };
        let fail = fail_dataplane;
        let mut instance = instance::ensure_maps(&pins, &sizes)
            .unwrap_or_else(|error| fail("create the maps", error));
        let flows = FlowSizes {
            new: NEW,
            udp: NEW,
            tcp: PROVEN,
            fragments: NEW,
            sources: setup.max_per_source.map_or(0, |_| NEW),
        };
        instance
            .ensure_interface_tables([(SLOT, flows)])
            .unwrap_or_else(|error| fail("create the tables of flows", error));
        let settings = Settings {
            slot: SLOT,
            orientation: setup.orientation,
            has_ethernet: setup.ethernet,
            non_ip: setup.non_ip,
            ether_types: setup.ether_type.into_iter().collect(),
            tcp_checks: setup.tcp_checks,
            tcp_loose: setup.tcp_loose,
            revalidate: setup.revalidate,
            max_per_source: setup.max_per_source,
            timeouts: BTreeMap::new(),
            port: setup.port.record(),
        };
        let hz = ticks_per_second();
        let mut record = settings.record();
        for &state in State::ALL {
            record.timeouts[state as usize] = timeout(state, hz);
        }
        record.fragment_timeout = padded_timeout(FRAGMENT_TIMEOUT, hz);
        // Not the age at which a UDP flow can be proven: it is reached, not exceeded, after whole seconds.
        // Not the half that a first attach uses, so that code that ignores it fails.
        let half = 1;
        instance.set_settings((SLOT, half), record).unwrap_or_else(|e| fail("settings", e));
        let (received, transmitted) =
            (setup.orientation.received(), setup.orientation.transmitted());
        let Setup { tcp_checks: checks, ethernet: has_ethernet, revalidate: revalidates, .. } =
            setup;
        for (kind, direction) in
            [(Kind::Xdp, received), (Kind::Tc, received), (Kind::Tc, transmitted)]
        {
            let variant = Variant { kind, direction, checks, has_ethernet, revalidates };
            slow_path::ensure(&mut instance, variant)
                .unwrap_or_else(|error| fail("load the slow path", error));
        }
        let mut ebpf = load::open(&instance, &settings, (half, &record))
            .unwrap_or_else(|error| fail("open the object", error));
        let fail = |name: &str, error: ProgramError| -> ! { panic!("load {name}: {error}") };
        xdp(&mut ebpf, "sg_xdp_rx").load().unwrap_or_else(|e| fail("sg_xdp_rx", e));
        for name in ["sg_tcx_rx", "sg_tcx_tx", "sg_clock"] {
            tcx(&mut ebpf, name).load().unwrap_or_else(|error| fail(name, error));
        }
        // What `attach` records.
        instance.set_loaded(SLOT, (1, half)).unwrap_or_else(|e| fail_dataplane("LOADED", e));
        let maps = Maps::new(&pins);
        let counters = maps.counters();
        Self {
            ebpf,
            maps,
            receive: Receive::Xdp,
            linear: None,
            orientation: setup.orientation,
            hz,
            counters,
            settings,
            pins: directory,
        }
    }

    /// The programs of explaining runs beside these, and the maps of the instance.
    ///
    /// # Panics
    /// If they cannot be opened.
    #[must_use]
    pub fn explaining(&self) -> (ExplainPrograms, tables::maps::Maps) {
        let pins = Pins::new(self.pins.path());
        let maps = instance::open(&pins).unwrap_or_else(|error| fail_dataplane("open", error));
        let maps = maps.expect("the maps of this instance");
        let hook = match self.receive {
            Receive::Xdp => Hook::Xdp,
            Receive::Tcx => Hook::Tcx,
        };
        let programs = ExplainPrograms::new(&maps, self.settings.clone(), hook);
        (programs.unwrap_or_else(|error| fail_dataplane("explain", error)), maps)
    }

    /// The pins of its maps and programs.
    #[must_use]
    pub fn pins(&self) -> Pins {
        Pins::new(self.pins.path())
    }

    /// Whether packets of this direction go through the XDP program.
    #[must_use]
    pub fn uses_xdp(&self, direction: Direction) -> bool {
        self.program(direction) == "sg_xdp_rx"
    }

    /// Whether this kernel's test run supports a linear part smaller than a small frame (Linux
    /// 6.18).
    pub fn splits_frames(&mut self) -> bool {
        let direction = self.orientation.received();
        self.linear = Some(20);
        let accepted = self.verdict(&[0; 60], direction).is_some();
        self.linear = None;
        self.reset_baseline();
        accepted
    }

    /// The TC programs, for several threads.
    #[must_use]
    pub fn runner(&self) -> Runner {
        let of = |direction: Direction| {
            let is_received = self.orientation.received() == direction;
            let name = if is_received { "sg_tcx_rx" } else { "sg_tcx_tx" };
            let program = self.ebpf.program(name).unwrap_or_else(|| panic!("no program {name}"));
            let fd = program.fd().and_then(|fd| Ok(fd.try_clone()?));
            fd.unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        Runner { programs: [of(Direction::Ingress), of(Direction::Egress)] }
    }

    /// Packets by direction and reason since the last call of this or [`Kernel::reset_baseline`],
    /// without zeros.
    pub fn counted_by_reason(&mut self) -> BTreeMap<(Direction, Reason), u64> {
        let after = self.maps.counters();
        let before = std::mem::replace(&mut self.counters, after);
        let mut counted = BTreeMap::new();
        for (direction, reason) in
            Direction::ALL.into_iter().flat_map(|d| Reason::ALL.iter().map(move |r| (d, *r)))
        {
            let at = counter_index(SLOT, direction, reason as u32);
            let at = usize::try_from(at).expect("an index");
            let packets = self.counters[at].packets - before[at].packets;
            if packets > 0 {
                counted.insert((direction, reason), packets);
            }
        }
        counted
    }

    /// Sets the baseline of the counters, after packets that only went through
    /// [`Kernel::verdict`].
    pub fn reset_baseline(&mut self) {
        self.counters = self.maps.counters();
    }

    /// The current time of the programs, in jiffies.
    pub fn now(&mut self) -> u64 {
        let options = TestRunOptions { data_in: Some(&[0; 60]), ..TestRunOptions::new() };
        tcx(&mut self.ebpf, "sg_clock").test_run(options).expect("run sg_clock");
        self.maps.clock()
    }

    /// The program for packets of this direction.
    fn program(&self, direction: Direction) -> &'static str {
        match (self.orientation.received() == direction, self.receive) {
            (true, Receive::Xdp) => "sg_xdp_rx",
            (true, Receive::Tcx) => "sg_tcx_rx",
            (false, _) => "sg_tcx_tx",
        }
    }

    /// Runs a program on a frame; returns its verdict. `None` for a frame that the test run does
    /// not accept.
    pub fn verdict(&mut self, frame: &[u8], direction: Direction) -> Option<Verdict> {
        let name = self.program(direction);
        let run = if name == "sg_xdp_rx" {
            let buffers = self.linear.map(|linear| xdp_md(linear.min(length(frame))));
            let context = buffers.as_ref().map(<[u8; 24]>::as_slice);
            let options =
                TestRunOptions { data_in: Some(frame), ctx_in: context, ..TestRunOptions::new() };
            xdp(&mut self.ebpf, name).test_run(options)
        } else {
            let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::new() };
            tcx(&mut self.ebpf, name).test_run(options)
        };
        let returned = match run {
            Ok(result) => result.return_value,
            Err(ProgramError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(libc::EINVAL) =>
            {
                return None;
            }
            Err(error) => panic!("{name}: test run: {error}: bytes {}", hex(frame)),
        };
        Some(match (name, returned) {
            ("sg_xdp_rx", XDP_PASS) | ("sg_tcx_rx" | "sg_tcx_tx", TCX_NEXT) => Verdict::Pass,
            ("sg_xdp_rx", XDP_DROP) | ("sg_tcx_rx" | "sg_tcx_tx", TCX_DROP) => Verdict::Drop,
            _ => panic!("{name} returned {returned}: bytes {}", hex(frame)),
        })
    }

    /// The reason whose counter increased since the last call, by one packet with the frame's
    /// bytes; panics if other counters changed.
    fn counted(&mut self, frame: &[u8], direction: Direction) -> Reason {
        let after = self.maps.counters();
        let changed: Vec<_> = (0_u32..)
            .zip(self.counters.iter().zip(&after))
            .filter(|(_, (before, after))| before != after)
            .map(|(at, (before, after))| {
                (at, after.packets - before.packets, after.bytes - before.bytes)
            })
            .collect();
        self.counters = after;
        let first = counter_index(SLOT, direction, 0);
        if let [(at, 1, bytes)] = changed[..]
            && bytes == u64::from(length(frame))
            && let Some(number) = at.checked_sub(first).and_then(|number| u8::try_from(number).ok())
            && let Some(reason) = Reason::from_number(number)
        {
            return reason;
        }
        panic!(
            "{}: one {} packet of {} bytes increased these counters (index, packets, \
             bytes): {changed:?}; the direction's first is {first}: bytes {}",
            self.name(),
            direction.name(),
            frame.len(),
            hex(frame)
        );
    }
}

impl Engine for Kernel {
    fn name(&self) -> String {
        let hook = if self.receive == Receive::Xdp { "XDP" } else { "TCX" };
        format!("kernel, {} orientation, receiving at {hook}", self.orientation.name())
    }

    fn reset(&mut self, policy: Option<&CompiledPolicy>) {
        self.maps.clear();
        self.maps.activate(policy);
    }

    fn replace(&mut self, policy: &CompiledPolicy) {
        self.maps.activate(Some(policy));
    }

    fn set_rule_ends(&mut self, ends: &Ends) {
        self.maps.set_rule_ends(ends);
    }

    fn set_filter(&mut self, filter: Option<&Filter>) {
        self.maps.set_filter(filter);
    }

    fn set_blocks(&mut self, blocks: &Blocks) {
        self.maps.set_blocks(blocks);
    }

    fn decide(&mut self, frame: &[u8], direction: Direction) -> Option<Reason> {
        let verdict = self.verdict(frame, direction)?;
        let reason = self.counted(frame, direction);
        assert_eq!(
            reason.verdict(),
            verdict,
            "{}: counted as {} but returned {}: bytes {}",
            self.name(),
            reason.name(),
            verdict.name(),
            hex(frame)
        );
        Some(reason)
    }

    fn wait(&mut self, seconds: u32) {
        self.maps.age(u64::from(seconds) * self.hz);
        self.maps.bring_ends_nearer(seconds);
    }

    fn fill_proven(&mut self, full: bool) {
        self.maps.fill_proven(full);
    }

    fn learn_flows(&mut self) {
        self.maps.learn_flows();
    }

    fn flows(&mut self) -> FlowViews {
        let now = self.now();
        self.maps.flows(now, self.hz)
    }

    fn rules(&mut self) -> BTreeMap<u32, (u64, u64)> {
        self.maps.rules()
    }

    fn has_fast_path(&self) -> bool {
        // It reads what is in the first buffer.
        self.linear.is_none()
    }

    fn entries(&mut self) -> BTreeMap<u32, (u64, u64)> {
        self.maps.entries()
    }

    fn events(&mut self) -> BTreeMap<Event, u64> {
        self.maps.events()
    }
}

fn fail_dataplane(what: &str, error: DataplaneError) -> ! {
    panic!("{what}: {:#}", anyhow::Error::new(error))
}

fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> &'a mut Xdp {
    let program = ebpf.program_mut(name).unwrap_or_else(|| panic!("no program {name}"));
    program.try_into().unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn tcx<'a>(ebpf: &'a mut Ebpf, name: &str) -> &'a mut SchedClassifier {
    let program = ebpf.program_mut(name).unwrap_or_else(|| panic!("no program {name}"));
    program.try_into().unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Linux' `struct xdp_md` with `data_end` set to the size of the linear part.
fn xdp_md(linear: u32) -> [u8; 24] {
    let mut context = [0; 24];
    context[4..8].copy_from_slice(&linear.to_ne_bytes());
    context
}

fn length(frame: &[u8]) -> u32 {
    u32::try_from(frame.len()).expect("a frame")
}

/// The kernel's HZ: the coarse clock advances once per jiffy.
fn ticks_per_second() -> u64 {
    let mut resolution = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a local timespec.
    let done = unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &raw mut resolution) };
    assert_eq!(done, 0, "clock_getres(CLOCK_MONOTONIC_COARSE) failed");
    1_000_000_000 / u64::try_from(resolution.tv_nsec).expect("a positive resolution")
}
