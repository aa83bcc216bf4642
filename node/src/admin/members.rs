//! `holdfast cluster remove`, `drain` and `undrain`: give up a node that will not come back, take one out of service
//! that goes on running, and put it back.
//!
//! | request | answer |
//! |---|---|
//! | `DELETE /api/v1/cluster?node=N` | nothing; others vote in its place, and if it comes back it joins anew |
//! | `PUT /api/v1/cluster/drain?node=N` | nothing; it leads nothing and serves nobody until it is put back or restarted |
//! | `DELETE /api/v1/cluster/drain?node=N` | nothing; it is in service again |

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

/// Takes the node out of service.
pub(super) async fn drain<N: Node>(
    State(node): State<Arc<N>>,
    Query(which): Query<Which>,
) -> Result<StatusCode, Refusal> {
    node.drain(which.node, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Puts the node back into service.
pub(super) async fn undrain<N: Node>(
    State(node): State<Arc<N>>,
    Query(which): Query<Which>,
) -> Result<StatusCode, Refusal> {
    node.drain(which.node, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The path that takes a node out of service, or puts it back.
pub(super) fn drain_path(node: u64) -> String {
    format!("/api/v1/cluster/drain?node={node}")
}

/// The path that gives up a node.
pub(crate) fn path(node: u64) -> String {
    format!("/api/v1/cluster?node={node}")
}
