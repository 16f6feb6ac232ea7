//! Targets driven without coverage, as fast as they go.

use std::thread;
use std::time::{Duration, Instant};

use crate::Target;

/// The longest input; longer ones say nothing new.
pub const LONGEST: usize = 480;
/// Inputs between two looks at the clock.
const ROUND: u64 = 256;

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Inputs that were tried.
    pub executions: u64,
    /// Questions that the logic answered: frames read, packets decided.
    pub answers: u64,
}

/// Tries random inputs for a while; the same seed gives the same inputs.
///
/// # Panics
/// If an invariant does not hold.
#[must_use]
pub fn run(target: Target, seed: u64, time: Duration) -> Count {
    let mut random = Random(seed);
    let mut count = Count { executions: 0, answers: 0 };
    let mut buffer = buffer();
    let begin = Instant::now();
    while begin.elapsed() < time {
        for _ in 0..ROUND {
            let input = random.input(&mut buffer);
            count.executions += 1;
            let told = Told(input);
            count.answers += target.run(input);
            drop(told);
        }
    }
    count
}

/// Room for the longest input.
#[must_use]
pub const fn buffer() -> [u8; LONGEST] {
    [0; LONGEST]
}

/// Prints its input if a target panics on it.
struct Told<'a>(&'a [u8]);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
            eprintln!("fault on the input {hex}");
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood, 2014).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Random bytes, short ones as often as long ones.
    pub fn input<'a>(&mut self, buffer: &'a mut [u8; LONGEST]) -> &'a [u8] {
        let word = self.word();
        let most = if word & 1 == 0 { LONGEST } else { LONGEST / 4 };
        let length = usize::try_from(word >> 32).unwrap_or(0) % most;
        for chunk in buffer[..length].chunks_mut(8) {
            let bytes = self.word().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
        &buffer[..length]
    }
}
