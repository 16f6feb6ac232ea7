//! A short run of `cargo xtask differential`.

use secgroup_tests::decision::differential;

#[test]
fn host_kernel_rules_and_model_agree() {
    match differential::run(20_000, 9) {
        Ok(summary) => {
            println!("{summary:?}");
            assert!(summary.modelled > 8_000, "the model decides too few packets: {summary:?}");
        }
        Err(difference) => panic!("{difference}"),
    }
}
