//! Running the helper programs on lists.

use std::path::Path;

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use firewall_ebpf::abi::helper::LIST_HEADER;

use crate::dataplane::error::{Context, Result};

/// A list without entries, with the word of its header.
///
/// The rest of the header is zero. A test run takes a list for an Ethernet frame and refuses a short one
/// that claims to be IP: an EtherType of zero claims nothing (`bpf_prog_test_run_skb`,
/// net/bpf/test_run.c).
pub(in crate::dataplane) fn list(word: u64) -> Vec<u8> {
    let mut list = vec![0; LIST_HEADER as usize];
    list[..size_of::<u64>()].copy_from_slice(&word.to_ne_bytes());
    list
}

/// Runs the helper program `name`, pinned at `pin`, on a list; `out` receives the list as the program
/// leaves it. Returns the number of entries that the program processed.
///
/// # Errors
/// The program cannot be opened or run.
pub(in crate::dataplane) fn run(
    pin: &Path,
    name: &str,
    list: &[u8],
    out: Option<&mut [u8]>,
) -> Result<u32> {
    let program = SchedClassifier::from_pin(pin).context(format_args!("open program {name}"))?;
    let options =
        TestRunOptions { data_in: Some(list), data_out: out, ..TestRunOptions::default() };
    let run = program.test_run(options).context(format_args!("run program {name}"))?;
    Ok(run.return_value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ethertype_of_a_list_is_zero() {
        let list = list(u64::MAX);
        assert!(list.len() >= 14, "a test run refuses less than an Ethernet header");
        assert_eq!(list[12..14], [0, 0]);
    }
}
