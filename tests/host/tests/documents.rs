//! Documents that repeat what is declared in code say the same.

use std::fmt::Write as _;
use std::{env, fs};

use firewall_ebpf::interface::State;
use firewall_ebpf::reason::{Reason, Verdict};
use secgroup_tests::root;

const ASK: &str = "SECGROUP_WRITE_DOCS";

fn reasons() -> String {
    let mut text = String::from(
        "# Reasons\n\n\
         Every packet leaves with exactly one reason, counted by interface and direction \
         (`secgroup stats`,\n`secgroup_passes_total` and `secgroup_drops_total`). Numbers and names \
         never change.\n\n\
         This page is made from the declaration in `firewall-ebpf/src/reason.rs` by\n\
         `SECGROUP_WRITE_DOCS=1 cargo xtask test documents`.\n",
    );
    for (verdict, title) in [(Verdict::Pass, "Passing"), (Verdict::Drop, "Dropping")] {
        let _ =
            write!(text, "\n## {title}\n\n| number | reason | meaning |\n| --- | --- | --- |\n");
        for reason in Reason::ALL.iter().filter(|reason| reason.verdict() == verdict) {
            let (number, name) = (*reason as u8, reason.name());
            let _ = writeln!(text, "| {number} | `{name}` | {} |", reason.help());
        }
    }
    text
}

fn states() -> String {
    let mut text = String::from(
        "# States and timeouts\n\n\
         A flow is in one of these states (`secgroup flows list`), which says how long it may be \
         idle.\n`secgroup attach --timeout NAME=SECONDS` sets one for an interface. What TCP does in \
         them is told in\n[tcp.md](tcp.md).\n\n\
         This page is made from the declaration in `firewall-ebpf/src/interface.rs` by\n\
         `SECGROUP_WRITE_DOCS=1 cargo xtask test documents`.\n\n\
         | state | timeout | seconds | meaning |\n| --- | --- | --- | --- |\n",
    );
    for state in State::ALL {
        let (name, timeout) = (state.name(), state.timeout_name());
        let (seconds, help) = (state.default_timeout(), state.help());
        let _ = writeln!(text, "| {name} | `{timeout}` | {seconds} | {help} |");
    }
    text
}

fn budget() -> String {
    let file = root().join("firewall-ebpf/verifier-budget.toml");
    let text = fs::read_to_string(file).expect("the budget");
    let mut page = String::from(
        "# The verifier's work\n\n\
         The kernel walks through a program before it runs it, and gives up after 1,000,000 \
         instructions. This\nis what `cargo xtask budget` measured, and a twentieth; a test fails \
         beyond it.\n\n\
         This page is made from `firewall-ebpf/verifier-budget.toml` by\n\
         `SECGROUP_WRITE_DOCS=1 cargo xtask test documents`.\n\n\
         | program | instructions |\n| --- | --- |\n",
    );
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some((name, bound)) = line.split_once(" = ") {
            let _ = writeln!(page, "| `{}` | {bound} |", name.trim_matches('"'));
        }
    }
    page
}

#[test]
fn the_pages_of_declarations_are_the_declarations() {
    let docs = root().join("docs");
    let pages = [("reasons.md", reasons()), ("states.md", states()), ("verifier.md", budget())];
    for (name, text) in pages {
        let page = docs.join(name);
        if env::var_os(ASK).is_some() {
            fs::write(&page, &text).expect("write the page");
        }
        let present = fs::read_to_string(&page).unwrap_or_default();
        assert_eq!(present, text, "{name}: run `{ASK}=1 cargo xtask test documents`");
    }
}
