//! Documents that repeat what is declared in code say the same.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use firewall_ebpf::reason::{Reason, Verdict};

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

#[test]
fn the_page_of_reasons_is_the_declaration() {
    let root = env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where we are");
    let page = Path::new(&root).join("../docs/reasons.md");
    if env::var_os(ASK).is_some() {
        fs::write(&page, reasons()).expect("write the page");
    }
    let present = fs::read_to_string(&page).unwrap_or_default();
    assert_eq!(present, reasons(), "run `{ASK}=1 cargo xtask test documents`");
}
