//! `holdfast trace`: shows the steps of a message that the nodes saw.
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/v1/trace?id=ID` | the steps of the message with that archive id (its `stanza-id`), or of those that a sender called so |

use axum::Json;
use axum::extract::{Query, State};
use serde::Deserialize;
use std::sync::Arc;

use super::http::{Node, Refusal};
use super::request::encode;
use crate::trace::Mark;

/// The query.
#[derive(Debug, Deserialize)]
pub(super) struct About {
    id: String,
}

/// Returns the steps, oldest first.
pub(super) async fn show<N: Node>(
    State(node): State<Arc<N>>,
    Query(about): Query<About>,
) -> Result<Json<Vec<Mark>>, Refusal> {
    let marks = node.trace(about.id.clone()).await;
    match marks.is_empty() {
        true => Err(Refusal::NoTrace(about.id)),
        false => Ok(Json(marks)),
    }
}

/// The path that asks about a message.
pub(super) fn path(id: &str) -> String {
    format!("/api/v1/trace?id={}", encode(id))
}
