//! The query protocol of EC2's API, version 2016-11-15: parameters, answers in XML, errors, filters and pages.
//! No I/O: what an action does is not here.

pub mod error;
pub mod filter;
pub mod form;
pub mod page;
pub mod sigv4;
pub mod xml;

pub use error::{Error, Service};
pub use form::Params;
pub use xml::Xml;
