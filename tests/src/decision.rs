//! What the tests of the decision stand on: packets, tables of cases, and the two that answer
//! them, the logic on the host and the same logic in the kernel through `BPF_PROG_TEST_RUN`.
//!
//! No packet leaves for a network here and nothing sleeps: the clock is moved by hand.

pub mod case;
pub mod cases;
mod counters;
pub mod differential;
pub mod engine;
pub mod host;
pub mod kernel;
pub mod kernel_maps;
pub mod model;
pub mod packet;
pub mod random;
pub mod rules;
pub mod run;
pub mod scene;
pub mod truncated;

pub use case::{Case, Step, case};
pub use engine::{Engine, FlowId, FlowView};
pub use host::Host;
pub use kernel::{Kernel, Receive, Setup};
pub use packet::{Extension, Layer, Packet};
pub use rules::{Peer, Rule, What, allow, back};
pub use run::{run, run_bare};
pub use scene::{Family, Role, Scene};
