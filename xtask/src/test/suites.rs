//! The suites of the package `secgroup-tests`, which a plain `cargo test` leaves out, and what the
//! quick tier runs of them.

/// A suite.
pub(super) struct Suite {
    /// Its file or directory in `tests/tests`.
    pub(super) name: &'static str,
    /// What it needs beside a Rust toolchain.
    pub(super) needs: &'static str,
    /// What the quick tier runs of it.
    pub(super) quick: Quick,
}

/// A suite's part in the quick tier.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Quick {
    /// None of its tests.
    None,
    /// The tests whose names contain one of these.
    Some(&'static [&'static str]),
    /// All of its tests.
    All,
}

const OBJECT: &str = "root and the kernel object";

/// Every suite of `tests/tests`.
pub(super) const SUITES: [Suite; 15] = [
    Suite { name: "bench", needs: "root, nftables, iptables and iperf3", quick: Quick::None },
    Suite { name: "budget", needs: OBJECT, quick: Quick::All },
    Suite { name: "decision_cases", needs: OBJECT, quick: Quick::All },
    Suite { name: "decision_differential", needs: OBJECT, quick: Quick::None },
    Suite { name: "decision_explain", needs: OBJECT, quick: Quick::None },
    Suite { name: "decision_flood", needs: OBJECT, quick: Quick::None },
    Suite { name: "decision_frames", needs: OBJECT, quick: Quick::None },
    Suite { name: "decision_policy", needs: OBJECT, quick: Quick::None },
    Suite { name: "decision_race", needs: OBJECT, quick: Quick::None },
    Suite { name: "decision_random", needs: OBJECT, quick: Quick::None },
    Suite { name: "decision_records", needs: OBJECT, quick: Quick::None },
    Suite { name: "decision_truncated", needs: OBJECT, quick: Quick::None },
    Suite {
        name: "e2e",
        needs: "root and the kernel object",
        quick: Quick::Some(&["default_deny::", "hooks::", "icmp_errors::", "lifetime::"]),
    },
    Suite { name: "harness", needs: "root", quick: Quick::None },
    Suite { name: "units", needs: "systemd-analyze", quick: Quick::None },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write as _;
    use std::io::{self, Write as _};
    use std::{env, fs};

    use super::SUITES;
    use crate::paths;
    use crate::test::XTASK;

    #[test]
    fn every_suite_that_cargo_test_leaves_out_is_named() {
        if env::var_os(XTASK).is_none() {
            let mut text = String::from("left out here, the package secgroup-tests:\n");
            for suite in &SUITES {
                let _ = writeln!(text, "  {} needs {}", suite.name, suite.needs);
            }
            text.push_str("  and the unit tests of its library\n");
            text.push_str("`cargo xtask test` runs all, `cargo xtask test --quick` a selection\n");
            // Not `eprint!`, which the test harness captures.
            let _ = io::stderr().write_all(text.as_bytes());
        }
        let directory = paths::root().join("tests/tests");
        let present: BTreeSet<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().display().to_string())
            .collect();
        let named: BTreeSet<String> = SUITES.iter().map(|suite| suite.name.to_owned()).collect();
        assert_eq!(named, present, "SUITES names every suite in tests/tests and no other");
    }
}
