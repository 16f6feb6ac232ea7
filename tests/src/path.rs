//! A path that loses, repeats and delays frames, and so changes their order.

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

/// What happens to frames: chances in a thousand, and times.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// A frame is lost.
    pub lost: u64,
    /// A frame arrives twice, the second time late.
    pub twice: u64,
    /// A frame is late: others overtake it.
    pub late: u64,
    /// How long a frame is on its way.
    pub way: Duration,
    /// How much longer a late one is, at most.
    pub lateness: Duration,
}

/// What a path did so far.
#[derive(Debug, Default)]
pub struct Tally {
    /// Frames that were lost.
    pub lost: AtomicU64,
    /// Frames that arrived twice.
    pub twice: AtomicU64,
    /// Frames that were overtaken by those behind them, or could have been.
    pub late: AtomicU64,
}

/// A server and a client as in [`Pair`], with a path between them.
pub struct Path {
    /// The two hosts.
    pub pair: Pair,
    /// What happened on the way.
    pub tally: Arc<Tally>,
    seed: u64,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Path {
    /// Makes two hosts, and carries frames between them for as long as this lives. What becomes of
    /// a frame follows from `SECGROUP_SEED`, or from a seed of its own which a failure tells.
    #[must_use]
    pub fn new(faults: Faults) -> Self {
        let pair = Pair { server: Namespace::new(), client: Namespace::new() };
        let ends = pair.ends();
        let devices = ends.map(|end| Tun::new(end, Kind::Tap));
        for (here, there) in [(0, 1), (1, 0)] {
            // Neighbours that are known: to find each other again would take the kernel seconds.
            let namespace = ends[here].namespace;
            namespace.ip(&format!("link set {} address {}", Pair::DEVICE, MAC[here]));
            for address in [Pair::SERVER, Pair::CLIENT][there] {
                let to = format!("{address} lladdr {} dev {}", MAC[there], Pair::DEVICE);
                namespace.ip(&format!("neighbour replace {to} nud permanent"));
            }
            // What is lost is sent again soon.
            for (family, subnet) in [("-4", "10.77.0.0/24"), ("-6", "fd77::/64")] {
                let route = format!("{subnet} dev {} rto_min 20ms", Pair::DEVICE);
                namespace.ip(&format!("{family} route replace {route}"));
            }
        }
        let asked = env::var("SECGROUP_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = asked.unwrap_or_else(|| RandomState::new().hash_one(0));
        let stop = Arc::new(AtomicBool::new(false));
        let tally = Arc::new(Tally::default());
        let thread = {
            let (stop, tally) = (Arc::clone(&stop), Arc::clone(&tally));
            thread::spawn(move || carry(&devices, faults, seed, &tally, &stop))
        };
        Self { pair, tally, seed, stop, thread: Some(thread) }
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

/// How often the thread looks whether it should end.
const TICK: Duration = Duration::from_millis(20);

/// A frame on its way: when it is due, how many were due before it was sent, where it goes.
type Travelling = Reverse<(Instant, u64, usize, Vec<u8>)>;

fn carry(devices: &[Tun; 2], faults: Faults, seed: u64, tally: &Tally, stop: &AtomicBool) {
    let mut random = Random(seed);
    let mut under_way: BinaryHeap<Travelling> = BinaryHeap::new();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let due = under_way.peek().map(|Reverse((due, ..))| *due);
        let now = Instant::now();
        wait(devices, due.map_or(TICK, |due| due.saturating_duration_since(now)).min(TICK));
        let now = Instant::now();
        for (from, device) in devices.iter().enumerate() {
            while let Some(frame) = device.transmitted() {
                if random.happens(faults.lost) {
                    tally.lost.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                let mut send = |delay, frame| {
                    number += 1;
                    under_way.push(Reverse((now + faults.way + delay, number, 1 - from, frame)));
                };
                if random.happens(faults.twice) {
                    tally.twice.fetch_add(1, Ordering::Relaxed);
                    send(random.up_to(faults.lateness), frame.clone());
                }
                let delay = if random.happens(faults.late) {
                    tally.late.fetch_add(1, Ordering::Relaxed);
                    random.up_to(faults.lateness)
                } else {
                    Duration::ZERO
                };
                send(delay, frame);
            }
        }
        let now = Instant::now();
        while under_way.peek().is_some_and(|Reverse((due, ..))| *due <= now) {
            let Some(Reverse((_, _, to, frame))) = under_way.pop() else { break };
            devices[to].send(&frame);
        }
    }
}

/// Waits until a device has something to carry, or for a time.
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

    fn happens(&mut self, in_a_thousand: u64) -> bool {
        self.next() % 1000 < in_a_thousand
    }

    fn up_to(&mut self, limit: Duration) -> Duration {
        limit.mul_f64((self.next() % 1000) as f64 / 1000.0)
    }
}
