//! `document` under libFuzzer.

#![no_main]

use libfuzzer_sys::fuzz_target;
use secgroup_fuzz::Target;

fuzz_target!(|input: &[u8]| {
    let _ = Target::Document.run(input);
});
