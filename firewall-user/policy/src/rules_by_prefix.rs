//! Which rules name which prefixes.

use crate::prefixes::{prefix_v4, prefix_v6};
use crate::ranges::interval;
use crate::resolve::ResolvedRule;
use firewall_ebpf::abi::prefix::Prefix;

/// A prefix that a rule names, and the rule's index.
pub(crate) type PrefixRule<const N: usize> = (Prefix<N>, u32);

/// The prefixes that rules name, with the rules: sorted by prefix, then by rule, each pair once. A
/// rule of one family's ICMP names no prefix of the other family.
pub(crate) struct RulesByPrefix {
    pub(crate) v4: Vec<PrefixRule<4>>,
    pub(crate) v6: Vec<PrefixRule<16>>,
}

impl RulesByPrefix {
    /// Of all prefixes.
    pub(crate) fn new(rules: &[ResolvedRule]) -> Self {
        Self::filtered(rules, |_| true, |_| true)
    }

    /// Of the prefixes that are wanted.
    pub(crate) fn filtered(
        rules: &[ResolvedRule],
        wants_v4: impl Fn(&Prefix<4>) -> bool,
        wants_v6: impl Fn(&Prefix<16>) -> bool,
    ) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (number, rule) in (0_u32..).zip(rules) {
            let [has_v4, has_v6] =
                [true, false].map(|is_v4| interval(rule.traffic, is_v4).is_some());
            if has_v4 {
                let prefixes = rule.networks.v4().iter().map(prefix_v4).filter(&wants_v4);
                v4.extend(prefixes.map(|prefix| (prefix, number)));
            }
            if has_v6 {
                let prefixes = rule.networks.v6().iter().map(prefix_v6).filter(&wants_v6);
                v6.extend(prefixes.map(|prefix| (prefix, number)));
            }
        }
        v4.sort_unstable();
        v4.dedup();
        v6.sort_unstable();
        v6.dedup();
        Self { v4, v6 }
    }
}

/// The rules that name /0, and those that name longer prefixes.
pub(crate) fn split_any<const N: usize>(
    rules: &[PrefixRule<N>],
) -> (&[PrefixRule<N>], &[PrefixRule<N>]) {
    rules.split_at(rules.partition_point(|(prefix, _)| prefix.is_any()))
}
