//! EC2's quotas, each of which can be configured.

use serde::{Deserialize, Serialize};

use super::Error;

/// The most groups on one interface, whatever is configured; EC2 has the same maximum.
pub const GROUPS_PER_INTERFACE_MAX: usize = 16;

/// Quotas. The defaults are EC2's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Rules of a group in one direction and one address family. A rule with a group as peer counts in
    /// both families, one with a prefix list counts as many times as the list has entries.
    pub rules_per_group: usize,
    /// Groups on an interface.
    #[cfg_attr(feature = "schemars", schemars(range(min = 1, max = GROUPS_PER_INTERFACE_MAX)))]
    pub groups_per_interface: usize,
    /// Rules of an interface: `rules_per_group` times `groups_per_interface` must not be greater.
    pub rules_per_interface: usize,
    /// Groups on this host.
    pub groups: usize,
    /// Prefix lists on this host.
    pub prefix_lists: usize,
    /// Entries of a prefix list.
    pub entries_per_prefix_list: usize,
    /// Network ACLs on this host, the default one included.
    pub acls: usize,
    /// Entries of a network ACL in one direction, the last ones not included. An entry with a prefix list
    /// counts once.
    pub entries_per_acl: usize,
    /// VPCs on this host, the default one included.
    pub vpcs: usize,
    /// Subnets of a VPC.
    pub subnets_per_vpc: usize,
    /// Flow logs of a VPC, subnet or interface.
    pub flow_logs_per_resource: usize,
    /// Tags of an object, such as a group.
    pub tags: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rules_per_group: 60,
            groups_per_interface: 5,
            rules_per_interface: 1000,
            groups: 2500,
            prefix_lists: 100,
            entries_per_prefix_list: 1000,
            acls: 200,
            entries_per_acl: 20,
            vpcs: 5,
            subnets_per_vpc: 200,
            flow_logs_per_resource: 250,
            tags: 50,
        }
    }
}

impl Limits {
    /// Checks the limits.
    ///
    /// # Errors
    /// One is out of bounds, or the product of two exceeds the third.
    pub fn validate(&self) -> Result<(), Error> {
        let Self { rules_per_group, groups_per_interface, rules_per_interface, .. } = *self;
        if !(1..=GROUPS_PER_INTERFACE_MAX).contains(&groups_per_interface) {
            return Err(Error::LimitsGroups(groups_per_interface));
        }
        match rules_per_group.checked_mul(groups_per_interface) {
            Some(product) if product <= rules_per_interface => Ok(()),
            _ => Err(Error::LimitsProduct {
                rules_per_group,
                groups_per_interface,
                rules_per_interface,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        Limits::default().validate().unwrap();
    }

    #[test]
    fn limits_that_contradict_each_other_are_refused() {
        let base = Limits::default();
        assert!(Limits { rules_per_group: 200, ..base }.validate().is_ok());
        assert!(Limits { rules_per_group: 201, ..base }.validate().is_err());
        assert!(Limits { rules_per_group: usize::MAX, ..base }.validate().is_err());
        assert!(Limits { groups_per_interface: 16, ..base }.validate().is_ok());
        let wide = Limits { rules_per_group: 1, ..base };
        assert!(Limits { groups_per_interface: 17, ..wide }.validate().is_err());
        assert!(Limits { groups_per_interface: 0, ..wide }.validate().is_err());
    }
}
