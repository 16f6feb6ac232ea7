//! How many rules a prefix list counts as, in EC2's quotas.

use super::PrefixList;

/// The weights of prefix lists that AWS manages, by the ends of their names (VPC user guide, "AWS-managed prefix
/// lists"); of others the number of entries is the weight.
const WEIGHTS: [(&str, usize); 8] = [
    (".cloudfront.origin-facing", 55),
    (".dynamodb", 1),
    (".ec2-instance-connect", 2),
    (".groundstation", 5),
    (".route53-healthchecks", 25),
    (".s3", 1),
    (".s3express", 6),
    (".vpc-lattice", 10),
];

impl PrefixList {
    /// How many rules a rule with this list as its peer counts as: EC2 counts the list's `MaxEntries`, whatever
    /// it has, and has a number of its own for each list of AWS. At least 1, the least that EC2 takes as
    /// `MaxEntries`.
    #[must_use]
    pub fn weight(&self) -> usize {
        let entries = self.entries.len();
        let own = WEIGHTS.iter().find(|(end, _)| self.is_aws && self.name.ends_with(end));
        match (self.max_entries, own) {
            (Some(max), _) => entries.max(max as usize).max(1),
            (None, Some((_, weight))) => *weight,
            (None, None) => entries.max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ipnet::IpNet;

    use super::*;
    use crate::model::Family;

    #[test]
    fn a_list_weighs_as_in_ec2() {
        let mut list = PrefixList {
            id: "pl-00000001".parse().unwrap(),
            name: "com.amazonaws.eu-west-1.s3".to_owned(),
            family: Family::Ipv4,
            version: 1,
            entries: (1..=3).map(|host| (ipv4(host), String::new())).collect(),
            max_entries: None,
            is_aws: true,
            state: Default::default(),
            tags: BTreeMap::new(),
        };
        assert_eq!(list.weight(), 1);
        list.name = "com.amazonaws.eu-west-1.new".to_owned();
        assert_eq!(list.weight(), 3);
        list.name = "com.amazonaws.global.cloudfront.origin-facing".to_owned();
        assert_eq!(list.weight(), 55);
        list.is_aws = false;
        assert_eq!(list.weight(), 3);
        list.max_entries = Some(10);
        assert_eq!(list.weight(), 10);
        list.max_entries = Some(2);
        assert_eq!(list.weight(), 3);
        list.entries = [].into_iter().collect();
        list.max_entries = None;
        assert_eq!(list.weight(), 1);
    }

    fn ipv4(host: u8) -> IpNet {
        format!("192.0.2.{host}/32").parse().unwrap()
    }
}
