//! Warnings about interfaces that are in a group which a rule names, and have no address that counts.

use crate::control::without_address;
use crate::model::Interface;
use crate::store::Transaction;

/// The warning about one interface; none if it is a member of every group that it is in.
pub(super) fn text(interface: &Interface, groups: &[&str]) -> Option<String> {
    if groups.is_empty() {
        return None;
    }
    Some(format!(
        "{}: rules that name the group {} as their peer do not match it: it has no declared address, and those \
         that a guest or another network namespace gives itself do not count (--address declares one)",
        interface.label(),
        groups.join(" or ")
    ))
}

/// The warnings about the interfaces that become such ones by a change.
pub(super) fn warnings(change: &Transaction<'_>) -> Vec<String> {
    let known = without_address(change.before());
    let now = without_address(change.model()).into_iter();
    let is_new = |(interface, groups): &(&Interface, Vec<&str>)| {
        !known.iter().any(|(one, named)| one.id == interface.id && named == groups)
    };
    now.filter(is_new).filter_map(|(interface, groups)| text(interface, &groups)).collect()
}

/// Prints warnings.
pub(super) fn warn(warnings: &[String]) {
    for text in warnings {
        eprintln!("secgroup: {text}");
    }
}
