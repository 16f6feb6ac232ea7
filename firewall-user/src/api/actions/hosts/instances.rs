//! This host as the one instance.

use std::borrow::Cow;
use std::collections::BTreeMap;

use firewall_ec2::filter::Filters;
use firewall_ec2::page::Page;
use firewall_ec2::{Error, Xml};

use crate::api::call::Call;
use crate::api::devices::Seen;
use crate::api::view::interfaces::{View, write_groups};
use crate::api::view::tags;
use crate::clock::Clocks;
use crate::model::{Attachment, Model, rfc3339};
use crate::observe::instance;

mod filters;

/// What EC2 has sizes for; this host is none of them.
const TYPE: &str = "secgroup.host";

/// `running`, as EC2 numbers states.
const RUNNING: u16 = 16;

/// `DescribeInstances`.
pub(super) fn describe(call: &Call<'_>) -> Result<Xml, Error> {
    let params = call.params;
    let ids = params.texts("InstanceId")?;
    params.flag("IncludeManagedResources")?;
    let filters = Filters::parse(params, &[filters::NAMES, &["tag"]].concat())?;
    let page = Page::parse(params, 5..=1000)?;
    let model = call.read()?;
    if let Some(other) = ids.iter().find(|id| **id != instance::id()) {
        let is_id = other.strip_prefix("i-").is_some_and(|digits| {
            matches!(digits.len(), 8 | 17) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        });
        return Err(if is_id {
            let text = format!("The instance ID '{other}' does not exist");
            Error::new("InvalidInstanceID.NotFound", text)
        } else {
            let text = format!("Invalid id: \"{other}\" (expecting \"i-...\")");
            Error::new("InvalidInstanceID.Malformed", text)
        });
    }
    let seen = call.api().seen(model.interfaces.values())?;
    let host = ThisHost::new(call, &model, &seen);
    let is_found = filters.matches(&BTreeMap::new(), |name| host.values(name));
    let found = is_found.then_some(&host).into_iter().collect();
    // The one instance is on the first page.
    let (found, _) = page.cut(found, |host| host.reservation());
    let mut xml = Xml::new();
    xml.list("reservationSet", found, |xml, host| {
        xml.text("reservationId", host.reservation());
        xml.text("ownerId", host.call.identity().account);
        xml.empty_list("groupSet");
        xml.list("instancesSet", [host], |xml, host| host.write(xml));
    });
    Ok(xml)
}

/// This host with its attached network interfaces.
struct ThisHost<'a> {
    call: &'a Call<'a>,
    model: &'a Model,
    /// In the order of their device indexes: the primary one first.
    interfaces: Vec<View<'a>>,
    name: String,
    launched: String,
}

impl<'a> ThisHost<'a> {
    fn new(call: &'a Call<'a>, model: &'a Model, seen: &'a BTreeMap<u16, Seen>) -> Self {
        let identity = call.identity();
        let mut interfaces: Vec<_> = model.interfaces.values().collect();
        interfaces.sort_by_key(|one| {
            let index = one.details.attachment.as_ref().map(|attachment| attachment.index);
            (index.unwrap_or(u32::MAX), one.slot)
        });
        let view = |interface| View { model, identity, interface, seen: None };
        let views = interfaces.into_iter().map(view);
        let interfaces =
            views.map(|it| View { seen: seen.get(&it.interface.slot), ..it }).collect();
        let Clocks { moment, .. } = Clocks::now();
        let since_boot = i64::try_from(moment.boottime / 1_000_000).unwrap_or_default();
        Self {
            call,
            model,
            interfaces,
            name: instance::name(),
            launched: rfc3339(moment.wall - since_boot),
        }
    }

    fn reservation(&self) -> String {
        instance::id().replacen("i-", "r-", 1)
    }

    fn architecture(&self) -> &'static str {
        match std::env::consts::ARCH {
            "aarch64" => "arm64",
            other => other,
        }
    }

    fn write(&self, xml: &mut Xml) {
        let identity = self.call.identity();
        let primary = self.interfaces.first();
        xml.text("architecture", self.architecture());
        xml.empty_list("blockDeviceMapping");
        xml.text("ebsOptimized", false);
        xml.text("enaSupport", false);
        xml.empty_list("elasticGpuAssociationSet");
        xml.empty_list("elasticInferenceAcceleratorAssociationSet");
        xml.list("networkInterfaceSet", &self.interfaces, |xml, view| {
            self.write_interface(xml, view);
        });
        match primary {
            Some(view) => write_groups(xml, self.model, view.interface),
            None => xml.empty_list("groupSet"),
        }
        xml.option("sourceDestCheck", primary.map(|it| it.interface.port.source_dest_check));
        tags::set(xml, &BTreeMap::new());
        xml.empty_list("licenseSet");
        xml.empty_list("secondaryInterfaceSet");
        xml.text("instanceId", instance::id());
        xml.node("instanceState", |xml| {
            xml.text("code", RUNNING);
            xml.text("name", "running");
        });
        xml.text("privateDnsName", &self.name);
        xml.text("dnsName", "");
        xml.text("reason", "");
        xml.text("amiLaunchIndex", 0);
        xml.empty_list("productCodes");
        xml.text("instanceType", TYPE);
        xml.text("launchTime", &self.launched);
        xml.node("placement", |xml| {
            xml.text("groupName", "");
            xml.text("tenancy", "default");
            xml.text("availabilityZone", identity.zone());
        });
        xml.node("monitoring", |xml| {
            xml.empty_list("metricCategoryIdSet");
            xml.text("state", "disabled");
        });
        if let Some(view) = primary {
            xml.text("subnetId", &view.interface.subnet);
            xml.text("vpcId", self.model.vpc_of(view.interface));
            xml.option("privateIpAddress", view.addresses(true).first());
        }
    }

    fn write_interface(&self, xml: &mut Xml, view: &View<'_>) {
        let interface = view.interface;
        if let Some(attachment) = &interface.details.attachment {
            let Attachment { id, index, time, delete_on_termination } = attachment;
            xml.node("attachment", |xml| {
                xml.text("attachTime", rfc3339(*time));
                xml.text("attachmentId", id);
                xml.text("deleteOnTermination", delete_on_termination);
                xml.text("deviceIndex", index);
                xml.text("status", "attached");
                xml.text("networkCardIndex", 0);
            });
        }
        xml.text("description", &interface.details.description);
        write_groups(xml, self.model, interface);
        xml.list("ipv6AddressesSet", view.addresses(false), |xml, address| {
            xml.text("ipv6Address", address);
        });
        xml.text("macAddress", view.mac());
        xml.text("networkInterfaceId", &interface.id);
        xml.text("ownerId", self.call.identity().account);
        let addresses = view.addresses(true);
        let primary = addresses.first().copied();
        xml.option("privateIpAddress", primary);
        xml.list("privateIpAddressesSet", addresses, |xml, address| {
            xml.text("primary", Some(address) == primary);
            xml.text("privateIpAddress", address);
        });
        xml.text("sourceDestCheck", interface.port.source_dest_check);
        xml.text("status", view.status());
        xml.text("subnetId", &interface.subnet);
        xml.text("vpcId", self.model.vpc_of(interface));
        xml.text("interfaceType", "interface");
    }

    /// What this host has for the name of a filter.
    fn values(&'a self, name: &str) -> Vec<Cow<'a, str>> {
        if let Some(name) = name.strip_prefix("network-interface.") {
            return self
                .interfaces
                .iter()
                .flat_map(|view| filters::of_interface(view, name))
                .collect();
        }
        let primary = self.interfaces.first();
        let one = |text: &'a str| vec![Cow::Borrowed(text)];
        match name {
            "architecture" => one(self.architecture()),
            "availability-zone" => vec![self.call.identity().zone().into()],
            "availability-zone-id" => {
                let identity = self.call.identity();
                vec![identity.zone_id(&identity.zone()).into()]
            }
            "instance-id" => one(instance::id()),
            "instance-state-code" => vec![RUNNING.to_string().into()],
            "instance-state-name" => one("running"),
            "instance-type" => one(TYPE),
            "instance.group-id" => {
                primary.map(|view| filters::of_interface(view, "group-id")).unwrap_or_default()
            }
            "instance.group-name" => {
                primary.map(|view| filters::of_interface(view, "group-name")).unwrap_or_default()
            }
            "launch-index" => one("0"),
            "launch-time" => one(&self.launched),
            "monitoring-state" => one("disabled"),
            "owner-id" => one(&self.call.identity().account),
            "private-dns-name" => one(&self.name),
            "private-ip-address" => primary
                .and_then(|view| view.addresses(true).first().copied())
                .map(|address| address.to_string().into())
                .into_iter()
                .collect(),
            "reservation-id" => vec![self.reservation().into()],
            "source-dest-check" => {
                primary.map(|view| filters::of_interface(view, name)).unwrap_or_default()
            }
            "subnet-id" | "vpc-id" => {
                primary.map(|view| filters::of_interface(view, name)).unwrap_or_default()
            }
            "tenancy" => one("default"),
            // What this host does not have.
            _ => Vec::new(),
        }
    }
}
