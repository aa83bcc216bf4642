//! `holdfast cluster remove`: gives up a node that will not come back.
//!
//! | request | answer |
//! |---|---|
//! | `DELETE /api/v1/cluster?node=N` | nothing; others vote in its place, and if it comes back it joins anew |

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;

use super::http::{Node, Refusal};

/// The query.
#[derive(Debug, Deserialize)]
pub(super) struct Which {
    node: u64,
}

/// Gives the node up.
pub(super) async fn remove<N: Node>(
    State(node): State<Arc<N>>,
    Query(which): Query<Which>,
) -> Result<StatusCode, Refusal> {
    node.remove(which.node).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The path that gives up a node.
pub(crate) fn path(node: u64) -> String {
    format!("/api/v1/cluster?node={node}")
}
