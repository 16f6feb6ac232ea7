//! Documents of random network ACLs.

use std::collections::BTreeMap;

use firewall_ebpf::abi::interface::Direction;
use proptest::prelude::*;

use super::{ipv4, ipv6, list_id, model, reread, tags};
use crate::model::apply::{Others, Plan};
use crate::model::document::{self, Document};
use crate::model::traffic::tests::traffic;
use crate::model::{Acl, AclEntry, AclId, Action, Change, Identity, Limits, Model, Peer, VpcId};

/// Network ACLs besides the default one.
const ACLS: u8 = 3;

fn acl_id(number: u8) -> AclId {
    format!("acl-{number:017x}").parse().unwrap()
}

fn entry() -> impl Strategy<Value = AclEntry> {
    let peer = prop_oneof![
        ipv4().prop_map(Peer::Ipv4),
        ipv6().prop_map(Peer::Ipv6),
        (0..super::LISTS).prop_map(|number| Peer::PrefixList(list_id(number))),
    ];
    let action = prop::sample::select(&Action::ALL[..]);
    (action, traffic(), peer).prop_map(|(action, traffic, peer)| AclEntry {
        number: 0,
        action,
        traffic,
        peer,
        end: None,
    })
}

type Entries = BTreeMap<(bool, u16), AclEntry>;

fn entries() -> impl Strategy<Value = Entries> {
    prop::collection::btree_map((any::<bool>(), 1..=32_766_u16), entry(), 0..12)
}

/// A model with the default network ACL and up to [`ACLS`] others.
fn with_acls() -> impl Strategy<Value = Model> {
    let acl = (entries(), tags(), "[a-c]{1,2}");
    let acls = prop::collection::vec(acl, usize::from(ACLS));
    (model(), entries(), acls, 0..=ACLS).prop_map(|(mut model, default, acls, count)| {
        let mut first = Acl::new_default(VpcId::default_vpc()).unwrap();
        // Of its first entries some stay, some are replaced.
        fill(&mut first, default);
        model.make(Change::CreateAcl(first));
        for (number, (entries, tags, name)) in (0..count).zip(acls) {
            let name = format!("{name} {number}");
            let mut acl = Acl::deny_all(acl_id(number), VpcId::default_vpc(), &name, tags);
            fill(&mut acl, entries);
            model.make(Change::CreateAcl(acl));
        }
        model
    })
}

fn fill(acl: &mut Acl, entries: Entries) {
    for ((is_egress, number), entry) in entries {
        let direction = if is_egress { Direction::Egress } else { Direction::Ingress };
        acl.entries.insert((direction, number), entry);
    }
}

fn export(model: &Model) -> Document {
    let lists = document::prefix_lists(&Identity::default(), model.prefix_lists.values());
    let acls = document::acls(&Identity::default(), model, model.acls.values());
    Document { prefix_lists: lists.prefix_lists, ..acls }
}

fn limits() -> Limits {
    Limits { entries_per_acl: 40, ..Limits::default() }
}

fn applied(model: &Model, document: &Document, others: Others) -> Model {
    let plan = Plan::with(model, document, &limits(), &others.into()).unwrap();
    let mut after = model.clone();
    for step in plan.steps {
        assert!(!step.lines.is_empty());
        after.make(step.change);
    }
    after
}

/// The network ACLs by name, without what differs from host to host.
fn contents(model: &Model) -> BTreeMap<String, Acl> {
    let by_name = model.acls.values().map(|acl| {
        let id = if acl.is_default { acl_id(u8::MAX) } else { acl.id.clone() };
        (acl.name.clone(), Acl { id, ..acl.clone() })
    });
    by_name.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn acls_of_a_document_are_made_as_they_were(model in with_acls()) {
        let document = reread(&export(&model));
        prop_assert!(Plan::with(&model, &document, &limits(), &Others::Go.into()).unwrap().is_empty());
        let mut other = Model::default();
        other.make(Change::CreateAcl(Acl::new_default(VpcId::default_vpc()).unwrap()));
        let made = applied(&other, &document, Others::Stay);
        prop_assert_eq!(contents(&made), contents(&model));
    }

    #[test]
    fn any_acls_become_those_of_a_document(from in with_acls(), to in with_acls()) {
        let document = reread(&export(&to));
        let made = applied(&from, &document, Others::Go);
        prop_assert_eq!(contents(&made), contents(&to));
        prop_assert!(Plan::with(&made, &document, &limits(), &Others::Go.into()).unwrap().is_empty());
    }
}
