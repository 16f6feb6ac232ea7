//! The reference pages in docs/ are made from the declarations in the code, and are current.

use std::fmt::Write as _;
use std::{env, fs};

use firewall_ebpf::abi::reason::{Reason, Verdict};
use firewall_ebpf::abi::state::State;
use secgroup_tests::root;

mod cli;
mod config;
mod markdown;
mod metrics;
mod schema;

/// The environment variable that makes the test write the pages.
const WRITE: &str = "SECGROUP_WRITE_DOCS";

/// The command that writes the pages.
const COMMAND: &str =
    "SECGROUP_WRITE_DOCS=1 cargo test --package secgroup-host-tests --test documents";

#[test]
fn the_reference_pages_are_current() {
    let docs = root().join("docs");
    for (name, text) in [
        ("cli.md", cli::page()),
        ("config.md", config::page()),
        ("metrics.md", metrics::page()),
        ("reasons.md", reasons()),
        ("states.md", states()),
        ("verifier.md", budget()),
    ] {
        let page = docs.join(name);
        if env::var_os(WRITE).is_some() {
            fs::write(&page, &text).expect("write the page");
        }
        let present = fs::read_to_string(&page).unwrap_or_default();
        let line = first_difference(&present, &text);
        assert!(present == text, "{name}, line {line}: not current; run `{COMMAND}`");
    }
}

/// The number of the first line that differs.
fn first_difference(present: &str, text: &str) -> usize {
    present.lines().zip(text.lines()).take_while(|(one, other)| one == other).count() + 1
}

/// The lines on a page's source.
fn made_from(source: &str) -> String {
    format!("This page is generated from {source}:\n`{COMMAND}`.\n")
}

fn reasons() -> String {
    let mut text = format!(
        "# Reasons\n\n\
         Every packet gets a verdict, pass or drop, for exactly one reason. It is counted by interface, \
         direction\nand reason: `secgroup stats`, `secgroup_passes_total` and `secgroup_drops_total`. \
         Numbers and names do\nnot change.\n\n{}",
        made_from("`firewall-ebpf`'s declaration of `Reason`")
    );
    for (verdict, title) in [(Verdict::Pass, "Reasons to pass"), (Verdict::Drop, "Reasons to drop")]
    {
        let _ = write!(text, "\n## {title}\n\n");
        text += &markdown::row(["number", "reason", "meaning"]);
        text += &markdown::rule(3);
        for reason in Reason::ALL.iter().filter(|reason| reason.verdict() == verdict) {
            let number = (*reason as u8).to_string();
            text += &markdown::row([number, format!("`{}`", reason.name()), reason.help().into()]);
        }
    }
    text
}

fn states() -> String {
    let mut text = format!(
        "# States and timeouts\n\n\
         A flow is in one of these states (`secgroup flows list`). The state determines how long the flow \
         may be\nidle before it expires. `secgroup attach --timeout NAME=SECONDS` sets a timeout for an \
         interface.\n[tcp.md](tcp.md) describes the transitions of TCP.\n\n{}\n",
        made_from("`firewall-ebpf`'s declaration of `State`")
    );
    text += &markdown::row(["state", "timeout", "seconds", "meaning"]);
    text += &markdown::rule(4);
    for state in State::ALL {
        text += &markdown::row([
            format!("`{}`", state.name()),
            format!("`{}`", state.timeout_name()),
            state.default_timeout().to_string(),
            state.help().to_owned(),
        ]);
    }
    text
}

fn budget() -> String {
    let file = root().join("firewall-ebpf/verifier-budget.toml");
    let budget = fs::read_to_string(&file).expect("the budget");
    let mut text = format!(
        "# Verifier\n\n\
         The kernel's verifier checks every path of a program before it runs, and refuses a program after \
         it\nhas processed 1,000,000 instructions. The limits below are what `cargo xtask budget` measured \
         plus 5%; a\ntest fails beyond them.\n\n{}\n",
        made_from("`firewall-ebpf/verifier-budget.toml`")
    );
    text += &markdown::row(["program", "instructions"]);
    text += &markdown::rule(2);
    for line in budget.lines().filter(|line| !line.starts_with('#')) {
        if let Some((name, bound)) = line.split_once(" = ") {
            text += &markdown::row([format!("`{}`", name.trim_matches('"')), bound.to_owned()]);
        }
    }
    text
}
