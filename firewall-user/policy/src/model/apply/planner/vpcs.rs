//! VPCs and subnets, and which VPC of this host takes what a document has of one.
//!
//! What is of a VPC of this host goes into it. A VPC that this host does not have is created where the document
//! describes it or the caller asks for it; otherwise the default VPC takes its place, but never that of two.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use super::{Line, Planner, Sign, SubnetId, VpcId, of_other_vpc, repeated, tags_line};
use crate::model::apply::DEFAULT_GROUP;
use crate::model::document::{Error, Wanted, WantedSubnet, WantedVpc};
use crate::model::{
    Acl, AssociationId, Change, Error as ModelError, Group, Subnet, SubnetSettings, Vpc,
    VpcSettings, check,
};

impl Planner<'_> {
    /// Leaves out what is not of the selected VPCs.
    pub(super) fn select(&mut self, wanted: &mut Wanted) {
        let selected: BTreeSet<_> = self.options.vpcs.iter().cloned().collect();
        if selected.is_empty() {
            return;
        }
        let of_document = all_vpcs(wanted);
        for vpc in selected.difference(&of_document) {
            let listed: Vec<_> = of_document.iter().map(VpcId::to_string).collect();
            self.findings
                .error(Error::NoSuchVpc { vpc: vpc.to_string(), listed: listed.join(", ") });
        }
        let is_selected = |vpc: Option<&VpcId>| match vpc {
            Some(vpc) => selected.contains(vpc),
            None => selected.contains(&VpcId::default_vpc()),
        };
        wanted.groups.retain(|group| is_selected(group.vpc.as_ref()));
        wanted.acls.retain(|acl| is_selected(acl.vpc.as_ref()));
        wanted.vpcs.retain(|vpc| is_selected(Some(&vpc.id)));
        wanted.subnets.retain(|subnet| is_selected(Some(&subnet.vpc)));
    }

    /// Creates VPCs, and finds the VPC of this host for every one of the document. Returns whether there is one
    /// for each.
    pub(super) fn place_vpcs(&mut self, wanted: &Wanted) -> bool {
        let mut seen = BTreeSet::new();
        for vpc in &wanted.vpcs {
            if !seen.insert(&vpc.id) {
                self.findings.error(repeated(&vpc.path, &format!("VPC {}", vpc.id)));
                continue;
            }
            let put = match self.after.vpcs.get(&vpc.id).cloned() {
                Some(here) => self.change_vpc(vpc, here),
                None => self.create_vpc(vpc, wanted),
            };
            self.findings.ok(put.map_err(Error::at(&vpc.path)));
        }
        let all = all_vpcs(wanted);
        let absent: Vec<_> =
            all.iter().filter(|vpc| !self.after.vpcs.contains_key(*vpc)).cloned().collect();
        if self.options.create_vpcs {
            for id in absent {
                let vpc = WantedVpc {
                    path: CREATE_VPCS.to_owned(),
                    id,
                    cidrs: None,
                    ipv6_cidrs: None,
                    tenancy: None,
                    tags: None,
                };
                self.made.push(vpc.id.clone());
                let created = self.create_vpc(&vpc, wanted);
                self.findings.ok(created.map_err(Error::at(&vpc.path)));
            }
            return true;
        }
        let default = VpcId::default_vpc();
        match &absent[..] {
            [] => {}
            [one] if !all.contains(&default) => {
                self.vpcs.insert(one.clone(), default);
                self.replaced.insert(one.clone());
            }
            _ => {
                let has_default = all.contains(&default);
                let listed: Vec<_> = absent.iter().map(VpcId::to_string).collect();
                self.findings.error(Error::SeveralVpcs { listed: listed.join(", "), has_default });
                return false;
            }
        }
        true
    }

    /// The VPC of this host for one of the document.
    pub(super) fn vpc_here(&self, theirs: Option<&VpcId>) -> VpcId {
        match theirs {
            None => VpcId::default_vpc(),
            Some(theirs) => self.vpcs.get(theirs).unwrap_or(theirs).clone(),
        }
    }

    /// A VPC has a default group and a default network ACL from the start: those of the document, if it has them.
    fn create_vpc(&mut self, wanted: &WantedVpc, document: &Wanted) -> Result<(), ModelError> {
        let WantedVpc { id, cidrs, ipv6_cidrs, tenancy, tags, .. } = wanted;
        let tags = tags.clone().unwrap_or_default();
        check::check_tags(&format!("VPC {id}"), &tags, self.limits)?;
        self.after.check_vpc_count(self.limits)?;
        let vpc = Vpc {
            id: id.clone(),
            is_default: false,
            settings: VpcSettings {
                cidrs: cidrs.clone().unwrap_or_default(),
                ipv6_cidrs: ipv6_cidrs.clone().unwrap_or_default(),
                tenancy: tenancy.clone().unwrap_or_else(|| "default".to_owned()),
                dns_support: true,
                dns_hostnames: false,
                usage_metrics: false,
            },
            tags,
        };
        let line = new_line("vpc", id.as_str(), false);
        self.step(Change::PutVpc(vpc.clone()), vec![line]);
        let has_default = document.groups.iter().any(|group| {
            group.vpc.as_ref() == Some(id) && group.name.eq_ignore_ascii_case(DEFAULT_GROUP)
        });
        if !has_default {
            self.create_default_group(&vpc)?;
        }
        if !document.acls.iter().any(|acl| acl.vpc.as_ref() == Some(id) && acl.is_default) {
            let acl = Acl::new_default(id.clone())?;
            let object = format!("network-acl {} ({id})", acl.name);
            let line = new_line(&object, acl.id.as_str(), true);
            self.step(Change::CreateAcl(acl), vec![line]);
        }
        Ok(())
    }

    fn create_default_group(&mut self, vpc: &Vpc) -> Result<(), ModelError> {
        for change in Group::new_default(vpc)? {
            match change {
                Change::CreateGroup(group) => {
                    self.add_group(group, true);
                }
                Change::AddRule { group, rule } => self.add_rule(&group, rule, true),
                _ => {}
            }
        }
        Ok(())
    }

    fn change_vpc(&mut self, wanted: &WantedVpc, here: Vpc) -> Result<(), ModelError> {
        let WantedVpc { cidrs, ipv6_cidrs, tenancy, tags, .. } = wanted;
        let settings = VpcSettings {
            cidrs: cidrs.clone().unwrap_or_else(|| here.settings.cidrs.clone()),
            ipv6_cidrs: ipv6_cidrs.clone().unwrap_or_else(|| here.settings.ipv6_cidrs.clone()),
            tenancy: tenancy.clone().unwrap_or_else(|| here.settings.tenancy.clone()),
            ..here.settings.clone()
        };
        let tags = tags.clone().unwrap_or_else(|| here.tags.clone());
        let mut lines = Vec::new();
        if settings != here.settings {
            let text = "networks".to_owned();
            lines.push(Line { text, ..tags_line("vpc".to_owned(), here.id.as_str()) });
        }
        if tags != here.tags {
            check::check_tags(&format!("VPC {}", here.id), &tags, self.limits)?;
            lines.push(tags_line("vpc".to_owned(), here.id.as_str()));
        }
        if !lines.is_empty() {
            self.step(Change::PutVpc(Vpc { settings, tags, ..here }), lines);
        }
        Ok(())
    }

    /// Subnets, without their network ACLs.
    pub(super) fn subnets(&mut self, wanted: &[WantedSubnet]) {
        let mut seen = BTreeSet::new();
        for subnet in wanted {
            if !seen.insert(&subnet.id) {
                self.findings.error(repeated(&subnet.path, &format!("subnet {}", subnet.id)));
                continue;
            }
            let put = self.subnet(subnet);
            self.findings.ok(put);
        }
    }

    /// Gives VPCs that the document does not describe a subnet, so that interfaces can be in them. Its digits are
    /// those of the VPC.
    pub(super) fn first_subnets(&mut self) {
        for vpc in mem::take(&mut self.made) {
            if self.after.subnets.values().all(|subnet| subnet.vpc != vpc) {
                let id = SubnetId::of_digits(vpc.digits());
                let subnet = WantedSubnet {
                    path: CREATE_VPCS.to_owned(),
                    id,
                    vpc,
                    cidr: None,
                    ipv6_cidrs: None,
                    zone: None,
                    map_public_ip: None,
                    assign_ipv6: None,
                    tags: None,
                };
                let put = self.subnet(&subnet);
                self.findings.ok(put);
            }
        }
    }

    fn subnet(&mut self, wanted: &WantedSubnet) -> Result<(), Error> {
        let vpc = self.vpc_here(Some(&wanted.vpc));
        let here = self.after.subnets.get(&wanted.id).cloned();
        let is_new = here.is_none();
        let association = AssociationId::random().map_err(Error::at(&wanted.path))?;
        let here = here.unwrap_or_else(|| Subnet {
            id: wanted.id.clone(),
            vpc: vpc.clone(),
            acl: None,
            association,
            is_default: false,
            settings: SubnetSettings {
                cidr: None,
                ipv6_cidr: None,
                zone: None,
                map_public_ip: false,
                assign_ipv6: false,
            },
            tags: BTreeMap::new(),
        });
        if here.vpc != vpc {
            let object = format!("subnet {}", here.id);
            return Err(of_other_vpc(&wanted.path, &object, &here.vpc, &vpc));
        }
        let settings = SubnetSettings {
            cidr: wanted.cidr.or(here.settings.cidr),
            ipv6_cidr: match &wanted.ipv6_cidrs {
                Some(networks) => networks.first().copied(),
                None => here.settings.ipv6_cidr,
            },
            // One without a zone is in that of this host.
            zone: match (&here.settings.zone, is_new) {
                (None, false) => None,
                (here, _) => wanted.zone.clone().or_else(|| here.clone()),
            },
            map_public_ip: wanted.map_public_ip.unwrap_or(here.settings.map_public_ip),
            assign_ipv6: wanted.assign_ipv6.unwrap_or(here.settings.assign_ipv6),
        };
        let tags = wanted.tags.clone().unwrap_or_else(|| here.tags.clone());
        let mut lines = Vec::new();
        let line = |text: &str| Line {
            text: text.to_owned(),
            ..tags_line("subnet".to_owned(), here.id.as_str())
        };
        if is_new {
            lines.push(new_line("subnet", here.id.as_str(), false));
        } else if settings != here.settings {
            lines.push(line("settings"));
        }
        if tags != here.tags {
            check::check_tags(&format!("subnet {}", here.id), &tags, self.limits)
                .map_err(Error::at(&wanted.path))?;
            if !is_new {
                lines.push(line("tags"));
            }
        }
        if !lines.is_empty() {
            self.step(Change::PutSubnet(Subnet { settings, tags, ..here }), lines);
        }
        Ok(())
    }

    /// Gives a subnet of this host another network ACL; returns whether this host has the subnet.
    pub(super) fn associate_subnet(&mut self, path: &str, id: &SubnetId, acl: &Acl) -> bool {
        let Some(here) = self.after.subnets.get(id).cloned() else { return false };
        if !self.associated.insert(id.clone()) {
            let object = format!("the network ACL of subnet {id}");
            self.findings.error(repeated(path, &object));
            return true;
        }
        let now = self.after.acl_of_subnet(&here).map(|acl| acl.id.clone());
        if now.as_ref() == Some(&acl.id) {
            return true;
        }
        let association = match AssociationId::random() {
            Ok(association) => association,
            Err(error) => {
                self.findings.refuse(path, error);
                return true;
            }
        };
        let subnet = Subnet { acl: acl.association(), association, ..here };
        if let Err(error) = self.after.check_subnet(&subnet) {
            self.findings.refuse(path, error);
            return true;
        }
        let text = format!("network ACL {}", acl.name);
        let line = Line { text, ..tags_line("subnet".to_owned(), id.as_str()) };
        self.step(Change::PutSubnet(subnet), vec![line]);
        true
    }
}

/// In place of a place in the document.
const CREATE_VPCS: &str = "--create-vpcs";

fn new_line(object: &str, id: &str, is_generated: bool) -> Line {
    Line {
        sign: Sign::Add,
        object: object.to_owned(),
        id: Some(id.to_owned()),
        is_generated,
        text: String::new(),
    }
}

/// The VPCs that a document names, but not those of peers.
fn all_vpcs(wanted: &Wanted) -> BTreeSet<VpcId> {
    let of_groups = wanted.groups.iter().filter_map(|group| group.vpc.as_ref());
    let of_acls = wanted.acls.iter().filter_map(|acl| acl.vpc.as_ref());
    let of_subnets = wanted.subnets.iter().map(|subnet| &subnet.vpc);
    let own = wanted.vpcs.iter().map(|vpc| &vpc.id);
    of_groups.chain(of_acls).chain(of_subnets).chain(own).cloned().collect()
}
