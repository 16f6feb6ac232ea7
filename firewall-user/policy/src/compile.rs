//! The compiler: rules to prefixes, classes and lists of ranges. The same rules give the same tables.

use firewall_ebpf::abi::limits::{MAX_CLASSES, MAX_PREFIXES};
use firewall_ebpf::abi::policy::{ANY_V4, ANY_V6};

use crate::compiled::CompiledPolicy;
use crate::family::FamilyCompiler;
use crate::interner::{FamilyPolicy, InternedPolicy, PolicyInterner};
use crate::model::Tracking;
use crate::number::index;
use crate::resolve::ResolvedRule;
use crate::rules_by_prefix::RulesByPrefix;

/// The policy does not fit into its maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the policy needs {needed} {what}, {} more than the {limit} that fit", .needed - .limit)]
pub struct TooLarge {
    /// What there are too many of.
    pub what: &'static str,
    /// How many the policy needs.
    pub needed: usize,
    /// How many fit.
    pub limit: usize,
}

/// Compiles the rules of one interface by themselves: see [`PolicyInterner::compile`].
///
/// # Errors
/// [`TooLarge`] if the result exceeds what the kernel program can search.
pub fn compile(rules: &[ResolvedRule], tracking: Tracking) -> Result<CompiledPolicy, TooLarge> {
    let mut interner = PolicyInterner::default();
    let policy = interner.compile(rules, tracking)?;
    Ok(interner.extract(&policy))
}

impl PolicyInterner {
    /// Compiles the rules of one interface. With [`Tracking::Auto`] the traffic that needs no flow is
    /// marked in the two "any" classes and left out of the others, so that the lookup reaches the mark.
    ///
    /// Prefixes that the same rules name, within the same enclosing prefix, share a class: a prefix
    /// list costs its entries in the trie, and one class.
    ///
    /// # Errors
    /// [`TooLarge`] if the result exceeds what the kernel program can search.
    pub fn compile(
        &mut self,
        rules: &[ResolvedRule],
        tracking: Tracking,
    ) -> Result<InternedPolicy, TooLarge> {
        let RulesByPrefix { v4, v6 } = RulesByPrefix::new(rules);
        let v4 = FamilyCompiler::new(self, rules, true).compile(&v4, tracking, ANY_V4);
        let v6 = FamilyCompiler::new(self, rules, false).compile(&v6, tracking, ANY_V6);
        self.checked(v4, v6)
    }

    /// Refuses a policy that is too large.
    pub(crate) fn checked(
        &self,
        v4: FamilyPolicy<4>,
        v6: FamilyPolicy<16>,
    ) -> Result<InternedPolicy, TooLarge> {
        let policy = self.policy(v4, v6);
        // Counted only where the limit may be exceeded: it takes a pass over all classes.
        if policy.prefixes() + 2 > index(MAX_CLASSES) {
            fits("classes", self.classes_of(&policy), MAX_CLASSES)?;
        }
        fits("IPv4 prefixes", policy.v4.prefixes.len(), MAX_PREFIXES)?;
        fits("IPv6 prefixes", policy.v6.prefixes.len(), MAX_PREFIXES)?;
        Ok(policy)
    }
}

/// Refuses more than fit.
pub(crate) fn fits(what: &'static str, needed: usize, limit: u32) -> Result<(), TooLarge> {
    let limit = index(limit);
    if needed > limit { Err(TooLarge { what, needed, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_the_count_it_needs() {
        let limit = usize::try_from(MAX_PREFIXES).unwrap();
        assert_eq!(fits("IPv4 prefixes", limit, MAX_PREFIXES), Ok(()));
        let error = fits("IPv4 prefixes", limit + 2, MAX_PREFIXES).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the policy needs 4194306 IPv4 prefixes, 2 more than the 4194304 that fit"
        );
    }
}
