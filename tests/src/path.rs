//! A network path that loses, duplicates, delays and reorders frames.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::env;
use std::hash::{BuildHasher as _, RandomState};
use std::os::fd::AsRawFd as _;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::tun::{Kind, Tun};
use crate::{Namespace, Pair};

/// Faults of a path: probabilities in a thousand, and times.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// A frame is lost.
    pub lost: u64,
    /// A frame is duplicated; the copy is late.
    pub twice: u64,
    /// A frame is delayed, so that later ones overtake it.
    pub late: u64,
    /// The one-way delay of every frame.
    pub delay: Duration,
    /// The maximal additional delay of a late frame.
    pub max_jitter: Duration,
}

/// Faults of a path so far.
#[derive(Debug, Default)]
pub struct PathCounts {
    /// Lost frames.
    pub lost: AtomicU64,
    /// Duplicated frames.
    pub twice: AtomicU64,
    /// Delayed frames.
    pub late: AtomicU64,
}

/// A server and a client as in [`Pair`], with a path between them.
pub struct Path {
    /// The two hosts.
    pub pair: Pair,
    /// The faults so far.
    pub counts: Arc<PathCounts>,
    seed: u64,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Path {
    /// Creates two hosts, and carries frames between them until this is dropped. The faults follow
    /// from `SECGROUP_SEED`, or from a random seed, which is printed if the test fails.
    #[must_use]
    pub fn new(faults: Faults) -> Self {
        let pair = Pair { server: Namespace::new(), client: Namespace::new() };
        let ends = pair.ends();
        let devices = ends.map(|end| Tun::new(end, Kind::Tap));
        for (here, there) in [(0, 1), (1, 0)] {
            // Permanent neighbour entries: after a lost frame, resolution takes seconds.
            let namespace = ends[here].namespace;
            namespace.ip(&format!("link set {} address {}", Pair::DEVICE, MAC[here]));
            for address in [Pair::SERVER, Pair::CLIENT][there] {
                let to = format!("{address} lladdr {} dev {}", MAC[there], Pair::DEVICE);
                namespace.ip(&format!("neighbour replace {to} nud permanent"));
            }
            // A short minimal RTO: lost segments are repeated soon.
            for (family, subnet) in [("-4", "10.77.0.0/24"), ("-6", "fd77::/64")] {
                let route = format!("{subnet} dev {} rto_min 20ms", Pair::DEVICE);
                namespace.ip(&format!("{family} route replace {route}"));
            }
        }
        let given = env::var("SECGROUP_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| RandomState::new().hash_one(0));
        let stop = Arc::new(AtomicBool::new(false));
        let counts = Arc::new(PathCounts::default());
        let thread = {
            let (stop, counts) = (Arc::clone(&stop), Arc::clone(&counts));
            thread::spawn(move || carry(&devices, faults, seed, &counts, &stop))
        };
        Self { pair, counts, seed, stop, thread: Some(thread) }
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && let Err(panic) = thread.join()
            && !thread::panicking()
        {
            resume_unwind(panic);
        }
        if thread::panicking() {
            eprintln!("the path's seed: SECGROUP_SEED={}", self.seed);
        }
    }
}

const MAC: [&str; 2] = ["02:00:00:00:00:01", "02:00:00:00:00:02"];

/// How often the thread checks whether it has to stop.
const TICK: Duration = Duration::from_millis(20);

/// A frame in flight: its delivery time, its sequence number, its destination and its bytes.
type InFlight = Reverse<(Instant, u64, usize, Vec<u8>)>;

fn carry(devices: &[Tun; 2], faults: Faults, seed: u64, counts: &PathCounts, stop: &AtomicBool) {
    let mut random = Random(seed);
    let mut in_flight: BinaryHeap<InFlight> = BinaryHeap::new();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let due = in_flight.peek().map(|Reverse((due, ..))| *due);
        let now = Instant::now();
        wait(devices, due.map_or(TICK, |due| due.saturating_duration_since(now)).min(TICK));
        let now = Instant::now();
        for (from, device) in devices.iter().enumerate() {
            while let Some(frame) = device.transmitted() {
                if random.chance(faults.lost) {
                    counts.lost.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                let mut send = |delay, frame| {
                    number += 1;
                    in_flight.push(Reverse((now + faults.delay + delay, number, 1 - from, frame)));
                };
                if random.chance(faults.twice) {
                    counts.twice.fetch_add(1, Ordering::Relaxed);
                    send(random.up_to(faults.max_jitter), frame.clone());
                }
                let delay = if random.chance(faults.late) {
                    counts.late.fetch_add(1, Ordering::Relaxed);
                    random.up_to(faults.max_jitter)
                } else {
                    Duration::ZERO
                };
                send(delay, frame);
            }
        }
        let now = Instant::now();
        while in_flight.peek().is_some_and(|Reverse((due, ..))| *due <= now) {
            let Some(Reverse((_, _, to, frame))) = in_flight.pop() else { break };
            devices[to].send(&frame);
        }
    }
}

/// Waits until a device has transmitted a frame, or for a time.
fn wait(devices: &[Tun; 2], limit: Duration) {
    let mut ready = devices.each_ref().map(|device| libc::pollfd {
        fd: device.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    });
    let limit = libc::timespec { tv_sec: 0, tv_nsec: libc::c_long::from(limit.subsec_nanos()) };
    // SAFETY: the array and the time outlive the call; no signals are given.
    let polled = unsafe { libc::ppoll(ready.as_mut_ptr(), 2, &raw const limit, std::ptr::null()) };
    let error = std::io::Error::last_os_error();
    assert!(
        polled >= 0 || error.kind() == std::io::ErrorKind::Interrupted,
        "wait for a tap: {error}"
    );
}

/// Numbers from a seed (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn chance(&mut self, in_a_thousand: u64) -> bool {
        self.next() % 1000 < in_a_thousand
    }

    fn up_to(&mut self, limit: Duration) -> Duration {
        limit.mul_f64((self.next() % 1000) as f64 / 1000.0)
    }
}
