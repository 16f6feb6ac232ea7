//! The library of the verdict tests: packets, tables of cases, and the two engines that decide
//! them, the logic compiled for the host and the same logic in the kernel by `BPF_PROG_TEST_RUN`.
//!
//! No packet is sent over a network and nothing sleeps: the tests set the clock.

pub mod case;
pub mod cases;
mod counters;
pub mod deny;
pub mod differential;
pub mod engine;
pub mod host;
pub mod kernel;
pub mod kernel_maps;
pub mod model;
pub mod packet;
pub mod port;
pub mod race;
pub mod random;
pub mod rules;
pub mod run;
pub mod scenario;
pub mod truncated;
pub mod watched;

pub use case::{Case, Step, case};
pub use engine::{Engine, FlowId, FlowView};
pub use host::Host;
pub use kernel::{Kernel, Receive, Setup};
pub use packet::{Extension, Layer, Packet};
pub use port::Port;
pub use rules::{Peer, Rule, Traffic, allow, allow_reverse};
pub use run::{run, run_bare};
pub use scenario::{Family, Role, Scenario};
