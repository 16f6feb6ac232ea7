//! What an interface's programs decide about a packet, without a packet: the same programs, loaded a second time and
//! attached nowhere, run on a frame by `BPF_PROG_TEST_RUN`.
//!
//! They read what the attached programs read: the interface's settings, the active policy, its filter, the blocks and
//! their ends. All that a program writes is their own (`tables`): counters, tables of flows and of fragments, the
//! arrays of programs. Before a run, the flows that the frame may belong to are copied into these tables
//! by `bpf(2)`, which does not mark an entry of an LRU table as used. So a run changes nothing of what is in force, it
//! needs no lock, and nothing is pinned: the process that ends leaves nothing behind.
//!
//! Two things of the attached programs cannot be seen in the result. The fast path finds no flow, since its tables
//! are empty, and leaves the packet to the slow path, which decides the same. And the Bloom filter is not asked.

mod keys;
mod lines;
mod programs;
mod tables;

pub use programs::{ExplainPrograms, Run, RunError, longest_frame};
