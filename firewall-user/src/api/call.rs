//! One request, as its action sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Result;
use firewall_ec2::{Error, Params};

use super::Api;
use super::actions::Action;
use super::client_tokens;
use super::refusal::{of_model, refusal};
use super::request::{Caller, Connection};
use super::tag_specifications;
use crate::control::{self, AttachOptions, Terms};
use crate::dataplane::Pins;
use crate::model::{self, Identity, Interface, InterfaceId, Model};
use crate::store::{Answered, Store, Transaction};

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Call<'a> {
    api: &'a Api,
    caller: &'a Caller,
    action: &'static Action,
    /// The parameters of the request.
    pub(super) params: &'a Params,
    is_dry_run: bool,
}

/// What an edit that attaches an interface has to know of this host.
#[derive(Debug)]
pub(super) struct Host<'a> {
    pub(super) pins: &'a Pins,
    /// How many interfaces can be attached.
    pub(super) capacity: u32,
}

impl<'a> Call<'a> {
    pub(super) fn new(
        api: &'a Api,
        caller: &'a Caller,
        action: &'static Action,
        params: &'a Params,
    ) -> Result<Self, Error> {
        let is_dry_run = params.flag("DryRun")?.unwrap_or(false);
        Ok(Self { api, caller, action, params, is_dry_run })
    }

    /// The endpoint.
    pub(super) const fn api(&self) -> &'a Api {
        self.api
    }

    /// The account and the region.
    pub(super) const fn identity(&self) -> &'a Identity {
        self.api.identity()
    }

    /// The model as it is now. For an action that changes nothing, once it has read all of its parameters: what it
    /// did not read is refused here, and a dry run ends here.
    ///
    /// # Errors
    /// There is a parameter that EC2 does not know, it is a dry run, or the store cannot be read.
    pub(super) fn read(&self) -> Result<Arc<Model>, Error> {
        self.params.finish()?;
        let model = self.model()?;
        if self.is_dry_run { Err(Error::dry_run()) } else { Ok(model) }
    }

    /// The model as it is now, for what an action that changes something has to look up first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) fn model(&self) -> Result<Arc<Model>, Error> {
        self.api.model().map_err(|error| refusal(&error))
    }

    /// Reads something from the store that is not in the model, after [`Self::read`].
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) fn stored<T>(&self, read: impl Fn(&Store) -> Result<T>) -> Result<T, Error> {
        self.api.with_reader(|control| read(control.store())).map_err(|error| refusal(&error))
    }

    /// The ids of a list of parameters, such as `VpcId.1`.
    ///
    /// # Errors
    /// One is malformed.
    pub(super) fn ids<T: FromStr<Err = model::Error> + Ord>(
        &self,
        name: &str,
    ) -> Result<BTreeSet<T>, Error> {
        let ids = self.params.texts(name)?.into_iter();
        ids.map(|id| id.parse().map_err(|error| of_model(&error))).collect()
    }

    /// The id that a parameter must have.
    ///
    /// # Errors
    /// It is absent or malformed.
    pub(super) fn id<T: FromStr<Err = model::Error>>(&self, name: &str) -> Result<T, Error> {
        self.params.required(name)?.parse().map_err(|error| of_model(&error))
    }

    /// Makes a change, in the store and in the kernel: all of `edit`, or nothing if it fails. In a dry run
    /// everything is checked, and nothing made. The action has read all of its parameters; others are refused.
    ///
    /// # Errors
    /// There is a parameter that EC2 does not know, `edit` fails, the change cannot be made, or it is a dry run.
    pub(super) fn change<T>(
        &self,
        edit: impl FnOnce(&mut Transaction<'_>) -> Result<T>,
    ) -> Result<T, Error> {
        self.params.finish()?;
        let terms = self.terms();
        let made = self.api.with_control(|control| {
            if self.is_dry_run {
                control.dry_run(&terms, edit)?;
                return Err(Error::dry_run().into());
            }
            control.change(&terms, edit)
        });
        if terms.is_deferrable && made.is_ok() {
            self.api.schedule();
        }
        made.map_err(|error| refusal(&error))
    }

    /// Makes a change on which programs depend, as [`Self::change`] makes others: `edit` returns the
    /// interface whose programs are attached or replaced.
    ///
    /// # Errors
    /// As [`Self::change`]; or the kernel refuses.
    pub(super) fn attach(
        &self,
        edit: impl FnOnce(&mut Transaction<'_>, &Host<'_>) -> Result<Interface>,
    ) -> Result<(), Error> {
        self.params.finish()?;
        let terms = self.terms();
        let made = self.api.with_control(|control| {
            let pins = control.pins().clone();
            let host = Host { pins: &pins, capacity: control.config().maps.interfaces.get() };
            if self.is_dry_run {
                control.dry_run(&terms, |change| edit(change, &host))?;
                return Err(Error::dry_run().into());
            }
            let options = AttachOptions { learns: true };
            control.attach(&terms, options, |change| edit(change, &host))
        });
        made.map(drop).map_err(|error| refusal(&error))
    }

    /// Edits an interface, and replaces its programs if it is attached: for settings that they have.
    ///
    /// # Errors
    /// As [`Self::attach`].
    pub(super) fn reattach(
        &self,
        id: &InterfaceId,
        edit: impl FnOnce(&mut Transaction<'_>) -> Result<Interface>,
    ) -> Result<(), Error> {
        self.params.finish()?;
        let terms = self.terms();
        let made = self.api.with_control(|control| {
            if self.is_dry_run {
                control.dry_run(&terms, edit)?;
                return Err(Error::dry_run().into());
            }
            control.reattach(&terms, id, edit)
        });
        made.map_err(|error| refusal(&error))
    }

    /// Detaches an interface, which stays stored.
    ///
    /// # Errors
    /// As [`Self::change`]; or the kernel refuses.
    pub(super) fn detach(&self, choose: impl Fn(&Model) -> Result<u16>) -> Result<(), Error> {
        self.params.finish()?;
        let terms = self.terms();
        let made = self.api.with_control(|control| {
            if self.is_dry_run {
                control.dry_run(&terms, |change| {
                    let slot = choose(change.model())?;
                    Ok(change.detach_interface(slot)?)
                })?;
                return Err(Error::dry_run().into());
            }
            control.detach_kept(choose)
        });
        made.map_err(|error| refusal(&error))
    }

    /// As [`Self::change`], for a request that may have a `ClientToken`: the same request again makes nothing, and is
    /// answered as the first time. `edit` returns what is to be known of what it made, such as its id; `read` reads
    /// the answer from the model with it.
    ///
    /// # Errors
    /// As [`Self::change`]; the token is malformed, or was given with other parameters.
    pub(super) fn change_once<T>(
        &self,
        edit: impl FnOnce(&mut Transaction<'_>) -> Result<String>,
        read: impl FnOnce(&Model, &str) -> Result<T>,
    ) -> Result<T, Error> {
        let Some(token) = client_tokens::of(self.params)? else {
            return self.change(|change| {
                let answer = edit(change)?;
                read(change.model(), &answer)
            });
        };
        let action = self.action.name;
        let digest = client_tokens::digest(self.params);
        self.change(|change| {
            if let Some(earlier) = change.answered(action, token)? {
                if earlier.digest != digest {
                    return Err(client_tokens::mismatch().into());
                }
                return read(change.model(), &earlier.answer);
            }
            let answer = edit(change)?;
            let made = read(change.model(), &answer)?;
            change.answer_again((action, token), &Answered { digest, answer })?;
            Ok(made)
        })
    }

    /// Whether the change may take effect later: it only narrows what is allowed, and the endpoint was told so.
    fn is_deferrable(&self) -> bool {
        const NARROWING: [&str; 2] = ["RevokeSecurityGroupIngress", "RevokeSecurityGroupEgress"];
        !self.api.coalescing.is_zero() && NARROWING.contains(&self.action.name)
    }

    fn terms(&self) -> Terms {
        let ends = self.caller.connection.map(|Connection { client, server }| (client, server));
        let caller = control::Caller::Client(ends);
        let is_deferrable = self.is_deferrable();
        Terms { what: self.action.name.to_owned(), caller, is_deferrable, ..Terms::default() }
    }

    /// The tags that `TagSpecification.N` gives to what the action creates, whose type is for example
    /// `security-group`; `None` if the parameter is absent.
    ///
    /// # Errors
    /// Another type is given, or EC2 would refuse a tag.
    pub(super) fn tags(&self, kind: &str) -> Result<Option<BTreeMap<String, String>>, Error> {
        tag_specifications::parse(self.params, kind)
    }
}
