//! Lists for the helper programs, which a test run takes for frames.

use firewall_ebpf::abi::policy::{Active, Half, Has};
use firewall_user::dataplane::object::shapes::Sizes;
use firewall_user::dataplane::tables::active::set_active;
use firewall_user::dataplane::{Pins, instance};
use secgroup_tests::PinDirectory;

const SIZES: Sizes = Sizes { rules: 64, interfaces: 4 };

#[test]
fn an_active_word_is_stored_whatever_its_generation_is() {
    let directory = PinDirectory::new();
    let pins = Pins::new(directory.path());
    let maps = instance::ensure_maps(&pins, &SIZES).unwrap();
    // The first two are the EtherTypes of IPv4 and IPv6, as a frame has them.
    for generation in [0x0008, 0xdd86, 7] {
        let words: Vec<_> = (0..4)
            .map(|slot| {
                (slot, Active::new(Half { slot, ..Half::default() }, Has::default(), generation))
            })
            .collect();
        for count in 1..=words.len() {
            set_active(&pins, &words[..count]).unwrap();
        }
        for (slot, word) in words {
            assert_eq!(maps.active(slot).unwrap(), word, "generation {generation:#x}");
        }
    }
}
