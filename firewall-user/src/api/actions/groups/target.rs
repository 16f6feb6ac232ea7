//! The group that a request names.

use firewall_ec2::{Error, Params};

use crate::api::refusal::of_model;
use crate::model::{Group, GroupId, Model, VpcId};

/// A group by its id, or by its name in the default VPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::api::actions) enum Target {
    Id(GroupId),
    Name(String),
}

impl Target {
    /// The parameters `GroupId` and `GroupName`.
    ///
    /// # Errors
    /// Neither or both are given, or the id is malformed.
    pub(in crate::api::actions) fn parse(params: &Params) -> Result<Self, Error> {
        match (params.text("GroupId"), params.text("GroupName")) {
            (Some(id), None) => Self::id(id),
            (None, Some(name)) => Ok(Self::Name(name.to_owned())),
            (None, None) => Err(Error::new(
                "MissingParameter",
                "The request must contain the parameter groupName or groupId",
            )),
            (Some(_), Some(_)) => Err(Error::new(
                "InvalidParameterCombination",
                "The parameter groupName cannot be used with the parameter groupId",
            )),
        }
    }

    /// The parameter `GroupId`, for actions that know no names.
    ///
    /// # Errors
    /// It is absent or malformed.
    pub(in crate::api::actions) fn parse_id(params: &Params) -> Result<Self, Error> {
        match params.text("GroupId") {
            Some(id) => Self::id(id),
            None if params.has("GroupName") => {
                Err(Error::new("UnknownParameter", "The parameter GroupName is not recognized"))
            }
            None => Err(Error::missing("GroupId")),
        }
    }

    fn id(id: &str) -> Result<Self, Error> {
        id.parse().map(Self::Id).map_err(|error| of_model(&error))
    }

    /// The group.
    ///
    /// # Errors
    /// There is none.
    pub(in crate::api::actions) fn find<'m>(&self, model: &'m Model) -> Result<&'m Group, Error> {
        match self {
            Self::Id(id) => model.group_by_id(id).map_err(|error| of_model(&error)),
            Self::Name(name) => named(model, name),
        }
    }
}

/// The group of the default VPC with this name.
///
/// # Errors
/// There is none.
pub(in crate::api::actions) fn named<'m>(model: &'m Model, name: &str) -> Result<&'m Group, Error> {
    let vpc = VpcId::default_vpc();
    model.group_named(&vpc, name).ok_or_else(|| {
        let text = format!("The security group '{name}' does not exist in default VPC '{vpc}'");
        Error::new("InvalidGroup.NotFound", text)
    })
}
