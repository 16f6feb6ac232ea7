//! Edits of flow logs.

use std::collections::BTreeMap;

use super::Transaction;
use crate::model::{
    Change, Error as ModelError, FlowLog, FlowLogId, FlowLogSettings, Logged, check,
};
use crate::store::Error;

impl Transaction<'_> {
    /// Creates a flow log.
    ///
    /// # Errors
    /// The resource does not exist, or a limit is reached.
    pub fn create_flow_log(
        &mut self,
        resource: Logged,
        settings: FlowLogSettings,
        tags: BTreeMap<String, String>,
    ) -> Result<FlowLogId, Error> {
        let logs = self.model.flow_logs.values();
        let count = logs.filter(|log| log.resource == resource).count() + 1;
        let limit = self.limits.flow_logs_per_resource;
        if count > limit {
            let resource = resource.to_string();
            return Err(ModelError::FlowLogsLimit { resource, count, limit }.into());
        }
        let id = FlowLogId::random()?;
        check::check_tags(&format!("flow log {id}"), &tags, &self.limits)?;
        let created = self.clocks.moment.wall;
        let log = FlowLog { id: id.clone(), resource, created, settings, tags };
        self.write(Change::PutFlowLog(log))?;
        Ok(id)
    }

    /// Replaces the tags of a flow log.
    ///
    /// # Errors
    /// There are too many, or the flow log does not exist.
    pub fn tag_flow_log(
        &mut self,
        id: &FlowLogId,
        tags: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let log = self.model.flow_log_by_id(id)?;
        check::check_tags(&format!("flow log {id}"), &tags, &self.limits)?;
        self.write(Change::PutFlowLog(FlowLog { tags, ..log.clone() }))
    }

    /// Deletes a flow log.
    ///
    /// # Errors
    /// It does not exist.
    pub fn delete_flow_log(&mut self, id: &FlowLogId) -> Result<(), Error> {
        self.model.flow_log_by_id(id)?;
        self.write(Change::DeleteFlowLog(id.clone()))
    }
}
