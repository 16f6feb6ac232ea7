//! EC2's quotas, each of which can be configured.

use serde::{Deserialize, Serialize};

use super::Error;

/// The most groups on one interface, whatever is configured; EC2 has the same maximum.
pub const GROUPS_PER_INTERFACE_MAX: usize = 16;

/// The most network interfaces on this host, whatever is configured.
pub(super) const NETWORK_INTERFACES_MAX: usize = 65_000;

/// Quotas. The defaults are EC2's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Whether these numbers are enforced. Without them, only what the kernel's tables hold is a limit, and
    /// `groups_per_interface` is 16.
    pub ec2_quotas: bool,
    /// Rules of a group in one direction and one address family. A rule with a group as peer counts in
    /// both families, one with a prefix list as many times as the list may have entries (`MaxEntries`), or
    /// without that as it has.
    pub rules_per_group: usize,
    /// Groups on an interface.
    #[cfg_attr(feature = "schemars", schemars(range(min = 1, max = GROUPS_PER_INTERFACE_MAX)))]
    pub groups_per_interface: usize,
    /// Rules of an interface: `rules_per_group` times `groups_per_interface` must not be greater.
    pub rules_per_interface: usize,
    /// Network interfaces on this host, attached or not.
    #[cfg_attr(feature = "schemars", schemars(range(max = NETWORK_INTERFACES_MAX)))]
    pub network_interfaces: usize,
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
            ec2_quotas: true,
            rules_per_group: 60,
            groups_per_interface: 5,
            rules_per_interface: 1000,
            network_interfaces: 5000,
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
    /// The limits that are enforced: these, or where they are switched off, none but those of the kernel.
    #[must_use]
    pub const fn in_force(self) -> Self {
        if self.ec2_quotas {
            return self;
        }
        Self {
            ec2_quotas: false,
            rules_per_group: usize::MAX,
            groups_per_interface: GROUPS_PER_INTERFACE_MAX,
            rules_per_interface: usize::MAX,
            groups: usize::MAX,
            prefix_lists: usize::MAX,
            entries_per_prefix_list: usize::MAX,
            network_interfaces: NETWORK_INTERFACES_MAX,
            acls: usize::MAX,
            entries_per_acl: usize::MAX,
            vpcs: usize::MAX,
            subnets_per_vpc: usize::MAX,
            flow_logs_per_resource: usize::MAX,
            tags: usize::MAX,
        }
    }

    /// Checks the limits.
    ///
    /// # Errors
    /// One is out of bounds, or the product of two exceeds the third.
    pub fn validate(&self) -> Result<(), Error> {
        let Self { rules_per_group, groups_per_interface, rules_per_interface, .. } = *self;
        if self.network_interfaces > NETWORK_INTERFACES_MAX {
            return Err(Error::LimitsInterfaces(self.network_interfaces));
        }
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
    fn one_switch_leaves_only_what_the_kernel_has() {
        let limits = Limits::default();
        assert_eq!(limits.in_force(), limits);
        let off = Limits { ec2_quotas: false, ..limits }.in_force();
        assert_eq!((off.groups, off.rules_per_group), (usize::MAX, usize::MAX));
        assert_eq!(off.groups_per_interface, GROUPS_PER_INTERFACE_MAX);
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
