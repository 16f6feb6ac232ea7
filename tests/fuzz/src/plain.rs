//! Runs targets with random inputs, without coverage.

use std::thread;
use std::time::{Duration, Instant};

use crate::Target;

/// The maximal length of an input.
pub const MAX_INPUT: usize = 480;
/// Inputs between two reads of the clock.
const ROUND: u64 = 256;

/// The result of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Inputs that were run.
    pub executions: u64,
    /// Results that were checked.
    pub results: u64,
}

/// Runs random inputs for a time; the same seed gives the same inputs.
///
/// # Panics
/// If an invariant is violated.
#[must_use]
pub fn run(target: Target, seed: u64, time: Duration) -> Count {
    let mut random = Random(seed);
    let mut count = Count { executions: 0, results: 0 };
    let mut buffer = buffer();
    let begin = Instant::now();
    while begin.elapsed() < time {
        for _ in 0..ROUND {
            let input = random.input(&mut buffer);
            count.executions += 1;
            let on_panic = PrintOnPanic(input);
            count.results += target.run(input);
            drop(on_panic);
        }
    }
    count
}

/// A buffer for the longest input.
#[must_use]
pub const fn buffer() -> [u8; MAX_INPUT] {
    [0; MAX_INPUT]
}

/// Prints the input if the target panics.
struct PrintOnPanic<'a>(&'a [u8]);

impl Drop for PrintOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
            eprintln!("failed with the input {hex}");
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

    /// Random bytes; half of the inputs are at most a quarter of the maximal length.
    pub fn input<'a>(&mut self, buffer: &'a mut [u8; MAX_INPUT]) -> &'a [u8] {
        let word = self.word();
        let limit = if word & 1 == 0 { MAX_INPUT } else { MAX_INPUT / 4 };
        let length = usize::try_from(word >> 32).unwrap_or(0) % limit;
        for chunk in buffer[..length].chunks_mut(8) {
            let bytes = self.word().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
        &buffer[..length]
    }
}
