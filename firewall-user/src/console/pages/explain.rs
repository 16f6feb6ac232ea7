//! The page of explain.

use std::sync::Arc;

use axum::response::Response;

use crate::console::answer::Problem;
use crate::console::routes::{Asked, Shared};

pub(in crate::console) async fn answer(
    _shared: &Arc<Shared>,
    _asked: Asked,
) -> Result<Response, Problem> {
    Err(Problem::not_found())
}
