//! Reads all counters by reason after every packet, to verify that no other one increased. A batch
//! lookup replaces hundreds of single ones.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::maps::{Map, MapData};
use aya::util::nr_cpus;
use firewall_ebpf::policy::Counter;

/// Linux: `enum bpf_cmd`.
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;

/// The fields of Linux' `union bpf_attr` for batch commands.
#[derive(Default)]
#[repr(C)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// The per-CPU array of packet and byte counters.
pub(crate) struct Counters {
    map: MapData,
    cpus: usize,
    len: u32,
}

impl Counters {
    /// Wraps a map of `len` counters.
    pub(crate) fn new(map: Map, len: u32) -> Self {
        let Map::PerCpuArray(map) = map else { panic!("the counters are not a per-CPU array") };
        let cpus = nr_cpus().unwrap_or_else(|(what, error)| panic!("{what}: {error}"));
        Self { map, cpus, len }
    }

    /// Every counter, summed over the CPUs.
    pub(crate) fn read(&self) -> Vec<Counter> {
        let count = usize::try_from(self.len).expect("fits");
        let mut keys = vec![0_u32; count];
        let mut values = vec![Counter::default(); count * self.cpus];
        let mut next = 0_u32;
        let batch = Batch {
            out_batch: (&raw mut next).addr() as u64,
            keys: keys.as_mut_ptr().addr() as u64,
            values: values.as_mut_ptr().addr() as u64,
            count: self.len,
            map_fd: u32::try_from(self.map.fd().as_fd().as_raw_fd()).expect("an open file"),
            ..Batch::default()
        };
        // SAFETY: the buffers outlive the call, and have room for `count` keys and for `count`
        // values of every possible CPU; the kernel writes no more.
        let done = unsafe {
            libc::syscall(libc::SYS_bpf, BPF_MAP_LOOKUP_BATCH, &raw const batch, size_of::<Batch>())
        };
        let error = io::Error::last_os_error();
        // ENOENT: the end of the map was reached.
        assert!(
            done == 0 || error.raw_os_error() == Some(libc::ENOENT),
            "read all counters at once: {error}"
        );
        values.chunks(self.cpus).map(|values| values.iter().fold(Counter::default(), sum)).collect()
    }
}

/// Adds two counts.
pub(crate) fn sum(sum: Counter, one: &Counter) -> Counter {
    Counter { packets: sum.packets + one.packets, bytes: sum.bytes + one.bytes }
}
