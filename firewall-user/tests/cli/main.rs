//! The commands about groups, rules, prefix lists and documents, as a user types them.

#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

mod acl_refusals;
mod acls;
mod blocks;
mod commands;
mod document_refusals;
mod documents;
mod drops;
mod fixture;
mod flow_logs;
mod host;
mod import;
mod interface_refusals;
mod keys;
mod load;
mod refusals;
mod repeated;
mod rule_refusals;
mod safety;
mod simulate;
mod staged;
mod together;
mod top;
mod vpcs;
