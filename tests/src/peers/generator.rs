//! The packet generator: the client sends a frame repeatedly, changed each time.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};

use aya::maps::PerCpuArray;
use aya::programs::xdp::XdpMode;
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};

use super::rules::PORT;
use crate::decision::Family;
use crate::socket::device_index;
use crate::{Namespace, Pair, frame};

/// Number of flows between server and client of which packets are generated.
pub const FLOWS: u16 = 4096;
/// The server's port in them, which no rule allows.
pub const FLOWS_PORT: u16 = 6000;
/// The client's port in the first of them; the generator changes its low bits for the others.
pub const FIRST_PORT: u16 = 0x4000;

/// The program that drops everything.
pub const DROP: &str = "drop_xdp";
/// The program that passes everything.
pub const PASS: &str = "empty_xdp";

/// Frames that the kernel sends before the server receives them: the ring of a veth holds 256.
const BATCH: u32 = 64;

/// Offsets in a frame.
const CHECKSUM_V4: Range<usize> = 40..42;
const NETWORK_V6: usize = 28;
const PORT_V6: usize = 54;
const DATA_V6: usize = 62;

/// The generated traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// From hosts between the networks of [`super::rules::Rules`], which no rule allows.
    Unmatched,
    /// From the client, in the [`FLOWS`].
    Established,
}

impl Traffic {
    const fn program(self, family: Family) -> &'static str {
        match (self, family) {
            (Self::Unmatched, Family::V4) => "generate_foreign",
            (Self::Established, Family::V4) => "generate_known",
            (Self::Unmatched, Family::V6) => "generate_foreign_v6",
            (Self::Established, Family::V6) => "generate_known_v6",
        }
    }

    /// A datagram of 18 bytes. Over IPv4 it has no UDP checksum. Over IPv6 a checksum is required,
    /// so the payload contains words that compensate the changes of the generator.
    fn frame(self, family: Family) -> Vec<u8> {
        let (from, port) = match (self, family) {
            (Self::Unmatched, Family::V4) => (IpAddr::V4(Ipv4Addr::new(20, 0, 0, 9)), PORT),
            (Self::Unmatched, Family::V6) => {
                (IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9)), PORT)
            }
            (Self::Established, _) => (Pair::CLIENT[family as usize], FLOWS_PORT),
        };
        let to = SocketAddr::new(Pair::SERVER[family as usize], port);
        let of = |data: [u8; 18]| {
            frame::ethernet(&frame::udp(SocketAddr::new(from, FIRST_PORT), to, &data))
        };
        let mut data = [0; 18];
        let mut frame = of(data);
        match family {
            Family::V4 => frame[CHECKSUM_V4].fill(0),
            Family::V6 => {
                for (balance, changing) in [(0, NETWORK_V6), (2, PORT_V6)] {
                    data[balance] = !frame[changing];
                    data[balance + 1] = !frame[changing + 1];
                }
                frame = of(data);
                debug_assert_eq!(frame[DATA_V6..], data);
            }
        }
        frame
    }
}

/// The generator programs for the link of one [`Pair`].
pub struct Generator {
    ebpf: Ebpf,
}

impl Generator {
    /// Loads the programs.
    #[must_use]
    pub fn new(object: &Path, client: &Namespace) -> Self {
        let bytes =
            fs::read(object).unwrap_or_else(|error| panic!("read {}: {error}", object.display()));
        let device = device_index(client, Pair::DEVICE);
        let mut ebpf = EbpfLoader::new()
            .override_global("GENERATOR_DEVICE", &device, true)
            .override_global("GENERATOR_FLOWS", &FLOWS, true)
            .load(&bytes)
            .unwrap_or_else(|error| panic!("load {}: {error}", object.display()));
        let generators = [Traffic::Unmatched, Traffic::Established]
            .map(|traffic| [Family::V4, Family::V6].map(|family| traffic.program(family)));
        for name in generators.into_iter().flatten().chain([DROP, PASS]) {
            let loaded = program(&mut ebpf, name).load();
            loaded.unwrap_or_else(|error| panic!("load {name}: {error}"));
        }
        Self { ebpf }
    }

    /// Sends a number of frames from the client.
    pub fn send(&self, client: &Namespace, traffic: Traffic, family: Family, frames: u32) {
        let name = traffic.program(family);
        let program = self.ebpf.program(name).unwrap_or_else(|| panic!("no program {name}"));
        let program: &Xdp = program.try_into().expect("it is for XDP");
        let frame = traffic.frame(family);
        client.run(|| {
            let options = TestRunOptions {
                data_in: Some(&frame),
                repeat: frames,
                attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                ..TestRunOptions::default()
            };
            program.test_run(options).unwrap_or_else(|error| panic!("run {name}: {error:?}"));
        });
    }

    /// Attaches [`DROP`] or [`PASS`] to the server's device, until this is dropped.
    pub fn attach(&mut self, name: &str, server: &Namespace) {
        let program = program(&mut self.ebpf, name);
        server
            .run(|| program.attach(Pair::DEVICE, XdpMode::Driver))
            .unwrap_or_else(|error| panic!("attach {name} in {}: {error}", server.name()));
    }

    /// The number of packets that [`DROP`] has dropped.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        let map = self.ebpf.map("GENERATOR_DROPPED").expect("the object has it");
        let map: PerCpuArray<_, u64> = map.try_into().expect("it is a counter per CPU");
        map.get(&0, 0).expect("it has one entry").iter().sum()
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> &'a mut Xdp {
    let program = ebpf.program_mut(name).unwrap_or_else(|| panic!("no program {name}"));
    program.try_into().expect("it is for XDP")
}

/// The object that `cargo xtask bench` and `cargo xtask test` build.
#[must_use]
pub fn object() -> PathBuf {
    let object = crate::root().join("target/bpf/bpfel-unknown-none/release/secgroup-bench-ebpf");
    assert!(object.exists(), "no {}: run the tests by `cargo xtask test`", object.display());
    object
}
