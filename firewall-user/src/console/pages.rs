//! The pages: what each reads, and what its template shows.

pub(super) mod drops;
pub(super) mod explain;
pub(super) mod flows;
pub(super) mod overview;
pub(super) mod rules;
