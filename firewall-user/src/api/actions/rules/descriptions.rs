//! Changing descriptions of rules.

use firewall_ebpf::abi::interface::Direction;
use firewall_ec2::{Error, Xml};

use super::asked::{self, Asked};
use super::{by_id, describe, done, peer, require_different};
use crate::api::actions::groups::target::Target;
use crate::api::call::Call;
use crate::api::refusal::of_model;
use crate::model::RuleId;

/// Gives rules their descriptions, or takes them away where none is given.
pub(super) fn update(call: &Call<'_>, direction: Direction) -> Result<Xml, Error> {
    let params = call.params;
    let target = Target::parse(params)?;
    let asked = asked::permissions(params)?;
    let mut by_ids: Vec<(RuleId, Option<&str>)> = Vec::new();
    for item in params.list("SecurityGroupRuleDescription")? {
        let id = item.required("SecurityGroupRuleId")?.parse();
        by_ids.push((id.map_err(|error| of_model(&error))?, item.text("Description")));
    }
    match (asked.is_empty(), by_ids.is_empty()) {
        (true, true) => {
            return Err(Error::new(
                "MissingParameter",
                "Either 'ipPermissions' or 'securityGroupRuleDescriptions' should be provided.",
            ));
        }
        (false, false) => {
            return Err(Error::new(
                "InvalidParameterCombination",
                "Only one of 'ipPermissions' or 'securityGroupRuleDescriptions' can be provided.",
            ));
        }
        _ => {}
    }
    call.change(|change| {
        let group = target.find(change.model())?.clone();
        let mut rules = Vec::new();
        for (id, description) in &by_ids {
            rules.push((by_id(&group, id, direction)?, *description));
        }
        for one @ Asked { description, .. } in &asked {
            let model = change.model();
            let rule = peer::find_any_description(model, &group, direction, one, call.identity())?;
            rules.push((rule, *description));
        }
        require_different(rules.iter().map(|(rule, _)| &rule.id))?;
        for (rule, description) in rules {
            describe(change, &group, &rule.id, description)?;
        }
        Ok(())
    })?;
    Ok(done())
}
